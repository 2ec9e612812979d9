//! What is said of a recording that lacks what an answer would need.

use super::Exit;
use super::message::{note, warn};
use crate::filter::Condition;
use crate::query::{By, Question, RecordedFilter, Recording, Selection};

/// Columns that tell of those who held a socket.
const OF_HOLDERS: [&str; 9] =
    ["pid", "comm", "exe", "command_line", "user", "owners", "owner_count", "unit", "container"];

/// Says what was left out when it was recorded, and what the captures could not tell of what this asks
/// for.
pub(super) fn note_lacks(
    recording: &Recording,
    question: Question,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    note_filters(recording, selection.from_ns, selection.to_ns)?;
    note_limits(recording, question, selection)
}

/// Says what the captures could not tell, of what this asks for.
pub(super) fn note_limits(
    recording: &Recording,
    question: Question,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    let asks = asked(question, selection);
    if !asks.owners && !asks.marks {
        return Ok(Exit::Fine);
    }
    let (from_ns, to_ns) =
        (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
    let limits = recording.capture_limits(from_ns, to_ns)?;
    let within = |captures: i64| {
        if captures == limits.captures {
            return String::new();
        }
        format!("in {captures} of {} captures ", limits.captures)
    };
    let mut exit = Exit::Fine;
    if asks.owners && limits.without_owners > 0 {
        let within = within(limits.without_owners);
        warn(&format!("{within}owners were not looked for: who held which socket is not known"));
        exit = Exit::Gaps;
    }
    if asks.owners && limits.of_one_user > 0 {
        let within = within(limits.of_one_user);
        note(&format!(
            "{within}only the processes of one user could be seen: other owners are not known"
        ));
    }
    if asks.marks && limits.without_marks > 0 {
        let within = within(limits.without_marks);
        warn(&format!("{within}the kernel told no marks: recording them takes CAP_NET_ADMIN"));
        exit = Exit::Gaps;
    }
    Ok(exit)
}

struct Asked {
    owners: bool,
    marks: bool,
}

fn asked(question: Question, selection: &Selection) -> Asked {
    let is_of_owners = matches!(
        question,
        Question::Totals(By::Process | By::Cgroup)
            | Question::Leaks { .. }
            | Question::Owners
            | Question::Processes
    );
    let mut asked = Asked { owners: is_of_owners, marks: false };
    let sorted = selection.sort.iter().map(|key| key.column.as_str());
    let filter = selection.filter.as_ref();
    let conditions = filter.map(|filter| filter.conditions()).unwrap_or_default();
    let mut names: Vec<_> = sorted.collect();
    for (condition, _) in conditions {
        match condition {
            Condition::Field { field, .. } => names.push(field.name()),
            Condition::Cgroup { .. } => names.push("cgroup"),
            Condition::Mark { .. } => names.push("mark"),
            _ => {}
        }
    }
    for name in names {
        asked.owners |= name == "cgroup" || OF_HOLDERS.contains(&name);
        asked.marks |= name == "mark";
    }
    asked
}

/// Says what was left out when it was recorded, in this span; gives whether anything was.
pub(super) fn note_filters(
    recording: &Recording,
    from_ns: Option<i64>,
    to_ns: Option<i64>,
) -> anyhow::Result<bool> {
    let (from_ns, to_ns) = (from_ns.unwrap_or(i64::MIN), to_ns.unwrap_or(i64::MAX));
    let filters = recording.filters(from_ns, to_ns)?;
    for RecordedFilter { filter, is_taken, captures, captures_of_span, scopes } in &filters {
        let of = scopes.as_ref().map_or_else(String::new, |scopes| format!(" of {scopes}"));
        let within = match captures == captures_of_span {
            true => String::new(),
            false => format!("in {captures} of {captures_of_span} captures "),
        };
        let done = if *is_taken { "taken over" } else { "recorded" };
        note(&format!("{within}only `{filter}` was {done}{of}: of other sockets nothing is known"));
    }
    Ok(!filters.is_empty())
}

/// Says which gaps the span of a question that sums up has.
pub(super) fn warn_gaps(recording: &Recording, selection: &Selection) -> anyhow::Result<Exit> {
    let (from_ns, to_ns) =
        (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
    let gaps = recording.gaps_in(from_ns, to_ns)?;
    if gaps.is_empty() {
        return Ok(Exit::Fine);
    }
    let kinds: Vec<_> = gaps.iter().map(|(kind, times)| format!("{kind} ({times})")).collect();
    let kinds = kinds.join(", ");
    warn(&format!("gaps in this span: {kinds}; `sockrec query coverage` tells when"));
    Ok(Exit::Gaps)
}
