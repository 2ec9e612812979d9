//! Events that come after what is left of their connections was seen, or after dumps had lacked them.

use super::{Held, Mini, Register};
use crate::model::{Direction, EndUpdate, Ending, Nanos, Origin, SocketId, SocketNews};
use crate::record::batch::Batch;
use crate::record::ending::{Life, Remnant};
use crate::record::flows::{Flow, Member, There};
use crate::record::last_words::LastWords;
use crate::record::traffic::Moment;

impl Register {
    /// Finds whose TIME-WAIT was seen before, of the events of one flow that were read: the latest
    /// event has the first choice, because what is seen is left of the latest connection.
    pub(in crate::record) fn promise(&mut self, flow: &Flow, events: &[LastWords]) {
        let mut free = self.flows.unclaimed(flow).to_vec();
        // One whose cookie was asked for before has handed it on to its mini-socket.
        free.retain(|member| events.iter().all(|words| words.cookie != member.cookie));
        let is_free = |words: &&LastWords| {
            !self.held.contains_key(&words.cookie) && self.may_claim(flow, words)
        };
        let free_words: Vec<_> = events.iter().rev().filter(is_free).collect();
        for words in free_words {
            let fitting = free.iter().enumerate().rev();
            let fitting =
                fitting.filter_map(|(at, member)| Some((self.misfit_of(member, flow, words)?, at)));
            if let Some((_, at)) = fitting.min_by_key(|(misfit_ns, _)| *misfit_ns) {
                self.promised.insert(words.cookie, free.remove(at).socket);
            }
        }
    }

    /// By how much the TIME-WAIT of this member does not fit the event; `None` if it is left of another connection.
    fn misfit_of(&self, member: &Member, flow: &Flow, words: &LastWords) -> Option<Nanos> {
        let Some(to_ns) = member.there.open_by_ns else { return Some(0) };
        let began = Moment { from_ns: member.there.alive_ns.unwrap_or(to_ns), to_ns };
        let peer = member.peer.and_then(|peer| self.flows.find(&flow.reversed(), peer));
        let other = peer.or_else(|| self.other_end_told(flow, words));
        let mini = Mini { began, is_time_wait: true };
        if other.is_some_and(|other| !mini.may_be_left_by_peer_of(other)) {
            return None;
        }
        let direction = self.direction_by_listeners(flow, Some(words.destroyed.begun_by_ns()));
        let may_be_of_others = self.may_be_of_others(flow, Some(words.active_ns));
        if !words.is_sharp() && may_be_of_others {
            return None;
        }
        // As long as the other end tells nothing it may have sent a RST.
        let may_wait = other.is_some() || !may_be_of_others;
        words.misfit_of_time_wait(began, direction, may_wait)
    }

    /// The other end of the connection of this event, if that has been told already and nobody else seems to be it.
    fn other_end_told(&self, flow: &Flow, words: &LastWords) -> Option<&Member> {
        let there = There {
            open_by_ns: Some(words.open_by_ns()),
            alive_ns: Some(words.active_ns),
            over_ns: Some(words.silent_ns),
            traffic: self.traffic_of(words).map(Box::new),
            ..There::default()
        };
        self.flows.other_end(flow, &Member::new(SocketId(0), words.cookie, there))
    }

    /// Whether a TIME-WAIT may be told as left of this one. Where events are late or lost it may be left of another, of
    /// which none will tell: then only a FIN that was acknowledged tells that this one has left any.
    fn may_claim(&self, flow: &Flow, words: &LastWords) -> bool {
        let begun_by_ns = Some(words.destroyed.begun_by_ns());
        let direction = self.direction_by_listeners(flow, begun_by_ns);
        let life = Life { direction, last_words: words.said, ..Life::default() };
        let is_lossy = self.half_told.is_lossy(words.destroyed.at.monotonic_ns);
        (self.half_told.tells_apart(words.is_sharp()) && !is_lossy)
            || life.is_fin_acked() == Some(true)
    }

    /// The promises of the events that were read before are void.
    pub(in crate::record) fn forget_promises(&mut self) {
        self.promised.clear();
    }

    /// Takes the event of a connection that is known to be over; says which it is, if any.
    pub(in crate::record) fn last_words_of_held(
        &mut self,
        words: &LastWords,
        out: &mut Batch,
    ) -> Option<SocketId> {
        let mut held = match self.held.get(&words.cookie) {
            Some(held) if words.may_be_of(held.flow.as_ref()) => self.held.remove(&words.cookie),
            _ => None,
        };
        if let Some(held) = &mut held
            && let Some(flow) = held.flow
            && let Some(member) = self.flows.claim(&flow, held.socket)
        {
            held.peer = self.follow(flow, member, words, out).peer;
        }
        let held = held.or_else(|| self.claim_time_wait(words, out))?;
        if let Some(gone) = held.gone {
            self.bury(words.cookie, gone);
        }
        let traffic = self.traffic_of(words);
        let ending = match self.death_of.get(&held.socket) {
            Some(&death) => {
                self.deaths[death].hear(words, traffic);
                None
            }
            None => self.tell_of_held(&held, words, out),
        };
        if let Some(flow) = held.flow {
            self.flows.hear(&flow, held.socket, words, traffic, ending);
            // What was not known of it may have kept it from its other end.
            self.doubtful.push((flow, held.socket));
        }
        Some(held.socket)
    }

    /// Hands out what the event of one that ended in an earlier tick tells; how it ended, as far as that
    /// is known now.
    fn tell_of_held(&mut self, held: &Held, words: &LastWords, out: &mut Batch) -> Option<Ending> {
        let is_undirected = held.life.is_some_and(|life| life.direction.is_none());
        if let Some(origin) = words.said.and_then(|said| said.origin()).filter(|_| is_undirected) {
            out.news.push((held.socket, SocketNews::Origin(origin)));
            if let Some(flow) = held.flow {
                self.direct(flow, held.socket, origin);
            }
        }
        let ending = held.life.and_then(|life| {
            let direction = life.direction.or_else(|| direction_told(words));
            Life { direction, last_words: words.said, ..life }.ending()
        });
        let (destroyed, counters) = (Some(words.destroyed), words.counters);
        let update = EndUpdate { destroyed, counters, ending, ..EndUpdate::default() };
        out.end_updates.push((held.socket, update));
        if ending.is_some_and(Ending::is_reset)
            && let Some(peer) = held.peer
        {
            out.peer_resets.push(peer);
        }
        ending
    }

    /// A socket goes on under another cookie.
    pub(in crate::record) fn rename(
        &mut self,
        flow: &Flow,
        socket: SocketId,
        cookie: u64,
        out: &mut Batch,
    ) {
        self.flows.rename(flow, socket, cookie);
        match self.birth_of(socket) {
            Some(birth) => birth.cookie = cookie,
            None => out.news.push((socket, SocketNews::Cookie { socket: cookie, remains: cookie })),
        }
    }

    /// The connection of this event, whose mini-socket was seen under a cookie of its own.
    fn claim_time_wait(&mut self, words: &LastWords, out: &mut Batch) -> Option<Held> {
        let flow = words.flow()?;
        let promised = self.promised.remove(&words.cookie)?;
        // Others have told since.
        let is_it = |member: &&Member| member.socket == promised;
        let member = self.flows.unclaimed(&flow).iter().find(is_it)?;
        self.misfit_of(member, &flow, words)?;
        let member = self.flows.claim(&flow, promised)?;
        let member = self.follow(flow, member, words, out);
        let dead = member.dead.as_deref();
        let origin = dead.and_then(|dead| dead.origin);
        // It may have been seen in FIN-WAIT-2 only.
        let was_in_time_wait = dead.is_none_or(|dead| {
            dead.remnant == Remnant::TimeWait || dead.ending == Some(Ending::TimeWait)
        });
        let life =
            Life { direction: origin.map(Origin::direction), was_in_time_wait, ..Life::default() };
        self.held.remove(&member.cookie);
        let (socket, remains) = (words.cookie, member.cookie);
        if socket != remains {
            if let Some(birth) = self.birth_of(member.socket) {
                birth.cookie = socket;
            }
            out.news.push((member.socket, SocketNews::Cookie { socket, remains }));
        }
        Some(Held {
            socket: member.socket,
            generation: 0,
            flow: Some(flow),
            peer: member.peer,
            life: Some(life),
            gone: None,
        })
    }

    /// Enters one of which only a mini-socket was seen, and now its event, again if the events before it
    /// told of another with the same addresses and ports. Who names another end has been named by it too.
    fn follow(
        &mut self,
        flow: Flow,
        mut member: Member,
        words: &LastWords,
        out: &mut Batch,
    ) -> Member {
        if let Some(latest) = self.flows.get(&flow).filter(|m| m.socket == member.socket) {
            return latest.clone();
        }
        if let Some(known) = self.flows.find(&flow, member.socket).filter(|m| m.peer.is_some()) {
            return known.clone();
        }
        if member.peer.is_some() {
            return member; // and it was forgotten since
        }
        self.flows.forget_replaced(&flow, member.socket);
        member.there.over_ns = Some(words.silent_ns);
        member.peer = self.enter(flow, member.clone(), out);
        self.flows.remember(flow, member.socket, self.now);
        if let Some(peer) = member.peer {
            self.note_peer(member.socket, peer, out);
        }
        member
    }
}

fn direction_told(words: &LastWords) -> Option<Direction> {
    Some(words.said?.origin()?.direction())
}
