//! What became of each socket from one dump to the next.
//!
//! Pure bookkeeping without clock, kernel or disk: it is told what the dumps and the destroy events
//! show and says what is to be written. An unchanged socket costs one hash of its message and one
//! look-up.

mod destroy_events;
mod lives;
mod namespaces;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::batch::Batch;
use super::chosen::{Chosen, proves_absence};
use super::flows::SAME_MOMENT_NS;
use super::live::{Live, Sighting};
use super::register::LeftOf;
use crate::filter::Told;
use crate::kernel::DumpEnd;
use crate::model::{
    Clocks, EndEvidence, EventCounts, Exception, ExceptionKind, FormerSocket, FreedSocket, GroupId,
    HeldSample, MadeAt, Nanos, Place, Protocol, Scope, ScopeId, SnapshotId, SocketId, SocketKey,
    TcpState, UndestroyedSocket,
};
use crate::store::Start;
use crate::wire::inet_diag::{Message, take_relative_times};
use lives::{
    announce, begin_remains, death_of_former, end_former, end_life, end_live, is_same, left_of,
    note_listener,
};
use namespaces::Namespace;

/// A group is closed when its rows come to so many times the live sockets …
const KEYFRAME_ROWS_PER_SOCKET: u64 = 12;
/// … but not for fewer rows than that, which any reader walks in no time …
const KEYFRAME_ROWS_MIN: u64 = 4_096;
/// … and after an hour in any case …
const KEYFRAME_MAX_AGE_NS: i64 = 3_600_000_000_000;
/// … or so many snapshots: a group is dropped in one step.
const KEYFRAME_SNAPSHOTS_MAX: i64 = 4_096;

/// What was reset and is held is told of late, and had begun after one of so many full views before.
const FULL_VIEWS_KEPT: usize = 256;

/// A dump that would have shown every socket of its scope's family and protocol, and of which every
/// socket is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FullView {
    pub(super) snapshot: SnapshotId,
    /// When the snapshot ended on `CLOCK_MONOTONIC`.
    pub(super) ended_ns: Nanos,
}

/// A scope and how its dumps went.
struct TrackedScope {
    id: ScopeId,
    /// Index of its namespace.
    of: usize,
    scope: Scope,
    /// Whether a connection that a complete dump lacks is not there, or over.
    proves_absence: bool,
    is_supported: bool,
    /// The last ones, the latest last.
    full_views: VecDeque<FullView>,
    /// Complete dumps in this capture.
    complete_dumps: u64,
    is_complete: bool,
    live: u64,
    seen: u64,
    unreadable: u64,
    not_stored: u64,
    events_not_stored: u64,
}

impl TrackedScope {
    fn new(
        id: ScopeId,
        scope: Scope,
        of: usize,
        chosen: Option<&Chosen>,
        last_full_view: Option<FullView>,
    ) -> Self {
        Self {
            id,
            of,
            proves_absence: proves_absence(&scope, chosen),
            scope,
            is_supported: true,
            full_views: last_full_view.into_iter().collect(),
            complete_dumps: 0,
            is_complete: false,
            live: 0,
            seen: 0,
            unreadable: 0,
            not_stored: 0,
            events_not_stored: 0,
        }
    }

    /// It is not asked any more.
    fn leave(&mut self) {
        (self.is_supported, self.is_complete) = (false, false);
        (self.live, self.seen) = (0, 0);
        self.full_views = VecDeque::new();
    }

    fn last_full_view(&self) -> Option<SnapshotId> {
        self.full_views.back().map(|view| view.snapshot)
    }

    /// The last full view before this snapshot.
    fn last_full_view_before(&self, snapshot: SnapshotId) -> Option<SnapshotId> {
        self.full_views.iter().rev().map(|view| view.snapshot).find(|&view| view < snapshot)
    }

    /// The last full view that had ended by this moment of `CLOCK_MONOTONIC`: what was there then and
    /// is not in it came later. What went while a dump was made may have been there when it began.
    fn full_view_before(&self, monotonic_ns: Nanos) -> Option<SnapshotId> {
        let mut views = self.full_views.iter().rev();
        views.find(|view| view.ended_ns <= monotonic_ns).map(|view| view.snapshot)
    }
}

/// What earlier captures of this boot left open in the namespaces that are recorded.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Sockets that were there to the end.
    pub(super) formers: Vec<FormerSocket>,
    /// Sockets whose connection was over and whose destroy event had not come.
    pub(super) undestroyed: Vec<UndestroyedSocket>,
    /// TCP sockets that were freed lately: what is left of them may still be there.
    pub(super) freed: Vec<FreedSocket>,
}

/// The live sockets of a capture.
pub(super) struct Tracker {
    chosen: Option<Chosen>,
    namespaces: Vec<Namespace>,
    /// Those of each namespace together, in the order of the namespaces.
    scopes: Vec<TrackedScope>,
    /// Dumps of a namespace.
    dumps: usize,
    /// Namespaces that have left and whose sockets are still open here.
    left: Vec<Place>,
    /// Of namespaces that have not come yet.
    past: Past,
    /// Destroy events of this tick; `None` where they are not listened for.
    events: Option<EventCounts>,
    live: HashMap<SocketKey, Live>,
    /// Seen for the first time as if on their way out, or left of what is still to be told; by their
    /// cookies.
    undecided: HashMap<u64, Undecided>,
    /// Cookies of sockets that are closed and held, of which the TIME-WAIT is what was recorded, with the
    /// snapshot that showed them last.
    held_closed: HashMap<u64, SnapshotId>,
    /// Left open by earlier captures, and not seen in this one yet.
    formers: HashMap<SocketKey, FormerSocket>,
    /// Whether dumps show TCP sockets that are bound and no more.
    shows_bound_sockets: bool,
    /// What was sent before this moment of `CLOCK_MONOTONIC` has been taken.
    events_read_until_ns: Option<Nanos>,
    hasher: DefaultHashBuilder,
    capture_started: Clocks,
    next_socket: SocketId,
    next_group: GroupId,
    max_new_sockets: u64,
    tick: Tick,
    not_stored: u64,
    events_lost: u64,
    rows_in_group: u64,
    keyframe_at_ns: Option<i64>,
    keyframe: SnapshotId,
    takes_events_as_found: bool,
}

/// What no dump showed before and waits for the next one: a socket closed and half wiped is so if that
/// shows it too, and whose a TIME-WAIT is the events that were read by then tell. One that is closed and
/// held may have left a TIME-WAIT, which comes later in the same dump.
#[derive(Clone, Copy)]
struct Undecided {
    seen: SnapshotId,
    opened_after: Option<SnapshotId>,
}

/// The tick that is being taken.
#[derive(Clone, Copy)]
struct Tick {
    snapshot: SnapshotId,
    started: Clocks,
    group: GroupId,
    is_keyframe: bool,
    new_sockets: u64,
    /// Sockets that only their destroy event told of.
    unseen: u64,
    /// When the tick before began, on `CLOCK_MONOTONIC`.
    last_started_ns: Nanos,
    seen: u64,
}

impl Tracker {
    /// Of each scope the last full view of an earlier capture; of the sockets those that earlier
    /// captures left open.
    pub(super) fn new(
        start: &Start,
        capture_started: Clocks,
        scopes: Vec<(ScopeId, Scope, Option<FullView>)>,
        past: Past,
        max_new_sockets: u64,
    ) -> Self {
        let mut past = past;
        let key = |former: &FormerSocket| SocketKey {
            netns: former.netns,
            cookie: former.cookie,
            tuple: (former.protocol == Protocol::Mptcp).then(|| Box::new(former.tuple)),
        };
        let formers = std::mem::take(&mut past.formers);
        let mut tracker = Self {
            chosen: None,
            formers: formers.into_iter().map(|former| (key(&former), former)).collect(),
            namespaces: Vec::new(),
            scopes: Vec::new(),
            dumps: scopes.len(),
            left: Vec::new(),
            past,
            events: None,
            live: HashMap::new(),
            undecided: HashMap::new(),
            held_closed: HashMap::new(),
            shows_bound_sockets: false,
            events_read_until_ns: None,
            hasher: DefaultHashBuilder::default(),
            capture_started,
            next_socket: start.next_socket,
            next_group: start.next_group,
            max_new_sockets,
            tick: Tick {
                snapshot: start.next_snapshot,
                started: capture_started,
                group: start.next_group,
                is_keyframe: false,
                new_sockets: 0,
                unseen: 0,
                last_started_ns: capture_started.monotonic_ns,
                seen: 0,
            },
            not_stored: 0,
            events_lost: 0,
            rows_in_group: 0,
            keyframe_at_ns: None,
            keyframe: start.next_snapshot,
            takes_events_as_found: false,
        };
        tracker.arrive(Place::FIRST, start.netns, scopes);
        tracker
    }

    /// Stores no more new sockets a tick than that from now on.
    pub(super) fn limit_new_sockets(&mut self, max: u64) {
        self.max_new_sockets = max;
    }

    /// Takes only the sockets that the filter holds for.
    pub(super) fn choose(&mut self, chosen: Chosen) {
        for scope in &mut self.scopes {
            scope.proves_absence = proves_absence(&scope.scope, Some(&chosen));
        }
        self.chosen = Some(chosen);
    }

    /// The dumps of this kernel show TCP sockets that are bound and no more.
    pub(super) fn rely_on_bound_sockets(&mut self) {
        self.shows_bound_sockets = true;
    }

    /// From now on destroy events are read.
    pub(super) fn listen_to_events(&mut self) {
        self.events = Some(EventCounts::default());
        for namespace in &mut self.namespaces {
            namespace.register.listens = true;
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

    /// Spans in which destroy events were lost.
    pub(super) fn event_losses(&self) -> u64 {
        self.events_lost
    }

    /// Destroy events of this tick, `None` where they are not listened for.
    pub(super) fn event_counts(&self) -> Option<EventCounts> {
        self.events
    }

    /// Events are not all told, but those that are stand for themselves, whatever is asked for.
    pub(super) fn take_events_as_found(&mut self) {
        for namespace in &mut self.namespaces {
            namespace.register.is_all_told = false;
        }
        self.takes_events_as_found = true;
    }

    /// Begins a snapshot; says its group and whether it is a keyframe, which may be asked for.
    pub(super) fn begin_tick(
        &mut self,
        snapshot: SnapshotId,
        now: Clocks,
        wants_keyframe: bool,
    ) -> (GroupId, bool) {
        let now_ns = now.monotonic_ns;
        let rows_enough = (self.live_sockets() * KEYFRAME_ROWS_PER_SOCKET).max(KEYFRAME_ROWS_MIN);
        let is_keyframe = wants_keyframe
            || self.rows_in_group >= rows_enough
            || snapshot.0 - self.keyframe.0 >= KEYFRAME_SNAPSHOTS_MAX
            || self.keyframe_at_ns.is_none_or(|at| now_ns - at >= KEYFRAME_MAX_AGE_NS);
        if is_keyframe {
            self.keyframe_at_ns = Some(now_ns);
            self.keyframe = snapshot;
            self.rows_in_group = 0;
            self.tick.group = self.next_group;
            self.next_group = self.next_group.next();
        }
        self.tick = Tick {
            snapshot,
            started: now,
            group: self.tick.group,
            is_keyframe,
            new_sockets: 0,
            unseen: 0,
            last_started_ns: self.tick.started.monotonic_ns,
            seen: 0,
        };
        if let Some(events) = &mut self.events {
            *events = EventCounts::default();
        }
        for namespace in &mut self.namespaces {
            namespace.register.now = snapshot;
        }
        for scope in &mut self.scopes {
            (scope.seen, scope.unreadable, scope.not_stored) = (0, 0, 0);
            scope.events_not_stored = 0;
            scope.is_complete = false;
        }
        (self.tick.group, is_keyframe)
    }

    /// Takes one message of a scope's dump, which it changes.
    pub(super) fn observe(
        &mut self,
        scope_index: usize,
        payload: &mut [u8],
        made_at: MadeAt,
        out: &mut Batch,
    ) {
        let scope = &mut self.scopes[scope_index];
        let protocol = scope.scope.protocol;
        let ago = take_relative_times(payload, protocol);
        let Ok(message) = Message::parse(payload) else {
            scope.unreadable += 1;
            return;
        };
        if self.chosen.as_ref().is_some_and(|chosen| chosen.leaves_out(&message)) {
            return;
        }
        let of = scope.of;
        self.namespaces[of].register.now_ns = made_at.by_ms * 1_000_000;
        let tick = &mut self.tick;
        let seen = Sighting {
            message,
            payload,
            hash: self.hasher.hash_one(&*payload),
            times: ago.absolute(made_at.by_ms),
            ago,
            protocol,
            snapshot: tick.snapshot,
            tick_started_ns: tick.started.monotonic_ns,
            made_at,
        };
        let key = SocketKey {
            netns: scope.scope.netns,
            cookie: message.cookie(),
            tuple: (protocol == Protocol::Mptcp).then(|| Box::new(message.tuple())),
        };

        let mut slot = match self.live.entry(key) {
            Entry::Occupied(slot) => slot,
            Entry::Vacant(slot) => {
                let key = slot.into_key();
                match self.request_of(of, &key, &seen) {
                    Some(request) => self.rename(of, &request, &key, &seen, out),
                    None => return self.meet(scope_index, key, &seen, out),
                }
                let Entry::Occupied(slot) = self.live.entry(key) else { return };
                slot
            }
        };
        let (scope, tick) = (&mut self.scopes[scope_index], &mut self.tick);
        let register = &mut self.namespaces[of].register;
        let live = slot.get_mut();
        if live.is_dying(&seen) {
            return;
        }
        let is_first_sight = live.last_seen != tick.snapshot;
        if is_first_sight {
            tick.seen += 1;
            scope.seen += 1;
        }
        live.is_missing = false;

        if live.is_same_as(&seen) {
            live.last_seen = tick.snapshot;
            if tick.is_keyframe && is_first_sight {
                live.write_row(tick.snapshot, protocol, out);
                self.rows_in_group += 1;
            }
            return;
        }
        let is_alive_again = live.is_over && !seen.is_over();
        if live.scope == scope_index && live.has_endpoints_of(&message) && !is_alive_again {
            let was_in = live.state;
            let death = (seen.is_over() && !live.is_over)
                .then(|| live.death(Some(tick.snapshot), Some(seen.over_evidence()), protocol));
            live.change(&seen, out);
            if was_in != live.state {
                note_listener(register, live, &seen);
                if was_in == TcpState::LISTEN {
                    let place = (protocol, live.local_port());
                    register.listeners.close(live.socket, place, tick.snapshot, None);
                }
                if live.is_over && seen.is_time_wait() {
                    begin_remains(live, &seen, false, register, out);
                }
            }
            if let Some(death) = death {
                end_life(live, death, &seen, register, out);
            }
        } else {
            // The socket is another connection now: the former one is over. IPV6_ADDRFORM makes it
            // one of another family too.
            let former_scope = live.scope;
            let closed_in = live.closed_in;
            end_live(
                live,
                Some(tick.snapshot),
                Some(EndEvidence::Replaced),
                protocol,
                register,
                out,
            );
            let mut next = Live::new(self.next_socket, scope_index, live.generation + 1, &seen);
            self.next_socket = self.next_socket.next();
            let netns = scope.scope.netns;
            let opened_after = scope.last_full_view_before(closed_in.unwrap_or(tick.snapshot));
            announce(&mut next, &seen, netns, opened_after, register, out);
            *live = next;
            self.scopes[former_scope].live -= 1;
            self.scopes[scope_index].live += 1;
        }
        self.rows_in_group += 1;
    }

    /// Takes a socket that no dump of this capture has shown under this cookie.
    fn meet(&mut self, scope_index: usize, key: SocketKey, seen: &Sighting<'_>, out: &mut Batch) {
        let message = &seen.message;
        let of = self.scopes[scope_index].of;
        // Who has been seen before is told by the cookie alone.
        let former = self.formers.get(&key);
        let is_former = former.is_some_and(|former| is_same(former, &seen.message));
        let started_ns = self.tick.started.monotonic_ns;
        let told_ns = self.events_read_until_ns.unwrap_or(started_ns).min(started_ns);
        let register = &mut self.namespaces[of].register;
        let left_of = if is_former { LeftOf::Nobody } else { left_of(register, seen, told_ns) };
        let gone = if let LeftOf::Socket(gone) = left_of { Some(gone) } else { None };
        let is_ghost = gone.is_none() && register.gone(seen.message.cookie()).is_some();
        if is_ghost {
            return; // its destroy event has been read
        }
        let is_held = !is_former && seen.is_closed_and_held();
        if is_held && self.is_of_time_wait(of, seen) {
            return;
        }
        let waits = is_held || seen.is_torn_down() || matches!(left_of, LeftOf::NotToldYet);
        let Some(opened_after) = self.opened_after(scope_index, seen, waits) else { return };
        let (scope, tick) = (&mut self.scopes[scope_index], &mut self.tick);
        let register = &mut self.namespaces[of].register;
        if gone.is_none() && scope.complete_dumps > 0 && tick.new_sockets >= self.max_new_sockets {
            scope.not_stored += 1;
            return;
        }
        tick.new_sockets += u64::from(gone.is_none());
        tick.seen += 1;
        scope.seen += 1;
        scope.live += 1;
        self.rows_in_group += 1;
        let mut live = Live::new(self.next_socket, scope_index, 0, seen);
        if let Some(gone) = gone {
            live.remain(&gone, seen, out);
            let has_own_cookie = register.over(message.cookie()).is_none();
            register.missed(message.cookie(), out);
            begin_remains(&live, seen, has_own_cookie, register, out);
            self.live.insert(key, live);
            return;
        }
        match self.formers.remove(&key) {
            Some(former) if is_same(&former, message) => {
                live.resume(&former, seen, out);
                let flow = seen.flow().filter(|_| !live.is_over);
                let (cookie, open_by_ns) = (message.cookie(), seen.open_by_ns());
                register.resume(flow, live.socket, cookie, open_by_ns, out);
                note_listener(register, &live, seen);
                if seen.is_over() && !live.is_over {
                    let evidence = Some(seen.over_evidence());
                    let death = death_of_former(&former, Some(tick.snapshot), evidence);
                    end_life(&mut live, death, seen, register, out);
                } else if seen.is_time_wait() && former.state != TcpState::TIME_WAIT {
                    begin_remains(&live, seen, false, register, out);
                }
                self.live.insert(key, live);
                return;
            }
            Some(former) => {
                live.generation = former.generation + 1;
                end_former(&former, Some(tick.snapshot), EndEvidence::Replaced, register, out);
            }
            None => {
                let flow = seen.flow();
                live.generation = register.generation_of(message.cookie(), flow.as_ref());
            }
        }
        self.next_socket = self.next_socket.next();
        let netns = scope.scope.netns;
        announce(&mut live, seen, netns, opened_after, register, out);
        self.live.insert(key, live);
    }

    /// The full view that a new socket was not in, `None` while another dump is waited for.
    fn opened_after(
        &mut self,
        scope_index: usize,
        seen: &Sighting<'_>,
        waits: bool,
    ) -> Option<Option<SnapshotId>> {
        let scope = &self.scopes[scope_index];
        // One in TIME-WAIT may have been missed by a dump, but not before that began.
        let opened_after = if seen.is_time_wait() {
            scope.full_view_before(seen.open_by_ns())
        } else {
            scope.last_full_view()
        };
        if !waits {
            return Some(opened_after);
        }
        let first = Undecided { seen: seen.snapshot, opened_after };
        let first = *self.undecided.entry(seen.message.cookie()).or_insert(first);
        (first.seen != seen.snapshot).then_some(first.opened_after)
    }

    /// Whether this socket, closed and held, is of a connection that has its row: of that the dumps show
    /// the TIME-WAIT, under a cookie of its own.
    fn is_of_time_wait(&mut self, of: usize, seen: &Sighting<'_>) -> bool {
        let register = &self.namespaces[of].register;
        let cookie = seen.message.cookie();
        let is_known = self.held_closed.contains_key(&cookie);
        let is_so = is_known || seen.flow().is_some_and(|flow| register.has_time_wait(&flow));
        if is_so {
            self.held_closed.insert(cookie, seen.snapshot);
        }
        is_so
    }

    /// The connection request that this socket was, if a dump asked for the cookie of the request just
    /// when the socket was made: that is another one then.
    fn request_of(&self, of: usize, key: &SocketKey, seen: &Sighting<'_>) -> Option<SocketKey> {
        if seen.protocol != Protocol::Tcp
            || seen.message.is_mini()
            || self.formers.contains_key(key)
        {
            return None;
        }
        let flows = &self.namespaces[of].register.flows;
        let member = flows.get(&seen.flow()?).filter(|m| m.dead.is_none())?;
        // It was made as the request was seen; a later one may have these addresses and ports.
        let ago_ms = seen.ago.handshake_ms().or(seen.ago.established_ms())?;
        let there_ns = (seen.made_at.after_ms - i64::from(ago_ms)) * 1_000_000;
        if there_ns > member.there.open_by_ns? + SAME_MOMENT_NS {
            return None;
        }
        let request = SocketKey { cookie: member.cookie, ..key.clone() };
        self.live.get(&request)?.is_request().then_some(request)
    }

    /// A socket goes on under another cookie.
    fn rename(
        &mut self,
        of: usize,
        from: &SocketKey,
        to: &SocketKey,
        seen: &Sighting<'_>,
        out: &mut Batch,
    ) {
        let (Some(live), Some(flow)) = (self.live.remove(from), seen.flow()) else { return };
        let register = &mut self.namespaces[of].register;
        register.rename(&flow, live.socket, to.cookie, out);
        self.live.insert(to.clone(), live);
    }

    fn remove_live(&mut self, key: &SocketKey) {
        let Some(live) = self.live.remove(key) else { return };
        let scope = &mut self.scopes[live.scope];
        scope.live -= 1;
        if live.last_seen == self.tick.snapshot {
            scope.seen -= 1;
        }
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
                out.last_asked.push(scope.id);
                let kind = ExceptionKind::DumpUnsupported;
                out.exceptions.push(Exception { kind, ..exception });
            }
            DumpEnd::Failed { errno, message } => {
                out.exceptions.push(Exception { errno, message: Some(message), ..exception });
            }
            DumpEnd::NotAsked => {
                let kind = ExceptionKind::NotAsked;
                out.exceptions.push(Exception { kind, ..exception });
            }
            DumpEnd::Partial(message) => {
                let (kind, message) = (ExceptionKind::PartlyAsked, Some(message));
                out.exceptions.push(Exception { kind, message, ..exception });
            }
        }
        !scope.is_supported
    }

    /// Ends the snapshot: finds what the complete dumps lacked, and completes a keyframe. `flush`
    /// takes batches that have grown full. Gives the number of sockets seen.
    pub(super) fn end_tick(
        &mut self,
        ended: Clocks,
        out: &mut Box<Batch>,
        mut flush: impl FnMut(&mut Box<Batch>),
    ) -> u64 {
        let Self { namespaces, scopes, live, tick, rows_in_group, .. } = self;
        for namespace in namespaces.iter_mut() {
            namespace.register.now_ns = ended.monotonic_ns;
        }
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
                let protocol = scope.scope.protocol;
                if scope.is_complete && live.is_missing {
                    let (closed_before, evidence) = if scope.proves_absence {
                        (Some(tick.snapshot), EndEvidence::Absence)
                    } else {
                        (None, EndEvidence::LeftScope)
                    };
                    let register = &mut namespaces[scope.of].register;
                    end_live(live, closed_before, Some(evidence), protocol, register, out);
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
                    live.write_row(tick.snapshot, protocol, out);
                    *rows_in_group += 1;
                }
                true
            });
        }
        let snapshot = tick.snapshot;
        for scope in scopes.iter_mut() {
            let not_stored = scope.not_stored + scope.events_not_stored;
            self.not_stored += not_stored;
            if not_stored > 0 {
                out.exceptions.push(Exception {
                    snapshot,
                    kind: ExceptionKind::SocketsNotStored,
                    scope: Some(scope.id),
                    errno: None,
                    count: Some(not_stored),
                    message: None,
                });
            }
            if !scope.is_complete {
                continue;
            }
            scope.complete_dumps += 1;
            if scope.not_stored == 0 && scope.proves_absence {
                let ended_ns = ended.monotonic_ns;
                if scope.full_views.len() == FULL_VIEWS_KEPT {
                    scope.full_views.pop_front();
                }
                scope.full_views.push_back(FullView { snapshot, ended_ns });
            }
        }
        let seen = tick.seen;
        self.undecided.retain(|_, first| first.seen == snapshot);
        self.held_closed.retain(|_, last_seen| *last_seen == snapshot);
        self.end_formers(out, &mut flush);
        self.resolve(out, &mut flush);
        self.depart(out);
        seen
    }

    /// What earlier captures left open and two complete dumps of this one lacked is gone. Where not
    /// every state is asked for it stays open: it may be in another.
    fn end_formers(&mut self, out: &mut Box<Batch>, flush: &mut impl FnMut(&mut Box<Batch>)) {
        let Self { namespaces, scopes, formers, tick, chosen, .. } = self;
        if formers.is_empty() {
            return;
        }
        // Of the sockets of wider captures this one tells nothing.
        let is_chosen = |former: &FormerSocket| {
            let told = Told::of_tuple(&former.tuple);
            chosen.as_ref().is_none_or(|chosen| chosen.holds(&told) == Some(true))
        };
        for scope in scopes.iter().filter(|s| s.is_complete && s.complete_dumps == 2) {
            let looked_at = &scope.scope;
            let register = &mut namespaces[scope.of].register;
            formers.retain(|_, former| {
                let is_of_scope = former.netns == looked_at.netns
                    && former.family == looked_at.family
                    && former.protocol == looked_at.protocol;
                if is_of_scope && scope.proves_absence && is_chosen(former) {
                    if out.is_full() {
                        flush(out);
                    }
                    let absence = EndEvidence::Absence;
                    end_former(former, Some(tick.snapshot), absence, register, out);
                }
                !is_of_scope
            });
        }
    }
}
