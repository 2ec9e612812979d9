//! Recordings: SQLite files with the tables of `migrations/`. The only place that names rusqlite.
//!
//! A recording is written by one [`Writer`] at a time, one transaction a snapshot, and read by any
//! number of [`Reader`]s meanwhile; markers are put in beside them ([`write_marker`]).

mod anonymize;
mod captures;
mod check;
mod columns;
mod copy;
mod ends;
mod error;
mod extract;
mod file;
mod former;
mod functions;
mod log;
mod markers;
mod merge;
mod migrate;
mod namespaces;
mod new_file;
mod numbers;
mod owners;
mod reader;
mod retention;
mod salvage;
mod samples;
mod seen;
mod share;
mod shared_dir;
mod summary;
mod tick;
mod trust;
mod unbegun;
mod writer;

pub use captures::Start;
pub use check::{Checked, Example, Finding, INVARIANTS, Invariant, Look, Verdict, check};
pub use error::{DESCRIPTOR_HINT, StoreError, salvage_hint};
pub use extract::{Before, Excerpt, Stretch, Taken};
pub use file::{FileSizes, OnDisk, Room, file_sizes, has_log, is_being_recorded, room};
pub use markers::write_marker;
pub use merge::Merged;
pub use migrate::{APPLICATION_ID, SCHEMA_VERSION};
pub use namespaces::{FormerNamespace, KnownNamespaces};
pub use new_file::{NewRecording, partial_file};
pub use owners::FormerOwners;
pub use reader::{Parameter, Reader};
pub use retention::{
    Alive, AllAlive, Capacity, LOG_BYTES, Pruned, SMALLEST_BYTES, ThinRule, forecast, prune,
};
pub use salvage::{LostSpan, Salvaged, TableRead, salvage};
pub use shared_dir::{Access, refuse_planted};
pub use tick::TickWriter;
pub use writer::Writer;
