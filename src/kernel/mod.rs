//! The only place that talks to the kernel: sock_diag dumps and destroy events, clocks, what the
//! machine is, which processes and cgroups it has, and what this process takes and may do.

mod cgroup;
mod clock;
mod diag;
mod events;
mod host;
mod names;
mod namespace_handle;
mod namespace_sockets;
mod namespaces;
mod privileges;
mod process;
mod self_stat;

pub use cgroup::CgroupWalk;
pub use clock::SystemClock;
pub use diag::{DiagError, DiagSocket, DumpEnd};
pub use events::{EventBatch, EventReader, EventSocket, EventStamp, IsInDoubt, LostSpan};
pub use host::{has_net_admin, host_facts, is_ignored, sees_every_process};
pub use names::LiveNames;
pub use namespace_handle::NamespaceHandles;
pub use namespace_sockets::NamespaceSockets;
pub use namespaces::{Entered, Found, NAMED, NamespaceNews, NamespaceWatch, Netns, Refusal};
pub use privileges::{User, become_user, find_user};
pub use process::{Glimpse, KeptProcess, OpenProcess, ProcDir, Unreadable};
pub use self_stat::{free_bytes, open_descriptors, raise_descriptor_limit, resident_bytes};
