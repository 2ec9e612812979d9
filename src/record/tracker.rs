//! What became of each socket from one dump to the next.
//!
//! Pure bookkeeping without clock, kernel or disk: it is told what the dumps show and says what
//! is to be written. An unchanged socket costs one hash of its message and one look-up.

use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::batch::Batch;
use crate::kernel::DumpEnd;
use crate::model::{
    ActivityTimes, EndEvidence, Exception, ExceptionKind, FinalCounters, FormerSocket, GroupId,
    HeldSample, NewSocket, Protocol, Scope, ScopeId, SnapshotId, SocketEnd, SocketId, SocketKey,
    SocketUpdate, StateChange, TcpState,
};
use crate::store::Start;
use crate::wire::inet_diag::{Message, take_relative_times};

/// The kernel's relative times are rounded to jiffies, and a message is stamped when its datagram
/// is read: the same moment comes out so much differently from dump to dump (measured: 16 ms).
const TIME_TOLERANCE_MS: i64 = 50;
/// A group is closed when its rows come to so many times the live sockets …
const KEYFRAME_ROWS_PER_SOCKET: u64 = 12;
/// … but not for fewer rows than that, which any reader walks in no time …
const KEYFRAME_ROWS_MIN: u64 = 4_096;
/// … and after an hour in any case.
const KEYFRAME_MAX_AGE_NS: i64 = 3_600_000_000_000;

/// A socket that was there in the last dump that could have shown it.
struct Live {
    socket: SocketId,
    scope: usize,
    generation: u32,
    state: TcpState,
    /// Hash of the last message without its relative times.
    hash: u64,
    times: ActivityTimes,
    /// The last message without its relative times.
    message: Box<[u8]>,
    known: SocketUpdate,
    /// The counters of the full socket that a mini-socket once was.
    carried: Option<Box<FinalCounters>>,
    last_seen: SnapshotId,
    last_row: SnapshotId,
    row_before: Option<SnapshotId>,
    rows: u32,
    is_missing: bool,
    /// The snapshot that first showed it closed.
    closed_in: Option<SnapshotId>,
}

/// A scope and how its dumps went.
struct TrackedScope {
    id: ScopeId,
    scope: Scope,
    is_supported: bool,
    /// The last dump that would have shown every socket of the scope's family and protocol, and of
    /// which every socket is stored.
    last_without_others: Option<SnapshotId>,
    /// Complete dumps in this capture.
    complete_dumps: u64,
    is_complete: bool,
    live: u64,
    seen: u64,
    unreadable: u64,
    not_stored: u64,
}

/// The live sockets of a capture.
pub(super) struct Tracker {
    scopes: Vec<TrackedScope>,
    live: HashMap<SocketKey, Live>,
    /// Left open by earlier captures, and not seen in this one yet.
    formers: HashMap<SocketKey, FormerSocket>,
    hasher: DefaultHashBuilder,
    next_socket: SocketId,
    next_group: GroupId,
    max_new_sockets: u64,
    tick: Tick,
    not_stored: u64,
    rows_in_group: u64,
    keyframe_at_ns: Option<i64>,
}

/// The tick that is being taken.
#[derive(Clone, Copy)]
struct Tick {
    snapshot: SnapshotId,
    group: GroupId,
    is_keyframe: bool,
    new_sockets: u64,
    seen: u64,
}

impl Tracker {
    /// Of each scope the last snapshot of an earlier capture that showed all of it; of the sockets
    /// those that earlier captures left open.
    pub(super) fn new(
        start: &Start,
        scopes: Vec<(ScopeId, Scope, Option<SnapshotId>)>,
        formers: Vec<FormerSocket>,
        max_new_sockets: u64,
    ) -> Self {
        let netns = start.netns;
        let key = |former: &FormerSocket| SocketKey {
            netns,
            cookie: former.cookie,
            tuple: (former.protocol == Protocol::Mptcp).then(|| Box::new(former.tuple)),
        };
        Self {
            formers: formers.into_iter().map(|former| (key(&former), former)).collect(),
            scopes: scopes
                .into_iter()
                .map(|(id, scope, last_full_view)| TrackedScope {
                    id,
                    scope,
                    is_supported: true,
                    last_without_others: last_full_view,
                    complete_dumps: 0,
                    is_complete: false,
                    live: 0,
                    seen: 0,
                    unreadable: 0,
                    not_stored: 0,
                })
                .collect(),
            live: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            next_socket: start.next_socket,
            next_group: start.next_group,
            max_new_sockets,
            tick: Tick {
                snapshot: start.next_snapshot,
                group: start.next_group,
                is_keyframe: false,
                new_sockets: 0,
                seen: 0,
            },
            not_stored: 0,
            rows_in_group: 0,
            keyframe_at_ns: None,
        }
    }

    /// Sockets that are held to be there.
    pub(super) fn live_sockets(&self) -> u64 {
        self.live.len() as u64
    }

    /// New sockets that were counted but not stored, once for each snapshot that showed them.
    pub(super) fn not_stored(&self) -> u64 {
        self.not_stored
    }

    /// The scopes that are still to be asked.
    pub(super) fn scopes(&self) -> impl Iterator<Item = (usize, &Scope)> {
        self.scopes.iter().enumerate().filter(|(_, s)| s.is_supported).map(|(i, s)| (i, &s.scope))
    }

    /// Begins a snapshot; says its group and whether it is a keyframe.
    pub(super) fn begin_tick(&mut self, snapshot: SnapshotId, now_ns: i64) -> (GroupId, bool) {
        let rows_enough = (self.live_sockets() * KEYFRAME_ROWS_PER_SOCKET).max(KEYFRAME_ROWS_MIN);
        let is_keyframe = self.rows_in_group >= rows_enough
            || self.keyframe_at_ns.is_none_or(|at| now_ns - at >= KEYFRAME_MAX_AGE_NS);
        if is_keyframe {
            self.keyframe_at_ns = Some(now_ns);
            self.rows_in_group = 0;
            self.tick.group = self.next_group;
            self.next_group = self.next_group.next();
        }
        self.tick = Tick { snapshot, group: self.tick.group, is_keyframe, new_sockets: 0, seen: 0 };
        for scope in &mut self.scopes {
            (scope.seen, scope.unreadable, scope.not_stored) = (0, 0, 0);
            scope.is_complete = false;
        }
        (self.tick.group, is_keyframe)
    }

    /// Takes one message of a scope's dump, which it changes.
    pub(super) fn observe(
        &mut self,
        scope_index: usize,
        payload: &mut [u8],
        read_at_ms: i64,
        out: &mut Batch,
    ) {
        let scope = &mut self.scopes[scope_index];
        let protocol = scope.scope.protocol;
        let times = take_relative_times(payload, protocol).absolute(read_at_ms);
        let Ok(message) = Message::parse(payload) else {
            scope.unreadable += 1;
            return;
        };
        let hash = self.hasher.hash_one(&*payload);
        let key = SocketKey {
            netns: scope.scope.netns,
            cookie: message.cookie(),
            tuple: (protocol == Protocol::Mptcp).then(|| Box::new(message.tuple())),
        };
        let tick = &mut self.tick;

        let mut slot = match self.live.entry(key) {
            Entry::Occupied(slot) => slot,
            Entry::Vacant(slot) => {
                if scope.complete_dumps > 0 && tick.new_sockets >= self.max_new_sockets {
                    scope.not_stored += 1;
                    return;
                }
                tick.new_sockets += 1;
                tick.seen += 1;
                scope.seen += 1;
                scope.live += 1;
                self.rows_in_group += 1;
                let mut live =
                    Live::new(self.next_socket, scope_index, 0, payload, hash, times, tick);
                match self.formers.remove(slot.key()) {
                    Some(former) if is_same(&former, &message) => {
                        live.go_on(former, &message, tick.snapshot, protocol, out);
                        slot.insert(live);
                        return;
                    }
                    Some(former) => {
                        live.generation = former.generation + 1;
                        let evidence = EndEvidence::Replaced;
                        out.ends.push(end_of(&former, Some(tick.snapshot), evidence));
                    }
                    None => {}
                }
                self.next_socket = self.next_socket.next();
                slot.insert(live).announce(&message, scope, tick.snapshot, out);
                return;
            }
        };
        let live = slot.get_mut();
        if live.is_dying(&message, protocol, tick.snapshot) {
            return;
        }
        let is_first_sight = live.last_seen != tick.snapshot;
        if is_first_sight {
            tick.seen += 1;
            scope.seen += 1;
        }
        live.is_missing = false;

        if live.hash == hash && is_same_moment(&live.times, &times) {
            live.last_seen = tick.snapshot;
            if tick.is_keyframe && is_first_sight {
                live.write_row(tick.snapshot, out, protocol);
                self.rows_in_group += 1;
            }
            return;
        }
        if live.scope == scope_index && live.has_endpoints_of(&message) {
            live.change(&message, payload, hash, times, tick.snapshot, protocol, out);
        } else {
            // The socket is another connection now: the former one is over. IPV6_ADDRFORM makes it
            // one of another family too.
            let former_scope = live.scope;
            out.ends.push(live.end(Some(tick.snapshot), EndEvidence::Replaced, protocol));
            let generation = live.generation + 1;
            let next =
                Live::new(self.next_socket, scope_index, generation, payload, hash, times, tick);
            self.next_socket = self.next_socket.next();
            *live = next;
            live.announce(&message, scope, tick.snapshot, out);
            self.scopes[former_scope].live -= 1;
            self.scopes[scope_index].live += 1;
        }
        self.rows_in_group += 1;
    }

    /// Takes the end of a scope's dump; true if the kernel never had it, and it is given up.
    pub(super) fn end_dump(&mut self, scope_index: usize, end: DumpEnd, out: &mut Batch) -> bool {
        let scope = &mut self.scopes[scope_index];
        let exception = Exception {
            snapshot: self.tick.snapshot,
            kind: ExceptionKind::DumpFailed,
            scope: Some(scope.id),
            errno: None,
            count: None,
            message: None,
        };
        let counted = |kind, count| Exception { kind, count: Some(count), ..exception.clone() };
        if scope.unreadable > 0 {
            out.exceptions.push(counted(ExceptionKind::MessagesUnreadable, scope.unreadable));
        }
        self.not_stored += scope.not_stored;
        if scope.not_stored > 0 {
            out.exceptions.push(counted(ExceptionKind::SocketsNotStored, scope.not_stored));
        }
        match end {
            // What could not be read might have been any of the sockets.
            DumpEnd::Complete => scope.is_complete = scope.unreadable == 0,
            DumpEnd::Interrupted => {
                let kind = ExceptionKind::DumpInterrupted;
                out.exceptions.push(Exception { kind, ..exception });
            }
            // What worked before has failed now, whatever the kernel calls it: ask again.
            DumpEnd::Unsupported if scope.complete_dumps > 0 => {
                let message = Some("the kernel no longer has it".to_owned());
                out.exceptions.push(Exception { message, ..exception });
            }
            DumpEnd::Unsupported => {
                scope.is_supported = false;
                let kind = ExceptionKind::DumpUnsupported;
                out.exceptions.push(Exception { kind, ..exception });
            }
            DumpEnd::Failed { errno, message } => {
                out.exceptions.push(Exception { errno, message: Some(message), ..exception });
            }
        }
        !scope.is_supported
    }

    /// Ends the snapshot: finds what the complete dumps lacked, and completes a keyframe. `flush`
    /// takes batches that have grown full. Gives the number of sockets seen.
    pub(super) fn end_tick(&mut self, out: &mut Batch, mut flush: impl FnMut(&mut Batch)) -> u64 {
        let Self { scopes, live, tick, rows_in_group, .. } = self;
        let all_seen = scopes.iter().all(|s| s.seen == s.live);
        if !all_seen {
            live.retain(|_, live| {
                if live.last_seen == tick.snapshot {
                    return true;
                }
                if out.is_full() {
                    flush(out);
                }
                let scope = &mut scopes[live.scope];
                if scope.is_complete && live.is_missing {
                    let (closed_before, evidence) = if scope.scope.states.proves_absence() {
                        (Some(tick.snapshot), EndEvidence::Absence)
                    } else {
                        (None, EndEvidence::LeftScope)
                    };
                    out.ends.push(live.end(closed_before, evidence, scope.scope.protocol));
                    scope.live -= 1;
                    return false;
                }
                if scope.is_complete {
                    live.is_missing = true;
                    out.missing.push(live.socket);
                }
                if tick.is_keyframe {
                    let (snapshot, socket) = (tick.snapshot, live.socket);
                    out.held.push(HeldSample { snapshot, socket, observed: live.last_seen });
                    live.write_row(tick.snapshot, out, scope.scope.protocol);
                    *rows_in_group += 1;
                }
                true
            });
        }
        for scope in scopes.iter_mut().filter(|s| s.is_complete) {
            scope.complete_dumps += 1;
            if scope.not_stored == 0 && scope.scope.states.proves_absence() {
                scope.last_without_others = Some(tick.snapshot);
            }
        }
        let seen = tick.seen;
        self.end_formers(out, flush);
        seen
    }

    /// What earlier captures left open and two complete dumps of this one lacked is gone. Where not
    /// every state is asked for it stays open: it may be in another.
    fn end_formers(&mut self, out: &mut Batch, mut flush: impl FnMut(&mut Batch)) {
        let snapshot = self.tick.snapshot;
        for scope in self.scopes.iter().filter(|s| s.is_complete && s.complete_dumps == 2) {
            let looked_at = &scope.scope;
            self.formers.retain(|_, former| {
                let is_of_scope =
                    former.family == looked_at.family && former.protocol == looked_at.protocol;
                if is_of_scope && looked_at.states.proves_absence() {
                    if out.is_full() {
                        flush(out);
                    }
                    out.ends.push(end_of(former, Some(snapshot), EndEvidence::Absence));
                }
                !is_of_scope
            });
        }
    }
}

fn is_same(former: &FormerSocket, message: &Message<'_>) -> bool {
    let tuple = message.tuple();
    (former.tuple.local, former.tuple.remote) == (tuple.local, tuple.remote)
}

fn end_of(
    former: &FormerSocket,
    closed_before: Option<SnapshotId>,
    evidence: EndEvidence,
) -> SocketEnd {
    SocketEnd {
        socket: former.id,
        last_snapshot: former.last_snapshot,
        closed_before,
        evidence,
        last_sample: former.last_sample,
        samples: former.samples,
        state: former.state,
        counters: former.counters,
    }
}

impl Live {
    fn new(
        socket: SocketId,
        scope: usize,
        generation: u32,
        payload: &[u8],
        hash: u64,
        times: ActivityTimes,
        tick: &Tick,
    ) -> Self {
        Self {
            socket,
            scope,
            generation,
            state: TcpState(0),
            hash,
            times,
            message: payload.into(),
            known: SocketUpdate::default(),
            carried: None,
            last_seen: tick.snapshot,
            last_row: tick.snapshot,
            row_before: None,
            rows: 0,
            is_missing: false,
            closed_in: None,
        }
    }

    /// Goes on as a socket of an earlier capture.
    fn go_on(
        &mut self,
        former: FormerSocket,
        message: &Message<'_>,
        snapshot: SnapshotId,
        protocol: Protocol,
        out: &mut Batch,
    ) {
        self.socket = former.id;
        self.generation = former.generation;
        self.state = former.state;
        self.known = former.known;
        self.last_row = former.last_sample;
        self.rows = u32::try_from(former.samples).unwrap_or(u32::MAX);
        if message.is_mini() {
            self.carried = Some(Box::new(former.counters));
        }
        self.note_changes(message, snapshot, out);
        self.write_row(snapshot, out, protocol);
    }

    /// Notes a change of state, and what has come to be known of the owner.
    fn note_changes(&mut self, message: &Message<'_>, snapshot: SnapshotId, out: &mut Batch) {
        let state = message.state();
        if state != self.state {
            let (socket, from) = (self.socket, self.state);
            out.state_changes.push(StateChange { snapshot, socket, from, to: state });
            self.state = state;
        }
        if self.known.learn(message.owner()) {
            out.updates.push((self.socket, self.known));
        }
    }

    /// Whether this is a socket on its way out, caught between two steps of the kernel: closed, its
    /// tuple half wiped and its counters reset (measured while connections were aborted). It tells
    /// nothing. One that is still closed in another dump is meant so: bound again, or disconnected.
    fn is_dying(
        &mut self,
        message: &Message<'_>,
        protocol: Protocol,
        snapshot: SnapshotId,
    ) -> bool {
        let has_states = matches!(protocol, Protocol::Tcp | Protocol::Mptcp);
        let is_closed = has_states && message.state() == TcpState::CLOSE;
        if !is_closed || self.state == TcpState::CLOSE {
            self.closed_in = None;
            return false;
        }
        *self.closed_in.get_or_insert(snapshot) == snapshot
    }

    fn has_endpoints_of(&self, message: &Message<'_>) -> bool {
        Message::parse(&self.message)
            .is_ok_and(|before| before.endpoint_bytes() == message.endpoint_bytes())
    }

    /// Adds the socket and its first sample.
    fn announce(
        &mut self,
        message: &Message<'_>,
        scope: &TrackedScope,
        snapshot: SnapshotId,
        out: &mut Batch,
    ) {
        self.state = message.state();
        self.known = message.owner();
        self.rows = 1;
        out.sockets.push(NewSocket {
            id: self.socket,
            netns: scope.scope.netns,
            cookie: message.cookie(),
            generation: self.generation,
            family: message.family(),
            protocol: scope.scope.protocol,
            tuple: message.tuple(),
            owner: self.known,
            first_snapshot: snapshot,
            opened_after: scope.last_without_others,
        });
        out.add_sample(&self.message, self.socket, None, scope.scope.protocol, self.times);
    }

    #[allow(clippy::too_many_arguments, reason = "one call, each argument is another thing")]
    fn change(
        &mut self,
        message: &Message<'_>,
        payload: &[u8],
        hash: u64,
        times: ActivityTimes,
        snapshot: SnapshotId,
        protocol: Protocol,
        out: &mut Batch,
    ) {
        if !message.is_mini() {
            self.carried = None;
        } else if self.carried.is_none() {
            self.carried = Some(Box::new(self.counters(protocol)));
        }
        self.note_changes(message, snapshot, out);
        self.hash = hash;
        self.times = times;
        self.last_seen = snapshot;
        if self.message.len() == payload.len() {
            self.message.copy_from_slice(payload);
        } else {
            self.message = payload.into();
        }
        self.write_row(snapshot, out, protocol);
    }

    /// Adds a row with the last message; a second one in a snapshot replaces the first.
    fn write_row(&mut self, snapshot: SnapshotId, out: &mut Batch, protocol: Protocol) {
        if self.last_row != snapshot {
            self.row_before = Some(self.last_row);
            self.last_row = snapshot;
            self.rows += 1;
        }
        out.add_sample(&self.message, self.socket, self.row_before, protocol, self.times);
    }

    fn counters(&self, protocol: Protocol) -> FinalCounters {
        Message::parse(&self.message)
            .map(|message| FinalCounters::of(&message.observe(protocol)))
            .unwrap_or_default()
    }

    fn end(
        &self,
        closed_before: Option<SnapshotId>,
        evidence: EndEvidence,
        protocol: Protocol,
    ) -> SocketEnd {
        SocketEnd {
            socket: self.socket,
            last_snapshot: self.last_seen,
            closed_before,
            evidence,
            last_sample: self.last_row,
            samples: u64::from(self.rows),
            state: self.state,
            counters: match &self.carried {
                Some(counters) => **counters,
                None => self.counters(protocol),
            },
        }
    }
}

fn is_same_moment(a: &ActivityTimes, b: &ActivityTimes) -> bool {
    let close = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= TIME_TOLERANCE_MS,
        (a, b) => a == b,
    };
    close(a.timer_expires_at_ms, b.timer_expires_at_ms)
        && close(a.last_data_sent_at_ms, b.last_data_sent_at_ms)
        && close(a.last_data_recv_at_ms, b.last_data_recv_at_ms)
        && close(a.last_ack_recv_at_ms, b.last_ack_recv_at_ms)
}
