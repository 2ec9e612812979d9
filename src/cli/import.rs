//! `sockrec import`

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::Exit;
use super::args::ImportArgs;
use super::message::{note, say, usage, warn};
use super::moment::{Anchor, parse_moment};
use super::output::counted;
use crate::foreign::{Contents, Import, LeftOut};
use crate::kernel::SystemClock;
use crate::model::{Capture, HostFacts, NamespaceFacts, Source};
use crate::record::{Progress, RecordError, replay};
use crate::render::human::bytes;
use crate::store::Writer;

/// What an import was asked to do, as it stands in the recording.
#[derive(Serialize)]
struct Options<'a> {
    files: Vec<&'a Path>,
    at_ns: Option<i64>,
    events: bool,
    owners: bool,
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<Exit> {
    let at_ns = args.at.as_deref().map(moment).transpose()?;
    let import = Import::open(&args.files, at_ns).map_err(RecordError::from)?;
    check_at(args, &import)?;
    let contents = match import.survey() {
        Ok(contents) => contents,
        Err(e) => return Err(RecordError::from(e).into()),
    };
    let options = Options {
        files: args.files.iter().map(AsRef::as_ref).collect(),
        at_ns,
        events: contents.events > 0,
        owners: false,
    };
    let capture = Capture {
        source: Source::Import,
        host: HostFacts {
            boot_uuid: match &args.boot_id {
                Some(id) => format!("import:{id}"),
                None => uuid::Uuid::new_v4().to_string(),
            },
            host_name: args.host.clone(),
            machine_id_hash: None,
            kernel_release: args.kernel.clone(),
            architecture: None,
        },
        namespace: NamespaceFacts { cookie: None, inode: None, name: None, local_ports: None },
        options: serde_json::to_string(&options).context("could not note the options")?,
        interval_ns: None,
        started: contents.started,
    };
    let writer = Writer::open(&args.output)?;
    let summary = replay(&import, &contents, &capture, writer, &mut |_| {})?;
    tell_left_out(&contents.left_out);
    let failed = summary.progress.failed_dumps;
    if failed > 0 {
        warn(&format!(
            "dumps broke off or were interrupted ({failed}): what they did not show is held as last \
             observed"
        ));
    }
    if !args.quiet {
        summarise(args, &contents, &summary.progress);
    }
    let has_gaps = failed > 0 || contents.left_out.is_gap();
    Ok(if has_gaps { Exit::Gaps } else { Exit::Fine })
}

fn moment(text: &str) -> anyhow::Result<i64> {
    let now_ns = SystemClock.now().utc_ns;
    parse_moment(text, Anchor { now_ns, recorded_ns: None, after_ns: None, recording: None })
}

/// `--at` is for the one file that tells no time.
fn check_at(args: &ImportArgs, import: &Import) -> anyhow::Result<()> {
    let what = match import.raw_files() {
        _ if args.at.is_none() => return Ok(()),
        1 => return Ok(()),
        0 => "`--at` is of no use: captures tell the time of each packet",
        _ => "`--at` gives the time of one snapshot, and several were given",
    };
    Err(usage(what, Some("leave it out; raw netlink is then of the last change of its file")))
}

fn summarise(args: &ImportArgs, contents: &Contents, progress: &Progress) {
    let events = match contents.events {
        0 => String::new(),
        n => format!(" and {}", counted(n, "destroy event")),
    };
    say(&format!(
        "imported {}{events} as {} with {}; `{}` has {}",
        counted(contents.dumps, "dump"),
        counted(progress.snapshots, "snapshot"),
        counted(progress.samples, "sample"),
        args.output.display(),
        bytes(progress.file_bytes.cast_signed()),
    ));
}

fn tell_left_out(left_out: &LeftOut) {
    let gaps = [
        (left_out.files_cut, "the ends of files that are cut"),
        (left_out.files_damaged, "the rest of files that make no sense from some place on"),
        (left_out.packets_lost, "packets that were lost while capturing, as the capture says"),
        (left_out.packets_cut, "the ends of packets (`tcpdump -s 0` captures all)"),
        (left_out.packets_unreadable, "packets that make no sense"),
        (left_out.packets_timeless, "packets without a time that can be stored"),
        (left_out.packets_of_other_byte_order, "packets from a machine of the other byte order"),
        (left_out.messages_unreadable, "messages that make no sense"),
        (left_out.dumps_without_request, "dumps of an unknown protocol: their request is missing"),
        (left_out.dumps_of_other_protocols, "dumps of protocols that are not recorded"),
        (left_out.look_ups, "look-ups of a single socket"),
    ];
    for (count, what) in gaps {
        if count > 0 {
            warn(&format!("left out: {what} ({count})"));
        }
    }
    if left_out.other_dumps > 0 {
        let count = counted(left_out.other_dumps, "dump");
        note(&format!("{count} of unix, packet and other sockets, which are never recorded"));
    }
}
