//! Whose a socket is: the processes that hold a descriptor of it, and control groups.

use super::{Nanos, ProcessId, SnapshotId, SocketId};

/// So many holders of one socket are recorded at a time. A thousand workers that share their
/// parent's thousand sockets would be a million rows.
pub const HOLDERS_MAX: usize = 64;

/// Digits of the container ids of docker, containerd, cri-o and podman, all of them hexadecimal …
pub const CONTAINER_ID_LEN: usize = 64;
/// … and how many of them people are shown, as by `docker ps`.
pub const SHORT_ID_LEN: usize = 12;

/// What tells a process from all others of its boot: pids are used again, a pid and the time at
/// which it was given are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Process id, in the pid namespace of the `/proc` that is read.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: its start, in clock ticks since boot.
    pub started_ticks: u64,
}

/// A control group (v2), and what its path says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below the mount of the hierarchy, `/` for its root.
    pub path: String,
    /// The systemd unit that the path leads through last: `nginx.service`, `session-3.scope`.
    pub unit: Option<String>,
    /// The container's id, [`CONTAINER_ID_LEN`] digits.
    pub container: Option<String>,
}

/// What is known of a process. It may change its name, its user and its cgroup as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// When it was started, UTC, by the clocks of the moment at which this was read.
    pub started_at_ns: Option<Nanos>,
    /// `comm` of `/proc/PID/stat`: its name, of at most 15 bytes that it can set to anything.
    pub comm: Option<String>,
    /// Where `/proc/PID/exe` leads, with ` (deleted)` behind it as the kernel says it.
    pub exe: Option<String>,
    /// `/proc/PID/cmdline`: its arguments, joined by blanks and cut to a bounded length.
    pub command_line: Option<String>,
    /// Effective user id, of `/proc/PID/status`.
    pub uid: Option<u32>,
    /// Name of that user in `/etc/passwd`.
    pub user: Option<String>,
    /// Its cgroup v2, of `/proc/PID/cgroup`.
    pub cgroup: Option<Cgroup>,
}

/// A process that holds, or held, a recorded socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in this recording.
    pub id: ProcessId,
    /// Which process it is.
    pub key: ProcessKey,
    /// What is known of it.
    pub facts: ProcessFacts,
}

/// A process holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    /// The socket.
    pub socket: SocketId,
    /// The process.
    pub process: ProcessId,
    /// The last snapshot before the process was first seen to hold it.
    pub since: SnapshotId,
}

/// What came to be known of owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerChange {
    /// A process, for the first time or with facts that changed. Comes before what refers to it.
    Process(Box<Process>),
    /// A process was found to hold a socket.
    Held(Ownership),
    /// A process no longer holds a socket that lives on, or is not known to have held it until it
    /// ended.
    Released {
        /// What ended.
        ownership: Ownership,
        /// The last snapshot before the process was last known to hold it.
        last: SnapshotId,
    },
    /// The cgroup with this id (`INET_DIAG_CGROUP_ID`).
    Cgroup(u64, Cgroup),
}
