//! Recording: the loop that takes a snapshot at every tick, and what it makes of the dumps.
//!
//! The collector runs on the caller's thread: it paces the ticks, makes the dumps and finds out
//! what changed (`tracker`). What changed goes in chunks through a bounded channel to the writer
//! thread, which decodes and stores it (`writer`). A slow disk shows as lag there and then as
//! missed ticks here; it never makes a dump wait unseen. Whose the sockets are is looked for on a
//! third thread ([`OwnerFinder`]), in its own time. An import ([`replay()`]) goes the same way, from what
//! others were told by their kernels.

mod batch;
mod cgroups;
mod chosen;
mod collector;
mod ending;
mod flows;
mod half_told;
mod inputs;
mod known_process;
mod last_words;
mod limits;
mod listeners;
mod live;
mod live_kernel;
mod numbering;
mod outbox;
mod outcome;
mod owner_finder;
mod owners;
mod pace;
mod packed;
mod processes;
mod register;
mod replay;
mod schedule;
mod session;
mod tracker;
mod traffic;
mod writer;

pub use chosen::Chosen;
pub use ending::in_doubt;
pub use inputs::{Inputs, Kernel, Plan};
pub use limits::{CpuShare, Limits};
pub use live_kernel::LiveKernel;
pub use outcome::{Event, Progress, RecordError, Summary};
pub use owner_finder::OwnerFinder;
pub use owners::{OwnerSearch, SocketNews};
pub use pace::{Pace, Pulse, SignalPace, Wake};
pub use processes::{Budget, Descriptors, Kept, Processes};
pub use replay::replay;
pub use schedule::Schedule;
pub use session::run;
