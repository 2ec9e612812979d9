//! Reading a recording, also while it is being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Rows, Statement, ffi};

use super::StoreError;
use super::file::{check_for_reading, file_uri, has_log};
use super::functions::{add_functions, tell_of};
use super::log::fold_left_log;
use super::migrate::{check_schema, check_version, user_version};
use super::new_file::stop_when;
use super::seen::Seen;
use super::trust::distrust;
use crate::model::Value;

/// A named parameter of a query (`:from_ns`).
pub type Parameter<'a> = (&'a str, Value<'a>);

/// A recording opened for reading; nothing can be written through it.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    /// By which SQLite can open it for reading once more.
    uri: String,
    is_being_recorded: bool,
    /// Dropped after the connection.
    _log: Option<KeptLog>,
}

/// The log that a recorder could not fold in at its end, because this reader held it.
struct KeptLog(PathBuf);

impl Drop for KeptLog {
    fn drop(&mut self) {
        // Who may not write, or is not the last reader, leaves it to the next.
        let _ = fold_left_log(&self.0);
    }
}

impl Reader {
    /// Opens a recording.
    ///
    /// # Errors
    /// When there is none, it is something else, newer, incomplete or damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut reader = Self::open_unchecked(path)?;
        check_schema(&reader.connection, path)?;
        reader._log = Some(KeptLog(path.to_owned()));
        Ok(reader)
    }

    /// Opens one whose tables may be anything, and of whose files nothing is changed.
    ///
    /// # Errors
    /// When there is none, it is something else, newer, or SQLite cannot open it.
    pub(super) fn open_unchecked(path: &Path) -> Result<Self, StoreError> {
        let is_being_recorded = check_for_reading(path)?;
        let error = |e| StoreError::sqlite(path, "open", e);
        let (connection, uri) = open_connection(path, is_being_recorded).map_err(error)?;
        add_functions(&connection).map_err(error)?;
        check_version(&connection, path)?;
        Ok(Self { connection, path: path.to_owned(), uri, is_being_recorded, _log: None })
    }

    /// Opens more readers of this file. As long as they live they see it as it was at one moment, the same
    /// for all of them.
    ///
    /// # Errors
    /// When it cannot be opened so often.
    pub fn alike(&self, count: usize) -> Result<Vec<Self>, StoreError> {
        let open = |_| -> rusqlite::Result<Self> {
            let connection = connect(&self.uri, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            add_functions(&connection)?;
            let (path, uri) = (self.path.clone(), self.uri.clone());
            let is_being_recorded = self.is_being_recorded;
            Ok(Self { connection, path, uri, is_being_recorded, _log: None })
        };
        let readers = (0..count).map(open).collect::<Result<Vec<_>, _>>();
        let readers = readers.map_err(|e| StoreError::sqlite(&self.path, "open", e))?;
        let versions = || -> rusqlite::Result<Vec<i64>> {
            let version = |reader: &Self| {
                reader.connection.pragma_query_value(None, "data_version", |row| row.get(0))
            };
            readers.iter().map(version).collect()
        };
        let look_at_once = || -> rusqlite::Result<()> {
            loop {
                // It changes with what another connection commits: where all have the same before the first
                // begins to look and after the last one has, there was nothing in between.
                let before = versions()?;
                readers.iter().try_for_each(|reader| reader.connection.execute_batch("BEGIN"))?;
                if versions()? == before {
                    return Ok(());
                }
                readers.iter().try_for_each(|reader| reader.connection.execute_batch("COMMIT"))?;
            }
        };
        look_at_once().map_err(|e| self.error(e))?;
        Ok(readers)
    }

    /// From here on whatever is asked of it fails once the flag is raised.
    ///
    /// # Errors
    /// When SQLite does not take it.
    pub fn stopped_by(mut self, flag: &Arc<AtomicBool>) -> Result<Self, StoreError> {
        stop_when(&mut self.connection, flag).map_err(|e| self.error(e))?;
        Ok(self)
    }

    /// Whether a recorder wrote to it when it was opened.
    pub fn is_being_recorded(&self) -> bool {
        self.is_being_recorded
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, "read", source)
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
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
        each: impl FnMut(&[Value<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let error = |e| E::from(StoreError::sqlite(&self.path, "read", e));
        let mut statement = self.bound(sql, parameters).map_err(error)?;
        each_row(statement.raw_query(), error, each)
    }

    /// Adds up the rows of a query by socket, which is its first column: queries that are run after that
    /// are told by `seen_of(socket_id, 'max_rtt_us')`, a column by its name. Of counts it is the sum, of
    /// all else the greatest.
    ///
    /// # Errors
    /// Of the query.
    pub fn add_up(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        let add_up = || tell_of(&self.connection, Seen::read(&mut self.bound(sql, parameters)?)?);
        add_up().map_err(|e| self.error(e))
    }

    fn bound(&self, sql: &str, parameters: &[Parameter<'_>]) -> rusqlite::Result<Statement<'_>> {
        let mut statement = self.connection.prepare(sql)?;
        for (name, value) in parameters {
            if let Some(index) = statement.parameter_index(name)? {
                match *value {
                    Value::Null => statement.raw_bind_parameter(index, None::<i64>),
                    Value::Integer(v) => statement.raw_bind_parameter(index, v),
                    Value::Real(v) => statement.raw_bind_parameter(index, v),
                    Value::Text(v) => statement.raw_bind_parameter(index, v),
                    Value::Bytes(v) => statement.raw_bind_parameter(index, v),
                }?;
            }
        }
        Ok(statement)
    }

    /// Runs SQL that someone typed: a query, which may change nothing. Hands over the names of its
    /// columns with each row, and gives them.
    ///
    /// # Errors
    /// When it is something else, or wrong; of the query, or the first of `each`.
    pub fn run_typed<E: From<StoreError>>(
        &self,
        sql: &str,
        mut each: impl FnMut(&[String], &[Value<'_>]) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let wrong = |e: rusqlite::Error| E::from(StoreError::typed(&self.path, e));
        let mut statement = self.connection.prepare(sql).map_err(wrong)?;
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(StoreError::NoQuery.into());
        }
        if statement.parameter_count() > 0 {
            return Err(StoreError::TypedWrong { message: "it has parameters".to_owned() }.into());
        }
        let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
        each_row(statement.raw_query(), wrong, |row| each(&names, row))?;
        Ok(names)
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

/// Hands over rows one by one.
fn each_row<E>(
    mut rows: Rows<'_>,
    error: impl Fn(rusqlite::Error) -> E,
    mut each: impl FnMut(&[Value<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(row) = rows.next().map_err(&error)? {
        let width = row.as_ref().column_count();
        let mut values = Vec::with_capacity(width);
        for i in 0..width {
            values.push(match row.get_ref(i).map_err(&error)? {
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

/// What a query decides of a row and uses in many places it looks up in a table of this connection alone: SQLite
/// works it out once a row, and not at all where nobody asks for it.
const TRUTH: &str = "CREATE TEMP TABLE truth (is_so INTEGER PRIMARY KEY) STRICT;
    INSERT INTO temp.truth (is_so) VALUES (0), (1);";

/// Opens it for reading only, whatever the flags allow.
fn connect(uri: &str, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    distrust(&connection)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(TRUTH)?;
    connection.pragma_update(None, "query_only", true)?;
    user_version(&connection)?; // the first read of the file
    Ok(connection)
}

/// Also gives the URI by which it can be opened for reading from now on.
fn open_connection(path: &Path, is_being_recorded: bool) -> rusqlite::Result<(Connection, String)> {
    let open = |uri: String| connect(&uri, OpenFlags::SQLITE_OPEN_READ_ONLY).map(|c| (c, uri));
    let uri = file_uri(path);
    let read_only = format!("{uri}?mode=ro");
    match open(read_only.clone()) {
        // A transaction that a crash cut short is to be taken back, which takes writing.
        Err(e) if is_cut_short(&e) => {
            Ok((connect(&uri, OpenFlags::SQLITE_OPEN_READ_WRITE)?, read_only))
        }
        // A recording that was not ended cleanly wants its -shm file, which a read-only directory
        // or a full disk does not take. Without a log there is nothing to miss.
        Err(e) if is_refused_a_file(&e) && !has_log(path) && !is_being_recorded => {
            open(format!("{read_only}&immutable=1"))
        }
        result => result,
    }
}

fn is_refused_a_file(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| {
        e.code == ErrorCode::CannotOpen
            || e.extended_code == ffi::SQLITE_READONLY_DIRECTORY
            || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    })
}

fn is_cut_short(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}
