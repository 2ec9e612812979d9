//! `sockrec assert`

use std::io::Write;

use super::Exit;
use super::args::AssertArgs;
use super::lacks::{note_filters, note_limits};
use super::message::{note, say, usage, warn};
use super::moment::parse_duration;
use super::output::{
    anchor, asks_for_help, default_columns, options, print_columns, selection, stdout,
};
use crate::model::Value;
use crate::query::{Assertion, LimitKind, Question, RULES, Recording, Rule, Selection};
use crate::render::{Exporter, Format, exporter};

const TABLE: &[&str] = &[
    "rule",
    "verdict",
    "value",
    "limit",
    "value_unit",
    "from",
    "to",
    "message",
    "socket_id",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "owners",
];

/// The column that decides the exit code, asked for behind those that are shown.
const VERDICT: &str = "verdict";

/// What a rule's rows come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Holds,
    NotKnown,
    Broken,
}

pub(super) fn run(args: &AssertArgs) -> anyhow::Result<Exit> {
    if args.list {
        list()?;
        return Ok(Exit::Fine);
    }
    let assertions =
        args.rules.iter().map(|text| parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let recording = Recording::open(&args.file)?;
    let Some(first) = assertions.first() else { return Ok(Exit::Fine) };
    if asks_for_help(&args.output.columns) {
        print_columns(&recording.columns(Question::Broken(*first), &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    let format = args.output.format.unwrap_or(Format::Table);
    let shown = default_columns(format, &args.output.columns, TABLE);
    let mut chosen = selection(
        Question::Broken(*first),
        &args.select,
        &args.filter,
        &shown,
        anchor(&recording)?,
    )?;
    let columns = recording.columns(Question::Broken(*first), &chosen)?;
    chosen.columns = columns.iter().map(|column| column.name.to_owned()).collect();
    chosen.columns.push(VERDICT.to_owned());
    // What is not shown counts all the same.
    let rows_shown = chosen.limit.take().unwrap_or(u64::MAX);
    say_if_none_matches(&recording, &chosen)?;
    let is_filtered = note_filters(&recording, &chosen)?;
    let is_unknown = note_limits(&recording, Question::Connections, &chosen)? != Exit::Fine;

    let mut out: Option<Box<dyn Exporter>> = None;
    let mut judged = Vec::new();
    for assertion in &assertions {
        let mut verdict = Verdict::Holds;
        let mut rows = 0;
        recording.answer(Question::Broken(*assertion), &chosen, |row| {
            let Some((last, row)) = row.split_last() else { return Ok(()) };
            verdict = verdict.max(match last {
                Value::Text("broken") => Verdict::Broken,
                _ => Verdict::NotKnown,
            });
            rows += 1;
            if rows > rows_shown {
                return Ok(());
            }
            if out.is_none() {
                out = Some(exporter(format, &options(&args.output), stdout()));
                out.iter_mut().try_for_each(|out| out.begin(&columns))?;
            }
            out.iter_mut().try_for_each(|out| out.row(row))?;
            Ok(())
        })?;
        judged.push((assertion.rule.name, verdict));
    }
    // A table without rows is nothing to look at; other formats say so in their way.
    if out.is_none() && format != Format::Table {
        let mut empty = exporter(format, &options(&args.output), stdout());
        empty.begin(&columns)?;
        out = Some(empty);
    }
    out.iter_mut().try_for_each(|out| out.finish())?;
    Ok(conclude(&judged, is_filtered, is_unknown))
}

/// Of no socket nearly every rule holds: perhaps others were meant.
fn say_if_none_matches(recording: &Recording, chosen: &Selection) -> anyhow::Result<()> {
    let any = Selection { limit: Some(1), ..chosen.of_sockets() };
    if !any.is_open() && recording.answer(any.question_of_sockets(), &any, |_| Ok(()))? == 0 {
        note("no socket of the recording matches");
    }
    Ok(())
}

/// Says how it stands; gives the exit code. Of sockets that nobody knows no rule holds for sure.
fn conclude(judged: &[(&str, Verdict)], is_filtered: bool, is_unknown: bool) -> Exit {
    let names = |wanted| {
        let names = judged.iter().filter(|(_, verdict)| *verdict == wanted);
        names.map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let (broken, not_known) = (names(Verdict::Broken), names(Verdict::NotKnown));
    let told = |names: &[&str]| match judged.len() {
        1 => names.join(", "),
        n => format!("{} ({} of {n} rules)", names.join(", "), names.len()),
    };
    if !not_known.is_empty() {
        warn(&format!("not known to hold: {}", told(&not_known)));
    }
    if !broken.is_empty() {
        say(&format!("broken: {}", told(&broken)));
        Exit::Failed
    } else if not_known.is_empty() && !is_unknown {
        let of = if is_filtered { " for what was recorded" } else { "" };
        note(&match judged.len() {
            1 => format!("the rule holds{of}"),
            n => format!("all {n} rules hold{of}"),
        });
        Exit::Fine
    } else {
        Exit::Gaps
    }
}

fn list() -> anyhow::Result<()> {
    let shown = |rule: &Rule| format!("{}{}", rule.name, example(rule.limit));
    let width = RULES.iter().map(|rule| shown(rule).len()).max().unwrap_or(0);
    let mut out = stdout();
    for rule in RULES {
        writeln!(out, "{:width$}  {}", shown(rule), rule.about)?;
    }
    Ok(())
}

/// How a limit is written.
fn example(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::None => "",
        LimitKind::Duration => "=60s",
        LimitKind::Share => "=1%",
        LimitKind::Count => "=500",
    }
}

/// Reads `RULE` or `RULE=LIMIT`.
fn parse(text: &str) -> anyhow::Result<Assertion> {
    let (name, limit) = match text.split_once('=') {
        Some((name, limit)) => (name, Some(limit)),
        None => (text, None),
    };
    let Some(rule) = Rule::named(name) else {
        let near = Rule::nearest_name(name).map(|near| format!("did you mean `{near}`? "));
        let hint = format!("{}`sockrec assert --list` lists them", near.unwrap_or_default());
        return Err(usage(format!("there is no rule `{name}`"), Some(&hint)));
    };
    let hint = format!("write it as `{name}{}`", example(rule.limit));
    let refuse = |why: String| usage(format!("the rule `{name}` {why}"), Some(&hint));
    let limit = match (rule.limit, limit) {
        (LimitKind::None, None) => Ok(0),
        (LimitKind::None, Some(_)) => return Err(refuse("takes no limit".to_owned())),
        (_, None) => return Err(refuse("takes a limit".to_owned())),
        (LimitKind::Duration, Some(limit)) => parse_duration(limit),
        (LimitKind::Share, Some(limit)) => parse_share(limit),
        (LimitKind::Count, Some(limit)) => parse_count(limit),
    };
    let limit = limit.map_err(|why| refuse(format!("does not take this limit: {why}")))?;
    Ok(Assertion { rule, limit })
}

/// Reads a share such as `1%` or `0.5%`; gives millionths.
fn parse_share(text: &str) -> Result<i64, String> {
    let percent = text.strip_suffix('%').ok_or("a share ends in %")?;
    match percent.trim().parse::<f64>() {
        // Counted in millionths.
        Ok(percent) if (0.0001..=100.0).contains(&percent) => {
            Ok((percent * 10_000.0).round() as i64)
        }
        Ok(_) => Err("a share is from 0.0001% to 100%".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn parse_count(text: &str) -> Result<i64, String> {
    match text.parse::<u32>() {
        Ok(0) => Err("nothing is below 0".to_owned()),
        Ok(count) => Ok(count.into()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> i64 {
        parse(text).unwrap().limit
    }

    #[test]
    fn limits_are_read_in_the_unit_of_their_rule() {
        assert_eq!(limit("no-close-wait-longer-than=1m30s"), 90_000_000_000);
        assert_eq!(limit("retransmit-ratio-below=1%"), 10_000);
        assert_eq!(limit("retransmit-ratio-below=0.05%"), 500);
        assert_eq!(limit("connections-below=500"), 500);
        assert_eq!(limit("no-gaps"), 0);
    }

    #[test]
    fn what_is_no_rule_or_no_limit_is_refused() {
        for text in [
            "",
            "no-gap",
            "no-gaps=1",
            "no-gaps=",
            "connections-below",
            "connections-below=0",
            "connections-below=-1",
            "connections-below=1k",
            "retransmit-ratio-below=0.01",
            "retransmit-ratio-below=0%",
            "retransmit-ratio-below=101%",
            "retransmit-ratio-below=NaN%",
            "no-close-wait-longer-than=60",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
