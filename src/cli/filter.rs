//! FILTER arguments.

use std::fs;

use anyhow::Context;

use super::message::usage;
use super::moment::{Anchor, parse_moment};
use crate::filter::{Condition, Filter, FilterError, Narrowed, Services, Vocabulary};
use crate::kernel::{DiagSocket, LiveNames, has_net_admin};
use crate::model::{Column, Family, States};
use crate::query::COLUMNS;
use crate::record::{Chosen, Plan};

/// A filter and the text that it was read from.
#[derive(Clone, Debug)]
pub(super) struct Filtered {
    pub(super) filter: Filter,
    pub(super) text: String,
}

/// Refuses a filter that is never true beside the options that choose sockets.
pub(super) fn check_options(
    filter: &Filter,
    states: States,
    mut families: impl Iterator<Item = Family>,
) -> anyhow::Result<()> {
    if filter.states().intersection(states) == States::NONE {
        return Err(usage("the filter and the states that are asked for exclude each other", None));
    }
    if !families.any(|family| filter.may_hold_in(family)) {
        let hint = "leave out `-4`, or the IPv6 address";
        return Err(usage("the filter never holds for sockets of IPv4", Some(hint)));
    }
    Ok(())
}

/// Words of the command line as one text. What follows a comparison is one value, whatever blanks the
/// shell left in it.
fn joined(words: &[String]) -> String {
    const SIGNS: [&str; 10] = ["=", "==", "!=", "<", "<=", ">", ">=", "eq", "ne", "neq"];
    let mut text = String::new();
    let mut before = "";
    for word in words {
        let has_blanks = word.contains(char::is_whitespace) && !word.contains(['\'', '"', '\\']);
        let separator = if text.is_empty() { "" } else { " " };
        let quote = if has_blanks && SIGNS.contains(&before) { "'" } else { "" };
        text.extend([separator, quote, word, quote]);
        before = word;
    }
    text
}

/// Reads the words at the end of a command line, which choose rows of an answer with these columns;
/// `None` if there are none.
pub(super) fn read_filter(
    words: &[String],
    answer: &[Column],
    anchor: Anchor,
) -> Result<Option<Filtered>, FilterError> {
    let text = joined(words);
    if text.trim().is_empty() {
        return Ok(None);
    }
    // Without the file ports have numbers only.
    let services = fs::read("/etc/services").unwrap_or_default();
    let services = Services::read(&String::from_utf8_lossy(&services));
    let moment = |text: &str| parse_moment(text, anchor).map_err(|e| e.to_string());
    let vocabulary = Vocabulary { columns: COLUMNS, answer, services: &services, moment: &moment };
    let filter = Filter::parse(&text, &vocabulary)?;
    Ok(Some(Filtered { filter, text }))
}

impl Filtered {
    /// Refuses names of devices where several network namespaces are asked.
    pub(super) fn check_devices(&self) -> Result<(), FilterError> {
        let Some(span) = self.filter.device_name_at() else { return Ok(()) };
        let message = "each network namespace has a device of its own by this name";
        Err(FilterError::new(span, message)
            .hint("give the number of the device, or leave it out")
            .within(&self.text))
    }

    /// What of it can be asked of the kernel, and the rest, which asks for columns of an answer.
    pub(super) fn parted(self) -> (Option<Self>, Option<Self>) {
        let parts = match self.filter {
            Filter::And(parts) => parts,
            other => vec![other],
        };
        let is_of_kernel = |part: &Filter| {
            part.conditions().iter().all(|(c, _)| !matches!(c, Condition::Field { .. }))
        };
        let (first, rest): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_of_kernel);
        let joined = |parts: Vec<_>| {
            let text = self.text.clone();
            (!parts.is_empty()).then_some(Self { filter: Filter::And(parts), text })
        };
        (joined(first), joined(rest))
    }
}

/// Takes a filter over into the plan; gives what the kernel is asked of it.
pub(super) fn choose(
    filtered: Filtered,
    plan: &mut Plan,
    socket: &mut DiagSocket,
) -> anyhow::Result<Narrowed> {
    let Filtered { filter, text } = filtered;
    let no_mark = |span| {
        FilterError::new(span, "the kernel tells marks with CAP_NET_ADMIN only")
            .hint("run it as root, or leave the mark out")
            .within(&text)
    };
    if let Some(span) = filter.mark_at().filter(|_| !has_net_admin()) {
        return Err(no_mark(span).into());
    }
    let filter = filter.with_names(&LiveNames).map_err(|error| error.within(&text))?;
    let mut parted = filter.for_kernel();
    let is_taken = socket.takes(&parted.narrowed.bytecode);
    if !is_taken.context("the kernel refuses the filter")? {
        if let Some(span) = filter.cgroup_at() {
            let message = "this kernel cannot be asked for the cgroups of sockets";
            return Err(FilterError::new(span, message)
                .hint("Linux 5.8 and later can; queries choose by the cgroups of processes too")
                .within(&text)
                .into());
        }
        parted = filter.without_kernel();
    }
    if let Some(span) = parted.residue.as_ref().and_then(Filter::autobound_at) {
        let message = "the kernel cannot be asked this, and nobody else knows which ports it chose";
        return Err(FilterError::new(span, message)
            .hint("join `autobound` with states by `and`, not by `or`")
            .within(&text)
            .into());
    }
    check_options(&filter, plan.states, plan.dumps.iter().map(|(family, _)| *family))?;
    plan.states = plan.states.intersection(parted.states);
    plan.chosen = Some(Chosen { filter, residue: parted.residue });
    Ok(parted.narrowed)
}
