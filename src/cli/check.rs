//! `sockrec check`

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Exit;
use super::args::CheckArgs;
use super::message::{hint, report, usage};
use super::output::{counted, stdout};
use crate::render::Format;
use crate::render::human::visible;
use crate::store::{Checked, Example, Finding, Verdict, check, salvage_hint};

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let format = args.format.unwrap_or(Format::Table);
    if !matches!(format, Format::Table | Format::Json) {
        let text = format!("what `check` finds has no rows for {format}");
        return Err(usage(text, Some("use `--format json`")));
    }
    let checked = match check(&args.file) {
        Ok(checked) => checked,
        Err(error) => {
            report(&error.into());
            return Ok(Exit::NotLooked);
        }
    };
    let file = args.file.display().to_string();
    match format {
        Format::Json => json(&checked, &file)?,
        _ => text(&checked, &file)?,
    }
    if checked.is_damaged() {
        hint(&salvage_hint(&args.file));
    }
    let violated = checked.violated();
    Ok(match violated {
        _ if checked.is_whole() => Exit::Fine,
        0 => Exit::NotLooked,
        _ => Exit::Failed,
    })
}

fn text(checked: &Checked, file: &str) -> io::Result<()> {
    let mut out = stdout();
    let width = checked.findings.iter().map(|f| f.invariant.name.len()).max().unwrap_or(0);
    for Finding { invariant, verdict } in &checked.findings {
        let name = invariant.name;
        match verdict {
            Verdict::Holds => writeln!(out, "holds      {name}")?,
            Verdict::NotKnown { why } => {
                writeln!(out, "not known  {name:width$}  {}", visible(why))?;
            }
            Verdict::Violated { count, examples } => {
                let times = counted(*count, "time");
                writeln!(out, "violated   {name:width$}  {times}")?;
                writeln!(out, "           must be so: {}", invariant.must)?;
                for example in examples {
                    writeln!(out, "           not so for: {}", visible(&words(example)))?;
                }
                writeln!(out, "           it means: {}", invariant.means)?;
            }
        }
    }
    let state = if checked.is_being_recorded { " (being recorded)" } else { "" };
    let rules = checked.findings.len();
    let told = if checked.is_whole() {
        format!("is whole: all {rules} rules hold")
    } else if checked.violated() == 0 {
        "could not be looked at in full".to_owned()
    } else {
        format!("is not whole: of {rules} rules {} do not hold", checked.violated())
    };
    writeln!(out, "{}{state} {told}", visible(file))?;
    out.flush()
}

fn words(example: &Example) -> String {
    let known = example.iter().filter(|(_, value)| !value.is_null());
    let words: Vec<_> = known
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        })
        .collect();
    words.join(", ")
}

fn json(checked: &Checked, file: &str) -> io::Result<()> {
    let rule = |Finding { invariant, verdict }: &Finding| {
        let mut rule = json!({
            "rule": invariant.name, "must": invariant.must, "means": invariant.means,
        });
        let (name, count, examples, why) = match verdict {
            Verdict::Holds => ("holds", Value::from(0), Vec::new(), Value::Null),
            Verdict::Violated { count, examples } => {
                let object = |e: &Example| Value::Object(e.iter().cloned().collect::<Map<_, _>>());
                let examples = examples.iter().map(object).collect();
                ("violated", Value::from(*count), examples, Value::Null)
            }
            Verdict::NotKnown { why } => {
                ("not_known", Value::Null, Vec::new(), Value::from(why.clone()))
            }
        };
        rule["verdict"] = name.into();
        rule["violations"] = count;
        rule["examples"] = examples.into();
        rule["why_not_known"] = why;
        rule
    };
    let whole = json!({
        "file": file,
        "is_whole": checked.is_whole(),
        "is_being_recorded": checked.is_being_recorded,
        "rules": checked.findings.iter().map(rule).collect::<Vec<_>>(),
    });
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, &whole)?;
    writeln!(out)?;
    out.flush()
}
