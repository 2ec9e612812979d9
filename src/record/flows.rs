//! Sockets by both ends: who is the other end on this host, what a timewait mini-socket is left of,
//! and whom a half-wiped event means.
//!
//! Times are of `CLOCK_MONOTONIC`: like the kernel's times of activity it stands still in suspend.

mod member;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;

use super::ending::Remnant;
use super::last_words::LastWords;
use super::traffic::Traffic;
use crate::model::{
    Ending, Endpoint, Nanos, Protocol, SnapshotId, SocketId, Tuple, is_within_host,
};
pub(super) use member::{Dead, Member, There};

/// So long the dead wait for the event of their other end on this host …
const ALONE_KEPT_NS: Nanos = 60_000_000_000;
/// … unless there are as many of them.
const ALONE_MAX: usize = 20_000;

/// Flows of the dead that are kept at most.
const DEAD_MAX: usize = 200_000;

/// What both ends, or an event and a dump, tell of one moment lies that far apart at most.
pub(super) const SAME_MOMENT_NS: Nanos = 100_000_000;
/// So long after its event a TIME-WAIT may seem to begin. Ephemeral ports in TIME-WAIT are used again after
/// a second at the earliest; bound ones at once (measured).
pub(super) const REUSE_MIN_NS: Nanos = 500_000_000;

/// Both ends of a connection in one form, whatever the family: IPv4 as v4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Flow {
    protocol: Protocol,
    local: (Ipv6Addr, u16),
    remote: (Ipv6Addr, u16),
}

impl Flow {
    /// `None` for what is not connected.
    pub(super) fn new(protocol: Protocol, tuple: &Tuple) -> Option<Self> {
        (tuple.remote.port != 0).then(|| Self {
            protocol,
            local: end(&tuple.local),
            remote: end(&tuple.remote),
        })
    }

    /// The same connection seen from the other end.
    pub(super) fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local, ..self }
    }

    /// The same for both ends.
    pub(super) fn of_both(self) -> Self {
        self.min(self.reversed())
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn local(&self) -> (Ipv6Addr, u16) {
        self.local
    }

    pub(super) fn remote(&self) -> (Ipv6Addr, u16) {
        self.remote
    }

    /// Whether the other end is on this host for sure.
    pub(super) fn is_within_host(&self) -> bool {
        is_within_host(IpAddr::V6(self.local.0), IpAddr::V6(self.remote.0))
    }
}

/// The only one of these.
pub(super) fn only_one<T>(mut of: impl Iterator<Item = T>) -> Option<T> {
    of.next().filter(|_| of.next().is_none())
}

pub(super) fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn end(endpoint: &Endpoint) -> (Ipv6Addr, u16) {
    (mapped(endpoint.address), endpoint.port)
}

/// What came of adding a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// No other end is known.
    Alone,
    /// This is the other end.
    WithPeer(SocketId),
    /// A socket that would be the other end may be over, for all that is known yet.
    WithDoubtfulPeer,
}

/// The live sockets by flow, and those that died lately.
#[derive(Default)]
pub(super) struct Flows {
    members: HashMap<Flow, Member>,
    dead: VecDeque<(SnapshotId, Flow, SocketId)>,
    /// Those whose addresses and ports others have had since, the first first: they, or their other ends, may still
    /// be told of.
    replaced: HashMap<Flow, Vec<Member>>,
    /// Connections of which only a timewait mini-socket was seen: their event may still come, after
    /// those of others that had the same addresses and ports before.
    unclaimed: HashMap<Flow, Vec<Member>>,
    unclaimed_order: VecDeque<(Flow, SocketId)>,
}

impl Flows {
    pub(super) fn get(&self, flow: &Flow) -> Option<&Member> {
        self.members.get(flow)
    }

    /// The socket of this flow, be it that others had it since.
    pub(super) fn find(&self, flow: &Flow, socket: SocketId) -> Option<&Member> {
        let is_it = |member: &&Member| member.socket == socket;
        self.get(flow).filter(is_it).or_else(|| self.replaced(flow).iter().find(is_it))
    }

    /// Those of this flow that others had since.
    pub(super) fn replaced(&self, flow: &Flow) -> &[Member] {
        self.replaced.get(flow).map_or(&[], Vec::as_slice)
    }

    /// Whether others are known to have had these addresses and ports before those who have them: so soon before one that
    /// was there since this moment that a bound port was used again, and no ephemeral one.
    pub(super) fn were_used_again(&self, flow: &Flow, since_ns: Option<Nanos>) -> bool {
        let until_ns = |member: &Member| member.there.over_ns.or(member.there.alive_ns);
        let was_then = |member: &Member| {
            let ended = until_ns(member).zip(since_ns);
            ended.is_none_or(|(until_ns, since_ns)| until_ns + REUSE_MIN_NS >= since_ns)
        };
        [*flow, flow.reversed()].iter().any(|flow| self.replaced(flow).iter().any(was_then))
    }

    /// Whether others than these two are known to have had these addresses and ports about when these had them.
    pub(super) fn were_used_by_others(&self, flow: &Flow, own: &Member, other: &Member) -> bool {
        let has_others = |flow: &Flow, own: &Member| {
            let all = self.get(flow).into_iter().chain(self.replaced(flow));
            let mut others = all.filter(|member| member.socket != own.socket);
            others.any(|member| member.was_about_then(own))
        };
        has_others(flow, own) || has_others(&flow.reversed(), other)
    }

    /// The other end of this member, as far as that is known yet: the only one that tells of the same traffic or, of
    /// those that have told, the only one that fits and fits nobody else.
    pub(super) fn other_end(&self, flow: &Flow, member: &Member) -> Option<&Member> {
        let reversed = flow.reversed();
        if let Some(peer) = member.peer {
            return self.find(&reversed, peer);
        }
        let fitting = || self.alone(&reversed).filter(|other| other.fits(member));
        only_one(fitting().filter(|other| other.mirrors(member))).or_else(|| {
            let rivals = || self.alone(flow).filter(|rival| rival.socket != member.socket);
            only_one(fitting().filter(|other| other.is_told()))
                .filter(|other| !rivals().any(|rival| rival.fits(other)))
        })
    }

    /// Adds a socket of an earlier capture that may still be there.
    pub(super) fn expect(&mut self, flow: Flow, member: Member) {
        self.members.entry(flow).or_insert(member);
    }

    /// Adds a socket; gives the other end of its connection, if what is there now is it for sure. A socket that
    /// is connected to itself is its own. One that is told of late, after another had its addresses
    /// and ports, is one of those that were replaced.
    pub(super) fn add(
        &mut self,
        flow: Flow,
        mut member: Member,
        is_there_now: impl FnOnce(&Member, &Member) -> bool,
    ) -> Added {
        // What a dump shows over was before who is there.
        let is_over = member.there.over_ns.is_some();
        let is_shown_over = is_over && member.there.traffic.is_none();
        let is_late = self.members.get(&flow).is_some_and(|latest| {
            member.was_before(latest) || (is_shown_over && latest.is_there())
        });
        let reversed = flow.reversed();
        let other = self.members.get_mut(&reversed).filter(|other| other.fits(&member));
        let added = match other {
            _ if reversed == flow => Added::WithPeer(member.socket),
            Some(other) if !is_late && is_there_now(&member, other) => {
                other.peer = Some(member.socket);
                Added::WithPeer(other.socket)
            }
            Some(_) => Added::WithDoubtfulPeer,
            None if self.replaced.contains_key(&reversed) => Added::WithDoubtfulPeer,
            None => Added::Alone,
        };
        if let Added::WithPeer(peer) = added {
            member.peer = Some(peer);
        }
        let socket = member.socket;
        // Of one that was only expected nothing is known.
        let is_kept = |before: &Member| {
            before.socket != socket && (before.dead.is_some() || before.is_there())
        };
        let replaced = match is_late {
            true => Some(member),
            false => self.members.insert(flow, member).filter(is_kept),
        };
        if let Some(replaced) = replaced {
            self.replaced.entry(flow).or_default().push(replaced);
        }
        added
    }

    /// Whether there is one with these addresses and ports, or was, whose other end is not known.
    pub(super) fn has_alone(&self, flow: &Flow) -> bool {
        self.alone(flow).next().is_some()
    }

    /// Those of this flow whose other end is not known, be it that others had it since.
    pub(super) fn alone(&self, flow: &Flow) -> impl Iterator<Item = &Member> {
        let all = self.get(flow).into_iter().chain(self.replaced(flow));
        all.filter(|member| member.peer.is_none())
    }

    /// Adds the end of a connection that was told of by half, if what is known of the other end fits.
    pub(super) fn add_other_end(
        &mut self,
        flow: Flow,
        mut member: Member,
        peer: SocketId,
        now: SnapshotId,
    ) -> bool {
        let reversed = flow.reversed();
        let is_it = |other: &&mut Member| other.socket == peer && other.fits(&member);
        let other = self.members.get_mut(&reversed).filter(is_it);
        let mut replaced = self.replaced.get_mut(&reversed).into_iter().flatten();
        let Some(other) = other.or_else(|| replaced.find(is_it)) else { return false };
        other.peer = Some(member.socket);
        member.peer = Some(peer);
        self.dead.push_back((now, flow, member.socket));
        match self.members.get_mut(&flow) {
            None => {
                self.members.insert(flow, member);
            }
            // Others had its addresses and ports since.
            Some(_) => self.replaced.entry(flow).or_default().push(member),
        }
        true
    }

    /// A member goes on under another cookie.
    pub(super) fn rename(&mut self, flow: &Flow, socket: SocketId, cookie: u64) {
        if let Some(member) = self.members.get_mut(flow).filter(|m| m.socket == socket) {
            member.cookie = cookie;
        }
    }

    /// Notes the other end of a socket of this flow, be it that others had it since.
    pub(super) fn set_peer(&mut self, flow: &Flow, socket: SocketId, peer: SocketId) {
        if let Some(member) = self.find_mut(flow, socket) {
            member.peer = Some(peer);
        }
    }

    /// Notes that a socket has died; it is remembered for a while.
    pub(super) fn bury(
        &mut self,
        flow: &Flow,
        socket: SocketId,
        over_ns: Option<Nanos>,
        dead: Dead,
        now: SnapshotId,
    ) {
        let Some(member) = self.find_mut(flow, socket) else { return };
        member.dead = Some(Box::new(dead));
        // Half-closed, it goes on until the other end closes.
        let is_half_closed = dead.remnant == Remnant::HalfClosed;
        member.there.over_ns = over_ns.or(member.there.over_ns).filter(|_| !is_half_closed);
        if let Some(traffic) = dead.traffic {
            member.there.traffic = Some(Box::new(traffic));
        }
        let is_awaited = dead.is_unseen && dead.destroyed_ns.is_none();
        let awaited = is_awaited.then(|| member.clone());
        self.dead.push_back((now, *flow, socket));
        if let Some(member) = awaited {
            self.await_event(*flow, member);
        }
    }

    /// One that has died is remembered for a while.
    pub(super) fn remember(&mut self, flow: Flow, socket: SocketId, now: SnapshotId) {
        self.dead.push_back((now, flow, socket));
    }

    /// Adds a connection of which only a timewait mini-socket was seen.
    pub(super) fn await_event(&mut self, flow: Flow, member: Member) {
        self.unclaimed_order.push_back((flow, member.socket));
        self.unclaimed.entry(flow).or_default().push(member);
    }

    /// Whether there are connections of which only a timewait mini-socket was seen.
    pub(super) fn has_unclaimed(&self) -> bool {
        !self.unclaimed.is_empty()
    }

    /// The connections of this flow of which only a timewait mini-socket was seen.
    pub(super) fn unclaimed(&self, flow: &Flow) -> &[Member] {
        self.unclaimed.get(flow).map_or(&[], Vec::as_slice)
    }

    /// Takes the event of a connection of which only a timewait mini-socket was seen.
    pub(super) fn claim(&mut self, flow: &Flow, socket: SocketId) -> Option<Member> {
        let members = self.unclaimed.get_mut(flow)?;
        let at = members.iter().position(|member| member.socket == socket)?;
        let member = members.remove(at);
        if members.is_empty() {
            self.unclaimed.remove(flow);
        }
        Some(member)
    }

    /// The dead socket of this flow.
    pub(super) fn dead_mut(&mut self, flow: &Flow, socket: SocketId) -> Option<&mut Dead> {
        self.find_mut(flow, socket)?.dead.as_deref_mut()
    }

    fn find_mut(&mut self, flow: &Flow, socket: SocketId) -> Option<&mut Member> {
        let is_it = |member: &&mut Member| member.socket == socket;
        let member = self.members.get_mut(flow).filter(is_it);
        member.or_else(|| self.replaced.get_mut(flow)?.iter_mut().find(is_it))
    }

    /// Takes the event of one that is dead, and how it ended if that is known by it. What it left was seen
    /// before.
    pub(super) fn hear(
        &mut self,
        flow: &Flow,
        socket: SocketId,
        words: &LastWords,
        traffic: Option<Traffic>,
        ending: Option<Ending>,
    ) {
        let Some(member) = self.find_mut(flow, socket) else { return };
        member.there.traffic = traffic.map(Box::new);
        // Half-closed, it goes on until the other end closes.
        let is_half_closed =
            member.dead.as_ref().is_some_and(|dead| dead.remnant == Remnant::HalfClosed);
        if !is_half_closed {
            let over_ns = member.there.over_ns.unwrap_or(words.silent_ns);
            member.there.over_ns = Some(over_ns.min(words.silent_ns));
        }
        if let Some(dead) = &mut member.dead {
            dead.destroyed_ns = Some(words.destroyed.at.monotonic_ns);
            dead.active_ns = Some(words.active_ns);
            dead.last_received = words.last_received;
            dead.traffic = traffic;
            dead.ending = ending.or(dead.ending);
            dead.remnant = Remnant::None;
        }
    }

    /// Forgets who died before this snapshot, and whose other end did too: its ending is told by
    /// both.
    pub(super) fn forget(&mut self, before: SnapshotId, now: SnapshotId, now_ns: Nanos) {
        for _ in 0..self.dead.len() {
            let Some(&(died, flow, socket)) = self.dead.front() else { break };
            let is_crowded = self.dead.len() > DEAD_MAX;
            if died >= before && !is_crowded {
                break;
            }
            self.dead.pop_front();
            let member = self.members.get(&flow).filter(|m| m.socket == socket && m.dead.is_some());
            let Some(member) = member else {
                self.forget_replaced(&flow, socket);
                continue;
            };
            let peer = self.members.get(&flow.reversed());
            let is_waiting =
                peer.is_some_and(|p| Some(p.socket) == member.peer && p.dead.is_none());
            // Its other end was reset, perhaps, and is held where no dump shows it.
            let is_alone = member.peer.is_none()
                && flow.is_within_host()
                && member.there.over_ns.is_some_and(|over| now_ns - over < ALONE_KEPT_NS)
                && self.dead.len() < ALONE_MAX;
            if (is_waiting || is_alone) && !is_crowded {
                self.dead.push_back((now, flow, socket));
            } else {
                self.members.remove(&flow);
            }
        }
        while self.unclaimed_order.len() > DEAD_MAX {
            let Some((flow, socket)) = self.unclaimed_order.pop_front() else { break };
            if let Some(members) = self.unclaimed.get_mut(&flow) {
                members.retain(|member| member.socket != socket);
                if members.is_empty() {
                    self.unclaimed.remove(&flow);
                }
            }
        }
    }

    /// Forgets one that others have replaced.
    pub(super) fn forget_replaced(&mut self, flow: &Flow, socket: SocketId) {
        if let Some(members) = self.replaced.get_mut(flow) {
            members.retain(|member| member.socket != socket);
            if members.is_empty() {
                self.replaced.remove(flow);
            }
        }
    }

    /// The TCP connections whose other end is not known, by what a half-wiped event tells of that
    /// end: the address of this one and the port of that one.
    pub(super) fn unpaired(&self) -> HashMap<(Ipv6Addr, u16), Vec<Flow>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for (flow, member) in &self.members {
            if flow.protocol == Protocol::Tcp && member.peer.is_none() {
                found.entry((flow.local.0, flow.remote.1)).or_default().push(*flow);
            }
        }
        found
    }
}

impl Flow {
    /// The addresses and ports of the other end.
    pub(super) fn tuple_of_peer(&self, of: &Tuple) -> Tuple {
        let as_family = |(address, port): (Ipv6Addr, u16)| {
            let address = match (of.remote.address, address.to_ipv4_mapped()) {
                (IpAddr::V4(_), Some(v4)) => IpAddr::V4(v4),
                _ => IpAddr::V6(address),
            };
            Endpoint { address, port }
        };
        Tuple { local: as_family(self.remote), remote: as_family(self.local), ..*of }
    }
}
