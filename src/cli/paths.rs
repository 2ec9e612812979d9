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

/// What is written anew time and again.
pub(super) fn rewritten_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new()
        .try_map(|path| no_stream(path, "it is written anew each time, which stdout cannot be"))
}

fn no_stream(path: PathBuf, why: &str) -> Result<PathBuf, String> {
    if path == Path::new("-") {
        return Err(format!("{why}: name a file, or `./-` for one that is called so"));
    }
    Ok(path)
}

/// Whether a path leads to a recording, or to what SQLite keeps beside it, whatever way it is named and
/// also where that is still to be made.
pub(super) fn is_of_recording(path: &Path, recording: &Path) -> bool {
    let is_same_file = |other: &Path| match (fs::metadata(path), fs::metadata(other)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let places = places(path);
    self::places(recording).iter().any(|recording| {
        ["", "-wal", "-shm", "-journal"].iter().any(|ending| {
            let mut file = recording.as_os_str().to_owned();
            file.push(ending);
            let file = PathBuf::from(file);
            places.contains(&file) || is_same_file(&file)
        })
    })
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
