//! What a recording is about: sockets, what the kernel said of them, when, and what was looked at.
//!
//! Plain types without I/O, clock or SQL. Numbers keep the kernel's meaning and carry their unit in
//! the name; `None` means that the kernel did not say, never zero.

mod capture;
mod identity;
mod life;
mod marker;
mod observation;
mod owner;
mod pseudonym;
mod state;
mod table;
mod tick;
mod time;

pub use capture::{
    Arrival, Asked, Capture, EndReason, HostFacts, NamespaceFacts, Place, RefusedNamespace, Scope,
    Source, States,
};
pub use identity::{
    Endpoint, Family, GroupId, NetnsId, ProcessId, Protocol, ScopeId, SnapshotId, SocketId,
    SocketKey, Tuple, is_within_host,
};
pub use life::{
    Destroyed, Direction, EndUpdate, Ending, EventLoss, FIN_WAIT2_MAX_NS, FreedSocket, Left,
    LookUp, Origin, Remains, RemainsEnd, SocketNews, UndestroyedSocket,
};
pub use marker::{BootMoment, Mark, MarkPart, Marked};
pub use observation::{
    ActivityTimes, BbrInfo, CongestionInfo, DctcpInfo, MptcpInfo, Observation, SocketMemory,
    TcpInfo, VegasInfo,
};
pub use owner::{
    CONTAINER_ID_LEN, Cgroup, HOLDERS_MAX, OwnerChange, Ownership, Process, ProcessFacts,
    ProcessKey, SHORT_ID_LEN,
};
pub use pseudonym::Pseudonyms;
pub use state::{TcpState, Timer};
pub use table::{Column, Kind, OwnedValue, Value};
pub use tick::{
    ClockChange, ClockChangeKind, EndEvidence, EventCounts, Exception, ExceptionKind,
    FinalCounters, FormerSocket, HeldSample, NewSocket, SampleRow, Snapshot, SocketEnd,
    SocketUpdate, StateChange, TupleTold,
};
pub use time::{Clocks, MadeAt, Nanos};
