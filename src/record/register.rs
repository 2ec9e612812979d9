//! The register of births and deaths: sockets that come and go within a tick, what each says of the
//! others, and what may still come to be known of them.
//!
//! Births and deaths are gathered during a tick and written at its end, when all of them can be
//! held against each other: the other end of a connection tells what this end cannot.

mod doubts;
mod half_closed;
mod late;
mod remains;
mod resolve;

use std::collections::VecDeque;

use hashbrown::HashMap;

use half_closed::HalfClosed;
pub(super) use remains::{LeftOf, Mini};

use super::batch::Batch;
use super::ending::{Life, Remnant};
use super::flows::{Added, Dead, Flow, Flows, Member, There};
use super::half_told::HalfTold;
use super::last_words::LastWords;
use super::listeners::Listeners;
use super::traffic::{Moment, Traffic};
use crate::model::{
    Clocks, Direction, EndEvidence, FormerSocket, FreedSocket, Nanos, NetnsId, NewSocket, Origin,
    Protocol, SnapshotId, SocketEnd, SocketId, SocketNews, TcpState, TupleTold, UndestroyedSocket,
};

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
    generation: u32,
    flow: Option<Flow>,
    peer: Option<SocketId>,
    life: Option<Life>,
    /// As what its mini-socket goes on, if one is seen. `None` for one of an earlier capture.
    gone: Option<Gone>,
}

/// An end that is to be written.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) end: SocketEnd,
    pub(super) cookie: u64,
    pub(super) generation: u32,
    pub(super) flow: Option<Flow>,
    /// The other end, as far as it was known then.
    pub(super) peer: Option<SocketId>,
    pub(super) origin: Option<Origin>,
    /// `None` for what is no connection.
    pub(super) life: Option<Life>,
    pub(super) open_by_ns: Option<Nanos>,
    /// It was over by this moment of `CLOCK_MONOTONIC`.
    pub(super) over_ns: Option<Nanos>,
    /// It was active at this moment of `CLOCK_MONOTONIC` or later, as its event tells.
    pub(super) active_ns: Option<Nanos>,
    /// When it last received, as its event tells.
    pub(super) last_received: Option<Moment>,
    /// What it tells of what went over the connection.
    pub(super) traffic: Option<Traffic>,
    pub(super) is_unseen: bool,
}

/// Births and deaths of a tick, and who is remembered from those before.
pub(super) struct Register {
    netns: NetnsId,
    pub(super) now: SnapshotId,
    /// The first socket that is new in this snapshot.
    pub(super) first_new: SocketId,
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
    /// Sockets whose other end may be over: the end of the tick tells.
    doubtful: Vec<(Flow, SocketId)>,
    /// Both ends of connections that were paired after they had died.
    paired_late: Vec<[(Flow, SocketId); 2]>,
    /// Sockets of which it has come to be known who opened their connection, which is news for the
    /// other end.
    directed: Vec<(Flow, SocketId, Origin)>,
    /// Of the events that are read: whose TIME-WAIT was seen before, by the cookie of the event.
    promised: HashMap<u64, SocketId>,
    held: HashMap<u64, Held>,
    held_order: VecDeque<u64>,
    /// Whether events are listened for.
    pub(super) listens: bool,
    /// Whether every event of this capture was read.
    pub(super) is_all_told: bool,
    /// Whether of each TCP connection within this host both ends are recorded.
    pub(super) records_both_ends: bool,
    /// Whether there are, or may have been, subflows of MPTCP.
    pub(super) has_subflows: bool,
    /// Whether that was asked for since events were last read.
    pub(super) has_asked_for_subflows: bool,
    /// Sockets freed half-closed, of which no dump has shown yet what is left of them.
    pub(super) half_closed: HalfClosed,
}

impl Register {
    /// Nobody is known.
    pub(super) fn new(netns: NetnsId, now: SnapshotId) -> Self {
        Self {
            netns,
            now,
            first_new: SocketId(0),
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
            doubtful: Vec::new(),
            paired_late: Vec::new(),
            directed: Vec::new(),
            promised: HashMap::new(),
            held: HashMap::new(),
            held_order: VecDeque::new(),
            listens: false,
            is_all_told: true,
            records_both_ends: false,
            has_subflows: false,
            has_asked_for_subflows: false,
            half_closed: HalfClosed::default(),
        }
    }

    /// The event of a connection that an earlier capture saw end is still to come.
    pub(super) fn await_event(&mut self, socket: &UndestroyedSocket) {
        if let Some(over_ns) = socket.time_wait_by_ns
            && let Some(flow) = Flow::new(Protocol::Tcp, &socket.tuple)
        {
            let there =
                There { open_by_ns: Some(over_ns), over_ns: Some(over_ns), ..There::default() };
            let member = Member::new(socket.id, socket.cookie, there);
            self.flows.await_event(flow, Member { peer: socket.peer, ..member });
        }
        // What an earlier capture knew of subflows is not known.
        let (direction, may_be_subflow) = (socket.origin.map(Origin::direction), true);
        let life = Life { direction, may_be_subflow, ..Life::default() };
        self.hold(
            socket.cookie,
            Held {
                socket: socket.id,
                generation: socket.generation,
                flow: Flow::new(socket.protocol, &socket.tuple),
                peer: socket.peer,
                life: (socket.tuple.remote.port != 0).then_some(life),
                gone: None,
            },
        );
    }

    /// A socket of an earlier capture takes part although it has not been seen in this one yet: its
    /// event may be the first that is heard of it.
    pub(super) fn expect(&mut self, former: &FormerSocket, started: Clocks) {
        if former.is_remains {
            return;
        }
        let Some(flow) = Flow::new(former.protocol, &former.tuple) else { return };
        let there = There { open_by_ns: Some(started.monotonic_ns), ..There::default() };
        let member = Member::new(former.id, former.cookie, there);
        self.flows.expect(flow, Member { peer: former.peer, ..member });
    }

    /// A TIME-WAIT goes on as the connection of its cookie or, if no dump ever gave it one, of its
    /// addresses and ports.
    pub(super) fn remember(&mut self, freed: &FreedSocket) {
        let FreedSocket { id: socket, cookie, generation, state, .. } = *freed;
        let rows = Rows { last: freed.last_sample, count: freed.samples };
        self.bury(cookie, Gone { socket, generation, state, rows });
        if freed.is_half_closed {
            self.half_closed.add(socket, SnapshotId(0));
        }
        let Some(flow) = Flow::new(Protocol::Tcp, &freed.tuple) else { return };
        if state.is_none() {
            // The latest comes first.
            self.freed.entry(flow).or_insert((socket, freed.time_wait_by_ns));
        }
    }

    /// Enters a socket; finds the other end of its connection.
    pub(super) fn birth(&mut self, mut socket: NewSocket, there: There, out: &mut Batch) {
        // Who was not answered has no other end, and leaves nothing.
        let was_answered = there.traffic.as_ref().is_none_or(|traffic| traffic.was_answered);
        if let Some(flow) = flow_of(&socket).filter(|_| was_answered) {
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
        let alive_ns = Some(self.now_ns);
        let there = There { open_by_ns: Some(open_by_ns), alive_ns, ..There::default() };
        let member = Member::new(socket, cookie, there);
        let is_paired = |flow: &Flow| {
            self.flows.get(flow).is_some_and(|m| m.socket == socket && m.peer.is_some())
        };
        if let Some(flow) = flow.filter(|flow| !is_paired(flow))
            && let Some(peer) = self.enter(flow, member, out)
        {
            out.news.push((socket, SocketNews::Peer(peer)));
        }
    }

    fn enter(&mut self, flow: Flow, member: Member, out: &mut Batch) -> Option<SocketId> {
        let socket = member.socket;
        let first_birth = self.births.first().map(|birth| birth.id);
        let is_there_now = |member: &Member, other: &Member| {
            let is_new = first_birth.is_some_and(|first| other.socket >= first);
            flow.protocol() == Protocol::Mptcp
                || (member.there.over_ns.is_none()
                    && other.dead.is_none()
                    && is_new
                    && member.there.was_shown_with(&other.there))
        };
        match self.flows.add(flow, member, is_there_now) {
            Added::WithPeer(peer) => {
                if peer != socket {
                    self.note_peer(peer, socket, out);
                }
                Some(peer)
            }
            Added::WithDoubtfulPeer => {
                self.doubtful.push((flow, socket));
                None
            }
            Added::Alone => None,
        }
    }

    pub(super) fn note_peer(&mut self, of: SocketId, peer: SocketId, out: &mut Batch) {
        match self.birth_of(of) {
            Some(birth) => birth.peer = Some(peer),
            None => out.news.push((of, SocketNews::Peer(peer))),
        }
    }

    /// Enters the end of a socket.
    pub(super) fn death(&mut self, mut death: Death) {
        let is_shown = death.end.closed_before.is_some();
        death.over_ns = death
            .over_ns
            .or(is_shown.then_some(self.now_ns))
            .or(death.end.destroyed.map(|destroyed| destroyed.at.monotonic_ns));
        let (socket, mut peer) = (death.end.socket, None);
        if let Some(flow) = &death.flow {
            peer = self.flows.find(flow, socket).and_then(|member| member.peer);
            if peer.is_none() && self.flows.has_alone(&flow.reversed()) {
                self.doubtful.push((*flow, socket));
            }
            let direction = death.origin.map(Origin::direction);
            let direction =
                direction.or_else(|| self.direction_by_listeners(flow, death.begun_by_ns()));
            let mut dead = death.dead();
            if let Some(life) = death.life.map(|life| Life { direction, ..life }) {
                dead.remnant = life.remnant();
                dead.may_face_whole = life.may_face_whole();
            }
            self.flows.bury(flow, death.end.socket, death.over_ns, dead, self.now);
        }
        death.peer = peer;
        let is_replaced = death.end.evidence == Some(EndEvidence::Replaced);
        if death.end.destroyed.is_none() && self.listens && !is_replaced {
            self.hold(
                death.cookie,
                Held {
                    socket: death.end.socket,
                    generation: death.generation,
                    flow: death.flow,
                    peer,
                    life: death.life,
                    gone: Some(death.gone()),
                },
            );
        }
        self.death_of.insert(death.end.socket, self.deaths.len());
        self.deaths.push(death);
    }

    /// Whether a TIME-WAIT with the addresses and ports of one that was active at this moment may be left of another,
    /// of those that have had them before or since, or of whom had told before events were listened for.
    fn may_be_of_others(&self, flow: &Flow, active_ns: Option<Nanos>) -> bool {
        let tells_both = self.records_both_ends && self.listens && self.is_all_told;
        let may_have_told = active_ns.is_some_and(|ns| ns < self.half_told.since_ns());
        let were_used_again = || self.flows.were_used_again(flow, active_ns);
        tells_both && flow.is_within_host() && (may_have_told || were_used_again())
    }

    /// Whether it is to be asked for subflows of MPTCP; says so once.
    pub(super) fn wants_to_know_of_subflows(&mut self) -> bool {
        !self.has_subflows && !std::mem::replace(&mut self.has_asked_for_subflows, true)
    }

    /// It has come to be known who opened a connection.
    pub(super) fn direct(&mut self, flow: Flow, socket: SocketId, origin: Origin) {
        self.directed.push((flow, socket, origin));
    }

    /// What an event tells of what went over its connection.
    pub(super) fn traffic_of(&self, words: &LastWords) -> Option<Traffic> {
        let (traffic, flow) = (words.traffic()?, words.flow()?);
        let direction = self.direction_by_listeners(&flow, Some(words.destroyed.begun_by_ns()));
        let origin = words.said.and_then(|said| said.origin());
        let direction = direction.or(origin.map(Origin::direction));
        Some(Traffic { direction, ..traffic })
    }

    /// Whether the final counters tell that a connection was reset, or aborted.
    pub(super) fn was_reset(&self, flow: &Flow, words: &LastWords) -> bool {
        let direction = self.direction_by_listeners(flow, Some(words.destroyed.begun_by_ns()));
        let (last_words, left) = (words.said, words.rest);
        let life = Life { direction, last_words, left, ..Life::default() };
        life.remnant() == Remnant::None
    }

    /// Who opened a connection, if a listener is at one of its ends only.
    pub(super) fn direction_by_listeners(
        &self,
        flow: &Flow,
        begun_by_ns: Option<Nanos>,
    ) -> Option<Direction> {
        self.origin_by_listeners(flow, begun_by_ns).map(Origin::direction)
    }

    fn origin_by_listeners(&self, flow: &Flow, begun_by_ns: Option<Nanos>) -> Option<Origin> {
        let told_at = |flow: &Flow| {
            let listeners = &self.listeners;
            (listeners.accepted(flow, begun_by_ns), listeners.may_have_accepted(flow))
        };
        let (is_inbound, may_be_inbound) = told_at(flow);
        let (is_outbound, may_be_outbound) = match flow.is_within_host() {
            true => told_at(&flow.reversed()),
            false => (false, false),
        };
        match (is_inbound, is_outbound) {
            (true, false) if !may_be_outbound => Some(Origin::Listener),
            (false, true) if !may_be_inbound => Some(Origin::RemoteListener),
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

    /// The generation of what is seen anew under this cookie. If that was of another connection before,
    /// the socket went on as this one, and its destroy event will be of this one.
    pub(super) fn generation_of(&mut self, cookie: u64, flow: Option<&Flow>) -> u32 {
        let Some(held) = self.held.remove(&cookie) else { return 0 };
        held.generation + u32::from(held.flow.as_ref() != flow)
    }

    /// The socket of this cookie, if its destroy event was read.
    pub(super) fn gone(&self, cookie: u64) -> Option<Gone> {
        self.gone.get(&cookie).copied()
    }

    fn held_as(&self, cookie: u64, flow: Option<&Flow>) -> Option<&Held> {
        self.held.get(&cookie).filter(|held| held.flow.as_ref() == flow)
    }

    /// Whether no other socket had the same addresses and ports since.
    pub(super) fn is_latest(&self, flow: Option<&Flow>, socket: SocketId) -> bool {
        let latest = flow.and_then(|flow| self.flows.get(flow));
        latest.is_some_and(|latest| latest.socket == socket)
    }

    pub(super) fn birth_of(&mut self, socket: SocketId) -> Option<&mut NewSocket> {
        let first = self.births.first()?.id.0;
        let most = usize::try_from(socket.0 - first).ok()?;
        // Where there are several namespaces, numbers between these are of others.
        let index = match self.births.get(most) {
            Some(birth) if birth.id == socket => most,
            _ => self.births.binary_search_by_key(&socket, |birth| birth.id).ok()?,
        };
        self.births.get_mut(index)
    }
}

impl Death {
    /// Its event was read.
    fn hear(&mut self, words: &LastWords, traffic: Option<Traffic>) {
        self.end.destroyed = Some(words.destroyed);
        self.traffic = traffic;
        self.active_ns = Some(words.active_ns);
        self.last_received = words.last_received;
        if let Some(counters) = words.counters {
            (self.end.counters, self.end.has_final_counters) = (counters, true);
        }
        if let Some(life) = &mut self.life {
            life.last_words = words.said;
            life.left = words.left;
        }
    }

    /// It had begun by this moment of `CLOCK_MONOTONIC`, for sure.
    pub(super) fn begun_by_ns(&self) -> Option<Nanos> {
        self.end.destroyed.map(|destroyed| destroyed.begun_by_ns()).or(self.open_by_ns)
    }

    fn gone(&self) -> Gone {
        let SocketEnd { socket, state, last_sample, samples, .. } = self.end;
        let count = u32::try_from(samples).unwrap_or(u32::MAX);
        Gone { socket, generation: self.generation, state, rows: Rows { last: last_sample, count } }
    }

    pub(super) fn dead(&self) -> Dead {
        Dead {
            ending: None,
            origin: self.origin,
            destroyed_ns: self.end.destroyed.map(|d| d.at.monotonic_ns),
            active_ns: self.active_ns,
            last_received: self.last_received,
            traffic: self.traffic,
            is_unseen: self.is_unseen,
            remnant: self.life.map_or(Remnant::None, |life| life.remnant()),
            has_left: false,
            is_stalled: self.life.is_some_and(|life| life.was_stalled()),
            may_face_whole: self.life.is_some_and(|life| life.may_face_whole()),
        }
    }
}

fn flow_of(socket: &NewSocket) -> Option<Flow> {
    let is_known = socket.told != TupleTold::Half;
    Flow::new(socket.protocol, &socket.tuple).filter(|_| is_known)
}
