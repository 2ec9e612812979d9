//! `sockrec merge`

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Exit;
use super::args::MergeArgs;
use super::extract::{kib, stop_at_signals};
use super::message::{note, usage};
use super::output::counted;
use crate::kernel::SystemClock;
use crate::store::{NewRecording, Reader};

pub(super) fn run(args: &MergeArgs) -> anyhow::Result<Exit> {
    let files = distinct(&args.files);
    if files.len() < 2 {
        return Err(usage(
            format!("there is nothing to merge with `{}`", args.files[0].display()),
            Some("name two recordings or more; `sockrec copy` copies one"),
        ));
    }
    let sources =
        files.iter().map(|path| Reader::open(path)).collect::<Result<Vec<Reader>, _>>()?;
    let new = NewRecording::create(&args.output)?;
    stop_at_signals(new.stopper())?;
    let merged = new.merge(&sources, SystemClock.now().utc_ns)?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    note(&format!(
        "`{}` holds {}, {}, {} and {} in {}",
        args.output.display(),
        counted(number(merged.captures), "capture"),
        counted(number(merged.snapshots), "snapshot"),
        counted(number(merged.sockets), "socket"),
        counted(number(merged.samples), "sample"),
        kib(&args.output)
    ));
    Ok(Exit::Fine)
}

/// Each file once, whatever way it is named.
fn distinct(files: &[PathBuf]) -> Vec<&Path> {
    let mut seen = Vec::new();
    let mut distinct: Vec<&Path> = Vec::new();
    for path in files {
        let file = fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        if file.is_some() && seen.contains(&file) {
            note(&format!("`{}` is named twice, and taken once", path.display()));
            continue;
        }
        seen.push(file);
        distinct.push(path);
    }
    distinct
}
