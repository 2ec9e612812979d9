//! Files that cannot be a stream, or not be written over.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// A recording, to be read or to be written.
pub(super) fn recording() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        no_stream(path, "a recording is a database, which neither stdin nor stdout can be")
    })
}

/// Refuses a dash, and says why.
pub(super) fn no_stream(path: PathBuf, why: &str) -> Result<PathBuf, String> {
    if path == Path::new("-") {
        return Err(format!("{why}: name a file, or `./-` for one that is called so"));
    }
    Ok(path)
}

/// Whether a path leads to a recording, or to what SQLite keeps beside it, whatever way it is named and
/// also where that is still to be made.
pub(super) fn is_of_recording(path: &Path, recording: &Path) -> bool {
    places(recording).iter().any(|recording| {
        ["", "-wal", "-shm", "-journal"].iter().any(|ending| {
            let mut file = recording.as_os_str().to_owned();
            file.push(ending);
            is_same_file(path, Path::new(&file))
        })
    })
}

/// Whether two paths lead to one file, or would if it were there.
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    let is_same = match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let others = places(other);
    is_same || places(one).iter().any(|place| others.contains(place))
}

/// Where a path is in its real directory, and where it leads to if the kernel follows it there.
fn places(path: &Path) -> Vec<PathBuf> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let named = fs::canonicalize(directory.unwrap_or(Path::new(".")))
        .ok()
        .zip(path.file_name())
        .map(|(directory, name)| directory.join(name));
    let followed = fs::metadata(path).and_then(|_| fs::canonicalize(path));
    named.into_iter().chain(followed).collect()
}
