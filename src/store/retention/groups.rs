//! The oldest group and its rows.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Moment, STEP_ROWS, begin};
use crate::model::Nanos;

/// Tables of rows of a snapshot or a group, with both columns of their key.
pub(super) const TABLES: &[(&str, &str, &str)] = &[
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

impl Floor {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT group_id, first_snapshot_id FROM groups ORDER BY group_id LIMIT 1",
            )?
            .query_row([], |r| Ok(Self { group: r.get(0)?, snapshot: r.get(1)? }))
            .optional()
    }
}

/// How old the last snapshot of a closed group is. Within the boot that is being recorded by boot time:
/// a clock that is set drops nothing.
pub(super) fn age_ns(
    connection: &Connection,
    group: i64,
    now: Moment,
) -> rusqlite::Result<Option<Nanos>> {
    let (utc_ns, boottime_ns) = (now.clocks.utc_ns, now.clocks.boottime_ns);
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
        .query_row(params![group, now.role.capture(), boottime_ns, utc_ns], |r| r.get(0))
        .optional()?;
    Ok(age.flatten())
}

/// Snapshots of dropped groups whose times are left.
pub(super) fn dropped_before(connection: &Connection, floor: Floor) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT count(*) FROM snapshots WHERE snapshot_id < ?1",
        [floor.snapshot],
        |r| r.get(0),
    )
}

/// Drops the first group, unless it is the last one; gives its snapshots. Their times stay for what
/// rests on them.
pub(super) fn drop_group(
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
    transaction.execute(DROPPED_SPAN, params![floor.snapshot, next, now_ns])?;
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
pub(super) fn delete_first(
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
    let delete_below = format!("DELETE FROM {table} WHERE {key} < ?1");
    let mut delete = transaction.prepare_cached(&delete_below)?;
    if let Some((key_of_last, second_of_last)) = last {
        delete.execute([key_of_last])?;
        let of_last = format!("DELETE FROM {table} WHERE {key} = ?1 AND {second} <= ?2");
        transaction.prepare_cached(&of_last)?.execute([key_of_last, second_of_last])?;
    } else {
        delete.execute([below])?;
    }
    drop(delete);
    transaction.commit()?;
    Ok(last.is_none())
}
