//! What can go wrong with a recording, and what to do about it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ffi::{self, ErrorCode};

use super::file::has_log;

/// Why a recording cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no recording `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The directory for a new recording is not there.
    #[error("could not create `{}`: the directory `{}` does not exist", path.display(), directory.display())]
    DirectoryMissing {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("could not open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process may have no more files open.
    #[error("could not open `{}`: too many files are open", path.display())]
    NoDescriptors {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is not a sockrec recording: {why}", path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: &'static str,
    },
    /// The file is of a later version of this program.
    #[error("could not open `{}`: schema version {found} is newer than this sockrec supports ({supported})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        supported: i64,
    },
    /// There is a file of the name that a new one was to have.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A signal came before a new recording was whole.
    #[error("stopped by a signal: `{}` was not made", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// A recorder goes on writing to what is to be merged.
    #[error("`{}` is being recorded to: it is not at rest", path.display())]
    StillRecorded {
        /// The file.
        path: PathBuf,
    },
    /// Two files have the same snapshots of one recording, and other sockets of them.
    #[error(
        "`{}` and `{}` hold the same snapshots of one recording, with sockets chosen in different ways",
        other.display(), path.display()
    )]
    OtherSockets {
        /// A file.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Its rows have numbers that no recorder comes to, so that others cannot be numbered after them.
    #[error("`{}` has rows with numbers that no recorder comes to: nothing can be added to them", path.display())]
    Misnumbered {
        /// The file.
        path: PathBuf,
    },
    /// Another recorder writes to the file.
    #[error("`{}` is being recorded to by another sockrec", path.display())]
    AlreadyRecording {
        /// The file.
        path: PathBuf,
    },
    /// A table, view or index that belongs to the format is not there.
    #[error("`{}` lacks the {kind} `{name}`", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// `table`, `view` or `index`.
        kind: String,
        /// What is missing.
        name: String,
    },
    /// One that belongs to the format is another.
    #[error("`{}` has another {kind} `{name}` than a recording", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// `table`, `view` or `index`.
        kind: String,
        /// Which.
        name: String,
    },
    /// Something is there that does not belong to the format.
    #[error("`{}` holds the {kind} `{name}`, which is of no recording", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `table`, `view`, `index` or `trigger`.
        kind: String,
        /// Which.
        name: String,
    },
    /// Another user may have put it there for whoever opens it.
    #[error("`{}` is {what} that another user (uid {uid}) put into a directory where anyone may", path.display())]
    Planted {
        /// The file, or one beside it.
        path: PathBuf,
        /// `a link` or `a file`.
        what: &'static str,
        /// Whose it is.
        uid: u32,
    },
    /// Its name leads to it no longer.
    #[error("`{}` was moved or removed while it was recorded", path.display())]
    Moved {
        /// Where it was.
        path: PathBuf,
    },
    /// There is no such file, or nothing in it, and a log beside it that is not empty.
    #[error("`{}` cannot be made: `{}-wal` is the log of a recording that was moved or removed", path.display(), path.display())]
    LogOfAnother {
        /// The file.
        path: PathBuf,
    },
    /// No room for what was to be written.
    #[error("no space left to write to `{}`", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// SQLite found the file to be damaged.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file may only be read.
    #[error("`{}` may not be written to", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// SQL that someone typed would do something else than ask.
    #[error("this is no query: a recording is only read here")]
    NoQuery,
    /// SQL that someone typed is wrong.
    #[error("the query is wrong: {message}")]
    TypedWrong {
        /// What SQLite says.
        message: String,
    },
    /// Something else that SQLite says.
    #[error("could not {doing} `{}`", path.display())]
    Sqlite {
        /// The operation, as an infinitive with its preposition.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if source.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::Full { path }; // no room for the -shm file
        }
        if lacks_what_every_recording_has(&source) {
            return Self::Damaged { path, source: without_query(source) };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, source }
            }
            Some(ErrorCode::CannotOpen) if lacks_descriptors() => Self::NoDescriptors { path },
            Some(ErrorCode::ReadOnly) if is_moved(&source) => Self::Moved { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, source },
            _ => Self::Sqlite { doing, path, source: without_query(source) },
        }
    }

    /// What went wrong with SQL that someone typed: mostly that SQL.
    pub(super) fn typed(path: &Path, source: rusqlite::Error) -> Self {
        let message = match &source {
            rusqlite::Error::SqliteFailure(e, Some(message))
                if e.code == ErrorCode::Unknown && e.extended_code == ffi::SQLITE_ERROR =>
            {
                message.clone()
            }
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            rusqlite::Error::MultipleStatement => "it is more than one statement".to_owned(),
            _ => return Self::sqlite(path, "read", source),
        };
        Self::TypedWrong { message }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoQuery => "begin it with SELECT, VALUES or WITH".to_owned(),
            Self::TypedWrong { .. } => {
                "`sockrec query schema` lists the tables, views and columns".to_owned()
            }
            Self::Missing { path } => format!(
                "record one with `sockrec record -o {}`, or name another with `-f FILE`",
                path.display()
            ),
            Self::DirectoryMissing { directory, .. } => {
                format!("create it with `mkdir -p {}`", directory.display())
            }
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "recordings are for their owner only: run as that user; to record, choose a file in a \
                 directory that you may write to"
                    .to_owned()
            }
            Self::NoDescriptors { .. } => DESCRIPTOR_HINT.to_owned(),
            Self::NotARecording { .. } => {
                "it was left untouched; choose another file name".to_owned()
            }
            Self::Newer { .. } => {
                "upgrade sockrec, or read the file with the version that wrote it".to_owned()
            }
            Self::Exists { .. } => {
                "nothing is written over: choose another name with `-o FILE`".to_owned()
            }
            Self::StillRecorded { path } => format!(
                "merge it once that has ended, or a copy of what is there: `sockrec copy -f {} -o FILE`",
                path.display()
            ),
            Self::OtherSockets { .. } => {
                "extract both parts with the same options, or merge the recording itself".to_owned()
            }
            Self::AlreadyRecording { .. } => {
                "record to another file with `-o FILE`; queries may read this one meanwhile"
                    .to_owned()
            }
            Self::Full { .. } => {
                "what was recorded before is kept; make room, or record to another disk with \
                 `-o FILE`"
                    .to_owned()
            }
            Self::Damaged { path, .. } => salvage_hint(path),
            Self::Incomplete { .. } | Self::Altered { .. } | Self::Foreign { .. } => {
                "the file was damaged, changed by something else than sockrec, or made to deceive; \
                 `sockrec check` tells more"
                    .to_owned()
            }
            Self::Misnumbered { .. } => {
                "the file was damaged, changed by something else than sockrec, or made to deceive; \
                 it can still be read"
                    .to_owned()
            }
            Self::Planted { .. } => {
                "choose a directory of your own, or name the file itself where it is a link"
                    .to_owned()
            }
            Self::Moved { path } if has_log(path) => format!(
                "the last part of what was stored is in `{0}-wal`: move that along, as the new name with \
                 `-wal` behind it",
                path.display()
            ),
            Self::Moved { .. } => "where it went it holds what was stored".to_owned(),
            Self::LogOfAnother { path } => format!(
                "it holds what that lacks: move it beside that, as its name with `-wal` behind it; or \
                 delete `{}-wal` if that is gone",
                path.display()
            ),
            Self::ReadOnly { .. } => {
                "check the permissions of the file, its directory and its file system".to_owned()
            }
            Self::Sqlite { source, .. }
                if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
            {
                "another program holds it locked; try again when that has ended".to_owned()
            }
            Self::Sqlite { path, source, .. }
                if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) =>
            {
                let file = path.display();
                format!(
                    "its log `{file}-wal` cannot be used here; copy both files to a directory that \
                     you may write to"
                )
            }
            Self::Sqlite { source, .. }
                if source.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) =>
            {
                "what was recorded before is kept; a quota, a limit of file sizes (`ulimit -f`) or \
                 a failing disk may be the cause"
                    .to_owned()
            }
            Self::Open { .. } | Self::Sqlite { .. } | Self::Stopped { .. } => return None,
        })
    }
}

/// What to do where there are too few descriptors.
pub const DESCRIPTOR_HINT: &str =
    "raise the limit of descriptors: `ulimit -n` of a shell, `LimitNOFILE=` of a unit";

/// What to do about a file that is damaged.
pub fn salvage_hint(path: &Path) -> String {
    format!("copy what can still be read with `sockrec salvage {} -o saved.db`", path.display())
}

/// Every query here fits every recording: a table or column that is not there was lost.
fn lacks_what_every_recording_has(error: &rusqlite::Error) -> bool {
    let message = match error {
        rusqlite::Error::SqlInputError { msg, .. } => Some(msg),
        rusqlite::Error::SqliteFailure(_, message) => message.as_ref(),
        _ => None,
    };
    message.is_some_and(|message| message.starts_with("no such "))
}

/// The text of a query says nothing to who did not write it.
fn without_query(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            rusqlite::Error::SqliteFailure(error, Some(msg))
        }
        other => other,
    }
}

fn is_moved(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_READONLY_DBMOVED)
}

/// SQLite does not say why it could not open a file; of the three that it has it may have closed some
/// again.
fn lacks_descriptors() -> bool {
    let three: io::Result<Vec<File>> = (0..3).map(|_| File::open("/dev/null")).collect();
    three.is_err_and(|e| e.raw_os_error() == Some(libc::EMFILE))
}
