//! `sockrec extract`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Exit;
use super::anonymize::key;
use super::args::ExtractArgs;
use super::lacks::note_limits;
use super::message::note;
use super::output::{anchor, counted, explain_empty, rfc3339, selection};
use super::signals::{stop_at_signals, unless_stopped};
use crate::kernel::SystemClock;
use crate::query::{Question, Recording, Selection};
use crate::render::human::Zone;
use crate::store::{Before, NewRecording, Taken};

pub(super) fn run(args: &ExtractArgs) -> anyhow::Result<Exit> {
    let stop = stop_at_signals()?;
    unless_stopped(extract(args, &stop), &stop, &args.output)
}

fn extract(args: &ExtractArgs, stop: &Arc<AtomicBool>) -> anyhow::Result<Exit> {
    let recording = Recording::open(&args.file)?.stopped_by(stop)?;
    let chosen =
        selection(Question::Connections, &args.select, &args.filter, &[], anchor(&recording)?)?;
    recording.columns(Question::Connections, &chosen)?; // what the filter names is there
    note_limits(&recording, Question::Connections, &chosen)?;
    let key = key(&args.anonymize, &[])?;
    let new = NewRecording::create(&args.output)?.stopped_by(stop)?;
    let before = if args.mergeable { Before::Everyone } else { Before::WhoIsThere };
    let words = words(&chosen, before);
    let now_ns = SystemClock.now().utc_ns;
    match recording.extract(&chosen, words.as_deref(), before, now_ns, key.as_deref(), new)? {
        Some(taken) => {
            let Taken { snapshots, sockets, samples } = taken;
            note_made(
                &args.output,
                &[(snapshots, "snapshot"), (sockets, "socket"), (samples, "sample")],
            );
            Ok(Exit::Fine)
        }
        None => {
            explain_empty(&recording, &chosen, Zone::Local)?;
            Ok(Exit::Failed)
        }
    }
}

/// Says what a recording holds that was made of others: so many of each of these.
pub(super) fn note_made(path: &Path, counts: &[(i64, &str)]) {
    let counts: Vec<_> = counts.iter().map(|&(rows, what)| counted(rows, what)).collect();
    let (last, others) = counts.split_last().map_or(("", &[][..]), |(last, rest)| (last, rest));
    let others = others.join(", ");
    note(&format!("`{}` holds {others} and {last} in {}", path.display(), kib(path)));
}

pub(super) fn kib(path: &Path) -> String {
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    format!("{} KiB", bytes.div_ceil(1_024))
}

/// By what sockets were chosen, `None` if all are wanted.
fn words(selection: &Selection, before: Before) -> Option<String> {
    let sockets = &selection.sockets;
    let list = |names: Vec<&str>| (!names.is_empty()).then(|| names.join(" or "));
    let number = |name, number: Option<String>| number.map(|number| format!("{name} {number}"));
    let order: Vec<_> = selection
        .sort
        .iter()
        .map(|key| format!("{}{}", key.column, if key.is_descending { ":desc" } else { "" }))
        .collect();
    // Those that had ended before are missing in the snapshots that the first state rests on.
    let from = selection.from_ns.filter(|_| before == Before::WhoIsThere);
    let words: Vec<_> = [
        from.map(|ns| format!("what was there from {} on", rfc3339(ns))),
        list(sockets.protocols.iter().map(|protocol| protocol.name()).collect()),
        list(sockets.families.iter().map(|family| family.name()).collect()),
        list(sockets.states.iter().map(String::as_str).collect()),
        number("socket", sockets.socket_id.map(|n| n.to_string())),
        number("cookie", sockets.cookie.map(|n| n.to_string())),
        number("inode", sockets.inode.map(|n| n.to_string())),
        selection.filter.as_ref().map(ToString::to_string),
        selection.limit.map(|n| match order.is_empty() {
            true => format!("the first {n}"),
            false => format!("the first {n} by {}", order.join(", ")),
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!words.is_empty()).then(|| words.join(", "))
}
