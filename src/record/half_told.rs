//! Half-wiped events: after an abort, or a refused connect, the kernel tells neither the remote port
//! nor, mostly, the local address. The other end on this host tells the rest: the one that fits, by
//! addresses and by when data went from one to the other, and never one of several.

use std::net::Ipv6Addr;

use hashbrown::HashMap;

use super::batch::Batch;
use super::ending::Life;
use super::flows::{Added, Dead, Flow, Member, Moment, There, mapped};
use super::last_words::LastWords;
use super::register::Register;
use crate::model::{Nanos, Origin, SnapshotId, SocketId, SocketNews, Tuple, TupleTold};

/// The other end may hear of an abort, and let go of its socket, some ticks later.
const WAITED_TICKS: i64 = 60;
/// A moment that the kernel's ticks and the reading of an event leave so uncertain is known well.
const NARROW_NS: Nanos = 35_000_000;
/// As many are waited for at most.
const WAITED_MAX: usize = 10_000;

/// A socket of which an event told half.
#[derive(Clone, Copy, Debug)]
struct Half {
    socket: SocketId,
    cookie: u64,
    tuple: Tuple,
    open_by_ns: Option<Nanos>,
    last_sent: Option<Moment>,
    dead: Dead,
    died: SnapshotId,
}

impl Half {
    fn may_be(&self, own: &Flow) -> bool {
        let local = self.tuple.local.address;
        local.is_unspecified() || mapped(local) == own.local().0
    }

    /// What one end sent last the other received at that moment: within a host that is as good as a
    /// signature. `None` where nothing tells.
    fn has_sent(&self, last_received: Option<Moment>) -> Option<bool> {
        Some(self.last_sent?.may_be(&last_received?))
    }

    /// Whether this may be the other end: alive as far as is known, or gone with a fitting signature. One that
    /// was alive after the abort is not.
    fn fits(&self, other: &Member) -> bool {
        let was_alive_after =
            other.there.alive_ns.zip(self.dead.destroyed_ns).is_some_and(|(a, b)| a > b);
        match &other.dead {
            None => !was_alive_after,
            Some(dead) => self.fits_dead(dead.active_ns, dead.last_received),
        }
    }

    /// Whether one that is gone may have been the other end: nothing came from this one any more after
    /// the abort.
    fn fits_dead(&self, active_ns: Option<Nanos>, last_received: Option<Moment>) -> bool {
        let is_until_then = active_ns
            .zip(self.dead.destroyed_ns)
            .is_none_or(|(active_ns, aborted_ns)| active_ns <= aborted_ns);
        is_until_then && self.has_sent(last_received) == Some(true)
    }
}

/// Those whose other end has not been found, by its address and this end's port.
#[derive(Debug, Default)]
pub(super) struct HalfTold {
    waiting: HashMap<(Ipv6Addr, u16), Vec<Half>>,
    /// When events were lost for the last time.
    lost: Option<SnapshotId>,
}

impl HalfTold {
    /// Events were lost: the other ends may be among them, and whoever seems to fit be another's.
    pub(super) fn lose(&mut self, now: SnapshotId) {
        self.waiting = HashMap::new();
        self.lost = Some(now);
    }

    /// Waits no longer for the other ends of those that died long ago.
    pub(super) fn forget(&mut self, now: SnapshotId) {
        let is_crowded = self.waiting.len() > WAITED_MAX;
        self.waiting.retain(|_, halves| {
            halves.retain(|half| !is_crowded && half.died.0 + WAITED_TICKS > now.0);
            !halves.is_empty()
        });
    }

    fn remove(&mut self, key: (Ipv6Addr, u16), socket: SocketId) {
        if let Some(halves) = self.waiting.get_mut(&key) {
            halves.retain(|half| half.socket != socket);
        }
    }
}

fn key_of(tuple: &Tuple) -> (Ipv6Addr, u16) {
    (mapped(tuple.remote.address), tuple.local.port)
}

impl Register {
    /// Enters a socket of which a half-wiped event has told.
    pub(super) fn enter_half_told(&mut self, socket: SocketId, words: &LastWords) {
        if self.half_told.lost == Some(self.now) {
            return;
        }
        let Some(&death) = self.death_of.get(&socket) else { return };
        let death = &self.deaths[death];
        let may_be_subflow = self.has_subflows;
        let ending = death.life.and_then(|life| Life { may_be_subflow, ..life }.ending());
        self.half_told.waiting.entry(key_of(&words.tuple)).or_default().push(Half {
            socket,
            cookie: words.cookie,
            tuple: words.tuple,
            open_by_ns: death.open_by_ns,
            last_sent: words.last_sent,
            dead: Dead { ending, ..death.dead() },
            died: self.now,
        });
    }

    /// A socket has gone, told in full: it may be the other end of one that was told by half before.
    pub(super) fn find_half_told(&mut self, socket: SocketId, words: &LastWords, out: &mut Batch) {
        let Some(flow) = words.flow().filter(|_| words.was_answered()) else { return };
        // Who was not plainly reset is hardly the other end of an abort, and when something went that was read late
        // is not known well: the end of the tick tells.
        if self.was_reset(&flow, words) && is_narrow(words.last_received) {
            let active_ns = Some(words.active_ns);
            self.find_half_of(&flow, socket, active_ns, words.last_received, out);
        }
    }

    /// The same for those that went in this tick: no other turned out to be their other end, and their
    /// counters do not tell of an orderly end.
    pub(super) fn find_waiting_halves(&mut self, out: &mut Batch) {
        if self.half_told.waiting.is_empty() {
            return;
        }
        for index in 0..self.deaths.len() {
            let death = &self.deaths[index];
            let (Some(flow), Some(life)) = (death.flow, death.life) else { continue };
            let direction = death.origin.map(Origin::direction);
            let direction =
                direction.or_else(|| self.direction_by_listeners(&flow, death.begun_by_ns()));
            let is_open = Life { direction, ..life }.is_fin_acked() != Some(true);
            if is_open && death.end.destroyed.is_some() {
                let (socket, active_ns) = (death.end.socket, death.active_ns);
                self.find_half_of(&flow, socket, active_ns, death.last_received, out);
            }
        }
    }

    /// Completes the one that this socket, active until then, must have been the other end of.
    fn find_half_of(
        &mut self,
        flow: &Flow,
        socket: SocketId,
        active_ns: Option<Nanos>,
        last_received: Option<Moment>,
        out: &mut Batch,
    ) {
        let is_alone = |member: &&Member| member.socket == socket && member.peer.is_none();
        if self.flows.get(flow).filter(is_alone).is_none() {
            return;
        }
        let own = flow.reversed();
        let key = (flow.local().0, flow.remote().1);
        let halves = self.half_told.waiting.get(&key).into_iter().flatten();
        let mut fitting =
            halves.filter(|half| half.may_be(&own) && half.fits_dead(active_ns, last_received));
        if let (Some(half), None) = (fitting.next().copied(), fitting.next()) {
            self.complete(&half, flow, socket, out);
        }
    }

    /// Finds the other ends that had gone, or not yet, when the half-wiped events of this tick came.
    pub(super) fn complete_half_told(&mut self, out: &mut Batch) {
        let now = self.now;
        let halves = self.half_told.waiting.values().flatten().filter(|half| half.died == now);
        let halves: Vec<Half> = halves.copied().collect();
        if halves.is_empty() {
            return;
        }
        let unpaired = self.flows.unpaired();
        for half in halves {
            let flows = unpaired.get(&key_of(&half.tuple)).into_iter().flatten();
            let mut fitting = flows.filter(|flow| {
                let own = flow.reversed();
                half.may_be(&own)
                    && self.flows.get(flow).is_some_and(|other| half.fits(other))
                    && self.flows.get(&own).is_none()
            });
            let (Some(flow), None) = (fitting.next().copied(), fitting.next()) else { continue };
            let Some(peer) = self.flows.get(&flow).filter(|m| m.peer.is_none()) else {
                continue;
            };
            let rivals = self.half_told.waiting.get(&key_of(&half.tuple)).into_iter().flatten();
            let rivals = rivals.filter(|rival| rival.may_be(&flow.reversed()) && rival.fits(peer));
            if rivals.count() == 1 {
                self.complete(&half, &flow, peer.socket, out);
            }
        }
    }

    fn complete(&mut self, half: &Half, flow_of_peer: &Flow, peer: SocketId, out: &mut Batch) {
        let Half { socket, cookie, tuple, open_by_ns, dead, .. } = *half;
        let own = flow_of_peer.reversed();
        let over_ns = dead.destroyed_ns;
        let alive_ns = dead.active_ns;
        let there = There { open_by_ns, alive_ns, over_ns, ..There::default() };
        let member = Member { dead: Some(Box::new(dead)), ..Member::new(socket, cookie, there) };
        if !matches!(self.flows.add(own, member, |_| true), Added::WithPeer(_)) {
            return; // of another time
        }
        self.flows.bury(&own, socket, over_ns, dead, self.now);
        self.half_told.remove(key_of(&tuple), socket);
        if let Some(&death) = self.death_of.get(&socket) {
            self.deaths[death].flow = Some(own);
        }
        let opened_after = match self.birth_of(peer) {
            Some(birth) => {
                birth.peer = Some(socket);
                birth.opened_after
            }
            None => {
                out.news.push((peer, SocketNews::Peer(socket)));
                None
            }
        };
        let tuple = flow_of_peer.tuple_of_peer(&tuple);
        match self.birth_of(socket) {
            Some(birth) => {
                birth.tuple = tuple;
                birth.told = TupleTold::Inferred;
                birth.peer = Some(peer);
                birth.opened_after = birth.opened_after.or(opened_after);
            }
            None => {
                out.news.push((socket, SocketNews::Addresses(tuple)));
                out.news.push((socket, SocketNews::Peer(peer)));
            }
        }
    }
}

fn is_narrow(moment: Option<Moment>) -> bool {
    moment.is_some_and(|moment| moment.to_ns - moment.from_ns <= NARROW_NS)
}
