//! What a capture takes from outside: its plan, what answers its dumps, the time, and who is told.

use crossbeam_channel::Sender;

use super::chosen::Chosen;
use super::limits::Limits;
use super::outcome::Event;
use super::pace::Pace;
use crate::kernel::{DumpEnd, EventBatch, NamespaceNews};
use crate::model::{Family, MadeAt, Nanos, Place, Protocol, SocketId, States};
use crate::store::FormerNamespace;

/// What a capture looks at, how often and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The families and protocols to dump, in this order.
    pub dumps: Vec<(Family, Protocol)>,
    /// The states to ask for.
    pub states: States,
    /// Which of their sockets; all without one.
    pub chosen: Option<Chosen>,
    /// Time between ticks.
    pub interval_ns: Nanos,
    /// Stop after so long.
    pub duration_ns: Option<Nanos>,
    /// Stop after so many snapshots.
    pub count: Option<u64>,
    /// What it keeps to at first.
    pub limits: Limits,
    /// Whether to find out which processes hold the sockets.
    pub finds_owners: bool,
}

impl Plan {
    /// Whether of each TCP connection within this host both ends are recorded.
    pub fn records_both_ends(&self) -> bool {
        let has = |family| self.dumps.contains(&(family, Protocol::Tcp));
        let is_all = self.chosen.is_none() && self.states.proves_absence();
        is_all && has(Family::Inet) && has(Family::Inet6)
    }
}

/// What answers dumps.
pub trait Kernel {
    /// Dumps one family and protocol of a namespace, see [`crate::kernel::DiagSocket::dump`].
    fn dump(
        &mut self,
        place: Place,
        family: Family,
        protocol: Protocol,
        states: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd;

    /// Whether destroy events are read.
    fn listens_to_events(&self) -> bool {
        false
    }

    /// Waits, for a fifth of a second at most, until the destroy events that were sent before this moment of
    /// `CLOCK_MONOTONIC` have been read.
    fn await_events(&mut self, _sent_before_ns: Nanos) {}

    /// Whether a destroy event that is missing was not sent, unless a loss is told.
    fn tells_every_event(&self) -> bool {
        true
    }

    /// Whether rows of every socket are to be written in the next snapshot, because its dumps show
    /// what no complete dump can stand for.
    fn wants_keyframe(&self) -> bool {
        false
    }

    /// Takes the destroy events that came since the last time, see
    /// [`crate::kernel::EventReader::take`].
    fn take_events(&mut self, _: &mut EventBatch) {}

    /// Whether other namespaces than the first may come, and any may leave.
    fn follows_namespaces(&self) -> bool {
        false
    }

    /// Which namespaces came and which were let go of since the last call.
    fn namespace_news(&mut self) -> NamespaceNews {
        NamespaceNews::default()
    }

    /// Whether a namespace of this boot that an earlier capture recorded is known to be there no longer.
    fn is_gone(&mut self, _: &FormerNamespace) -> bool {
        false
    }

    /// Whether a namespace has no sockets at all, as the kernel counts them: there is nothing to dump.
    fn is_empty(&mut self, _: Place) -> bool {
        false
    }

    /// Whether MPTCP may have been in use in a namespace since it is asked: the kernel disconnects its
    /// subflows also when they are over.
    fn may_have_subflows(&mut self, _: Place) -> bool {
        false
    }

    /// Nothing is asked of this namespace any more.
    fn leave(&mut self, _: Place) {}
}

/// Everything that the loop gets from outside, so that tests give their own.
pub struct Inputs<'a> {
    /// Answers the dumps.
    pub kernel: &'a mut dyn Kernel,
    /// Tells the time.
    pub pace: &'a mut dyn Pace,
    /// Is told after each tick, and of what the user should know at once.
    pub listener: &'a mut dyn FnMut(&Event),
    /// Is told of the sockets whose end has been stored, a message a snapshot.
    pub ended: Option<Sender<Vec<SocketId>>>,
}
