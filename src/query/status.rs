//! How recording goes, as far as the file tells.

use super::recording::Recording;
use crate::model::{Clocks, Nanos, Value};
use crate::store::{FileSizes, StoreError, file_sizes};

/// Growth is told from this much of time on.
const LEAST_NS: Nanos = 60_000_000_000;
const DAY_NS: f64 = 86_400e9;

/// How recording goes, or how it went when it last did.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Whether a recorder writes to the file.
    pub is_being_recorded: bool,
    /// The capture that all of this is about.
    pub capture_id: i64,
    /// When it began, UTC.
    pub started_at_ns: Nanos,
    /// Time between its ticks.
    pub interval_ns: Option<Nanos>,
    /// Its snapshots.
    pub snapshots: i64,
    /// When the last one began, UTC.
    pub last_snapshot_at_ns: Option<Nanos>,
    /// For how long the next one has been due; `None` where none is waited for, or it is not known.
    pub lag_ns: Option<Nanos>,
    /// Sockets in the last snapshot.
    pub sockets: Option<i64>,
    /// Ticks without a snapshot.
    pub missed_ticks: i64,
    /// Those of them that were left out to keep within a limit of CPU time.
    pub left_out_ticks: i64,
    /// Dumps that failed or were interrupted.
    pub failed_dumps: i64,
    /// Spans in which destroy events were lost.
    pub event_losses: i64,
    /// Bytes of the recording and its log.
    pub sizes: FileSizes,
    /// Bytes in the file that nothing stands in: the next rows are written there.
    pub unused_bytes: i64,
    /// The limit of its size.
    pub max_bytes: Option<i64>,
    /// What is added a day at the rate of the last hour, by rows of samples.
    pub growth_bytes_per_day: Option<f64>,
}

impl Status {
    /// Days of recording at this rate for which there is room, on the file system and within the limit;
    /// nothing was dropped then.
    pub fn days_that_fit(&self, free_bytes: Option<u64>) -> Option<f64> {
        let growth = self.growth_bytes_per_day.filter(|&growth| growth > 0.0)?;
        let free = free_bytes?.cast_signed().saturating_add(self.unused_bytes);
        let used = self.sizes.bytes().cast_signed().saturating_sub(self.unused_bytes);
        let room = self.max_bytes.map_or(free, |max| free.min(max.saturating_sub(used).max(0)));
        Some(room as f64 / growth)
    }

    /// Whether the next snapshot is overdue by more than a busy machine explains.
    pub fn is_behind(&self) -> bool {
        const SLACK_NS: Nanos = 10_000_000_000;
        let bound_ns = self.interval_ns.unwrap_or(0).saturating_mul(2).max(SLACK_NS);
        self.lag_ns.is_some_and(|lag_ns| lag_ns > bound_ns)
    }
}

impl Recording {
    /// How recording goes at this moment of a boot; `None` if nothing was ever recorded.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn status(&self, now: Clocks, boot: Option<&str>) -> Result<Option<Status>, StoreError> {
        let reader = self.reader();
        let sizes = file_sizes(reader.path());
        let mut status = None;
        let sql = include_str!("../../queries/status.sql");
        let names = reader.column_names(sql)?;
        reader.run(sql, &[], |row| {
            let value = |name: &str| {
                let at = names.iter().position(|known| known == name)?;
                row.get(at)
            };
            let number = |name: &str| match value(name) {
                Some(Value::Integer(n)) => Some(*n),
                _ => None,
            };
            let is_this_boot =
                matches!((value("boot"), boot), (Some(Value::Text(a)), Some(b)) if *a == b);
            let interval_ns = number("interval_ns");
            let passed_ns = match (number("last_boottime_ns"), number("last_at_ns")) {
                (Some(at_ns), _) if is_this_boot => Some(now.boottime_ns.saturating_sub(at_ns)),
                // Of another machine, or of this one before it was started anew.
                (_, at_ns) => at_ns.map(|at_ns| now.utc_ns.saturating_sub(at_ns)),
            };
            let is_waited_for = self.is_being_recorded();
            let lag_ns = passed_ns
                .zip(interval_ns)
                .map(|(passed, interval)| passed.saturating_sub(interval).max(0))
                .filter(|_| is_waited_for);
            status = Some(Status {
                is_being_recorded: self.is_being_recorded(),
                capture_id: number("capture_id").unwrap_or_default(),
                started_at_ns: number("started_at_ns").unwrap_or_default(),
                interval_ns,
                snapshots: number("snapshots").unwrap_or_default(),
                last_snapshot_at_ns: number("last_at_ns"),
                lag_ns,
                sockets: number("sockets"),
                missed_ticks: number("missed_ticks").unwrap_or_default(),
                left_out_ticks: number("left_out_ticks").unwrap_or_default(),
                failed_dumps: number("failed_dumps").unwrap_or_default(),
                event_losses: number("event_losses").unwrap_or_default(),
                sizes,
                unused_bytes: number("unused_bytes").unwrap_or_default(),
                max_bytes: number("max_bytes"),
                growth_bytes_per_day: growth(number),
            });
            Ok::<_, StoreError>(())
        })?;
        Ok(status)
    }
}

/// What is there is shared out by rows: those of the last hour took as much as others.
fn growth<'a>(number: impl Fn(&'a str) -> Option<i64>) -> Option<f64> {
    let span_ns = number("recent_ns").filter(|&span_ns| span_ns >= LEAST_NS)?;
    let used = number("held_bytes")? - number("unused_bytes")?;
    let share = number("recent_rows").unwrap_or(0) as f64 / number("all_rows")? as f64;
    Some(used as f64 * share * DAY_NS / span_ns as f64)
}
