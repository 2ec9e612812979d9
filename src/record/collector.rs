//! The loop: wait for the tick, dump every scope, hand over what changed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batch::Parcel;
use super::inputs::{Kernel, Plan};
use super::limits::{CpuAccount, Limits};
use super::numbering::Numbering;
use super::outbox::Outbox;
use super::outcome::{Event, Progress, RecordError};
use super::pace::{Pace, Wake};
use super::schedule::Schedule;
use super::session::Ways;
use super::tracker::Tracker;
use super::writer::Written;
use crate::kernel::{DumpEnd, EventBatch, Refusal};
use crate::model::{
    Arrival, ClockChange, ClockChangeKind, Clocks, EndReason, Exception, ExceptionKind, Family,
    Nanos, Place, Protocol, RefusedNamespace, Snapshot, SnapshotId,
};

/// So long the end of a capture waits for the owners of its last sockets.
const OWNERS_WAITED_FOR: Duration = Duration::from_millis(500);
/// UTC is slewed all the time; more than this between two ticks is a step.
const STEP_NS: i64 = 50_000_000;
/// Dumps take at most one part of the interval in so many, but for those of one namespace.
const DUMPS_SHARE: Nanos = 2;
/// Boot time and monotonic time are read one after the other; more than this is a suspend.
const SUSPEND_NS: i64 = 10_000_000;

/// Says which namespaces cannot be recorded, each once; gives what is to be written of them.
pub(super) fn tell_refused(
    refused: Vec<Refusal>,
    listener: &mut dyn FnMut(&Event),
) -> Vec<RefusedNamespace> {
    let facts = refused.iter().map(|refusal| refusal.namespace.clone()).collect();
    let news: Vec<_> = refused.into_iter().filter(|refusal| !refusal.is_said).collect();
    if !news.is_empty() {
        listener(&Event::Refused(news));
    }
    facts
}

/// What goes on while a capture is made.
pub(super) struct Collector<'a> {
    plan: &'a Plan,
    tracker: Tracker,
    events: EventBatch,
    outbox: Outbox,
    written: &'a Written,
    snapshot: SnapshotId,
    taken: u64,
    /// This tick is the last one of the capture.
    is_last: bool,
    limits: Limits,
    missed_ticks: u64,
    left_out_ticks: u64,
    /// Ticks that were left out since the last snapshot.
    left_out: u64,
    taken_at_ns: Nanos,
    took_ns: Nanos,
    rests_for_ns: Nanos,
    failed_dumps: u64,
    /// Dumps that told anything.
    answered_dumps: u64,
    last_failure: String,
    unsupported: Vec<(Family, Protocol)>,
    last_clocks: Option<Clocks>,
    /// Where namespaces may come: the numbers of those that do.
    numbering: Option<Numbering>,
    /// Namespaces that came, to be written.
    arrivals: Vec<Arrival>,
    /// Likewise those that cannot be recorded.
    refused: Vec<RefusedNamespace>,
    /// The place of the namespace that is asked first.
    turn: usize,
}

impl<'a> Collector<'a> {
    /// One that has taken no snapshot yet; this is the first that it will take.
    pub(super) fn new(
        plan: &'a Plan,
        tracker: Tracker,
        outbox: Outbox,
        written: &'a Written,
        snapshot: SnapshotId,
    ) -> Self {
        Self {
            plan,
            tracker,
            events: EventBatch::default(),
            outbox,
            written,
            snapshot,
            taken: 0,
            is_last: false,
            limits: plan.limits.clone(),
            missed_ticks: 0,
            left_out_ticks: 0,
            left_out: 0,
            taken_at_ns: 0,
            took_ns: 0,
            rests_for_ns: 0,
            failed_dumps: 0,
            answered_dumps: 0,
            last_failure: String::new(),
            unsupported: Vec::new(),
            last_clocks: None,
            numbering: None,
            arrivals: Vec::new(),
            refused: Vec::new(),
            turn: 0,
        }
    }

    /// From now on namespaces may come; these are there from the first snapshot on, and those cannot be
    /// recorded.
    pub(super) fn number(
        &mut self,
        numbering: Numbering,
        arrivals: Vec<Arrival>,
        refused: Vec<RefusedNamespace>,
    ) {
        self.numbering = Some(numbering);
        (self.arrivals, self.refused) = (arrivals, refused);
    }

    /// Takes snapshots until the plan is fulfilled or a stop is asked for.
    pub(super) fn run(
        &mut self,
        ways: &mut Ways<'_>,
        pace: &mut dyn Pace,
    ) -> Result<EndReason, RecordError> {
        // What it took to open the recording is no missed tick.
        let start_ns = pace.now().monotonic_ns;
        let mut schedule = Schedule::new(start_ns, self.plan.interval_ns);
        let mut account = CpuAccount::new(start_ns, pace.cpu_ns());
        let end_ns = self.plan.duration_ns.map(|d| start_ns + d);
        let mut missed = 0;
        let reason = loop {
            let due_ns = schedule.due_ns();
            if let Some(end_ns) = end_ns.filter(|&end_ns| end_ns <= due_ns) {
                break match pace.wait_until(end_ns) {
                    Wake::Stop(reason) => reason,
                    Wake::Due => EndReason::Duration,
                };
            }
            if let Wake::Stop(reason) = pace.wait_until(due_ns) {
                break reason;
            }
            if let Some(limits) = pace.new_limits() {
                self.keep_to(limits.clone())?;
                (ways.listener)(&Event::Limits(limits));
            }
            if self.outbox.parcels.is_full() {
                // The disk is behind: this tick is left out rather than queued up.
                let skipped = 1 + schedule.advance(pace.now().monotonic_ns);
                missed += skipped;
                self.missed_ticks += skipped;
                continue;
            }
            let late = schedule.advance(pace.now().monotonic_ns);
            self.missed_ticks += late;
            self.is_last = self.plan.count.is_some_and(|count| self.taken + 1 >= count);
            self.tick(ways, &|| pace.now(), missed + late)?;
            missed = if self.is_last { 0 } else { self.rest(&mut account, &mut schedule, pace) };
            (ways.listener)(&Event::Tick(self.progress()));
            if let Some(error) = self.nothing_works() {
                self.end(EndReason::Error, pace.now())?;
                return Err(error);
            }
            if self.is_last {
                break EndReason::Count;
            }
        };
        if !matches!(reason, EndReason::Count | EndReason::Error) {
            // What ended since the last tick is recorded too, and what is there at the end.
            self.is_last = true;
            self.tick(ways, &|| pace.now(), missed)?;
            (ways.listener)(&Event::Tick(self.progress()));
        }
        self.end(reason, pace.now())?;
        Ok(reason)
    }

    fn keep_to(&mut self, limits: Limits) -> Result<(), RecordError> {
        self.tracker.limit_new_sockets(limits.max_new_sockets);
        if limits.capacity != self.limits.capacity {
            self.outbox.send(Parcel::Capacity(limits.capacity.clone()))?;
        }
        if let Some(owners) = &self.outbox.owners {
            owners.keep_to(limits.max_cpu);
        }
        self.limits = limits;
        Ok(())
    }

    /// Leaves out the ticks that would take more than the limit of CPU time; gives how many were
    /// missed by then.
    fn rest(&mut self, account: &mut CpuAccount, schedule: &mut Schedule, pace: &dyn Pace) -> u64 {
        let now_ns = pace.now().monotonic_ns;
        let rest_ns = account.settle(self.limits.max_cpu, now_ns, pace.cpu_ns());
        self.rests_for_ns = 0;
        if rest_ns == 0 {
            return 0;
        }
        // Those that fell due meanwhile were missed, those to come are left out.
        let late = schedule.skip_until(now_ns);
        self.left_out = schedule.skip_until(now_ns.saturating_add(rest_ns));
        self.missed_ticks += late + self.left_out;
        self.left_out_ticks += self.left_out;
        if self.left_out > 0 {
            self.rests_for_ns = schedule.due_ns() - now_ns;
        }
        late + self.left_out
    }

    /// The recording tells which ticks were left out to keep within which limit.
    fn note_left_out(&mut self) {
        let count = std::mem::take(&mut self.left_out);
        if count > 0 {
            let share = self.limits.max_cpu.map(|share| share.to_string()).unwrap_or_default();
            self.outbox.batch.exceptions.push(Exception {
                snapshot: self.snapshot,
                kind: ExceptionKind::TicksLeftOut,
                scope: None,
                errno: None,
                count: Some(count),
                message: Some(format!("to keep within {share} of a CPU")),
            });
        }
    }

    /// Ends the capture.
    pub(super) fn end(&mut self, reason: EndReason, at: Clocks) -> Result<(), RecordError> {
        let missed_ticks = self.missed_ticks;
        let owners = self.outbox.owners.as_mut();
        let owner_changes = owners.map(|owners| owners.settle(OWNERS_WAITED_FOR));
        let owner_changes = owner_changes.unwrap_or_default();
        self.outbox.send(Parcel::EndCapture { reason, at, missed_ticks, owner_changes })
    }

    /// A first snapshot without a single dump is no recording.
    fn nothing_works(&self) -> Option<RecordError> {
        if self.unsupported.len() == self.plan.dumps.len() {
            return Some(RecordError::NothingSupported);
        }
        let is_all = self.answered_dumps == 0;
        (self.taken == 1 && is_all).then(|| RecordError::AllFailed(self.last_failure.clone()))
    }

    /// Takes one snapshot.
    pub(super) fn tick(
        &mut self,
        ways: &mut Ways<'_>,
        now: &dyn Fn() -> Clocks,
        missed_ticks: u64,
    ) -> Result<(), RecordError> {
        let started = now();
        let snapshot = self.snapshot;
        let (group, is_keyframe) =
            self.tracker.begin_tick(snapshot, started, ways.kernel.wants_keyframe());
        self.outbox.beginning = Some(Parcel::BeginTick { snapshot, group, is_keyframe });
        self.note_left_out();
        self.follow_namespaces(ways);

        // What ended before the dumps is over in them: what they show of it is what is left.
        let mut outcome = self.take_events(ways.kernel);
        outcome = outcome.and(self.dump_all(ways, started, now));
        if self.is_last {
            ways.kernel.await_events(now().monotonic_ns);
        }
        let taken = self.take_events(ways.kernel);
        outcome = outcome.and(taken);
        if self.is_last {
            self.tracker.hear_no_more();
        }
        let ended = now();
        self.note_clock_changes(ended);
        let (tracker, outbox) = (&mut self.tracker, &mut self.outbox);
        let mut batch = std::mem::take(&mut outbox.batch);
        let sockets_seen = tracker.end_tick(ended, &mut batch, |batch| {
            if outcome.is_ok() {
                outcome = outbox.exchange(batch);
            }
        });
        if let Some(owners) = &self.outbox.owners {
            batch.owner_changes.extend(owners.changes());
        }
        self.outbox.batch = batch;
        outcome?;
        self.outbox.flush()?;
        self.outbox.send(Parcel::EndTick(Snapshot {
            id: snapshot,
            group,
            is_keyframe,
            started,
            ended,
            missed_ticks,
            sockets_seen,
            events: self.tracker.event_counts(),
        }))?;
        self.outbox.end_tick();
        if let Some(owners) = &mut self.outbox.owners {
            owners.end_tick(snapshot);
        }
        for place in self.tracker.take_left() {
            ways.kernel.leave(place);
        }
        self.last_clocks = Some(ended);
        self.taken_at_ns = started.utc_ns;
        self.took_ns = ended.monotonic_ns - started.monotonic_ns;
        self.snapshot = snapshot.next();
        self.taken += 1;
        Ok(())
    }

    /// Hears which namespaces came and which were let go of.
    fn follow_namespaces(&mut self, ways: &mut Ways<'_>) {
        let Some(numbering) = &mut self.numbering else { return };
        let news = ways.kernel.namespace_news();
        for (place, facts) in news.arrived {
            let arrival = numbering.arrival(facts, self.snapshot);
            let scopes = arrival.scopes.iter().map(|(id, scope)| (*id, scope.clone(), None));
            self.tracker.arrive(place, arrival.netns, scopes.collect());
            self.arrivals.push(arrival);
        }
        self.outbox.batch.arrivals.append(&mut self.arrivals);
        for (place, is_let_go) in news.let_go {
            self.tracker.let_go(place, is_let_go);
        }
        // What was refused before the first snapshot may be there by now.
        self.refused.retain(|refused| !news.admitted.contains(&refused.name));
        self.outbox.batch.admitted.extend(news.admitted);
        self.outbox.batch.refused.append(&mut self.refused);
        self.outbox.batch.refused.extend(tell_refused(news.refused, ways.listener));
    }

    /// Makes the dumps of all namespaces. Each walks the sockets of the whole machine: where there are
    /// many namespaces, those that the time does not suffice for come first in the next snapshot.
    fn dump_all(
        &mut self,
        ways: &mut Ways<'_>,
        started: Clocks,
        now: &dyn Fn() -> Clocks,
    ) -> Result<(), RecordError> {
        let places = self.tracker.places();
        let until_ns = started.monotonic_ns + self.plan.interval_ns / DUMPS_SHARE;
        let (mut outcome, mut has_asked, mut next_turn) = (Ok(()), false, None);
        for step in 0..places {
            let of = (self.turn + step) % places;
            let Some(place) = self.tracker.place(of) else { continue };
            let is_empty = places > 1 && ways.kernel.is_empty(place);
            if !is_empty && has_asked && now().monotonic_ns > until_ns {
                next_turn = next_turn.or(Some(of));
                self.tracker.pass_over(of, &mut self.outbox.batch);
            } else if is_empty {
                self.find_empty(of);
            } else {
                has_asked = true;
                for dump in 0..self.plan.dumps.len() {
                    self.dump(ways, place, (of, dump), &mut outcome);
                }
            }
        }
        self.turn = next_turn.unwrap_or(0);
        outcome
    }

    /// All dumps of a namespace are complete without having been made.
    fn find_empty(&mut self, of: usize) {
        self.answered_dumps += 1;
        for dump in 0..self.plan.dumps.len() {
            if let Some((index, _)) = self.tracker.asked(of, dump) {
                self.tracker.end_dump(index, DumpEnd::Complete, &mut self.outbox.batch);
            }
        }
    }

    /// Makes one dump of a namespace, if the kernel has it.
    fn dump(
        &mut self,
        ways: &mut Ways<'_>,
        place: Place,
        (of, dump): (usize, usize),
        outcome: &mut Result<(), RecordError>,
    ) {
        let Ways { kernel, listener } = ways;
        let (tracker, outbox) = (&mut self.tracker, &mut self.outbox);
        let Some((index, scope)) = tracker.asked(of, dump) else { return };
        let (family, protocol, states) = (scope.family, scope.protocol, scope.states);
        let end = kernel.dump(place, family, protocol, states, &mut |payload, made_at| {
            tracker.observe(index, payload, made_at, &mut outbox.batch);
            if outbox.batch.is_full() && outcome.is_ok() {
                *outcome = outbox.flush();
            }
        });
        let failure = match &end {
            DumpEnd::Complete | DumpEnd::NotAsked | DumpEnd::Partial(_) => None,
            DumpEnd::Interrupted => Some("the kernel was interrupted"),
            DumpEnd::Unsupported => Some("the kernel no longer has it"),
            DumpEnd::Failed { message, .. } => Some(message.as_str()),
        };
        let failure = failure.map(str::to_owned);
        let is_answered = !matches!(end, DumpEnd::Failed { .. } | DumpEnd::Unsupported);
        self.answered_dumps += u64::from(is_answered);
        let is_given_up = self.tracker.end_dump(index, end, &mut self.outbox.batch);
        if is_given_up {
            if !self.unsupported.contains(&(family, protocol)) {
                self.unsupported.push((family, protocol));
                listener(&Event::Unsupported(family, protocol));
            }
        } else if let Some(message) = failure {
            self.failed_dumps += 1;
            self.last_failure.clone_from(&message);
            listener(&Event::DumpFailed(family, protocol, message));
        }
    }

    /// Takes the destroy events that were read until now.
    fn take_events(&mut self, kernel: &mut dyn Kernel) -> Result<(), RecordError> {
        let Self { tracker, events, outbox, .. } = self;
        kernel.take_events(events);
        // Who was lost may be meant by those that were not.
        for span in &events.losses {
            tracker.lose_events(span, &mut outbox.batch);
        }
        tracker.foresee(events);
        let mut outcome = Ok(());
        events.each(|payload, stamp| {
            let may_have_subflows = |place| kernel.may_have_subflows(place);
            tracker.event(payload, stamp, may_have_subflows, &mut outbox.batch);
            if outbox.batch.is_full() && outcome.is_ok() {
                outcome = outbox.flush();
            }
        });
        tracker.end_events();
        events.clear();
        outcome
    }

    /// Holds the clocks at the end of this tick against those at the end of the last one.
    fn note_clock_changes(&mut self, now: Clocks) {
        let Some(last) = self.last_clocks else { return };
        let snapshot = self.snapshot;
        let utc_ns = now.utc_ns - last.utc_ns;
        let boottime_ns = now.boottime_ns - last.boottime_ns;
        let monotonic_ns = now.monotonic_ns - last.monotonic_ns;
        let mut note = |kind, delta_ns| {
            self.outbox.batch.clock_changes.push(ClockChange { snapshot, kind, delta_ns });
        };
        if (utc_ns - boottime_ns).abs() > STEP_NS {
            note(ClockChangeKind::Step, utc_ns - boottime_ns);
        }
        if boottime_ns - monotonic_ns > SUSPEND_NS {
            note(ClockChangeKind::Suspend, boottime_ns - monotonic_ns);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let snapshots = self.written.snapshots.load(Ordering::Relaxed);
        Progress {
            snapshots,
            samples: self.written.samples.load(Ordering::Relaxed),
            sockets: self.tracker.live_sockets(),
            lag: self.taken.saturating_sub(snapshots + 1), // the last has just been sent
            missed_ticks: self.missed_ticks,
            left_out_ticks: self.left_out_ticks,
            taken_at_ns: self.taken_at_ns,
            took_ns: self.took_ns,
            rests_for_ns: self.rests_for_ns,
            failed_dumps: self.failed_dumps,
            not_stored: self.tracker.not_stored(),
            event_losses: self.tracker.event_losses(),
            file_bytes: self.written.file_bytes.load(Ordering::Relaxed),
        }
    }
}
