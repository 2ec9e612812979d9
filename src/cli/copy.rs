//! `sockrec copy`

use super::Exit;
use super::args::CopyArgs;
use super::extract::{kib, stop_at_signals};
use super::message::note;
use crate::store::Reader;

pub(super) fn run(args: &CopyArgs) -> anyhow::Result<Exit> {
    let reader = Reader::open(&args.file)?;
    stop_at_signals(reader.stopper())?;
    reader.copy(&args.output)?;
    let state = if reader.is_being_recorded() { ", as it was at one moment" } else { "" };
    note(&format!("`{}` is a copy of {}{state}", args.output.display(), kib(&args.output)));
    Ok(Exit::Fine)
}
