//! The schema and the steps to it (`migrations/`).

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
use super::trust::{What, difference};

/// `PRAGMA application_id` of every recording: "sock" in ASCII.
pub const APPLICATION_ID: i32 = i32::from_be_bytes(*b"sock");

/// The steps, frozen once released; step N makes version N.
const STEPS: &[&str] = &[include_str!("../../migrations/0001_recording.sql")];

/// `PRAGMA user_version` of recordings written here.
pub const SCHEMA_VERSION: i64 = STEPS.len() as i64;

/// Brings a recording, or an empty file, to the latest version. All steps or none: a file that was
/// begun and left without its mark would be taken for that of another application ever after.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version = user_version(connection)?;
    if version >= SCHEMA_VERSION {
        return Ok(());
    }
    let pages: i64 = connection.pragma_query_value(None, "page_count", |r| r.get(0))?;
    let transaction = if pages == 0 {
        connection.pragma_update(None, "page_size", 4096)?;
        // To be set before the first page is made, which IMMEDIATE would do.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        transaction.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        transaction
    } else {
        connection.transaction_with_behavior(TransactionBehavior::Immediate)?
    };
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

pub(super) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Checks that an open recording is of this version. Its header may have been looked at before, but a
/// newer version may still stand in the write-ahead log.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = user_version(connection).map_err(|e| StoreError::sqlite(path, "open", e))?;
    let path = path.to_owned();
    match found {
        // Its making was cut short and has just been taken back.
        0 => Err(StoreError::NotARecording { path, why: "it is empty" }),
        SCHEMA_VERSION => Ok(()),
        found => Err(StoreError::Newer { path, found, supported: SCHEMA_VERSION }),
    }
}

/// Checks that an open recording is of this version and has its tables, views and indexes, as they
/// are, and nothing else.
pub(super) fn check_schema(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    check_version(connection, path)?;
    let differences =
        difference(connection, "main").map_err(|e| StoreError::sqlite(path, "open", e))?;
    let Some(first) = differences.into_iter().next() else { return Ok(()) };
    let (path, kind, name) = (path.to_owned(), first.kind, first.name);
    Err(match first.what {
        What::Missing => StoreError::Incomplete { path, kind, name },
        What::Altered => StoreError::Altered { path, kind, name },
        What::Foreign => StoreError::Foreign { path, kind, name },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(connection: &Connection) -> Vec<(String, String)> {
        connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
            .unwrap()
    }

    #[test]
    fn the_steps_lead_to_the_schema_that_stands_beside_them() {
        let mut stepped = Connection::open_in_memory().unwrap();
        migrate(&mut stepped).unwrap();
        let whole = Connection::open_in_memory().unwrap();
        whole.execute_batch(include_str!("../../migrations/schema.sql")).unwrap();
        assert_eq!(shape(&stepped), shape(&whole));
        assert_eq!(user_version(&stepped).unwrap(), SCHEMA_VERSION);
        assert!(shape(&stepped).len() > 30);
        assert_eq!(difference(&stepped, "main").unwrap(), []);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE samples (clash)").unwrap();
        migrate(&mut connection).unwrap_err();
        assert_eq!(user_version(&connection).unwrap(), 0);
        assert_eq!(shape(&connection).len(), 1);
    }
}
