//! SQLite's write-ahead log, `FILE-wal`: when it is folded in, so that a recording is one file.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::file::{lock_if_idle, log_path};
use super::writer::open_connection;

/// Whether the last connection that closes folds it in.
pub(super) fn fold_log_on_close(connection: &Connection, fold: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !fold)?;
    Ok(())
}

/// Folds it in, after which a recording is one file. With readers at it the log stays; SQLite says so by a
/// row or by "busy", and both are fine.
pub(super) fn fold_log(connection: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(timeout)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    match connection.pragma_update(None, "journal_mode", "DELETE") {
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        result => result,
    }
}

/// Makes a recording one file whose recorder ended cleanly while a reader held the log. What a
/// crash left stays as it is, for the next recorder, and what cannot be read for `salvage`.
pub(super) fn fold_left_log(path: &Path) -> rusqlite::Result<()> {
    let Ok(log) = log_path(path).metadata() else { return Ok(()) };
    let Some(lock) = lock_if_idle(path) else { return Ok(()) };
    let connection = open_connection(path, Duration::ZERO)?;
    let is_ended = "SELECT NOT EXISTS (SELECT 1 FROM captures WHERE ended_at_ns IS NULL)";
    let is_ended: bool = connection.query_row(is_ended, [], |row| row.get(0))?;
    // The file alone says so too where the begin of the next capture was lost with the log.
    let frames: i64 =
        connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get("log"))?;
    if is_ended && (frames > 0 || log.len() == 0) {
        fold_log(&connection, Duration::ZERO)?;
    }
    drop(connection);
    drop(lock); // after the connection, see `RecorderLock`
    Ok(())
}

/// The same for a recording that nobody else writes to and in which no capture has begun.
pub(super) fn fold_unused_log(path: &Path) -> rusqlite::Result<()> {
    let connection = open_connection(path, Duration::ZERO)?;
    // The index of the log is kept in memory then: descriptors may be what is missing.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    fold_log(&connection, Duration::ZERO)
}
