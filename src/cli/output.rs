//! From options to an exporter, and the words for an empty answer.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;

use chrono::{SecondsFormat, TimeZone};

use super::args::{OutputArgs, SelectArgs};
use super::filter::{check_options, read_filter};
use super::message::{has_color, note, usage};
use super::moment::{Anchor, parse_moment};
use crate::filter::FilterError;
use crate::kernel::SystemClock;
use crate::model::{Family, Nanos, States, TcpState};
use crate::query::{QueryError, Question, Recording, Selection, SocketFilter, SortKey};
use crate::render::human::{Zone, time};
use crate::render::{Format, Options};

/// Where a command's data goes.
pub(super) fn stdout() -> Box<dyn Write> {
    Box::new(io::stdout().lock())
}

/// How tables and texts are written.
pub(super) fn options(output: &OutputArgs) -> Options {
    Options {
        times: output.time_format,
        zone: zone(output.utc),
        width: terminal_width(),
        exact: output.exact,
        streams: false,
        color: has_color(&io::stdout()),
    }
}

pub(super) fn zone(utc: bool) -> Zone {
    if utc { Zone::Utc } else { Zone::Local }
}

/// Cells of a line, `None` if stdout is no terminal.
fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&width| width > 0)
}

/// What times of this recording's questions are relative to.
pub(super) fn anchor(recording: &Recording) -> anyhow::Result<Anchor<'_>> {
    let recorded_ns = recording.span()?.map(|span| (span.from_ns, span.to_ns));
    let (now_ns, recording) = (SystemClock.now().utc_ns, Some(recording));
    Ok(Anchor { now_ns, recorded_ns, after_ns: None, recording })
}

/// Makes a selection of arguments; those that a question does not know are refused, not ignored.
pub(super) fn selection(
    question: Question,
    select: &SelectArgs,
    filter: &[String],
    columns: &[String],
    anchor: Anchor<'_>,
) -> anyhow::Result<Selection> {
    let (from_ns, to_ns) = span(select, anchor)?;
    let answer = match anchor.recording {
        Some(recording) if !filter.is_empty() => recording.columns_to_choose_by(question)?,
        _ => Vec::new(),
    };
    let filtered = read_filter(filter, &answer, anchor)?;
    let (filter, filter_text) =
        filtered.map_or((None, String::new()), |f| (Some(f.filter), f.text));
    let states = select.sockets.states();
    if states == States::NONE {
        return Err(no_states());
    }
    let families = select.sockets.families();
    if let Some(filter) = &filter {
        let asked = if families.is_empty() { Family::ALL.to_vec() } else { families.clone() };
        check_options(filter, states, asked.into_iter())?;
    }
    // The series of one socket is found without reading those of all.
    let only_socket = filter
        .as_ref()
        .filter(|_| question == Question::Samples)
        .and_then(|filter| filter.only_value_of("socket_id"));
    let sockets = SocketFilter {
        families,
        protocols: select.sockets.protocols(),
        states: if states == States::ALL { Vec::new() } else { state_names(states) },
        is_listening: select.sockets.is_listening(),
        socket_id: select.socket.or(only_socket),
        cookie: select.cookie,
        inode: select.inode,
    };
    if let Some((why, hint)) = misplaced(question, &sockets) {
        return Err(usage(why, Some(hint)));
    }
    Ok(Selection {
        columns: columns.to_vec(),
        host: select.host.clone(),
        sockets,
        from_ns,
        to_ns,
        filter,
        filter_text,
        sort: select.sort.clone(),
        limit: select.limit,
        ended: None,
    })
}

fn span(select: &SelectArgs, anchor: Anchor<'_>) -> anyhow::Result<(Option<Nanos>, Option<Nanos>)> {
    let moment = |text: &Option<String>, anchor| {
        text.as_deref().map(|text| parse_moment(text, anchor)).transpose()
    };
    let from_ns = moment(&select.from, anchor)?;
    let to_ns = moment(&select.to, Anchor { after_ns: from_ns, ..anchor })?;
    if let (Some(from), Some(to)) = (from_ns, to_ns)
        && from > to
    {
        return Err(usage(
            format!("the span ends before it starts: {} is after {}", rfc3339(from), rfc3339(to)),
            Some("swap `--from` and `--to`"),
        ));
    }
    Ok((from_ns, to_ns))
}

/// Why these options do not go with a question, and what does.
fn misplaced(question: Question, sockets: &SocketFilter) -> Option<(&'static str, &'static str)> {
    let (is_choosing, is_by_state) = (!sockets.is_open(), !sockets.states.is_empty());
    Some(match question {
        Question::Snapshots if is_choosing => (
            "a snapshot is of all sockets: options that choose sockets do not go with it",
            "`connections`, `samples` and `at` choose sockets",
        ),
        Question::Coverage if is_choosing => (
            "coverage is of whole dumps: options that choose sockets do not go with it",
            "each row names the protocol and family of its dump",
        ),
        Question::Markers if is_choosing => (
            "a marker is of no socket: options that choose sockets do not go with it",
            "`sockrec query connection ID` tells the markers in the life of one",
        ),
        Question::Processes if is_choosing => (
            "a process is no socket: options that choose sockets do not go with it",
            "`owners` tells which process held which socket, and chooses sockets",
        ),
        Question::Broken(_) if is_by_state => (
            "a rule knows in which states it looks at sockets: `--state` does not go with it",
            "options that choose families, protocols or a socket do",
        ),
        Question::Sockets | Question::Owners if is_by_state => (
            "`sockets` and `owners` tell who was seen, not in which state",
            "`connections` has the last state, `samples` every one",
        ),
        _ => return None,
    })
}

pub(super) fn no_states() -> anyhow::Error {
    usage("no state is left to look for", Some("`--not-state` takes away all that `--state` gives"))
}

/// Reads one key of `--sort`. Whether an answer has such a column, the answer tells.
pub(super) fn parse_sort_key(text: &str) -> Result<SortKey, String> {
    let (column, is_descending) = match (text.strip_prefix('-'), text.split_once(':')) {
        (Some(column), _) => (column, true),
        (None, None) => (text, false),
        (None, Some((column, "asc"))) => (column, false),
        (None, Some((column, "desc"))) => (column, true),
        (None, Some(_)) => return Err("behind the colon expected asc or desc".to_owned()),
    };
    Ok(SortKey { column: column.to_owned(), is_descending })
}

/// Reads how many rows are wanted at most.
pub(super) fn parse_limit(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| i64::try_from(*n).is_ok());
    number.ok_or_else(|| "expected a number of rows; without it there is no limit".to_owned())
}

/// Reads on how many threads to read; each has the recording open once more.
pub(super) fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 64;
    let number = text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST);
    number.ok_or_else(|| format!("expected a number of threads, from 1 to {MOST}"))
}

/// An error about a name that is the title of a table's column tells that column's own name.
pub(super) fn with_title(
    error: anyhow::Error,
    column_below: impl Fn(&str) -> Option<&'static str>,
) -> anyhow::Error {
    let meant = |name: &str| column_below(&name.to_lowercase()).map(str::to_owned);
    if let Some(QueryError::UnknownColumn { name, .. }) = error.downcast_ref()
        && let Some(column) = meant(name)
    {
        return QueryError::UnknownColumn { name: name.clone(), nearest: Some(column) }.into();
    }
    if let Some(filter) = error.downcast_ref::<FilterError>()
        && let Some(column) = filter.unknown_name.as_deref().and_then(meant)
    {
        return filter.clone().hint(format!("did you mean `{column}`?")).into();
    }
    error
}

/// The kernel tells a TCP socket that is bound and inactive as UNCONN.
fn state_names(states: States) -> Vec<String> {
    let told = if states.contains(TcpState::BOUND_INACTIVE) {
        states.union(States::only(TcpState::CLOSE))
    } else {
        states
    };
    TcpState::NAMED
        .iter()
        .filter(|(state, _)| told.contains(*state))
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

pub(super) fn rfc3339(ns: i64) -> String {
    chrono::Utc.timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Says why an answer may have no rows.
pub(super) fn explain_empty(
    recording: &Recording,
    selection: &Selection,
    zone: Zone,
) -> anyhow::Result<()> {
    let Some(span) = recording.span()? else {
        note("the recording holds no snapshot yet");
        return Ok(());
    };
    let (from, to) = (time(span.from_ns, zone), time(span.to_ns, zone));
    if selection.limit == Some(0) {
        note("`--limit 0` asks for no rows");
        return Ok(());
    }
    let is_before = selection.to_ns.is_some_and(|ns| ns < span.from_ns);
    let is_after = selection.from_ns.is_some_and(|ns| ns > span.to_ns);
    if is_before || is_after {
        note(&format!("nothing was recorded then: the recording goes from {from} to {to}"));
    } else if recording.socket_count()? == 0 {
        note(&format!(
            "no socket was seen in {} from {from} to {to}; recorded were {}",
            counted(recording.snapshot_count()?.cast_unsigned(), "snapshot"),
            recording.scopes()?.join(", "),
        ));
    } else if !selection.sockets.is_open() || selection.filter.is_some() {
        note(&format!(
            "nothing matches; recorded were {} from {from} to {to}",
            recording.scopes()?.join(", ")
        ));
    } else {
        note(&format!("no row in this span; the recording goes from {from} to {to}"));
    }
    Ok(())
}

/// Answers `--columns help`.
pub(super) fn print_columns(columns: &[crate::model::Column]) -> Result<(), QueryError> {
    let width = columns.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = stdout();
    for column in columns {
        writeln!(out, "{:width$}  {}", column.name, column.about)?;
    }
    Ok(())
}

/// Whether the columns that were asked for are a question themselves.
pub(super) fn asks_for_help(columns: &[String]) -> bool {
    columns.len() == 1 && columns[0] == "help"
}

/// Tables show the columns that matter most; every other format shows all.
pub(super) fn default_columns(format: Format, chosen: &[String], of_table: &[&str]) -> Vec<String> {
    if chosen.len() == 1 && chosen[0] == "all" {
        Vec::new()
    } else if chosen.is_empty() && format == Format::Table {
        of_table.iter().map(|&name| name.to_owned()).collect()
    } else {
        chosen.to_vec()
    }
}

/// So many things, in words.
pub(super) fn counted(n: impl Into<i128>, what: &str) -> String {
    let n = n.into();
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
