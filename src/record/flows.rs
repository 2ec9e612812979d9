//! Sockets by both ends: who is the other end on this host, what a timewait mini-socket is left of,
//! and whom a half-wiped event means.
//!
//! Times are of `CLOCK_MONOTONIC`: like the kernel's times of activity it stands still in suspend.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;

use super::ending::Remnant;
use super::last_words::LastWords;
use super::traffic::{Moment, Traffic};
use crate::model::{Ending, Endpoint, Nanos, Origin, Protocol, SnapshotId, SocketId, Tuple};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        let (remote, _) = self.remote;
        let is_loopback = match remote.to_ipv4_mapped() {
            Some(v4) => v4.is_loopback(),
            None => remote.is_loopback(),
        };
        is_loopback || remote == self.local.0
    }
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

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead {
    pub(super) ending: Option<Ending>,
    pub(super) origin: Option<Origin>,
    /// Its destroy event was read at this moment of `CLOCK_MONOTONIC`.
    pub(super) destroyed_ns: Option<Nanos>,
    /// It was active at this moment of `CLOCK_MONOTONIC` or later, as its event tells.
    pub(super) active_ns: Option<Nanos>,
    /// When it last received, as its event tells.
    pub(super) last_received: Option<Moment>,
    pub(super) traffic: Option<Traffic>,
    /// No dump showed its socket alive, nor bound before: its mini-socket has a cookie of its own.
    pub(super) is_unseen: bool,
    /// What may be left of it.
    pub(super) remnant: Remnant,
    /// What is left of it has been seen.
    pub(super) has_left: bool,
    /// It was waiting for an answer when it ended.
    pub(super) is_stalled: bool,
    /// It may be this end that sent the RST, if one was sent.
    pub(super) has_unread_data: bool,
}

impl Dead {
    /// Whether our FIN was acknowledged for sure, as its event tells.
    pub(super) fn is_fin_acked(&self) -> bool {
        let traffic = self.traffic.as_ref();
        traffic.is_some_and(|traffic| traffic.fin.is_acked(traffic.direction) == Some(true))
    }

    /// What is left of it is seen.
    pub(super) fn leave(&mut self) {
        (self.remnant, self.has_left) = (Remnant::None, true);
    }
}

/// When a connection was there, as far as is known, on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default)]
pub(super) struct There {
    /// It had begun by then.
    pub(super) open_by_ns: Option<Nanos>,
    /// By so much that may be too late: dumps take their time.
    pub(super) open_slack_ns: Nanos,
    /// It was not over before.
    pub(super) alive_ns: Option<Nanos>,
    /// It was over by then.
    pub(super) over_ns: Option<Nanos>,
    /// Of one whose event was read in full.
    pub(super) traffic: Option<Box<Traffic>>,
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

/// A socket with a flow. There is one for each connection: what few have is boxed.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) socket: SocketId,
    pub(super) cookie: u64,
    pub(super) peer: Option<SocketId>,
    pub(super) there: There,
    pub(super) dead: Option<Box<Dead>>,
}

/// The live sockets by flow, and those that died lately.
#[derive(Default)]
pub(super) struct Flows {
    members: HashMap<Flow, Member>,
    dead: VecDeque<(SnapshotId, Flow, SocketId)>,
    /// Those of the dead whose addresses and ports others have had since, the first first: their other ends may
    /// still be told of.
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

    /// The dead of this flow that others had since.
    pub(super) fn replaced(&self, flow: &Flow) -> &[Member] {
        self.replaced.get(flow).map_or(&[], Vec::as_slice)
    }

    /// Adds a socket of an earlier capture that may still be there.
    pub(super) fn expect(&mut self, flow: Flow, member: Member) {
        self.members.entry(flow).or_insert(member);
    }

    /// Adds a socket; gives the other end of its connection, if what is there now is it. A socket that
    /// is connected to itself is its own. One that is told of late, after another had its addresses
    /// and ports, is one of those that were replaced. Of these one that it mirrors is the other end if it is clear
    /// when something went.
    pub(super) fn add(
        &mut self,
        flow: Flow,
        mut member: Member,
        is_clear: impl Fn(&Member) -> bool,
        is_there_now: impl FnOnce(&Member) -> bool,
    ) -> Added {
        let is_late = self.members.get(&flow).is_some_and(|latest| member.was_before(latest));
        let reversed = flow.reversed();
        let is_mirror = |other: &Member| {
            is_clear(&member) && is_clear(other) && other.fits(&member) && other.mirrors(&member)
        };
        let fits = |other: &&mut Member| match is_late {
            true => is_mirror(other),
            false => other.fits(&member),
        };
        let other = self.members.get_mut(&reversed).filter(fits);
        let replaced = self.replaced.get_mut(&reversed).into_iter().flatten();
        let replaced = replaced
            .filter(|_| !other.as_deref().is_some_and(is_mirror))
            .find(|replaced| is_mirror(replaced));
        let added = match other {
            _ if reversed == flow => Added::WithPeer(member.socket),
            _ if let Some(replaced) = replaced => {
                replaced.peer = Some(member.socket);
                Added::WithPeer(replaced.socket)
            }
            Some(other) if is_there_now(other) => {
                other.peer = Some(member.socket);
                Added::WithPeer(other.socket)
            }
            Some(_) if !is_late => Added::WithDoubtfulPeer,
            _ => Added::Alone,
        };
        if let Added::WithPeer(peer) = added {
            member.peer = Some(peer);
        }
        let replaced = match is_late {
            // Its death comes next: what is read late has died.
            true => Some(member).filter(|member| member.there.traffic.is_some()),
            false => self.members.insert(flow, member).filter(|before| before.dead.is_some()),
        };
        if let Some(replaced) = replaced {
            self.replaced.entry(flow).or_default().push(replaced);
        }
        added
    }

    /// Whether one that others have replaced may be the other end of this one.
    pub(super) fn may_be_of_replaced(&self, flow: &Flow, member: &Member) -> bool {
        self.replaced(&flow.reversed()).iter().any(|other| other.fits(member))
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

    /// Makes two members that are there the ends of one connection.
    pub(super) fn pair(&mut self, flow: &Flow) {
        let reversed = flow.reversed();
        let [Some(one), Some(other)] = self.members.get_disjoint_mut([flow, &reversed]) else {
            return;
        };
        (one.peer, other.peer) = (Some(other.socket), Some(one.socket));
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

    fn forget_replaced(&mut self, flow: &Flow, socket: SocketId) {
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

impl Member {
    pub(super) fn new(socket: SocketId, cookie: u64, there: There) -> Self {
        Self { socket, cookie, peer: None, there, dead: None }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.is_stalled)
    }

    /// Whether its TIME-WAIT was seen, and its event not read.
    fn was_in_time_wait(&self) -> bool {
        self.dead
            .as_ref()
            .is_some_and(|dead| dead.destroyed_ns.is_none() && dead.remnant == Remnant::TimeWait)
    }

    /// Whether it was over while the other was not, and so before the other began, which has the same
    /// addresses and ports.
    pub(super) fn was_before(&self, other: &Self) -> bool {
        self.there
            .over_ns
            .zip(other.there.alive_ns)
            .is_some_and(|(over_ns, alive_ns)| over_ns < alive_ns)
    }

    /// Whether when something went over its connection is known well, as far as that was told.
    pub(super) fn is_sharp(&self) -> bool {
        self.there.traffic.as_deref().is_none_or(Traffic::is_sharp)
    }

    /// Whether what went over both connections tells that they are one.
    pub(super) fn mirrors(&self, other: &Self) -> bool {
        let (own, others) = (self.there.traffic.as_deref(), other.there.traffic.as_deref());
        own.zip(others).is_some_and(|(own, others)| own.is_that_of_peer(others))
    }

    /// Whether the other may be the other end of this connection, and not of one that used the same
    /// addresses and ports before or after.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let began_in_time = |a: &Self, b: &Self| {
            a.there.open_by_ns.zip(b.there.over_ns).is_none_or(|(began, ended)| {
                began - a.there.open_slack_ns <= ended + SAME_MOMENT_NS
            })
        };
        let was_answered = |traffic: Option<&Traffic>| traffic.is_none_or(|t| t.was_answered);
        let acked_no_fin = |traffic: Option<&Traffic>, other: &Self| {
            other.was_in_time_wait() && traffic.is_some_and(Traffic::has_no_fin_acked)
        };
        let (own, others) = (self.there.traffic.as_deref(), other.there.traffic.as_deref());
        self.peer.is_none()
            && was_answered(own)
            && was_answered(others)
            && !acked_no_fin(own, other)
            && !acked_no_fin(others, self)
            && own.zip(others).is_none_or(|(own, others)| own.may_be_of_peer(others))
            && began_in_time(self, other)
            && began_in_time(other, self)
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
