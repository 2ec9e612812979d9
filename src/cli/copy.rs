//! `sockrec copy`

use super::Exit;
use super::args::CopyArgs;
use super::extract::kib;
use super::message::note;
use super::signals::{stop_at_signals, unless_stopped};
use crate::store::Reader;

pub(super) fn run(args: &CopyArgs) -> anyhow::Result<Exit> {
    let stop = stop_at_signals()?;
    let reader = Reader::open(&args.file)?.stopped_by(&stop)?;
    unless_stopped(reader.copy(&args.output).map_err(Into::into), &stop, &args.output)?;
    let state = if reader.is_being_recorded() { ", as it was at one moment" } else { "" };
    note(&format!("`{}` is a copy of {}{state}", args.output.display(), kib(&args.output)));
    Ok(Exit::Fine)
}
