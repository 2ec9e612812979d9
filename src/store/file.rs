//! The file of a recording before SQLite opens it: whose it is, and who writes to it.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use super::migrate::{APPLICATION_ID, SCHEMA_VERSION};
use super::shared_dir::{Access, refuse_planted};

/// The first bytes of every SQLite file, of which only these matter here (sqlite.org/fileformat2).
const HEADER_LEN: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const USER_VERSION_OFFSET: usize = 60;
const APPLICATION_ID_OFFSET: usize = 68;

/// A look at whether someone records ([`is_being_recorded`]) holds the lock for microseconds, a
/// recorder for good: who still finds it taken after so many tries has met a recorder. Between its two
/// system calls a look may have to wait for a processor.
const LOCK_TRIES: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What a file turned out to be, without having been touched.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Nothing yet.
    Empty,
    /// A recording of a version known here.
    Recording,
}

/// What stood under the name of a recording before it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file.
    Nothing,
    /// A file without content.
    Empty,
    /// A recording.
    Recording,
}

/// Keeps every recorder out of a file as long as it lives. It must outlive SQLite's connection: closing
/// any descriptor of a file drops the POSIX locks that the process has on it.
#[derive(Debug)]
pub(super) struct RecorderLock(File);

impl RecorderLock {
    /// # Errors
    /// `WOULDBLOCK` where another one has it.
    fn take(file: File) -> Result<Self, rustix::io::Errno> {
        flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| Self(file))
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for RecorderLock {
    fn drop(&mut self) {
        let_go(&self.0);
    }
}

/// To close the file would not do: a program that another thread just starts has its descriptors, and
/// the lock with them, until it executes.
fn let_go(file: &File) {
    // There is nothing that could be done about it.
    let _ = flock(file, FlockOperation::Unlock);
}

/// Opens or creates the file for recording; tells what was there before.
pub(super) fn open_for_recording(path: &Path) -> Result<(RecorderLock, Found), StoreError> {
    check_directory(path)?;
    let mut is_made = false;
    for _ in 0..LOCK_TRIES {
        refuse_planted(path, Access::Write)?;
        refuse_log_of_another(path)?;
        is_made |= matches!(path.try_exists(), Ok(false));
        match RecorderLock::take(open_or_make(path)?) {
            // Who made it may have come to nothing, and removed it again.
            Ok(lock) if !is_at(path, lock.file()) => {}
            Ok(lock) => {
                let found = match content(path, lock.file())? {
                    Content::Recording => Found::Recording,
                    Content::Empty if is_made => Found::Nothing,
                    Content::Empty => Found::Empty,
                };
                return Ok((lock, found));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
            Err(e) => return Err(open_error(path, e.into())),
        }
    }
    Err(StoreError::AlreadyRecording { path: path.to_owned() })
}

fn open_or_make(path: &Path) -> Result<File, StoreError> {
    // None may come between.
    let no_link = if path.is_symlink() { 0 } else { libc::O_NOFOLLOW };
    // It shows who talked to whom: for its owner only.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_link)
        .open(path)
        .map_err(|e| open_error(path, e))?;
    if content(path, &file)? == Content::Empty {
        // One that was there already may have been made with other rights.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|e| open_error(path, e))?;
    }
    Ok(file)
}

pub(super) fn is_at(path: &Path, file: &File) -> bool {
    let ids = path.metadata().and_then(|there| Ok((there, file.metadata()?)));
    ids.is_ok_and(|(there, own)| Identity::of(&there) == Identity::of(&own))
}

/// Refuses to make a file beside the log of one that was moved: SQLite would take it for a log of the new
/// one, or remove it. Who makes a recording gives it a log only once there is something in the file.
pub(super) fn refuse_log_of_another(path: &Path) -> Result<(), StoreError> {
    let is_nothing = match path.metadata() {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    match is_nothing && has_log(path) {
        true => Err(StoreError::LogOfAnother { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Whether there is a directory to make this file in.
pub(super) fn check_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    // One that may not be looked into is not missing.
    if let Some(directory) = directory.filter(|d| matches!(d.try_exists(), Ok(false))) {
        let (path, directory) = (path.to_owned(), directory.to_owned());
        return Err(StoreError::DirectoryMissing { path, directory });
    }
    Ok(())
}

/// Keeps recorders out of a recording, unless one is there already or the file may not be written.
pub(super) fn lock_if_idle(path: &Path) -> Option<RecorderLock> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    RecorderLock::take(file).ok()
}

/// Checks that the file is a recording that can be read here; tells whether one records to it.
pub(super) fn check_for_reading(path: &Path) -> Result<bool, StoreError> {
    refuse_planted(path, Access::Read)?;
    let file = open_to_look(path).map_err(|e| open_error(path, e))?;
    match content(path, &file)? {
        Content::Recording => Ok(is_locked(&file)),
        Content::Empty => {
            Err(StoreError::NotARecording { path: path.to_owned(), why: "it is empty" })
        }
    }
}

/// Whether a recorder holds this file right now. Not to be asked by who has it open in SQLite: see
/// `RecorderLock`.
pub fn is_being_recorded(path: &Path) -> bool {
    open_to_look(path).is_ok_and(|file| is_locked(&file))
}

fn is_locked(file: &File) -> bool {
    let looked = flock(file, FlockOperation::NonBlockingLockShared);
    let_go(file);
    looked == Err(rustix::io::Errno::WOULDBLOCK)
}

/// A named pipe would otherwise wait for someone to write to it.
fn open_to_look(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// SQLite's write-ahead log of a recording.
pub(super) fn log_path(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// SQLite's index of that log.
pub(super) fn log_index_path(path: &Path) -> PathBuf {
    beside(path, "-shm")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What a recorder finds under the name of its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Bytes of the recording with its log.
    pub bytes: u64,
    /// Whether it is there no longer: it was moved, removed or replaced.
    pub is_moved: bool,
}

pub(super) fn on_disk(path: &Path, opened: Identity) -> OnDisk {
    let log_bytes = log_path(path).metadata().map_or(0, |m| m.len());
    match path.metadata() {
        Ok(found) => {
            OnDisk { bytes: found.len() + log_bytes, is_moved: Identity::of(&found) != opened }
        }
        // What may not be looked at any more may well be there.
        Err(e) => OnDisk { bytes: log_bytes, is_moved: e.kind() == io::ErrorKind::NotFound },
    }
}

/// What a recording takes on its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSizes {
    /// Bytes of the file itself.
    pub file_bytes: u64,
    /// Bytes of its log, `FILE-wal`.
    pub log_bytes: u64,
}

impl FileSizes {
    /// Bytes of both.
    pub fn bytes(self) -> u64 {
        self.file_bytes + self.log_bytes
    }
}

/// What a recording takes on its file system; 0 for what is not there.
pub fn file_sizes(path: &Path) -> FileSizes {
    let len = |path: &Path| path.metadata().map_or(0, |m| m.len());
    FileSizes { file_bytes: len(path), log_bytes: len(&log_path(path)) }
}

/// Whether a part of what was recorded stands in the log beside the file, `FILE-wal`. After a
/// clean end it does only while a reader keeps it there.
pub fn has_log(path: &Path) -> bool {
    log_path(path).metadata().is_ok_and(|m| m.len() > 0)
}

/// Room for a recording on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free for this user.
    pub free_bytes: u64,
    /// Bytes of the recording with its log.
    pub used_bytes: u64,
}

/// Room for this recording, or one that is to be made there; `None` where that cannot be told.
pub fn room(path: &Path) -> Option<Room> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    let disk = rustix::fs::statvfs(directory.unwrap_or(Path::new("."))).ok()?;
    Some(Room {
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        used_bytes: file_sizes(path).bytes(),
    })
}

/// The URI by which SQLite opens this very file: as a bare name it would take `:memory:` and
/// `file:…` for something else.
pub(super) fn file_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "file:./" });
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

fn content(path: &Path, file: &File) -> Result<Content, StoreError> {
    let metadata = file.metadata().map_err(|e| open_error(path, e))?;
    let refuse = |why| Err(StoreError::NotARecording { path: path.to_owned(), why });
    if metadata.is_dir() {
        return refuse("it is a directory");
    }
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
    if source.raw_os_error() == Some(libc::EMFILE) {
        return StoreError::NoDescriptors { path };
    }
    match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path },
        io::ErrorKind::IsADirectory => StoreError::NotARecording { path, why: "it is a directory" },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Open { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child has, from fork(2) to execve(2), what its parent has: here a second descriptor stands for it.
    #[test]
    fn a_lock_is_let_go_although_a_program_that_is_being_started_has_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rec.db");
        let (lock, found) = open_for_recording(&path).unwrap();
        assert_eq!(found, Found::Nothing);
        let _of_child = lock.file().try_clone().unwrap();
        assert!(is_being_recorded(&path));
        drop(lock);
        assert!(!is_being_recorded(&path));
        let looks = open_to_look(&path).unwrap();
        let _of_child = looks.try_clone().unwrap();
        assert!(!is_locked(&looks));
        drop(looks);
        assert!(lock_if_idle(&path).is_some());
    }
}
