//! What a capture says while it goes on, what it came to, and why it broke off.

use std::io;

use super::limits::Limits;
use crate::foreign::ForeignError;
use crate::kernel::{DiagError, Refusal};
use crate::model::{EndReason, Family, Nanos, Protocol};
use crate::store::StoreError;

/// What a capture says while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A tick was taken.
    Tick(Progress),
    /// Other limits hold from now on.
    Limits(Limits),
    /// The kernel does not have this dump; it is not asked again.
    Unsupported(Family, Protocol),
    /// A dump failed.
    DumpFailed(Family, Protocol, String),
    /// These namespaces cannot be recorded.
    Refused(Vec<Refusal>),
    /// The owners of sockets cannot be looked for.
    NoOwners(String),
}

/// How far a capture has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Snapshots that are safely stored.
    pub snapshots: u64,
    /// Samples in them.
    pub samples: u64,
    /// Sockets that are there now.
    pub sockets: u64,
    /// Snapshots taken and not yet stored.
    pub lag: u64,
    /// Ticks that were missed.
    pub missed_ticks: u64,
    /// Those of them that were left out to keep within [`Limits::max_cpu`].
    pub left_out_ticks: u64,
    /// When the last snapshot began, UTC.
    pub taken_at_ns: Nanos,
    /// How long it took.
    pub took_ns: Nanos,
    /// For how long nothing is done now.
    pub rests_for_ns: Nanos,
    /// Dumps that failed or were interrupted.
    pub failed_dumps: u64,
    /// New sockets that were counted but not stored, once for each snapshot that showed them.
    pub not_stored: u64,
    /// Spans in which destroy events were lost.
    pub event_losses: u64,
    /// Bytes of the recording.
    pub file_bytes: u64,
}

/// What a capture came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last progress.
    pub progress: Progress,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a capture broke off.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The kernel cannot be asked at all.
    #[error(transparent)]
    Diag(#[from] DiagError),
    /// The recording cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is imported cannot be read.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The kernel has none of the dumps that were asked for.
    #[error("this kernel can dump none of the sockets that were asked for")]
    NothingSupported,
    /// Every dump of the first snapshot failed.
    #[error("the kernel refused every dump: {0}")]
    AllFailed(String),
    /// There is no thread for the writer.
    #[error("could not start the writer")]
    NoWriter(#[source] io::Error),
    /// The writer thread died.
    #[error("the writer thread died")]
    WriterDied,
}
