//! Who listens where: a connection to a listener's address and port was opened by the other end.

use std::net::Ipv6Addr;

use hashbrown::{HashMap, HashSet};

use super::flows::{Flow, mapped};
use crate::model::{Endpoint, Family, Nanos, Protocol, SnapshotId, SocketId, Tuple};

#[derive(Debug)]
struct Listener {
    socket: SocketId,
    address: Ipv6Addr,
    accepts_v4: bool,
    accepts_v6: bool,
    /// Whether it was seen to listen, or may only have been bound.
    is_certain: bool,
    /// Someone dialled out from its port: who is connected there need not have been accepted.
    dials_out: bool,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    snapshot: SnapshotId,
    /// It was still there at this moment of `CLOCK_MONOTONIC`, as its event tells.
    after_ns: Option<Nanos>,
}

/// The listeners that are there, and those that closed lately.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_port: HashMap<(Protocol, u16), Vec<Listener>>,
    /// Those that this tick has not shown: where no event tells, they may be gone.
    unseen: HashSet<SocketId>,
}

impl Listeners {
    pub(super) fn add(
        &mut self,
        socket: SocketId,
        (family, protocol): (Family, Protocol),
        tuple: &Tuple,
        is_v6_only: bool,
    ) {
        let same_port = self.by_port.entry((protocol, tuple.local.port)).or_default();
        same_port.retain(|listener| listener.socket != socket);
        same_port.push(Listener {
            socket,
            address: mapped(tuple.local.address),
            accepts_v4: family == Family::Inet || !is_v6_only,
            accepts_v6: family == Family::Inet6,
            is_certain: true,
            dials_out: false,
            closed: None,
        });
    }

    /// A tick begins: its dumps will show who is there.
    pub(super) fn begin_tick(&mut self) {
        self.unseen.clear();
    }

    /// This tick has not shown this listener.
    pub(super) fn miss(&mut self, socket: SocketId) {
        self.unseen.insert(socket);
    }

    /// Adds a socket that is gone, and that may have been a listener: its event tells only that it was
    /// bound.
    pub(super) fn add_possible(
        &mut self,
        socket: SocketId,
        (family, protocol): (Family, Protocol),
        tuple: &Tuple,
        now: SnapshotId,
    ) {
        self.by_port.entry((protocol, tuple.local.port)).or_default().push(Listener {
            socket,
            address: mapped(tuple.local.address),
            accepts_v4: true,
            accepts_v6: family == Family::Inet6,
            is_certain: false,
            dials_out: false,
            closed: Some(Closed { snapshot: now, after_ns: None }),
        });
    }

    /// A listener is gone; it was still there at this moment of `CLOCK_MONOTONIC`, if that is known.
    pub(super) fn close(
        &mut self,
        socket: SocketId,
        (protocol, port): (Protocol, u16),
        snapshot: SnapshotId,
        after_ns: Option<Nanos>,
    ) {
        let same_port = self.by_port.get_mut(&(protocol, port)).into_iter().flatten();
        for listener in same_port.filter(|listener| listener.socket == socket) {
            listener.closed = Some(Closed { snapshot, after_ns });
        }
    }

    /// This connection was opened by this end, for sure: programs that dial out from the port that they
    /// listen on do so again.
    pub(super) fn note_dialler(&mut self, flow: &Flow) {
        let (address, port) = flow.local();
        let same_port = self.by_port.get_mut(&(flow.protocol(), port)).into_iter().flatten();
        for listener in same_port.filter(|listener| listener.accepts_on(address)) {
            listener.dials_out = true;
        }
    }

    /// Forgets who closed before this snapshot.
    pub(super) fn forget(&mut self, before: SnapshotId) {
        self.by_port.retain(|_, same_port| {
            same_port.retain(|l| l.closed.is_none_or(|closed| closed.snapshot >= before));
            !same_port.is_empty()
        });
    }

    /// Whether a listener is on this end's port, and on its address if that is known, or was when the
    /// connection had begun (`CLOCK_MONOTONIC`).
    pub(super) fn accepted_at(
        &self,
        protocol: Protocol,
        local: &Endpoint,
        begun_by_ns: Option<Nanos>,
    ) -> bool {
        let address = mapped(local.address);
        let is_any = local.address.is_unspecified();
        self.on(protocol, local.port)
            .filter(|listener| !self.unseen.contains(&listener.socket))
            .any(|l| (is_any || l.accepts_on(address)) && l.tells_of(begun_by_ns))
    }

    /// Whether a listener is on this end's address and port, or was when the connection had begun
    /// (`CLOCK_MONOTONIC`).
    pub(super) fn accepted(&self, flow: &Flow, begun_by_ns: Option<Nanos>) -> bool {
        let (address, port) = flow.local();
        self.on(flow.protocol(), port)
            .filter(|listener| !self.unseen.contains(&listener.socket))
            .any(|l| l.accepts_on(address) && l.tells_of(begun_by_ns))
    }

    /// Whether a listener may have been on this end's address and port a moment ago.
    pub(super) fn may_have_accepted(&self, flow: &Flow) -> bool {
        let (address, port) = flow.local();
        self.on(flow.protocol(), port).any(|listener| listener.accepts_on(address))
    }

    fn on(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &Listener> {
        self.by_port.get(&(protocol, port)).into_iter().flatten()
    }
}

impl Listener {
    /// Whether it tells of a connection that had begun by then. Once it is gone, anyone may dial out
    /// from its port.
    fn tells_of(&self, begun_by_ns: Option<Nanos>) -> bool {
        let was_there = self.closed.is_none_or(|closed| {
            begun_by_ns.zip(closed.after_ns).is_some_and(|(begun_by, after)| begun_by <= after)
        });
        self.is_certain && !self.dials_out && was_there
    }

    fn accepts_on(&self, address: Ipv6Addr) -> bool {
        let is_v4 = address.to_ipv4_mapped().is_some();
        let is_any = self.address.is_unspecified()
            || self.address.to_ipv4_mapped().is_some_and(|v4| v4.is_unspecified());
        let is_of_family = if is_v4 { self.accepts_v4 } else { self.accepts_v6 };
        self.address == address || (is_any && is_of_family)
    }
}
