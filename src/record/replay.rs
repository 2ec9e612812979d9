//! What others recorded, recorded again: the same loop without a schedule and a kernel.

use std::cell::{Cell, RefCell};

use super::collector::Collector;
use super::inputs::{Kernel, Plan};
use super::limits::Limits;
use super::outcome::{Event, RecordError, Summary};
use super::session::{Session, Ways};
use crate::foreign::{Contents, Dump, Import, Round, covers};
use crate::kernel::{DumpEnd, EventBatch};
use crate::model::{
    Asked, Capture, Clocks, EndReason, Family, MadeAt, Nanos, Place, Protocol, States,
};
use crate::store::Writer;

/// An event is captured when it is sent, but for the time that this takes.
const SENT_WITHIN_NS: Nanos = 1_000_000;

/// Records everything that is to be imported.
///
/// # Errors
/// When a file cannot be read or the recording cannot be written. What was stored before stays.
pub fn replay(
    import: &Import,
    contents: &Contents,
    capture: &Capture,
    writer: Writer,
    listener: &mut dyn FnMut(&Event),
) -> Result<Summary, RecordError> {
    let plan = Plan {
        chosen: None,
        dumps: contents.scopes.iter().map(|scope| (scope.family, scope.protocol)).collect(),
        states: States::ALL,
        interval_ns: 0,
        duration_ns: None,
        count: None,
        limits: Limits::NONE,
        finds_owners: false,
    };
    let scopes = contents.scopes.clone();
    let session = Session { plan: &plan, scopes, ended: None, stopper: None };
    let round = RefCell::new(None);
    let kernel = &mut Replayed {
        scopes: &contents.scopes,
        round: &round,
        has_events: contents.events > 0,
        has_losses: contents.left_out.packets_lost > 0,
        is_dumped: false,
    };
    session.run(capture, writer, Ways { kernel, listener }, |collector, ways| {
        play(collector, ways, import, &round, contents.ended)
    })
}

fn play(
    collector: &mut Collector<'_>,
    ways: &mut Ways<'_>,
    import: &Import,
    current: &RefCell<Option<Round>>,
    ended: Clocks,
) -> Result<EndReason, RecordError> {
    let mut rounds = import.rounds();
    while let Some(round) = rounds.next_round()? {
        let (started, ended) = (Cell::new(round.started), round.ended);
        current.replace(Some(round));
        // Asked when the snapshot begins and when it ends.
        collector.tick(ways, &|| started.replace(ended), 0)?;
        (ways.listener)(&Event::Tick(collector.progress()));
    }
    collector.end(EndReason::Input, ended)?;
    Ok(EndReason::Input)
}

/// A kernel that says again what others were told.
struct Replayed<'a> {
    scopes: &'a [Asked],
    round: &'a RefCell<Option<Round>>,
    has_events: bool,
    /// Any dump may be whole but for a packet that was lost.
    has_losses: bool,
    /// Events are taken before and after the dumps of a snapshot.
    is_dumped: bool,
}

impl Replayed<'_> {
    fn scope(&self, family: Family, protocol: Protocol) -> Option<&Asked> {
        self.scopes.iter().find(|scope| (scope.family, scope.protocol) == (family, protocol))
    }

    /// Why the dump does not stand for all of its scope, if it does not.
    fn lack(&self, dump: &Dump, family: Family) -> Option<&'static str> {
        let scope = self.scope(family, dump.protocol)?;
        match &dump.request {
            _ if self.has_losses => Some("packets were lost while capturing"),
            None => Some("what was asked for is not known"),
            Some(request) if !covers(request, scope) => {
                Some("fewer states were asked for, or with a filter")
            }
            Some(_) => None,
        }
    }
}

impl Kernel for Replayed<'_> {
    fn dump(
        &mut self,
        _: Place,
        family: Family,
        protocol: Protocol,
        _: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let mut round = self.round.borrow_mut();
        let mut dumps = round.iter_mut().flat_map(|round| &mut round.dumps);
        let is_meant =
            |dump: &&mut Dump| dump.protocol == protocol && dump.families.contains(&family);
        let Some(dump) = dumps.find(is_meant) else { return DumpEnd::NotAsked };
        dump.each(family, each);
        match &dump.end {
            DumpEnd::Failed { errno, message } => {
                DumpEnd::Failed { errno: *errno, message: message.clone() }
            }
            DumpEnd::Interrupted => DumpEnd::Interrupted,
            _ => match self.lack(dump, family) {
                Some(lack) => DumpEnd::Partial(lack.to_owned()),
                None => DumpEnd::Complete,
            },
        }
    }

    fn listens_to_events(&self) -> bool {
        self.has_events
    }

    /// Only what somebody listened to was captured.
    fn tells_every_event(&self) -> bool {
        false
    }

    fn wants_keyframe(&self) -> bool {
        let round = self.round.borrow();
        let mut dumps = round.iter().flat_map(|round| &round.dumps);
        dumps.any(|dump| {
            let lacks = || dump.families.iter().any(|&family| self.lack(dump, family).is_some());
            !dump.is_empty() && (dump.end != DumpEnd::Complete || lacks())
        })
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        if let Some(round) = self.round.borrow_mut().as_mut() {
            let until = if self.is_dumped { round.ended } else { round.started };
            let is_in_time = |event: &(Clocks, _)| event.0.boottime_ns <= until.boottime_ns;
            let count = round.events.iter().take_while(|event| is_in_time(event)).count();
            for (at, payload) in round.events.drain(..count) {
                batch.push(&payload, at, at.boottime_ns - SENT_WITHIN_NS);
            }
            batch.read_until_ns = Some(until.monotonic_ns);
        }
        self.is_dumped = !self.is_dumped;
    }
}
