//! The only place that talks to the kernel: sock_diag dumps and destroy events, clocks, and what the machine is.

mod clock;
mod diag;
mod events;
mod host;

pub use clock::SystemClock;
pub use diag::{DiagError, DiagSocket, DumpEnd};
pub use events::{EventBatch, EventReader, EventSocket, EventStamp, LostSpan};
pub use host::{has_net_admin, host_facts, is_ignored, own_namespace};
