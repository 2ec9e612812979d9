//! What became of a connection: who opened it, how it ended, and what each rests on.

use super::{
    Clocks, FinalCounters, Nanos, NetnsId, Protocol, SnapshotId, SocketId, TcpState, Tuple,
};

/// So long the kernel keeps what nobody holds half-closed (`tcp_fin_timeout`, by default).
pub const FIN_WAIT2_MAX_NS: Nanos = 60_000_000_000;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This end did.
    Outbound,
    /// The other end did.
    Inbound,
}

impl Direction {
    /// As the other end tells it.
    pub fn of_peer(self) -> Self {
        match self {
            Self::Outbound => Self::Inbound,
            Self::Inbound => Self::Outbound,
        }
    }
}

/// What tells who opened a connection; the numbers are those of the table `origins`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// It was seen in SYN-SENT.
    SynSent = 1,
    /// It was seen as a connection request.
    SynRecv = 2,
    /// A listener was on its local address and port.
    Listener = 3,
    /// A listener was on its remote address and port, on this host.
    RemoteListener = 4,
    /// `tcpi_bytes_acked` counts a SYN of ours.
    SynCounted = 5,
    /// `tcpi_bytes_acked` counts no SYN of ours.
    SynNotCounted = 6,
    /// The other end, on this host, did not open it.
    PeerInbound = 7,
    /// The other end, on this host, opened it.
    PeerOutbound = 8,
    /// Nothing came from the other end but perhaps a refusal: only who opens a connection has a
    /// socket for it then.
    NothingReceived = 9,
}

impl Origin {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynRecv,
        Self::Listener,
        Self::RemoteListener,
        Self::SynCounted,
        Self::SynNotCounted,
        Self::PeerInbound,
        Self::PeerOutbound,
        Self::NothingReceived,
    ];

    /// The number that the recording stores.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.number() == number)
    }

    /// Who opened it.
    pub fn direction(self) -> Direction {
        match self {
            Self::SynSent
            | Self::RemoteListener
            | Self::SynCounted
            | Self::PeerInbound
            | Self::NothingReceived => Direction::Outbound,
            Self::SynRecv | Self::Listener | Self::SynNotCounted | Self::PeerOutbound => {
                Direction::Inbound
            }
        }
    }

    /// Whether this end opened the connection for sure, wherever listeners are and whatever the other end did:
    /// both may have dialled.
    pub fn is_dialled_for_sure(self) -> bool {
        matches!(self, Self::SynSent | Self::SynCounted | Self::NothingReceived)
    }

    /// Whether anything could still tell better than this.
    pub fn is_open(known: Option<Self>) -> bool {
        known.is_none_or(|known| known == Self::PeerOutbound)
    }

    /// Whether this tells where that was taken to be so.
    pub fn overrules(self, known: Option<Self>) -> bool {
        Self::is_open(known) && (known.is_none() || self.is_dialled_for_sure())
    }

    /// What that makes the other end of a connection within this host.
    pub fn of_peer(self) -> Self {
        match self.direction() {
            Direction::Outbound => Self::PeerOutbound,
            Direction::Inbound => Self::PeerInbound,
        }
    }
}

/// How a connection ended and what tells; the numbers are those of the table `endings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ending {
    /// Orderly: it was seen in TIME-WAIT.
    TimeWait = 1,
    /// Orderly: the FINs of both ends were acknowledged.
    BothFins = 2,
    /// Not known: our FIN was acknowledged. The other end may have closed before, or have closed or
    /// reset the connection after that.
    FinAcked = 3,
    /// Reset or aborted: it ended and no FIN of ours had been acknowledged.
    FinNotAcked = 4,
    /// Aborted by this end: the socket was disconnected (`SO_LINGER` 0).
    Disconnected = 5,
    /// Reset: the other end, on this host, was aborted or reset.
    PeerReset = 6,
    /// Timed out: nothing came any longer while data were retransmitted.
    Retransmits = 7,
    /// Timed out: nothing came any longer while the peer was probed.
    Probes = 8,
    /// Never established: nothing came from the other end but perhaps a refusal.
    NothingReceived = 9,
    /// Never established: a connection request that went without becoming a socket.
    RequestVanished = 10,
    /// Not known: our FIN was acknowledged, and the peer had not sent its own.
    HalfClosed = 11,
}

impl Ending {
    /// Our FIN was acknowledged; what the other end did is not known.
    pub const ONE_SIDED: [Self; 2] = [Self::FinAcked, Self::HalfClosed];

    /// The number that the recording stores.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether our FIN was acknowledged.
    pub fn is_fin_acked(self) -> bool {
        matches!(self, Self::TimeWait | Self::BothFins) || self.is_one_sided()
    }

    /// Whether it is known that our FIN was acknowledged and not what the other end did: that may
    /// still tell.
    pub fn is_one_sided(self) -> bool {
        Self::ONE_SIDED.contains(&self)
    }

    /// Whether the connection was broken off.
    pub fn is_reset(self) -> bool {
        matches!(self, Self::FinNotAcked | Self::Disconnected | Self::PeerReset)
    }
}

/// What a look-up found of a TCP connection whose socket is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: it is over.
    Nothing,
    /// A TIME-WAIT: it is over.
    TimeWait,
    /// A FIN-WAIT-2 that nobody holds: the other end has not closed.
    FinWait2,
}

/// A look-up of a TCP connection after its destroy event was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// When it had been answered.
    pub at: Clocks,
    /// What it found.
    pub left: Left,
}

/// A destroy event: the kernel freed the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroyed {
    /// The snapshot that recorded it: the event came before its end.
    pub snapshot: SnapshotId,
    /// When the event was read.
    pub at: Clocks,
    /// The connection was still active at most so long before, `None` where nothing tells.
    pub idle_ms: Option<i64>,
    /// The connection was there at least so long before, `None` where nothing tells.
    pub open_ms: Option<i64>,
    /// By so much later the connection was over at the latest: 0 where the final counters tell, or what
    /// a look-up told. `None` where it may have gone on half-closed.
    pub over_ns: Option<Nanos>,
}

impl Destroyed {
    /// The connection had begun by this moment of `CLOCK_MONOTONIC`, however long the event was unread.
    pub fn begun_by_ns(&self) -> Nanos {
        self.at.monotonic_ns - self.open_ms.unwrap_or(0) * 1_000_000
    }
}

/// What came to be known of a connection after its end was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndUpdate {
    /// A dump showed what is left of it, after others had lacked it: so long it was there.
    pub shown_over: Option<SnapshotId>,
    /// Its socket went half-closed, and dumps since have not shown what would be left of it.
    pub absent: Option<SnapshotId>,
    /// Its socket is freed now.
    pub destroyed: Option<Destroyed>,
    /// Its final counters.
    pub counters: Option<FinalCounters>,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// What is left of a connection that is over and still shows in dumps: a timewait mini-socket, or a
/// socket that is closed and still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The socket.
    pub socket: SocketId,
    /// The mini-socket's cookie where it is not that of the socket.
    pub cookie: Option<u64>,
    /// Whether its socket is new in this snapshot, and stored with it.
    pub is_new: bool,
    /// The first snapshot that showed it.
    pub first_snapshot: SnapshotId,
    /// The first snapshot that showed it in TIME-WAIT.
    pub time_wait: Option<SnapshotId>,
    /// For at least so long it had been in TIME-WAIT when that snapshot began, in milliseconds.
    /// `None` if it may have come to it later.
    pub time_wait_ms: Option<u32>,
}

/// The end of what was left of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainsEnd {
    /// The socket.
    pub socket: SocketId,
    /// The last snapshot that showed it.
    pub last_snapshot: SnapshotId,
    /// The snapshot by which it had gone. `None` if it may live on in a state that is not asked for.
    pub gone_before: Option<SnapshotId>,
    /// The snapshot of its last row of samples.
    pub last_sample: SnapshotId,
    /// Rows of samples that the socket has by then.
    pub samples: u64,
}

/// Later knowledge of who a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketNews {
    /// Who opened it.
    Origin(Origin),
    /// The other end of its connection.
    Peer(SocketId),
    /// Its addresses and ports, inferred from the other end.
    Addresses(Tuple),
    /// Its cookie. What was seen so far is that of its mini-socket.
    Cookie {
        /// `SO_COOKIE` of the socket.
        socket: u64,
        /// That of the mini-socket.
        remains: u64,
    },
}

/// A connection whose end was stored without its destroy event, which may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndestroyedSocket {
    /// The socket.
    pub id: SocketId,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// How many sockets had this cookie with another tuple before.
    pub generation: u32,
    /// Of which protocol it is.
    pub protocol: Protocol,
    /// Both ends.
    pub tuple: Tuple,
    /// The state that it was last seen alive in, `None` if it never was.
    pub state: Option<TcpState>,
    /// Who opened it.
    pub origin: Option<Origin>,
    /// The other end of its connection, if that is known.
    pub peer: Option<SocketId>,
    /// It was in TIME-WAIT by this moment of `CLOCK_MONOTONIC`, and nothing else was seen of it.
    pub time_wait_by_ns: Option<Nanos>,
    /// Network namespace.
    pub netns: NetnsId,
}

/// A TCP socket that an earlier capture saw freed so lately that it may have left a TIME-WAIT, which no
/// dump has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreedSocket {
    /// The socket.
    pub id: SocketId,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// How many sockets had this cookie with another tuple before.
    pub generation: u32,
    /// Both ends.
    pub tuple: Tuple,
    /// The state that it was last seen alive in, `None` if it never was.
    pub state: Option<TcpState>,
    /// The snapshot of its last row of samples.
    pub last_sample: Option<SnapshotId>,
    /// Rows of samples that it has.
    pub samples: u32,
    /// A TIME-WAIT that began later, on `CLOCK_MONOTONIC`, is not what it left: when its destroy event was
    /// read; if the other end may have closed later, until when events were listened for; and if it was
    /// half-closed, as long as it may have stayed so and kept its addresses and ports from others.
    pub time_wait_by_ns: Nanos,
    /// It may have gone on half-closed, and no dump has proved since that it is over.
    pub is_half_closed: bool,
    /// Network namespace.
    pub netns: NetnsId,
}

/// A span in which destroy events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLoss {
    /// The snapshot that recorded it.
    pub snapshot: SnapshotId,
    /// None was lost before.
    pub from: Clocks,
    /// None of this span was lost after.
    pub to: Clocks,
    /// How many, where that is known: the kernel does not count.
    pub count: Option<u64>,
}
