//! `record --metrics`: how recording goes, for what reads OpenMetrics.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::builder::{PathBufValueParser, TypedValueParser};

use super::args::RecordArgs;
use super::message::usage;
use super::metrics_socket::{SocketName, serve};
use super::paths::{is_of_recording, is_same_file, no_stream};
use crate::kernel::{SystemClock, free_bytes, open_descriptors, resident_bytes};
use crate::record::Progress;
use crate::render::{Metric, MetricKind, openmetrics};

/// Who reads the file does so less often.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// What a socket is named with.
const SOCKET: &[u8] = b"unix:";

/// Where the numbers are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MetricsTarget {
    /// In a file that is written anew time and again.
    File(PathBuf),
    /// From a unix socket.
    Socket(PathBuf),
}

impl MetricsTarget {
    fn path(&self) -> &Path {
        let (Self::File(path) | Self::Socket(path)) = self;
        path
    }
}

/// Reads `FILE` or `unix:PATH`.
pub(super) fn metrics_target() -> impl TypedValueParser<Value = MetricsTarget> {
    PathBufValueParser::new().try_map(|path| {
        match path.as_os_str().as_bytes().strip_prefix(SOCKET) {
            Some([]) => Err("it names no socket: write `unix:PATH`".to_owned()),
            Some(name) => Ok(MetricsTarget::Socket(OsStr::from_bytes(name).into())),
            None => no_stream(path, "it is written anew each time, which stdout cannot be")
                .map(MetricsTarget::File),
        }
    })
}

/// Tells how recording goes where it was asked to.
pub(super) struct Metrics {
    numbers: Numbers,
    outlet: Outlet,
}

enum Outlet {
    File(Written),
    Socket(Served),
}

/// A file, and how it went with it.
struct Written {
    path: PathBuf,
    tried_at: Option<Instant>,
    /// Whether it could not be written when that was last tried.
    is_failing: bool,
}

/// A socket, and what those who connect are told.
struct Served {
    /// Until there is something to tell.
    listener: Option<UnixListener>,
    told: Arc<Mutex<(Progress, bool)>>,
    _name: SocketName,
}

impl Metrics {
    /// Refuses to take the place of what is needed, before anything is made; takes the name of a socket.
    pub(super) fn open(args: &RecordArgs) -> anyhow::Result<Option<Self>> {
        let Some(target) = &args.metrics else { return Ok(None) };
        refuse_what_is_needed(target.path(), args)?;
        let outlet = match target {
            MetricsTarget::File(path) => {
                refuse_no_file(path)?;
                Outlet::File(Written { path: path.clone(), tried_at: None, is_failing: false })
            }
            MetricsTarget::Socket(path) => {
                let (name, listener) = SocketName::bind(path)?;
                let (told, listener) = (Arc::default(), Some(listener));
                Outlet::Socket(Served { listener, told, _name: name })
            }
        };
        let numbers = Numbers { recording: args.output.clone(), interval_ns: args.interval };
        Ok(Some(Self { numbers, outlet }))
    }

    /// Tells it anew: to a file unless that was just done, but at the end in any case. Gives what there
    /// is to say: that it cannot be done, which may change, or that it can be done again.
    pub(super) fn tell(&mut self, progress: &Progress, is_recording: bool) -> Option<String> {
        match &mut self.outlet {
            Outlet::File(Written { tried_at: Some(at), .. })
                if is_recording && at.elapsed() < WRITTEN_EVERY =>
            {
                None
            }
            Outlet::File(file) => file.write(&self.numbers.text(progress, is_recording)),
            Outlet::Socket(Served { listener, told, .. }) => {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = (*progress, is_recording);
                if is_recording && let Some(listener) = listener.take() {
                    let (numbers, told) = (self.numbers.clone(), Arc::clone(told));
                    // The lock is held for no longer than it takes to copy: a tick never waits for a client.
                    let served = serve(listener, move || {
                        let (p, is_recording) =
                            *told.lock().unwrap_or_else(PoisonError::into_inner);
                        numbers.text(&p, is_recording)
                    });
                    let error = served.err()?;
                    return Some(format!("could not tell metrics to anybody: {error}"));
                }
                None
            }
        }
    }
}

impl Written {
    /// Gives what there is to say when it begins to fail and when that is over.
    fn write(&mut self, text: &str) -> Option<String> {
        self.tried_at = Some(Instant::now());
        let result = replace(&self.path, text);
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        let path = self.path.display();
        match result {
            Err(e) if !was_failing => {
                Some(format!("could not write `{path}`, no metrics until that can be done: {e}"))
            }
            Ok(()) if was_failing => Some(format!("metrics are written to `{path}` again")),
            _ => None,
        }
    }
}

/// What is told, but for how far it has come.
#[derive(Clone)]
struct Numbers {
    recording: PathBuf,
    interval_ns: i64,
}

impl Numbers {
    fn text(&self, progress: &Progress, is_recording: bool) -> String {
        openmetrics(&self.metrics(progress, is_recording))
    }

    #[rustfmt::skip] // a table
    fn metrics(&self, p: &Progress, is_recording: bool) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let of = |name, kind, help, value| Metric { name, kind, help, value };
        let directory = self.recording.parent().filter(|d| !d.as_os_str().is_empty());
        let free = free_bytes(directory.unwrap_or(Path::new(".")));
        vec![
            of("sockrec_recording", Gauge, "1 while it records, 0 while it pauses and once it has ended; who is killed leaves it at 1.", Some(f64::from(u8::from(is_recording)))),
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

fn refuse_what_is_needed(path: &Path, args: &RecordArgs) -> anyhow::Result<()> {
    let limits = args.limits.as_deref().filter(|limits| is_same_file(path, limits));
    let needed = match limits {
        Some(_) => "file of limits",
        None if is_of_recording(path, &args.output) => "recording",
        None => return Ok(()),
    };
    let text = format!("the metrics would take the place of the {needed}: `{}`", path.display());
    Err(usage(text, Some("name another file with `--metrics`")))
}

fn refuse_no_file(path: &Path) -> anyhow::Result<()> {
    if is_replaceable(path) {
        return Ok(());
    }
    let name = path.display();
    let text = format!("`{name}` is no regular file, and metrics are put in the place of one");
    let hint = match fs::metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
        true => format!("name a socket as `--metrics unix:{name}`"),
        false => "name a file with `--metrics`, or one that is still to be made".to_owned(),
    };
    Err(usage(text, Some(&hint)))
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
