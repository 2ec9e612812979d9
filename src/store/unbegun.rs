//! What a start leaves that comes to nothing, as for want of descriptors: what was there before.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Found, log_index_path, log_path};
use super::log::fold_unused_log;

/// A recording that is opened, until its capture has begun: what was made for that goes with this. To be
/// let go of after SQLite's connection and before the lock.
pub(super) struct Unbegun {
    path: PathBuf,
    found: Found,
    restores: bool,
    /// A descriptor to do it with: other threads may have taken those that were left meanwhile.
    spare: Option<File>,
}

impl Unbegun {
    /// A file that is opened, which may turn out not to be one of ours.
    pub(super) fn new(path: &Path, found: Found) -> Self {
        let spare = File::open("/").ok();
        Self { path: path.to_owned(), found, restores: found != Found::Recording, spare }
    }

    /// It is a recording, and is about to get a log.
    pub(super) fn is_ours(&mut self) {
        self.restores = true;
    }

    /// What is there from now on stays.
    pub(super) fn has_begun(&mut self) {
        self.restores = false;
        self.spare = None;
    }

    fn restore(&self) -> io::Result<()> {
        if self.found == Found::Recording {
            return fold_unused_log(&self.path).map_err(io::Error::other);
        }
        // First what without the file would be the log of another.
        for path in [log_path(&self.path), log_index_path(&self.path)] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        match self.found {
            // Behind a link that leads to it.
            Found::Nothing => fs::remove_file(self.path.canonicalize()?),
            _ => OpenOptions::new().write(true).open(&self.path)?.set_len(0),
        }
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        self.spare = None;
        if self.restores {
            // On the way out with an error, which is what matters.
            let _ = self.restore();
        }
    }
}
