//! Runs of a recorder: how each is begun and ended in a recording, and those that no one could end.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::columns::SqlInteger;
use super::namespaces;
use super::numbers::next_ids;
use super::summary::summarise_open_groups;
use crate::model::{
    Capture, Clocks, EndReason, GroupId, NetnsId, ProcessId, SnapshotId, SocketId, Source,
};

/// Where a new capture goes on in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The capture's number.
    pub capture: i64,
    /// The network namespace's number.
    pub netns: NetnsId,
    /// The first free number.
    pub next_socket: SocketId,
    /// The first free number.
    pub next_snapshot: SnapshotId,
    /// The first free number.
    pub next_group: GroupId,
    /// The first free number.
    pub next_process: ProcessId,
}

/// Begins one, and ends those that a killed recorder left open. `None` where the numbers that rows have
/// cannot be counted on from.
pub(super) fn begin(
    connection: &mut Connection,
    capture: &Capture,
) -> rusqlite::Result<Option<Start>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some([_, socket, snapshot, group, process]) = next_ids(&transaction)? else {
        return Ok(None);
    };
    transaction.execute(
        "INSERT INTO recording (recording_id, uuid, created_at_ns, created_by)
         VALUES (1, ?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![new_uuid(), capture.started.utc_ns, crate_version()],
    )?;
    end_lost(&transaction)?;
    summarise_open_groups(&transaction)?;
    let host = &capture.host;
    transaction.execute(
        "INSERT INTO boots (uuid) VALUES (?1) ON CONFLICT DO NOTHING",
        [&host.boot_uuid],
    )?;
    let boot: i64 = transaction.query_row(
        "SELECT boot_id FROM boots WHERE uuid = ?1",
        [&host.boot_uuid],
        |r| r.get(0),
    )?;
    let netns = namespaces::begin(&transaction, boot, &capture.namespace)?;
    let previous = previous(&transaction, boot, capture)?;
    transaction.execute(
        "INSERT INTO captures (uuid, boot_id, source, host_name, machine_id_hash, kernel_release,
             architecture, sockrec_version, options, interval_ns, started_at_ns,
             started_monotonic_ns, started_boottime_ns, previous_capture_id)
         VALUES (?1, ?2, ?13, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?14)",
        params![
            new_uuid(),
            boot,
            host.host_name,
            host.machine_id_hash,
            host.kernel_release,
            host.architecture,
            crate_version(),
            capture.options,
            capture.interval_ns,
            capture.started.utc_ns,
            capture.started.monotonic_ns,
            capture.started.boottime_ns,
            capture.source.name(),
            previous,
        ],
    )?;
    let start = Start {
        capture: transaction.last_insert_rowid(),
        netns,
        next_socket: SocketId(socket),
        next_snapshot: SnapshotId(snapshot),
        next_group: GroupId(group),
        next_process: ProcessId(process),
    };
    transaction.commit()?;
    Ok(Some(start))
}

/// Ends it.
pub(super) fn end(
    connection: &Connection,
    start: &Start,
    reason: EndReason,
    at: Clocks,
    missed_ticks: u64,
) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    summarise_open_groups(&transaction)?;
    transaction.execute(
        "UPDATE captures SET ended_at_ns = ?2, ended_monotonic_ns = ?3,
             ended_boottime_ns = ?4, end_reason = ?5, missed_ticks = ?6 WHERE capture_id = ?1",
        params![
            start.capture,
            at.utc_ns,
            at.monotonic_ns,
            at.boottime_ns,
            reason.name(),
            missed_ticks.sql()
        ],
    )?;
    transaction.commit()
}

/// The last capture of the same boot, or of an earlier boot of the same machine. Of what boot an import
/// is, who made it said or nobody knows.
fn previous(
    connection: &Connection,
    boot: i64,
    capture: &Capture,
) -> rusqlite::Result<Option<i64>> {
    let host = &capture.host;
    connection.query_row(
        "SELECT max(c.capture_id) FROM captures AS c
         WHERE EXISTS (SELECT 1 FROM groups AS g WHERE g.capture_id = c.capture_id) AND CASE
            WHEN c.boot_id = ?1 THEN coalesce(c.ended_boottime_ns <= ?2, 1)
            ELSE c.source = ?3 AND ?4 = ?3 AND c.machine_id_hash IS ?5
                AND (?5 IS NOT NULL OR c.host_name = ?6) END",
        params![
            boot,
            capture.started.boottime_ns,
            Source::Live.name(),
            capture.source.name(),
            host.machine_id_hash,
            host.host_name,
        ],
        |r| r.get(0),
    )
}

pub(super) fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(super) fn crate_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A killed recorder cannot say when its capture ended: not before its last snapshot.
pub(super) fn end_lost(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE captures SET
             end_reason = ?1,
             (ended_at_ns, ended_monotonic_ns, ended_boottime_ns) = (
                 SELECT coalesce(max(n.ended_at_ns), captures.started_at_ns),
                        n.ended_monotonic_ns, n.ended_boottime_ns
                 FROM snapshots AS n
                 WHERE n.snapshot_id = (
                     SELECT max(snapshot_id) FROM snapshots
                     WHERE capture_id = captures.capture_id))
         WHERE ended_at_ns IS NULL",
        [EndReason::Lost.name()],
    )?;
    Ok(())
}
