//! Files that cannot be a stream.

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
