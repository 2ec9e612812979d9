//! Socket states and timers by the kernel's numbers; unknown numbers survive.

/// A socket's state (`include/net/tcp_states.h`); UDP uses ESTABLISHED and CLOSE of the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// `TCP_ESTABLISHED`; for UDP: connected.
    pub const ESTABLISHED: Self = Self(1);
    /// `TCP_SYN_SENT`
    pub const SYN_SENT: Self = Self(2);
    /// `TCP_SYN_RECV`
    pub const SYN_RECV: Self = Self(3);
    /// `TCP_FIN_WAIT1`
    pub const FIN_WAIT1: Self = Self(4);
    /// `TCP_FIN_WAIT2`
    pub const FIN_WAIT2: Self = Self(5);
    /// `TCP_TIME_WAIT`
    pub const TIME_WAIT: Self = Self(6);
    /// `TCP_CLOSE`; for UDP: not connected.
    pub const CLOSE: Self = Self(7);
    /// `TCP_CLOSE_WAIT`
    pub const CLOSE_WAIT: Self = Self(8);
    /// `TCP_LAST_ACK`
    pub const LAST_ACK: Self = Self(9);
    /// `TCP_LISTEN`
    pub const LISTEN: Self = Self(10);
    /// `TCP_CLOSING`
    pub const CLOSING: Self = Self(11);
    /// `TCP_NEW_SYN_RECV`
    pub const NEW_SYN_RECV: Self = Self(12);
    /// `TCP_BOUND_INACTIVE` (since Linux 6.8): the number that asks for TCP sockets which are bound,
    /// neither listening nor connected. The kernel's answer calls them [`CLOSE`](Self::CLOSE).
    pub const BOUND_INACTIVE: Self = Self(13);

    /// The states that have a name, in the kernel's order.
    pub const NAMED: [(Self, &'static str); 13] = [
        (Self::ESTABLISHED, "ESTAB"),
        (Self::SYN_SENT, "SYN-SENT"),
        (Self::SYN_RECV, "SYN-RECV"),
        (Self::FIN_WAIT1, "FIN-WAIT-1"),
        (Self::FIN_WAIT2, "FIN-WAIT-2"),
        (Self::TIME_WAIT, "TIME-WAIT"),
        (Self::CLOSE, "UNCONN"),
        (Self::CLOSE_WAIT, "CLOSE-WAIT"),
        (Self::LAST_ACK, "LAST-ACK"),
        (Self::LISTEN, "LISTEN"),
        (Self::CLOSING, "CLOSING"),
        (Self::NEW_SYN_RECV, "NEW-SYN-RECV"),
        (Self::BOUND_INACTIVE, "BOUND-INACTIVE"),
    ];

    /// The name as `ss` spells it in full, `None` for a number that has none yet.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMED.iter().find(|(state, _)| *state == self).map(|(_, name)| *name)
    }
}

/// A socket's timer (`idiag_timer` of `include/uapi/linux/inet_diag.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timer(pub u8);

impl Timer {
    /// No timer runs.
    pub const OFF: Self = Self(0);
    /// Retransmission, early retransmit, tail loss probe, or the SYN-ACK timer of a request socket.
    pub const ON: Self = Self(1);
    /// Keepalive, or a FIN_WAIT2 that nobody holds any longer.
    pub const KEEPALIVE: Self = Self(2);
    /// TIME_WAIT, or a FIN_WAIT2 that lives on as a time-wait mini-socket.
    pub const TIMEWAIT: Self = Self(3);
    /// Zero window probe.
    pub const PERSIST: Self = Self(4);

    /// The timers that have a name, as `ss` spells it.
    pub const NAMED: [(Self, &'static str); 5] = [
        (Self::OFF, "off"),
        (Self::ON, "on"),
        (Self::KEEPALIVE, "keepalive"),
        (Self::TIMEWAIT, "timewait"),
        (Self::PERSIST, "persist"),
    ];
}
