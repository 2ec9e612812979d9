//! The file of a recording before SQLite opens it: whose it is, and who writes to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use super::migrate::{APPLICATION_ID, SCHEMA_VERSION};

/// The first bytes of every SQLite file, of which only these matter here (sqlite.org/fileformat2).
const HEADER_LEN: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const USER_VERSION_OFFSET: usize = 60;
const APPLICATION_ID_OFFSET: usize = 68;

/// What a file turned out to be, without having been touched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing yet.
    Empty,
    /// A recording of a version known here.
    Recording,
}

/// Opens or creates the file for recording, and keeps every other recorder out as long as the
/// handle lives. It must outlive SQLite's connection: closing any descriptor of a file drops the
/// POSIX locks that the process has on it.
pub(super) fn open_for_recording(path: &Path) -> Result<(File, Content), StoreError> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|d| !d.exists()) {
        let (path, directory) = (path.to_owned(), directory.to_owned());
        return Err(StoreError::DirectoryMissing { path, directory });
    }
    // It shows who talked to whom: for its owner only.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| open_error(path, e))?;
    let content = content(path, &file)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file, content)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StoreError::AlreadyRecording { path: path.to_owned() })
        }
        Err(e) => Err(open_error(path, e.into())),
    }
}

/// Checks that the file is a recording that can be read here.
pub(super) fn check_for_reading(path: &Path) -> Result<(), StoreError> {
    let file = File::open(path).map_err(|e| open_error(path, e))?;
    match content(path, &file)? {
        Content::Recording => Ok(()),
        Content::Empty => {
            Err(StoreError::NotARecording { path: path.to_owned(), why: "it is empty" })
        }
    }
}

/// Whether a recorder holds this file right now.
pub fn is_being_recorded(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

fn content(path: &Path, file: &File) -> Result<Content, StoreError> {
    let metadata = file.metadata().map_err(|e| open_error(path, e))?;
    let refuse = |why| Err(StoreError::NotARecording { path: path.to_owned(), why });
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    if metadata.len() == 0 {
        return Ok(Content::Empty);
    }
    let mut header = [0; HEADER_LEN];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return refuse("it is too short for an SQLite file");
        }
        Err(e) => return Err(open_error(path, e)),
    }
    if !header.starts_with(MAGIC) {
        return refuse("it is no SQLite file");
    }
    if be_i32(&header, APPLICATION_ID_OFFSET) != APPLICATION_ID {
        return refuse("it is an SQLite file of another application");
    }
    let found = i64::from(be_i32(&header, USER_VERSION_OFFSET));
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, supported: SCHEMA_VERSION });
    }
    Ok(Content::Recording)
}

fn be_i32(header: &[u8; HEADER_LEN], offset: usize) -> i32 {
    let mut bytes = [0; 4];
    let mut field = &header[offset..];
    match field.read_exact(&mut bytes) {
        Ok(()) => i32::from_be_bytes(bytes),
        Err(_) => 0, // cannot be: the offsets lie within the header
    }
}

fn open_error(path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path },
        io::ErrorKind::IsADirectory => StoreError::NotARecording { path, why: "it is a directory" },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Open { path, source },
    }
}
