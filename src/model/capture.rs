//! One run of the recorder, where it ran and what it looked at.

use super::{Clocks, Family, NetnsId, Protocol, ScopeId, SnapshotId, TcpState};

/// A set of socket states, one bit a state number (`idiag_states`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct States(pub u32);

impl States {
    /// Every state, those of later kernels too.
    pub const ALL: Self = Self(u32::MAX);
    /// No state.
    pub const NONE: Self = Self(0);

    /// Just this state.
    pub fn only(state: TcpState) -> Self {
        Self(1u32.checked_shl(u32::from(state.0)).unwrap_or(0))
    }

    /// The states in either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The states in both sets.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The states in this set and not in the other.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a socket that is told to be in this state may be meant: what is told as CLOSE can be
    /// BOUND_INACTIVE.
    pub fn shows(self, told: TcpState) -> bool {
        let may_be_bound = told == TcpState::CLOSE && self.contains(TcpState::BOUND_INACTIVE);
        self.contains(told) || may_be_bound
    }

    /// The states that a connection or a listener can be in (`TCP_ESTABLISHED` to `TCP_CLOSING`)
    /// but TIME_WAIT: what is in none of them is not there, or over. A socket that is merely bound
    /// has one more, which kernels before 6.8 do not tell and `ss -a` does not ask for.
    pub const OF_CONNECTIONS: Self = Self(0xffe & !(1 << TcpState::TIME_WAIT.0));

    /// Whether a connection that no state of the set shows is not there, or over.
    pub fn proves_absence(self) -> bool {
        self.includes(Self::OF_CONNECTIONS)
    }

    /// Whether every state of the other set is in this one.
    pub fn includes(self, other: Self) -> bool {
        other.without(self) == Self::NONE
    }

    /// Whether the state is in the set.
    pub fn contains(self, state: TcpState) -> bool {
        self.0 & Self::only(state).0 != 0
    }
}

/// What one kind of dump asks for, in whatever namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The address family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The states; [`States::NONE`] where they are not known.
    pub states: States,
    /// The filter expression, empty for none.
    pub filter: String,
}

/// What one kind of dump asks for. Only a complete dump of a scope that would have shown a socket
/// says anything about the socket's absence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The network namespace that is asked.
    pub netns: NetnsId,
    /// The address family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The states; [`States::NONE`] where it is not known what is asked for.
    pub states: States,
    /// The filter expression, empty for none.
    pub filter: String,
}

impl Scope {
    /// Whether a connection that a complete dump lacks is not there, or over. One that leaves a
    /// filter may live on.
    pub fn proves_absence(&self) -> bool {
        self.states.proves_absence() && self.filter.is_empty()
    }
}

/// The machine and boot that a capture was made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_uuid: String,
    /// The node name (uname).
    pub host_name: Option<String>,
    /// A keyed hash of the machine id, so that recordings of one machine can be told to be so
    /// without giving the id away.
    pub machine_id_hash: Option<String>,
    /// The kernel release (uname).
    pub kernel_release: Option<String>,
    /// The machine architecture (uname).
    pub architecture: Option<String>,
}

impl HostFacts {
    /// Whether dumps show TCP sockets that are bound and neither listen nor are connected (since
    /// Linux 6.8, `SOCK_DIAG` of `BOUND_INACTIVE`). `false` if the release is not known.
    pub fn shows_bound_sockets(&self) -> bool {
        let release = self.kernel_release.as_deref().unwrap_or_default();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 8),
            _ => false,
        }
    }
}

/// How a network namespace is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// `SO_NETNS_COOKIE` (since Linux 5.14): its key within the boot.
    pub cookie: Option<u64>,
    /// Its inode number, which the kernel re-uses.
    pub inode: Option<u64>,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The first and last of the local ports that connect() and bind() choose from
    /// (`net.ipv4.ip_local_port_range`).
    pub local_ports: Option<(u16, u16)>,
}

impl NamespaceFacts {
    /// Its name as every output has it.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| match self.inode {
            Some(inode) => format!("net:[{inode}]"),
            None => "net:[?]".to_owned(),
        })
    }
}

/// A network namespace as one run of the recorder calls it; it calls no other so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u32);

impl Place {
    /// That which a capture begins with.
    pub const FIRST: Self = Self(0);
}

/// A network namespace that is recorded from a snapshot on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number in this recording.
    pub netns: NetnsId,
    /// How it is known.
    pub facts: NamespaceFacts,
    /// What it is asked for.
    pub scopes: Vec<(ScopeId, Scope)>,
    /// The first snapshot in which it is asked.
    pub first: SnapshotId,
}

/// A network namespace that is meant and cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedNamespace {
    /// What every output calls it, or what it was asked for by.
    pub name: String,
    /// The kernel's error number.
    pub errno: Option<i32>,
    /// What stands in the way.
    pub message: String,
}

/// Where a capture comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This kernel was asked.
    Live,
    /// Others asked theirs; their clocks are not known but for the times of what they wrote.
    Import,
}

impl Source {
    /// The text that the recording stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Import => "import",
        }
    }
}

/// The start of one run of the recorder.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Where it comes from.
    pub source: Source,
    /// Where it runs.
    pub host: HostFacts,
    /// The namespace that it looks at, or the first of them.
    pub namespace: NamespaceFacts,
    /// The options of the run as a JSON object.
    pub options: String,
    /// The time between two ticks, where there is such a time.
    pub interval_ns: Option<i64>,
    /// When it began.
    pub started: Clocks,
}

/// Why a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The duration that was asked for was over.
    Duration,
    /// The number of snapshots that was asked for was reached.
    Count,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
    /// The command that was recorded ended.
    Command,
    /// Nobody read any longer what it wrote as connections ended.
    Output,
    /// There was no more to import.
    Input,
    /// The recorder could not go on.
    Error,
    /// The recorder was killed or the machine went down: found by whoever opened the file next.
    Lost,
}

impl EndReason {
    /// The text that the recording stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Count => "count",
            Self::Signal => "signal",
            Self::Command => "command",
            Self::Output => "output",
            Self::Input => "input",
            Self::Error => "error",
            Self::Lost => "lost",
        }
    }
}
