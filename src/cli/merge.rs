//! `sockrec merge`

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Exit;
use super::args::MergeArgs;
use super::extract::note_made;
use super::message::{note, usage};
use super::signals::{stop_at_signals, unless_stopped};
use crate::kernel::SystemClock;
use crate::query::{Recording, Selection};
use crate::store::{Before, Merged, NewRecording, Reader};

pub(super) fn run(args: &MergeArgs) -> anyhow::Result<Exit> {
    let stop = stop_at_signals()?;
    unless_stopped(merge(args, &stop), &stop, &args.output)
}

fn merge(args: &MergeArgs, stop: &Arc<AtomicBool>) -> anyhow::Result<Exit> {
    let files = distinct(&args.files);
    if files.len() < 2 {
        return Err(usage(
            format!("there is nothing to merge with `{}`", args.files[0].display()),
            Some("name two recordings or more; `sockrec copy` copies one"),
        ));
    }
    let mut parts = Vec::new();
    let mut sources = Vec::new();
    for path in files {
        let source = Reader::open(path)?;
        if source.integer(IS_REDUCED, &[])?.is_none() {
            sources.push(source);
            continue;
        }
        let part = Part(unused_name(&args.output, parts.len()));
        part.take(path, stop)?;
        sources.push(Reader::open(&part.0)?);
        parts.push(part);
    }
    let new = NewRecording::create(&args.output)?.stopped_by(stop)?;
    let merged = new.merge(&sources, SystemClock.now().utc_ns)?;
    note_made(&args.output, &counts(&merged));
    Ok(Exit::Fine)
}

/// What such a recording holds.
pub(super) fn counts(merged: &Merged) -> [(i64, &'static str); 4] {
    let Merged { captures, snapshots, sockets, samples } = *merged;
    [(captures, "capture"), (snapshots, "snapshot"), (sockets, "socket"), (samples, "sample")]
}

/// Whether what it says of its sockets counts rows that are not there.
const IS_REDUCED: &str = "
    SELECT 1 FROM dropped_spans UNION ALL SELECT 1 FROM groups WHERE thinned_to_ns IS NOT NULL LIMIT 1";

/// What is held of a recording of which the beginning was dropped or that was thinned, as one of its own for a while.
struct Part(PathBuf);

impl Part {
    fn take(&self, whole: &Path, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
        let new = NewRecording::create(&self.0)?.stopped_by(stop)?;
        let everything = Selection::default();
        let now_ns = SystemClock.now().utc_ns;
        Recording::open(whole)?.extract(&everything, None, Before::Everyone, now_ns, None, new)?;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = fs::remove_file(&self.0);
    }
}

fn unused_name(output: &Path, number: usize) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}-{number}.held", std::process::id()));
    PathBuf::from(name)
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
