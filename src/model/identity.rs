//! Who a socket is: its key, its addresses, and the numbers that a recording gives it.

use std::fmt;
use std::net::IpAddr;

macro_rules! recording_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl $name {
            /// The next number in this recording.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

recording_id! {
    /// A socket's row in this recording; ascends in the order of first sight.
    SocketId
}
recording_id! {
    /// A snapshot's row in this recording; ascends in the order of recording, whatever UTC does.
    SnapshotId
}
recording_id! {
    /// A keyframe and the snapshots up to the next one.
    GroupId
}
recording_id! {
    /// One kind of dump: namespace, family, protocol, states and filter.
    ScopeId
}
recording_id! {
    /// A network namespace of one boot.
    NetnsId
}
recording_id! {
    /// A process that holds, or held, a recorded socket.
    ProcessId
}

/// Address family of a socket (`AF_INET`, `AF_INET6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `AF_INET`
    Inet,
    /// `AF_INET6`; also holds the sockets that speak IPv4 through v4-mapped addresses.
    Inet6,
}

impl Family {
    /// Every family that can be recorded.
    pub const ALL: [Self; 2] = [Self::Inet, Self::Inet6];

    /// The kernel's number (`include/linux/socket.h`).
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 2,
            Self::Inet6 => 10,
        }
    }

    /// The family with this kernel number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.number() == number)
    }

    /// The name used in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
        }
    }
}

/// Protocol of a socket, as sock_diag tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP; includes the subflows of MPTCP connections.
    Tcp,
    /// UDP; has no tcp_info and no byte counters.
    Udp,
    /// Raw IP sockets; the local port is the IP protocol number.
    Raw,
    /// MPTCP connections (`IPPROTO_MPTCP`, does not fit the request's u8).
    Mptcp,
}

impl Protocol {
    /// Every protocol that can be recorded.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Raw, Self::Mptcp];

    /// The kernel's number (`include/uapi/linux/in.h`).
    pub fn number(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Raw => 255,
            Self::Mptcp => 262,
        }
    }

    /// The protocol with this kernel number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// The name used in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Raw => "raw",
            Self::Mptcp => "mptcp",
        }
    }
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address; `0.0.0.0` or `::` when unbound or unconnected.
    pub address: IpAddr,
    /// The port; 0 when unbound or unconnected.
    pub port: u16,
}

/// Both ends of a socket and the device that it is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// Index of the device that the socket is bound to (`SO_BINDTODEVICE`), 0 for none.
    pub interface: u32,
}

impl Tuple {
    /// Whether the other end is on this host for sure.
    pub fn is_within_host(&self) -> bool {
        is_within_host(self.local.address, self.remote.address)
    }
}

/// Whether what is connected to this remote address has its other end on this host for sure.
pub fn is_within_host(local: IpAddr, remote: IpAddr) -> bool {
    let (local, remote) = (local.to_canonical(), remote.to_canonical());
    remote.is_loopback() || local == remote
}

/// What identifies a socket as long as its machine runs: the cookie is unique per boot and
/// network namespace. An inode is no key: it is 0 before accept() and after close().
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// The network namespace, which also stands for the boot.
    pub netns: NetnsId,
    /// `idiag_cookie` (`SO_COOKIE`).
    pub cookie: u64,
    /// The tuple, of MPTCP alone: what a listener accepts inherits its cookie (measured on 6.18).
    pub tuple: Option<Box<Tuple>>,
}
