//! The sockets that only dropped groups told of go, and the times of snapshots that nothing rests on.
//!
//! One look through all sockets, in chunks: those that are over and of which nothing that is held tells
//! go; of the others it is noted what they point at. The rest of the times goes at the end.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::groups::Floor;
use super::{Moment, Role, begin};
use crate::model::{Ending, FormerSocket};

/// Sockets that one step looks at.
const STEP_SOCKETS: i64 = 500;
/// What ended so recently may show itself again, as TIME-WAIT or by a late event. No time in which the
/// machine is suspended: that does not end a TIME-WAIT.
const RECENT_NS: i64 = 180_000_000_000;
/// More snapshots than that are not taken in this time, at 100 Hz.
const RECENT_SNAPSHOTS: i64 = 20_000;
/// Snapshots that are looked at for complete dumps.
const LOOKED_AT: i64 = 4_096;

/// What sockets that are left point at.
#[derive(Debug, Default)]
pub(super) struct Pointed {
    /// Dropped snapshots.
    pub(super) times: HashSet<i64>,
    pub(super) processes: HashSet<i64>,
    pub(super) cgroups: HashSet<i64>,
    pub(super) namespaces: HashSet<i64>,
}

pub(super) struct Sweep {
    /// Snapshots before this one are dropped.
    below: i64,
    /// Sockets of which nothing tells from here on go.
    sockets_below: i64,
    next_socket: i64,
    next_snapshot: i64,
    are_sockets_done: bool,
    deletes_times: bool,
    /// Dropped snapshots that something else rests on.
    used: HashSet<i64>,
    pointed: Pointed,
}

/// Tables of a connection that drops.
pub(in crate::store) fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        // Sockets that may go on though no snapshot that is held shows them.
        "CREATE TEMP TABLE awaited (socket_id INTEGER PRIMARY KEY, last_snapshot_id INTEGER);
         -- Processes that were found to hold a socket since a sweep began.
         CREATE TEMP TABLE lately_holding (process_id INTEGER PRIMARY KEY);
         CREATE TEMP TABLE doomed (socket_id INTEGER PRIMARY KEY);
         CREATE TEMP TABLE keyframes (snapshot_id INTEGER PRIMARY KEY);",
    )
}

/// Notes what a recorder found left open: that may show itself at any time.
pub(in crate::store) fn await_formers(
    connection: &Connection,
    formers: &[FormerSocket],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT OR REPLACE INTO temp.awaited VALUES (?1, ?2)")?;
    for former in formers {
        insert.execute([former.id.0, former.last_snapshot.0])?;
    }
    Ok(())
}

impl Sweep {
    pub(super) fn begin(
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<Self> {
        let mut sockets_below = floor.snapshot;
        if let Some(capture) = now.role.capture() {
            let since_ns = now.clocks.monotonic_ns - RECENT_NS;
            let recent: Option<i64> = connection.query_row(
                RECENT,
                params![capture, since_ns, RECENT_SNAPSHOTS],
                |r| r.get(0),
            )?;
            sockets_below = sockets_below.min(recent.unwrap_or(i64::MAX));
        }
        if let Role::Bystander(capture) = now.role {
            connection.execute(AWAIT_OPEN, [capture])?;
        }
        connection.execute_batch(KEYFRAMES)?;
        let mut used = HashSet::new();
        for sql in [
            "SELECT observed_snapshot_id, NULL FROM held_samples WHERE observed_snapshot_id < ?1",
            "SELECT last_snapshot_id, NULL FROM temp.awaited WHERE last_snapshot_id < ?1",
            "SELECT first_snapshot_id, last_snapshot_id FROM dropped_spans WHERE ?1 > 0",
        ] {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([floor.snapshot])?;
            while let Some(row) = rows.next()? {
                for i in 0..2 {
                    used.extend(row.get::<_, Option<i64>>(i)?);
                }
            }
        }
        let deletes_times = match now.role {
            Role::Alone => true,
            Role::Bystander(_) => false,
            Role::Recorder(capture) => {
                let place = params![capture, floor.snapshot, LOOKED_AT];
                !connection.query_row(IS_BLIND, place, |r| r.get::<_, bool>(0))?
            }
        };
        Ok(Self {
            below: floor.snapshot,
            sockets_below,
            next_socket: 0,
            next_snapshot: 0,
            are_sockets_done: false,
            deletes_times,
            used,
            pointed: Pointed::default(),
        })
    }

    /// One chunk; after the last one what the sockets that are left point at.
    pub(super) fn step(&mut self, connection: &Connection) -> rusqlite::Result<Option<Pointed>> {
        if !self.are_sockets_done {
            self.are_sockets_done = self.sockets(connection)?;
            return Ok(None);
        }
        let is_done = !self.deletes_times || self.times(connection)?;
        Ok(is_done.then(|| std::mem::take(&mut self.pointed)))
    }

    fn sockets(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let last: Option<i64> = connection
            .prepare_cached(
                "SELECT max(socket_id) FROM (SELECT socket_id FROM sockets WHERE socket_id >= ?1
                 ORDER BY socket_id LIMIT ?2)",
            )?
            .query_row([self.next_socket, STEP_SOCKETS], |r| r.get(0))?;
        let Some(last) = last else { return Ok(true) };
        let transaction = begin(connection)?;
        transaction.prepare_cached("DELETE FROM temp.doomed")?.execute([])?;
        let doomed = transaction.prepare_cached(&doomed_sql())?.execute([
            self.next_socket,
            last,
            self.sockets_below,
        ])?;
        if doomed > 0 {
            // Both ends of a connection go together.
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO temp.doomed
                     SELECT k.peer_socket_id FROM temp.doomed AS d
                     JOIN sockets AS k ON k.socket_id = d.socket_id
                     WHERE k.peer_socket_id IS NOT NULL",
                )?
                .execute([])?;
            for table in ["socket_owners", "remains", "socket_ends", "sockets"] {
                transaction
                    .prepare_cached(&format!(
                        "DELETE FROM {table} WHERE socket_id IN (SELECT socket_id FROM temp.doomed)"
                    ))?
                    .execute([])?;
            }
        }
        self.note_pointed(&transaction, last)?;
        transaction.commit()?;
        self.next_socket = last + 1;
        Ok(false)
    }

    fn note_pointed(&mut self, connection: &Connection, last: i64) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(POINTED)?;
        let columns = statement.column_count();
        let mut rows = statement.query([self.next_socket, last])?;
        while let Some(row) = rows.next()? {
            self.pointed.namespaces.insert(row.get(0)?);
            self.pointed.cgroups.extend(row.get::<_, Option<i64>>(1)?);
            self.pointed.processes.extend(row.get::<_, Option<i64>>(2)?);
            for i in 3..columns {
                let snapshot = row.get::<_, Option<i64>>(i)?.filter(|id| *id < self.below);
                self.pointed.times.extend(snapshot);
            }
        }
        Ok(())
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
        let is_used = |id: &&i64| self.used.contains(id) || self.pointed.times.contains(id);
        for snapshot in snapshots.iter().filter(|id| !is_used(id)) {
            transaction
                .prepare_cached("DELETE FROM snapshots WHERE snapshot_id = ?1")?
                .execute([snapshot])?;
        }
        transaction.commit()?;
        self.next_snapshot = last + 1;
        Ok(false)
    }
}

/// The first snapshot of the last minutes in the boot of the capture (`?1`).
const RECENT: &str = "
    SELECT min(snapshot_id) FROM (
        SELECT n.snapshot_id, n.ended_monotonic_ns, c.boot_id
        FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
        ORDER BY n.snapshot_id DESC LIMIT ?3)
    WHERE ended_monotonic_ns > ?2
        AND boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?1)";

/// Whether a scope of the capture (`?1`) had no two full views lately: the recorder goes on from an
/// earlier one. A scope that came while it was going on has none before that.
const IS_BLIND: &str = "
    SELECT EXISTS (
        SELECT 1 FROM capture_scopes AS cs
        WHERE cs.capture_id = ?1 AND cs.last_snapshot_id IS NULL AND (cs.first_snapshot_id < ?2
            OR cs.first_snapshot_id = (SELECT min(c.first_snapshot_id) FROM capture_scopes AS c
                WHERE c.capture_id = ?1)
        ) AND NOT EXISTS (
            SELECT 1 FROM noted_exceptions AS x JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
            WHERE x.kind = 'dump_unsupported' AND x.scope_id = cs.scope_id AND n.capture_id = ?1
        ) AND (
            SELECT count(*) FROM (
                SELECT 1 FROM complete_dumps AS d
                WHERE d.scope_id = cs.scope_id AND d.snapshot_id >= ?2
                    AND d.snapshot_id > (SELECT max(snapshot_id) FROM snapshots) - ?3
                    AND NOT EXISTS (SELECT 1 FROM exceptions AS x
                        WHERE x.snapshot_id = d.snapshot_id AND x.scope_id = d.scope_id)
                LIMIT 2)
        ) < 2)";

/// Which sockets of the boot of a capture (`?1`) its recorder may come back to only it knows.
const AWAIT_OPEN: &str = "
    INSERT OR IGNORE INTO temp.awaited
    SELECT k.socket_id, NULL FROM sockets AS k
    JOIN namespaces AS w ON w.netns_id = k.netns_id
    LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
    LEFT JOIN remains AS m ON m.socket_id = k.socket_id
    WHERE w.boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?1)
        AND (e.socket_id IS NULL OR (m.socket_id IS NOT NULL AND m.last_snapshot_id IS NULL))";

/// What was there to the end of a capture has a row in its last keyframe, or was first seen after it.
const KEYFRAMES: &str = "
    DELETE FROM temp.lately_holding;
    DELETE FROM temp.keyframes;
    INSERT INTO temp.keyframes SELECT max(first_snapshot_id) FROM main.groups GROUP BY capture_id;";

/// Sockets (`?1` to `?2`) of which nothing tells from `?3` on. The other end of a connection tells of it.
/// CROSS: few keyframes, each with a look into the key of samples; not the other way round.
fn doomed_sql() -> String {
    let [fin_acked, half_closed] = Ending::ONE_SIDED.map(Ending::number);
    let is_dead = |k: &str, e: &str, m: &str| {
        format!(
            "coalesce({k}.first_snapshot_id, 0) < ?3 AND coalesce({m}.first_snapshot_id, 0) < ?3
             AND CASE WHEN {e}.socket_id IS NULL
                 OR ({m}.socket_id IS NOT NULL AND {m}.last_snapshot_id IS NULL)
             THEN NOT EXISTS (SELECT 1 FROM temp.keyframes AS f CROSS JOIN samples AS s
                    ON s.snapshot_id = f.snapshot_id AND s.socket_id = {k}.socket_id)
                AND {k}.socket_id NOT IN (SELECT socket_id FROM temp.awaited)
             ELSE max(coalesce({e}.last_snapshot_id, 0), coalesce({e}.closed_before_snapshot_id, 0),
                 coalesce({e}.destroyed_snapshot_id, 0), coalesce({m}.last_snapshot_id, 0),
                 coalesce({m}.gone_before_snapshot_id, 0)) < ?3
                 -- Half-closed as it went in this capture: its end is still to come.
                 AND NOT ({m}.socket_id IS NULL AND {e}.closed_before_snapshot_id IS NULL
                    AND {e}.over_ns IS NULL
                    AND ({e}.ending IS NULL OR {e}.ending IN ({fin_acked}, {half_closed}))
                    AND {e}.destroyed_snapshot_id >= (SELECT min(first_snapshot_id) FROM (
                        SELECT capture_id, first_snapshot_id FROM groups
                        UNION ALL SELECT capture_id, first_snapshot_id FROM dropped_spans)
                    WHERE capture_id = (SELECT max(capture_id) FROM captures))) END"
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

/// What sockets (`?1` to `?2`) point at: a namespace, a cgroup, processes, and snapshots.
const POINTED: &str = "
    SELECT k.netns_id, k.cgroup_id, o.process_id,
        k.first_snapshot_id, k.opened_after_snapshot_id, e.last_snapshot_id,
        e.closed_before_snapshot_id, e.last_sample_snapshot_id, e.destroyed_snapshot_id,
        m.first_snapshot_id, m.time_wait_snapshot_id, m.last_snapshot_id, m.gone_before_snapshot_id,
        m.last_sample_snapshot_id, o.first_snapshot_id, o.last_snapshot_id
    FROM sockets AS k
    LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
    LEFT JOIN remains AS m ON m.socket_id = k.socket_id
    LEFT JOIN socket_owners AS o ON o.socket_id = k.socket_id
    WHERE k.socket_id BETWEEN ?1 AND ?2";
