//! What nothing points at any more: captures of which all was dropped, processes, cgroups, namespaces,
//! scopes and boots.

use rusqlite::{Connection, OptionalExtension, params};

use super::sweep::Pointed;
use super::{Alive, Role, STEP_ROWS, begin};
use crate::model::ProcessKey;

enum Stage {
    Captures,
    Processes(i64),
    Cgroups(i64, i64),
    Names,
}

pub(super) struct Leftovers {
    pointed: Pointed,
    stage: Stage,
}

impl Leftovers {
    pub(super) fn new(pointed: Pointed) -> Self {
        Self { pointed, stage: Stage::Captures }
    }

    /// One step; whether it was the last.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        role: Role,
        alive: &mut dyn Alive,
    ) -> rusqlite::Result<bool> {
        match self.stage {
            Stage::Captures => {
                if !join_captures(connection, &self.pointed)? {
                    self.stage = Stage::Processes(0);
                }
            }
            Stage::Processes(from) => {
                let last = self.processes(connection, from, role, alive)?;
                self.stage = match last.and_then(|last| last.checked_add(1)) {
                    Some(next) => Stage::Processes(next),
                    None => Stage::Cgroups(0, i64::MIN),
                };
            }
            Stage::Cgroups(boot, cgroup) => {
                self.stage = match self.cgroups(connection, (boot, cgroup), role, alive)? {
                    Some((boot, cgroup)) => Stage::Cgroups(boot, cgroup),
                    None => Stage::Names,
                };
            }
            Stage::Names => {
                self.names(connection)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those that hold no socket. A recorder may come back to one that still runs.
    fn processes(
        &self,
        connection: &Connection,
        from: i64,
        role: Role,
        alive: &mut dyn Alive,
    ) -> rusqlite::Result<Option<i64>> {
        let boot = boot_of(connection, role)?;
        let found: Vec<(i64, i64, ProcessKey)> = connection
            .prepare_cached(
                "SELECT process_id, boot_id, pid, started_ticks FROM processes
                 WHERE process_id >= ?1 ORDER BY process_id LIMIT ?2",
            )?
            .query_map([from, STEP_ROWS], |r| {
                let started_ticks = r.get::<_, i64>(3)?.cast_unsigned();
                Ok((r.get(0)?, r.get(1)?, ProcessKey { pid: r.get(2)?, started_ticks }))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let transaction = begin(connection)?;
        for &(process, of_boot, key) in &found {
            if self.pointed.processes.contains(&process)
                || (Some(of_boot) == boot && alive.process(key))
            {
                continue;
            }
            transaction
                .prepare_cached(
                    "DELETE FROM processes WHERE process_id = ?1
                         AND process_id NOT IN (SELECT process_id FROM temp.lately_holding)",
                )?
                .execute([process])?;
        }
        transaction.commit()?;
        Ok(found.last().map(|&(process, ..)| process))
    }

    /// Those that no socket was in. A recorder may come back to one that is still there.
    fn cgroups(
        &self,
        connection: &Connection,
        after: (i64, i64),
        role: Role,
        alive: &mut dyn Alive,
    ) -> rusqlite::Result<Option<(i64, i64)>> {
        let boot = boot_of(connection, role)?;
        let found: Vec<(i64, i64, String)> = connection
            .prepare_cached(
                "SELECT boot_id, cgroup_id, path FROM cgroups
                 WHERE (boot_id, cgroup_id) > (?1, ?2) ORDER BY boot_id, cgroup_id LIMIT ?3",
            )?
            .query_map(params![after.0, after.1, STEP_ROWS], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let transaction = begin(connection)?;
        for (of_boot, cgroup, path) in &found {
            let is_there = Some(*of_boot) == boot && alive.cgroup(cgroup.cast_unsigned(), path);
            if !is_there && !self.pointed.cgroups.contains(cgroup) {
                transaction
                    .prepare_cached("DELETE FROM cgroups WHERE boot_id = ?1 AND cgroup_id = ?2")?
                    .execute([of_boot, cgroup])?;
            }
        }
        transaction.commit()?;
        Ok(found.last().map(|(boot, cgroup, _)| (*boot, *cgroup)))
    }

    fn names(&self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = begin(connection)?;
        transaction.execute_batch(
            "DELETE FROM capture_scopes
                 WHERE last_snapshot_id < (SELECT min(first_snapshot_id) FROM groups);
             DELETE FROM refused_namespaces
                 WHERE last_snapshot_id < (SELECT min(first_snapshot_id) FROM groups);
             DELETE FROM scopes WHERE scope_id NOT IN (SELECT scope_id FROM capture_scopes)
                 AND scope_id NOT IN
                     (SELECT scope_id FROM noted_exceptions WHERE scope_id IS NOT NULL);",
        )?;
        let namespaces: Vec<i64> = transaction
            .prepare_cached(
                "SELECT netns_id FROM namespaces
                 WHERE netns_id NOT IN (SELECT netns_id FROM scopes)",
            )?
            .query_map([], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for netns in namespaces.iter().filter(|id| !self.pointed.namespaces.contains(id)) {
            transaction.execute("DELETE FROM namespaces WHERE netns_id = ?1", [netns])?;
        }
        transaction.execute_batch(
            "DELETE FROM boots WHERE boot_id NOT IN (SELECT boot_id FROM captures)
                 AND boot_id NOT IN (SELECT boot_id FROM namespaces)
                 AND boot_id NOT IN (SELECT boot_id FROM markers WHERE boot_id IS NOT NULL)
                 AND boot_id NOT IN (SELECT boot_id FROM processes)
                 AND boot_id NOT IN (SELECT boot_id FROM cgroups);",
        )?;
        transaction.commit()
    }
}

/// The boot that is being recorded.
fn boot_of(connection: &Connection, role: Role) -> rusqlite::Result<Option<i64>> {
    let Some(capture) = role.capture() else { return Ok(None) };
    connection
        .prepare_cached("SELECT boot_id FROM captures WHERE capture_id = ?1")?
        .query_row([capture], |r| r.get(0))
        .optional()
}

/// Joins one capture of which all was dropped with the one after it, of the same boot and dropped too, if
/// nothing rests on where the one ends and the other begins; or removes one that never had a snapshot.
/// Whether there was one.
fn join_captures(connection: &Connection, pointed: &Pointed) -> rusqlite::Result<bool> {
    let transaction = begin(connection)?;
    let mut statement = transaction.prepare_cached(JOINABLE)?;
    let mut found = None;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (capture, next): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        let (last, first): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
        if [last, first].iter().flatten().all(|id| !pointed.times.contains(id)) {
            found = Some((capture, next));
            break;
        }
    }
    drop(rows);
    drop(statement);
    let Some((capture, next)) = found else { return Ok(false) };
    if let Some(next) = next {
        transaction.execute(JOIN_SPANS, [capture, next])?;
        transaction.execute("DELETE FROM dropped_spans WHERE capture_id = ?1", [capture])?;
        // Those that nothing rests on any more go with the next sweep.
        let move_times = "UPDATE snapshots SET capture_id = ?2 WHERE capture_id = ?1";
        transaction.execute(move_times, [capture, next])?;
    }
    transaction.execute(
        "UPDATE captures SET previous_capture_id =
             (SELECT previous_capture_id FROM captures WHERE capture_id = ?1)
         WHERE previous_capture_id = ?1",
        [capture],
    )?;
    for table in ["capture_scopes", "refused_namespaces", "capture_sources", "captures"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE capture_id = ?1"), [capture])?;
    }
    transaction.commit()?;
    Ok(true)
}

/// Captures, numbered in order, before the first that is held, with the one after it, its last snapshot
/// and the first of that one. Other times of it are there only if something rests on them.
const JOINABLE: &str = "
    WITH before AS (
        SELECT c.* FROM captures AS c
        WHERE c.capture_id < (SELECT capture_id FROM groups ORDER BY group_id LIMIT 1)
    )
    SELECT c.capture_id, n.capture_id, d.last_snapshot_id, x.first_snapshot_id FROM before AS c
    JOIN dropped_spans AS d ON d.capture_id = c.capture_id
    JOIN before AS n ON n.previous_capture_id = c.capture_id AND n.boot_id = c.boot_id
    JOIN dropped_spans AS x ON x.capture_id = n.capture_id
    WHERE (SELECT count(*) FROM snapshots AS s
           WHERE s.snapshot_id BETWEEN d.first_snapshot_id AND d.last_snapshot_id)
        = 1 + (d.first_snapshot_id < d.last_snapshot_id)
    UNION ALL
    SELECT c.capture_id, NULL, NULL, NULL FROM before AS c
    WHERE NOT EXISTS (SELECT 1 FROM dropped_spans AS d WHERE d.capture_id = c.capture_id)
        AND NOT EXISTS (SELECT 1 FROM groups AS g WHERE g.capture_id = c.capture_id)";

const JOIN_SPANS: &str = "
    UPDATE dropped_spans SET (first_snapshot_id, started_at_ns, started_boottime_ns, snapshots, samples)
        = (SELECT d.first_snapshot_id, d.started_at_ns, d.started_boottime_ns,
               d.snapshots + dropped_spans.snapshots, d.samples + dropped_spans.samples
           FROM dropped_spans AS d WHERE d.capture_id = ?1)
    WHERE capture_id = ?2";
