//! `sockrec mark`

use super::Exit;
use super::args::MarkArgs;
use super::message::{note, usage, warn};
use super::moment::{SPAN_END, is_moment, parse_moment};
use super::output::{anchor, rfc3339};
use crate::kernel::{SystemClock, host_facts};
use crate::model::{BootMoment, Clocks, HostFacts, Mark, MarkPart, Marked};
use crate::query::Recording;
use crate::render::human::{Zone, time, visible};
use crate::store::write_marker;

/// Characters of a name at most: it stands in a column of tables.
const LONGEST_NAME: usize = 200;

pub(super) fn run(args: &MarkArgs) -> anyhow::Result<Exit> {
    let now = SystemClock.now();
    let recording = Recording::open(&args.file)?;
    let anchor = anchor(&recording)?;
    let name = valid_name(&args.name, |text| is_moment(text, anchor))?;
    let part = match (args.start, args.end) {
        (true, _) => MarkPart::Start,
        (_, true) => MarkPart::End,
        _ => MarkPart::Moment,
    };
    let (utc_ns, boot) = match &args.at {
        Some(text) => (parse_moment(text, anchor)?, None),
        // Who cannot know the boot still knows the time.
        None => (now.utc_ns, host_facts().ok().map(|host| boot_moment(host, now))),
    };
    let outside = outside(&recording, utc_ns)?;
    drop(recording);
    let mark = Mark { name, part, utc_ns, boot };
    let name = &mark.name;
    match write_marker(&args.file, &mark)? {
        Marked::Written { left_open_ns } => {
            if let Some(started_at_ns) = left_open_ns {
                let began = time(started_at_ns, Zone::Local);
                warn(&format!("the span `{name}` of {began} was never ended; this is another one"));
            }
            outside.iter().for_each(|text| note(text));
            Ok(Exit::Fine)
        }
        Marked::NoOpenSpan => Err(usage(
            format!("no span `{name}` waits for its end in `{}`", args.file.display()),
            Some("`sockrec mark --start NAME` begins one; `sockrec query markers` lists them"),
        )),
        Marked::EndsBeforeStart { started_at_ns } => Err(usage(
            format!("the span `{name}` began only at {}", rfc3339(started_at_ns)),
            Some("it cannot end before that"),
        )),
    }
}

fn boot_moment(host: HostFacts, now: Clocks) -> BootMoment {
    BootMoment { boot_uuid: host.boot_uuid, boottime_ns: now.boottime_ns }
}

/// A name that can be told from times, and shown in one line.
fn valid_name(text: &str, is_time: impl Fn(&str) -> bool) -> anyhow::Result<String> {
    let name = text.trim();
    let refuse = |why: &str, hint| {
        Err(usage(format!("`{}` cannot name a marker: {why}", visible(name)), hint))
    };
    if name.is_empty() {
        return refuse("it is empty", Some("as in `sockrec mark 'failover begins'`"));
    }
    if name.chars().count() > LONGEST_NAME {
        return refuse("it is longer than 200 characters", None);
    }
    if name.chars().any(char::is_control) {
        return refuse("it holds control characters", None);
    }
    if is_time(name) {
        let hint = "names stand where times do; `--at TIME` says when it was";
        return refuse("it would be read as a time", Some(hint));
    }
    if name.ends_with(SPAN_END) {
        return refuse("`NAME:end` is the end of the span NAME", Some("`--end NAME` marks it"));
    }
    Ok(name.to_owned())
}

/// A marker where nothing was recorded is allowed, but perhaps not meant.
fn outside(recording: &Recording, utc_ns: i64) -> anyhow::Result<Option<String>> {
    let zone = Zone::Local;
    Ok(match recording.span()? {
        None => Some("the recording holds no snapshot yet".to_owned()),
        Some(span) if utc_ns < span.from_ns => {
            let from = time(span.from_ns, zone);
            Some(format!("nothing was recorded then: the recording begins at {from}"))
        }
        Some(span) if utc_ns > span.to_ns && !recording.is_being_recorded() => {
            let to = time(span.to_ns, zone);
            Some(format!("nothing is being recorded: the recording ends at {to}"))
        }
        Some(_) => None,
    })
}
