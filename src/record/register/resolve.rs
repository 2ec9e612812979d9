//! What the births and deaths of a tick tell of each other.

use hashbrown::HashMap;

use super::{BIRTHS_KEPT, REMEMBERED_MAX, Register, flow_of};
use crate::model::{
    EndUpdate, NewSocket, Origin, Protocol, SnapshotId, SocketKey, SocketNews, TupleTold,
};
use crate::record::batch::Batch;
use crate::record::ending::{Remnant, ending_with_peer};
use crate::record::flows::Member;
use crate::record::live::Live;

impl Register {
    /// Holds the births and deaths of the tick against each other and hands them out. `flush` takes
    /// batches that have grown full.
    pub(in crate::record) fn resolve(
        &mut self,
        live: &mut HashMap<SocketKey, Live>,
        out: &mut Box<Batch>,
        flush: &mut impl FnMut(&mut Box<Batch>),
    ) {
        self.settle_doubts(live, out);
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
    pub(in crate::record) fn forget(&mut self, before: SnapshotId) {
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

    /// Pairs sockets with those that were there before them and have been seen, or told of, since: one
    /// that has not may be of a connection that is over, with the same addresses and ports.
    fn settle_doubts(&mut self, live: &HashMap<SocketKey, Live>, out: &mut Batch) {
        for (flow, socket) in std::mem::take(&mut self.doubtful) {
            let is_alone = |member: &&Member| member.socket == socket && member.peer.is_none();
            let Some(member) = self.flows.get(&flow).filter(is_alone) else { continue };
            let other = self.flows.get(&flow.reversed()).filter(|other| other.fits(member));
            let Some(&Member { socket: peer, cookie, dead, .. }) = other else { continue };
            let key = SocketKey { netns: self.netns, cookie, tuple: None };
            let of_live = live.get(&key).filter(|live| live.socket == peer);
            let is_there = match (dead, of_live) {
                (Some(dead), _) => dead.destroyed_ns.is_some(),
                (None, Some(live)) if live.last_seen == self.now => true,
                (None, Some(_)) => {
                    self.doubtful.push((flow, socket));
                    false
                }
                (None, None) => false,
            };
            if is_there {
                self.flows.pair(&flow);
                self.note_peer(socket, peer, out);
                self.note_peer(peer, socket, out);
            }
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
            let (ending, remnant) = (life.ending(), life.remnant());
            death.end.ending = ending;
            if let Some(held) = self.held.get_mut(&death.cookie).filter(|h| h.socket == socket) {
                held.life = death.life;
            }
            if let Some(dead) =
                death.flow.as_ref().and_then(|flow| self.flows.dead_mut(flow, socket))
            {
                dead.ending = ending;
                dead.origin = origin;
                if dead.remnant != Remnant::None {
                    dead.remnant = remnant;
                }
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
