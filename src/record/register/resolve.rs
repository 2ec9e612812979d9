//! What the births and deaths of a tick tell of each other.

use hashbrown::HashMap;

use super::{BIRTHS_KEPT, REMEMBERED_MAX, Register, flow_of};
use crate::model::{
    EndUpdate, Ending, NetnsId, NewSocket, Origin, Protocol, SnapshotId, SocketId, SocketKey,
    SocketNews, TupleTold,
};
use crate::record::batch::Batch;
use crate::record::ending::{Remnant, ending_with_peer};
use crate::record::flows::{Flow, Member};
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
        self.weigh_wholes(out);
        self.pair_ends(live, out);
        self.complete_half_told(out);
        self.find_waiting_halves(out);
        self.ask_counters(out);
        self.note_diallers();
        self.ask_listeners();
        self.ask_peers(live, out);
        self.tell_peers(live, out);
        for birth in self.births.iter().filter(|birth| birth.origin.is_some()) {
            if let Some(live) = live.get_mut(&key_of(birth)).filter(|l| l.socket == birth.id) {
                live.origin = birth.origin;
            }
        }
        self.find_endings();
        self.ask_peers_for_endings(out);
        self.share_endings(out);
        for birth in self.births.drain(..) {
            out.sockets.push(birth);
            if out.is_full() {
                flush(out);
            }
        }
        for death in self.deaths.drain(..) {
            if death.end.may_go_on() {
                self.half_closed.add(death.end.socket, self.now);
            }
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
        self.flows.forget(before, self.now, self.now_ns);
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
            let told = last_words.and_then(|said| said.origin());
            let Some(origin) = told.filter(|told| told.overrules(death.origin)) else { continue };
            let socket = death.end.socket;
            self.deaths[index].origin = Some(origin);
            match self.birth_of(socket) {
                Some(birth) if origin.overrules(birth.origin) => birth.origin = Some(origin),
                Some(_) => {}
                None => {
                    out.news.push((socket, SocketNews::Origin(origin)));
                    if let Some(flow) = self.deaths[index].flow {
                        self.direct(flow, socket, origin);
                    }
                }
            }
        }
    }

    /// Who dials out from the port of a listener makes it tell nothing.
    fn note_diallers(&mut self) {
        let of_births =
            self.births.iter().filter_map(|birth| Some((flow_of(birth)?, birth.origin?)));
        let of_deaths = self.deaths.iter().filter_map(|death| Some((death.flow?, death.origin?)));
        for (flow, origin) in of_births.chain(of_deaths) {
            if origin.is_dialled_for_sure() {
                self.listeners.note_dialler(&flow);
            }
        }
    }

    /// A listener at one end tells. Where it says that the other end was dialled, and this end's counters
    /// count no SYN, nothing tells: while a byte is on its way they may count one too little.
    fn ask_listeners(&mut self) {
        for index in 0..self.births.len() {
            let birth = &self.births[index];
            let is_seen =
                birth.origin.is_some_and(|o| o == Origin::SynRecv || o.is_dialled_for_sure());
            if birth.protocol != Protocol::Tcp || is_seen {
                continue;
            }
            let counted = birth.origin.map(Origin::direction);
            let flow = flow_of(birth);
            let member = flow.and_then(|flow| self.flows.get(&flow));
            let death = self.death_of.get(&birth.id).map(|&death| &self.deaths[death]);
            let member = member.filter(|member| member.socket == birth.id);
            let begun_by_ns = match death {
                Some(death) => death.begun_by_ns(),
                None => member.and_then(|member| member.there.open_by_ns),
            };
            let told = match flow {
                Some(flow) => self.origin_by_listeners(&flow, begun_by_ns),
                None => (birth.told == TupleTold::Half
                    && self.listeners.accepted_at(birth.protocol, &birth.tuple.local, begun_by_ns))
                .then_some(Origin::Listener),
            };
            let Some(told) = told else { continue };
            let is_agreed = counted.is_none_or(|counted| counted == told.direction());
            self.births[index].origin = is_agreed.then_some(told);
        }
    }

    /// What one end knows tells the other.
    fn ask_peers(&mut self, live: &mut HashMap<SocketKey, Live>, out: &mut Batch) {
        for index in 0..self.births.len() {
            let birth = &self.births[index];
            let Some(flow) = flow_of(birth).filter(|_| birth.peer.is_some()) else { continue };
            let (socket, peer) = (birth.id, birth.peer);
            if let Some(origin) = birth.origin {
                self.tell_peer(&flow, (socket, peer), origin, live, out);
            } else {
                let of_peer = self.origin_of_peer(&flow, (socket, peer), live);
                self.births[index].origin = of_peer.map(Origin::of_peer);
            }
        }
    }

    /// Tells the other ends of those of which it has come to be known who opened their connection.
    fn tell_peers(&mut self, live: &mut HashMap<SocketKey, Live>, out: &mut Batch) {
        for (flow, socket, origin) in std::mem::take(&mut self.directed) {
            if let Some(dead) = self.flows.dead_mut(&flow, socket) {
                dead.origin = Some(origin);
            }
            let peer = self.flows.find(&flow, socket).and_then(|member| member.peer);
            self.tell_peer(&flow, (socket, peer), origin, live, out);
        }
    }

    /// Tells the other end, if it does not know, who opened the connection.
    fn tell_peer(
        &mut self,
        flow: &Flow,
        pair: (SocketId, Option<SocketId>),
        origin: Origin,
        live: &mut HashMap<SocketKey, Live>,
        out: &mut Batch,
    ) {
        let Some(peer) = pair.1.filter(|&peer| peer != pair.0) else { return };
        if self.origin_of_peer(flow, pair, live).is_some() {
            return;
        }
        let (member, origin) = (self.member_of_peer(flow, pair), origin.of_peer());
        if let Some(dead) = self.flows.dead_mut(&flow.reversed(), peer) {
            dead.origin = Some(origin);
        }
        if let Some(live) = member.as_ref().and_then(|member| live_of(member, self.netns, live)) {
            live.origin = Some(origin);
        }
        if let Some(&death) = self.death_of.get(&peer) {
            self.deaths[death].origin = Some(origin);
        }
        match self.birth_of(peer) {
            Some(birth) => birth.origin = Some(origin),
            None if member.is_some() => out.news.push((peer, SocketNews::Origin(origin))),
            None => {}
        }
    }

    /// The other end of this socket's connection, if that is another and known.
    fn member_of_peer(&self, flow: &Flow, pair: (SocketId, Option<SocketId>)) -> Option<Member> {
        let (socket, peer) = pair;
        self.flows.find(&flow.reversed(), peer.filter(|&peer| peer != socket)?).cloned()
    }

    /// Who opened the connection, as the other end knows.
    fn origin_of_peer(
        &mut self,
        flow: &Flow,
        pair: (SocketId, Option<SocketId>),
        live: &mut HashMap<SocketKey, Live>,
    ) -> Option<Origin> {
        let Some(member) = self.member_of_peer(flow, pair) else {
            let peer = pair.1.filter(|&peer| peer != pair.0)?;
            return self.birth_of(peer)?.origin;
        };
        let of_live = live_of(&member, self.netns, live).and_then(|live| live.origin);
        match (self.birth_of(member.socket), member.dead) {
            (Some(birth), _) => birth.origin,
            (None, Some(dead)) => dead.origin,
            (None, None) => of_live,
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
            life.may_be_subflow = self.has_subflows;
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
            let Some((peer, of_peer, is_peer_stalled)) = self.ending_of_peer(index, &flow) else {
                continue;
            };
            if own.is_some() || !life.was_stalled() {
                self.deaths[index].end.ending = ending_with_peer(own, of_peer);
                if let Some(dead) = self.flows.dead_mut(&flow, socket) {
                    dead.ending = ending_with_peer(own, of_peer);
                }
            }
            let of_peer_now = ending_with_peer(of_peer, own);
            if of_peer_now == of_peer || (of_peer.is_none() && is_peer_stalled) {
                continue;
            }
            if let Some(dead) = self.flows.dead_mut(&flow.reversed(), peer) {
                dead.ending = of_peer_now;
            }
            match self.death_of.get(&peer) {
                Some(&other) => self.deaths[other].end.ending = of_peer_now,
                None => {
                    let update = EndUpdate { ending: of_peer_now, ..EndUpdate::default() };
                    out.end_updates.push((peer, update));
                }
            }
        }
    }

    /// Both ends of a connection that were paired after they had died tell each other how they ended.
    fn share_endings(&mut self, out: &mut Batch) {
        for pair in std::mem::take(&mut self.paired_late) {
            let ends = pair.map(|(flow, socket)| {
                let member = self.flows.find(&flow, socket)?;
                Some((flow, socket, member.dead.as_ref()?.ending, member.is_stalled()))
            });
            let [Some(own), Some(other)] = ends else { continue };
            for ((flow, socket, ending, is_stalled), of_peer) in [(own, other.2), (other, own.2)] {
                let told = ending_with_peer(ending, of_peer);
                if told == ending || (ending.is_none() && is_stalled) {
                    continue;
                }
                if let Some(dead) = self.flows.dead_mut(&flow, socket) {
                    dead.ending = told;
                }
                match self.death_of.get(&socket) {
                    Some(&death) => self.deaths[death].end.ending = told,
                    None => {
                        let update = EndUpdate { ending: told, ..EndUpdate::default() };
                        out.end_updates.push((socket, update));
                    }
                }
            }
        }
    }

    /// The other end if it has ended too, how, and whether it was waiting for an answer then. Others may
    /// have its addresses and ports now.
    fn ending_of_peer(
        &mut self,
        death: usize,
        flow: &Flow,
    ) -> Option<(SocketId, Option<Ending>, bool)> {
        let (socket, peer) = (self.deaths[death].end.socket, self.deaths[death].peer);
        let peer = self.birth_of(socket).and_then(|birth| birth.peer).or(peer);
        let of_this_tick = peer.filter(|&peer| peer != socket);
        if let Some(&other) = of_this_tick.and_then(|peer| self.death_of.get(&peer)) {
            let other = &self.deaths[other];
            let is_stalled = other.life.is_some_and(|life| life.was_stalled());
            return Some((other.end.socket, other.end.ending, is_stalled));
        }
        let reversed = flow.reversed();
        let member = peer.and_then(|peer| self.flows.find(&reversed, peer));
        let member = member
            .or_else(|| self.flows.get(&reversed))
            .filter(|member| member.peer == Some(socket) && member.socket != socket)?;
        Some((member.socket, member.dead.as_ref()?.ending, member.is_stalled()))
    }
}

/// The socket of a member, if it is there.
fn live_of<'l>(
    member: &Member,
    netns: NetnsId,
    live: &'l mut HashMap<SocketKey, Live>,
) -> Option<&'l mut Live> {
    let key = SocketKey { netns, cookie: member.cookie, tuple: None };
    live.get_mut(&key).filter(|live| live.socket == member.socket)
}

fn key_of(birth: &NewSocket) -> SocketKey {
    SocketKey {
        netns: birth.netns,
        cookie: birth.cookie,
        tuple: (birth.protocol == Protocol::Mptcp).then(|| Box::new(birth.tuple)),
    }
}
