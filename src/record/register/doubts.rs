//! Ends that may be those of one connection: who they are with the end of the tick tells, or what is still to come.

use hashbrown::HashMap;

use super::Register;
use crate::model::{Protocol, SocketId, SocketKey, TcpState};
use crate::record::batch::Batch;
use crate::record::flows::{Flow, Member};
use crate::record::live::Live;

impl Register {
    /// Pairs sockets with those that were there before them and have been seen, or told of, since: one
    /// that has not may be of a connection that is over, with the same addresses and ports.
    pub(super) fn settle_doubts(&mut self, live: &HashMap<SocketKey, Live>, out: &mut Batch) {
        for (flow, socket) in std::mem::take(&mut self.doubtful) {
            let is_alone = |member: &&Member| member.socket == socket && member.peer.is_none();
            let Some(member) = self.flows.get(&flow).filter(is_alone) else { continue };
            let other = self.flows.get(&flow.reversed()).filter(|other| other.fits(member));
            let Some(other) = other else { continue };
            let peer = other.socket;
            match self.is_other_end(&flow, member, other, live) {
                Some(true) => self.pair((flow, socket), peer, out),
                Some(false) => {}
                None => self.doubtful.push((flow, socket)),
            }
        }
    }

    /// Whether one that fits is the other end of the member of this flow; `None` if what is to come tells.
    fn is_other_end(
        &self,
        flow: &Flow,
        member: &Member,
        other: &Member,
        live: &HashMap<SocketKey, Live>,
    ) -> Option<bool> {
        let both = [member, other];
        let live_of = |member: &Member| {
            let key = SocketKey { netns: self.netns, cookie: member.cookie, tuple: None };
            live.get(&key).filter(|live| live.socket == member.socket)
        };
        let [own_live, others_live] = both.map(live_of);
        // Whose event is still to come is told by that, and not by when a dump showed what it left.
        let is_awaited = self.listens
            && member.dead.as_ref().is_none_or(|dead| dead.destroyed_ns.is_none())
            && own_live.is_some_and(|live| {
                live.is_over && matches!(live.state, TcpState::CLOSE | TcpState::TIME_WAIT)
            });
        if is_awaited
            || !may_have_survived(member, others_live, flow)
            || !may_have_survived(other, own_live, flow)
            || !self.is_nobody_else_meant(flow, member, other)
        {
            return Some(false);
        }
        let vague = both.into_iter().filter(|member| !member.is_sharp());
        let are_told = vague.map(|member| self.half_told.is_all_told(member));
        let Some(are_told) = are_told.collect::<Option<Vec<bool>>>() else { return Some(false) };
        if are_told.contains(&false) || both.iter().any(|m| self.half_told.may_find_half(m)) {
            return None;
        }
        match (other.dead.as_deref(), others_live) {
            // Half-closed, its mini-socket keeps the addresses and ports from others.
            (Some(dead), Some(live)) if dead.destroyed_ns.is_none() => {
                Some(live.last_seen == self.now && live.state == TcpState::FIN_WAIT2)
            }
            (Some(dead), _) => Some(dead.destroyed_ns.is_some()),
            (None, Some(live)) => (live.last_seen == self.now).then_some(true),
            (None, None) => Some(false),
        }
    }

    /// Whether nobody else that is known can be meant. Who was told of late is told apart from others with these
    /// addresses and ports by what it sent.
    fn is_nobody_else_meant(&self, flow: &Flow, member: &Member, other: &Member) -> bool {
        let reversed = flow.reversed();
        let is_one_of_several = self.flows.may_be_of_replaced(flow, member)
            || self.flows.may_be_of_replaced(&reversed, other);
        let are_sharp = member.is_sharp() && other.is_sharp();
        let was_used_again = self.flows.were_used_again(flow);
        !is_one_of_several && (are_sharp || !was_used_again || !member.has_exchanged_nothing())
    }

    fn pair(&mut self, (flow, socket): (Flow, SocketId), peer: SocketId, out: &mut Batch) {
        self.flows.pair(&flow);
        self.note_peer(socket, peer, out);
        self.note_peer(peer, socket, out);
        self.tell_each_other((flow, socket), (flow.reversed(), peer));
    }

    /// Pairs one whose event has been read with the other end, if the event of that was read too; otherwise the
    /// end of the tick tells.
    pub(super) fn pair_told(&mut self, flow: Flow, socket: SocketId, out: &mut Batch) {
        let is_it = |member: &&Member| member.socket == socket && member.peer.is_none();
        let member = self.flows.get(&flow).filter(is_it);
        let other = self
            .flows
            .get(&flow.reversed())
            .filter(|other| other.dead.as_ref().is_some_and(|dead| dead.destroyed_ns.is_some()));
        match member.zip(other) {
            Some((member, other))
                if other.fits(member)
                    && [member, other]
                        .iter()
                        .all(|m| m.is_clear() && !m.has_exchanged_nothing())
                    && ![member, other].into_iter().any(|m| self.half_told.may_find_half(m)) =>
            {
                self.pair((flow, socket), other.socket, out);
            }
            _ => self.doubtful.push((flow, socket)),
        }
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

/// Whether the other end can be there, as a dump has shown it, though the socket of this one is gone: then the FIN of
/// this one has come.
fn may_have_survived(gone: &Member, other: Option<&Live>, flow: &Flow) -> bool {
    let is_gone = gone.dead.as_ref().is_some_and(|dead| dead.destroyed_ns.is_some());
    let has_fin = other.is_none_or(|live| live.is_over || live.has_peer_fin);
    flow.protocol() != Protocol::Tcp || !is_gone || has_fin
}
