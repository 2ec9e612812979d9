//! Half-wiped events: after an abort, or a refused connect, the kernel tells neither the remote port
//! nor, mostly, the local address. The other end on this host tells the rest: the one that fits, by
//! addresses and by when data went from one to the other, and never one of several.

mod half;
pub(in crate::record) mod pace;

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::batch::Batch;
use super::ending::Life;
use super::flows::{Dead, Flow, Member, There, only_one};
use super::last_words::{LastWords, TOLD_LATE_NS};
use super::register::Register;
use super::traffic::Moment;
use crate::model::{Nanos, Origin, SnapshotId, SocketId, SocketNews, TupleTold};
use half::{Half, Key, Place};
use pace::Haste;

/// The other end may hear of an abort, and let go of its socket, some ticks later.
const WAITED_TICKS: i64 = 60;
/// A moment that the kernel's ticks and the reading of an event leave so uncertain is known well.
const NARROW_NS: Nanos = 35_000_000;
/// A RST that frees one socket is told of, by that, before the socket that sent it: by some microseconds. And where few
/// come the second of two was read up to 4 ms before the first (measured).
const SOON_NS: Nanos = 10_000_000;
/// As many are waited for at most, but for those of the last tick.
const WAITED_MAX: usize = 10_000;

/// A socket that has gone, told in full, which may be the other end of one that was told by half.
#[derive(Clone, Copy, Debug)]
struct Whole {
    socket: SocketId,
    flow: Flow,
    read_ns: Nanos,
    active_ns: Option<Nanos>,
    last_received: Option<Moment>,
    /// It was plainly reset, and when something went is known well.
    is_plain: bool,
    /// Its other end may be one that is told in full.
    may_face_whole: bool,
    /// `None` for one that was known to be over before.
    life: Option<Life>,
    origin: Option<Origin>,
    begun_by_ns: Option<Nanos>,
}

/// When one half of several that fit is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// No other fits.
    Alone,
    /// The same, or no other fits of those that were read by then, where few overtake each other.
    InOrder,
}

/// Those whose other end has not been found.
#[derive(Debug, Default)]
pub(super) struct HalfTold {
    waiting: HashMap<Key, BTreeMap<Place, Half>>,
    /// The widest moment at which one of them sent last.
    widest_ns: Nanos,
    /// The halves that have not been held against those who were there before them.
    new_halves: VecDeque<(Key, Place)>,
    /// The wholes that have not been held against the halves.
    new_wholes: VecDeque<Whole>,
    /// The wholes of which the end of the tick tells.
    left_wholes: Vec<Whole>,
    haste: Haste,
    /// Since when events are listened for: the other end of who was active before may have told by then.
    since_ns: Nanos,
    /// Until when events may have been lost, or are of sockets of which the other end was lost.
    lost_until_ns: Nanos,
}

impl HalfTold {
    /// Events were lost: the other ends may be among them, and whoever seems to fit be another's.
    pub(super) fn lose(&mut self, until_ns: Nanos) {
        let Self { haste, since_ns, .. } = *self;
        *self = Self { haste, since_ns, lost_until_ns: until_ns + TOLD_LATE_NS, ..Self::default() };
    }

    /// Whether events may have been lost that were to be read by then.
    pub(super) fn is_lossy(&self, read_ns: Nanos) -> bool {
        read_ns <= self.lost_until_ns
    }

    /// Events are listened for since this moment of `CLOCK_MONOTONIC`.
    pub(super) fn listen_since(&mut self, ns: Nanos) {
        self.since_ns = ns;
    }

    pub(super) fn since_ns(&self) -> Nanos {
        self.since_ns
    }

    /// So fast events come now.
    pub(super) fn keep_pace(&mut self, haste: Haste) {
        self.haste = haste;
    }

    /// Waits no longer for the other ends of those that died long ago.
    pub(super) fn forget(&mut self, now: SnapshotId) {
        let count: usize = self.waiting.values().map(BTreeMap::len).sum();
        let kept_ticks = if count > WAITED_MAX { 1 } else { WAITED_TICKS };
        self.waiting.retain(|_, halves| {
            halves.retain(|_, half| half.died.0 + kept_ticks > now.0);
            !halves.is_empty()
        });
        let halves = self.waiting.values().flatten();
        self.widest_ns =
            halves.filter_map(|(_, half)| half.last_sent).map(Moment::width_ns).max().unwrap_or(0);
    }

    fn add(&mut self, half: Half) {
        let width_ns = half.last_sent.map_or(0, Moment::width_ns);
        self.widest_ns = self.widest_ns.max(width_ns);
        self.waiting.entry(half.key()).or_default().insert(half.place(), half);
        self.new_halves.push_back((half.key(), half.place()));
    }

    fn remove(&mut self, half: &Half) {
        if let Some(halves) = self.waiting.get_mut(&half.key()) {
            halves.remove(&half.place());
        }
    }

    fn doubt(&mut self, half: &Half) {
        let halves = self.waiting.get_mut(&half.key());
        if let Some(half) = halves.and_then(|halves| halves.get_mut(&half.place())) {
            half.is_doubtful = true;
        }
    }

    /// Those that may have been the other end of this one.
    fn that_fit(&self, whole: &Whole, slack_ns: Nanos) -> impl Iterator<Item = &Half> {
        self.waiting_for(&whole.flow, whole.active_ns, whole.last_received, slack_ns)
    }

    /// Those that may have been the other end of one with this flow that was active and received then.
    fn waiting_for(
        &self,
        flow: &Flow,
        active_ns: Option<Nanos>,
        last_received: Option<Moment>,
        slack_ns: Nanos,
    ) -> impl Iterator<Item = &Half> {
        let own = flow.reversed();
        let key = (flow.local().0, flow.remote().1);
        let halves = last_received.and_then(|received| {
            let received = received.widened(slack_ns);
            let since = (received.from_ns - self.widest_ns, SocketId(0));
            let until = (received.to_ns, SocketId(i64::MAX));
            Some(self.waiting.get(&key)?.range(since..=until))
        });
        halves.into_iter().flatten().map(|(_, half)| half).filter(move |half| {
            half.may_be(&own) && half.fits_dead(active_ns, last_received, slack_ns)
        })
    }

    /// The one that was the other end of this one, if that is certain.
    fn half_of(&self, whole: &Whole, rule: Rule) -> Option<Half> {
        let slack_ns = self.haste.slack_ns(whole.read_ns);
        if rule == Rule::InOrder && slack_ns == 0 {
            let until_ns = whole.read_ns + SOON_NS;
            let before = self.that_fit(whole, 0).filter(|half| half.read_ns <= until_ns);
            if let Some(half) = only_one(before) {
                return Some(*half);
            }
        }
        only_one(self.that_fit(whole, slack_ns))
            .filter(|half| half.has_sent_surely(whole.last_received, slack_ns))
            .copied()
    }

    /// Whether one is told apart from others with its addresses and ports: because it is known well when something
    /// went, or because events come in order.
    pub(super) fn tells_apart(&self, is_sharp: bool) -> bool {
        is_sharp || self.haste.is_in_order()
    }

    /// Whether every event has come that was to come before that of this one, be the kernel as late as it is where
    /// processors are short, or few come now; `None` if some were lost.
    pub(super) fn is_all_told(&self, member: &Member) -> Option<bool> {
        let read_ns = member.dead.as_ref().and_then(|dead| dead.destroyed_ns)?;
        let is_told = self.haste.is_in_order() || self.has_waited_for(read_ns);
        (!self.is_lossy(read_ns)).then_some(is_told)
    }

    /// Whether every event has come that was to come before one that was read then, be the kernel as late as it is where
    /// processors are short.
    fn has_waited_for(&self, read_ns: Nanos) -> bool {
        self.haste.is_read_until(read_ns + TOLD_LATE_NS)
    }

    /// Whether one that waits may have been the other end of this one.
    pub(super) fn may_be_of(&self, flow: &Flow, member: &Member) -> bool {
        let Some(dead) = member.dead.as_deref() else { return false };
        let (active_ns, last_received) = (dead.active_ns, dead.last_received);
        let slack_ns = dead.destroyed_ns.map_or(0, |read_ns| self.haste.slack_ns(read_ns));
        self.waiting_for(flow, active_ns, last_received, slack_ns).next().is_some()
    }

    /// Whether one that died, and was plainly reset, waits to be held against a half that fits it.
    pub(super) fn may_find_half(&self, member: &Member) -> bool {
        let read_ns = member.dead.as_ref().and_then(|dead| dead.destroyed_ns);
        let Some(read_ns) = read_ns.filter(|ns| !self.haste.is_past(ns + SOON_NS)) else {
            return false;
        };
        let first = self.new_wholes.partition_point(|whole| whole.read_ns < read_ns);
        let read_then = self.new_wholes.range(first..).take_while(|w| w.read_ns == read_ns);
        let whole = read_then.into_iter().find(|whole| whole.socket == member.socket);
        whole.is_some_and(|whole| self.that_fit(whole, 0).next().is_some())
    }
}

impl Register {
    /// Enters a socket of which a half-wiped event has told.
    pub(super) fn enter_half_told(&mut self, socket: SocketId, words: &LastWords) {
        if self.half_told.is_lossy(words.destroyed.at.monotonic_ns) {
            return;
        }
        let Some(&death) = self.death_of.get(&socket) else { return };
        let death = &self.deaths[death];
        let may_be_subflow = self.has_subflows;
        let ending = death.life.and_then(|life| Life { may_be_subflow, ..life }.ending());
        self.half_told.add(Half {
            socket,
            cookie: words.cookie,
            tuple: words.tuple,
            read_ns: words.destroyed.at.monotonic_ns,
            open_by_ns: death.open_by_ns,
            last_sent: words.last_sent,
            dead: Dead { ending, ..death.dead() },
            died: self.now,
            is_doubtful: false,
        });
    }

    /// A socket has gone, told in full: it may be the other end of one that was told by half.
    pub(super) fn find_half_told(&mut self, socket: SocketId, words: &LastWords, out: &mut Batch) {
        let Some(flow) = words.flow().filter(|_| words.was_answered()) else { return };
        let death = self.death_of.get(&socket).map(|&death| &self.deaths[death]);
        let direction = self.direction_by_listeners(&flow, Some(words.destroyed.begun_by_ns()));
        let whole = Whole {
            socket,
            flow,
            read_ns: words.destroyed.at.monotonic_ns,
            active_ns: Some(words.active_ns),
            last_received: words.last_received,
            // Who was not plainly reset is hardly the other end of an abort, and when something went that was
            // read late is not known well: the end of the tick tells.
            is_plain: self.was_reset(&flow, words) && is_narrow(words.last_received),
            may_face_whole: words.said.is_some_and(|said| said.may_face_whole(direction)),
            life: death.and_then(|death| death.life),
            origin: death.and_then(|death| death.origin),
            begun_by_ns: death.and_then(|death| death.begun_by_ns()),
        };
        if !self.is_alone(&whole) || self.half_told.is_lossy(whole.read_ns) {
            return;
        }
        match whole.is_plain {
            true => self.half_told.new_wholes.push_back(whole),
            false => self.half_told.left_wholes.push(whole),
        }
        self.weigh_wholes(out);
    }

    /// Completes the halves of those that were plainly reset, in the order in which they were read, as soon as no
    /// event that tells of them may still come.
    pub(super) fn weigh_wholes(&mut self, out: &mut Batch) {
        while let Some(whole) = self.half_told.new_wholes.front()
            && self.half_told.haste.is_past(whole.read_ns + SOON_NS)
        {
            let whole = *whole;
            self.half_told.new_wholes.pop_front();
            if !self.complete_half_of(&whole, Rule::InOrder, out) {
                self.half_told.left_wholes.push(whole);
            }
        }
    }

    /// Completes what is left at the end of the tick: by then it may be known who opened a connection, and so who was reset.
    pub(super) fn find_waiting_halves(&mut self, out: &mut Batch) {
        for whole in std::mem::take(&mut self.half_told.left_wholes) {
            let Some(life) = whole.life.filter(|_| self.is_alone(&whole)) else { continue };
            if !self.half_told.haste.is_past(whole.read_ns) {
                self.half_told.left_wholes.push(whole);
                continue;
            }
            let direction = whole.origin.map(Origin::direction);
            let direction =
                direction.or_else(|| self.direction_by_listeners(&whole.flow, whole.begun_by_ns));
            if (Life { direction, ..life }).is_fin_acked() == Some(false) {
                self.complete_half_of(&whole, Rule::Alone, out);
            }
        }
    }

    /// Whether the other end of this one is not known.
    fn is_alone(&self, whole: &Whole) -> bool {
        let member = self.flows.find(&whole.flow, whole.socket);
        member.is_some_and(|member| member.peer.is_none())
    }

    /// Completes the one that this must have been the other end of. That is not certain of one whose other end may be
    /// told in full, and held.
    fn complete_half_of(&mut self, whole: &Whole, rule: Rule, out: &mut Batch) -> bool {
        let Some(member) = self.flows.find(&whole.flow, whole.socket) else { return false };
        let reversed = whole.flow.reversed();
        // Where few come, who is there was so before, and was not its other end then.
        let is_late = self.half_told.haste.slack_ns(whole.read_ns) > 0;
        let latest = self.flows.get(&reversed).filter(|other| is_late || other.dead.is_some());
        let mut others = latest.into_iter().chain(self.flows.replaced(&reversed));
        let may_have_told = whole.active_ns.is_none_or(|ns| ns < self.half_told.since_ns);
        if member.peer.is_some() || may_have_told || others.any(|other| other.fits(member)) {
            return false;
        }
        let Some(half) = self.half_told.half_of(whole, rule) else { return false };
        if whole.may_face_whole {
            // Nor may it be that of a later one.
            self.half_told.doubt(&half);
            return false;
        }
        !half.is_doubtful
            && self.tells_half_apart(&half, &whole.flow, whole.last_received)
            && self.complete(&half, whole.flow, whole.socket, out)
    }

    /// Finds the other ends that had gone, or not yet, when the half-wiped events came.
    pub(super) fn complete_half_told(&mut self, out: &mut Batch) {
        let mut halves = Vec::new();
        let half_told = &mut self.half_told;
        while let Some((key, place)) = half_told.new_halves.front() {
            if let Some(half) = half_told.waiting.get(key).and_then(|halves| halves.get(place)) {
                if !half_told.haste.is_past(half.read_ns) {
                    break;
                }
                halves.push(*half);
            }
            half_told.new_halves.pop_front();
        }
        if halves.is_empty() {
            return;
        }
        let unpaired = self.flows.unpaired();
        for half in halves {
            let flows = unpaired.get(&half.key()).map_or(&[][..], Vec::as_slice);
            let Some((flow, peer)) = self.peer_of_half(&half, flows) else { continue };
            let socket = peer.socket;
            if peer.dead.as_deref().is_some_and(|dead| self.may_be_orderly(dead)) {
                self.half_told.new_halves.push_back((half.key(), half.place()));
            } else {
                self.complete(&half, flow, socket, out);
            }
        }
    }

    /// The only one of these flows that may be the other end of this half, if no other half may be its other end.
    fn peer_of_half(&self, half: &Half, flows: &[Flow]) -> Option<(Flow, &Member)> {
        let slack_ns = self.half_told.haste.slack_ns(half.read_ns);
        let flow = *only_one(flows.iter().filter(|flow| {
            let own = flow.reversed();
            half.may_be(&own)
                && self.flows.get(flow).is_some_and(|other| half.fits(other, slack_ns))
                && self.flows.get(&own).is_none()
        }))?;
        let peer = self.flows.get(&flow).filter(|peer| peer.peer.is_none())?;
        let may_be_aborted = |dead: &Dead| {
            dead.active_ns.is_some_and(|ns| ns >= self.half_told.since_ns)
                && dead.is_fin_acked().is_some()
                && half.has_sent_surely(dead.last_received, slack_ns)
                && !dead.may_face_whole
        };
        if half.is_doubtful
            || !half.fits(peer, 0)
            || !peer.dead.as_deref().is_none_or(may_be_aborted)
        {
            return None;
        }
        let last_received = peer.dead.as_deref().and_then(|dead| dead.last_received);
        if !self.tells_half_apart(half, &flow, last_received) {
            return None;
        }
        let rivals = self.half_told.waiting.get(&half.key()).into_iter().flatten();
        let rivals = rivals.map(|(_, rival)| rival);
        let rivals =
            rivals.filter(|rival| rival.may_be(&flow.reversed()) && rival.fits(peer, slack_ns));
        only_one(rivals).map(|_| (flow, peer))
    }

    /// Whether a half is told apart from others that had the addresses and ports of its other end: by when something was
    /// sent.
    fn tells_half_apart(&self, half: &Half, flow: &Flow, last_received: Option<Moment>) -> bool {
        let since_ns = last_received.map(|received| received.from_ns);
        let mut moments = [half.last_sent, last_received].into_iter().flatten();
        !self.flows.were_used_again(flow, since_ns) || moments.all(Moment::is_sharp)
    }

    /// Whether it may have closed as its other end did, which tells so in full if it is not held.
    fn may_be_orderly(&self, dead: &Dead) -> bool {
        let haste = self.half_told.haste;
        let is_awaited = |read_ns| !haste.is_over() && !self.half_told.has_waited_for(read_ns);
        dead.is_fin_acked() == Some(true) && dead.destroyed_ns.is_some_and(is_awaited)
    }

    fn complete(
        &mut self,
        half: &Half,
        flow_of_peer: Flow,
        peer: SocketId,
        out: &mut Batch,
    ) -> bool {
        let Half { socket, cookie, tuple, open_by_ns, dead, .. } = *half;
        let own = flow_of_peer.reversed();
        let (alive_ns, over_ns) = (dead.active_ns, dead.destroyed_ns);
        let there = There { open_by_ns, alive_ns, over_ns, ..There::default() };
        let member = Member { dead: Some(Box::new(dead)), ..Member::new(socket, cookie, there) };
        if !self.flows.add_other_end(own, member, peer, self.now) {
            return false; // of another time
        }
        self.half_told.remove(half);
        if let Some(&death) = self.death_of.get(&socket) {
            self.deaths[death].flow = Some(own);
        }
        self.tell_each_other((own, socket), (flow_of_peer, peer));
        let opened_after = self.birth_of(peer).and_then(|birth| birth.opened_after);
        self.note_peer(peer, socket, out);
        let tuple = flow_of_peer.tuple_of_peer(&tuple);
        match self.birth_of(socket) {
            Some(birth) => {
                birth.tuple = tuple;
                birth.told = TupleTold::Inferred;
                birth.opened_after = birth.opened_after.or(opened_after);
            }
            None => out.news.push((socket, SocketNews::Addresses(tuple))),
        }
        self.note_peer(socket, peer, out);
        true
    }
}

fn is_narrow(moment: Option<Moment>) -> bool {
    moment.is_some_and(|moment| moment.width_ns() <= NARROW_NS)
}
