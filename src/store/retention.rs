//! What a recording may hold: the oldest groups go, in small steps.
//!
//! Every step is a transaction of its own, after which the recording is whole: what was interrupted
//! goes on with the next step, of whichever process. A group goes first, in one step: with it all that
//! answers are found by. Its rows, which nothing leads to any more, follow; then the sockets that only
//! it told of ([`super::sweep`]).

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::StoreError;
use super::file::{check_for_reading, lock_if_idle};
use super::migrate::check_schema;
use super::sweep::{Sweep, end_of_sweep};
use super::writer::{fold_left_log, open_connection};
use crate::model::{Clocks, Nanos};

/// Kept free below the limit for the write-ahead log, which is folded in when it comes to half of this.
pub const LOG_BYTES: u64 = 8 * 1024 * 1024;
/// No limit may be below this.
pub const SMALLEST_BYTES: u64 = 32 * 1024 * 1024;

/// Rows that one step deletes at most.
pub(super) const STEP_ROWS: i64 = 2_000;
/// Pages that one step gives back.
const STEP_PAGES: i64 = 256;
/// Sockets are looked through when so large a part of the snapshots was dropped since.
const SWEEP_SHARE: i64 = 16;
/// So long steps follow each other though someone waits.
const BUSY_FOR: Duration = Duration::from_millis(10);
/// So long they do if nobody waits.
const IDLE_FOR: Duration = Duration::from_millis(200);
/// Longer than any snapshot takes to be written.
const RECORDER_WAITED_FOR: Duration = Duration::from_secs(10);

/// What a recording may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file with its log.
    pub max_bytes: Option<u64>,
    /// Age of a group's last snapshot.
    pub max_age_ns: Option<Nanos>,
}

/// Now, and the capture that is being recorded, if one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) clocks: Clocks,
    pub(super) capture: Option<i64>,
}

/// What was dropped, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Snapshots.
    pub snapshots: i64,
    /// Rows of samples.
    pub samples: i64,
    /// Start of the first of them, UTC nanoseconds.
    pub from_ns: Nanos,
    /// End of the last of them, UTC nanoseconds.
    pub to_ns: Nanos,
    /// Whether the recording is still beyond the limits: its last group stays.
    pub is_beyond: bool,
}

/// Tables of rows of a snapshot or a group, with both columns of their key.
const TABLES: &[(&str, &str, &str)] = &[
    ("samples", "snapshot_id", "socket_id"),
    ("held_samples", "snapshot_id", "socket_id"),
    ("state_changes", "snapshot_id", "socket_id"),
    ("missing_sockets", "snapshot_id", "socket_id"),
    ("conditions", "group_id", "condition_id"),
    ("settings", "group_id", "setting_id"),
    ("group_sockets", "group_id", "socket_id"),
];

/// The first group that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub(super) group: i64,
    pub(super) snapshot: i64,
}

enum Work {
    /// See what others have left to do.
    Begin,
    /// See whether there is something to do.
    Look,
    /// Rows of dropped groups, from this table on.
    Rows(usize),
    /// Sockets and times of dropped groups.
    Sweep(Box<Sweep>),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    More,
    /// There is nothing left that could go.
    Stuck,
}

/// Keeps a recording within its limits.
pub(super) struct Retention {
    limits: Limits,
    work: Work,
    /// Dropped since sockets were last looked through.
    dropped: i64,
    /// Whether all free pages are to be given back, also those that would be used again.
    gives_back: bool,
}

impl Retention {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, work: Work::Begin, dropped: 0, gives_back: false }
    }

    /// Does steps, see [`super::Writer::keep_within_limits`].
    pub(super) fn run(
        &mut self,
        connection: &Connection,
        now: Moment,
        rows: u64,
        is_awaited: impl Fn() -> bool,
    ) -> rusqlite::Result<bool> {
        if self.limits == Limits::default() {
            return Ok(true);
        }
        let began = Instant::now();
        let wanted = 1 + 4 * rows / STEP_ROWS.cast_unsigned();
        let mut steps = 0;
        loop {
            match self.step(connection, now)? {
                Step::Done => return Ok(true),
                Step::Stuck => return Ok(false),
                Step::More => steps += 1,
            }
            let patience = if is_awaited() { BUSY_FOR } else { IDLE_FOR };
            if steps >= wanted && began.elapsed() >= patience {
                return Ok(true);
            }
        }
    }

    fn step(&mut self, connection: &Connection, now: Moment) -> rusqlite::Result<Step> {
        let Some(floor) = floor(connection)? else { return Ok(Step::Done) };
        match &mut self.work {
            Work::Begin => {
                let left = "SELECT count(*) FROM snapshots WHERE snapshot_id < ?1";
                self.dropped = connection.query_row(left, [floor.snapshot], |r| r.get(0))?;
                self.work = Work::Rows(0);
                Ok(Step::More)
            }
            Work::Rows(table) => {
                match TABLES.get(*table) {
                    Some(place) if delete_first(connection, *place, floor)? => *table += 1,
                    Some(_) => {}
                    None => self.work = self.after_rows(connection, floor, now)?,
                }
                Ok(Step::More)
            }
            Work::Sweep(sweep) => {
                if sweep.step(connection)? {
                    self.dropped = 0;
                    self.work = Work::Look;
                }
                Ok(Step::More)
            }
            Work::Look => self.look(connection, floor, now),
        }
    }

    fn after_rows(
        &self,
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<Work> {
        let newest: i64 =
            connection.query_row("SELECT max(snapshot_id) FROM snapshots", [], |r| r.get(0))?;
        let is_due = self.dropped > 0 && self.dropped * SWEEP_SHARE >= newest - floor.snapshot;
        Ok(if is_due { self.sweep(connection, floor, now)? } else { Work::Look })
    }

    fn sweep(&self, connection: &Connection, floor: Floor, now: Moment) -> rusqlite::Result<Work> {
        let sweep = Sweep::begin(connection, floor, now)?;
        Ok(sweep.map_or(Work::Look, |sweep| Work::Sweep(Box::new(sweep))))
    }

    fn look(
        &mut self,
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<Step> {
        if is_beyond(connection, &self.limits, floor, now)? {
            let dropped = drop_group(connection, floor, now.clocks.utc_ns)?;
            self.dropped += dropped;
            if dropped > 0 {
                self.work = Work::Rows(0);
                return Ok(Step::More);
            }
            if self.dropped > 0 {
                self.work = self.sweep(connection, floor, now)?;
                self.dropped = 0;
                return Ok(Step::More);
            }
            return Ok(Step::Stuck);
        }
        if self.gives_back && self.dropped > 0 {
            self.work = self.sweep(connection, floor, now)?;
            self.dropped = 0;
            return Ok(Step::More);
        }
        let pages = Pages::of(connection)?;
        let is_large = self.limits.max_bytes.is_some_and(|max| pages.bytes(pages.all) + LOG_BYTES > max);
        if pages.free > 0 && (is_large || self.gives_back) {
            give_back(connection)?;
            return Ok(Step::More);
        }
        Ok(Step::Done)
    }
}

struct Pages {
    all: u64,
    free: u64,
    size: u64,
}

impl Pages {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name| connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
        Ok(Self {
            all: pragma("page_count")?.cast_unsigned(),
            free: pragma("freelist_count")?.cast_unsigned(),
            size: pragma("page_size")?.cast_unsigned(),
        })
    }

    fn bytes(&self, pages: u64) -> u64 {
        pages * self.size
    }
}

pub(super) fn begin(connection: &Connection) -> rusqlite::Result<Transaction<'_>> {
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
}

fn floor(connection: &Connection) -> rusqlite::Result<Option<Floor>> {
    connection
        .prepare_cached(
            "SELECT group_id, first_snapshot_id FROM groups ORDER BY group_id LIMIT 1",
        )?
        .query_row([], |r| Ok(Floor { group: r.get(0)?, snapshot: r.get(1)? }))
        .optional()
}

fn is_beyond(
    connection: &Connection,
    limits: &Limits,
    floor: Floor,
    now: Moment,
) -> rusqlite::Result<bool> {
    if let Some(max) = limits.max_bytes {
        let pages = Pages::of(connection)?;
        if pages.bytes(pages.all - pages.free) + LOG_BYTES > max {
            return Ok(true);
        }
    }
    let Some(max_age_ns) = limits.max_age_ns else { return Ok(false) };
    let age_ns = age_ns(connection, floor.group, now)?;
    Ok(age_ns.is_some_and(|age_ns| age_ns > max_age_ns))
}

/// How old the last snapshot of a closed group is. Within the boot that is being recorded by boot time:
/// a clock that is set drops nothing.
fn age_ns(connection: &Connection, group: i64, now: Moment) -> rusqlite::Result<Option<Nanos>> {
    let age = connection
        .prepare_cached(
            "SELECT CASE WHEN c.boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?2)
                 AND n.ended_boottime_ns IS NOT NULL
                 THEN ?3 - n.ended_boottime_ns ELSE ?4 - n.ended_at_ns END
             FROM groups AS g
             JOIN snapshots AS n ON n.snapshot_id = g.last_snapshot_id
             JOIN captures AS c ON c.capture_id = n.capture_id
             WHERE g.group_id = ?1",
        )?
        .query_row(params![group, now.capture, now.clocks.boottime_ns, now.clocks.utc_ns], |r| {
            r.get(0)
        })
        .optional()?;
    Ok(age.flatten())
}

/// Drops the first group, unless it is the last one; gives its snapshots. Their times stay for what
/// rests on them.
fn drop_group(
    connection: &Connection,
    floor: Floor,
    now_ns: Nanos,
) -> rusqlite::Result<i64> {
    let transaction = begin(connection)?;
    let next: Option<i64> = transaction
        .query_row(
            "SELECT first_snapshot_id FROM groups WHERE group_id > ?1 ORDER BY group_id LIMIT 1",
            [floor.group],
            |r| r.get(0),
        )
        .optional()?;
    let Some(next) = next else { return Ok(0) };
    let span = params![floor.snapshot, next, now_ns];
    transaction.execute(DROPPED_SPAN, span)?;
    let places = params![floor.snapshot, next];
    transaction.execute(STILL_UNSUPPORTED, places)?;
    for table in ["exceptions", "event_losses", "clock_changes"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE snapshot_id < ?1"), [next])?;
    }
    transaction.execute("DELETE FROM groups WHERE group_id = ?1", [floor.group])?;
    let snapshots = transaction.execute(
        "UPDATE snapshots SET group_id = NULL
         WHERE snapshot_id >= ?1 AND snapshot_id < ?2 AND group_id IS NOT NULL",
        places,
    )?;
    transaction.commit()?;
    Ok(i64::try_from(snapshots).unwrap_or(i64::MAX))
}

/// The snapshots of a group are of one capture.
const DROPPED_SPAN: &str = "
    INSERT INTO dropped_spans (capture_id, first_snapshot_id, last_snapshot_id, started_at_ns,
        started_boottime_ns, ended_at_ns, ended_boottime_ns, snapshots, samples, dropped_at_ns)
    SELECT f.capture_id, f.snapshot_id, l.snapshot_id, f.started_at_ns, f.started_boottime_ns,
        l.ended_at_ns, l.ended_boottime_ns, n.snapshots, n.samples, ?3
    FROM (SELECT min(snapshot_id) AS first_id, max(snapshot_id) AS last_id, count(*) AS snapshots,
            sum(samples) AS samples
        FROM snapshots WHERE snapshot_id >= ?1 AND snapshot_id < ?2 AND group_id IS NOT NULL) AS n
    JOIN snapshots AS f ON f.snapshot_id = n.first_id
    JOIN snapshots AS l ON l.snapshot_id = n.last_id
    WHERE 1
    ON CONFLICT DO UPDATE SET last_snapshot_id = excluded.last_snapshot_id,
        ended_at_ns = excluded.ended_at_ns, ended_boottime_ns = excluded.ended_boottime_ns,
        snapshots = snapshots + excluded.snapshots, samples = samples + excluded.samples,
        dropped_at_ns = excluded.dropped_at_ns";

/// A scope that the kernel cannot dump has one row in its capture, which holds to its end.
const STILL_UNSUPPORTED: &str = "
    UPDATE exceptions SET snapshot_id = ?2
    WHERE kind = 'dump_unsupported' AND snapshot_id >= ?1 AND snapshot_id < ?2
        AND (SELECT capture_id FROM snapshots WHERE snapshot_id = ?1)
            = (SELECT capture_id FROM snapshots WHERE snapshot_id = ?2)";

/// Deletes the first rows of a table that belong to dropped groups; whether none is left.
fn delete_first(
    connection: &Connection,
    (table, key, second): (&str, &str, &str),
    floor: Floor,
) -> rusqlite::Result<bool> {
    let below = if key == "group_id" { floor.group } else { floor.snapshot };
    let last: Option<(i64, i64)> = connection
        .prepare_cached(&format!(
            "SELECT {key}, {second} FROM {table} WHERE {key} < ?1
             ORDER BY {key}, {second} LIMIT 1 OFFSET ?2"
        ))?
        .query_row(params![below, STEP_ROWS - 1], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let transaction = begin(connection)?;
    match last {
        Some((key_of_last, second_of_last)) => {
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE {key} < ?1"))?
                .execute([key_of_last])?;
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE {key} = ?1 AND {second} <= ?2"
                ))?
                .execute([key_of_last, second_of_last])?;
        }
        None => {
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE {key} < ?1"))?
                .execute([below])?;
        }
    }
    transaction.commit()?;
    Ok(last.is_none())
}

fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Drops what is beyond the limits, also while someone records.
///
/// # Errors
/// When the file is no recording, is newer or damaged, or cannot be written.
pub fn prune(path: &Path, limits: Limits, now: Clocks) -> Result<Pruned, StoreError> {
    check_for_reading(path)?;
    let error = |e| StoreError::sqlite(path, "drop old snapshots of", e);
    // Before the connection: closing the file would drop its locks.
    let lock = lock_if_idle(path);
    let connection = open_connection(path, RECORDER_WAITED_FOR).map_err(error)?;
    check_schema(&connection, path)?;
    let pruned = prune_all(&connection, limits, now, lock.is_some()).map_err(error)?;
    drop(connection);
    drop(lock);
    // A recorder that ended meanwhile could not fold its log in. Who may not leaves it to the next.
    let _ = fold_left_log(path);
    Ok(pruned)
}

fn prune_all(
    connection: &Connection,
    limits: Limits,
    clocks: Clocks,
    is_idle: bool,
) -> rusqlite::Result<Pruned> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let capture = connection
        .query_row("SELECT max(capture_id) FROM captures", [], |r| r.get::<_, Option<i64>>(0))?
        .filter(|_| !is_idle);
    let before = dropped(connection)?;
    let from_ns: Option<Nanos> = connection.query_row(
        "SELECT min(started_at_ns) FROM snapshots WHERE group_id = (SELECT min(group_id) FROM groups)",
        [],
        |r| r.get(0),
    )?;
    let mut retention = Retention::new(limits);
    retention.gives_back = true;
    let now = Moment { clocks, capture };
    let is_beyond = loop {
        match retention.step(connection, now)? {
            Step::More => {}
            Step::Done => break false,
            Step::Stuck => break true,
        }
    };
    if is_idle {
        end_of_sweep(connection)?;
    }
    while Pages::of(connection)?.free > 0 {
        give_back(connection)?;
    }
    // Busy: a reader keeps the log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let after = dropped(connection)?;
    if after.snapshots == before.snapshots {
        return Ok(Pruned { is_beyond, ..Pruned::default() });
    }
    Ok(Pruned {
        snapshots: after.snapshots - before.snapshots,
        samples: after.samples - before.samples,
        from_ns: from_ns.unwrap_or(after.to_ns),
        to_ns: after.to_ns,
        is_beyond,
    })
}

/// All that was dropped so far.
fn dropped(connection: &Connection) -> rusqlite::Result<Pruned> {
    connection.query_row(
        "SELECT coalesce(sum(snapshots), 0), coalesce(sum(samples), 0),
             coalesce(max(ended_at_ns), 0) FROM dropped_spans",
        [],
        |r| {
            Ok(Pruned {
                snapshots: r.get(0)?,
                samples: r.get(1)?,
                to_ns: r.get(2)?,
                ..Pruned::default()
            })
        },
    )
}

/// What [`prune`] would drop, by the share that each group has of the rows.
///
/// # Errors
/// When the file cannot be read.
pub fn forecast(path: &Path, limits: Limits, now: Clocks) -> Result<Pruned, StoreError> {
    check_for_reading(path)?;
    let error = |e| StoreError::sqlite(path, "read", e);
    let connection = open_connection(path, RECORDER_WAITED_FOR).map_err(error)?;
    connection.pragma_update(None, "query_only", true).map_err(error)?;
    check_schema(&connection, path)?;
    forecast_all(&connection, limits, now).map_err(error)
}

fn forecast_all(
    connection: &Connection,
    limits: Limits,
    clocks: Clocks,
) -> rusqlite::Result<Pruned> {
    let now = Moment { clocks, capture: None };
    let pages = Pages::of(connection)?;
    let mut bytes = pages.bytes(pages.all - pages.free) + LOG_BYTES;
    let total: u64 = connection.query_row(
        "SELECT max(1, sum(samples + 1)) FROM held_snapshots",
        [],
        |r| r.get::<_, Option<i64>>(0).map(|n| n.unwrap_or(1).cast_unsigned()),
    )?;
    let bytes_a_row = bytes / total;
    let mut statement = connection.prepare(
        "SELECT g.group_id, count(*), sum(n.samples), min(n.started_at_ns), max(n.ended_at_ns)
         FROM groups AS g JOIN snapshots AS n ON n.group_id = g.group_id
         GROUP BY g.group_id ORDER BY g.group_id",
    )?;
    let mut rows = statement.query([])?;
    let mut pruned = Pruned::default();
    let newest: Option<i64> =
        connection.query_row("SELECT max(group_id) FROM groups", [], |r| r.get(0))?;
    while let Some(row) = rows.next()? {
        let group: i64 = row.get(0)?;
        let is_large = limits.max_bytes.is_some_and(|max| bytes > max);
        let is_old = match limits.max_age_ns {
            Some(max) => age_ns(connection, group, now)?.is_some_and(|age| age > max),
            None => false,
        };
        if !is_large && !is_old {
            break;
        }
        if Some(group) == newest {
            pruned.is_beyond = true;
            break;
        }
        let (snapshots, samples): (i64, i64) = (row.get(1)?, row.get(2)?);
        bytes = bytes.saturating_sub(bytes_a_row * (snapshots + samples).cast_unsigned());
        if pruned.snapshots == 0 {
            pruned.from_ns = row.get(3)?;
        }
        pruned.to_ns = row.get(4)?;
        pruned.snapshots += snapshots;
        pruned.samples += samples;
    }
    Ok(pruned)
}

/// Room for a recording on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free for this user.
    pub free_bytes: u64,
    /// Bytes of the recording with its log.
    pub used_bytes: u64,
}

/// Room for this recording, or one that is to be made there; `None` where that cannot be told.
pub fn room(path: &Path) -> Option<Room> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(directory).ok()?;
    let len = |path: &Path| path.metadata().map_or(0, |m| m.len());
    Some(Room {
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        used_bytes: len(path) + len(&super::file::log_path(path)),
    })
}
