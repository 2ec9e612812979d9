//! Writing a recording: one transaction a snapshot, appending.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::params;
use rusqlite::{
    CachedStatement, Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};

use super::StoreError;
use super::columns::{
    CONDITIONS, SAMPLE_TIMES, SAMPLES, SETTING_BYTES, SETTING_TEXTS, SETTINGS, Source, SqlInteger,
    int,
};
use super::file::{file_uri, lock_if_idle, log_path, open_for_recording};
use super::former;
use super::migrate::{SCHEMA_VERSION, migrate, missing_object, user_version};
use super::share::Shared;
use crate::model::{
    Capture, ClockChange, Clocks, EndReason, Exception, FormerSocket, GroupId, HeldSample,
    NamespaceFacts, NetnsId, NewSocket, Observation, SampleRow, Scope, ScopeId, Snapshot,
    SnapshotId, SocketEnd, SocketId, SocketUpdate, StateChange,
};

/// Prepared statements kept; more than this module has.
const STATEMENTS: usize = 64;
/// Page cache of the writer, in KiB.
const CACHE_KIB: i64 = 8 * 1024;
/// So long the end of a capture waits for readers to let go of the log.
const READERS_WAITED_FOR: Duration = Duration::from_millis(500);

/// A recording opened for recording; keeps other recorders out as long as it lives.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    sql: RowSql,
    conditions: Shared,
    settings: Shared,
    /// Whether a transaction began that has not been committed.
    is_tick_open: bool,
    /// Keeps other recorders out. Dropped after the connection, see [`open_for_recording`].
    _lock: File,
}

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
}

impl Writer {
    /// Opens a recording, or makes one of a new or empty file.
    ///
    /// # Errors
    /// When the file is something else, newer, damaged, in use by another recorder, or cannot be
    /// written. It is then left as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = open_for_recording(path)?;
        let error = |e| StoreError::sqlite(path, "open", e);
        let mut connection = open_connection(path, Duration::from_secs(10)).map_err(error)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let found = user_version(&connection).map_err(error)?;
        if found > SCHEMA_VERSION {
            let (path, supported) = (path.to_owned(), SCHEMA_VERSION);
            return Err(StoreError::Newer { path, found, supported });
        }
        migrate(&mut connection).map_err(error)?;
        if let Some(name) = missing_object(&connection).map_err(error)? {
            let (path, name) = (path.to_owned(), name.to_owned());
            return Err(StoreError::Incomplete { path, name });
        }
        fold_log_on_close(&connection, true).map_err(error)?;
        // Readers and the recorder do not wait for each other; a power cut may cost the last
        // snapshots, never the file.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(error)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(error)?;
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(error)?;
        // Rows of a snapshot come before the snapshot itself; tests check the references.
        connection.pragma_update(None, "foreign_keys", false).map_err(error)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            sql: RowSql::new(),
            conditions: Shared::new(),
            settings: Shared::new(),
            is_tick_open: false,
            _lock: lock,
        })
    }

    /// Begins a capture, and ends those that a killed recorder left open.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_capture(&mut self, capture: &Capture) -> Result<Start, StoreError> {
        let result = begin_capture(&mut self.connection, capture);
        result.map_err(|e| StoreError::sqlite(&self.path, "write to", e))
    }

    /// Registers what a capture looks at; the same scope has the same number in every capture.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_scope(&mut self, start: &Start, scope: &Scope) -> Result<ScopeId, StoreError> {
        add_scope(&self.connection, start.capture, scope)
            .map_err(|e| StoreError::sqlite(&self.path, "write to", e))
    }

    /// The sockets that captures before this one saw to their end, in the same boot and namespace:
    /// those that still live go on under the same number.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn former_sockets(&self, start: &Start) -> Result<Vec<FormerSocket>, StoreError> {
        former::sockets(&self.connection, start.netns)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// The last snapshot of an earlier capture that would have shown every socket of this scope.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn last_full_view(&self, scope: &Scope) -> Result<Option<SnapshotId>, StoreError> {
        former::last_full_view(&self.connection, scope)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// Begins the transaction of one snapshot.
    ///
    /// # Errors
    /// When the file cannot be locked for writing.
    pub fn begin_tick(&mut self) -> Result<TickWriter<'_>, StoreError> {
        if self.is_tick_open {
            // It was rolled back, and values with it that are remembered as stored.
            self.conditions.forget();
            self.settings.forget();
        }
        self.is_tick_open = true;
        let path = &self.path;
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
                .map_err(|e| StoreError::sqlite(path, "write to", e))?;
        Ok(TickWriter {
            transaction,
            group: GroupId(0),
            sql: &self.sql,
            conditions: &mut self.conditions,
            settings: &mut self.settings,
            is_open: &mut self.is_tick_open,
            path,
        })
    }

    /// Ends the capture, folds the write-ahead log in and makes the recording one file that can be
    /// copied off. A reader that still holds it keeps the log until it closes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_capture(
        &mut self,
        start: &Start,
        reason: EndReason,
        at: Clocks,
        missed_ticks: u64,
    ) -> Result<(), StoreError> {
        let end = || -> rusqlite::Result<()> {
            let transaction =
                Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
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
            transaction.commit()?;
            fold_log(&self.connection, READERS_WAITED_FOR)
        };
        end().map_err(|e| StoreError::sqlite(&self.path, "write to", e))
    }

    /// Bytes of the recording with its log.
    pub fn file_bytes(&self) -> u64 {
        let len = |path: &Path| path.metadata().map_or(0, |m| m.len());
        len(&self.path) + len(&log_path(&self.path))
    }
}

/// The file is there already: SQLite is not to make one. Nor is it to fold a log into a file that
/// may turn out not to be ours.
fn open_connection(path: &Path, timeout: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file_uri(path), flags)?;
    connection.busy_timeout(timeout)?;
    fold_log_on_close(&connection, false)?;
    Ok(connection)
}

fn fold_log_on_close(connection: &Connection, fold: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !fold)?;
    Ok(())
}

/// With readers at it the log stays; SQLite says so by a row or by "busy", and both are fine.
fn fold_log(connection: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(timeout)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    match connection.pragma_update(None, "journal_mode", "DELETE") {
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        result => result,
    }
}

/// Makes a recording one file whose recorder ended cleanly while a reader held the log. What a
/// crash left stays as it is, for the next recorder.
pub(super) fn fold_left_log(path: &Path) -> rusqlite::Result<()> {
    if !log_path(path).exists() {
        return Ok(());
    }
    let Some(lock) = lock_if_idle(path) else { return Ok(()) };
    let connection = open_connection(path, Duration::ZERO)?;
    let is_ended = "SELECT NOT EXISTS (SELECT 1 FROM captures WHERE ended_at_ns IS NULL)";
    if connection.query_row(is_ended, [], |row| row.get(0))? {
        fold_log(&connection, Duration::ZERO)?;
    }
    drop(connection);
    drop(lock); // after the connection, see `open_for_recording`
    Ok(())
}

fn begin_capture(connection: &mut Connection, capture: &Capture) -> rusqlite::Result<Start> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT INTO recording (recording_id, uuid, created_at_ns, created_by)
         VALUES (1, ?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![new_uuid(), capture.started.utc_ns, crate_version()],
    )?;
    end_lost_captures(&transaction)?;
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
    let netns = namespace(&transaction, boot, &capture.namespace)?;
    transaction.execute(
        "INSERT INTO captures (uuid, boot_id, source, host_name, machine_id_hash, kernel_release,
             architecture, sockrec_version, options, interval_ns, started_at_ns,
             started_monotonic_ns, started_boottime_ns)
         VALUES (?1, ?2, 'live', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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
        ],
    )?;
    let start = Start {
        capture: transaction.last_insert_rowid(),
        netns,
        next_socket: SocketId(next_id(&transaction, "SELECT max(socket_id) FROM sockets")?),
        next_snapshot: SnapshotId(next_id(&transaction, "SELECT max(snapshot_id) FROM snapshots")?),
        next_group: GroupId(next_id(&transaction, "SELECT max(group_id) FROM groups")?),
    };
    transaction.commit()?;
    Ok(start)
}

fn next_id(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    let last: Option<i64> = connection.query_row(sql, [], |r| r.get(0))?;
    Ok(last.unwrap_or(0) + 1)
}

fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn crate_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn namespace(
    connection: &Connection,
    boot: i64,
    facts: &NamespaceFacts,
) -> rusqlite::Result<NetnsId> {
    let cookie = int(facts.cookie);
    let inode = int(facts.inode);
    // The cookie is the key; only where the kernel tells none must the inode do.
    let known = connection
        .query_row(
            "SELECT netns_id FROM namespaces
             WHERE boot_id = ?1 AND netns_cookie IS ?2 AND (?2 IS NOT NULL OR inode IS ?3)",
            params![boot, cookie, inode],
            |r| r.get(0),
        )
        .optional()?;
    if let Some(id) = known {
        return Ok(NetnsId(id));
    }
    connection.execute(
        "INSERT INTO namespaces (boot_id, netns_cookie, inode, name) VALUES (?1, ?2, ?3, ?4)",
        params![boot, cookie, inode, facts.name],
    )?;
    Ok(NetnsId(connection.last_insert_rowid()))
}

fn add_scope(connection: &Connection, capture: i64, scope: &Scope) -> rusqlite::Result<ScopeId> {
    let key = params![
        scope.netns.0,
        scope.family.number(),
        scope.protocol.number(),
        scope.states.0,
        scope.filter
    ];
    connection.execute(
        "INSERT INTO scopes (netns_id, family, protocol, states, filter)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        key,
    )?;
    let id = connection.query_row(
        "SELECT scope_id FROM scopes
         WHERE netns_id = ?1 AND family = ?2 AND protocol = ?3 AND states = ?4 AND filter = ?5",
        key,
        |r| r.get(0),
    )?;
    connection.execute(
        "INSERT INTO capture_scopes (capture_id, scope_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![capture, id],
    )?;
    Ok(ScopeId(id))
}

/// A killed recorder cannot say when its capture ended: not before its last snapshot.
fn end_lost_captures(connection: &Connection) -> rusqlite::Result<()> {
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

/// Closes every group that is still open: the last snapshot, and a summary of each socket.
fn summarise_open_groups(connection: &Connection) -> rusqlite::Result<()> {
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
        min_rtt_us, max_rtt_us, max_rqueue, max_wqueue, total_retrans)
    SELECT g.group_id, s.socket_id, min(s.snapshot_id), max(s.snapshot_id), count(*),
        min(s.rtt_us), max(s.rtt_us), max(s.rqueue), max(s.wqueue), max(c.total_retrans)
    FROM groups AS g
    JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
    LEFT JOIN conditions AS c ON c.group_id = g.group_id AND c.condition_id = s.condition_id
    WHERE g.group_id = ?1
    GROUP BY s.socket_id";

/// The statements whose columns come from [`super::columns`].
struct RowSql {
    sample: String,
    condition: String,
    setting: String,
}

impl RowSql {
    fn new() -> Self {
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
    transaction: Transaction<'w>,
    group: GroupId,
    sql: &'w RowSql,
    conditions: &'w mut Shared,
    settings: &'w mut Shared,
    is_open: &'w mut bool,
    path: &'w Path,
}

type Done = Result<(), StoreError>;

impl TickWriter<'_> {
    fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Done {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map(|_| ())
            .map_err(|e| self.error(e))
    }

    fn error(&self, e: rusqlite::Error) -> StoreError {
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

    /// Adds a socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket(&mut self, socket: &NewSocket) -> Done {
        let (local, remote) = (&socket.tuple.local, &socket.tuple.remote);
        self.run(
            "INSERT INTO sockets (socket_id, netns_id, cookie, generation, family, protocol,
                 local_address, local_port, remote_address, remote_port, interface, inode, uid,
                 cgroup_id, mark, first_snapshot_id, opened_after_snapshot_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            params![
                socket.id.0,
                socket.netns.0,
                socket.cookie.sql(),
                socket.generation,
                socket.family.number(),
                socket.protocol.number(),
                local.address.to_string(),
                local.port,
                remote.address.to_string(),
                remote.port,
                socket.owner.interface,
                socket.owner.inode,
                socket.owner.uid,
                int(socket.owner.cgroup_id),
                socket.owner.mark,
                socket.first_snapshot.0,
                socket.opened_after.map(|s| s.0),
            ],
        )
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
        self.run(
            "INSERT INTO socket_ends (socket_id, last_snapshot_id, closed_before_snapshot_id,
                 last_sample_snapshot_id, evidence, samples, state, rtt_us, rttvar_us, min_rtt_us, bytes_sent, bytes_retrans,
                 bytes_acked, bytes_received, segs_out, segs_in, data_segs_out, data_segs_in,
                 total_retrans)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19)",
            params![
                end.socket.0,
                end.last_snapshot.0,
                end.closed_before.map(|s| s.0),
                end.last_sample.0,
                end.evidence.name(),
                end.samples.sql(),
                end.state.0,
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

    /// Adds an exception from full coverage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn exception(&mut self, exception: &Exception) -> Done {
        self.run(
            "INSERT INTO exceptions (snapshot_id, kind, scope_id, errno, count, message)
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
                 ended_boottime_ns, missed_ticks, sockets_seen, samples)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
