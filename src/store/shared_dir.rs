//! Directories in which anyone may make files, such as `/tmp`: what another user put there under the name
//! of a recording, or beside one, is not opened.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::StoreError;

/// What SQLite keeps beside a file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

const WORLD_WRITABLE: u32 = 0o002;

/// What is going to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Another user's file may be read, by its own name.
    Read,
    /// What is written is to be seen by nobody else.
    Write,
}

/// Refuses links that another user made in such a directory, files of another user that would be written
/// to, and what SQLite would take for a part of a file and is of neither its owner nor this user.
///
/// # Errors
/// When there is one.
pub fn refuse_planted(path: &Path, access: Access) -> Result<(), StoreError> {
    refuse_in_directory(path, access)?;
    // What SQLite keeps stands beside the file that a link leads to.
    match path.canonicalize() {
        Ok(target) if path.is_symlink() => refuse_in_directory(&target, access),
        _ => Ok(()),
    }
}

fn refuse_in_directory(path: &Path, access: Access) -> Result<(), StoreError> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    // Who cannot look at it cannot open anything in it either, and is told so then.
    let Ok(directory) = directory.metadata() else { return Ok(()) };
    if directory.permissions().mode() & WORLD_WRITABLE == 0 {
        return Ok(());
    }
    // Whose directory it is may do in it what he likes, as root may everywhere.
    let mut trusted = vec![0, geteuid().as_raw(), directory.uid()];
    let file = path.symlink_metadata().ok();
    if let Some(file) = &file {
        if file.is_symlink() || access == Access::Write {
            refuse(path, file, &trusted)?;
        } else {
            trusted.push(file.uid());
        }
    }
    for ending in BESIDE {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        let beside = PathBuf::from(beside);
        if let Ok(file) = beside.symlink_metadata() {
            refuse(&beside, &file, &trusted)?;
        }
    }
    Ok(())
}

fn refuse(path: &Path, file: &Metadata, trusted: &[u32]) -> Result<(), StoreError> {
    if trusted.contains(&file.uid()) {
        return Ok(());
    }
    let what = if file.is_symlink() { "a link" } else { "a file" };
    Err(StoreError::Planted { path: path.to_owned(), what, uid: file.uid() })
}
