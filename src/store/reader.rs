//! Reading a recording, also while it is being written.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;
use super::file::check_for_reading;
use super::migrate::{SCHEMA_VERSION, missing_object, user_version};
use crate::model::Value;

/// A named parameter of a query (`:from_ns`).
pub type Parameter<'a> = (&'a str, Value<'a>);

/// A recording opened for reading; nothing can be written through it.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens a recording.
    ///
    /// # Errors
    /// When there is none, it is something else, newer, incomplete or damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        check_for_reading(path)?;
        let error = |e| StoreError::sqlite(path, "open", e);
        let connection = open_connection(path).map_err(error)?;
        // A recording may come from anyone: nothing in its schema may run functions of ours, and
        // nothing may bend the file itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(error)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(error)?;
        // The header was checked, but a newer version may still stand in the write-ahead log.
        let found = user_version(&connection).map_err(error)?;
        if found != SCHEMA_VERSION {
            let (path, supported) = (path.to_owned(), SCHEMA_VERSION);
            return Err(StoreError::Newer { path, found, supported });
        }
        if let Some(name) = missing_object(&connection).map_err(error)? {
            let (path, name) = (path.to_owned(), name.to_owned());
            return Err(StoreError::Incomplete { path, name });
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a query and hands over its rows one by one, until `each` fails.
    ///
    /// Parameters that the query does not name are left out.
    ///
    /// # Errors
    /// Of the query, or the first of `each`.
    pub fn run<E: From<StoreError>>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let error = |e| E::from(StoreError::sqlite(&self.path, "read", e));
        let mut statement = self.connection.prepare(sql).map_err(error)?;
        for (name, value) in parameters {
            if let Some(index) = statement.parameter_index(name).map_err(error)? {
                match *value {
                    Value::Null => statement.raw_bind_parameter(index, None::<i64>),
                    Value::Integer(v) => statement.raw_bind_parameter(index, v),
                    Value::Real(v) => statement.raw_bind_parameter(index, v),
                    Value::Text(v) => statement.raw_bind_parameter(index, v),
                    Value::Bytes(v) => statement.raw_bind_parameter(index, v),
                }
                .map_err(error)?;
            }
        }
        let width = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(error)? {
            let mut values = Vec::with_capacity(width);
            for i in 0..width {
                values.push(match row.get_ref(i).map_err(error)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(v) => Value::Integer(v),
                    ValueRef::Real(v) => Value::Real(v),
                    ValueRef::Text(v) => match std::str::from_utf8(v) {
                        Ok(text) => Value::Text(text),
                        Err(_) => Value::Bytes(v),
                    },
                    ValueRef::Blob(v) => Value::Bytes(v),
                });
            }
            each(&values)?;
        }
        Ok(())
    }

    /// Runs a query that gives one whole number, `None` for no row or NULL.
    ///
    /// # Errors
    /// Of the query.
    pub fn integer(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<i64>, StoreError> {
        let mut found = None;
        self.run(sql, parameters, |row| {
            if let (None, Some(Value::Integer(v))) = (found, row.first()) {
                found = Some(*v);
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(found)
    }

    /// Names of the columns that a query gives.
    ///
    /// # Errors
    /// When the query is none.
    pub fn column_names(&self, sql: &str) -> Result<Vec<String>, StoreError> {
        let statement =
            self.connection.prepare(sql).map_err(|e| StoreError::sqlite(&self.path, "read", e))?;
        Ok(statement.column_names().map(str::to_owned).collect())
    }
}

fn open_connection(path: &Path) -> rusqlite::Result<Connection> {
    let open = |uri: &str, flags| -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "query_only", true)?;
        user_version(&connection)?; // the first read of the file
        Ok(connection)
    };
    let uri = file_uri(path);
    match open(&uri, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // A recording that was not ended cleanly wants its -shm file, which a read-only directory
        // does not take. Without a log there is nothing to miss.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::CannotOpen) && !has_log(path) => {
            open(&format!("{uri}?immutable=1"), OpenFlags::SQLITE_OPEN_READ_ONLY)
        }
        result => result,
    }
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).metadata().is_ok_and(|m| m.len() > 0)
}

/// Characters that mean something in a URI are written as bytes.
fn file_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "file:" });
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
