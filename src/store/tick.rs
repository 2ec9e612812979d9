//! What one snapshot adds to a recording: one transaction, appending.

use std::ops::Deref;
use std::path::Path;

use rusqlite::{Connection, params};

use super::StoreError;
use super::captures::Start;
use super::columns::{SqlInteger, int};
use super::former;
use super::samples::RowSql;
use super::share::Shared;
use super::summary::summarise_open_groups;
use crate::model::{
    ClockChange, EventLoss, Exception, GroupId, HeldSample, NetnsId, NewSocket, Origin, Snapshot,
    SnapshotId, SocketId, SocketNews, SocketUpdate, StateChange, TupleTold,
};

/// Is rolled back unless it is committed. That of rusqlite has its statements prepared each time.
pub(super) struct Transaction<'w>(pub(super) &'w Connection);

impl<'w> Transaction<'w> {
    pub(super) fn begin(connection: &'w Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(|_| ())
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // Who comes next cannot begin where it fails, and says so.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

/// The transaction of one snapshot. Dropped without [`TickWriter::commit`] it leaves no trace.
pub struct TickWriter<'w> {
    pub(super) transaction: Transaction<'w>,
    pub(super) group: GroupId,
    pub(super) sql: &'w RowSql,
    /// Rows of samples so far. `None`: a dump showed a socket twice, and they have to be counted.
    pub(super) samples: Option<u64>,
    pub(super) conditions: &'w mut Shared,
    pub(super) settings: &'w mut Shared,
    pub(super) is_open: &'w mut bool,
    pub(super) path: &'w Path,
}

pub(super) type Done = Result<(), StoreError>;

impl TickWriter<'_> {
    pub(super) fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Done {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map(|_| ())
            .map_err(|e| self.error(e))
    }

    pub(super) fn error(&self, e: rusqlite::Error) -> StoreError {
        StoreError::sqlite(self.path, "write to", e)
    }

    /// Says which group the following rows belong to.
    pub fn set_group(&mut self, group: GroupId) {
        self.group = group;
    }

    /// Closes the group before and begins this one with a keyframe.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_group(&mut self, group: GroupId, start: &Start, first: SnapshotId) -> Done {
        summarise_open_groups(&self.transaction).map_err(|e| self.error(e))?;
        self.conditions.start_group();
        self.settings.start_group();
        self.set_group(group);
        self.run(
            "INSERT INTO groups (group_id, capture_id, first_snapshot_id, encoding)
             VALUES (?1, ?2, ?3, 'plain')",
            params![group.0, start.capture, first.0],
        )
    }

    /// Ends the sockets of earlier boots of this machine, and gives them: none outlived these.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_former_boots(
        &mut self,
        start: &Start,
        first: SnapshotId,
    ) -> Result<Vec<SocketId>, StoreError> {
        former::end_former_boots(&self.transaction, start.capture, first).map_err(|e| self.error(e))
    }

    /// Ends what earlier captures left open in these namespaces, which had gone when this one began, and
    /// gives it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_gone_namespaces(
        &mut self,
        gone: &[NetnsId],
        first: SnapshotId,
    ) -> Result<Vec<SocketId>, StoreError> {
        former::end_gone_namespaces(&self.transaction, gone, first).map_err(|e| self.error(e))
    }

    /// Adds a socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket(&mut self, socket: &NewSocket) -> Done {
        let (local, remote) = (&socket.tuple.local, &socket.tuple.remote);
        let is_half = socket.told == TupleTold::Half;
        let is_local_known = !(is_half && local.address.is_unspecified());
        self.run(
            "INSERT INTO sockets (socket_id, netns_id, cookie, generation, family, protocol,
                 local_address, local_port, remote_address, remote_port, addresses_inferred,
                 interface, inode, uid, cgroup_id, mark, first_snapshot_id,
                 opened_after_snapshot_id, open_ms, origin, peer_socket_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 (SELECT n.snapshot_id FROM snapshots AS n WHERE n.snapshot_id = ?18), ?19, ?20,
                 -- One that is known from before may have been dropped, see `retention`.
                 CASE WHEN ?21 >= ?1 THEN ?21
                     ELSE (SELECT k.socket_id FROM sockets AS k WHERE k.socket_id = ?21) END)",
            params![
                socket.id.0,
                socket.netns.0,
                socket.cookie.sql(),
                socket.generation,
                socket.family.number(),
                socket.protocol.number(),
                is_local_known.then(|| local.address.to_string()),
                local.port,
                remote.address.to_string(),
                (!is_half).then_some(remote.port),
                (socket.told == TupleTold::Inferred).then_some(true),
                socket.owner.interface,
                socket.owner.inode,
                socket.owner.uid,
                int(socket.owner.cgroup_id),
                socket.owner.mark,
                socket.first_snapshot.map(|s| s.0),
                socket.opened_after.map(|s| s.0),
                socket.open_ms,
                socket.origin.map(Origin::number),
                socket.peer.map(|s| s.0),
            ],
        )
    }

    /// Notes what has come to be known of who a socket is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket_news(&mut self, socket: SocketId, news: &SocketNews) -> Done {
        match news {
            SocketNews::Origin(origin) => self.run(
                "UPDATE sockets SET origin = ?2 WHERE socket_id = ?1",
                params![socket.0, origin.number()],
            ),
            SocketNews::Peer(peer) => self.run(
                // It may have been dropped, or come yet.
                "UPDATE sockets SET peer_socket_id = CASE
                     WHEN ?2 > (SELECT coalesce(max(k.socket_id), 0) FROM sockets AS k) THEN ?2
                     ELSE (SELECT k.socket_id FROM sockets AS k WHERE k.socket_id = ?2) END
                 WHERE socket_id = ?1",
                params![socket.0, peer.0],
            ),
            SocketNews::Addresses(tuple) => self.run(
                "UPDATE sockets SET local_address = ?2, remote_port = ?3, addresses_inferred = 1
                 WHERE socket_id = ?1",
                params![socket.0, tuple.local.address.to_string(), tuple.remote.port],
            ),
            SocketNews::Cookie { socket: cookie, remains } => {
                self.run(
                    "UPDATE sockets SET cookie = ?2 WHERE socket_id = ?1",
                    params![socket.0, cookie.sql()],
                )?;
                self.run(
                    "UPDATE remains SET cookie = ?2 WHERE socket_id = ?1",
                    params![socket.0, remains.sql()],
                )
            }
        }
    }

    /// Notes what has come to be known of a socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket_update(&mut self, socket: SocketId, known: &SocketUpdate) -> Done {
        self.run(
            "UPDATE sockets SET inode = ?2, uid = ?3, cgroup_id = ?4, mark = ?5, interface = ?6
             WHERE socket_id = ?1",
            params![
                socket.0,
                known.inode,
                known.uid,
                int(known.cgroup_id),
                known.mark,
                known.interface
            ],
        )
    }

    /// Marks a keyframe's row as repeated from an earlier snapshot.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn held(&mut self, held: &HeldSample) -> Done {
        self.run(
            "INSERT INTO held_samples (snapshot_id, socket_id, observed_snapshot_id)
             VALUES (?1, ?2, ?3)",
            params![held.snapshot.0, held.socket.0, held.observed.0],
        )
    }

    /// Notes that a complete dump lacked a socket that the one before showed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn missing(&mut self, snapshot: SnapshotId, socket: SocketId) -> Done {
        self.run(
            "INSERT INTO missing_sockets (snapshot_id, socket_id) VALUES (?1, ?2)",
            params![snapshot.0, socket.0],
        )
    }

    /// Adds a change of state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn state_change(&mut self, change: &StateChange) -> Done {
        self.run(
            "INSERT INTO state_changes (snapshot_id, socket_id, from_state, to_state)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET to_state = excluded.to_state",
            params![change.snapshot.0, change.socket.0, change.from.0, change.to.0],
        )
    }

    /// Adds a span in which destroy events were lost.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn event_loss(&mut self, loss: &EventLoss) -> Done {
        self.run(
            "INSERT INTO event_losses (snapshot_id, started_at_ns, started_boottime_ns,
                 ended_at_ns, ended_boottime_ns, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                loss.snapshot.0,
                loss.from.utc_ns,
                loss.from.boottime_ns,
                loss.to.utc_ns,
                loss.to.boottime_ns,
                int(loss.count),
            ],
        )
    }

    /// Adds an exception from full coverage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn exception(&mut self, exception: &Exception) -> Done {
        self.run(
            "INSERT INTO noted_exceptions (snapshot_id, kind, scope_id, errno, count, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                exception.snapshot.0,
                exception.kind.name(),
                exception.scope.map(|s| s.0),
                exception.errno,
                int(exception.count),
                exception.message,
            ],
        )
    }

    /// Adds a change of the clocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn clock_change(&mut self, change: &ClockChange) -> Done {
        self.run(
            "INSERT INTO clock_changes (snapshot_id, kind, delta_ns) VALUES (?1, ?2, ?3)",
            params![change.snapshot.0, change.kind.name(), change.delta_ns],
        )
    }

    /// Ends the snapshot: now it and all its rows are there, for every reader at once. Gives the
    /// number of samples written.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of it is there.
    pub fn commit(self, snapshot: &Snapshot, start: &Start) -> Result<u64, StoreError> {
        let rows = match self.samples {
            Some(rows) => rows,
            None => self
                .transaction
                .prepare_cached("SELECT count(*) FROM samples WHERE snapshot_id = ?1")
                .and_then(|mut statement| {
                    statement.query_row([snapshot.id.0], |row| row.get::<_, i64>(0))
                })
                .map(i64::cast_unsigned)
                .map_err(|e| self.error(e))?,
        };
        self.run(
            "INSERT INTO snapshots (snapshot_id, capture_id, group_id, is_keyframe, started_at_ns,
                 ended_at_ns, started_monotonic_ns, ended_monotonic_ns, started_boottime_ns,
                 ended_boottime_ns, missed_ticks, sockets_seen, samples, events, events_unbound,
                 events_unchosen, is_thinned)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 0)",
            params![
                snapshot.id.0,
                start.capture,
                snapshot.group.0,
                snapshot.is_keyframe,
                snapshot.started.utc_ns,
                snapshot.ended.utc_ns,
                snapshot.started.monotonic_ns,
                snapshot.ended.monotonic_ns,
                snapshot.started.boottime_ns,
                snapshot.ended.boottime_ns,
                snapshot.missed_ticks.sql(),
                snapshot.sockets_seen.sql(),
                rows.sql(),
                int(snapshot.events.map(|events| events.read)),
                int(snapshot.events.map(|events| events.unbound)),
                int(snapshot.events.map(|events| events.unchosen)),
            ],
        )?;
        let path = self.path;
        self.transaction.commit().map_err(|e| StoreError::sqlite(path, "write to", e))?;
        *self.is_open = false;
        Ok(rows)
    }
}
