//! Who listens where: a connection to a listener's address and port was opened by the other end.

use std::net::Ipv6Addr;

use hashbrown::HashMap;

use super::flows::{Flow, mapped};
use crate::model::{Endpoint, Family, Protocol, SnapshotId, SocketId, Tuple};

#[derive(Debug)]
struct Listener {
    socket: SocketId,
    address: Ipv6Addr,
    accepts_v4: bool,
    accepts_v6: bool,
    /// Whether it was seen to listen, or may only have been bound.
    is_certain: bool,
    closed: Option<SnapshotId>,
}

/// The listeners that are there, and those that closed lately.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<(Protocol, u16), Vec<Listener>>);

impl Listeners {
    pub(super) fn add(
        &mut self,
        socket: SocketId,
        (family, protocol): (Family, Protocol),
        tuple: &Tuple,
        is_v6_only: bool,
    ) {
        let same_port = self.0.entry((protocol, tuple.local.port)).or_default();
        same_port.retain(|listener| listener.socket != socket);
        same_port.push(Listener {
            socket,
            address: mapped(tuple.local.address),
            accepts_v4: family == Family::Inet || !is_v6_only,
            accepts_v6: family == Family::Inet6,
            is_certain: true,
            closed: None,
        });
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
        self.0.entry((protocol, tuple.local.port)).or_default().push(Listener {
            socket,
            address: mapped(tuple.local.address),
            accepts_v4: true,
            accepts_v6: family == Family::Inet6,
            is_certain: false,
            closed: Some(now),
        });
    }

    pub(super) fn close(
        &mut self,
        socket: SocketId,
        (protocol, port): (Protocol, u16),
        now: SnapshotId,
    ) {
        let same_port = self.0.get_mut(&(protocol, port)).into_iter().flatten();
        for listener in same_port.filter(|listener| listener.socket == socket) {
            listener.closed = Some(now);
        }
    }

    /// Forgets who closed before this snapshot.
    pub(super) fn forget(&mut self, before: SnapshotId) {
        self.0.retain(|_, same_port| {
            same_port.retain(|listener| listener.closed.is_none_or(|closed| closed >= before));
            !same_port.is_empty()
        });
    }

    /// Whether a listener is, or was a moment ago, on this end's port, and on its address if that is
    /// known.
    pub(super) fn accepts_at(&self, protocol: Protocol, local: &Endpoint) -> bool {
        let address = mapped(local.address);
        let is_any = local.address.is_unspecified();
        let mut same_port = self.certain_on(protocol, local.port);
        same_port.any(|listener| is_any || listener.accepts_on(address))
    }

    /// Whether a listener is, or was a moment ago, on this end's address and port.
    pub(super) fn accepts(&self, flow: &Flow) -> bool {
        let (address, port) = flow.local();
        self.certain_on(flow.protocol(), port).any(|listener| listener.accepts_on(address))
    }

    /// Whether a listener may have been on this end's address and port a moment ago.
    pub(super) fn may_accept(&self, flow: &Flow) -> bool {
        let (address, port) = flow.local();
        self.on(flow.protocol(), port).any(|listener| listener.accepts_on(address))
    }

    fn on(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &Listener> {
        self.0.get(&(protocol, port)).into_iter().flatten()
    }

    fn certain_on(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &Listener> {
        self.on(protocol, port).filter(|listener| listener.is_certain)
    }
}

impl Listener {
    fn accepts_on(&self, address: Ipv6Addr) -> bool {
        let is_v4 = address.to_ipv4_mapped().is_some();
        let is_any = self.address.is_unspecified()
            || self.address.to_ipv4_mapped().is_some_and(|v4| v4.is_unspecified());
        let is_of_family = if is_v4 { self.accepts_v4 } else { self.accepts_v6 };
        self.address == address || (is_any && is_of_family)
    }
}
