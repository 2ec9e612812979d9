//! `record --metrics FILE`: how recording goes, for what reads OpenMetrics.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::RecordArgs;
use super::message::usage;
use super::paths::is_of_recording;
use crate::kernel::{SystemClock, free_bytes, open_descriptors, resident_bytes};
use crate::record::Progress;
use crate::render::{Metric, MetricKind, openmetrics};

/// Who reads it does so less often.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// The file, and what else it tells of.
pub(super) struct MetricsFile {
    path: PathBuf,
    recording: PathBuf,
    interval_ns: i64,
    written_at: Option<Instant>,
}

impl MetricsFile {
    pub(super) fn new(path: &Path, args: &RecordArgs) -> Self {
        Self {
            path: path.to_owned(),
            recording: args.output.clone(),
            interval_ns: args.interval,
            written_at: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it anew, unless that was just done; at the end in any case.
    pub(super) fn write(&mut self, progress: &Progress, is_recording: bool) -> io::Result<()> {
        if is_recording && self.written_at.is_some_and(|at| at.elapsed() < WRITTEN_EVERY) {
            return Ok(());
        }
        self.written_at = Some(Instant::now());
        replace(&self.path, &openmetrics(&self.metrics(progress, is_recording)))
    }

    #[rustfmt::skip] // a table
    fn metrics(&self, p: &Progress, is_recording: bool) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let of = |name, kind, help, value| Metric { name, kind, help, value };
        let directory = self.recording.parent().filter(|d| !d.as_os_str().is_empty());
        let free = free_bytes(directory.unwrap_or(Path::new(".")));
        vec![
            of("sockrec_recording", Gauge, "1 while it records, 0 after a clean end.", Some(f64::from(u8::from(is_recording)))),
            of("sockrec_interval_seconds", Gauge, "Time between ticks.", seconds(self.interval_ns)),
            of("sockrec_snapshots", Counter, "Snapshots that are stored.", count(p.snapshots)),
            of("sockrec_samples", Counter, "Rows of samples that are stored.", count(p.samples)),
            of("sockrec_sockets", Gauge, "Sockets that are there now.", count(p.sockets)),
            of("sockrec_lag_snapshots", Gauge, "Snapshots that are taken and not stored yet.", count(p.lag)),
            of("sockrec_missed_ticks", Counter, "Ticks without a snapshot.", count(p.missed_ticks)),
            of("sockrec_left_out_ticks", Counter, "Those of them that were left out to keep within --max-cpu.", count(p.left_out_ticks)),
            of("sockrec_failed_dumps", Counter, "Dumps that failed or were interrupted.", count(p.failed_dumps)),
            of("sockrec_event_losses", Counter, "Spans in which destroy events were lost.", count(p.event_losses)),
            of("sockrec_sockets_not_stored", Counter, "Sightings of new sockets beyond --max-new-sockets.", count(p.not_stored)),
            of("sockrec_last_snapshot_timestamp_seconds", Gauge, "When the last snapshot began.", seconds(p.taken_at_ns)),
            of("sockrec_last_snapshot_duration_seconds", Gauge, "How long the last snapshot took.", seconds(p.took_ns)),
            of("sockrec_file_bytes", Gauge, "Size of the recording with its log.", count(p.file_bytes)),
            of("sockrec_free_bytes", Gauge, "Room on the file system of the recording.", free.and_then(count)),
            of("sockrec_cpu_seconds", Counter, "CPU time that the recorder has taken.", seconds(SystemClock.process_cpu_ns())),
            of("sockrec_resident_memory_bytes", Gauge, "Memory that the recorder has in use.", resident_bytes().and_then(count)),
            of("sockrec_open_descriptors", Gauge, "Descriptors that the recorder has open.", open_descriptors().and_then(count)),
        ]
    }
}

fn count(n: u64) -> Option<f64> {
    Some(n as f64)
}

fn seconds(ns: i64) -> Option<f64> {
    Some(ns as f64 / 1e9)
}

/// Before anything is made: what bears the name is to be a file that may be lost.
pub(super) fn refuse_what_is_needed(args: &RecordArgs) -> anyhow::Result<()> {
    let Some(path) = &args.metrics else { return Ok(()) };
    let name = path.display();
    if is_of_recording(path, &args.output) {
        let text = format!("the metrics would take the place of the recording: `{name}`");
        return Err(usage(text, Some("name another file with `--metrics`")));
    }
    if !is_replaceable(path) {
        let text = format!("`{name}` is no regular file, and metrics are put in the place of one");
        let hint = "name a file with `--metrics`, or one that is still to be made";
        return Err(usage(text, Some(hint)));
    }
    Ok(())
}

/// A device, a pipe or a socket serves others.
fn is_replaceable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// Whoever reads sees all of it, as it was or as it is. It tells nothing of anybody: all may read it,
/// whatever the umask is.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if !is_replaceable(path) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "it is no regular file any longer"));
    }
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".sockrec-metrics")
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}
