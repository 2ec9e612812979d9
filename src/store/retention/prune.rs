//! Dropping once, by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::groups::{LEANS, age_ns, chunk_len};
use super::thin::{self, Dues};
use super::{
    AllAlive, Capacity, LOG_BYTES, Moment, Pages, Retention, Role, Step, give_back, make_tables,
};
use crate::model::{Clocks, Nanos};
use crate::store::StoreError;
use crate::store::file::{check_for_reading, lock_if_idle};
use crate::store::log::fold_left_log;
use crate::store::migrate::check_schema;
use crate::store::writer::open_connection;

/// Longer than any snapshot takes to be written.
const RECORDER_WAITED_FOR: Duration = Duration::from_secs(10);

/// What was dropped or thinned out, or would be.
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
    /// Rows of samples that were thinned out beside these.
    pub thinned_samples: i64,
    /// Whether the recording is still beyond the capacity: its last group stays.
    pub is_beyond: bool,
}

/// Drops what is beyond the capacity and thins what is due, also while someone records: then the recorder clears up after it.
///
/// # Errors
/// When the file is no recording, is newer or damaged, or cannot be written.
pub fn prune(path: &Path, capacity: Capacity, now: Clocks) -> Result<Pruned, StoreError> {
    check_for_reading(path)?;
    let error = |e| StoreError::sqlite(path, "drop old snapshots of", e);
    // Before the connection: closing the file would drop its locks.
    let lock = lock_if_idle(path);
    let connection = open_connection(path, RECORDER_WAITED_FOR).map_err(error)?;
    check_schema(&connection, path)?;
    let pruned = prune_all(&connection, capacity, now, lock.is_some()).map_err(error)?;
    drop(connection);
    drop(lock);
    // Someone may be reading, or a recorder have ended meanwhile that could not fold its log in. Who may
    // not do it leaves it to the next.
    let _ = fold_left_log(path);
    Ok(pruned)
}

fn prune_all(
    connection: &Connection,
    capacity: Capacity,
    clocks: Clocks,
    is_idle: bool,
) -> rusqlite::Result<Pruned> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if is_idle {
        // Thousands of small steps: no need for each to be on the disk before the next.
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Rows of a dropped group go after it.
    connection.pragma_update(None, "foreign_keys", false)?;
    make_tables(connection)?;
    let capture: i64 =
        connection
            .query_row("SELECT coalesce(max(capture_id), 0) FROM captures", [], |r| r.get(0))?;
    let role = if is_idle { Role::Alone } else { Role::Bystander(capture) };
    let before = dropped(connection)?;
    let from_ns: Option<Nanos> = connection.query_row(
        "SELECT min(started_at_ns) FROM snapshots WHERE group_id = (SELECT min(group_id) FROM groups)",
        [],
        |r| r.get(0),
    )?;
    let mut retention = Retention::new(capacity, Box::new(AllAlive));
    retention.gives_back = true;
    let is_beyond = loop {
        match retention.step(connection, Moment { clocks, role })? {
            Step::More => {}
            Step::Done => break false,
            Step::Stuck => break true,
        }
    };
    while Pages::of(connection)?.free > 0 {
        give_back(connection)?;
    }
    // Busy: a reader keeps the log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let after = dropped(connection)?;
    let thinned_samples = retention.thinned;
    if after.snapshots == before.snapshots {
        return Ok(Pruned { thinned_samples, is_beyond, ..Pruned::default() });
    }
    Ok(Pruned {
        snapshots: after.snapshots - before.snapshots,
        samples: after.samples - before.samples,
        from_ns: from_ns.unwrap_or(after.to_ns),
        to_ns: after.to_ns,
        thinned_samples,
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
pub fn forecast(path: &Path, capacity: Capacity, now: Clocks) -> Result<Pruned, StoreError> {
    check_for_reading(path)?;
    let error = |e| StoreError::sqlite(path, "read", e);
    let connection = open_connection(path, RECORDER_WAITED_FOR).map_err(error)?;
    connection.pragma_update(None, "query_only", true).map_err(error)?;
    check_schema(&connection, path)?;
    forecast_all(&connection, &capacity, now).map_err(error)
}

struct Group {
    /// Rows that would be thinned out first.
    thinned: i64,
    snapshots: i64,
    samples: i64,
    from_ns: Nanos,
    to_ns: Nanos,
    leans: bool,
    is_old: bool,
}

fn forecast_all(
    connection: &Connection,
    capacity: &Capacity,
    clocks: Clocks,
) -> rusqlite::Result<Pruned> {
    let groups = groups_of(connection, capacity, clocks)?;
    let mut bytes = Pages::of(connection)?.used_bytes() + LOG_BYTES;
    let rows: i64 = groups.iter().map(|group| group.snapshots + group.samples).sum();
    let bytes_a_row = bytes / rows.cast_unsigned().max(1);
    let thinned: i64 = groups.iter().map(|group| group.thinned).sum();
    let mut pruned = Pruned { thinned_samples: thinned, ..Pruned::default() };
    bytes = bytes.saturating_sub(bytes_a_row * thinned.cast_unsigned());
    let mut left = groups.as_slice();
    while let Some(first) = left.first() {
        let is_large = capacity.max_bytes.is_some_and(|max| bytes > max);
        if !is_large && !first.is_old {
            break;
        }
        let count = chunk_len(left.iter().skip(1).map(|group| group.leans));
        let Some((gone, rest)) = count
            .and_then(|count| left.split_at_checked(count))
            .filter(|(gone, _)| is_large || gone.last().is_some_and(|group| group.is_old))
        else {
            pruned.is_beyond = true;
            break;
        };
        if pruned.snapshots == 0 {
            pruned.from_ns = first.from_ns;
        }
        for group in gone {
            let rows = (group.snapshots + group.samples - group.thinned).cast_unsigned();
            bytes = bytes.saturating_sub(bytes_a_row * rows);
            pruned.to_ns = group.to_ns;
            pruned.snapshots += group.snapshots;
            pruned.samples += group.samples - group.thinned;
        }
        left = rest;
    }
    Ok(pruned)
}

fn groups_of(
    connection: &Connection,
    capacity: &Capacity,
    clocks: Clocks,
) -> rusqlite::Result<Vec<Group>> {
    let now = Moment { clocks, role: Role::Alone };
    let mut thinned = BTreeMap::new();
    for due in Dues::new(&capacity.thin).all(connection, now)? {
        thinned.insert(due.group, thin::forecast(connection, due)?);
    }
    let mut statement = connection.prepare(&format!(
        "SELECT g.group_id, count(*), sum(n.samples), min(n.started_at_ns), max(n.ended_at_ns), {LEANS}
         FROM groups AS g JOIN snapshots AS n ON n.group_id = g.group_id
         GROUP BY g.group_id ORDER BY g.group_id"
    ))?;
    let mut rows = statement.query([])?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        let is_old = match capacity.max_age_ns {
            Some(max) => age_ns(connection, row.get(0)?, now)?.is_some_and(|age| age > max),
            None => false,
        };
        groups.push(Group {
            thinned: thinned.get(&row.get(0)?).copied().unwrap_or(0),
            snapshots: row.get(1)?,
            samples: row.get(2)?,
            from_ns: row.get(3)?,
            to_ns: row.get(4)?,
            leans: row.get(5)?,
            is_old,
        });
    }
    Ok(groups)
}
