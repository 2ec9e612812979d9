//! What a destroy event says of a socket that is known, and of one that no dump ever saw.

use hashbrown::{HashMap, HashSet};

use super::lives::{death_of_former, end_former, end_live};
use super::{TrackedScope, Tracker};
use crate::filter::Told;
use crate::kernel::{EventBatch, EventStamp, LostSpan};
use crate::model::{
    EndEvidence, EventLoss, Family, Left, Nanos, NewSocket, Place, Protocol, SocketEnd, SocketKey,
    SocketUpdate, TcpState, TupleTold,
};
use crate::record::batch::Batch;
use crate::record::chosen::Chosen;
use crate::record::ending::Life;
use crate::record::flows::{Flow, SAME_MOMENT_NS, There};
use crate::record::half_told::pace::Haste;
use crate::record::last_words::LastWords;
use crate::record::live::Live;
use crate::record::register::{Death, Gone, Rows};
use crate::record::traffic::Traffic;
use crate::wire::inet_diag::{Message, RelativeTimes, take_relative_times};

/// So soon after a connection has left a mini-socket its socket's event is sent.
const TOLD_WITHIN_NS: Nanos = 10_000_000;
/// One that fell silent just before its event was not there before another one that told so much earlier.
const APART_NS: Nanos = 2 * SAME_MOMENT_NS;

impl Tracker {
    /// Looks through the events that were read, before they are taken, for those whose TIME-WAIT was
    /// seen before they were read.
    pub(in crate::record) fn foresee(&mut self, events: &mut EventBatch) {
        self.events_read_until_ns = events.read_until_ns;
        self.rests_of_their_own = self.rests_of_their_own(events);
        let pace = &mut self.pace;
        events.each(|_, stamp| pace.note(stamp.received.monotonic_ns, stamp.sent_after_ns));
        let haste = pace.haste();
        let mut has_unclaimed = false;
        for namespace in &mut self.namespaces {
            namespace.register.forget_promises();
            namespace.register.half_told.keep_pace(haste);
            namespace.register.has_asked_for_subflows = false;
            has_unclaimed |= namespace.register.flows.has_unclaimed();
        }
        if !has_unclaimed {
            return;
        }
        let mut by_flow: HashMap<(usize, Flow), Vec<LastWords>> = HashMap::new();
        events.each(|payload, stamp| {
            let Some(of) = self.index_of(stamp.place) else { return };
            let register = &self.namespaces[of].register;
            let Ok(message) = Message::parse(payload) else { return };
            let Some(protocol) = message.protocol() else { return };
            let Some(flow) = Flow::new(protocol, &message.tuple()) else { return };
            if register.flows.unclaimed(&flow).is_empty() {
                return;
            }
            let payload = &mut payload.to_vec()[..];
            let times = take_relative_times(payload, protocol);
            let Ok(message) = Message::parse(payload) else { return };
            let words = self.last_words(&message, protocol, times, stamp, of);
            by_flow.entry((of, flow)).or_default().push(words);
        });
        for ((of, flow), events) in &by_flow {
            self.namespaces[*of].register.promise(flow, events);
        }
    }

    /// All events that were read were taken.
    pub(in crate::record) fn end_events(&mut self) {
        let haste = self.pace.read_until(self.events_read_until_ns.unwrap_or(0));
        self.keep_pace(haste);
    }

    /// No more events are taken in this capture.
    pub(in crate::record) fn hear_no_more(&mut self) {
        let haste = self.pace.end();
        self.keep_pace(haste);
    }

    fn keep_pace(&mut self, haste: Haste) {
        for namespace in &mut self.namespaces {
            namespace.register.half_told.keep_pace(haste);
        }
    }

    /// The sockets, by their cookies, of which a look-up found what is left and not what is left of another
    /// connection with the same addresses and ports: that would have told of its end by then, or at once.
    fn rests_of_their_own(&self, events: &mut EventBatch) -> HashSet<(usize, u64)> {
        let (mut own, mut told) = (HashSet::new(), HashMap::new());
        let rest_of = |stamp: &EventStamp| stamp.look_up.filter(|l| l.left != Left::Nothing);
        let mut has_rest = false;
        events.each(|_, stamp| has_rest |= rest_of(stamp).is_some());
        if !has_rest || !events.losses.is_empty() {
            return own;
        }
        events.each(|payload, stamp| {
            let (Some(of), Ok(message)) = (self.index_of(stamp.place), Message::parse(payload))
            else {
                return;
            };
            let Some(flow) = Flow::new(Protocol::Tcp, &message.tuple()) else { return };
            let (cookie, received_ns) = (message.cookie(), stamp.received.boottime_ns);
            let answered_ns = rest_of(stamp).map(|rest| rest.at.boottime_ns);
            let mut is_alone = true;
            if let Some((other, other_ns, other_answered_ns)) =
                told.insert((of, flow), (cookie, received_ns, answered_ns))
            {
                is_alone = other_ns + APART_NS < received_ns;
                if other_answered_ns.is_some_and(|ns| received_ns <= ns + TOLD_WITHIN_NS) {
                    own.remove(&(of, other));
                }
            }
            if answered_ns.is_some() && is_alone {
                own.insert((of, cookie));
            }
        });
        own
    }

    fn last_words(
        &self,
        message: &Message<'_>,
        protocol: Protocol,
        times: RelativeTimes,
        stamp: &EventStamp,
        of: usize,
    ) -> LastWords {
        let has_own_rest = self.rests_of_their_own.contains(&(of, message.cookie()));
        let (snapshot, started) = (self.tick.snapshot, self.capture_started);
        LastWords::new(message, protocol, times, stamp, has_own_rest, snapshot, started)
    }

    /// Takes a destroy event, which it changes. Whether there may have been subflows of MPTCP in its namespace
    /// is asked for once among events that are taken together, if it matters.
    pub(in crate::record) fn event(
        &mut self,
        payload: &mut [u8],
        stamp: &EventStamp,
        may_have_subflows: impl FnOnce(Place) -> bool,
        out: &mut Batch,
    ) {
        if let Some(events) = &mut self.events {
            events.read += 1;
        }
        let protocol = Message::parse(payload).ok().and_then(|message| message.protocol());
        let times = take_relative_times(payload, protocol.unwrap_or(Protocol::Udp));
        let Ok(message) = Message::parse(payload) else { return };
        // One that has left has said all.
        let Some(of) = self.index_of(stamp.place) else { return };
        let is_of_scope = |s: &TrackedScope| {
            s.of == of && s.scope.family == message.family() && Some(s.scope.protocol) == protocol
        };
        let (Some(protocol), Some(index)) = (protocol, self.scopes.iter().position(is_of_scope))
        else {
            return;
        };
        let tuple = message.tuple();
        if tuple.local.port == 0 && tuple.remote.port == 0 {
            if let Some(events) = &mut self.events {
                events.unbound += 1;
            }
            return;
        }
        let snapshot = self.tick.snapshot;
        let words = self.last_words(&message, protocol, times, stamp, of);
        let key =
            SocketKey { netns: self.scopes[index].scope.netns, cookie: words.cookie, tuple: None };
        let key = self.key_of_request(of, &key, &words).unwrap_or(key);
        let of_live = self.live.get(&key).filter(|live| !live.is_over);
        let is_shown = of_live.is_some_and(|live| !live.is_request());
        let register = &mut self.namespaces[of].register;
        let is_wiped = words.is_half_wiped && protocol == Protocol::Tcp;
        if is_wiped && !is_shown && register.wants_to_know_of_subflows() {
            register.has_subflows = may_have_subflows(stamp.place);
        }
        register.half_told.keep_pace(self.pace.read_until(stamp.received.monotonic_ns));
        let is_same = of_live.is_none_or(|live| {
            words.may_be_of(live.flow(protocol).as_ref()) || live.was_disconnected_from(&tuple)
        });
        if !is_same {
            // Connected anew since it was seen: that one ended unseen, and so did this one.
            let generation = of_live.map_or(0, |live| live.generation + 1);
            let Self { namespaces, live, .. } = self;
            let register = &mut namespaces[of].register;
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
            // Its request had a cookie, which it does not share: nor will what is left of it.
            death.is_unseen = live.is_request() && words.cookie != live.cookie();
            let register = &mut self.namespaces[of].register;
            if live.state == TcpState::LISTEN {
                let place = (protocol, tuple.local.port);
                let after_ns = Some(words.sent_after_ns);
                register.listeners.close(live.socket, place, snapshot, after_ns);
            }
            take_last_words(&mut death, &words, register.traffic_of(&words));
            register.bury(words.cookie, live.gone());
            register.death(death);
            self.remove_live(&key);
            let register = &mut self.namespaces[of].register;
            register.find_half_told(socket, &words, out);
            return;
        }
        let register = &mut self.namespaces[of].register;
        let held = register.last_words_of_held(&words, out);
        if let Some(socket) = held {
            register.find_half_told(socket, &words, out);
        }
        // A mini-socket whose event was read before may be left of another connection.
        let is_left_of_it = |live: &&Live| held.is_some() || live.state == TcpState::CLOSE;
        if let Some(live) = self.live.get(&key).filter(is_left_of_it) {
            // What is left of it: a mini-socket stays, a closed socket is freed now.
            if live.state == TcpState::CLOSE {
                out.remains_ends.push(live.remains_end(Some(snapshot)));
                register.bury(words.cookie, live.gone());
                self.remove_live(&key);
            }
        } else if let Some(former) = self.formers.remove(&key) {
            let flow = Flow::new(protocol, &former.tuple);
            if former.is_remains {
                self.formers.insert(key, former);
            } else if !words.may_be_of(flow.as_ref()) {
                let replaced = EndEvidence::Replaced;
                end_former(&former, Some(snapshot), replaced, register, out);
                let generation = former.generation + 1;
                self.record_unseen(index, &words, message.family(), generation, out);
            } else {
                let mut death = death_of_former(&former, None, None);
                take_last_words(&mut death, &words, register.traffic_of(&words));
                let rows = Rows {
                    last: Some(former.last_sample),
                    count: u32::try_from(former.samples).unwrap_or(u32::MAX),
                };
                let (socket, generation) = (former.id, former.generation);
                let gone = Gone { socket, generation, state: Some(former.state), rows };
                register.bury(words.cookie, gone);
                register.death(death);
                register.find_half_told(socket, &words, out);
            }
        } else if held.is_none() && register.gone(words.cookie).is_none() {
            let generation = register.generation_of(words.cookie, words.flow().as_ref());
            self.record_unseen(index, &words, message.family(), generation, out);
        }
    }

    /// The key of the connection request that became this socket. Both have one cookie, unless a dump
    /// asked for that of the request just when the socket was made: it was not made later, and not
    /// over before.
    fn key_of_request(&self, of: usize, key: &SocketKey, words: &LastWords) -> Option<SocketKey> {
        if self.live.contains_key(key) {
            return None;
        }
        let register = &self.namespaces[of].register;
        let member = register.flows.get(&words.flow()?)?;
        let seen_ns = member.there.open_by_ns?;
        let is_made_then =
            words.open_by_ns() <= seen_ns + SAME_MOMENT_NS && words.silent_ns >= seen_ns;
        let is_known = self.formers.contains_key(key) || register.is_held(words.cookie);
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
        let register = &mut self.namespaces[scope.of].register;
        let is_asked_for = is_asked_for(scope, self.chosen.as_ref(), words);
        if is_asked_for == Some(false) {
            return;
        }
        if is_asked_for.is_none() && !self.takes_events_as_found {
            if let Some(events) = &mut self.events {
                events.unchosen += 1;
            }
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
        let is_connected = !words.tuple.remote.address.is_unspecified();
        if is_tcp && !is_connected {
            let kind = (family, words.protocol);
            register.listeners.add_possible(id, kind, &words.tuple, self.tick.snapshot);
        }
        // A TCP socket whose connection is over is in no dump though it is there: only one that was
        // active since was opened since. Nor is one that is bound and no more, before Linux 6.8.
        let there_ns = match is_tcp {
            true if is_connected => words.tells_activity.then_some(words.active_ns),
            true => self.shows_bound_sockets.then_some(words.sent_after_ns),
            false => Some(words.active_ns),
        };
        let closed_before = match is_tcp && is_connected {
            true => scope.second_full_view_since(words.destroyed.begun_by_ns()),
            false => None,
        };
        let opened_after = there_ns.and_then(|there_ns| scope.full_view_before(there_ns));
        let traffic = register.traffic_of(words);
        register.birth(
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
                open_ms: None,
                told: if words.is_half_wiped { TupleTold::Half } else { TupleTold::Whole },
                origin: None,
                peer: None,
            },
            There {
                open_by_ns: Some(words.open_by_ns()),
                open_slack_ns: 0,
                alive_ns: Some(words.active_ns),
                over_ns: Some(words.silent_ns),
                traffic: traffic.map(Box::new),
            },
            out,
        );
        let flow = words.flow();
        let mut death = Death {
            end: SocketEnd {
                socket: id,
                last_snapshot: None,
                closed_before,
                evidence: closed_before.map(|_| EndEvidence::Absence),
                last_sample: None,
                samples: 0,
                state: None,
                ending: None,
                destroyed: None,
                counters: words.counters.unwrap_or_default(),
                has_final_counters: words.counters.is_some(),
            },
            cookie: words.cookie,
            generation,
            flow,
            peer: None,
            origin: None,
            life: (is_tcp && (flow.is_some() || words.is_half_wiped)).then(Life::default),
            open_by_ns: Some(words.open_by_ns()),
            over_ns: None,
            active_ns: None,
            last_received: None,
            traffic: None,
            is_unseen: generation == 0,
        };
        take_last_words(&mut death, words, traffic);
        let rows = Rows::default();
        register.bury(words.cookie, Gone { socket: id, generation, state: None, rows });
        register.death(death);
        if words.is_half_wiped && is_tcp {
            if words.was_answered() {
                register.enter_half_told(id, words);
            }
        } else {
            register.find_half_told(id, words, out);
        }
    }

    /// Notes that events were lost.
    pub(in crate::record) fn lose_events(&mut self, span: &LostSpan, out: &mut Batch) {
        for namespace in &mut self.namespaces {
            namespace.register.is_all_told = false;
            namespace.register.half_told.lose(span.to.monotonic_ns);
        }
        self.events_lost += 1;
        let LostSpan { from, to, count } = *span;
        out.event_losses.push(EventLoss { snapshot: self.tick.snapshot, from, to, count });
    }
}

/// Whether a socket that no dump showed was one that is asked for; `None` if that cannot be told.
fn is_asked_for(scope: &TrackedScope, chosen: Option<&Chosen>, words: &LastWords) -> Option<bool> {
    let told = Told::of_tuple(&words.tuple);
    let told = if words.is_half_wiped { told.half_wiped() } else { told };
    let is_chosen = match chosen.map(|chosen| chosen.holds(&told)) {
        Some(Some(false)) => return Some(false),
        Some(Some(true)) => true,
        // What of its ends is missing may still be told.
        Some(None) => scope.proves_absence,
        None => scope.scope.filter.is_empty(),
    };
    let states = scope.scope.states;
    let was_in_state = states.proves_absence()
        || (states.contains(TcpState::ESTABLISHED) && words.was_established());
    (is_chosen && was_in_state).then_some(true)
}

fn take_last_words(death: &mut Death, words: &LastWords, traffic: Option<Traffic>) {
    death.end.destroyed = Some(words.destroyed);
    death.active_ns = Some(words.active_ns);
    death.last_received = words.last_received;
    death.traffic = traffic;
    death.over_ns = Some(words.silent_ns);
    if let Some(counters) = words.counters {
        (death.end.counters, death.end.has_final_counters) = (counters, true);
    }
    if let Some(life) = &mut death.life {
        life.last_words = words.said;
        life.left = words.left;
    }
}
