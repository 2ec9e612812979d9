//! `sockrec query compare`

use super::Exit;
use super::args::CompareArgs;
use super::lacks::{note_lacks, warn_gaps};
use super::message::{note, usage};
use super::moment::{Anchor, SPAN_END, parse_moment};
use super::output::{anchor, asks_for_help, default_columns, options, print_columns, selection};
use super::questions::sheet_exporter;
use crate::query::{By, QueryError, Question, Recording, Selection};
use crate::render::human::{Zone, duration, time};
use crate::render::{Format, Sheet};

/// Between the two times of a span.
const UP_TO: &str = "..";

pub(super) fn compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let common = &args.common;
    if common.select.from.is_some() || common.select.to.is_some() {
        let hint = "`--before SPAN --after SPAN` name a span each";
        return Err(usage("`compare` takes two spans, not `--from` and `--to`", Some(hint)));
    }
    let first = Recording::open(&common.file)?;
    if asks_for_help(&common.output.columns) {
        print_columns(&first.columns(Question::Compare, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    let other = args.with.as_deref().map(Recording::open).transpose()?;
    if other.is_none() && (args.before.is_none() || args.after.is_none()) {
        return Err(usage(
            "two things are needed to compare",
            Some(
                "two spans: `sockrec query compare --before run-1 --after run-2`, or two \
                 recordings: `sockrec query compare -f A.db --with B.db`",
            ),
        ));
    }
    let second = other.as_ref().unwrap_or(&first);
    let format = common.output.format.unwrap_or(Format::Table);
    let columns = default_columns(format, &common.output.columns, &Sheet::COMPARE.columns());
    let options = options(&common.output);
    let mut exit = Exit::Fine;
    let mut side = |recording: &Recording, what, span: Option<&str>| -> anyhow::Result<Selection> {
        let anchor = anchor(recording)?;
        let question = Question::Totals(By::Service);
        let mut chosen = selection(question, &common.select, &common.filter, &[], anchor)?;
        (chosen.sort, chosen.limit) = (Vec::new(), None);
        if let Some(text) = span {
            let (from, to) = read_span(text, anchor)?;
            (chosen.from_ns, chosen.to_ns) = (Some(from), Some(to));
        }
        say_span(recording, what, &chosen, options.zone)?;
        let gaps = warn_gaps(recording, &chosen)?;
        exit = exit.or(note_lacks(recording, question, &chosen)?).or(gaps);
        Ok(chosen)
    };
    let before = side(&first, "before", args.before.as_deref())?;
    let after = side(second, "after", args.after.as_deref())?;
    let sort = common.select.sort.clone();
    let shown = Selection { columns, sort, limit: common.select.limit, ..Selection::default() };
    let columns = first.columns(Question::Compare, &shown)?;
    let mut out = sheet_exporter(&first, common, Sheet::COMPARE)?;
    out.begin(&columns).map_err(QueryError::Output)?;
    let rows = first.compare(&before, second, &after, &shown, |row| Ok(out.row(row)?))?;
    out.finish().map_err(QueryError::Output)?;
    if rows == 0 {
        note("no service differs between the two");
    }
    Ok(exit)
}

/// A marked span by its name, or two times with `..` between them.
fn read_span(text: &str, anchor: Anchor<'_>) -> anyhow::Result<(i64, i64)> {
    let marked = format!("{text}{SPAN_END}");
    let (from, to) = text.split_once(UP_TO).unwrap_or((text, &marked));
    let from_ns = parse_moment(from, anchor)?;
    let to_ns = parse_moment(to, Anchor { after_ns: Some(from_ns), ..anchor })?;
    if from_ns > to_ns {
        return Err(usage(format!("the span `{text}` ends before it starts"), None));
    }
    Ok((from_ns, to_ns))
}

/// Counts are of whole spans: how long each is has to be known beside them.
fn say_span(
    recording: &Recording,
    what: &str,
    chosen: &Selection,
    zone: Zone,
) -> anyhow::Result<()> {
    let Some(recorded) = recording.span()? else {
        note(&format!("{what}: the recording holds no snapshot"));
        return Ok(());
    };
    let from = chosen.from_ns.unwrap_or(i64::MIN).max(recorded.from_ns);
    let to = chosen.to_ns.unwrap_or(i64::MAX).min(recorded.to_ns);
    if from > to {
        note(&format!("{what}: nothing was recorded then"));
        return Ok(());
    }
    let (from, to, length) = (time(from, zone), time(to, zone), duration(to.saturating_sub(from)));
    note(&format!("{what}: {from} to {to} ({length})"));
    Ok(())
}
