//! Who holds the sockets: processes, what they hold from when to when, and cgroups.

use rusqlite::{Connection, params};

use super::captures::Start;
use super::columns::{SqlInteger, int};
use super::tick::{Done, TickWriter};
use crate::model::{
    Cgroup, FormerSocket, OwnerChange, Ownership, Process, ProcessId, ProcessKey, SnapshotId,
};

/// What earlier captures of this boot found out of owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerOwners {
    /// The processes that have a number.
    pub processes: Vec<(ProcessId, ProcessKey)>,
    /// Which of them held sockets that may still live.
    pub ownerships: Vec<Ownership>,
    /// The cgroups whose path is known.
    pub cgroups: Vec<u64>,
}

impl TickWriter<'_> {
    /// Writes what was found between the snapshot before and this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn owner_change(&mut self, start: &Start, change: &OwnerChange) -> Done {
        write(&self.transaction, start, change).map_err(|e| self.error(e))
    }
}

/// What a capture has to know of earlier ones of its boot, which left these sockets open.
pub(super) fn former(
    connection: &Connection,
    start: &Start,
    sockets: &[FormerSocket],
) -> rusqlite::Result<FormerOwners> {
    let mut owners = FormerOwners {
        processes: connection
            .prepare(
                "SELECT process_id, pid, started_ticks FROM processes
                 WHERE boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?1)",
            )?
            .query_map([start.capture], |row| {
                let started_ticks = row.get::<_, i64>(2)?.cast_unsigned();
                Ok((ProcessId(row.get(0)?), ProcessKey { pid: row.get(1)?, started_ticks }))
            })?
            .collect::<rusqlite::Result<_>>()?,
        ownerships: Vec::new(),
        cgroups: connection
            .prepare(
                "SELECT cgroup_id FROM cgroups
                 WHERE boot_id = (SELECT boot_id FROM captures WHERE capture_id = ?1)",
            )?
            .query_map([start.capture], |row| row.get(0).map(i64::cast_unsigned))?
            .collect::<rusqlite::Result<_>>()?,
    };
    let mut held = connection.prepare(
        "SELECT process_id, first_snapshot_id FROM socket_owners
         WHERE socket_id = ?1 AND last_snapshot_id IS NULL",
    )?;
    for socket in sockets.iter().map(|former| former.id) {
        let mut rows = held.query([socket.0])?;
        while let Some(row) = rows.next()? {
            let (process, since) = (ProcessId(row.get(0)?), SnapshotId(row.get(1)?));
            owners.ownerships.push(Ownership { socket, process, since });
        }
    }
    Ok(owners)
}

pub(super) fn write(
    connection: &Connection,
    start: &Start,
    change: &OwnerChange,
) -> rusqlite::Result<()> {
    match change {
        OwnerChange::Process(process) => write_process(connection, start, process),
        OwnerChange::Held(ownership) => write_ownership(connection, ownership, None),
        OwnerChange::Released { ownership, last } => {
            write_ownership(connection, ownership, Some(*last))
        }
        OwnerChange::Cgroup(id, cgroup) => write_cgroup(connection, start, *id, cgroup),
    }
}

/// A process that is known has changed its name, or whatever else it can change.
fn write_process(
    connection: &Connection,
    start: &Start,
    process: &Process,
) -> rusqlite::Result<()> {
    let facts = &process.facts;
    let cgroup = facts.cgroup.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO processes (process_id, boot_id, pid, started_ticks, started_at_ns, comm,
                 exe, command_line, uid, user, cgroup, unit, container)
             SELECT ?2, boot_id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
             FROM captures WHERE capture_id = ?1
             ON CONFLICT DO UPDATE SET comm = excluded.comm, exe = excluded.exe,
                 command_line = excluded.command_line, uid = excluded.uid, user = excluded.user,
                 cgroup = excluded.cgroup, unit = excluded.unit, container = excluded.container",
        )?
        .execute(params![
            start.capture,
            process.id.0,
            process.key.pid,
            process.key.started_ticks.sql(),
            facts.started_at_ns,
            facts.comm,
            facts.exe,
            facts.command_line,
            int(facts.uid),
            facts.user,
            cgroup.map(|c| &c.path),
            cgroup.and_then(|c| c.unit.as_ref()),
            cgroup.and_then(|c| c.container.as_ref()),
        ])?;
    Ok(())
}

/// Let go of and taken again between two snapshots, a socket was held all the time as far as the
/// snapshots can tell. What was dropped meanwhile stays so, see `retention`.
fn write_ownership(
    connection: &Connection,
    ownership: &Ownership,
    last: Option<SnapshotId>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO socket_owners (socket_id, process_id, first_snapshot_id, last_snapshot_id)
             SELECT ?1, w.process_id, ?3,
                 (SELECT max(n.snapshot_id) FROM snapshots AS n WHERE n.snapshot_id <= ?4)
             FROM processes AS w WHERE w.process_id = ?2
                 AND (?1 > (SELECT coalesce(max(k.socket_id), 0) FROM sockets AS k)
                     OR EXISTS (SELECT 1 FROM sockets AS k WHERE k.socket_id = ?1))
             ON CONFLICT DO UPDATE SET last_snapshot_id = excluded.last_snapshot_id",
        )?
        .execute(params![
            ownership.socket.0,
            ownership.process.0,
            ownership.since.0,
            last.map(|s| s.0)
        ])?;
    if last.is_none() {
        connection
            .prepare_cached("INSERT OR IGNORE INTO temp.lately_holding VALUES (?1)")?
            .execute([ownership.process.0])?;
    }
    Ok(())
}

fn write_cgroup(
    connection: &Connection,
    start: &Start,
    id: u64,
    cgroup: &Cgroup,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO cgroups (boot_id, cgroup_id, path, unit, container)
             SELECT boot_id, ?2, ?3, ?4, ?5 FROM captures WHERE capture_id = ?1
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![start.capture, id.sql(), cgroup.path, cgroup.unit, cgroup.container])?;
    Ok(())
}
