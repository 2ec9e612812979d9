//! `sockrec query`: the questions that put sockets together.

use super::Exit;
use super::args::{ChurnArgs, CommonArgs, DiffArgs, LeakArgs, ListenerArgs, StateArgs};
use super::lacks::{note_lacks, note_limits, warn_gaps};
use super::live::Live;
use super::message::{note, usage, warn};
use super::moment::parse_moment;
use super::output::{
    anchor, asks_for_help, default_columns, explain_empty, options, print_columns, selection,
    stdout, with_title, zone,
};
use super::query::{named, spans_days, stream, thinning};
use crate::model::{States, TcpState};
use crate::query::{By, Question, Recording, Selection};
use crate::render::human::{Zone, time, visible};
use crate::render::{Exporter, Format, Sheet, SheetTable, exporter};

/// Connections that the table of the slowest shows.
const SLOWEST: u64 = 20;
/// Buckets that a span is cut into at most, where their length is not given.
const USUAL_BUCKETS: i64 = 60;
/// And where it is.
const MOST_BUCKETS: i64 = 1_000_000;

pub(super) fn listeners(args: &ListenerArgs) -> anyhow::Result<Exit> {
    let common = &args.common;
    if common.select.sockets.states() != States::ALL {
        let hint = "`query connections --state …` has the sockets of other states";
        return Err(usage("listeners are in state LISTEN, all of them", Some(hint)));
    }
    if args.live {
        let live = Live::ask(common, States::only(TcpState::LISTEN))?;
        note("asked the kernel: one moment, without the processes");
        return answer(&live, Question::Listeners { snapshot_id: None }, Sheet::LISTENERS);
    }
    let recording = Recording::open(&common.file)?;
    let at = args.at.as_deref().map(|text| parse_moment(text, anchor(&recording)?)).transpose()?;
    let host = common.select.host.as_deref();
    let of_host = Selection { host: common.select.host.clone(), ..Selection::default() };
    recording.check_host(Question::Listeners { snapshot_id: None }, &of_host)?;
    let mut exit = Exit::Fine;
    let mut snapshot_id = None;
    if let Some(ns) = at {
        exit = tell_of_moment(&recording, ns, host, zone(common.output.utc))?;
        let looks = recording.looks_at(ns, host)?;
        let latest = looks.iter().max_by_key(|look| look.ended_at_ns);
        snapshot_id = latest.map(|look| look.snapshot_id);
    }
    let question = Question::Listeners { snapshot_id };
    let answered = rows(&recording, |_| Ok(question), common, Sheet::LISTENERS)?;
    Ok(answered.or(exit))
}

pub(super) fn states(args: &StateArgs) -> anyhow::Result<Exit> {
    let common = &args.common;
    if common.select.sockets.states() != States::ALL {
        return Err(every_state());
    }
    if args.live {
        let live = Live::ask(common, States::ALL)?;
        let question = Question::States { bucket_ns: 1_000_000_000 };
        return answer(&live, question, Sheet::STATES);
    }
    let recording = Recording::open(&common.file)?;
    let question = |selection: &Selection| {
        Ok(Question::States { bucket_ns: bucket(&recording, selection, args.bucket)? })
    };
    rows(&recording, question, common, Sheet::STATES)
}

pub(super) fn churn(args: &ChurnArgs) -> anyhow::Result<Exit> {
    let recording = Recording::open(&args.common.file)?;
    let question = |selection: &Selection| {
        Ok(Question::Churn { bucket_ns: bucket(&recording, selection, args.bucket)? })
    };
    rows(&recording, question, &args.common, Sheet::CHURN)
}

pub(super) fn totals(by: By, sheet: Sheet, common: &CommonArgs) -> anyhow::Result<Exit> {
    rows(&Recording::open(&common.file)?, |_| Ok(Question::Totals(by)), common, sheet)
}

pub(super) fn slow(common: &CommonArgs) -> anyhow::Result<Exit> {
    let mut common = common.clone();
    let is_table = common.output.format.unwrap_or(Format::Table) == Format::Table;
    if is_table && common.select.limit.is_none() {
        common.select.limit = Some(SLOWEST);
        note(&format!("the {SLOWEST} slowest; `-n` shows more or fewer"));
    }
    rows(&Recording::open(&common.file)?, |_| Ok(Question::Slow), &common, Sheet::SLOW)
}

pub(super) fn leaks(args: &LeakArgs) -> anyhow::Result<Exit> {
    let question = Question::Leaks { longer_ns: args.longer };
    rows(&Recording::open(&args.common.file)?, |_| Ok(question), &args.common, Sheet::LEAKS)
}

pub(super) fn diff(args: &DiffArgs) -> anyhow::Result<Exit> {
    let common = &args.common;
    if common.select.from.is_some() || common.select.to.is_some() {
        let hint = "`sockrec query diff T1 T2`";
        return Err(usage("`diff` takes two moments, not `--from` and `--to`", Some(hint)));
    }
    let recording = Recording::open(&common.file)?;
    let anchor = anchor(&recording)?;
    let before_ns = parse_moment(&args.before, anchor)?;
    let after_ns = parse_moment(&args.after, anchor)?;
    if before_ns > after_ns {
        let text = format!("`{}` is after `{}`", args.before, args.after);
        return Err(usage(text, Some("swap the two moments")));
    }
    let zone = zone(common.output.utc);
    let host = common.select.host.as_deref();
    let first_exit = tell_of_moment(&recording, before_ns, host, zone)?;
    let second_exit = tell_of_moment(&recording, after_ns, host, zone)?;
    // The gaps between them matter, no others.
    let mut between = common.clone();
    between.select.from = Some(args.before.clone());
    between.select.to = Some(args.after.clone());
    let question = Question::Diff { before_ns, after_ns };
    let hosts = Selection { host: common.select.host.clone(), ..Selection::default() };
    let sheet = Sheet::DIFF.naming(named(&recording, &hosts)?);
    let answered = rows(&recording, |_| Ok(question), &between, sheet)?;
    Ok(answered.or(first_exit).or(second_exit))
}

/// What is to be minded about the snapshots that show a moment.
fn tell_of_moment(
    recording: &Recording,
    asked_ns: i64,
    host: Option<&str>,
    zone: Zone,
) -> anyhow::Result<Exit> {
    let looks = recording.looks_at(asked_ns, host)?;
    if looks.is_empty() {
        let moment = time(asked_ns, zone);
        let text = if recording.is_dropped_at(asked_ns)? {
            format!("what was recorded at {moment} was dropped to keep within a limit")
        } else {
            format!("nothing had been recorded by {moment}")
        };
        let hint = "`sockrec info` tells from when to when was recorded";
        return Err(usage(text, Some(hint)));
    }
    let mut told = Vec::new();
    for look in &looks {
        let host = match &look.host_name {
            Some(name) if looks.len() > 1 => format!("{}: ", visible(name)),
            _ => String::new(),
        };
        let notes = recording.notes_at(asked_ns, look.snapshot_id)?;
        let thinned = thinning(recording, look.snapshot_id, zone)?;
        told.extend(notes.into_iter().chain(thinned).map(|note| format!("{host}{note}")));
        let age_ns = asked_ns.saturating_sub(look.ended_at_ns);
        if look.interval_ns.is_some_and(|interval_ns| age_ns > interval_ns.saturating_mul(2)) {
            let (from, to) = (time(look.ended_at_ns, zone), time(asked_ns, zone));
            told.push(format!(
                "{host}nothing was recorded from {from} to {to}: what was there before is shown"
            ));
        }
    }
    for text in &told {
        warn(text);
    }
    Ok(if told.is_empty() { Exit::Fine } else { Exit::Gaps })
}

/// What the kernel says now.
fn answer(live: &Live, question: Question, sheet: Sheet) -> anyhow::Result<Exit> {
    live.warn();
    let recording = &live.recording;
    let chosen = chosen(recording, question, &live.common, sheet)?;
    check(recording, question, &chosen, sheet)?;
    let lacks = note_limits(recording, question, &chosen)?;
    write(recording, question, &chosen, &live.common, sheet)?;
    Ok(lacks)
}

/// Answers a question that may depend on the span that it is asked for.
fn rows(
    recording: &Recording,
    question: impl Fn(&Selection) -> anyhow::Result<Question>,
    common: &CommonArgs,
    sheet: Sheet,
) -> anyhow::Result<Exit> {
    if asks_for_help(&common.output.columns) {
        let question = question(&Selection::default())?;
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    // Which columns it has does not depend on the span.
    let of_any_span = question(&Selection::default()).unwrap_or(Question::Connections);
    let chosen = chosen(recording, of_any_span, common, sheet)?;
    let question = question(&chosen)?;
    check(recording, question, &chosen, sheet)?;
    let lacks = note_lacks(recording, question, &chosen)?;
    write(recording, question, &chosen, common, sheet)?;
    Ok(warn_gaps(recording, &chosen)?.or(lacks))
}

/// What is wrong is said before anything else is.
fn check(
    recording: &Recording,
    question: Question,
    chosen: &Selection,
    sheet: Sheet,
) -> anyhow::Result<()> {
    if let (Question::States { .. }, Some(filter)) = (question, &chosen.filter)
        && filter.states() != States::ALL
    {
        return Err(every_state());
    }
    recording.check_host(question, chosen)?;
    let columns = recording.columns(question, chosen);
    columns.map(|_| ()).map_err(|error| with_title(error.into(), |title| sheet.column_below(title)))
}

fn every_state() -> anyhow::Error {
    let hint = "`--columns from,time_wait_sockets` shows one of them";
    usage("`states` counts the sockets of every state", Some(hint))
}

fn write(
    recording: &Recording,
    question: Question,
    chosen: &Selection,
    common: &CommonArgs,
    sheet: Sheet,
) -> anyhow::Result<()> {
    let columns = recording.columns(question, chosen)?;
    let mut out = sheet_exporter(recording, common, sheet)?;
    let count = stream(recording, question, chosen, &columns, out.as_mut())?;
    if count == 0 && matches!(question, Question::Leaks { .. }) && chosen.is_open() {
        note("nothing was half closed for so long, only got more, or took a quarter of the ports");
    } else if count == 0 {
        explain_empty(recording, chosen, options(&common.output).zone)?;
    }
    Ok(())
}

/// Writes a table in this layout, or whatever was asked for instead.
pub(super) fn sheet_exporter(
    recording: &Recording,
    common: &CommonArgs,
    sheet: Sheet,
) -> anyhow::Result<Box<dyn Exporter>> {
    let (format, options) =
        (common.output.format.unwrap_or(Format::Table), options(&common.output));
    if format != Format::Table || !common.output.columns.is_empty() {
        return Ok(exporter(format, &options, stdout()));
    }
    let with_date = spans_days(recording, options.zone)?;
    Ok(Box::new(SheetTable::new(stdout(), &options, sheet, with_date)))
}

/// What the arguments choose, with the columns of this layout where a table is written.
fn chosen(
    recording: &Recording,
    question: Question,
    common: &CommonArgs,
    sheet: Sheet,
) -> anyhow::Result<Selection> {
    let format = common.output.format.unwrap_or(Format::Table);
    let columns = default_columns(format, &common.output.columns, &sheet.columns());
    let anchor = anchor(recording)?;
    selection(question, &common.select, &common.filter, &columns, anchor)
        .map_err(|error| with_title(error, |title| sheet.column_below(title)))
}

/// The length of a bucket: as given, or the shortest round one that gives few enough.
fn bucket(
    recording: &Recording,
    selection: &Selection,
    chosen_ns: Option<i64>,
) -> anyhow::Result<i64> {
    const S: i64 = 1_000_000_000;
    const ROUND_S: [i64; 17] =
        [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200];
    let span_ns = recording.span_of_ends()?.map_or(0, |span| {
        let from = selection.from_ns.map_or(span.from_ns, |from| from.max(span.from_ns));
        let to = selection.to_ns.map_or(span.to_ns, |to| to.min(span.to_ns));
        to.saturating_sub(from).max(0)
    });
    if let Some(ns) = chosen_ns {
        if span_ns / ns > MOST_BUCKETS {
            let text = format!("buckets so short would be more than {MOST_BUCKETS}");
            return Err(usage(text, Some("take longer ones, or a shorter span")));
        }
        return Ok(ns);
    }
    let enough = ROUND_S.into_iter().find(|s| span_ns / (s * S) < USUAL_BUCKETS);
    Ok(enough.map_or_else(|| 86_400 * S * (1 + span_ns / (86_400 * S * USUAL_BUCKETS)), |s| s * S))
}
