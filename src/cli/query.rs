//! `sockrec query`

use super::Exit;
use super::args::{CommonArgs, ConnectionArgs, QueryArgs, QuestionArgs};
use super::message::{note, usage, warn};
use super::moment::{Anchor, parse_moment};
use super::output::{
    anchor, asks_for_help, default_columns, explain_empty, note_filters, options, print_columns,
    selection, stdout,
};
use crate::model::Column;
use crate::query::{EVENT_COLUMNS, QueryError, Question, Recording, Selection, column};
use crate::render::human::{duration, time};
use crate::render::{
    ConnectionTable, Exporter, Format, ShownMoment, SocketTable, exporter, story_json, story_text,
};

const SAMPLES_TABLE: &[&str] = &[
    "taken_at",
    "socket_id",
    "protocol",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "state",
    "rqueue_bytes",
    "wqueue_bytes",
    "backlog",
    "bytes_sent",
    "bytes_received",
    "total_retrans",
    "rtt_us",
    "snd_cwnd",
];

const SNAPSHOTS_TABLE: &[&str] = &[
    "snapshot_id",
    "started_at",
    "ended_at",
    "duration_ns",
    "is_keyframe",
    "missed_ticks",
    "sockets_seen",
    "samples",
    "exceptions",
];

const COVERAGE_TABLE: &[&str] = &[
    "kind",
    "protocol",
    "family",
    "from",
    "to",
    "snapshots",
    "count",
    "complete_snapshots",
    "delta_ns",
    "message",
];

const MARKERS_TABLE: &[&str] =
    &["marker_id", "marker", "is_span", "started_at", "ended_at", "length_ns"];

pub(super) fn run(args: QueryArgs) -> anyhow::Result<Exit> {
    match args.question {
        QuestionArgs::Connections(common) => {
            rows(Question::Connections, &common, ConnectionTable::COLUMNS)
        }
        QuestionArgs::Connection(args) => connection(&args),
        QuestionArgs::Samples(common) => rows(Question::Samples, &common, SAMPLES_TABLE),
        QuestionArgs::Snapshots(common) => rows(Question::Snapshots, &common, SNAPSHOTS_TABLE),
        QuestionArgs::Coverage(common) => rows(Question::Coverage, &common, COVERAGE_TABLE),
        QuestionArgs::Markers(common) => rows(Question::Markers, &common, MARKERS_TABLE),
        QuestionArgs::At { time, info, common } => at(&time, info, &common),
    }
}

fn rows(question: Question, common: &CommonArgs, table: &[&str]) -> anyhow::Result<Exit> {
    let recording = Recording::open(&common.file)?;
    if asks_for_help(&common.output.columns) {
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    let format = common.output.format.unwrap_or(Format::Table);
    let columns = default_columns(format, &common.output.columns, table);
    let selection =
        selection(question, &common.select, &common.filter, &columns, anchor(&recording)?)?;
    let columns = recording.columns(question, &selection)?;
    let options = options(&common.output);
    let is_plain = format != Format::Table || !common.output.columns.is_empty();
    let mut out: Box<dyn Exporter> = if question == Question::Connections && !is_plain {
        let span = recording.span()?;
        let day = |ns| time(ns, options.zone).to_string().get(..10).map(str::to_owned);
        let with_date = span.is_some_and(|span| day(span.from_ns) != day(span.to_ns));
        let moment = if with_date { ShownMoment::OpenedOnDay } else { ShownMoment::Opened };
        Box::new(ConnectionTable::new(stdout(), &options, moment))
    } else {
        exporter(format, &options, stdout())
    };
    note_filters(&recording, selection.from_ns, selection.to_ns)?;
    let count = stream(&recording, question, &selection, &columns, out.as_mut())?;
    if count == 0 {
        explain_empty(&recording, &selection, options.zone)?;
    }
    Ok(Exit::Fine)
}

fn stream(
    recording: &Recording,
    question: Question,
    selection: &Selection,
    columns: &[Column],
    out: &mut dyn Exporter,
) -> Result<u64, QueryError> {
    out.begin(columns)?;
    let count = recording.answer(question, selection, |row| Ok(out.row(row)?))?;
    out.finish()?;
    Ok(count)
}

fn connection(args: &ConnectionArgs) -> anyhow::Result<Exit> {
    let chosen = &args.output.columns;
    if asks_for_help(chosen) {
        let columns: Vec<_> = EVENT_COLUMNS.iter().filter_map(|n| column(n).copied()).collect();
        print_columns(&columns)?;
        return Ok(Exit::Fine);
    }
    let format = args.output.format.unwrap_or(Format::Table);
    if !chosen.is_empty() {
        return Err(usage(
            "a story has its own columns",
            Some("`sockrec query connections --socket ID` and `query samples --socket ID` choose"),
        ));
    }
    let recording = Recording::open(&args.file)?;
    let Some(story) = recording.story(args.id)? else {
        let text = format!("there is no connection {} in `{}`", args.id, args.file.display());
        let hint = "`sockrec query connections` lists them, each with its number first";
        return Err(usage(text, Some(hint)));
    };
    note_filters(&recording, None, None)?;
    let options = options(&args.output);
    let mut out = stdout();
    match format {
        Format::Table => story_text(&mut out, &story, &options).map_err(QueryError::Output)?,
        Format::Json => story_json(&mut out, &story, &options).map_err(QueryError::Output)?,
        Format::Csv | Format::Jsonl => {
            let events = story.event_rows();
            let mut out = exporter(format, &options, out);
            let mut write = || {
                out.begin(&events.columns)?;
                events.iter().try_for_each(|row| out.row(&row.values()))?;
                out.finish()
            };
            write().map_err(QueryError::Output)?;
        }
    }
    Ok(Exit::Fine)
}

/// Behind the time stands the filter: `at 10m ago` would be the filter `ago`.
fn refuse_parted_time(text: &str, filter: &[String], anchor: Anchor<'_>) -> anyhow::Result<()> {
    let Some(next) = filter.first() else { return Ok(()) };
    let whole = format!("{text} {next}");
    if parse_moment(&whole, anchor).is_err() {
        return Ok(());
    }
    let message = format!("a time with blanks in it is one word on the command line: `{whole}`");
    Err(usage(message, Some(&format!("put it into quotes: `sockrec query at '{whole}'`"))))
}

fn at(text: &str, info: bool, common: &CommonArgs) -> anyhow::Result<Exit> {
    let recording = Recording::open(&common.file)?;
    if asks_for_help(&common.output.columns) {
        let question = Question::At { snapshot_id: 0 };
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    if common.select.from.is_some() || common.select.to.is_some() {
        return Err(usage(
            "`at` takes one moment, not `--from` and `--to`",
            Some("`sockrec query samples --from … --to …` gives what changed in a span"),
        ));
    }
    let anchor = anchor(&recording)?;
    refuse_parted_time(text, &common.filter, anchor)?;
    let asked_ns = parse_moment(text, anchor)?;
    let format = common.output.format.unwrap_or(Format::Table);
    let options = options(&common.output);
    let zone = options.zone;
    let as_ss = format == Format::Table && common.output.columns.is_empty();
    let columns = default_columns(format, &common.output.columns, &[]);
    let selection = selection(
        Question::At { snapshot_id: 0 },
        &common.select,
        &common.filter,
        &columns,
        anchor,
    )?;
    let found = recording.snapshot_at(asked_ns)?;
    let snapshot_id = found.unwrap_or(0); // of which nothing is known
    let question = Question::At { snapshot_id };
    let columns = recording.columns(question, &selection)?;
    let mut exit = Exit::Fine;
    if found.is_none() {
        exit = Exit::Gaps;
        match recording.span()? {
            Some(span) => warn(&format!(
                "nothing had been recorded by {}: the first snapshot was at {}",
                time(asked_ns, zone),
                time(span.from_ns, zone)
            )),
            None => note("the recording holds no snapshot yet"),
        }
    }
    let ended_ns = recording.ended_at(snapshot_id)?;
    if let Some(ended_ns) = ended_ns {
        note(&format!("snapshot {snapshot_id}, ended at {}", time(ended_ns, zone)));
        let age_ns = asked_ns - ended_ns;
        let interval_ns = recording.interval_at(snapshot_id)?;
        if interval_ns.is_some_and(|interval| age_ns > 2 * interval) {
            warn(&format!(
                "nothing was recorded from then to {}: the answer is {} old",
                time(asked_ns, zone),
                duration(age_ns)
            ));
            exit = Exit::Gaps;
        }
    }
    note_filters(&recording, ended_ns, ended_ns)?;
    for text in recording.notes_at(asked_ns, snapshot_id)? {
        warn(&text);
        exit = Exit::Gaps;
    }
    let mut out: Box<dyn Exporter> = if as_ss {
        Box::new(SocketTable::new(stdout(), info))
    } else {
        exporter(format, &options, stdout())
    };
    let count = stream(&recording, question, &selection, &columns, out.as_mut())?;
    if count == 0 && found.is_some() {
        explain_empty(&recording, &selection, zone)?;
    }
    Ok(exit)
}
