//! The directory in which a salvage makes its parts: it goes with it, or, if it was killed, with the next one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, OFlags, flock, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::store::file::is_at;

const PREFIX: &str = ".sockrec-salvage-";

pub(super) struct WorkDir {
    directory: tempfile::TempDir,
    /// Locked as long as someone works in it.
    _lock: File,
}

impl WorkDir {
    /// One beside the file that is to be made, where there must be room for it.
    pub(super) fn create(output: &Path) -> io::Result<Self> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        remove_left(parent);
        loop {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            match open(directory.path()) {
                // Where there are no locks nobody takes it for one that was left.
                Ok(lock) if try_lock(&lock) != Err(Errno::WOULDBLOCK) => {
                    if is_at(directory.path(), &lock) {
                        return Ok(Self { directory, _lock: lock });
                    }
                }
                // Someone else took it for one.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Removes what salvages of this user that were killed left here. What cannot be removed stays.
fn remove_left(parent: &Path) {
    let Ok(entries) = parent.read_dir() else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(directory) = open(&entry.path()) else { continue };
        let is_own = directory.metadata().is_ok_and(|found| found.uid() == geteuid().as_raw());
        if is_own && try_lock(&directory).is_ok() {
            remove_files(&directory);
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// By the descriptor: what the path leads to may have been changed meanwhile.
fn remove_files(directory: &File) {
    for entry in Dir::read_from(directory).into_iter().flatten().flatten() {
        let _ = unlinkat(directory, entry.file_name(), AtFlags::empty());
    }
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(directory)
}

fn try_lock(directory: &File) -> Result<(), Errno> {
    flock(directory, FlockOperation::NonBlockingLockExclusive)
}
