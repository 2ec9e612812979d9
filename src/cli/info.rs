//! `sockrec info`

use std::io::{self, Write};

use super::Exit;
use super::args::InfoArgs;
use super::message::{has_color, usage};
use super::output::{counted, stdout, zone};
use super::query::named;
use super::status;
use crate::query::{QueryError, Question, Recording, Selection};
use crate::render::human::{duration, time};
use crate::render::{Format, Options, exporter};

const CAPTURES: &[&str] = &[
    "capture_id",
    "host_name",
    "kernel_release",
    "started_at",
    "ended_at",
    "end_reason",
    "interval_ns",
    "snapshots",
    "missed_ticks",
    "scopes",
    "filter",
];

const MARKERS: &[&str] = &["marker", "started_at", "ended_at"];

/// Every part of the answer: its name in JSON, its title for people, the question, the columns.
const PARTS: &[(&str, &str, Question, &[&str])] = &[
    ("captures", "Captures", Question::Captures, CAPTURES),
    ("gaps", "Gaps", Question::Gaps, &[]),
    ("markers", "Markers", Question::Markers, MARKERS),
    ("tables", "Tables", Question::Tables, &[]),
];

pub(super) fn run(args: &InfoArgs) -> anyhow::Result<Exit> {
    if args.live {
        return status::run(args);
    }
    let recording = Recording::open(&args.file)?;
    match args.format.unwrap_or(Format::Table) {
        Format::Table => text(&recording, args)?,
        Format::Json => json(&recording)?,
        other => {
            let text = format!("`info` has several tables, which {other} cannot hold");
            return Err(usage(text, Some("use `--format json`")));
        }
    }
    Ok(Exit::Fine)
}

fn text(recording: &Recording, args: &InfoArgs) -> Result<(), QueryError> {
    let zone = zone(args.utc);
    let mut out = stdout();
    let state = if recording.is_being_recorded() { " (being recorded)" } else { "" };
    writeln!(out, "{}{state}", crate::render::human::visible(&args.file.display().to_string()))?;
    match recording.span()? {
        None => writeln!(out, "no snapshot yet")?,
        Some(span) => {
            writeln!(
                out,
                "{} from {} to {} ({})",
                counted(recording.snapshot_count()?, "snapshot"),
                time(span.from_ns, zone),
                time(span.to_ns, zone),
                duration(span.to_ns.saturating_sub(span.from_ns))
            )?;
            writeln!(out, "{}", counted(recording.socket_count()?, "socket"))?;
        }
    }
    drop(out);
    let color = has_color(&io::stdout());
    let options = Options { zone, color, ..Options::default() };
    for (_, title, question, columns) in PARTS {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        let mut selection = Selection { columns, ..Selection::default() };
        if *question == Question::Gaps {
            let named = named(recording, &selection)?;
            let all = recording.columns(*question, &selection)?;
            let is_shown = |name: &&str| match *name {
                "host_name" => named.host,
                "netns" => named.netns,
                _ => true,
            };
            let names = all.iter().map(|column| column.name).filter(is_shown);
            selection.columns = names.map(str::to_owned).collect();
        }
        let mut body = Vec::new();
        let count = {
            let mut exporter = exporter(Format::Table, &options, Box::new(&mut body));
            exporter.begin(&recording.columns(*question, &selection)?)?;
            let count = recording.answer(*question, &selection, |row| Ok(exporter.row(row)?))?;
            exporter.finish()?;
            count
        };
        let mut out = stdout();
        if count == 0 {
            writeln!(out, "\n{title}: none")?;
        } else {
            writeln!(out, "\n{title}:")?;
            out.write_all(&body)?;
        }
    }
    Ok(())
}

fn json(recording: &Recording) -> Result<(), QueryError> {
    let selection = Selection::default();
    let mut out = stdout();
    write!(
        out,
        "{{\n\"is_being_recorded\": {},\n\"snapshots\": {},\n\"sockets\": {}",
        recording.is_being_recorded(),
        recording.snapshot_count()?,
        recording.socket_count()?
    )?;
    for (name, _, question, _) in PARTS {
        write!(out, ",\n\"{name}\": ")?;
        let mut body = Vec::new();
        {
            let mut exporter = exporter(Format::Json, &Options::default(), Box::new(&mut body));
            exporter.begin(&recording.columns(*question, &selection)?)?;
            recording.answer(*question, &selection, |row| Ok(exporter.row(row)?))?;
            exporter.finish()?;
        }
        out.write_all(body.trim_ascii_end())?;
    }
    writeln!(out, "\n}}")?;
    Ok(())
}
