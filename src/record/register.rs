//! The register of births and deaths: sockets that come and go within a tick, what each says of the
//! others, and what may still come to be known of them.
//!
//! Births and deaths are gathered during a tick and written at its end, when all of them can be
//! held against each other: the other end of a connection tells what this end cannot.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::batch::Batch;
use super::ending::{Evidence, Final, Life, Remnant, ending_with_peer};
use super::flows::{
    Dead, Flow, Flows, Member, Moment, REUSE_MIN_NS, SAME_MOMENT_NS, There, Traffic, mapped,
};
use super::half_told::HalfTold;
use super::listeners::Listeners;
use super::live::Live;
use crate::kernel::EventStamp;
use crate::model::{
    Clocks, Destroyed, Direction, EndEvidence, EndUpdate, Ending, EventCounts, FinalCounters,
    FreedSocket, Nanos, NewSocket, Origin, Protocol, SnapshotId, SocketEnd, SocketId, SocketKey,
    SocketNews, TcpState, Tuple, TupleTold, UndestroyedSocket,
};
use crate::wire::inet_diag::{Message, RelativeTimes};

/// The kernel counts the times of activity in its ticks, which come late on a virtual machine: so
/// much too long ago they may seem (measured: 16 ms), or too short.
pub(super) const TICK_LAG_MS: i64 = 20;
/// A tick of the kernel is at most so long.
const JIFFY_NS: Nanos = 10_000_000;
/// What began at such a time is claimed with more care still.
const OPENING_LAG_MS: i64 = 50;
/// Ended sockets whose destroy event is still waited for, and destroyed ones that are remembered.
const REMEMBERED_MAX: usize = 100_000;
/// Memory that is kept from tick to tick for so many.
const BIRTHS_KEPT: usize = 4_096;

/// Where a socket's rows of samples have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rows {
    pub(super) last: Option<SnapshotId>,
    pub(super) count: u32,
}

/// A socket whose destroy event was read: only its mini-socket may still be seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    pub(super) socket: SocketId,
    pub(super) generation: u32,
    pub(super) state: Option<TcpState>,
    pub(super) rows: Rows,
}

/// A connection that is over and whose destroy event has not come.
#[derive(Clone, Debug)]
struct Held {
    socket: SocketId,
    flow: Option<Flow>,
    peer: Option<SocketId>,
    life: Option<Life>,
}

/// An end that is to be written.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) end: SocketEnd,
    pub(super) cookie: u64,
    pub(super) flow: Option<Flow>,
    pub(super) origin: Option<Origin>,
    /// `None` for what is no connection.
    pub(super) life: Option<Life>,
    pub(super) open_by_ns: Option<Nanos>,
    /// It was over by this moment of `CLOCK_MONOTONIC`.
    pub(super) over_ns: Option<Nanos>,
    /// When it last received, as its event tells.
    pub(super) last_received: Option<Moment>,
    /// What it tells of what went over the connection.
    pub(super) traffic: Option<Traffic>,
    pub(super) is_unseen: bool,
}

/// A destroy event, decoded.
pub(super) struct LastWords {
    pub(super) protocol: Protocol,
    pub(super) cookie: u64,
    pub(super) tuple: Tuple,
    pub(super) is_half_wiped: bool,
    pub(super) said: Option<Final>,
    pub(super) counters: Option<FinalCounters>,
    pub(super) destroyed: Destroyed,
    /// The connection was active at this moment of `CLOCK_MONOTONIC` or later; if nothing tells, its
    /// socket was freed later.
    pub(super) active_ns: Nanos,
    /// Nothing of the connection went on after this moment of `CLOCK_MONOTONIC`. The socket itself may
    /// have been held much longer.
    pub(super) silent_ns: Nanos,
    /// Whether anything tells when it was active.
    pub(super) tells_activity: bool,
    /// When this end last sent, or the connection was established, on `CLOCK_MONOTONIC`.
    pub(super) last_sent: Option<Moment>,
    /// When this end last received, or the connection was established, on `CLOCK_MONOTONIC`.
    pub(super) last_received: Option<Moment>,
}

impl LastWords {
    pub(super) fn new(
        message: &Message<'_>,
        protocol: Protocol,
        times: RelativeTimes,
        stamp: &EventStamp,
        snapshot: SnapshotId,
        capture_started: Clocks,
    ) -> Self {
        let observation = message.observe(protocol);
        let received = stamp.received;
        // How long ago it was sent adds to how long ago that was, and so does suspended time.
        let unread_ms = (received.boottime_ns - stamp.sent_after_ns).max(0) / 1_000_000 + 1;
        let suspended_ns = received.boottime_ns
            - capture_started.boottime_ns
            - (received.monotonic_ns - capture_started.monotonic_ns);
        let idle_ms = times
            .active_ms()
            .map(|ms| i64::from(ms) + TICK_LAG_MS + unread_ms + suspended_ns.max(0) / 1_000_000)
            .filter(|ms| received.boottime_ns - ms * 1_000_000 >= capture_started.boottime_ns);
        let ago = |ms: u32| {
            let at_ns = received.monotonic_ns - i64::from(ms) * 1_000_000;
            let (lag_ns, unread_ns) = (JIFFY_NS, unread_ms * 1_000_000);
            Moment { from_ns: at_ns - unread_ns - lag_ns, to_ns: at_ns + lag_ns }
        };
        let is_half_wiped = message.is_half_wiped();
        let evidence = Evidence::of(&observation).filter(|_| protocol == Protocol::Tcp);
        let was_established = observation.tcp.min_rtt_us.is_some()
            || observation.tcp.snd_wnd_bytes.is_some_and(|window| window != 0);
        let said = match evidence {
            Some(_) if is_half_wiped => Some(Final::Wiped { was_established }),
            Some(evidence) => Some(Final::Full(evidence)),
            None => None,
        };
        Self {
            protocol,
            cookie: message.cookie(),
            tuple: message.tuple(),
            is_half_wiped,
            said,
            counters: matches!(said, Some(Final::Full(_)))
                .then(|| FinalCounters::of(&observation))
                .filter(|_| message.tuple().remote.port != 0),
            destroyed: Destroyed {
                snapshot,
                at: received,
                idle_ms,
                open_ms: times.established_ms().map(|ms| (i64::from(ms) - OPENING_LAG_MS).max(0)),
            },
            active_ns: received.monotonic_ns
                - times.active_ms().map_or(unread_ms, |ms| i64::from(ms) + TICK_LAG_MS + unread_ms)
                    * 1_000_000,
            silent_ns: received.monotonic_ns
                - times.active_ms().map_or(0, |ms| (i64::from(ms) - TICK_LAG_MS).max(0))
                    * 1_000_000,
            tells_activity: times.active_ms().is_some(),
            last_sent: times.sent_or_handshake_ms().map(ago),
            last_received: times.received_or_handshake_ms().map(ago),
        }
    }

    pub(super) fn flow(&self) -> Option<Flow> {
        Flow::new(self.protocol, &self.tuple)
    }

    /// Whether there may have been another end.
    pub(super) fn was_answered(&self) -> bool {
        match &self.said {
            Some(Final::Full(counters)) => counters.has_heard(),
            Some(Final::Wiped { was_established }) => *was_established,
            None => true,
        }
    }

    pub(super) fn traffic(&self) -> Option<Traffic> {
        let counters = self.counters.filter(|_| self.protocol == Protocol::Tcp)?;
        Some(Traffic {
            was_answered: self.was_answered(),
            sent_bytes: counters
                .bytes_sent
                .zip(counters.bytes_retrans)
                .map(|(sent, again)| sent.saturating_sub(again)),
            received_bytes: counters.bytes_received,
            last_sent: self.last_sent,
            last_received: self.last_received,
        })
    }

    /// Whether a socket that was connected like this, or not at all, may be meant: a cookie can be
    /// connected again.
    pub(super) fn may_be_of(&self, flow: Option<&Flow>) -> bool {
        match (flow, self.flow()) {
            (Some(flow), Some(own)) => own == *flow,
            (Some(flow), None) if self.is_half_wiped => {
                flow.local().1 == self.tuple.local.port
                    && flow.remote().0 == mapped(self.tuple.remote.address)
            }
            (Some(_), None) => true,
            (None, own) => own.is_none() && !self.is_half_wiped,
        }
    }

    /// Whether this may be the connection whose TIME-WAIT began at this moment of `CLOCK_MONOTONIC`, and
    /// not one that used the same addresses and ports before or later.
    fn fits_time_wait_of(&self, began_ns: Nanos, direction: Option<Direction>) -> bool {
        let life = Life { last_words: self.said, direction, ..Life::default() };
        let began_by_ns = match life.remnant() {
            Remnant::None => return false,
            Remnant::TimeWait => self.silent_ns + SAME_MOMENT_NS,
            Remnant::FinWait2 => self.destroyed.at.monotonic_ns + REUSE_MIN_NS,
        };
        self.active_ns <= began_ns + SAME_MOMENT_NS && began_ns <= began_by_ns
    }

    /// The connection had begun by this moment of `CLOCK_MONOTONIC`.
    pub(super) fn open_by_ns(&self) -> Nanos {
        self.destroyed.at.monotonic_ns - self.destroyed.open_ms.unwrap_or(0) * 1_000_000
    }
}

/// Births and deaths of a tick, and who is remembered from those before.
pub(super) struct Register {
    pub(super) now: SnapshotId,
    /// What dumps show was so by this moment of `CLOCK_MONOTONIC`.
    pub(super) now_ns: Nanos,
    pub(super) listeners: Listeners,
    pub(super) flows: Flows,
    pub(super) half_told: HalfTold,
    births: Vec<NewSocket>,
    pub(super) deaths: Vec<Death>,
    pub(super) death_of: HashMap<SocketId, usize>,
    gone: HashMap<u64, Gone>,
    gone_order: VecDeque<(SnapshotId, u64)>,
    /// Sockets that were freed before this capture and that no dump ever showed, and when on
    /// `CLOCK_MONOTONIC`: until a complete dump has shown what is left of them.
    freed: HashMap<Flow, (SocketId, Nanos)>,
    held: HashMap<u64, Held>,
    held_order: VecDeque<u64>,
    /// `None` where events are not listened for.
    pub(super) events: Option<EventCounts>,
    /// Whether every event of this capture was read.
    pub(super) is_all_told: bool,
}

impl Register {
    pub(super) fn new(
        now: SnapshotId,
        undestroyed: Vec<UndestroyedSocket>,
        freed: Vec<FreedSocket>,
        started: Clocks,
    ) -> Self {
        let mut register = Self {
            now,
            now_ns: 0,
            listeners: Listeners::default(),
            flows: Flows::default(),
            half_told: HalfTold::default(),
            births: Vec::new(),
            deaths: Vec::new(),
            death_of: HashMap::new(),
            gone: HashMap::new(),
            gone_order: VecDeque::new(),
            freed: HashMap::new(),
            held: HashMap::new(),
            held_order: VecDeque::new(),
            events: None,
            is_all_told: true,
        };
        for socket in undestroyed {
            if let Some(over_ns) = socket.time_wait_by_ns
                && let Some(flow) = Flow::new(Protocol::Tcp, &socket.tuple)
            {
                let there =
                    There { open_by_ns: Some(over_ns), over_ns: Some(over_ns), traffic: None };
                register.flows.await_event(flow, Member::new(socket.id, socket.cookie, there));
            }
            let life = Life { direction: socket.origin.map(Origin::direction), ..Life::default() };
            register.hold(
                socket.cookie,
                Held {
                    socket: socket.id,
                    flow: Flow::new(socket.protocol, &socket.tuple),
                    peer: None,
                    life: (socket.tuple.remote.port != 0).then_some(life),
                },
            );
        }
        for socket in freed {
            register.remember(&socket, started);
        }
        register
    }

    /// A TIME-WAIT goes on as the connection of its cookie or, if no dump ever gave it one, of its
    /// addresses and ports.
    fn remember(&mut self, freed: &FreedSocket, started: Clocks) {
        let FreedSocket { id: socket, cookie, generation, state, .. } = *freed;
        let rows = Rows { last: freed.last_sample, count: freed.samples };
        self.bury(cookie, Gone { socket, generation, state, rows });
        let Some(flow) = Flow::new(Protocol::Tcp, &freed.tuple) else { return };
        let ago_ns = started.boottime_ns - freed.destroyed_boottime_ns;
        if state.is_none() {
            // The latest comes first.
            self.freed.entry(flow).or_insert((socket, started.monotonic_ns - ago_ns));
        }
    }

    pub(super) fn begin_tick(&mut self, now: SnapshotId) {
        self.now = now;
        if let Some(events) = &mut self.events {
            *events = EventCounts::default();
        }
    }

    /// Enters a socket; finds the other end of its connection.
    pub(super) fn birth(&mut self, mut socket: NewSocket, there: There, out: &mut Batch) {
        if let Some(flow) = flow_of(&socket) {
            let (socket_id, cookie) = (socket.id, socket.cookie);
            socket.peer = self.enter(flow, Member::new(socket_id, cookie, there), out);
        }
        self.births.push(socket);
    }

    /// Enters a socket that is known from an earlier capture.
    pub(super) fn resume(
        &mut self,
        flow: Option<Flow>,
        socket: SocketId,
        cookie: u64,
        open_by_ns: Nanos,
        out: &mut Batch,
    ) {
        let there = There { open_by_ns: Some(open_by_ns), ..There::default() };
        let member = Member::new(socket, cookie, there);
        if let Some(flow) = flow
            && let Some(peer) = self.enter(flow, member, out)
        {
            out.news.push((socket, SocketNews::Peer(peer)));
        }
    }

    fn enter(&mut self, flow: Flow, member: Member, out: &mut Batch) -> Option<SocketId> {
        let socket = member.socket;
        let peer = self.flows.add(flow, member)?;
        if peer != socket {
            match self.birth_of(peer) {
                Some(birth) => birth.peer = Some(socket),
                None => out.news.push((peer, SocketNews::Peer(socket))),
            }
        }
        Some(peer)
    }

    /// Enters the end of a socket.
    pub(super) fn death(&mut self, mut death: Death) {
        let is_shown = death.end.closed_before.is_some();
        death.over_ns = death
            .over_ns
            .or(is_shown.then_some(self.now_ns))
            .or(death.end.destroyed.map(|destroyed| destroyed.at.monotonic_ns));
        let member = death.flow.as_ref().and_then(|flow| self.flows.get(flow));
        let peer = member.filter(|m| m.socket == death.end.socket).and_then(|m| m.peer);
        if let Some(flow) = &death.flow {
            let direction = death.origin.map(Origin::direction);
            let direction = direction.or(self.direction_by_listeners(flow));
            let mut dead = death.dead();
            if let Some(life) = death.life {
                dead.remnant = Life { direction, ..life }.remnant();
            }
            self.flows.bury(flow, death.end.socket, death.over_ns, dead, self.now);
        }
        let is_replaced = death.end.evidence == Some(EndEvidence::Replaced);
        if death.end.destroyed.is_none() && self.events.is_some() && !is_replaced {
            self.hold(
                death.cookie,
                Held { socket: death.end.socket, flow: death.flow, peer, life: death.life },
            );
        }
        self.death_of.insert(death.end.socket, self.deaths.len());
        self.deaths.push(death);
    }

    /// Who opened a connection, if a listener is at one of its ends only.
    fn direction_by_listeners(&self, flow: &Flow) -> Option<Direction> {
        match (self.listeners.accepts(flow), self.listeners.accepts(&flow.reversed())) {
            (true, false) => Some(Direction::Inbound),
            (false, true) => Some(Direction::Outbound),
            _ => None,
        }
    }

    fn hold(&mut self, cookie: u64, held: Held) {
        if self.held_order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.held_order.pop_front()
        {
            self.held.remove(&oldest);
        }
        self.held.insert(cookie, held);
        self.held_order.push_back(cookie);
    }

    /// Remembers that this cookie's socket is freed.
    pub(super) fn bury(&mut self, cookie: u64, gone: Gone) {
        self.gone.insert(cookie, gone);
        self.gone_order.push_back((self.now, cookie));
    }

    /// Whether the connection of this cookie is over and its destroy event has not come.
    pub(super) fn is_held(&self, cookie: u64) -> bool {
        self.held.contains_key(&cookie)
    }

    /// The socket of this cookie, if its destroy event was read.
    pub(super) fn gone(&self, cookie: u64) -> Option<Gone> {
        self.gone.get(&cookie).copied()
    }

    /// The socket that a timewait mini-socket with a cookie of its own is left of. It leaves but one.
    /// The event of one that began its TIME-WAIT after `told_ns` may not have been read.
    pub(super) fn left_of(&mut self, flow: &Flow, began_ns: Nanos, told_ns: Nanos) -> Option<Gone> {
        let rows = Rows::default();
        let Some(&member) = self.flows.get(flow) else {
            let (socket, destroyed_ns) = self.freed.remove(flow)?;
            let is_its_own = began_ns <= destroyed_ns + SAME_MOMENT_NS;
            return is_its_own.then_some(Gone { socket, generation: 0, state: None, rows });
        };
        let Member { socket, peer, there, .. } = member;
        let peer_gone_ns = match self.flows.get(&flow.reversed()) {
            Some(other) if Some(other.socket) == peer => other.dead.map(|d| d.destroyed_ns),
            // Another connection has its addresses and ports.
            Some(other) if member.was_before(other) => Some(None),
            _ => None,
        };
        let dead = self.flows.dead_mut(flow, socket)?;
        let destroyed_ns = dead.destroyed_ns.filter(|_| dead.is_unseen)?;
        let began_by_ns = match (dead.remnant, peer_gone_ns) {
            (Remnant::None, _) => return None,
            (Remnant::TimeWait, _) => there.over_ns.unwrap_or(destroyed_ns),
            // It goes on half-closed as long as the other end is there.
            (Remnant::FinWait2, Some(gone_ns)) => gone_ns.unwrap_or(destroyed_ns).max(destroyed_ns),
            (Remnant::FinWait2, None) => told_ns.max(destroyed_ns),
        };
        if began_ns > began_by_ns + SAME_MOMENT_NS {
            return None;
        }
        dead.remnant = Remnant::None;
        Some(Gone { socket, generation: 0, state: None, rows })
    }

    /// A connection that has ended is seen in TIME-WAIT.
    pub(super) fn seen_in_time_wait(
        &mut self,
        flow: Option<&Flow>,
        socket: SocketId,
        out: &mut Batch,
    ) {
        if let Some(&death) = self.death_of.get(&socket) {
            if let Some(life) = &mut self.deaths[death].life {
                life.was_in_time_wait = true;
            }
            return;
        }
        let dead = flow.and_then(|flow| self.flows.dead_mut(flow, socket));
        let known = dead.as_ref().and_then(|dead| dead.ending);
        if matches!(known, Some(Ending::FinAcked | Ending::BothFins | Ending::TimeWait)) {
            return;
        }
        if let Some(dead) = dead {
            dead.ending = Some(Ending::TimeWait);
        }
        let update = EndUpdate { ending: Some(Ending::TimeWait), ..EndUpdate::default() };
        out.end_updates.push((socket, update));
    }

    /// Whether no other socket had the same addresses and ports since.
    pub(super) fn is_latest(&self, flow: Option<&Flow>, socket: SocketId) -> bool {
        let latest = flow.and_then(|flow| self.flows.get(flow));
        latest.is_some_and(|latest| latest.socket == socket)
    }

    /// Takes the event of a connection that is known to be over; says which it is, if any.
    pub(super) fn last_words_of_held(
        &mut self,
        words: &LastWords,
        out: &mut Batch,
    ) -> Option<SocketId> {
        let held = match self.held.get(&words.cookie) {
            Some(held) if words.may_be_of(held.flow.as_ref()) => self.held.remove(&words.cookie),
            _ => None,
        };
        let held = held.or_else(|| {
            // Its mini-socket has a cookie of its own.
            let flow = words.flow()?;
            let direction = self.direction_by_listeners(&flow);
            let mut member = self.flows.claim(&flow, |member| {
                member.there.open_by_ns.is_none_or(|ns| words.fits_time_wait_of(ns, direction))
            })?;
            match self.flows.get(&flow) {
                Some(latest) if latest.socket == member.socket => member = *latest,
                // Another had the same addresses and ports before.
                _ => {
                    member.peer = None;
                    member.peer = self.enter(flow, member, out);
                    match (member.peer, self.birth_of(member.socket)) {
                        (Some(peer), Some(birth)) => birth.peer = Some(peer),
                        (Some(peer), None) => {
                            out.news.push((member.socket, SocketNews::Peer(peer)));
                        }
                        (None, _) => {}
                    }
                }
            }
            let origin = member.dead.and_then(|dead| dead.origin);
            let life = Life {
                direction: origin.map(Origin::direction),
                was_in_time_wait: true,
                ..Life::default()
            };
            self.held.remove(&member.cookie);
            let (socket, remains) = (words.cookie, member.cookie);
            if socket != remains {
                if let Some(birth) = self.birth_of(member.socket) {
                    birth.cookie = socket;
                }
                out.news.push((member.socket, SocketNews::Cookie { socket, remains }));
            }
            Some(Held {
                socket: member.socket,
                flow: Some(flow),
                peer: member.peer,
                life: Some(life),
            })
        });
        let held = held?;
        if let Some(&death) = self.death_of.get(&held.socket) {
            let death = &mut self.deaths[death];
            death.end.destroyed = Some(words.destroyed);
            if let Some(counters) = words.counters {
                death.end.counters = counters;
            }
            if let Some(life) = &mut death.life {
                life.last_words = words.said;
            }
        } else {
            let ending = held.life.and_then(|life| {
                let direction = life.direction.or_else(|| direction_told(words));
                Life { direction, last_words: words.said, ..life }.ending()
            });
            let update =
                EndUpdate { destroyed: Some(words.destroyed), counters: words.counters, ending };
            out.end_updates.push((held.socket, update));
            if ending.is_some_and(Ending::is_reset)
                && let Some(peer) = held.peer
            {
                out.peer_resets.push(peer);
            }
        }
        if let Some(flow) = &held.flow
            && let Some(dead) = self.flows.dead_mut(flow, held.socket)
        {
            dead.destroyed_ns = Some(words.destroyed.at.monotonic_ns);
            dead.last_received = words.last_received;
            // What it left was seen before.
            dead.remnant = Remnant::None;
        }
        Some(held.socket)
    }

    pub(super) fn birth_of(&mut self, socket: SocketId) -> Option<&mut NewSocket> {
        let first = self.births.first()?.id.0;
        let index = usize::try_from(socket.0 - first).ok()?;
        self.births.get_mut(index)
    }
}

impl Death {
    pub(super) fn dead(&self) -> Dead {
        Dead {
            ending: None,
            origin: self.origin,
            destroyed_ns: self.end.destroyed.map(|d| d.at.monotonic_ns),
            last_received: self.last_received,
            traffic: self.traffic,
            is_unseen: self.is_unseen,
            remnant: self.life.map_or(Remnant::None, |life| life.remnant()),
            is_stalled: self.life.is_some_and(|life| life.was_stalled()),
        }
    }
}

fn flow_of(socket: &NewSocket) -> Option<Flow> {
    let is_known = socket.told != TupleTold::Half;
    Flow::new(socket.protocol, &socket.tuple).filter(|_| is_known)
}

fn direction_told(words: &LastWords) -> Option<Direction> {
    Some(words.said?.origin()?.direction())
}

impl Register {
    /// Holds the births and deaths of the tick against each other and hands them out. `flush` takes
    /// batches that have grown full.
    pub(super) fn resolve(
        &mut self,
        live: &mut HashMap<SocketKey, Live>,
        out: &mut Box<Batch>,
        flush: &mut impl FnMut(&mut Box<Batch>),
    ) {
        self.complete_half_told(out);
        self.ask_counters(out);
        self.ask_listeners();
        self.ask_peers(live, out);
        for birth in self.births.iter().filter(|birth| birth.origin.is_some()) {
            if let Some(live) = live.get_mut(&key_of(birth)).filter(|l| l.socket == birth.id) {
                live.origin = birth.origin;
            }
        }
        self.find_endings();
        self.ask_peers_for_endings(out);
        for birth in self.births.drain(..) {
            out.sockets.push(birth);
            if out.is_full() {
                flush(out);
            }
        }
        for death in self.deaths.drain(..) {
            out.ends.push(death.end);
            if out.is_full() {
                flush(out);
            }
        }
        self.births.shrink_to(BIRTHS_KEPT);
        self.deaths.shrink_to(BIRTHS_KEPT);
        self.death_of.clear();
    }

    /// Forgets who died before this snapshot: complete dumps since have shown what is left of them.
    pub(super) fn forget(&mut self, before: SnapshotId) {
        self.flows.forget(before);
        self.freed = HashMap::new();
        self.half_told.forget(self.now);
        self.listeners.forget(before);
        while let Some(&(died, cookie)) = self.gone_order.front() {
            if died >= before && self.gone_order.len() <= REMEMBERED_MAX {
                break;
            }
            self.gone_order.pop_front();
            self.gone.remove(&cookie);
        }
    }

    /// Final counters may tell who opened a connection.
    fn ask_counters(&mut self, out: &mut Batch) {
        for index in 0..self.deaths.len() {
            let death = &self.deaths[index];
            let last_words = death.life.and_then(|life| life.last_words);
            let (None, Some(origin)) = (death.origin, last_words.and_then(|said| said.origin()))
            else {
                continue;
            };
            let socket = death.end.socket;
            self.deaths[index].origin = Some(origin);
            match self.birth_of(socket) {
                Some(birth) => birth.origin = birth.origin.or(Some(origin)),
                None => out.news.push((socket, SocketNews::Origin(origin))),
            }
        }
    }

    /// A listener at one end tells. Where it contradicts the count of the SYN nothing does.
    fn ask_listeners(&mut self) {
        for birth in &mut self.births {
            let is_seen = matches!(
                birth.origin,
                Some(Origin::SynSent | Origin::SynRecv | Origin::NothingReceived)
            );
            if birth.protocol != Protocol::Tcp || is_seen {
                continue;
            }
            let Some(flow) = flow_of(birth) else {
                let is_inbound = birth.told == TupleTold::Half
                    && self.listeners.accepts_at(birth.protocol, &birth.tuple.local);
                birth.origin = birth.origin.or(is_inbound.then_some(Origin::Listener));
                continue;
            };
            let is_inbound = self.listeners.accepts(&flow);
            let is_outbound = flow.is_within_host() && self.listeners.accepts(&flow.reversed());
            let told = match (is_inbound, is_outbound) {
                (true, false) => Origin::Listener,
                (false, true) => Origin::RemoteListener,
                _ => continue,
            };
            let counted = birth.origin.map(Origin::direction);
            birth.origin = (counted.is_none_or(|d| d == told.direction())).then_some(told);
        }
    }

    /// What one end knows tells the other.
    fn ask_peers(&mut self, live: &mut HashMap<SocketKey, Live>, out: &mut Batch) {
        for index in 0..self.births.len() {
            let birth = &self.births[index];
            let (Some(flow), own) = (flow_of(birth), birth.origin) else { continue };
            let Some(peer) = birth.peer.filter(|&peer| peer != birth.id) else { continue };
            let key = |cookie| SocketKey { cookie, ..key_of(birth) };
            let Some(member) =
                self.flows.get(&flow.reversed()).filter(|m| m.socket == peer).copied()
            else {
                continue;
            };
            let key = key(member.cookie);
            let of_live = live.get_mut(&key).filter(|live| live.socket == peer);
            let of_peer = match (self.birth_of(peer), &member.dead, &of_live) {
                (Some(birth), ..) => birth.origin,
                (_, Some(dead), _) => dead.origin,
                (.., Some(live)) => live.origin,
                _ => None,
            };
            match (own, of_peer) {
                (None, Some(origin)) => self.births[index].origin = Some(origin.of_peer()),
                (Some(origin), None) => {
                    let origin = origin.of_peer();
                    if let Some(dead) = self.flows.dead_mut(&flow.reversed(), peer) {
                        dead.origin = Some(origin);
                    }
                    if let Some(live) = of_live {
                        live.origin = Some(origin);
                    }
                    match self.birth_of(peer) {
                        Some(birth) => birth.origin = Some(origin),
                        None => out.news.push((peer, SocketNews::Origin(origin))),
                    }
                }
                _ => {}
            }
        }
    }

    fn find_endings(&mut self) {
        for index in 0..self.deaths.len() {
            let socket = self.deaths[index].end.socket;
            let origin = match self.birth_of(socket) {
                Some(birth) => birth.origin,
                None => self.deaths[index].origin,
            };
            let death = &mut self.deaths[index];
            let Some(life) = &mut death.life else { continue };
            life.direction = origin.map(Origin::direction);
            let ending = life.ending();
            death.end.ending = ending;
            if let Some(held) = self.held.get_mut(&death.cookie).filter(|h| h.socket == socket) {
                held.life = death.life;
            }
            if let Some(dead) =
                death.flow.as_ref().and_then(|flow| self.flows.dead_mut(flow, socket))
            {
                dead.ending = ending;
                dead.origin = origin;
            }
        }
    }

    fn ask_peers_for_endings(&mut self, out: &mut Batch) {
        for index in 0..self.deaths.len() {
            let death = &self.deaths[index];
            let (Some(flow), Some(life)) = (death.flow, death.life) else { continue };
            let (socket, own) = (death.end.socket, death.end.ending);
            let Some(peer) = self.flows.get(&flow.reversed()).copied() else { continue };
            if peer.peer != Some(socket) || peer.socket == socket {
                continue;
            }
            let Some(of_peer) = peer.dead.map(|dead| dead.ending) else { continue };
            if own.is_some() || !life.was_stalled() {
                self.deaths[index].end.ending = ending_with_peer(own, of_peer);
                if let Some(dead) = self.flows.dead_mut(&flow, socket) {
                    dead.ending = ending_with_peer(own, of_peer);
                }
            }
            let of_peer_now = ending_with_peer(of_peer, own);
            if of_peer_now == of_peer || (of_peer.is_none() && peer.is_stalled()) {
                continue;
            }
            if let Some(dead) = self.flows.dead_mut(&flow.reversed(), peer.socket) {
                dead.ending = of_peer_now;
            }
            match self.death_of.get(&peer.socket) {
                Some(&other) => self.deaths[other].end.ending = of_peer_now,
                None => {
                    let update = EndUpdate { ending: of_peer_now, ..EndUpdate::default() };
                    out.end_updates.push((peer.socket, update));
                }
            }
        }
    }
}

fn key_of(birth: &NewSocket) -> SocketKey {
    SocketKey {
        netns: birth.netns,
        cookie: birth.cookie,
        tuple: (birth.protocol == Protocol::Mptcp).then(|| Box::new(birth.tuple)),
    }
}
