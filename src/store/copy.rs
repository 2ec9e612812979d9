//! A copy of a recording.

use std::path::Path;

use super::StoreError;
use super::new_file::NewFile;
use super::reader::Reader;

impl Reader {
    /// Copies it, as it is at one moment, into a new file. A recorder goes on meanwhile.
    ///
    /// # Errors
    /// When there is a file of this name, or it cannot be written; then there is no copy.
    pub fn copy(&self, path: &Path) -> Result<(), StoreError> {
        let file = NewFile::create(path)?;
        // It writes no byte of this one, but SQLite counts it as a change.
        let vacuum = || -> rusqlite::Result<()> {
            self.connection().pragma_update(None, "query_only", false)?;
            let result = self.connection().execute("VACUUM INTO ?1", [file.uri()]).map(|_| ());
            self.connection().pragma_update(None, "query_only", true)?;
            result
        };
        vacuum().map_err(|e| file.error_beside(self, e))?;
        file.publish()
    }
}
