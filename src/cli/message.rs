//! Errors, notes and hints on stderr.

use std::io::{self, ErrorKind, Write};
use std::sync::LazyLock;

use anstream::stream::RawStream;
use anstyle::{AnsiColor, Style};
use rustix::fs::fstat;
use rustix::io::Errno;
use unicode_width::UnicodeWidthStr;

use super::Exit;
use crate::filter::FilterError;
use crate::query::QueryError;
use crate::record::RecordError;
use crate::render::human::visible;
use crate::store::{DESCRIPTOR_HINT, StoreError};

/// Arguments that make no sense, with what would.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct UsageError {
    text: String,
    hint: Option<String>,
}

/// An error in the arguments.
pub(super) fn usage(text: impl Into<String>, hint: Option<&str>) -> anyhow::Error {
    UsageError { text: text.into(), hint: hint.map(str::to_owned) }.into()
}

/// Prints an error with its causes and what can be done; gives the exit code.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Fine; // whoever reads has seen enough
    }
    let mut text = format!("error: {error}");
    if let Some(error) = filter_error(error) {
        text.push_str(&pointed_at(error));
    }
    let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    // SQLite's messages come twice, the second time behind their number.
    causes.dedup_by(|next, cause| {
        next.ends_with(cause.as_str()).then(|| *cause = next.clone()).is_some()
    });
    for cause in causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    if let Some(hint) = hint_for(error) {
        text.push_str(&format!("\n\nhint: {hint}"));
    }
    tell(Level::Error, &text);
    if error.is::<UsageError>() || is_usage(error) { Exit::Usage } else { Exit::Failed }
}

/// How much a line matters, as syslog(3) numbers it.
#[derive(Clone, Copy)]
enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// A line about what was done or what to mind.
pub(super) fn note(text: &str) {
    tell(Level::Notice, &format!("note: {text}"));
}

/// A line about something that is wrong but stops nothing.
pub(super) fn warn(text: &str) {
    tell(Level::Warning, &format!("warning: {text}"));
}

/// What can be done about what was found.
pub(super) fn hint(text: &str) {
    tell(Level::Notice, &format!("hint: {text}"));
}

/// A line that was asked for.
pub(super) fn say(text: &str) {
    tell(Level::Info, text);
}

/// Prints to stderr. File names and error texts may hold anything: control characters are
/// escaped, line by line. If stderr is closed there is nobody to tell.
fn tell(level: Level, text: &str) {
    static IS_JOURNAL: LazyLock<bool> = LazyLock::new(is_journal);
    let mut out = io::stderr().lock();
    let is_colored = has_color(&out);
    for line in text.split('\n') {
        let label = LABELS.iter().find(|(label, _)| is_colored && line.starts_with(label));
        // To the journal each line is an entry of its own, with its level (sd-daemon(3)).
        let _ = match (*IS_JOURNAL, label) {
            (true, _) if line.is_empty() => Ok(()),
            (true, _) => writeln!(out, "<{}>{}", level as u8, visible(line)),
            (false, Some((label, style))) => {
                let rest = visible(&line[label.len()..]);
                writeln!(out, "{style}{label}{style:#}{rest}")
            }
            (false, None) => writeln!(out, "{}", visible(line)),
        };
    }
}

/// Whether stderr is a stream to systemd's journal, by its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|it| *stream == *format!("{}:{}", it.st_dev, it.st_ino))
}

/// What a line begins with, and its colour on a terminal.
const LABELS: [(&str, Style); 4] = [
    ("error:", AnsiColor::Red.on_default().bold()),
    ("warning:", AnsiColor::Yellow.on_default().bold()),
    ("note:", Style::new().bold()),
    ("hint:", AnsiColor::Green.on_default().bold()),
];

/// Whether what is written there may have colour: on a terminal, unless `--color` or the environment
/// (`NO_COLOR`, `CLICOLOR`, `TERM=dumb`) has it otherwise.
pub(super) fn has_color(stream: &impl RawStream) -> bool {
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
}

fn is_usage(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(
            QueryError::UnknownColumn { .. }
                | QueryError::UnknownHost { .. }
                | QueryError::SeveralHosts { .. }
                | QueryError::Store(StoreError::NoQuery | StoreError::TypedWrong { .. })
        )
    ) || filter_error(error).is_some()
}

fn filter_error(error: &anyhow::Error) -> Option<&FilterError> {
    error.downcast_ref().or_else(|| match error.downcast_ref() {
        Some(QueryError::Filter(error)) => Some(error),
        _ => None,
    })
}

/// So much of a long filter is shown on each side of what an error is about.
const LONGEST_CONTEXT: usize = 200;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_CONTEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text of a filter, and below it what the error is about.
fn pointed_at(error: &FilterError) -> String {
    let shown = |text: &str| visible(&text.replace('\n', " ")).to_string();
    let before = error.text.get(..error.span.start).map(shown).unwrap_or_default();
    let place = error.text.get(error.span.clone()).map(shown).unwrap_or_default();
    let behind = error.text.get(error.span.end..).map(shown).unwrap_or_default();
    let cut = before.chars().count().saturating_sub(LONGEST_CONTEXT);
    let before = match cut {
        0 => before,
        _ => format!("…{}", before.chars().skip(cut).collect::<String>()),
    };
    let (place, behind) = (shortened(&place), shortened(&behind));
    let (blanks, marks) = (" ".repeat(before.width()), "^".repeat(place.width().max(1)));
    format!("\n  {before}{place}{behind}\n  {blanks}{marks}")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    })
}

/// Whatever it was that could not be opened.
fn lacks_descriptors(error: &anyhow::Error) -> bool {
    let errno = Some(Errno::MFILE.raw_os_error());
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.raw_os_error() == errno))
}

fn hint_for(error: &anyhow::Error) -> Option<String> {
    if let Some(e) = error.downcast_ref::<UsageError>() {
        return e.hint.clone();
    }
    if let Some(e) = filter_error(error) {
        return e.hint.clone();
    }
    if lacks_descriptors(error) {
        return Some(DESCRIPTOR_HINT.to_owned());
    }
    match error.downcast_ref() {
        Some(QueryError::UnknownHost { hosts, .. }) => {
            return Some(format!("recorded were: {}", hosts.join(", ")));
        }
        Some(QueryError::SeveralHosts { hosts }) => {
            let name = hosts.first().map_or("NAME", String::as_str);
            return Some(format!("choose one: `--host {name}`"));
        }
        Some(QueryError::Thread(_)) => return Some("`--threads 1` starts none".to_owned()),
        _ => {}
    }
    if let Some(QueryError::UnknownColumn { nearest, .. }) = error.downcast_ref() {
        return Some(match nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`--columns help` lists them".to_owned(),
        });
    }
    if let Some(RecordError::NothingSupported) = error.downcast_ref() {
        return Some(
            "the modules inet_diag, tcp_diag, udp_diag, raw_diag and mptcp_diag answer; \
             `modprobe` them, or ask for others with `--protocol`"
                .to_owned(),
        );
    }
    if let Some(RecordError::Diag(_) | RecordError::AllFailed(_)) = error.downcast_ref() {
        return Some(
            "sockrec needs a kernel with sock_diag and the permission to use netlink sockets; \
             containers and seccomp filters may forbid them"
                .to_owned(),
        );
    }
    if let Some(RecordError::Foreign(e)) = error.downcast_ref() {
        return e.hint().map(str::to_owned);
    }
    let store = error.chain().find_map(|cause| {
        cause.downcast_ref::<StoreError>().or_else(|| match cause.downcast_ref() {
            Some(QueryError::Store(e)) => Some(e),
            _ => match cause.downcast_ref() {
                Some(RecordError::Store(e)) => Some(e),
                _ => None,
            },
        })
    });
    store.and_then(StoreError::hint)
}
