//! A disk without room does not end a recording: it goes on, as another capture, once there is room.

use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::args::RecordArgs;
use super::session::Session;
use super::voice::Voice;
use crate::kernel::free_bytes;
use crate::model::{EndReason, Nanos, SocketId};
use crate::record::{Pace, Plan, Progress, RecordError, SignalPace, Summary, Wake};
use crate::store::StoreError;

/// Recording goes on once there is so much room.
pub(super) const ROOM_BYTES: u64 = 16 << 20;
/// So often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// If there seems to be room and nothing could be stored, it is tried again after so long.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// What several captures came to.
pub(super) struct Recorded {
    pub(super) summary: Summary,
    pub(super) pauses: u64,
    /// Whether it ended in one.
    pub(super) is_paused: bool,
}

/// Records, with pauses where there is no room.
pub(super) struct Pauses<'a> {
    args: &'a RecordArgs,
    plan: &'a mut Plan,
    pace: &'a mut SignalPace,
    voice: &'a mut Voice,
    /// When the recording is to end, on `CLOCK_MONOTONIC`.
    ends_at_ns: Option<Nanos>,
    /// Of the captures before.
    before: Progress,
    pauses: u64,
}

impl<'a> Pauses<'a> {
    pub(super) fn new(
        args: &'a RecordArgs,
        plan: &'a mut Plan,
        pace: &'a mut SignalPace,
        voice: &'a mut Voice,
    ) -> Self {
        let ends_at_ns = plan.duration_ns.map(|length| pace.now().monotonic_ns + length);
        Self { args, plan, pace, voice, ends_at_ns, before: Progress::default(), pauses: 0 }
    }

    /// Records until something else than room is missing. Where snapshots are counted nobody waits for
    /// those that cannot be had, nor where there never was room for one.
    pub(super) fn record(
        mut self,
        mut session: Session,
        ended: &Option<Sender<Vec<SocketId>>>,
    ) -> anyhow::Result<Recorded> {
        loop {
            self.voice.begin_capture();
            let result = session.record(self.plan, self.pace, self.voice, ended.clone());
            let last = *self.voice.progress();
            match result {
                Ok(summary) => return Ok(self.sum_up(summary, false)),
                Err(e) if !is_full(&e) || self.plan.count.is_some() => return Err(e),
                Err(e) if self.before.snapshots + last.snapshots == 0 => return Err(e),
                Err(_) => {}
            }
            self.add(&last);
            self.plan.limits = self.voice.limits().clone();
            self.pauses += 1;
            self.voice.pause(&self.args.output);
            let has_stored = last.snapshots > 0;
            match self.wait_for_room(if has_stored { LOOK_EVERY } else { TRY_EVERY })? {
                Ok(next) => session = next,
                Err(reason) => {
                    let progress = Progress { snapshots: 0, samples: 0, ..last };
                    return Ok(self.sum_up(Summary { progress, reason }, true));
                }
            }
            self.voice.resume();
        }
    }

    fn add(&mut self, progress: &Progress) {
        self.before.snapshots += progress.snapshots;
        self.before.samples += progress.samples;
    }

    fn sum_up(self, summary: Summary, is_paused: bool) -> Recorded {
        let progress = Progress {
            snapshots: summary.progress.snapshots + self.before.snapshots,
            samples: summary.progress.samples + self.before.samples,
            ..summary.progress
        };
        Recorded { summary: Summary { progress, ..summary }, pauses: self.pauses, is_paused }
    }

    /// Opens everything anew once there is room, and after so long at the earliest; or says why nobody
    /// waits any longer.
    fn wait_for_room(&mut self, least: Duration) -> anyhow::Result<Result<Session, EndReason>> {
        let mut due_ns = after(self.pace, least);
        loop {
            let is_last = self.ends_at_ns.is_some_and(|ends_at_ns| ends_at_ns <= due_ns);
            let until_ns = self.ends_at_ns.map_or(due_ns, |ends_at_ns| due_ns.min(ends_at_ns));
            match self.pace.wait_until(until_ns) {
                Wake::Due if is_last => return Ok(Err(EndReason::Duration)),
                // What the capture that failed has sent.
                Wake::Due | Wake::Stop(EndReason::Error) => {}
                Wake::Stop(reason) => return Ok(Err(reason)),
            }
            let now_ns = self.pace.now().monotonic_ns;
            if now_ns < due_ns {
                continue;
            }
            if has_room(&self.args.output) {
                self.plan.duration_ns = self.ends_at_ns.map(|ends_at_ns| ends_at_ns - now_ns);
                match Session::open(self.args, self.plan) {
                    Ok(session) => return Ok(Ok(session)),
                    Err(e) if is_full(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            self.voice.still_paused();
            due_ns = after(self.pace, LOOK_EVERY);
        }
    }
}

fn after(pace: &SignalPace, time: Duration) -> Nanos {
    let ns = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    pace.now().monotonic_ns.saturating_add(ns)
}

fn has_room(path: &Path) -> bool {
    free_bytes(path).is_none_or(|bytes| bytes >= ROOM_BYTES)
}

fn is_full(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<StoreError>().or_else(|| match error.downcast_ref()? {
        RecordError::Store(e) => Some(e),
        _ => None,
    });
    matches!(store, Some(StoreError::Full { .. }))
}
