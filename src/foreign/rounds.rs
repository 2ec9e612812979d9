//! Dumps that belong together, and the events between them: what becomes one snapshot.

use std::collections::VecDeque;

use super::dumps::{Dump, Item};
use crate::model::{Clocks, Nanos};

/// The next dump of a round begins within this time after the one before.
const PAUSE_NS: Nanos = 250_000_000;
/// Events that are kept for the next round of dumps; more become a round without.
const EVENTS_MAX: usize = 20_000;

/// What becomes one snapshot.
#[derive(Debug)]
pub struct Round {
    /// When its first dump was asked for.
    pub started: Clocks,
    /// When its last dump ended.
    pub ended: Clocks,
    /// At most one for a family and protocol.
    pub dumps: Vec<Dump>,
    /// The payloads of the destroy events since the round before, and when each came.
    pub events: Vec<(Clocks, Vec<u8>)>,
}

/// Gathers rounds.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    dumps: Vec<Dump>,
    events: VecDeque<(Clocks, Vec<u8>)>,
}

impl Gatherer {
    /// Takes the next item; gives the round that it ends.
    pub(super) fn take(&mut self, item: Item) -> Option<Round> {
        match item {
            Item::Dump(dump) => {
                let ended = if self.has_room_for(&dump) { None } else { self.finish_dumps() };
                self.dumps.push(dump);
                ended
            }
            Item::Event(at, payload) => {
                self.events.push_back((at, payload));
                (self.events.len() >= EVENTS_MAX).then(|| self.finish()).flatten()
            }
        }
    }

    /// The next of the rounds that are left.
    pub(super) fn finish(&mut self) -> Option<Round> {
        self.finish_dumps().or_else(|| {
            let at = self.events.back()?.0;
            let events = self.events.drain(..).collect();
            Some(Round { started: at, ended: at, dumps: Vec::new(), events })
        })
    }

    fn has_room_for(&self, next: &Dump) -> bool {
        let is_of_kind = |dump: &Dump| {
            let is_shared = dump.families.iter().any(|family| next.families.contains(family));
            dump.protocol == next.protocol && is_shared
        };
        self.dumps.last().is_none_or(|last| {
            next.started.boottime_ns - last.ended.boottime_ns <= PAUSE_NS
                && !self.dumps.iter().any(is_of_kind)
        })
    }

    fn finish_dumps(&mut self) -> Option<Round> {
        let dumps = std::mem::take(&mut self.dumps);
        let started = dumps.iter().map(|dump| dump.started).min_by_key(|at| at.boottime_ns)?;
        let ended = dumps.iter().map(|dump| dump.ended).max_by_key(|at| at.boottime_ns)?;
        let is_in_time = |event: &(Clocks, _)| event.0.boottime_ns <= ended.boottime_ns;
        let count = self.events.iter().take_while(|event| is_in_time(event)).count();
        Some(Round { started, ended, dumps, events: self.events.drain(..count).collect() })
    }
}
