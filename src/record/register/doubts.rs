//! Who is the other end of whom: that the end of the tick tells, when all that have told can be held against each
//! other, or what is still to come.
//!
//! The kernel sends events from every processor on its own: they may overtake each other, and others may have the
//! addresses and ports of a connection before the event of its second end is read.

use hashbrown::HashMap;

use super::Register;
use crate::model::{Nanos, Protocol, SocketId, SocketKey, TcpState};
use crate::record::batch::Batch;
use crate::record::flows::{Flow, Member};
use crate::record::live::Live;
use crate::record::traffic::Moment;

/// In so many ways the ends of one 4-tuple are held against each other.
const WAYS_MAX: usize = 10_000;

/// Two that may be the ends of one connection: how they are known, of either side.
type Pair = (usize, usize);

impl Register {
    /// Pairs the ends of which something was seen or heard in this tick with those of earlier ones or with each other.
    pub(super) fn pair_ends(&mut self, live: &HashMap<SocketKey, Live>, out: &mut Batch) {
        let mut doubtful = std::mem::take(&mut self.doubtful);
        doubtful.sort_unstable_by_key(|(flow, _)| flow.of_both());
        for of_both in doubtful.chunk_by(|(one, _), (next, _)| one.of_both() == next.of_both()) {
            if self.pair_ends_of(of_both[0].0.of_both(), live, out) {
                self.doubtful.extend_from_slice(of_both);
            }
        }
    }

    /// Pairs the ends of connections with these addresses and ports; whether more is to come.
    fn pair_ends_of(
        &mut self,
        flow: Flow,
        live: &HashMap<SocketKey, Live>,
        out: &mut Batch,
    ) -> bool {
        let own: Vec<&Member> = self.flows.alone(&flow).collect();
        let others: Vec<&Member> = self.flows.alone(&flow.reversed()).collect();
        let mut is_waiting = false;
        let mut pairs = Vec::new();
        for (one, other) in only_pairs(&own, &others) {
            let (own, other) = (own[one], others[other]);
            match self.is_other_end(&flow, own, other, live) {
                Some(true) => pairs.push((own.socket, other.socket)),
                Some(false) => {}
                None => is_waiting = true,
            }
        }
        for (own, other) in pairs {
            self.pair((flow, own), (flow.reversed(), other), out);
        }
        is_waiting
    }

    /// Whether two that fit each other and nobody else are the ends of one connection; `None` if what is to come tells.
    fn is_other_end(
        &self,
        flow: &Flow,
        own: &Member,
        other: &Member,
        live: &HashMap<SocketKey, Live>,
    ) -> Option<bool> {
        let both = [own, other];
        let live_of = |member: &Member| {
            let key = SocketKey { netns: self.netns, cookie: member.cookie, tuple: None };
            live.get(&key).filter(|live| live.socket == member.socket)
        };
        let [own_live, others_live] = both.map(live_of);
        let are_known = [self.is_known(own, own_live), self.is_known(other, others_live)];
        let is_any_new = both.iter().any(|member| member.socket >= self.first_new);
        // The next dump shows whether both are still there.
        let are_shown_apart = both.iter().all(|member| member.dead.is_none())
            && is_any_new
            && !own.there.was_shown_with(&other.there);
        if are_known.contains(&Some(false))
            || !may_have_survived(own, others_live, flow)
            || !may_have_survived(other, own_live, flow)
            || !self.is_told_apart(flow, own, other)
        {
            return Some(false);
        }
        let vague = both.into_iter().filter(|member| !member.is_sharp());
        let are_told = vague.map(|member| self.half_told.is_all_told(member));
        let Some(are_told) = are_told.collect::<Option<Vec<bool>>>() else { return Some(false) };
        let may_come = are_told.contains(&false)
            || are_known.contains(&None)
            || are_shown_apart
            || both.iter().any(|member| self.half_told.may_find_half(member));
        (!may_come).then_some(true)
    }

    /// Whether it is known by now what it is: one that has not been seen, or told of, may be of a connection that is
    /// over, with the same addresses and ports.
    fn is_known(&self, member: &Member, live: Option<&Live>) -> Option<bool> {
        let is_new = member.socket >= self.first_new;
        match (member.dead.as_deref(), live) {
            _ if member.is_told() => Some(true),
            // Half-closed, its mini-socket keeps the addresses and ports from others.
            (Some(_), Some(live)) if live.state == TcpState::FIN_WAIT2 => {
                Some(is_new || live.last_seen == self.now)
            }
            // Its event is still to come, and tells more than when a dump showed what it left.
            (Some(_), Some(_)) => Some(is_new && !self.listens),
            (None, Some(live)) => (is_new || live.last_seen == self.now).then_some(true),
            (_, None) => Some(false),
        }
    }

    /// Whether both are told apart from others that had these addresses and ports about then, if any did: by when something
    /// was sent, or what. One that was told by half may be the other end of either, but for who tells of the same bytes.
    fn is_told_apart(&self, flow: &Flow, own: &Member, other: &Member) -> bool {
        let both = [(*flow, own), (flow.reversed(), other)];
        if !self.flows.were_used_by_others(flow, own, other) {
            return true;
        }
        let are_clear = both.iter().all(|(_, member)| member.is_clear());
        let are_alike = own.mirrors(other) && !own.has_exchanged_nothing();
        let are_one = are_alike && both.iter().all(|(_, member)| member.has_sent());
        let may_be_half = || both.iter().any(|(flow, m)| self.half_told.may_be_of(flow, m));
        are_one || ((are_clear || are_alike) && !may_be_half())
    }

    fn pair(&mut self, own: (Flow, SocketId), other: (Flow, SocketId), out: &mut Batch) {
        for ((flow, socket), (_, peer)) in [(own, other), (other, own)] {
            self.flows.set_peer(&flow, socket, peer);
            if let Some(&death) = self.death_of.get(&socket) {
                self.deaths[death].peer = Some(peer);
            }
            self.note_peer(socket, peer, out);
        }
        self.tell_each_other(own, other);
    }

    /// What one end of a connection knows may be news for the other: they were paired after they had died.
    pub(in crate::record) fn tell_each_other(
        &mut self,
        one: (Flow, SocketId),
        other: (Flow, SocketId),
    ) {
        for (flow, socket) in [one, other] {
            let member = self.flows.find(&flow, socket);
            if let Some(origin) = member.and_then(|member| member.dead.as_ref()?.origin) {
                self.direct(flow, socket, origin);
            }
        }
        self.paired_late.push([one, other]);
    }
}

/// Those that fit each other and nobody else. Of very many only those that tell of the same traffic, and with nobody
/// else.
fn only_pairs(own: &[&Member], others: &[&Member]) -> Vec<Pair> {
    let fits = |&(one, other): &Pair| own[one].fits(others[other]);
    let sizes = (own.len(), others.len());
    if own.len() * others.len() > WAYS_MAX {
        return only(sizes, mirrors(own, others).into_iter().filter(fits));
    }
    let ways = (0..own.len()).flat_map(|one| (0..others.len()).map(move |other| (one, other)));
    only(sizes, ways.filter(fits))
}

/// The pairs of which each has no other.
fn only((own, others): (usize, usize), pairs: impl Iterator<Item = Pair>) -> Vec<Pair> {
    let (mut of_own, mut of_others) = (vec![0_u32; own], vec![0_u32; others]);
    let mut found: Vec<Pair> = pairs.collect();
    for &(one, other) in &found {
        of_own[one] += 1;
        of_others[other] += 1;
    }
    found.retain(|&(one, other)| of_own[one] == 1 && of_others[other] == 1);
    found
}

/// Those that tell of the same traffic, looked for only where one received as the other sent.
fn mirrors(own: &[&Member], others: &[&Member]) -> Vec<Pair> {
    let received = |member: &Member| member.there.traffic.as_deref()?.last_received;
    let sent = |member: &Member| member.there.traffic.as_deref()?.last_sent;
    let at = others.iter().enumerate().filter_map(|(at, other)| Some((received(other)?, at)));
    let mut received: Vec<(Moment, usize)> = at.collect();
    received.sort_unstable_by_key(|(received, _)| received.from_ns);
    let widest_ns = received.iter().map(|(moment, _)| moment.width_ns()).max().unwrap_or(0);
    let mut found = Vec::new();
    for (one, own) in own.iter().enumerate() {
        let Some(sent) = sent(own) else { continue };
        let since_ns: Nanos = sent.from_ns - widest_ns;
        let first = received.partition_point(|(received, _)| received.from_ns < since_ns);
        let until = received[first..].iter().take_while(|(came, _)| came.from_ns <= sent.to_ns);
        let mirrored =
            until.filter(|(_, other)| own.mirrors(others[*other]) && !own.has_exchanged_nothing());
        found.extend(mirrored.map(|&(_, other)| (one, other)));
    }
    found
}

/// Whether the other end can be there, as a dump has shown it, though the socket of this one is gone: then the FIN of
/// this one has come.
fn may_have_survived(gone: &Member, other: Option<&Live>, flow: &Flow) -> bool {
    let has_fin = other.is_none_or(|live| live.is_over || live.has_peer_fin);
    flow.protocol() != Protocol::Tcp || !gone.is_told() || has_fin
}
