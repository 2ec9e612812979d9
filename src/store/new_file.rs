//! A recording in the making: it gets its name only when it is whole, and never that of another file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::StoreError;
use super::file::{check_directory, file_uri, refuse_log_of_another};
use super::migrate::migrate;
use super::reader::Reader;
use super::writer::open_connection;

/// A recording that is being made out of others.
pub struct NewRecording {
    pub(super) connection: Connection,
    pub(super) file: NewFile,
}

/// Steps of SQLite, some hundred of which take a microsecond, between two looks whether to stop.
const STEPS: i32 = 10_000;

/// From here on whatever the connection is doing fails once the flag is raised.
pub(super) fn stop_when(
    connection: &mut Connection,
    flag: &Arc<AtomicBool>,
) -> rusqlite::Result<()> {
    let flag = Arc::clone(flag);
    connection.progress_handler(STEPS, Some(move || flag.load(Ordering::Relaxed)))
}

impl NewRecording {
    /// Makes an empty one, which goes again unless it becomes whole.
    ///
    /// # Errors
    /// When there is a file of this name, or none can be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::create_beside(path, path)
    }

    /// One that stands beside another name of the same file system until it gets its own.
    pub(super) fn create_beside(path: &Path, other: &Path) -> Result<Self, StoreError> {
        let file = NewFile::create_beside(path, other)?;
        let make = || -> rusqlite::Result<Connection> {
            let mut connection = open_connection(&file.partial, std::time::Duration::ZERO)?;
            migrate(&mut connection)?;
            // Nobody else knows the file, and it counts only once it is whole.
            connection.pragma_update(None, "journal_mode", "OFF")?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "foreign_keys", false)?;
            Ok(connection)
        };
        let connection = make().map_err(|e| StoreError::sqlite(path, "write to", e))?;
        Ok(Self { connection, file })
    }

    /// From here on the making of it fails once the flag is raised.
    ///
    /// # Errors
    /// When SQLite does not take it.
    pub fn stopped_by(mut self, flag: &Arc<AtomicBool>) -> Result<Self, StoreError> {
        let path = &self.file.path;
        stop_when(&mut self.connection, flag)
            .map_err(|e| StoreError::sqlite(path, "write to", e))?;
        Ok(self)
    }

    /// Gives it its name, now that it is whole.
    pub(super) fn publish(self) -> Result<(), StoreError> {
        let Self { connection, file } = self;
        connection.close().map_err(|(_, e)| StoreError::sqlite(&file.path, "write to", e))?;
        file.publish()
    }

    /// Leaves it where it is, for its maker to remove, and tells where that is.
    pub(super) fn keep(self) -> Result<PathBuf, StoreError> {
        let Self { connection, mut file } = self;
        connection.close().map_err(|(_, e)| StoreError::sqlite(&file.path, "write to", e))?;
        Ok(std::mem::take(&mut file.partial))
    }

    /// Makes a recording readable beside this one, as the database `src`.
    pub(super) fn attach(&self, source: &Reader) -> rusqlite::Result<()> {
        self.connection.execute("ATTACH DATABASE ?1 AS src", [source.uri()]).map(|_| ())
    }
}

/// A file beside the one that it will become, for its owner only.
pub(super) struct NewFile {
    pub(super) path: PathBuf,
    pub(super) partial: PathBuf,
    file: File,
}

impl NewFile {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        Self::create_beside(path, path)
    }

    fn create_beside(path: &Path, other: &Path) -> Result<Self, StoreError> {
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        check_directory(path)?;
        refuse_log_of_another(path)?;
        let error = |source| StoreError::Open { path: path.to_owned(), source };
        let (partial, file) = partial_file(other).map_err(error)?;
        Ok(Self { path: path.to_owned(), partial, file })
    }

    /// Gives it its name, now that it is whole.
    pub(super) fn publish(self) -> Result<(), StoreError> {
        let path = &self.path;
        let error = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.clone() },
            io::ErrorKind::StorageFull => StoreError::Full { path: path.clone() },
            _ => StoreError::Open { path: path.clone(), source: e },
        };
        self.file.sync_all().map_err(error)?;
        rename_to_new(&self.partial, path).map_err(error)
    }

    /// By which SQLite opens it.
    pub(super) fn uri(&self) -> String {
        file_uri(&self.partial)
    }

    /// What went wrong, with this file or with the one that it is made of.
    pub(super) fn error_beside(&self, source: &Reader, e: rusqlite::Error) -> StoreError {
        if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            return StoreError::Stopped { path: self.path.clone() };
        }
        match StoreError::sqlite(source.path(), "read", e) {
            damaged @ StoreError::Damaged { .. } => damaged,
            StoreError::Sqlite { source, .. } | StoreError::ReadOnly { source, .. } => {
                StoreError::sqlite(&self.path, "write to", source)
            }
            StoreError::Full { .. } => StoreError::Full { path: self.path.clone() },
            other => other,
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Renamed, kept, or already on the way out with an error; what stays is named as partial.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Not all file systems can rename without replacing; those can link.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::hard_link(from, to),
        result => Ok(result?),
    }
}

/// A new file beside the one that it will become. Who is killed leaves his own behind, and in a
/// container the next one may well have the same process id.
///
/// # Errors
/// When none can be made.
pub fn partial_file(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut attempt: u32 = 0;
    loop {
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}-{attempt}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        // It shows who talked to whom: for its owner only.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => attempt += 1,
            result => return result.map(|file| (partial, file)),
        }
    }
}
