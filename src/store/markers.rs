//! Markers, which are written beside the recorder.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::StoreError;
use super::file::check_for_reading;
use super::log::fold_left_log;
use super::migrate::check_schema;
use super::shared_dir::{Access, refuse_planted};
use super::writer::open_connection;
use crate::model::{Mark, MarkPart, Marked};

/// Longer than any snapshot takes to be written.
const RECORDER_WAITED_FOR: Duration = Duration::from_secs(10);

/// Writes a marker into a recording, also while someone records to it.
///
/// # Errors
/// When the file is no recording, is newer or damaged, or cannot be written.
pub fn write_marker(path: &Path, mark: &Mark) -> Result<Marked, StoreError> {
    refuse_planted(path, Access::Write)?;
    // Before SQLite opens it: closing the file would drop the locks of a connection.
    check_for_reading(path)?;
    let error = |e| StoreError::sqlite(path, "write to", e);
    let connection = open_connection(path, RECORDER_WAITED_FOR).map_err(error)?;
    check_schema(&connection, path)?;
    let marked = write(&connection, mark).map_err(error)?;
    drop(connection);
    // A recorder that ended meanwhile could not fold its log in. Who may not leaves it to the next.
    let _ = fold_left_log(path);
    Ok(marked)
}

fn write(connection: &Connection, mark: &Mark) -> rusqlite::Result<Marked> {
    // To fold the log in is the recorder's business.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let marked = match mark.part {
        MarkPart::Moment => begin(&transaction, mark, false)?,
        MarkPart::Start => begin(&transaction, mark, true)?,
        MarkPart::End => end(&transaction, mark)?,
    };
    transaction.commit()?;
    Ok(marked)
}

fn begin(connection: &Connection, mark: &Mark, is_span: bool) -> rusqlite::Result<Marked> {
    let left_open_ns = match open_span(connection, &mark.name)? {
        Some(span) if is_span => Some(span.started_at_ns),
        _ => None,
    };
    let boot = recorded_boot(connection, mark)?;
    connection.execute(
        "INSERT INTO markers (name, is_span, boot_id, started_at_ns, started_boottime_ns)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![mark.name, is_span, boot.map(|b| b.0), mark.utc_ns, boot.map(|b| b.1)],
    )?;
    Ok(Marked::Written { left_open_ns })
}

fn end(connection: &Connection, mark: &Mark) -> rusqlite::Result<Marked> {
    let Some(span) = open_span(connection, &mark.name)? else { return Ok(Marked::NoOpenSpan) };
    let ended_boottime_ns = match recorded_boot(connection, mark)? {
        Some((boot_id, boottime_ns)) if span.boot_id == Some(boot_id) => Some(boottime_ns),
        _ => None,
    };
    // UTC may have been set back meanwhile; boot time tells then.
    let length_ns = match (span.started_boottime_ns, ended_boottime_ns) {
        (Some(started_ns), Some(ended_ns)) => ended_ns.saturating_sub(started_ns),
        _ => mark.utc_ns.saturating_sub(span.started_at_ns),
    };
    if length_ns < 0 {
        return Ok(Marked::EndsBeforeStart { started_at_ns: span.started_at_ns });
    }
    connection.execute(
        "UPDATE markers SET ended_at_ns = ?2, ended_boottime_ns = ?3 WHERE marker_id = ?1",
        params![span.marker_id, mark.utc_ns, ended_boottime_ns],
    )?;
    Ok(Marked::Written { left_open_ns: None })
}

struct OpenSpan {
    marker_id: i64,
    boot_id: Option<i64>,
    started_at_ns: i64,
    started_boottime_ns: Option<i64>,
}

fn open_span(connection: &Connection, name: &str) -> rusqlite::Result<Option<OpenSpan>> {
    connection
        .query_row(
            "SELECT marker_id, boot_id, started_at_ns, started_boottime_ns FROM markers
             WHERE name = ?1 AND is_span AND ended_at_ns IS NULL ORDER BY marker_id DESC LIMIT 1",
            [name],
            |row| {
                Ok(OpenSpan {
                    marker_id: row.get(0)?,
                    boot_id: row.get(1)?,
                    started_at_ns: row.get(2)?,
                    started_boottime_ns: row.get(3)?,
                })
            },
        )
        .optional()
}

/// The number of the mark's boot and its boot time there, if something was recorded in that boot.
fn recorded_boot(connection: &Connection, mark: &Mark) -> rusqlite::Result<Option<(i64, i64)>> {
    let Some(moment) = &mark.boot else { return Ok(None) };
    let sql = "SELECT boot_id FROM boots WHERE uuid = ?1";
    let boot_id = connection.query_row(sql, [&moment.boot_uuid], |row| row.get(0)).optional()?;
    Ok(boot_id.map(|boot_id| (boot_id, moment.boottime_ns)))
}
