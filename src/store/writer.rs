//! A recording opened for recording: its captures from begin to end. What a snapshot adds is
//! written by [`TickWriter`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::captures::{self, Start};
use super::file::{
    Identity, OnDisk, RecorderLock, file_sizes, file_uri, on_disk, open_for_recording,
};
use super::former;
use super::log::{fold_log, fold_log_on_close};
use super::migrate::{SCHEMA_VERSION, check_schema, migrate, user_version};
use super::namespaces::{self, KnownNamespaces};
use super::owners::{self, FormerOwners};
use super::retention::{
    Alive, AllAlive, Capacity, LOG_BYTES, Retention, await_formers, make_tables,
};
use super::samples::RowSql;
use super::share::Shared;
use super::shared_dir::{Access, refuse_planted};
use super::tick::{TickWriter, Transaction};
use super::trust::distrust;
use super::unbegun::Unbegun;
use crate::model::{
    Capture, Clocks, EndReason, FormerSocket, FreedSocket, GroupId, Nanos, NetnsId, OwnerChange,
    Scope, ScopeId, SnapshotId, UndestroyedSocket,
};

/// Prepared statements kept; more than this module has.
const STATEMENTS: usize = 64;
/// A log that grew beyond this is cut to it once it begins anew.
const LOG_KEPT_BYTES: u64 = LOG_BYTES / 2;
/// Page cache of the writer, in KiB.
const CACHE_KIB: i64 = 4 * 1024;
/// So long the end of a capture waits for readers to let go of the log.
const READERS_WAITED_FOR: Duration = Duration::from_millis(500);

/// A recording opened for recording; keeps other recorders out as long as it lives.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    opened: Identity,
    sql: RowSql,
    conditions: Shared,
    settings: Shared,
    /// Whether a transaction began that has not been committed.
    is_tick_open: bool,
    retention: Retention,
    unbegun: Unbegun,
    /// Keeps other recorders out. Dropped after the connection, see [`RecorderLock`].
    _lock: RecorderLock,
}

impl Writer {
    /// Opens a recording, or makes one of a new or empty file.
    ///
    /// # Errors
    /// When the file is something else, newer, damaged, in use by another recorder, or cannot be
    /// written. It is then left as it was, as it is where no capture is begun in it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (lock, found) = open_for_recording(path)?;
        let mut unbegun = Unbegun::new(path, found);
        let opened = lock.file().metadata().map(|metadata| Identity::of(&metadata));
        let opened = opened.map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let error = |e| StoreError::sqlite(path, "open", e);
        let mut connection = open_connection(path, Duration::from_secs(10)).map_err(error)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let found = user_version(&connection).map_err(error)?;
        if found > SCHEMA_VERSION {
            let (path, supported) = (path.to_owned(), SCHEMA_VERSION);
            return Err(StoreError::Newer { path, found, supported });
        }
        migrate(&mut connection).map_err(error)?;
        check_schema(&connection, path)?;
        unbegun.is_ours();
        fold_log_on_close(&connection, true).map_err(error)?;
        // Readers and the recorder do not wait for each other; a power cut may cost the last
        // snapshots, never the file.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(error)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(error)?;
        let log_kept = LOG_KEPT_BYTES.cast_signed();
        connection.pragma_update(None, "journal_size_limit", log_kept).map_err(error)?;
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(error)?;
        // What SQLite has made now nobody else can have put there later.
        refuse_planted(path, Access::Write)?;
        // Rows of a snapshot come before the snapshot itself; tests check the references.
        connection.pragma_update(None, "foreign_keys", false).map_err(error)?;
        make_tables(&connection).map_err(error)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            opened,
            sql: RowSql::new(),
            conditions: Shared::new(),
            settings: Shared::new(),
            is_tick_open: false,
            retention: Retention::new(Capacity::default(), Box::new(AllAlive)),
            unbegun,
            _lock: lock,
        })
    }

    /// Begins a capture, and ends those that a killed recorder left open.
    ///
    /// # Errors
    /// When it cannot be written, or no more rows can be numbered.
    pub fn begin_capture(&mut self, capture: &Capture) -> Result<Start, StoreError> {
        match captures::begin(&mut self.connection, capture) {
            Ok(Some(start)) => {
                self.unbegun.has_begun();
                Ok(start)
            }
            Ok(None) => Err(StoreError::Misnumbered { path: self.path.clone() }),
            Err(e) => Err(StoreError::sqlite(&self.path, "write to", e)),
        }
    }

    /// Registers what a capture looks at from its first snapshot on; the same scope has the same number in every capture.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_scope(&mut self, start: &Start, scope: &Scope) -> Result<ScopeId, StoreError> {
        namespaces::add_scope(&self.connection, start, scope)
            .map_err(|e| StoreError::sqlite(&self.path, "write to", e))
    }

    /// The namespaces of this boot that were recorded before, and what each was asked for: they keep
    /// their numbers.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn known_namespaces(&self, start: &Start) -> Result<KnownNamespaces, StoreError> {
        namespaces::known(&self.connection, start)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// The sockets that captures before this one saw to their end in these namespaces: those that still
    /// live go on under the same number.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn former_sockets(&self, of: &[NetnsId]) -> Result<Vec<FormerSocket>, StoreError> {
        former::sockets(&self.connection, of)
            .and_then(|formers| await_formers(&self.connection, &formers).map(|()| formers))
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// TCP sockets of these namespaces that captures before this one saw freed after this moment of
    /// `CLOCK_BOOTTIME`, and whose TIME-WAIT may still be there, not seen yet.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn freed_sockets(
        &self,
        of: &[NetnsId],
        since_boottime_ns: Nanos,
    ) -> Result<Vec<FreedSocket>, StoreError> {
        former::freed(&self.connection, of, since_boottime_ns)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// Sockets of these namespaces whose connection captures before this one saw end, and whose destroy
    /// event may still come.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn undestroyed_sockets(
        &self,
        of: &[NetnsId],
    ) -> Result<Vec<UndestroyedSocket>, StoreError> {
        former::undestroyed(&self.connection, of)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// The last snapshot of an earlier capture that would have shown every socket of this scope, and
    /// when it ended on `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn last_full_view(&self, scope: &Scope) -> Result<Option<(SnapshotId, Nanos)>, StoreError> {
        former::last_full_view(&self.connection, scope)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// The owners that captures before this one found, of this boot and of these sockets:
    /// processes keep their number, and what they held they may hold still.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn former_owners(
        &self,
        start: &Start,
        sockets: &[FormerSocket],
    ) -> Result<FormerOwners, StoreError> {
        owners::former(&self.connection, start, sockets)
            .map_err(|e| StoreError::sqlite(&self.path, "read", e))
    }

    /// Writes what was found after the last snapshot.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of it is there.
    pub fn owner_changes(
        &mut self,
        start: &Start,
        changes: &[OwnerChange],
    ) -> Result<(), StoreError> {
        let write = || -> rusqlite::Result<()> {
            let transaction = Transaction::begin(&self.connection)?;
            for change in changes {
                owners::write(&transaction, start, change)?;
            }
            transaction.commit()
        };
        write().map_err(|e| StoreError::sqlite(&self.path, "write to", e))
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
        let transaction = Transaction::begin(&self.connection)
            .map_err(|e| StoreError::sqlite(path, "write to", e))?;
        Ok(TickWriter {
            transaction,
            group: GroupId(0),
            sql: &self.sql,
            samples: Some(0),
            conditions: &mut self.conditions,
            settings: &mut self.settings,
            is_open: &mut self.is_tick_open,
            path,
        })
    }

    /// What the recording may hold from now on.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.retention.set_capacity(capacity);
    }

    /// Asks these what is still there on the machine, before what nothing points at goes.
    pub fn ask_alive(&mut self, alive: Box<dyn Alive>) {
        self.retention.ask_alive(alive);
    }

    /// Drops the oldest groups beyond the limits, and clears up after others that did, in small steps: at
    /// least as many as `rows` new rows ask for, and on until nothing is left to do or `is_awaited`. False
    /// where no more can go and it is still beyond them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_within_limits(
        &mut self,
        start: &Start,
        now: Clocks,
        rows: u64,
        is_awaited: impl Fn() -> bool,
    ) -> Result<bool, StoreError> {
        let log_bytes = || file_sizes(&self.path).log_bytes;
        self.retention
            .run(&self.connection, start.capture, now, rows, log_bytes, is_awaited)
            .map_err(|e| StoreError::sqlite(&self.path, "drop old snapshots of", e))
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
            captures::end(&self.connection, start, reason, at, missed_ticks)?;
            fold_log(&self.connection, READERS_WAITED_FOR)
        };
        end().map_err(|e| StoreError::sqlite(&self.path, "write to", e))
    }

    /// What is found under its name.
    pub fn on_disk(&self) -> OnDisk {
        on_disk(&self.path, self.opened)
    }

    /// That it was moved.
    pub fn moved(&self) -> StoreError {
        StoreError::Moved { path: self.path.clone() }
    }
}

/// The file is there already: SQLite is not to make one. Nor is it to fold a log into a file that
/// may turn out not to be ours.
pub(super) fn open_connection(path: &Path, timeout: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file_uri(path), flags)?;
    distrust(&connection)?;
    connection.busy_timeout(timeout)?;
    fold_log_on_close(&connection, false)?;
    Ok(connection)
}
