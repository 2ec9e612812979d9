//! What became of each socket from one dump to the next.
//!
//! Pure bookkeeping without clock, kernel or disk: it is told what the dumps and the destroy events
//! show and says what is to be written. An unchanged socket costs one hash of its message and one
//! look-up.

mod destroy_events;
mod ends;
mod lives;
mod namespaces;
mod newcomers;
mod order;
mod scope;

use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::batch::Batch;
use super::chosen::{Chosen, proves_absence};
use super::half_told::pace::Pace;
use super::live::{Live, Sighting};
use crate::model::{
    Clocks, EndEvidence, EventCounts, FormerSocket, FreedSocket, GroupId, MadeAt, Nanos, Place,
    Protocol, Scope, ScopeId, SnapshotId, SocketId, SocketKey, TcpState, Tuple, UndestroyedSocket,
};
use crate::store::Start;
use crate::wire::inet_diag::{Message, take_relative_times};
use lives::{announce, begin_remains, end_life, end_live, note_listener};
use namespaces::Namespace;
pub(super) use scope::FullView;
use scope::TrackedScope;

/// A group is closed when its rows come to so many times the live sockets …
const KEYFRAME_ROWS_PER_SOCKET: u64 = 12;
/// … but not for fewer rows than that, which any reader walks in no time …
const KEYFRAME_ROWS_MIN: u64 = 4_096;
/// … and after an hour in any case …
const KEYFRAME_MAX_AGE_NS: i64 = 3_600_000_000_000;
/// … or so many snapshots: a group is dropped in one step.
const KEYFRAME_SNAPSHOTS_MAX: i64 = 4_096;

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
    undecided: HashMap<u64, FirstSight>,
    /// Cookies of sockets that are closed and held, of which the TIME-WAIT is what was recorded, with the
    /// snapshot that showed them last.
    held_closed: HashMap<u64, SnapshotId>,
    /// Left open by earlier captures, and not seen in this one yet.
    formers: HashMap<SocketKey, FormerSocket>,
    /// Whether dumps show TCP sockets that are bound and no more.
    shows_bound_sockets: bool,
    /// Whether of each TCP connection within a host both ends are recorded.
    records_both_ends: bool,
    /// What was sent before this moment of `CLOCK_MONOTONIC` has been taken.
    events_read_until_ns: Option<Nanos>,
    /// How fast events come.
    pace: Pace,
    /// Of the events of this tick, by namespace and cookie: what a look-up found is their own.
    rests_of_their_own: HashSet<(usize, u64)>,
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

/// How a socket comes that no dump showed before. It may wait for the next one: a socket closed and half wiped is so if
/// that shows it too, and whose a TIME-WAIT is the events that were read by then tell. One that is closed and held may have
/// left a TIME-WAIT, which comes later in the same dump.
#[derive(Clone, Copy)]
struct FirstSight {
    /// The first that showed it.
    seen: SnapshotId,
    /// By this moment of `CLOCK_MONOTONIC`.
    shown_by_ns: Nanos,
    tuple: Tuple,
    /// The full view that it was not in.
    opened_after: Option<SnapshotId>,
}

impl FirstSight {
    fn new(seen: &Sighting<'_>, opened_after: Option<SnapshotId>) -> Self {
        let tuple = seen.message.tuple();
        Self { seen: seen.snapshot, shown_by_ns: seen.shown_by_ns(), tuple, opened_after }
    }
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
            records_both_ends: false,
            events_read_until_ns: None,
            pace: Pace::default(),
            rests_of_their_own: HashSet::new(),
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

    /// Of each TCP connection within a host both ends are recorded.
    pub(super) fn rely_on_both_ends(&mut self) {
        self.records_both_ends = true;
        for namespace in &mut self.namespaces {
            namespace.register.records_both_ends = true;
        }
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
            namespace.register.first_new = self.next_socket;
            namespace.register.listeners.begin_tick();
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
        let ago = ago.without_unset((made_at.after_ms, made_at.by_ms));
        let Ok(message) = Message::parse(payload) else {
            scope.unreadable += 1;
            return;
        };
        if self.chosen.as_ref().is_some_and(|chosen| chosen.leaves_out(&message)) {
            return;
        }
        let of = scope.of;
        for &cookie in scope.order.come_to(message.cookie()) {
            let key = SocketKey { netns: scope.scope.netns, cookie, tuple: None };
            if let Some(live) = self.live.get(&key) {
                live.fetch();
            }
        }
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
        if live.is_missing {
            live.is_missing = false;
        }

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
            let first = FirstSight::new(&seen, opened_after);
            announce(&mut next, &seen, netns, first, register, out);
            *live = next;
            self.scopes[former_scope].live -= 1;
            self.scopes[scope_index].live += 1;
        }
        self.rows_in_group += 1;
    }

    fn remove_live(&mut self, key: &SocketKey) {
        let Some(live) = self.live.remove(key) else { return };
        let scope = &mut self.scopes[live.scope];
        scope.live -= 1;
        if live.last_seen == self.tick.snapshot {
            scope.seen -= 1;
        }
    }
}
