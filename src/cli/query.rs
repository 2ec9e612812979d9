//! `sockrec query`

use super::Exit;
use super::args::{CommonArgs, ConnectionArgs, ListingArgs, QueryArgs, QuestionArgs};
use super::compare::compare;
use super::lacks::{note_filters, note_lacks, note_limits};
use super::live::Live;
use super::message::{note, usage, warn};
use super::moment::{Anchor, parse_moment};
use super::output::{
    anchor, asks_for_help, default_columns, explain_empty, options, print_columns, selection,
    stdout, with_title,
};
use super::{questions, sql};
use crate::model::{Column, States};
use crate::query::{By, EVENT_COLUMNS, Look, QueryError, Question, Recording, Selection, column};
use crate::render::human::{Zone, duration, exact, time, visible};
use crate::render::{
    ConnectionTable, Details, Exporter, Format, Named, Sheet, ShownMoment, SocketTable, exporter,
    story_json, story_text,
};
use crate::store::StoreError;

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
        QuestionArgs::Connections(args) => {
            listing(Question::Connections, &args, ConnectionTable::COLUMNS)
        }
        QuestionArgs::Connection(args) => connection(&args),
        QuestionArgs::Samples(args) => listing(Question::Samples, &args, SAMPLES_TABLE),
        QuestionArgs::Snapshots(common) => short(Question::Snapshots, &common, SNAPSHOTS_TABLE),
        QuestionArgs::Coverage(common) => short(Question::Coverage, &common, COVERAGE_TABLE),
        QuestionArgs::Markers(common) => short(Question::Markers, &common, MARKERS_TABLE),
        QuestionArgs::At { time, live, info, processes, common } => {
            at(time.as_deref(), live, Details { processes, info }, &common)
        }
        QuestionArgs::Listeners(args) => questions::listeners(&args),
        QuestionArgs::States(args) => questions::states(&args),
        QuestionArgs::Churn(args) => questions::churn(&args),
        QuestionArgs::Peers(common) => questions::totals(By::Peer, Sheet::PEERS, &common),
        QuestionArgs::Ports(common) => questions::totals(By::Port, Sheet::PORTS, &common),
        QuestionArgs::Processes(common) => {
            questions::totals(By::Process, Sheet::PROCESSES, &common)
        }
        QuestionArgs::Cgroups(common) => questions::totals(By::Cgroup, Sheet::CGROUPS, &common),
        QuestionArgs::Users(common) => questions::totals(By::User, Sheet::USERS, &common),
        QuestionArgs::Slow(common) => questions::slow(&common),
        QuestionArgs::Leaks(args) => questions::leaks(&args),
        QuestionArgs::Diff(args) => questions::diff(&args),
        QuestionArgs::Compare(args) => compare(&args),
        QuestionArgs::Sql(args) => sql::ask(&args),
        QuestionArgs::Schema(args) => sql::schema(&args),
    }
}

fn listing(question: Question, args: &ListingArgs, table: &[&str]) -> anyhow::Result<Exit> {
    let recording = Recording::open(&args.common.file)?.on_threads(args.threads.threads);
    rows(&recording, question, &args.common, table)
}

fn short(question: Question, common: &CommonArgs, table: &[&str]) -> anyhow::Result<Exit> {
    rows(&Recording::open(&common.file)?, question, common, table)
}

fn rows(
    recording: &Recording,
    question: Question,
    common: &CommonArgs,
    table: &[&str],
) -> anyhow::Result<Exit> {
    if asks_for_help(&common.output.columns) {
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    let format = common.output.format.unwrap_or(Format::Table);
    let has_hosts = matches!(question, Question::Coverage | Question::Samples);
    let with_host = has_hosts && common.select.host.is_none() && recording.hosts()?.len() > 1;
    let with_netns = has_hosts && recording.has_several_namespaces()?;
    let host: &[_] = if with_host { &["host_name"] } else { &[] };
    let netns: &[_] = if with_netns { &["netns"] } else { &[] };
    let table = [host, netns, table].concat();
    let columns = default_columns(format, &common.output.columns, &table);
    let anchor = anchor(recording)?;
    let chosen = || -> anyhow::Result<_> {
        let selection = selection(question, &common.select, &common.filter, &columns, anchor)?;
        let columns = recording.columns(question, &selection)?;
        Ok((selection, columns))
    };
    let (selection, columns) = chosen().map_err(|error| match question {
        Question::Connections => with_title(error, ConnectionTable::column_below),
        _ => error,
    })?;
    recording.check_host(question, &selection)?;
    let options = options(&common.output);
    let is_plain = format != Format::Table || !common.output.columns.is_empty();
    let mut out: Box<dyn Exporter> = if question == Question::Connections && !is_plain {
        let with_date = spans_days(recording, options.zone)?;
        let moment = if with_date { ShownMoment::OpenedOnDay } else { ShownMoment::Opened };
        let named = named(recording, &selection)?;
        Box::new(ConnectionTable::new(stdout(), &options, moment).naming(named))
    } else {
        exporter(format, &options, stdout())
    };
    let exit = note_lacks(recording, question, &selection)?;
    let count = stream(recording, question, &selection, &columns, out.as_mut())?;
    if count == 0 {
        explain_empty(recording, &selection, options.zone)?;
    }
    Ok(exit)
}

/// What of where it is each row has to name: that of which there are several.
pub(super) fn named(recording: &Recording, selection: &Selection) -> Result<Named, StoreError> {
    Ok(Named {
        host: selection.host.is_none() && recording.hosts()?.len() > 1,
        netns: recording.has_several_namespaces()?,
    })
}

/// Whether the recording is of more than one day: then a time of day does not tell which.
pub(super) fn spans_days(recording: &Recording, zone: Zone) -> anyhow::Result<bool> {
    let day = |ns| time(ns, zone).to_string().get(..10).map(str::to_owned);
    Ok(recording.span()?.is_some_and(|span| day(span.from_ns) != day(span.to_ns)))
}

pub(super) fn stream(
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
    let hint = "`sockrec query connections` lists them, each with its number first";
    let Some(text) = &args.id else {
        return Err(usage("which connection?", Some(hint)));
    };
    let Ok(id) = text.parse() else {
        return Err(usage(format!("`{text}` is no number of a connection"), Some(hint)));
    };
    let recording = Recording::open(&args.file)?;
    let Some(story) = recording.story(id)? else {
        let text = format!("there is no connection {id} in `{}`", args.file.display());
        return Err(usage(text, Some(hint)));
    };
    note_filters(&recording, &Selection::default())?;
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

fn at(
    time: Option<&str>,
    is_live: bool,
    details: Details,
    common: &CommonArgs,
) -> anyhow::Result<Exit> {
    if is_live {
        // Without a time the first word is the filter's.
        let words = time.into_iter().map(str::to_owned).chain(common.filter.clone());
        let common = CommonArgs { filter: words.collect(), ..common.clone() };
        let live = Live::ask(&common, States::ALL)?;
        live.warn();
        if details.processes {
            note("the kernel does not tell which processes hold a socket: `record` looks for them");
        }
        return at_moment(&live.recording, None, details, &live.common);
    }
    at_moment(&Recording::open(&common.file)?, time, details, common)
}

fn at_moment(
    recording: &Recording,
    text: Option<&str>,
    details: Details,
    common: &CommonArgs,
) -> anyhow::Result<Exit> {
    if asks_for_help(&common.output.columns) {
        let question = Question::AtTime { utc_ns: 0 };
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    if common.select.from.is_some() || common.select.to.is_some() {
        return Err(usage(
            "`at` takes one moment, not `--from` and `--to`",
            Some("`sockrec query samples --from … --to …` gives what changed in a span"),
        ));
    }
    let anchor = anchor(recording)?;
    let asked_ns = match text {
        Some(text) => {
            refuse_parted_time(text, &common.filter, anchor)?;
            parse_moment(text, anchor)?
        }
        None => anchor.now_ns, // asked of the kernel just before
    };
    let format = common.output.format.unwrap_or(Format::Table);
    let options = options(&common.output);
    let zone = options.zone;
    let as_ss = format == Format::Table && common.output.columns.is_empty();
    let columns = default_columns(format, &common.output.columns, &[]);
    let question = Question::AtTime { utc_ns: asked_ns };
    let selection = selection(question, &common.select, &common.filter, &columns, anchor)?;
    let columns = recording.columns(question, &selection)?;
    recording.check_host(question, &selection)?;
    let looks = recording.looks_at(asked_ns, selection.host.as_deref())?;
    let mut exit = Exit::Fine;
    if looks.is_empty() {
        exit = Exit::Gaps;
        match recording.span()? {
            Some(span) if recording.is_dropped_at(asked_ns)? => warn(&format!(
                "what was recorded at {} was dropped to keep within a limit: the first snapshot that \
                 is held was at {}",
                time(asked_ns, zone),
                time(span.from_ns, zone)
            )),
            Some(span) => warn(&format!(
                "nothing had been recorded by {}: the first snapshot was at {}",
                time(asked_ns, zone),
                time(span.from_ns, zone)
            )),
            None => note("the recording holds no snapshot yet"),
        }
    }
    for look in &looks {
        if tell_of_look(recording, look, looks.len() > 1, asked_ns, zone)? == Exit::Gaps {
            exit = Exit::Gaps;
        }
    }
    let of_then = Selection {
        from_ns: looks.iter().map(|look| look.ended_at_ns).min(),
        to_ns: looks.iter().map(|look| look.ended_at_ns).max(),
        ..selection.clone()
    };
    let lacks = match text {
        Some(_) => note_lacks(recording, question, &of_then)?,
        None => note_limits(recording, question, &of_then)?,
    };
    exit = exit.or(lacks);
    let mut out: Box<dyn Exporter> = if as_ss {
        let named = named(recording, &selection)?;
        Box::new(SocketTable::new(stdout(), &options, details, named))
    } else {
        exporter(format, &options, stdout())
    };
    let count = stream(recording, question, &selection, &columns, out.as_mut())?;
    if count == 0 && !looks.is_empty() {
        explain_empty(recording, &selection, zone)?;
    }
    Ok(exit)
}

/// What is to be known of the values of a snapshot that was thinned.
pub(super) fn thinning(
    recording: &Recording,
    snapshot_id: i64,
    zone: Zone,
) -> anyhow::Result<Option<String>> {
    Ok(recording.thinning_of(snapshot_id)?.map(|thinned| {
        format!(
            "samples were thinned to {} here: sockets and their states are those of this snapshot, other \
             values may be as old as {}",
            exact(thinned.every_ns),
            time(thinned.exact_at_ns, zone)
        )
    }))
}

/// Says which snapshot the answer is of, and what is to be known beside it.
fn tell_of_look(
    recording: &Recording,
    look: &Look,
    with_host: bool,
    asked_ns: i64,
    zone: Zone,
) -> anyhow::Result<Exit> {
    let host = match &look.host_name {
        Some(name) if with_host => format!("{}: ", visible(name)),
        _ => String::new(),
    };
    note(&format!(
        "{host}snapshot {}, ended at {}",
        look.snapshot_id,
        time(look.ended_at_ns, zone)
    ));
    let mut exit = Exit::Fine;
    let age_ns = asked_ns.saturating_sub(look.ended_at_ns);
    if look.interval_ns.is_some_and(|interval_ns| age_ns > interval_ns.saturating_mul(2)) {
        warn(&format!(
            "{host}nothing was recorded from then to {}: the answer is {} old",
            time(asked_ns, zone),
            duration(age_ns)
        ));
        exit = Exit::Gaps;
    }
    let mut notes = recording.notes_at(asked_ns, look.snapshot_id)?;
    notes.extend(thinning(recording, look.snapshot_id, zone)?);
    for text in notes {
        warn(&format!("{host}{text}"));
        exit = Exit::Gaps;
    }
    Ok(exit)
}
