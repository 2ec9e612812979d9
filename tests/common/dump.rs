//! sockrec's own dumps, in the form that tests want: kept, and found by cookie.

use std::collections::HashMap;

use sockrec::kernel::{DiagSocket, DumpEnd};
use sockrec::model::{ActivityTimes, Family, Observation, Protocol, States, TcpState, Tuple};
use sockrec::wire::inet_diag::{Message, take_relative_times};

use super::facts::{Identity, now_ms};
use super::wait;

/// One message of a dump.
#[derive(Clone, Debug)]
pub struct Sighting {
    payload: Vec<u8>,
    protocol: Protocol,
    /// The relative times, made absolute.
    pub times: ActivityTimes,
    /// `CLOCK_MONOTONIC` in milliseconds when the dump was asked for and this message was read.
    pub between_ms: (i64, i64),
}

impl Sighting {
    /// The message decoded.
    pub fn observe(&self) -> Observation<'_> {
        self.message().observe(self.protocol)
    }

    /// The message, its relative times zeroed.
    pub fn bytes(&self) -> &[u8] {
        &self.payload
    }

    pub fn cookie(&self) -> u64 {
        self.message().cookie()
    }

    pub fn state(&self) -> TcpState {
        self.message().state()
    }

    pub fn tuple(&self) -> Tuple {
        self.message().tuple()
    }

    fn message(&self) -> Message<'_> {
        Message::parse(&self.payload).expect("it was parsed before")
    }
}

/// Everything that one dump said.
#[derive(Debug)]
pub struct Dump {
    pub end: DumpEnd,
    /// In the order they came, duplicates included.
    pub sightings: Vec<Sighting>,
}

impl Dump {
    /// Makes a dump.
    pub fn make(family: Family, protocol: Protocol, states: States) -> Self {
        let mut socket = DiagSocket::open().expect("sock_diag is there");
        Self::make_with(&mut socket, family, protocol, states)
    }

    /// Makes a dump with this netlink socket.
    pub fn make_with(
        socket: &mut DiagSocket,
        family: Family,
        protocol: Protocol,
        states: States,
    ) -> Self {
        let asked_at_ms = now_ms();
        let mut sightings = Vec::new();
        let end = socket.dump(family, protocol, states, &mut |payload, made_at| {
            let message = Message::parse(payload).expect("the kernel's messages can be parsed");
            assert_eq!(message.family(), family, "a dump of one family shows only that");
            let times = take_relative_times(payload, protocol).absolute(made_at.by_ms);
            sightings.push(Sighting {
                payload: payload.to_vec(),
                protocol,
                times,
                between_ms: (asked_at_ms, made_at.by_ms),
            });
        });
        Self { end, sightings }
    }

    /// Whether it ended with everything said; the kernel may have noticed changes meanwhile.
    pub fn is_whole(&self) -> bool {
        matches!(self.end, DumpEnd::Complete | DumpEnd::Interrupted)
    }

    /// The sockets by cookie; of duplicates the later one, as a recorder takes it.
    pub fn by_cookie(&self) -> HashMap<u64, &Sighting> {
        self.sightings.iter().map(|s| (s.cookie(), s)).collect()
    }

    pub fn find(&self, cookie: u64) -> Option<&Sighting> {
        self.sightings.iter().rev().find(|s| s.cookie() == cookie)
    }

    /// By cookie and both ends: MPTCP gives what it accepts the cookie of the listener.
    pub fn find_exactly(&self, identity: &Identity, interface: u32) -> Option<&Sighting> {
        let tuple = identity.tuple(interface);
        self.sightings.iter().rev().find(|s| s.cookie() == identity.cookie && s.tuple() == tuple)
    }

    /// By both ends: for those that have no descriptor to ask for a cookie.
    pub fn find_tuple(&self, tuple: &Tuple) -> Option<&Sighting> {
        self.sightings.iter().rev().find(|s| s.tuple() == *tuple)
    }
}

/// What a dump of every state says of this socket now. A whole dump may miss a living socket
/// while others come and go, hence more than one look.
#[track_caller]
pub fn sighting(identity: &Identity) -> Sighting {
    wait::until_some(&format!("a dump shows {identity:?}"), || {
        let dump = Dump::make(identity.family, identity.protocol, States::ALL);
        assert!(dump.is_whole(), "dump of {:?} ended: {:?}", identity.protocol, dump.end);
        dump.find(identity.cookie).cloned()
    })
}
