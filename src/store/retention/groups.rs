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
    ("unasked_namespaces", "snapshot_id", "netns_id"),
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

/// So many groups are looked ahead for a keyframe that stands for itself.
const CHUNK_GROUPS: usize = 16;

/// The first groups, up to one whose keyframe stands for itself: what a keyframe holds over is there or
/// not, and was seen last, by what the dumps before it showed.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Of one or more.
    groups: Vec<Floor>,
    next: Floor,
}

/// How many of the first groups go at once, by whether the keyframe of each of the others leans on those
/// before. `None` if that is not known yet.
pub(super) fn chunk_len(leans: impl Iterator<Item = bool>) -> Option<usize> {
    let mut count = 0;
    for leans in leans.take(CHUNK_GROUPS) {
        count += 1;
        if !leans {
            return Some(count);
        }
    }
    // Its dumps fail all the time.
    (count == CHUNK_GROUPS).then_some(1)
}

impl Chunk {
    /// `None` if there is nothing that may go.
    pub(super) fn first(connection: &Connection, floor: Floor) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT group_id, first_snapshot_id, {LEANS} FROM groups AS g WHERE group_id > ?1
             ORDER BY group_id LIMIT ?2"
        ))?;
        let limit = i64::try_from(CHUNK_GROUPS).unwrap_or(i64::MAX);
        let after: Vec<(Floor, bool)> = statement
            .query_map([floor.group, limit], |r| {
                Ok((Floor { group: r.get(0)?, snapshot: r.get(1)? }, r.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let Some(count) = chunk_len(after.iter().map(|&(_, leans)| leans)) else {
            return Ok(None);
        };
        let mut groups = vec![floor];
        groups.extend(after.iter().take(count).map(|&(group, _)| group));
        let next = groups.pop().filter(|_| !groups.is_empty());
        Ok(next.map(|next| Self { groups, next }))
    }

    /// The last group that goes.
    pub(super) fn last(&self) -> Floor {
        self.groups.last().copied().unwrap_or(self.next)
    }

    /// Drops them; gives their snapshots, whose times stay for what rests on them.
    pub(super) fn drop(&self, connection: &Connection, now_ns: Nanos) -> rusqlite::Result<i64> {
        let transaction = begin(connection)?;
        let mut dropped = 0;
        for (group, next) in self.groups.iter().zip(self.groups.iter().skip(1).chain([&self.next]))
        {
            transaction.execute(DROPPED_SPAN, params![group.snapshot, next.snapshot, now_ns])?;
            transaction.execute(STILL_UNSUPPORTED, [group.snapshot, next.snapshot])?;
            transaction.execute("DELETE FROM groups WHERE group_id = ?1", [group.group])?;
            dropped += transaction.execute(
                "UPDATE snapshots SET group_id = NULL
                 WHERE snapshot_id >= ?1 AND snapshot_id < ?2 AND group_id IS NOT NULL",
                [group.snapshot, next.snapshot],
            )?;
        }
        for table in ["noted_exceptions", "event_losses", "clock_changes"] {
            let delete = format!("DELETE FROM {table} WHERE snapshot_id < ?1");
            transaction.execute(&delete, [self.next.snapshot])?;
        }
        transaction.commit()?;
        Ok(i64::try_from(dropped).unwrap_or(i64::MAX))
    }
}

/// Whether the keyframe of a group `g` holds over what its own dump could not show. What a complete dump
/// lacked was seen by the one before it.
pub(super) const LEANS: &str = "EXISTS (
    SELECT 1 FROM held_samples AS h
    WHERE h.snapshot_id = g.first_snapshot_id AND NOT EXISTS (
        SELECT 1 FROM missing_sockets AS m
        WHERE m.snapshot_id = h.snapshot_id AND m.socket_id = h.socket_id))";

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
    UPDATE noted_exceptions SET snapshot_id = ?2
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
