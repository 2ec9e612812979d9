//! What one tick of the recorder adds to a recording.

use super::{
    ActivityTimes, Clocks, Destroyed, Ending, Family, GroupId, NetnsId, Observation, Origin,
    Protocol, ScopeId, SnapshotId, SocketId, TcpState, Tuple,
};

/// One pass over all scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub id: SnapshotId,
    /// The group it belongs to.
    pub group: GroupId,
    /// Whether it holds a row of every live socket; it is then the first of its group.
    pub is_keyframe: bool,
    /// Before the first dump was asked for.
    pub started: Clocks,
    /// After the last dump had ended.
    pub ended: Clocks,
    /// Ticks of the schedule that were skipped just before this one.
    pub missed_ticks: u64,
    /// Sockets that the dumps showed.
    pub sockets_seen: u64,
    /// Destroy events that were read since the snapshot before; `None` where none are listened for.
    pub events: Option<EventCounts>,
}

/// Destroy events of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Events that were read.
    pub read: u64,
    /// Those of sockets that were never bound or connected: counted only.
    pub unbound: u64,
    /// Those of sockets that no dump showed, and that may not have been among those that are asked
    /// for: counted only.
    pub unchosen: u64,
}

/// A socket seen for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSocket {
    /// Its number in this recording.
    pub id: SocketId,
    /// Network namespace.
    pub netns: NetnsId,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// How many sockets had this cookie with another tuple before.
    pub generation: u32,
    /// Address family.
    pub family: Family,
    /// Protocol.
    pub protocol: Protocol,
    /// Both ends.
    pub tuple: Tuple,
    /// What may come to be known later.
    pub owner: SocketUpdate,
    /// The snapshot that first showed it; `None` if only its destroy event told of it.
    pub first_snapshot: Option<SnapshotId>,
    /// The last complete dump that would have shown it and did not. `None` if there is none: in the
    /// first dump of a capture, or where not all states are asked for.
    pub opened_after: Option<SnapshotId>,
    /// For how long its connection had been there when that first snapshot began, at least.
    pub open_ms: Option<i64>,
    /// What of [`NewSocket::tuple`] the kernel said.
    pub told: TupleTold,
    /// Who opened it.
    pub origin: Option<Origin>,
    /// The other end of its connection, if that is on this host.
    pub peer: Option<SocketId>,
}

/// What is known of a tuple: a destroy event may have it half wiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleTold {
    /// The kernel said all of it.
    Whole,
    /// The rest was inferred from the other end.
    Inferred,
    /// The local address, where it is unspecified, and the remote port are not known.
    Half,
}

/// Facts of a socket that its first message may lack: the last that was known holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketUpdate {
    /// Inode of its file.
    pub inode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Id of its cgroup v2.
    pub cgroup_id: Option<u64>,
    /// SO_MARK.
    pub mark: Option<u32>,
    /// Index of the device that it is bound to.
    pub interface: Option<u32>,
}

impl SocketUpdate {
    /// Takes over what `newer` knows; true if that changed anything.
    pub fn learn(&mut self, newer: Self) -> bool {
        let before = *self;
        self.inode = newer.inode.or(self.inode);
        self.uid = newer.uid.or(self.uid);
        self.cgroup_id = newer.cgroup_id.or(self.cgroup_id);
        self.mark = newer.mark.or(self.mark);
        self.interface = newer.interface.or(self.interface);
        *self != before
    }
}

/// One row of samples: what a socket was in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRow<'a> {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The socket.
    pub socket: SocketId,
    /// The snapshot of the socket's row before this one.
    pub previous: Option<SnapshotId>,
    /// What the kernel said.
    pub observation: Observation<'a>,
    /// The times in it, made absolute.
    pub times: ActivityTimes,
}

/// A row of a keyframe that repeats what was observed in an earlier snapshot, because the
/// keyframe's own dump failed or lacked the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSample {
    /// The keyframe.
    pub snapshot: SnapshotId,
    /// The socket.
    pub socket: SocketId,
    /// The snapshot in which it was really observed.
    pub observed: SnapshotId,
}

/// A socket was seen in another state than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The snapshot that showed it first.
    pub snapshot: SnapshotId,
    /// The socket.
    pub socket: SocketId,
    /// The state before.
    pub from: TcpState,
    /// The state now.
    pub to: TcpState,
}

/// The last counters that the kernel told of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the same names as in TcpInfo")]
pub struct FinalCounters {
    pub rtt_us: Option<u32>,
    pub rttvar_us: Option<u32>,
    pub min_rtt_us: Option<u32>,
    pub bytes_sent: Option<u64>,
    pub bytes_retrans: Option<u64>,
    pub bytes_acked: Option<u64>,
    pub bytes_received: Option<u64>,
    pub segs_out: Option<u32>,
    pub segs_in: Option<u32>,
    pub data_segs_out: Option<u32>,
    pub data_segs_in: Option<u32>,
    pub total_retrans: Option<u32>,
}

impl FinalCounters {
    /// The counters of this observation.
    pub fn of(observation: &Observation<'_>) -> Self {
        let tcp = &observation.tcp;
        Self {
            rtt_us: tcp.rtt_us,
            rttvar_us: tcp.rttvar_us,
            min_rtt_us: tcp.min_rtt_us,
            bytes_sent: tcp.bytes_sent,
            bytes_retrans: tcp.bytes_retrans,
            bytes_acked: tcp.bytes_acked,
            bytes_received: tcp.bytes_received,
            segs_out: tcp.segs_out,
            segs_in: tcp.segs_in,
            data_segs_out: tcp.data_segs_out,
            data_segs_in: tcp.data_segs_in,
            total_retrans: tcp.total_retrans,
        }
    }
}

/// What the end of a socket rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndEvidence {
    /// Two complete dumps in a row that would have shown it did not.
    Absence,
    /// Its cookie is that of another pair of addresses now.
    Replaced,
    /// A dump showed its timewait mini-socket.
    TimeWait,
    /// Two dumps in a row showed its socket closed.
    Closed,
    /// It left the states that are asked for, and may live on in another.
    LeftScope,
    /// The machine was started anew.
    HostRestart,
    /// Its network namespace had gone.
    NetnsGone,
}

impl EndEvidence {
    /// The text that the recording stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absence => "absence",
            Self::Replaced => "replaced",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::LeftScope => "left_scope",
            Self::HostRestart => "host_restart",
            Self::NetnsGone => "netns_gone",
        }
    }
}

/// A socket that an earlier capture of this boot saw to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSocket {
    /// Its number.
    pub id: SocketId,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// How many sockets had this cookie with another tuple before.
    pub generation: u32,
    /// Address family.
    pub family: Family,
    /// Protocol.
    pub protocol: Protocol,
    /// Both ends.
    pub tuple: Tuple,
    /// What was known of it.
    pub known: SocketUpdate,
    /// The last snapshot that showed it.
    pub last_snapshot: SnapshotId,
    /// The snapshot of its last row of samples.
    pub last_sample: SnapshotId,
    /// Rows of samples that it has.
    pub samples: u64,
    /// The state that it was last seen in.
    pub state: TcpState,
    /// The counters that were last seen.
    pub counters: FinalCounters,
    /// Who opened it.
    pub origin: Option<Origin>,
    /// Whether its connection is over, and what is left of it was there to the end.
    pub is_remains: bool,
    /// The other end of its connection.
    pub peer: Option<SocketId>,
    /// Network namespace.
    pub netns: NetnsId,
}

/// A connection is over, or gone from what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEnd {
    /// The socket.
    pub socket: SocketId,
    /// The last snapshot that showed it alive, `None` if none ever did.
    pub last_snapshot: Option<SnapshotId>,
    /// The snapshot by which dumps tell that it had closed. `None` if only its destroy event tells,
    /// or it may live on in a state that is not asked for.
    pub closed_before: Option<SnapshotId>,
    /// What the dumps tell of it.
    pub evidence: Option<EndEvidence>,
    /// The snapshot of its last row of samples as a live socket.
    pub last_sample: Option<SnapshotId>,
    /// Rows of samples that it has as a live socket.
    pub samples: u64,
    /// The state that it was last seen alive in.
    pub state: Option<TcpState>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Its destroy event.
    pub destroyed: Option<Destroyed>,
    /// The last counters that are known.
    pub counters: FinalCounters,
    /// Whether they are those of its destroy event.
    pub has_final_counters: bool,
}

impl SocketEnd {
    /// Whether its socket is freed, while its connection may have gone on half-closed: neither its final
    /// counters, nor a look-up, nor the other end tell.
    pub fn may_go_on(&self) -> bool {
        self.destroyed.is_some_and(|destroyed| destroyed.over_ns.is_none())
            && self.closed_before.is_none()
            && self.ending.is_none_or(Ending::is_one_sided)
    }
}

/// Why an answer about a snapshot is not the whole truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionKind {
    /// A dump failed or was cut short: what it did not show may still be there.
    DumpFailed,
    /// The kernel says that what it dumped changed meanwhile (`NLM_F_DUMP_INTR`).
    DumpInterrupted,
    /// The kernel has no such dump; the scope is not asked again in this capture.
    DumpUnsupported,
    /// New sockets were counted but not stored, more came at once than the bound allows.
    SocketsNotStored,
    /// Ticks just before the snapshot were left out, to keep within a limit of CPU time.
    TicksLeftOut,
    /// Messages that could not be read.
    MessagesUnreadable,
    /// No such dump was made: of an import nobody asked for it, of a recorder there was no time for all
    /// namespaces.
    NotAsked,
    /// Less than the whole scope was asked for, or it is not known what (only in an import).
    PartlyAsked,
}

impl ExceptionKind {
    /// The text that the recording stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::DumpFailed => "dump_failed",
            Self::DumpInterrupted => "dump_interrupted",
            Self::DumpUnsupported => "dump_unsupported",
            Self::SocketsNotStored => "sockets_not_stored",
            Self::TicksLeftOut => "ticks_left_out",
            Self::MessagesUnreadable => "messages_unreadable",
            Self::NotAsked => "not_asked",
            Self::PartlyAsked => "partly_asked",
        }
    }
}

/// An exception from full coverage. The usual snapshot has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The snapshot that it concerns.
    pub snapshot: SnapshotId,
    /// What happened.
    pub kind: ExceptionKind,
    /// The scope that it concerns.
    pub scope: Option<ScopeId>,
    /// The kernel's error number.
    pub errno: Option<i32>,
    /// How many.
    pub count: Option<u64>,
    /// What was said of it.
    pub message: Option<String>,
}

/// How UTC left the steady clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChangeKind {
    /// UTC was set: by so much more than boot time passed.
    Step,
    /// The machine was suspended: boot time passed by so much more than monotonic time.
    Suspend,
}

impl ClockChangeKind {
    /// The text that the recording stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Suspend => "suspend",
        }
    }
}

/// A change of the clocks between the snapshot before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockChange {
    /// The first snapshot after it.
    pub snapshot: SnapshotId,
    /// What kind.
    pub kind: ClockChangeKind,
    /// By how much; negative when UTC went back.
    pub delta_ns: i64,
}
