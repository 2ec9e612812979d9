//! A socket that dumps show, and what its messages change.

use std::hint::black_box;

use super::batch::Batch;
use super::ending::{Evidence, Life, origin_of_state};
use super::flows::Flow;
use super::last_words::{OPENING_LAG_MS, TICK_LAG_NS};
use super::packed::{Packed, Times};
use super::register::{Death, Gone, Rows};
use super::traffic::Moment;
use crate::model::{
    ActivityTimes, EndEvidence, FinalCounters, FormerSocket, MadeAt, Nanos, Origin, Protocol,
    RemainsEnd, SnapshotId, SocketEnd, SocketId, SocketNews, SocketUpdate, StateChange, TcpState,
    Tuple,
};
use crate::wire::inet_diag::{ENDPOINTS, HEADER_LEN, Message, RelativeTimes};

/// The kernel's relative times are rounded to jiffies, which may come late, and when it made a message is
/// known by a while: the same moment comes out so much differently from dump to dump (measured: 16 ms).
const TIME_TOLERANCE_MS: i64 = 50;

/// `TCP_TIMEWAIT_LEN` (`include/net/tcp.h`).
const TIME_WAIT_MS: u32 = 60_000;

/// A socket that was there in the last dump that could have shown it. What every dump is held against is in the
/// table of all, the rest apart: so the table has half as many pages, and the fewer there are the sooner a
/// socket is found among them.
pub(super) struct Live {
    pub(super) socket: SocketId,
    pub(super) last_seen: SnapshotId,
    /// Hash of the last message without its relative times.
    hash: u64,
    times: Times,
    /// The snapshot that first showed it closed.
    pub(super) closed_in: Option<SnapshotId>,
    rest: Box<Rest>,
    pub(super) scope: usize,
    pub(super) generation: u32,
    pub(super) state: TcpState,
    pub(super) is_missing: bool,
    /// Its end is stored: this is what is left of it.
    pub(super) is_over: bool,
    /// It was seen in a state that the peer's FIN leads to.
    pub(super) has_peer_fin: bool,
    pub(super) origin: Option<Origin>,
}

/// What only matters of a live socket when it changes.
struct Rest {
    /// The last message without its relative times.
    message: Packed,
    known: SocketUpdate,
    /// The counters that were told last, where the last message has none: it is of the mini-socket
    /// that the full socket became, or whoever asked did not ask for them.
    carried: Option<Box<FinalCounters>>,
    rows: Rows,
    row_before: Option<SnapshotId>,
}

/// A message as a dump brought it, without its relative times.
#[derive(Clone, Copy)]
pub(super) struct Sighting<'m> {
    pub(super) message: Message<'m>,
    pub(super) payload: &'m [u8],
    pub(super) hash: u64,
    pub(super) times: ActivityTimes,
    pub(super) protocol: Protocol,
    pub(super) snapshot: SnapshotId,
    /// When the snapshot began, on `CLOCK_MONOTONIC`.
    pub(super) tick_started_ns: Nanos,
    pub(super) made_at: MadeAt,
    pub(super) ago: RelativeTimes,
}

impl Sighting<'_> {
    /// Whether the connection is over: what is seen is a timewait mini-socket, or a socket that was
    /// connected and is closed.
    pub(super) fn is_over(&self) -> bool {
        match self.message.state() {
            TcpState::TIME_WAIT => true,
            TcpState::FIN_WAIT2 => self.message.is_mini(),
            TcpState::CLOSE => has_states(self.protocol) && self.message.tuple().remote.port != 0,
            _ => false,
        }
    }

    /// Whether a socket that was not known looks like one on its way out, see [`Live::is_dying`].
    pub(super) fn is_torn_down(&self) -> bool {
        let is_closed = self.protocol == Protocol::Tcp && self.message.state() == TcpState::CLOSE;
        (is_closed && self.message.is_half_wiped()) || self.has_lost_its_port()
    }

    /// Whether its port is free already and its state not closed yet (`inet_put_port`, measured while connections
    /// were closed).
    fn has_lost_its_port(&self) -> bool {
        self.protocol == Protocol::Tcp && matches!(self.message.ports(), (0, 1..))
    }

    /// Whether this is a socket whose connection is over and whose file somebody holds. Dumps show those
    /// that were bound.
    pub(super) fn is_closed_and_held(&self) -> bool {
        self.protocol == Protocol::Tcp
            && self.message.state() == TcpState::CLOSE
            && self.message.tuple().remote.port != 0
    }

    pub(super) fn over_evidence(&self) -> EndEvidence {
        if self.message.is_mini() { EndEvidence::TimeWait } else { EndEvidence::Closed }
    }

    pub(super) fn is_time_wait(&self) -> bool {
        self.message.state() == TcpState::TIME_WAIT
    }

    pub(super) fn flow(&self) -> Option<Flow> {
        Flow::new(self.protocol, &self.message.tuple())
    }

    /// It was so by this moment of `CLOCK_MONOTONIC`.
    pub(super) fn shown_by_ns(&self) -> Nanos {
        self.made_at.by_ms * 1_000_000
    }

    /// The connection had begun by this moment of `CLOCK_MONOTONIC`; and if it is over and in
    /// TIME-WAIT, that is when it was over.
    pub(super) fn open_by_ns(&self) -> Nanos {
        if self.is_time_wait() {
            return self.remains_began().to_ns;
        }
        (self.made_at.by_ms - i64::from(self.ago.established_ms().unwrap_or(0))) * 1_000_000
    }

    /// For how long the connection had been there when the snapshot began, at least.
    pub(super) fn open_ms(&self) -> Option<i64> {
        let ago_ms = self.ago.established_ms().filter(|_| self.is_established())?;
        let began_by_ms = self.made_at.by_ms - i64::from(ago_ms) + OPENING_LAG_MS;
        let open_ms = self.tick_started_ns.div_euclid(1_000_000) - began_by_ms;
        (open_ms >= 0).then_some(open_ms)
    }

    /// Whether all times in it are of this connection. Before the handshake is done, and of a connection that failed, they
    /// may be of one that the socket had before; MPTCP counts from when the socket was made.
    fn is_established(&self) -> bool {
        let is_opening = matches!(self.message.state(), TcpState::SYN_SENT | TcpState::SYN_RECV);
        self.protocol == Protocol::Tcp && !is_opening && self.message.state() != TcpState::CLOSE
    }

    /// Of a timewait mini-socket: since when it is one.
    pub(super) fn remains_began(&self) -> Moment {
        let MadeAt { after_ms, by_ms } = self.made_at;
        let from_ns = self.remains_since_ns(after_ms) - TICK_LAG_NS;
        Moment { from_ns, to_ns: self.remains_since_ns(by_ms) }
    }

    /// Since when it is one, if the message is of this moment. In FIN-WAIT-2 that may be later, where the
    /// kernel was told to wait for less than a minute (`tcp_fin_timeout`).
    fn remains_since_ns(&self, made_at_ms: i64) -> Nanos {
        let left_ms = self.ago.expires_ms().unwrap_or(TIME_WAIT_MS);
        (made_at_ms - i64::from(TIME_WAIT_MS.saturating_sub(left_ms))) * 1_000_000
    }

    /// The connection was not over before this moment of `CLOCK_MONOTONIC`.
    pub(super) fn alive_ns(&self) -> Option<Nanos> {
        if self.is_time_wait() {
            return Some(self.remains_began().from_ns);
        }
        (!self.is_closed_and_held()).then_some(self.made_at.after_ms * 1_000_000)
    }

    /// For how long it had been in TIME-WAIT when the snapshot began, at least.
    pub(super) fn time_wait_ms(&self) -> Option<u32> {
        let began_by_ns = self.open_by_ns() + TICK_LAG_NS;
        let ms = (self.tick_started_ns - began_by_ns).div_euclid(1_000_000);
        u32::try_from(ms).ok().filter(|_| self.is_time_wait() && self.ago.expires_ms().is_some())
    }

    /// Who opened the connection, as far as this message tells.
    pub(super) fn origin(&self) -> Option<Origin> {
        if self.protocol != Protocol::Tcp {
            return None;
        }
        let state = self.message.state();
        origin_of_state(state, self.message.is_mini()).or_else(|| {
            self.flow()?;
            Evidence::of(&self.message.observe(self.protocol))?.origin_of_live(state)
        })
    }
}

impl Live {
    pub(super) fn new(
        socket: SocketId,
        scope: usize,
        generation: u32,
        seen: &Sighting<'_>,
    ) -> Self {
        Self {
            socket,
            last_seen: seen.snapshot,
            hash: seen.hash,
            times: seen.times.into(),
            closed_in: None,
            rest: Box::new(Rest {
                message: Packed::new(seen.payload),
                known: seen.message.owner(),
                carried: None,
                rows: Rows::default(),
                row_before: None,
            }),
            generation,
            scope,
            state: seen.message.state(),
            is_missing: false,
            is_over: false,
            has_peer_fin: has_peer_fin(seen.message.state()),
            origin: None,
        }
    }

    pub(super) fn known(&self) -> SocketUpdate {
        self.rest.known
    }

    /// Goes on as a socket of an earlier capture.
    pub(super) fn resume(&mut self, former: &FormerSocket, seen: &Sighting<'_>, out: &mut Batch) {
        self.socket = former.id;
        self.generation = former.generation;
        self.state = former.state;
        self.rest.known = former.known;
        self.origin = former.origin;
        self.is_over = former.is_remains;
        self.rest.rows = Rows {
            last: Some(former.last_sample),
            count: u32::try_from(former.samples).unwrap_or(u32::MAX),
        };
        if seen.message.is_mini() {
            self.rest.carried = Some(Box::new(former.counters));
        }
        self.note_changes(seen, out);
        self.write_row(seen.snapshot, seen.protocol, out);
    }

    /// Goes on as what is left of a socket whose destroy event was read.
    pub(super) fn remain(&mut self, gone: &Gone, seen: &Sighting<'_>, out: &mut Batch) {
        self.socket = gone.socket;
        self.generation = gone.generation;
        self.is_over = true;
        self.rest.rows = gone.rows;
        if let Some(state) = gone.state {
            self.state = state;
            self.note_changes(seen, out);
        }
        self.write_row(seen.snapshot, seen.protocol, out);
    }

    /// Notes a change of state, and what has come to be known of the owner.
    fn note_changes(&mut self, seen: &Sighting<'_>, out: &mut Batch) {
        let state = seen.message.state();
        if state != self.state {
            let (snapshot, socket, from) = (seen.snapshot, self.socket, self.state);
            out.state_changes.push(StateChange { snapshot, socket, from, to: state });
            self.state = state;
            self.has_peer_fin |= has_peer_fin(state);
        }

        if self.rest.known.learn(seen.message.owner()) {
            out.updates.push((self.socket, self.rest.known));
        }
    }

    /// Whether this is a socket on its way out, caught between two steps of the kernel: closed, its
    /// tuple half wiped and its counters reset (measured while connections were aborted). It tells
    /// nothing. One that is still closed in another dump is meant so: bound again, or disconnected.
    pub(super) fn is_dying(&mut self, seen: &Sighting<'_>) -> bool {
        if seen.has_lost_its_port() {
            return true;
        }
        let is_closed = has_states(seen.protocol) && seen.message.state() == TcpState::CLOSE;
        if !is_closed || self.state == TcpState::CLOSE {
            // What is not written into need not be written back.
            if self.closed_in.is_some() {
                self.closed_in = None;
            }
            return false;
        }
        *self.closed_in.get_or_insert(seen.snapshot) == seen.snapshot
    }

    /// Whether nothing changed since the last message.
    pub(super) fn is_same_as(&self, seen: &Sighting<'_>) -> bool {
        self.hash == seen.hash && self.times.are_within(&seen.times.into(), TIME_TOLERANCE_MS)
    }

    /// Reads what its next message will be held against, so that it is at hand by then.
    pub(super) fn fetch(&self) {
        black_box((self.hash, self.last_seen, self.state, self.closed_in));
    }

    pub(super) fn has_endpoints_of(&self, message: &Message<'_>) -> bool {
        let before = self.rest.message.first::<{ ENDPOINTS.end }>();
        before[ENDPOINTS] == *message.endpoint_bytes()
    }

    /// Takes over a message that differs from the last one.
    pub(super) fn change(&mut self, seen: &Sighting<'_>, out: &mut Batch) {
        if !has_states(seen.protocol) || (!seen.message.is_mini() && seen.message.has_info()) {
            self.rest.carried = None;
        } else if self.rest.carried.is_none() {
            self.rest.carried = Some(Box::new(self.counters(seen.protocol)));
        }
        self.note_changes(seen, out);
        // To see what it tells it has to be decoded.
        if Origin::is_open(self.origin)
            && let Some(origin) = seen.origin().filter(|told| told.overrules(self.origin))
        {
            self.origin = Some(origin);
            out.news.push((self.socket, SocketNews::Origin(origin)));
        }
        self.hash = seen.hash;
        self.times = seen.times.into();
        self.last_seen = seen.snapshot;
        self.rest.message.replace(seen.payload);
        self.add_row(seen.payload, seen.snapshot, seen.protocol, out);
    }

    /// Adds a row with the last message; a second one in a snapshot replaces the first.
    pub(super) fn write_row(&mut self, snapshot: SnapshotId, protocol: Protocol, out: &mut Batch) {
        self.add_row(&self.rest.message.unpack(), snapshot, protocol, out);
    }

    fn add_row(
        &mut self,
        message: &[u8],
        snapshot: SnapshotId,
        protocol: Protocol,
        out: &mut Batch,
    ) {
        if self.rest.rows.last != Some(snapshot) {
            self.rest.row_before = self.rest.rows.last.replace(snapshot);
            self.rest.rows.count += 1;
        }
        out.add_sample(message, self.socket, self.rest.row_before, protocol, self.times.into());
    }

    fn counters(&self, protocol: Protocol) -> FinalCounters {
        Message::parse(&self.rest.message.unpack())
            .map(|message| FinalCounters::of(&message.observe(protocol)))
            .unwrap_or_default()
    }

    pub(super) fn flow(&self, protocol: Protocol) -> Option<Flow> {
        Flow::new(protocol, &Message::parse(&self.rest.message.first::<HEADER_LEN>()).ok()?.tuple())
    }

    /// Whether it was seen closed, and its former remote address is that of a half-wiped event.
    pub(super) fn was_disconnected_from(&self, told: &Tuple) -> bool {
        Message::parse(&self.rest.message.first::<HEADER_LEN>()).is_ok_and(|message| {
            message.is_half_wiped() && message.tuple().remote.address == told.remote.address
        })
    }

    pub(super) fn cookie(&self) -> u64 {
        Message::parse(&self.rest.message.first::<HEADER_LEN>())
            .map_or(0, |message| message.cookie())
    }

    pub(super) fn local_port(&self) -> u16 {
        Message::parse(&self.rest.message.first::<HEADER_LEN>())
            .map_or(0, |message| message.tuple().local.port)
    }

    pub(super) fn gone(&self) -> Gone {
        let (socket, generation, state) = (self.socket, self.generation, Some(self.state));
        Gone { socket, generation, state, rows: self.rest.rows }
    }

    /// Its end as a live socket.
    pub(super) fn death(
        &self,
        closed_before: Option<SnapshotId>,
        evidence: Option<EndEvidence>,
        protocol: Protocol,
    ) -> Death {
        let message = self.rest.message.unpack();
        let message = Message::parse(&message).ok();
        let tuple = message.map(|message| message.tuple());
        let flow = tuple.and_then(|tuple| Flow::new(protocol, &tuple));
        let observation = message.map(|message| message.observe(protocol));
        let last = observation.as_ref().filter(|o| !o.is_mini).and_then(Evidence::of);
        Death {
            end: SocketEnd {
                socket: self.socket,
                last_snapshot: Some(self.last_seen),
                closed_before,
                evidence,
                last_sample: self.rest.rows.last,
                samples: u64::from(self.rest.rows.count),
                state: Some(self.state),
                ending: None,
                destroyed: None,
                counters: match (&self.rest.carried, &observation) {
                    (Some(counters), _) => **counters,
                    (None, Some(observation)) => FinalCounters::of(observation),
                    (None, None) => FinalCounters::default(),
                },
                has_final_counters: false,
            },
            cookie: self.cookie(),
            generation: self.generation,
            flow,
            peer: None,
            origin: self.origin,
            life: (flow.is_some() && protocol == Protocol::Tcp).then(|| Life {
                has_peer_fin: self.has_peer_fin,
                last,
                ..Life::default()
            }),
            open_by_ns: None,
            over_ns: None,
            active_ns: None,
            last_received: None,
            traffic: None,
            is_unseen: false,
        }
    }

    /// Whether it was never seen but as a connection request.
    pub(super) fn is_request(&self) -> bool {
        self.state == TcpState::SYN_RECV
            && Message::parse(&self.rest.message.unpack()).is_ok_and(|message| message.is_mini())
    }

    /// The end of what was left of it.
    pub(super) fn remains_end(&self, gone_before: Option<SnapshotId>) -> RemainsEnd {
        RemainsEnd {
            socket: self.socket,
            last_snapshot: self.last_seen,
            gone_before,
            last_sample: self.rest.rows.last.unwrap_or(self.last_seen),
            samples: u64::from(self.rest.rows.count),
        }
    }
}

/// Whether the states of TCP mean something for it; others are "closed" while not connected.
pub(super) fn has_states(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Mptcp)
}

fn has_peer_fin(state: TcpState) -> bool {
    matches!(state, TcpState::CLOSE_WAIT | TcpState::LAST_ACK | TcpState::CLOSING)
}
