//! What `record` says while it goes on: to a terminal, a log, the service manager, readers of metrics.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::RecordArgs;
use super::message::warn;
use super::metrics::Metrics;
use super::namespaces::not_recorded;
use super::output::counted;
use super::retention::Excess;
use super::service::{self, Manager};
use crate::record::{Event, Limits, Progress};
use crate::render::human::{bytes, duration};

/// What goes wrong all the time is said so often.
const TROUBLES_EVERY: Duration = Duration::from_secs(60);

/// Hears what the recorder tells, and says it where it is of use.
pub(super) struct Voice {
    line: Line,
    interval_ns: i64,
    limits: Limits,
    /// Said once, after the first tick.
    unsupported: Vec<String>,
    /// Said once; the recording has every one.
    has_failed: bool,
    has_refused: bool,
    troubles: Troubles,
    excess: Excess,
    manager: Manager,
    metrics: Option<Metrics>,
    last: Progress,
}

impl Voice {
    pub(super) fn new(args: &RecordArgs, limits: Limits, metrics: Option<Metrics>) -> Self {
        Self {
            line: Line::new(args),
            interval_ns: args.interval,
            unsupported: Vec::new(),
            has_failed: false,
            has_refused: false,
            troubles: Troubles::new(),
            excess: Excess::of(&limits.capacity),
            limits,
            manager: Manager::default(),
            metrics,
            last: Progress::default(),
        }
    }

    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Tick(progress) => self.tick(progress),
            Event::Limits(limits) => {
                self.excess.set_capacity(&limits.capacity);
                self.limits = limits.clone();
            }
            Event::Unsupported(family, protocol) => {
                self.unsupported.push(format!("{}/{}", protocol.name(), family.name()));
            }
            Event::Refused(refused) => {
                self.line.aside(&not_recorded(refused));
                self.has_refused = true;
            }
            Event::NoOwners(message) => {
                self.line.aside(&format!("cannot look for the owners of sockets: {message}"));
            }
            Event::DumpFailed(family, protocol, message) => {
                if !self.has_failed {
                    self.line.aside(&format!(
                        "the dump of {} over {} failed: {message}; what it would have shown \
                         is held as last observed",
                        protocol.name(),
                        family.name()
                    ));
                }
                self.has_failed = true;
            }
        }
    }

    /// A capture begins, and counts from nothing.
    pub(super) fn begin_capture(&mut self) {
        self.troubles = Troubles::new();
        self.last = Progress::default();
    }

    /// How far the capture has come.
    pub(super) fn progress(&self) -> &Progress {
        &self.last
    }

    /// Whether a network namespace that is meant could not be recorded.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// The limits that hold now.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// There is no room.
    pub(super) fn pause(&mut self, path: &Path) {
        let path = path.display();
        service::status(&format!("paused: no space left to write to `{path}`"));
        self.line.aside(&format!(
            "no space left to write to `{path}`: recording pauses until there is room; what was \
             recorded before is kept"
        ));
        self.still_paused();
    }

    /// There is not enough room yet. For metrics on the same disk there may be.
    pub(super) fn still_paused(&mut self) {
        self.tell_metrics(false);
    }

    /// There is room again.
    pub(super) fn resume(&self) {
        self.line.aside("there is room again: recording goes on");
        service::status("recording goes on");
    }

    fn tick(&mut self, progress: &Progress) {
        if !self.unsupported.is_empty() {
            let what = self.unsupported.join(", ");
            self.line.aside(&format!("this kernel cannot dump {what}: not recorded"));
            self.unsupported.clear();
        }
        if let Some(text) = self.troubles.news(progress, self.interval_ns, &self.limits) {
            self.line.aside(&text);
        }
        if let Some(text) = self.excess.news(progress.file_bytes) {
            self.line.aside(&text);
        }
        self.line.show(progress);
        self.manager.tell(|| in_short(progress));
        self.last = *progress;
        self.tell_metrics(true);
    }

    fn tell_metrics(&mut self, is_recording: bool) {
        let Some(metrics) = &mut self.metrics else { return };
        if let Some(text) = metrics.tell(&self.last, is_recording) {
            self.line.aside(&text);
        }
    }

    /// Recording is over.
    pub(super) fn finish(&mut self) {
        self.line.clear();
        self.tell_metrics(false);
        self.metrics = None;
    }
}

/// How far it has come, in a line.
fn in_short(p: &Progress) -> String {
    let missed = match p.missed_ticks {
        0 => String::new(),
        n => format!(", {} missed", counted(n, "tick")),
    };
    format!(
        "{}, {}, {}, {}, lag {}{missed}",
        counted(p.snapshots, "snapshot"),
        counted(p.sockets, "socket"),
        counted(p.samples, "row"),
        bytes(p.file_bytes.cast_signed()),
        p.lag,
    )
}

/// What went wrong, said at once when it begins and then once in a while.
struct Troubles {
    said: Progress,
    said_at: Instant,
    has_rested: bool,
    is_slow: bool,
}

impl Troubles {
    fn new() -> Self {
        Self {
            said: Progress::default(),
            said_at: Instant::now(),
            has_rested: false,
            is_slow: false,
        }
    }

    fn news(&mut self, now: &Progress, interval_ns: i64, limits: &Limits) -> Option<String> {
        if now.rests_for_ns > 0 && !self.has_rested {
            self.has_rested = true;
            let share = limits.max_cpu.map(|share| share.to_string()).unwrap_or_default();
            return Some(format!(
                "snapshots take more than {share} of a CPU (`--max-cpu`): ticks are left out, the next \
                 snapshot comes in {}",
                duration(now.rests_for_ns)
            ));
        }
        if now.took_ns > interval_ns && now.missed_ticks > 0 && !self.is_slow {
            self.is_slow = true;
            return Some(format!(
                "a snapshot took {}, longer than the interval of {}: ticks are missed",
                duration(now.took_ns),
                duration(interval_ns)
            ));
        }
        if self.said_at.elapsed() < TROUBLES_EVERY {
            return None;
        }
        let (before, passed) = (std::mem::replace(&mut self.said, *now), self.said_at.elapsed());
        self.said_at = Instant::now();
        let grown = [
            (now.missed_ticks - before.missed_ticks, "tick missed", "ticks missed"),
            (now.left_out_ticks - before.left_out_ticks, "of them left out", "of them left out"),
            (now.failed_dumps - before.failed_dumps, "dump failed", "dumps failed"),
            (now.event_losses - before.event_losses, "loss of events", "losses of events"),
            (now.not_stored - before.not_stored, "socket not stored", "sockets not stored"),
        ];
        let grown: Vec<_> = grown
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
            .collect();
        let passed_ns = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        (!grown.is_empty()).then(|| format!("in {}: {}", duration(passed_ns), grown.join(", ")))
    }
}

/// The line on a terminal that shows how it goes.
struct Line(Option<ProgressBar>);

impl Line {
    fn new(args: &RecordArgs) -> Self {
        if args.quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        Self(Some(match ProgressStyle::with_template("{spinner} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    fn show(&self, progress: &Progress) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("{}   Ctrl-C ends", in_short(progress)));
            bar.tick();
        }
    }

    /// Says something without tearing the line.
    fn aside(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| warn(text)),
            None => warn(text),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
