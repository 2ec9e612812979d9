//! `sockrec copy`

use super::Exit;
use super::args::CopyArgs;
use super::extract::kib;
use super::message::note;
use super::signals::stop_at_signals;
use crate::store::Reader;

pub(super) fn run(args: &CopyArgs) -> anyhow::Result<Exit> {
    let reader = Reader::open(&args.file)?.stopped_by(&stop_at_signals()?)?;
    reader.copy(&args.output)?;
    let state = if reader.is_being_recorded() { ", as it was at one moment" } else { "" };
    note(&format!("`{}` is a copy of {}{state}", args.output.display(), kib(&args.output)));
    Ok(Exit::Fine)
}
