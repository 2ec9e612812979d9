//! What one snapshot adds to a recording: one transaction, appending.

use std::path::Path;

use rusqlite::{CachedStatement, Connection, Transaction, params};

use super::StoreError;
use super::columns::{
    CONDITIONS, SAMPLE_TIMES, SAMPLES, SETTING_BYTES, SETTING_TEXTS, SETTINGS, Source, SqlInteger,
    int,
};
use super::former;
use super::share::Shared;
use super::writer::Start;
use crate::model::{
    ClockChange, EndEvidence, EndUpdate, Ending, EventLoss, Exception, GroupId, HeldSample,
    NetnsId, NewSocket, Observation, Origin, Remains, RemainsEnd, SampleRow, Snapshot, SnapshotId,
    SocketEnd, SocketId, SocketNews, SocketUpdate, StateChange, TupleTold,
};

/// Closes every group that is still open: the last snapshot, and a summary of each socket.
pub(super) fn summarise_open_groups(connection: &Connection) -> rusqlite::Result<()> {
    let groups: Vec<i64> = connection
        .prepare_cached("SELECT group_id FROM groups WHERE last_snapshot_id IS NULL")?
        .query_map([], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for group in groups {
        connection
            .prepare_cached(
                "UPDATE groups SET last_snapshot_id =
                     (SELECT max(snapshot_id) FROM snapshots WHERE group_id = ?1
                      AND snapshot_id >= groups.first_snapshot_id)
                 WHERE group_id = ?1",
            )?
            .execute([group])?;
        connection.prepare_cached(SUMMARY_SQL)?.execute([group])?;
    }
    Ok(())
}

const SUMMARY_SQL: &str = "
    INSERT INTO group_sockets (group_id, socket_id, first_snapshot_id, last_snapshot_id, samples,
        min_rtt_us, max_rtt_us, max_rqueue, max_wqueue, total_retrans, zero_window_samples,
        busy_time_us, rwnd_limited_us, sndbuf_limited_us)
    SELECT g.group_id, s.socket_id, min(s.snapshot_id), max(s.snapshot_id), count(*),
        min(s.rtt_us), max(s.rtt_us), max(s.rqueue), max(s.wqueue), max(c.total_retrans),
        sum(s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8)),
        max(s.busy_time_us), max(c.rwnd_limited_us), max(c.sndbuf_limited_us)
    FROM groups AS g
    JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
    LEFT JOIN conditions AS c ON c.group_id = g.group_id AND c.condition_id = s.condition_id
    WHERE g.group_id = ?1
    GROUP BY s.socket_id";

/// The statements whose columns come from [`super::columns`].
pub(super) struct RowSql {
    sample: String,
    condition: String,
    setting: String,
}

impl RowSql {
    pub(super) fn new() -> Self {
        let names = |sources: &[Source]| sources.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let mut sample =
            vec!["snapshot_id", "socket_id", "previous_snapshot_id", "condition_id", "setting_id"];
        sample.extend(names(SAMPLES));
        sample.extend(SAMPLE_TIMES.iter().map(|(name, _)| *name));
        let mut condition = vec!["group_id", "condition_id"];
        condition.extend(names(CONDITIONS));
        let mut setting = vec!["group_id", "setting_id"];
        setting.extend(names(SETTINGS));
        setting.extend(SETTING_TEXTS.iter().map(|(name, _)| *name));
        setting.extend(SETTING_BYTES.iter().map(|(name, _)| *name));
        Self {
            sample: insert("samples", &sample),
            condition: insert("conditions", &condition),
            setting: insert("settings", &setting),
        }
    }
}

/// REPLACE: a dump may show a socket twice, and then its later state counts.
fn insert(table: &str, columns: &[&str]) -> String {
    let places = vec!["?"; columns.len()].join(", ");
    format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({places})", columns.join(", "))
}

/// The transaction of one snapshot. Dropped without [`TickWriter::commit`] it leaves no trace.
pub struct TickWriter<'w> {
    pub(super) transaction: Transaction<'w>,
    pub(super) group: GroupId,
    pub(super) sql: &'w RowSql,
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

    /// Ends the sockets of earlier boots of this machine: none outlived them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_former_boots(&mut self, start: &Start, first: SnapshotId) -> Done {
        former::end_former_boots(&self.transaction, start.capture, first).map_err(|e| self.error(e))
    }

    /// Ends what earlier captures left open in these namespaces, which had gone when this one began.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_gone_namespaces(&mut self, gone: &[NetnsId], first: SnapshotId) -> Done {
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
                 opened_after_snapshot_id, origin, peer_socket_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 (SELECT n.snapshot_id FROM snapshots AS n WHERE n.snapshot_id = ?18), ?19,
                 -- One that is known from before may have been dropped, see `retention`.
                 CASE WHEN ?20 >= ?1 THEN ?20
                     ELSE (SELECT k.socket_id FROM sockets AS k WHERE k.socket_id = ?20) END)",
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

    /// Adds a sample, and the values it shares with others where they are new in this group.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sample(&mut self, row: &SampleRow<'_>) -> Done {
        let observation = &row.observation;
        let condition = self.condition(observation)?;
        let setting = self.setting(observation)?;
        let mut insert = self.bind(&self.sql.sample)?;
        insert.integer(row.snapshot.0);
        insert.integer(row.socket.0);
        insert.maybe(row.previous.map(|s| s.0));
        insert.maybe(condition);
        insert.maybe(setting);
        for (_, source) in SAMPLES {
            insert.maybe(source(observation));
        }
        for (_, source) in SAMPLE_TIMES {
            insert.maybe(source(&row.times));
        }
        insert.execute().map_err(|e| self.error(e))
    }

    fn condition(&mut self, observation: &Observation<'_>) -> Result<Option<i64>, StoreError> {
        let values = Integers::<{ CONDITIONS.len() }>::of(observation, CONDITIONS);
        if values.is_empty() {
            return Ok(None);
        }
        let (id, is_new) = self.conditions.id_of(&values);
        if is_new {
            let mut insert = self.bind(&self.sql.condition)?;
            insert.integer(self.group.0);
            insert.integer(id);
            for value in values.iter() {
                insert.maybe(value);
            }
            insert.execute().map_err(|e| self.error(e))?;
        }
        Ok(Some(id))
    }

    fn setting(&mut self, observation: &Observation<'_>) -> Result<Option<i64>, StoreError> {
        let integers = Integers::<{ SETTINGS.len() }>::of(observation, SETTINGS);
        let texts: [_; SETTING_TEXTS.len()] =
            std::array::from_fn(|i| SETTING_TEXTS[i].1(observation));
        let bytes: [_; SETTING_BYTES.len()] = std::array::from_fn(|i| {
            Some(SETTING_BYTES[i].1(observation)).filter(|b| !b.is_empty())
        });
        if integers.is_empty()
            && texts.iter().all(Option::is_none)
            && bytes.iter().all(Option::is_none)
        {
            return Ok(None);
        }
        let (id, is_new) = self.settings.id_of(&(&integers, texts, bytes));
        if is_new {
            let mut insert = self.bind(&self.sql.setting)?;
            insert.integer(self.group.0);
            insert.integer(id);
            for value in integers.iter() {
                insert.maybe(value);
            }
            for value in texts {
                insert.maybe(value);
            }
            for value in bytes {
                insert.maybe(value);
            }
            insert.execute().map_err(|e| self.error(e))?;
        }
        Ok(Some(id))
    }

    fn bind(&self, sql: &str) -> Result<Binding<'_>, StoreError> {
        let statement = self.transaction.prepare_cached(sql).map_err(|e| self.error(e))?;
        Ok(Binding { statement, next: 1, failed: None })
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

    /// Adds the end of a socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket_end(&mut self, end: &SocketEnd) -> Done {
        let c = &end.counters;
        let destroyed = end.destroyed.as_ref();
        self.run(
            "INSERT INTO socket_ends (socket_id, last_snapshot_id, closed_before_snapshot_id,
                 last_sample_snapshot_id, evidence, samples, state, ending, destroyed_snapshot_id,
                 destroyed_at_ns, destroyed_boottime_ns, idle_ms, open_ms, over_ns, rtt_us,
                 rttvar_us, min_rtt_us, bytes_sent, bytes_retrans, bytes_acked, bytes_received, segs_out,
                 segs_in, data_segs_out, data_segs_in, total_retrans)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
            params![
                end.socket.0,
                end.last_snapshot.map(|s| s.0),
                end.closed_before.map(|s| s.0),
                end.last_sample.map(|s| s.0),
                end.evidence.map(EndEvidence::name),
                end.samples.sql(),
                end.state.map(|state| state.0),
                end.ending.map(Ending::number),
                destroyed.map(|d| d.snapshot.0),
                destroyed.map(|d| d.at.utc_ns),
                destroyed.map(|d| d.at.boottime_ns),
                destroyed.and_then(|d| d.idle_ms),
                // How long it was there matters where no dump tells.
                destroyed.filter(|_| end.last_snapshot.is_none()).and_then(|d| d.open_ms),
                destroyed.and_then(|d| d.over_ns),
                c.rtt_us,
                c.rttvar_us,
                c.min_rtt_us,
                int(c.bytes_sent),
                int(c.bytes_retrans),
                int(c.bytes_acked),
                int(c.bytes_received),
                c.segs_out,
                c.segs_in,
                c.data_segs_out,
                c.data_segs_in,
                c.total_retrans,
            ],
        )
    }

    /// Notes what came to be known of a socket after its end was stored. That its FIN was acknowledged
    /// tells less than whatever is known already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_update(&mut self, socket: SocketId, update: &EndUpdate) -> Done {
        if let Some(shown) = update.shown_over {
            self.run(
                "UPDATE socket_ends SET closed_before_snapshot_id = ?2, evidence = ?3
                 WHERE socket_id = ?1 AND evidence = ?4",
                params![
                    socket.0,
                    shown.0,
                    EndEvidence::TimeWait.name(),
                    EndEvidence::Absence.name()
                ],
            )?;
        }
        if let Some(absent) = update.absent {
            self.run(
                "UPDATE socket_ends SET closed_before_snapshot_id = ?2, evidence = ?3
                 WHERE socket_id = ?1 AND closed_before_snapshot_id IS NULL
                    AND socket_id NOT IN (SELECT socket_id FROM remains)",
                params![socket.0, absent.0, EndEvidence::Absence.name()],
            )?;
        }
        if let Some(destroyed) = &update.destroyed {
            self.run(
                "UPDATE socket_ends SET destroyed_snapshot_id = ?2, destroyed_at_ns = ?3,
                     destroyed_boottime_ns = ?4, idle_ms = ?5,
                     open_ms = CASE WHEN last_snapshot_id IS NULL THEN ?6 END, over_ns = ?7
                 WHERE socket_id = ?1",
                params![
                    socket.0,
                    destroyed.snapshot.0,
                    destroyed.at.utc_ns,
                    destroyed.at.boottime_ns,
                    destroyed.idle_ms,
                    destroyed.open_ms,
                    destroyed.over_ns
                ],
            )?;
        }
        if let Some(c) = &update.counters {
            self.run(
                "UPDATE socket_ends SET rtt_us = ?2, rttvar_us = ?3, min_rtt_us = ?4,
                     bytes_sent = ?5, bytes_retrans = ?6, bytes_acked = ?7, bytes_received = ?8,
                     segs_out = ?9, segs_in = ?10, data_segs_out = ?11, data_segs_in = ?12,
                     total_retrans = ?13
                 WHERE socket_id = ?1",
                params![
                    socket.0,
                    c.rtt_us,
                    c.rttvar_us,
                    c.min_rtt_us,
                    int(c.bytes_sent),
                    int(c.bytes_retrans),
                    int(c.bytes_acked),
                    int(c.bytes_received),
                    c.segs_out,
                    c.segs_in,
                    c.data_segs_out,
                    c.data_segs_in,
                    c.total_retrans,
                ],
            )?;
        }
        if let Some(ending) = update.ending {
            self.run(
                "UPDATE socket_ends SET ending = ?2 WHERE socket_id = ?1
                    AND (ending IS NULL OR NOT ?3)",
                params![socket.0, ending.number(), ending.is_one_sided()],
            )?;
        }
        Ok(())
    }

    /// Notes that the other end of a connection turned out to be reset: where this end only knows
    /// that its FIN was acknowledged, or nothing, that is how it ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn peer_was_reset(&mut self, socket: SocketId) -> Done {
        let [fin_acked, half_closed] = Ending::ONE_SIDED.map(Ending::number);
        self.run(
            "UPDATE socket_ends SET ending = ?2
             WHERE socket_id = ?1 AND (ending IS NULL OR ending IN (?3, ?4))",
            params![socket.0, Ending::PeerReset.number(), fin_acked, half_closed],
        )
    }

    /// Adds what is left of a connection.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remains(&mut self, remains: &Remains) -> Done {
        // Dumps may have lacked it for a while.
        self.run(
            "INSERT INTO remains (socket_id, cookie, first_snapshot_id, time_wait_snapshot_id,
                 time_wait_ms)
             SELECT ?1, ?2, ?3, ?4, ?5
             -- It may have been dropped, or come yet.
             WHERE ?1 > (SELECT coalesce(max(k.socket_id), 0) FROM sockets AS k)
                 OR EXISTS (SELECT 1 FROM sockets AS k WHERE k.socket_id = ?1)
             ON CONFLICT DO UPDATE SET
                 time_wait_ms = iif(time_wait_snapshot_id IS NULL, excluded.time_wait_ms,
                     time_wait_ms),
                 time_wait_snapshot_id = coalesce(time_wait_snapshot_id,
                     excluded.time_wait_snapshot_id),
                 last_snapshot_id = NULL, gone_before_snapshot_id = NULL,
                 last_sample_snapshot_id = NULL, samples = NULL",
            params![
                remains.socket.0,
                int(remains.cookie),
                remains.first_snapshot.0,
                remains.time_wait.map(|s| s.0),
                remains.time_wait_ms
            ],
        )
    }

    /// Notes that what was left of a connection is gone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remains_end(&mut self, end: &RemainsEnd) -> Done {
        self.run(
            "UPDATE remains SET last_snapshot_id = ?2, gone_before_snapshot_id = ?3,
                 last_sample_snapshot_id = ?4, samples = ?5
             WHERE socket_id = ?1",
            params![
                end.socket.0,
                end.last_snapshot.0,
                end.gone_before.map(|s| s.0),
                end.last_sample.0,
                end.samples.sql()
            ],
        )?;
        if end.gone_before.is_none() {
            return Ok(());
        }
        // A FIN-WAIT-2 that goes without a TIME-WAIT: the other end did not close.
        self.run(
            "UPDATE socket_ends SET ending = (SELECT ending FROM endings WHERE evidence = 'half_closed')
             WHERE socket_id = ?1
                AND ending = (SELECT ending FROM endings WHERE evidence = 'fin_acked')
                AND EXISTS (SELECT 1 FROM remains AS m
                    WHERE m.socket_id = ?1 AND m.time_wait_snapshot_id IS NULL)",
            params![end.socket.0],
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
        // Counted here: a socket that a dump showed twice has one row.
        let rows: i64 = self
            .transaction
            .prepare_cached("SELECT count(*) FROM samples WHERE snapshot_id = ?1")
            .and_then(|mut statement| statement.query_row([snapshot.id.0], |row| row.get(0)))
            .map_err(|e| self.error(e))?;
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
                rows,
                int(snapshot.events.map(|events| events.read)),
                int(snapshot.events.map(|events| events.unbound)),
                int(snapshot.events.map(|events| events.unchosen)),
            ],
        )?;
        let path = self.path;
        self.transaction.commit().map_err(|e| StoreError::sqlite(path, "write to", e))?;
        *self.is_open = false;
        Ok(rows.cast_unsigned())
    }
}

/// Binds the parameters of a statement one after the other.
struct Binding<'c> {
    statement: CachedStatement<'c>,
    next: usize,
    failed: Option<rusqlite::Error>,
}

impl Binding<'_> {
    fn integer(&mut self, value: i64) {
        self.maybe(Some(value));
    }

    fn maybe(&mut self, value: Option<impl rusqlite::ToSql>) {
        if let Err(e) = self.statement.raw_bind_parameter(self.next, value) {
            self.failed.get_or_insert(e);
        }
        self.next += 1;
    }

    fn execute(mut self) -> rusqlite::Result<()> {
        match self.failed {
            Some(e) => Err(e),
            None => self.statement.raw_execute().map(|_| ()),
        }
    }
}

/// Values of a row that may be unknown, in a form that is hashed in one go.
#[derive(Hash)]
struct Integers<const N: usize> {
    known: u128,
    values: [i64; N],
}

impl<const N: usize> Integers<N> {
    const FITS: () = assert!(N <= 128, "one bit of `known` a value");

    fn of(observation: &Observation<'_>, sources: &[Source]) -> Self {
        let () = Self::FITS;
        let mut integers = Self { known: 0, values: [0; N] };
        for (i, (slot, (_, source))) in integers.values.iter_mut().zip(sources).enumerate() {
            if let Some(value) = source(observation) {
                *slot = value;
                integers.known |= 1 << i;
            }
        }
        integers
    }

    fn is_empty(&self) -> bool {
        self.known == 0
    }

    fn iter(&self) -> impl Iterator<Item = Option<i64>> {
        self.values.iter().enumerate().map(|(i, v)| (self.known & (1 << i) != 0).then_some(*v))
    }
}
