//! FILTER arguments.

use std::fs;

use super::message::usage;
use super::moment::{Anchor, parse_moment};
use crate::filter::{Filter, FilterError, Services, Vocabulary};
use crate::model::{Family, States};
use crate::query::COLUMNS;

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

/// Reads the words at the end of a command line; `None` if there are none.
pub(super) fn read_filter(
    words: &[String],
    anchor: Anchor,
) -> Result<Option<Filtered>, FilterError> {
    let text = words.join(" ");
    if text.trim().is_empty() {
        return Ok(None);
    }
    // Without the file ports have numbers only.
    let services = fs::read("/etc/services").unwrap_or_default();
    let services = Services::read(&String::from_utf8_lossy(&services));
    let moment = |text: &str| parse_moment(text, anchor).map_err(|e| e.to_string());
    let vocabulary = Vocabulary { columns: COLUMNS, services: &services, moment: &moment };
    let filter = Filter::parse(&text, &vocabulary)?;
    Ok(Some(Filtered { filter, text }))
}
