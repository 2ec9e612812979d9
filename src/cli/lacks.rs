//! What is said of a recording that lacks what an answer would need.

use super::Exit;
use super::message::{note, warn};
use crate::query::{By, OWNER_COLUMNS, Question, RecordedFilter, Recording, Selection};
use crate::render::human::exact;

/// Columns that mostly destroy events tell.
const OF_EVENTS: &[&str] = &["ending", "ending_evidence", "destroyed_at"];

/// Says what was left out when it was recorded, and what the captures could not tell of what this asks
/// for.
pub(super) fn note_lacks(
    recording: &Recording,
    question: Question,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    note_filters(recording, selection)?;
    note_limits(recording, question, selection)
}

/// Says what the captures could not tell, of what this asks for: nothing matches then, though it may have
/// been there.
pub(super) fn note_limits(
    recording: &Recording,
    question: Question,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    let limits = recording.capture_limits(selection)?;
    let within = |captures: i64| {
        if captures == limits.captures {
            return String::new();
        }
        format!("in {captures} of {} captures ", limits.captures)
    };
    let asks_for = |columns| selection.filter.as_ref().is_some_and(|f| f.asks_for(columns));
    let asks_for_owners = is_of_owners(question) || asks_for(OWNER_COLUMNS);
    let facts = [
        (
            asks_for_owners,
            limits.without_owners,
            "neither processes nor cgroups were looked for: whose a socket was is not known",
        ),
        (
            asks_for(&["mark"]),
            limits.without_marks,
            "without CAP_NET_ADMIN the kernel told no marks: what the filter asks for is not known",
        ),
        (
            asks_for(OF_EVENTS),
            limits.without_events,
            "destroy events, which tell most endings, were not listened to: how a connection ended \
             is seldom known",
        ),
    ];
    let mut exit = Exit::Fine;
    for (_, captures, why) in facts.into_iter().filter(|(is_asked, n, _)| *is_asked && *n > 0) {
        warn(&format!("{}{why}", within(captures)));
        exit = Exit::Gaps;
    }
    if asks_for_owners && limits.of_one_user > 0 {
        let within = within(limits.of_one_user);
        note(&format!(
            "{within}only the processes of one user could be seen: other owners are not known"
        ));
    }
    Ok(exit.or(warn_thinned(recording, question, selection)?))
}

/// Says to what the samples of the span of a question about values were thinned.
fn warn_thinned(
    recording: &Recording,
    question: Question,
    selection: &Selection,
) -> anyhow::Result<Exit> {
    let is_of_values = matches!(
        question,
        Question::Samples
            | Question::Listeners { .. }
            | Question::Totals(_)
            | Question::Slow
            | Question::Compare
    );
    let steps = if is_of_values { recording.thinned_in(selection)? } else { Vec::new() };
    if steps.is_empty() {
        return Ok(Exit::Fine);
    }
    let steps: Vec<_> = steps.iter().map(|ns| exact(*ns).to_string()).collect();
    warn(&format!(
        "samples of this span were thinned to {}: what values were between is not known",
        steps.join(", ")
    ));
    Ok(Exit::Gaps)
}

fn is_of_owners(question: Question) -> bool {
    matches!(
        question,
        Question::Totals(By::Process | By::Cgroup)
            | Question::Leaks { .. }
            | Question::Owners
            | Question::Processes
    )
}

/// Says what was left out when it was recorded, in this span; gives whether anything was.
pub(super) fn note_filters(recording: &Recording, selection: &Selection) -> anyhow::Result<bool> {
    let filters = recording.filters(selection)?;
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
    let gaps = recording.gaps_in(selection)?;
    if gaps.is_empty() {
        return Ok(Exit::Fine);
    }
    let kinds: Vec<_> = gaps.iter().map(|(kind, times)| format!("{kind} ({times})")).collect();
    let kinds = kinds.join(", ");
    warn(&format!("gaps in this span: {kinds}; `sockrec query coverage` tells when"));
    Ok(Exit::Gaps)
}
