//! What became of each socket from one dump to the next.
//!
//! Pure bookkeeping without clock, kernel or disk: it is told what the dumps and the destroy events
//! show and says what is to be written. An unchanged socket costs one hash of its message and one
//! look-up.

use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::batch::Batch;
use super::chosen::{Chosen, proves_absence};
use super::ending::Life;
use super::flows::{Flow, SAME_MOMENT_NS, There};
use super::live::{Live, Sighting};
use super::register::{Death, Gone, LastWords, Register, Rows};
use crate::filter::Told;
use crate::kernel::{DumpEnd, EventStamp, LostSpan};
use crate::model::{
    Clocks, EndEvidence, EventCounts, EventLoss, Exception, ExceptionKind, Family, FormerSocket,
    FreedSocket, GroupId, HeldSample, Nanos, NetnsId, NewSocket, Protocol, Remains, RemainsEnd,
    Scope, ScopeId, SnapshotId, SocketEnd, SocketId, SocketKey, SocketUpdate, TcpState, TupleTold,
    UndestroyedSocket,
};
use crate::store::Start;
use crate::wire::inet_diag::{Message, take_relative_times};

/// A group is closed when its rows come to so many times the live sockets …
const KEYFRAME_ROWS_PER_SOCKET: u64 = 12;
/// … but not for fewer rows than that, which any reader walks in no time …
const KEYFRAME_ROWS_MIN: u64 = 4_096;
/// … and after an hour in any case …
const KEYFRAME_MAX_AGE_NS: i64 = 3_600_000_000_000;
/// … or so many snapshots: a group is dropped in one step.
const KEYFRAME_SNAPSHOTS_MAX: i64 = 4_096;

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
    scope: Scope,
    /// Whether a connection that a complete dump lacks is not there, or over.
    proves_absence: bool,
    is_supported: bool,
    /// The last two, the later one last.
    full_views: [Option<FullView>; 2],
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
    fn last_full_view(&self) -> Option<SnapshotId> {
        self.full_views[1].map(|view| view.snapshot)
    }

    /// The last full view before this snapshot.
    fn last_full_view_before(&self, snapshot: SnapshotId) -> Option<SnapshotId> {
        let views = self.full_views.iter().rev().flatten();
        views.into_iter().map(|view| view.snapshot).find(|&view| view < snapshot)
    }

    /// The last full view that had ended by this moment of `CLOCK_MONOTONIC`: what was there then and
    /// is not in it came later. What went while a dump was made may have been there when it began.
    fn full_view_before(&self, monotonic_ns: Nanos) -> Option<SnapshotId> {
        let views = self.full_views.iter().rev().flatten();
        views.into_iter().find(|view| view.ended_ns <= monotonic_ns).map(|view| view.snapshot)
    }
}

/// What earlier captures of this boot left open.
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
    scopes: Vec<TrackedScope>,
    live: HashMap<SocketKey, Live>,
    /// Seen for the first time as if on their way out; by their cookies.
    torn_down: HashMap<u64, TornDown>,
    /// Left open by earlier captures, and not seen in this one yet.
    formers: HashMap<SocketKey, FormerSocket>,
    register: Register,
    hasher: DefaultHashBuilder,
    capture_started: Clocks,
    next_socket: SocketId,
    next_group: GroupId,
    max_new_sockets: u64,
    tick: Tick,
    not_stored: u64,
    events_lost: u64,
    /// The last snapshots of which every dump was complete: what none of them showed is not there.
    complete_ticks: [SnapshotId; 4],
    rows_in_group: u64,
    keyframe_at_ns: Option<i64>,
    keyframe: SnapshotId,
    takes_events_as_found: bool,
}

/// A socket that no dump showed before, closed and half wiped: if the next one shows it too it is so.
#[derive(Clone, Copy)]
struct TornDown {
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
        let netns = start.netns;
        let key = |former: &FormerSocket| SocketKey {
            netns,
            cookie: former.cookie,
            tuple: (former.protocol == Protocol::Mptcp).then(|| Box::new(former.tuple)),
        };
        Self {
            chosen: None,
            formers: past.formers.into_iter().map(|former| (key(&former), former)).collect(),
            scopes: scopes
                .into_iter()
                .map(|(id, scope, last_full_view)| TrackedScope {
                    id,
                    proves_absence: proves_absence(&scope, None),
                    scope,
                    is_supported: true,
                    full_views: [None, last_full_view],
                    complete_dumps: 0,
                    is_complete: false,
                    live: 0,
                    seen: 0,
                    unreadable: 0,
                    not_stored: 0,
                    events_not_stored: 0,
                })
                .collect(),
            live: HashMap::new(),
            torn_down: HashMap::new(),
            register: Register::new(
                start.next_snapshot,
                past.undestroyed,
                past.freed,
                capture_started,
            ),
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
            complete_ticks: [SnapshotId(0); 4],
            rows_in_group: 0,
            keyframe_at_ns: None,
            keyframe: start.next_snapshot,
            takes_events_as_found: false,
        }
    }

    /// Takes only the sockets that the filter holds for.
    pub(super) fn choose(&mut self, chosen: Chosen) {
        for scope in &mut self.scopes {
            scope.proves_absence = proves_absence(&scope.scope, Some(&chosen));
        }
        self.chosen = Some(chosen);
    }

    /// From now on destroy events are read.
    pub(super) fn listen_to_events(&mut self) {
        self.register.events = Some(EventCounts::default());
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
        self.register.events
    }

    /// The scopes that are still to be asked.
    pub(super) fn scopes(&self) -> impl Iterator<Item = (usize, &Scope)> {
        self.scopes.iter().enumerate().filter(|(_, s)| s.is_supported).map(|(i, s)| (i, &s.scope))
    }

    /// Events are not all told, but those that are stand for themselves, whatever is asked for.
    pub(super) fn take_events_as_found(&mut self) {
        self.register.is_all_told = false;
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
        self.register.begin_tick(snapshot);
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
        read_at_ms: i64,
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
        self.register.now_ns = read_at_ms * 1_000_000;
        let tick = &mut self.tick;
        let seen = Sighting {
            message,
            payload,
            hash: self.hasher.hash_one(&*payload),
            times: ago.absolute(read_at_ms),
            ago,
            protocol,
            snapshot: tick.snapshot,
            tick_started_ns: tick.started.monotonic_ns,
            read_at_ns: read_at_ms * 1_000_000,
        };
        let key = SocketKey {
            netns: scope.scope.netns,
            cookie: message.cookie(),
            tuple: (protocol == Protocol::Mptcp).then(|| Box::new(message.tuple())),
        };

        let mut slot = match self.live.entry(key) {
            Entry::Occupied(slot) => slot,
            Entry::Vacant(slot) => {
                let gone = left_of(&mut self.register, &seen, tick.started.monotonic_ns);
                let is_ghost =
                    gone.is_none() && self.register.gone(seen.message.cookie()).is_some();
                if is_ghost {
                    return; // its destroy event has been read
                }
                // One in TIME-WAIT may have been missed by a dump, but not before that began.
                let mut opened_after = if seen.is_time_wait() {
                    scope.full_view_before(seen.open_by_ns())
                } else {
                    scope.last_full_view()
                };
                if seen.is_torn_down() {
                    let first = TornDown { seen: tick.snapshot, opened_after };
                    let first = *self.torn_down.entry(message.cookie()).or_insert(first);
                    if first.seen == tick.snapshot {
                        return;
                    }
                    opened_after = first.opened_after;
                }
                if gone.is_none()
                    && scope.complete_dumps > 0
                    && tick.new_sockets >= self.max_new_sockets
                {
                    scope.not_stored += 1;
                    return;
                }
                tick.new_sockets += u64::from(gone.is_none());
                tick.seen += 1;
                scope.seen += 1;
                scope.live += 1;
                self.rows_in_group += 1;
                let mut live = Live::new(self.next_socket, scope_index, 0, &seen);
                if let Some(gone) = gone {
                    live.remain(&gone, &seen, out);
                    let has_own_cookie = self.register.gone(message.cookie()).is_none();
                    begin_remains(&live, &seen, has_own_cookie, &mut self.register, out);
                    slot.insert(live);
                    return;
                }
                match self.formers.remove(slot.key()) {
                    Some(former) if is_same(&former, &message) => {
                        live.resume(&former, &seen, out);
                        let flow = seen.flow().filter(|_| !live.is_over);
                        let (cookie, open_by_ns) = (message.cookie(), seen.open_by_ns());
                        self.register.resume(flow, live.socket, cookie, open_by_ns, out);
                        note_listener(&mut self.register, &live, &seen);
                        if seen.is_over() && !live.is_over {
                            let evidence = Some(seen.over_evidence());
                            let death = death_of_former(&former, Some(tick.snapshot), evidence);
                            end_life(&mut live, death, &seen, &mut self.register, out);
                        } else if seen.is_time_wait() && former.state != TcpState::TIME_WAIT {
                            begin_remains(&live, &seen, false, &mut self.register, out);
                        }
                        slot.insert(live);
                        return;
                    }
                    Some(former) => {
                        live.generation = former.generation + 1;
                        end_former(
                            &former,
                            Some(tick.snapshot),
                            EndEvidence::Replaced,
                            &mut self.register,
                            out,
                        );
                    }
                    None => {}
                }
                self.next_socket = self.next_socket.next();
                let netns = scope.scope.netns;
                announce(&mut live, &seen, netns, opened_after, &mut self.register, out);
                slot.insert(live);
                return;
            }
        };
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
                note_listener(&mut self.register, live, &seen);
                if was_in == TcpState::LISTEN {
                    let place = (protocol, live.local_port());
                    self.register.listeners.close(live.socket, place, tick.snapshot);
                }
                if live.is_over && seen.is_time_wait() {
                    begin_remains(live, &seen, false, &mut self.register, out);
                }
            }
            if let Some(death) = death {
                end_life(live, death, &seen, &mut self.register, out);
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
                &mut self.register,
                out,
            );
            let mut next = Live::new(self.next_socket, scope_index, live.generation + 1, &seen);
            self.next_socket = self.next_socket.next();
            let netns = scope.scope.netns;
            let opened_after = scope.last_full_view_before(closed_in.unwrap_or(tick.snapshot));
            announce(&mut next, &seen, netns, opened_after, &mut self.register, out);
            *live = next;
            self.scopes[former_scope].live -= 1;
            self.scopes[scope_index].live += 1;
        }
        self.rows_in_group += 1;
    }

    /// Takes a destroy event, which it changes.
    pub(super) fn event(&mut self, payload: &mut [u8], stamp: &EventStamp, out: &mut Batch) {
        if let Some(events) = &mut self.register.events {
            events.read += 1;
        }
        let protocol = Message::parse(payload).ok().and_then(|message| message.protocol());
        let times = take_relative_times(payload, protocol.unwrap_or(Protocol::Udp));
        let Ok(message) = Message::parse(payload) else { return };
        let is_of_scope = |s: &TrackedScope| {
            s.scope.family == message.family() && Some(s.scope.protocol) == protocol
        };
        let (Some(protocol), Some(index)) = (protocol, self.scopes.iter().position(is_of_scope))
        else {
            return;
        };
        let tuple = message.tuple();
        if tuple.local.port == 0 && tuple.remote.port == 0 {
            if let Some(events) = &mut self.register.events {
                events.unbound += 1;
            }
            return;
        }
        let snapshot = self.tick.snapshot;
        let words =
            LastWords::new(&message, protocol, times, stamp, snapshot, self.capture_started);
        let key =
            SocketKey { netns: self.scopes[index].scope.netns, cookie: words.cookie, tuple: None };
        let key = self.key_of_request(&key, &words).unwrap_or(key);
        let of_live = self.live.get(&key).filter(|live| !live.is_over);
        let is_same = of_live.is_none_or(|live| {
            words.may_be_of(live.flow(protocol).as_ref()) || live.was_disconnected_from(&tuple)
        });
        if !is_same {
            // Connected anew since it was seen: that one ended unseen, and so did this one.
            let generation = of_live.map_or(0, |live| live.generation + 1);
            let Self { register, live, .. } = self;
            if let Some(live) = live.get(&key) {
                let replaced = Some(EndEvidence::Replaced);
                end_live(live, Some(snapshot), replaced, protocol, register, out);
            }
            self.remove_live(&key);
            self.record_unseen(index, &words, message.family(), generation, out);
            return;
        }
        if let Some(live) = of_live {
            let socket = live.socket;
            let mut death = live.death(None, None, protocol);
            if live.state == TcpState::LISTEN {
                self.register.listeners.close(live.socket, (protocol, tuple.local.port), snapshot);
            }
            take_last_words(&mut death, &words);
            self.register.bury(words.cookie, live.gone());
            self.register.death(death);
            self.remove_live(&key);
            self.register.find_half_told(socket, &words, out);
            return;
        }
        let held = self.register.last_words_of_held(&words, out);
        if let Some(socket) = held {
            self.register.find_half_told(socket, &words, out);
        }
        if let Some(live) = self.live.get(&key) {
            // What is left of it: a mini-socket stays, a closed socket is freed now.
            if live.state == TcpState::CLOSE {
                out.remains_ends.push(live.remains_end(Some(snapshot)));
                self.register.bury(words.cookie, live.gone());
                self.remove_live(&key);
            }
        } else if let Some(former) = self.formers.remove(&key) {
            let flow = Flow::new(protocol, &former.tuple);
            if former.is_remains {
                self.formers.insert(key, former);
            } else if !words.may_be_of(flow.as_ref()) {
                let replaced = EndEvidence::Replaced;
                end_former(&former, Some(snapshot), replaced, &mut self.register, out);
                let generation = former.generation + 1;
                self.record_unseen(index, &words, message.family(), generation, out);
            } else {
                let mut death = death_of_former(&former, None, None);
                take_last_words(&mut death, &words);
                let rows = Rows {
                    last: Some(former.last_sample),
                    count: u32::try_from(former.samples).unwrap_or(u32::MAX),
                };
                let (socket, generation) = (former.id, former.generation);
                let gone = Gone { socket, generation, state: Some(former.state), rows };
                self.register.bury(words.cookie, gone);
                self.register.death(death);
            }
        } else if held.is_none() && self.register.gone(words.cookie).is_none() {
            self.record_unseen(index, &words, message.family(), 0, out);
        }
    }

    /// The key of the connection request that became this socket. Both have one cookie, unless a dump
    /// asked for that of the request just when the socket was made: it was not made later, and not
    /// over before.
    fn key_of_request(&self, key: &SocketKey, words: &LastWords) -> Option<SocketKey> {
        if self.live.contains_key(key) {
            return None;
        }
        let member = self.register.flows.get(&words.flow()?)?;
        let seen_ns = member.there.open_by_ns?;
        let is_made_then =
            words.open_by_ns() <= seen_ns + SAME_MOMENT_NS && words.silent_ns >= seen_ns;
        let is_known = self.formers.contains_key(key) || self.register.is_held(words.cookie);
        if !is_made_then || is_known {
            return None;
        }
        let request = SocketKey { cookie: member.cookie, ..key.clone() };
        self.live.get(&request)?.is_request().then_some(request)
    }

    /// A socket that no dump ever saw.
    fn record_unseen(
        &mut self,
        scope_index: usize,
        words: &LastWords,
        family: Family,
        generation: u32,
        out: &mut Batch,
    ) {
        let scope = &mut self.scopes[scope_index];
        if !scope.proves_absence && !self.takes_events_as_found {
            return; // it may never have been one that is asked for
        }
        let told = Told::of_tuple(&words.tuple);
        let told = if words.is_half_wiped { told.half_wiped() } else { told };
        if self.chosen.as_ref().is_some_and(|chosen| chosen.holds(&told) == Some(false)) {
            return;
        }
        // Of each second up to the bound of a snapshot.
        let since_ns = words.destroyed.at.monotonic_ns - self.tick.last_started_ns;
        let seconds = (since_ns.max(0) / 1_000_000_000 + 1).unsigned_abs();
        if self.tick.unseen >= self.max_new_sockets.saturating_mul(seconds) {
            scope.events_not_stored += 1;
            return;
        }
        self.tick.unseen += 1;
        let id = self.next_socket;
        self.next_socket = id.next();
        let is_tcp = words.protocol == Protocol::Tcp;
        // A TCP socket that is not connected, or no longer, is in no dump though it is there: only
        // one that was active since was opened since.
        let tells = words.tells_activity || !is_tcp;
        let opened_after = tells.then(|| scope.full_view_before(words.active_ns)).flatten();
        self.register.birth(
            NewSocket {
                id,
                netns: scope.scope.netns,
                cookie: words.cookie,
                generation,
                family,
                protocol: words.protocol,
                tuple: words.tuple,
                owner: SocketUpdate {
                    interface: Some(words.tuple.interface).filter(|&index| index != 0),
                    ..SocketUpdate::default()
                },
                first_snapshot: None,
                opened_after,
                told: if words.is_half_wiped { TupleTold::Half } else { TupleTold::Whole },
                origin: None,
                peer: None,
            },
            There {
                open_by_ns: Some(words.open_by_ns()),
                over_ns: Some(words.silent_ns),
                traffic: words.traffic(),
            },
            out,
        );
        let flow = words.flow();
        let mut death = Death {
            end: SocketEnd {
                socket: id,
                last_snapshot: None,
                closed_before: None,
                evidence: None,
                last_sample: None,
                samples: 0,
                state: None,
                ending: None,
                destroyed: None,
                counters: words.counters.unwrap_or_default(),
            },
            cookie: words.cookie,
            flow,
            origin: None,
            life: (is_tcp && (flow.is_some() || words.is_half_wiped)).then(Life::default),
            open_by_ns: Some(words.open_by_ns()),
            over_ns: None,
            last_received: None,
            traffic: None,
            is_unseen: true,
        };
        take_last_words(&mut death, words);
        let rows = Rows::default();
        self.register.bury(words.cookie, Gone { socket: id, generation, state: None, rows });
        self.register.death(death);
        if words.is_half_wiped && is_tcp {
            if words.was_answered() {
                self.register.enter_half_told(id, words);
            }
        } else {
            self.register.find_half_told(id, words, out);
        }
    }

    /// Notes that events were lost.
    pub(super) fn lose_events(&mut self, span: &LostSpan, out: &mut Batch) {
        self.register.is_all_told = false;
        self.events_lost += 1;
        let LostSpan { from, to, count } = *span;
        out.event_losses.push(EventLoss { snapshot: self.tick.snapshot, from, to, count });
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
        let Self { scopes, live, tick, rows_in_group, register, .. } = self;
        register.now_ns = ended.monotonic_ns;
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
                scope.full_views = [scope.full_views[1], Some(FullView { snapshot, ended_ns })];
            }
        }
        let seen = tick.seen;
        self.torn_down.retain(|_, first| first.seen == snapshot);
        self.end_formers(out, &mut flush);
        self.register.resolve(&mut self.live, out, &mut flush);
        if self.scopes.iter().all(|scope| scope.is_complete || !scope.is_supported) {
            self.register.forget(self.complete_ticks[0]);
            self.complete_ticks.rotate_left(1);
            self.complete_ticks[3] = snapshot;
        }
        seen
    }

    /// What earlier captures left open and two complete dumps of this one lacked is gone. Where not
    /// every state is asked for it stays open: it may be in another.
    fn end_formers(&mut self, out: &mut Box<Batch>, flush: &mut impl FnMut(&mut Box<Batch>)) {
        let Self { scopes, formers, register, tick, chosen, .. } = self;
        // Of the sockets of wider captures this one tells nothing.
        let is_chosen = |former: &FormerSocket| {
            let told = Told::of_tuple(&former.tuple);
            chosen.as_ref().is_none_or(|chosen| chosen.holds(&told) == Some(true))
        };
        for scope in scopes.iter().filter(|s| s.is_complete && s.complete_dumps == 2) {
            let looked_at = &scope.scope;
            formers.retain(|_, former| {
                let is_of_scope =
                    former.family == looked_at.family && former.protocol == looked_at.protocol;
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

fn is_same(former: &FormerSocket, message: &Message<'_>) -> bool {
    let tuple = message.tuple();
    (former.tuple.local, former.tuple.remote) == (tuple.local, tuple.remote)
}

/// The socket that a timewait mini-socket is left of, by its cookie or by its addresses.
fn left_of(register: &mut Register, seen: &Sighting<'_>, told_ns: Nanos) -> Option<Gone> {
    if !(seen.is_over() && seen.message.is_mini()) {
        return None;
    }
    register
        .gone(seen.message.cookie())
        .or_else(|| register.left_of(&seen.flow()?, seen.remains_since_ns(), told_ns))
}

/// Adds a socket with its first row. Of a connection that is over already only the remains are seen.
fn announce(
    live: &mut Live,
    seen: &Sighting<'_>,
    netns: NetnsId,
    opened_after: Option<SnapshotId>,
    register: &mut Register,
    out: &mut Batch,
) {
    live.origin = seen.origin();
    let message = &seen.message;
    let over_ns = seen.is_time_wait().then(|| seen.open_by_ns());
    register.birth(
        NewSocket {
            id: live.socket,
            netns,
            cookie: message.cookie(),
            generation: live.generation,
            family: message.family(),
            protocol: seen.protocol,
            tuple: message.tuple(),
            owner: live.known,
            first_snapshot: Some(seen.snapshot),
            opened_after,
            told: TupleTold::Whole,
            origin: live.origin,
            peer: None,
        },
        There { open_by_ns: Some(seen.open_by_ns()), over_ns, traffic: None },
        out,
    );
    live.write_row(seen.snapshot, seen.protocol, out);
    note_listener(register, live, seen);
    if seen.is_over() {
        let mut death = live.death(Some(seen.snapshot), Some(seen.over_evidence()), seen.protocol);
        (death.end.last_snapshot, death.end.last_sample, death.end.samples) = (None, None, 0);
        death.end.state = None;
        death.is_unseen = true;
        death.over_ns = over_ns;
        if let Some(life) = &mut death.life {
            (life.was_in_time_wait, life.last) = (seen.is_time_wait(), None);
        }
        register.death(death);
        live.is_over = true;
        begin_remains(live, seen, false, register, out);
    }
}

/// A connection ends, and something is left of it.
fn end_life(
    live: &mut Live,
    mut death: Death,
    seen: &Sighting<'_>,
    register: &mut Register,
    out: &mut Batch,
) {
    death.over_ns = seen.is_time_wait().then(|| seen.open_by_ns());
    if let Some(life) = &mut death.life {
        life.was_in_time_wait = seen.is_time_wait();
    }
    register.death(death);
    live.is_over = true;
    begin_remains(live, seen, false, register, out);
}

fn begin_remains(
    live: &Live,
    seen: &Sighting<'_>,
    has_own_cookie: bool,
    register: &mut Register,
    out: &mut Batch,
) {
    let cookie = has_own_cookie.then(|| seen.message.cookie());
    let time_wait = seen.is_time_wait().then_some(seen.snapshot);
    let (socket, first_snapshot) = (live.socket, seen.snapshot);
    let time_wait_ms = seen.time_wait_ms();
    out.remains.push(Remains { socket, cookie, first_snapshot, time_wait, time_wait_ms });
    if seen.is_time_wait() {
        register.seen_in_time_wait(seen.flow().as_ref(), live.socket, out);
    }
}

fn note_listener(register: &mut Register, live: &Live, seen: &Sighting<'_>) {
    if seen.message.state() == TcpState::LISTEN {
        let is_v6_only = seen.message.observe(seen.protocol).v6only == Some(true);
        let kind = (seen.message.family(), seen.protocol);
        register.listeners.add(live.socket, kind, &seen.message.tuple(), is_v6_only);
    }
}

/// Ends a socket that dumps showed, or what was left of it.
fn end_live(
    live: &Live,
    closed_before: Option<SnapshotId>,
    evidence: Option<EndEvidence>,
    protocol: Protocol,
    register: &mut Register,
    out: &mut Batch,
) {
    if live.is_over {
        out.remains_ends.push(live.remains_end(closed_before));
        register.bury(live.cookie(), live.gone());
        return;
    }
    if live.state == TcpState::LISTEN {
        let now = closed_before.unwrap_or(live.last_seen);
        register.listeners.close(live.socket, (protocol, live.local_port()), now);
    }
    let mut death = live.death(closed_before, evidence, protocol);
    let is_told = register.events.is_some() && register.is_all_told;
    if let Some(life) = &mut death.life {
        let is_absent = evidence == Some(EndEvidence::Absence);
        let is_alone = register.is_latest(death.flow.as_ref(), live.socket);
        life.is_vanished_request = is_absent && is_told && live.is_request() && is_alone;
    }
    register.death(death);
}

fn end_former(
    former: &FormerSocket,
    closed_before: Option<SnapshotId>,
    evidence: EndEvidence,
    register: &mut Register,
    out: &mut Batch,
) {
    if former.is_remains {
        out.remains_ends.push(RemainsEnd {
            socket: former.id,
            last_snapshot: former.last_snapshot,
            gone_before: closed_before,
            last_sample: former.last_sample,
            samples: former.samples,
        });
    } else {
        register.death(death_of_former(former, closed_before, Some(evidence)));
    }
}

fn death_of_former(
    former: &FormerSocket,
    closed_before: Option<SnapshotId>,
    evidence: Option<EndEvidence>,
) -> Death {
    let flow = Flow::new(former.protocol, &former.tuple);
    Death {
        end: SocketEnd {
            socket: former.id,
            last_snapshot: Some(former.last_snapshot),
            closed_before,
            evidence,
            last_sample: Some(former.last_sample),
            samples: former.samples,
            state: Some(former.state),
            ending: None,
            destroyed: None,
            counters: former.counters,
        },
        cookie: former.cookie,
        flow,
        origin: former.origin,
        life: (flow.is_some() && former.protocol == Protocol::Tcp).then(Life::default),
        open_by_ns: None,
        over_ns: None,
        last_received: None,
        traffic: None,
        is_unseen: false,
    }
}

fn take_last_words(death: &mut Death, words: &LastWords) {
    death.end.destroyed = Some(words.destroyed);
    death.last_received = words.last_received;
    death.traffic = words.traffic();
    death.over_ns = Some(words.silent_ns);
    if let Some(counters) = words.counters {
        death.end.counters = counters;
    }
    if let Some(life) = &mut death.life {
        life.last_words = words.said;
    }
}
