//! The sockets that only dropped groups told of go, and the times of snapshots that nothing rests on.
//!
//! One look through all sockets, in chunks: those that are over and of which nothing that is held tells
//! go; of the others it is noted on which dropped snapshots they rest. The rest of those goes at the end.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::retention::{Floor, Moment, begin};

/// Sockets that one step looks at.
const STEP_SOCKETS: i64 = 500;
/// What ended so recently may show itself again, as TIME-WAIT or by a late event.
const RECENT_NS: i64 = 180_000_000_000;
/// More snapshots than that are taken in this time at 100 Hz.
const RECENT_SNAPSHOTS: i64 = 20_000;
/// Snapshots that are looked at for complete dumps.
const LOOKED_AT: i64 = 4_096;

pub(super) struct Sweep {
    /// Snapshots before this one are dropped.
    below: i64,
    /// Sockets of which nothing tells from here on go.
    sockets_below: i64,
    next_socket: i64,
    next_snapshot: i64,
    are_sockets_done: bool,
    /// Dropped snapshots that something rests on.
    used: HashSet<i64>,
}

impl Sweep {
    /// `None` while a dump fails so long that the recorder may come back to what is dropped.
    pub(super) fn begin(
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<Option<Self>> {
        let mut sockets_below = floor.snapshot;
        if let Some(capture) = now.capture {
            if connection.query_row(IS_BLIND, params![capture, floor.snapshot, LOOKED_AT], |r| {
                r.get(0)
            })? {
                return Ok(None);
            }
            let since_ns = now.clocks.boottime_ns - RECENT_NS;
            let recent: Option<i64> = connection.query_row(
                RECENT,
                params![capture, since_ns, RECENT_SNAPSHOTS],
                |r| r.get(0),
            )?;
            sockets_below = sockets_below.min(recent.unwrap_or(i64::MAX));
        }
        connection.execute_batch(KEYFRAMES)?;
        let mut used = HashSet::new();
        for sql in [
            "SELECT observed_snapshot_id, NULL FROM held_samples WHERE observed_snapshot_id < ?1",
            "SELECT first_snapshot_id, last_snapshot_id FROM dropped_spans WHERE ?1 > 0",
        ] {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([floor.snapshot])?;
            while let Some(row) = rows.next()? {
                used.extend((0..2).filter_map(|i| row.get::<_, Option<i64>>(i).ok().flatten()));
            }
        }
        let (next_socket, next_snapshot, are_sockets_done) = (0, 0, false);
        let below = floor.snapshot;
        Ok(Some(Self { below, sockets_below, next_socket, next_snapshot, are_sockets_done, used }))
    }

    /// One chunk; whether it was the last.
    pub(super) fn step(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        if self.are_sockets_done { self.times(connection) } else { self.sockets(connection) }
    }

    fn sockets(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let last: Option<i64> = connection
            .prepare_cached(
                "SELECT max(socket_id) FROM (SELECT socket_id FROM sockets WHERE socket_id >= ?1
                 ORDER BY socket_id LIMIT ?2)",
            )?
            .query_row([self.next_socket, STEP_SOCKETS], |r| r.get(0))?;
        let Some(last) = last else {
            self.are_sockets_done = true;
            return Ok(false);
        };
        let transaction = begin(connection)?;
        transaction.execute("DELETE FROM temp.doomed", [])?;
        let doomed = transaction
            .prepare_cached(&doomed_sql())?
            .execute([self.next_socket, last, self.sockets_below])?;
        if doomed > 0 {
            for table in ["socket_owners", "remains", "socket_ends", "sockets"] {
                transaction
                    .prepare_cached(&format!(
                        "DELETE FROM {table} WHERE socket_id IN (SELECT socket_id FROM temp.doomed)"
                    ))?
                    .execute([])?;
            }
        }
        let mut statement = transaction.prepare_cached(RESTS_ON)?;
        let columns = statement.column_count();
        let mut rows = statement.query([self.next_socket, last])?;
        while let Some(row) = rows.next()? {
            for i in 0..columns {
                self.used.extend(row.get::<_, Option<i64>>(i)?.filter(|id| *id < self.below));
            }
        }
        drop(rows);
        drop(statement);
        transaction.commit()?;
        self.next_socket = last + 1;
        Ok(false)
    }

    fn times(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let snapshots: Vec<i64> = connection
            .prepare_cached(
                "SELECT snapshot_id FROM snapshots WHERE snapshot_id >= ?1 AND snapshot_id < ?2
                     AND group_id IS NULL ORDER BY snapshot_id LIMIT ?3",
            )?
            .query_map([self.next_snapshot, self.below, STEP_SOCKETS], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let Some(last) = snapshots.last() else { return Ok(true) };
        let transaction = begin(connection)?;
        for snapshot in snapshots.iter().filter(|id| !self.used.contains(id)) {
            transaction
                .prepare_cached("DELETE FROM snapshots WHERE snapshot_id = ?1")?
                .execute([snapshot])?;
        }
        transaction.commit()?;
        self.next_snapshot = last + 1;
        Ok(false)
    }
}

/// Processes that hold no socket that is left. A recorder may come back to them: not while one runs.
pub(super) fn end_of_sweep(connection: &Connection) -> rusqlite::Result<()> {
    let any: Option<i64> = connection
        .query_row("SELECT 1 FROM dropped_spans LIMIT 1", [], |r| r.get(0))
        .optional()?;
    if any.is_some() {
        connection.execute(
            "DELETE FROM processes WHERE process_id NOT IN (SELECT process_id FROM socket_owners)",
            [],
        )?;
    }
    Ok(())
}

/// Whether a scope of the capture (`?1`) had no two complete dumps lately: what it showed last may be
/// what the recorder goes on from.
const IS_BLIND: &str = "
    SELECT EXISTS (
        SELECT 1 FROM capture_scopes AS cs
        WHERE cs.capture_id = ?1 AND NOT EXISTS (
            SELECT 1 FROM exceptions AS x JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
            WHERE x.kind = 'dump_unsupported' AND x.scope_id = cs.scope_id AND n.capture_id = ?1
        ) AND (
            SELECT count(*) FROM (
                SELECT 1 FROM complete_dumps AS d
                WHERE d.scope_id = cs.scope_id AND d.snapshot_id >= ?2
                    AND d.snapshot_id > (SELECT max(snapshot_id) FROM snapshots) - ?3
                LIMIT 2)
        ) < 2)";

/// The first snapshot of the last minutes in the boot of the capture (`?1`).
const RECENT: &str = "
    SELECT min(snapshot_id) FROM (
        SELECT n.snapshot_id, n.ended_boottime_ns, c.boot_id
        FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
        ORDER BY n.snapshot_id DESC LIMIT ?3)
    WHERE ended_boottime_ns > ?2
        AND boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?1)";

/// What was there to the end of a capture has a row in its last keyframe, or was first seen after it.
const KEYFRAMES: &str = "
    CREATE TEMP TABLE IF NOT EXISTS doomed (socket_id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE IF NOT EXISTS keyframes (snapshot_id INTEGER PRIMARY KEY);
    DELETE FROM temp.keyframes;
    INSERT INTO temp.keyframes SELECT max(first_snapshot_id) FROM main.groups GROUP BY capture_id;";

/// Sockets (`?1` to `?2`) of which nothing tells from `?3` on. The other end of a connection tells of it.
fn doomed_sql() -> String {
    let is_dead = |k: &str, e: &str, m: &str| {
        format!(
            "coalesce({k}.first_snapshot_id, 0) < ?3 AND coalesce({m}.first_snapshot_id, 0) < ?3
             AND CASE WHEN {e}.socket_id IS NULL
                 OR ({m}.socket_id IS NOT NULL AND {m}.last_snapshot_id IS NULL)
             THEN NOT EXISTS (SELECT 1 FROM temp.keyframes AS f JOIN samples AS s
                 ON s.snapshot_id = f.snapshot_id AND s.socket_id = {k}.socket_id)
             ELSE max(coalesce({e}.last_snapshot_id, 0), coalesce({e}.closed_before_snapshot_id, 0),
                 coalesce({e}.destroyed_snapshot_id, 0), coalesce({m}.last_snapshot_id, 0),
                 coalesce({m}.gone_before_snapshot_id, 0)) < ?3 END"
        )
    };
    format!(
        "INSERT INTO temp.doomed
         SELECT k.socket_id FROM sockets AS k
         LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
         LEFT JOIN remains AS m ON m.socket_id = k.socket_id
         LEFT JOIN sockets AS p ON p.socket_id = k.peer_socket_id
         LEFT JOIN socket_ends AS pe ON pe.socket_id = p.socket_id
         LEFT JOIN remains AS pm ON pm.socket_id = p.socket_id
         WHERE k.socket_id BETWEEN ?1 AND ?2 AND {} AND (p.socket_id IS NULL OR ({}))",
        is_dead("k", "e", "m"),
        is_dead("p", "pe", "pm")
    )
}

/// The snapshots that sockets (`?1` to `?2`) rest on.
const RESTS_ON: &str = "
    SELECT k.first_snapshot_id, k.opened_after_snapshot_id, e.last_snapshot_id,
        e.closed_before_snapshot_id, e.last_sample_snapshot_id, e.destroyed_snapshot_id,
        m.first_snapshot_id, m.time_wait_snapshot_id, m.last_snapshot_id, m.gone_before_snapshot_id,
        m.last_sample_snapshot_id, o.first_snapshot_id, o.last_snapshot_id
    FROM sockets AS k
    LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
    LEFT JOIN remains AS m ON m.socket_id = k.socket_id
    LEFT JOIN socket_owners AS o ON o.socket_id = k.socket_id
    WHERE k.socket_id BETWEEN ?1 AND ?2";
