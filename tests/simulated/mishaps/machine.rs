//! A kernel that shows and tells what really happens, as far as a script lets it.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use sockrec::kernel::{DumpEnd, EventBatch, LostSpan};
use sockrec::model::{Clocks, Family, LookUp, MadeAt, Place, Protocol, States};
use sockrec::record::{Kernel, Pace, Wake, in_doubt};
use sockrec::wire::inet_diag::Message;

use super::script::{DumpFate, Run, Script, Tick};
use super::truth::{Shape, Truth};
use crate::world::{START_BOOTTIME, START_MONOTONIC, START_UTC};

const HOUR_NS: i64 = 3_600_000_000_000;

/// The clocks in the course of time. Moments are microseconds of the steady one since the start.
#[derive(Debug)]
pub struct Timeline {
    /// At, and for how long.
    suspends: Vec<(i64, i64)>,
    /// At, and by so many hours.
    steps: Vec<(i64, i64)>,
    end_us: i64,
}

impl Timeline {
    pub fn of(script: &Script) -> Self {
        let ticks = script.runs.iter().flat_map(|run| &run.ticks);
        let taken_us = ticks.map(|tick| script.interval_us + tick.late_us).sum::<i64>();
        let end_us = taken_us + script.runs.iter().map(|run| run.gap_us).sum::<i64>();
        let at = |permille: i64| end_us * permille / 1_000;
        Self {
            suspends: script.suspends.iter().map(|s| (at(s.at_permille), s.us)).collect(),
            steps: script.clock_steps.iter().map(|&(p, hours)| (at(p), hours)).collect(),
            end_us,
        }
    }

    pub fn at(&self, us: i64) -> Clocks {
        let until = |moments: &[(i64, i64)]| -> i64 {
            moments.iter().filter(|(at, _)| *at <= us).map(|(_, by)| by).sum()
        };
        let (ns, suspended_ns) = (us * 1_000, until(&self.suspends) * 1_000);
        Clocks {
            utc_ns: START_UTC + ns + suspended_ns + until(&self.steps) * HOUR_NS,
            monotonic_ns: START_MONOTONIC + ns,
            boottime_ns: START_BOOTTIME + ns + suspended_ns,
        }
    }

    /// The boot time of a moment that is given by whichever wall clock there was.
    pub fn boottime_of_utc(&self, utc_ns: i64) -> i64 {
        let mut hours = vec![0];
        let mut steps = self.steps.clone();
        steps.sort();
        for (_, by) in steps {
            hours.push(hours.last().unwrap() + by);
        }
        let boottimes = hours.iter().map(|by| utc_ns - by * HOUR_NS - START_UTC + START_BOOTTIME);
        boottimes.min_by_key(|ns| (ns - START_BOOTTIME).abs()).unwrap()
    }

    /// The clock that the relative times of a message are taken from: that of the kernel's ticks, which
    /// come late.
    fn jiffies_ms(&self, us: i64, end: usize) -> i64 {
        self.at(us).monotonic_ns / 1_000_000 + pick((us, end), 16) - 4
    }

    fn span(&self, at_permille: i64, us: i64) -> (i64, i64) {
        let from = self.end_us * at_permille / 1_000;
        (from, from + us)
    }
}

/// Something between 0 and `below`, always the same for the same things.
fn pick(of: impl Hash, below: i64) -> i64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    (hasher.finish() % below.unsigned_abs()).cast_signed()
}

/// Spans that do not touch each other.
fn united(spans: impl Iterator<Item = (i64, i64)>) -> Vec<(i64, i64)> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort();
    let mut united: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match united.last_mut() {
            Some((_, last)) if *last >= from => *last = to.max(*last),
            _ => united.push((from, to)),
        }
    }
    united
}

/// A destroy event on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    end: usize,
    at_us: i64,
    /// It was not sent before, as far as the reader knows.
    after_us: i64,
    read_us: i64,
}

/// The kernel of one run of the recorder.
pub struct Machine<'a> {
    truth: &'a Truth,
    time: &'a Timeline,
    run: &'a Run,
    now_us: &'a Cell<i64>,
    tick: usize,
    events: Vec<Sent>,
    /// In which nothing is read.
    unread: Vec<(i64, i64)>,
    losses: Vec<(i64, i64)>,
}

impl<'a> Machine<'a> {
    pub fn new(
        script: &Script,
        run: &'a Run,
        truth: &'a Truth,
        time: &'a Timeline,
        now_us: &'a Cell<i64>,
    ) -> Self {
        let started_us = now_us.get();
        let spans = |spans: &[super::script::Span]| -> Vec<(i64, i64)> {
            let spans = spans.iter().map(|span| time.span(span.at_permille, span.us));
            spans.filter(|(from, _)| *from >= started_us).collect()
        };
        let losses = spans(&script.losses);
        let unread = united(spans(&script.stalls).into_iter().chain(losses.iter().copied()));
        let mut sent: Vec<(i64, usize)> = (truth.ends.iter().enumerate())
            .filter_map(|(number, end)| Some((end.freed?.at_us, number)))
            .filter(|(at_us, _)| *at_us > started_us)
            .collect();
        sent.sort();
        let mut read_us = started_us;
        let mut events = Vec::new();
        for (at_us, end) in sent {
            let is_lost = losses.iter().any(|(from, to)| (*from..*to).contains(&at_us));
            if is_lost && pick((at_us, end), 4) > 0 {
                continue;
            }
            let mut after_us = at_us - 100;
            read_us = read_us.max(at_us);
            for (from, to) in &unread {
                if (*from..*to).contains(&read_us) {
                    read_us = *to;
                    after_us = after_us.min(*from);
                }
            }
            if read_us > at_us {
                after_us = after_us.min(
                    unread
                        .iter()
                        .map(|(from, _)| *from)
                        .filter(|from| *from <= at_us)
                        .max()
                        .unwrap_or(after_us),
                );
            }
            events.push(Sent { end, at_us, after_us, read_us });
        }
        Self { truth, time, run, now_us, tick: 0, events, unread, losses }
    }

    fn script(&self) -> Tick {
        self.run.ticks[self.tick.min(self.run.ticks.len() - 1)]
    }
}

impl Kernel for Machine<'_> {
    fn dump(
        &mut self,
        _: Place,
        family: Family,
        _: Protocol,
        _: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let (tick, began_us) = (self.script(), self.now_us.get());
        let mut looked_at: Vec<(i64, usize)> = (0..self.truth.ends.len())
            .map(|end| (began_us + pick((end, self.tick), tick.takes_us), end))
            .collect();
        // As the kernel does it: listeners first.
        looked_at.sort_by_key(|&(us, end)| (self.truth.ends[end].is_connection, us));
        let until_us = match tick.fate {
            DumpFate::Failed(permille) => began_us + tick.takes_us * permille / 1_000,
            _ => i64::MAX,
        };
        for (us, number) in looked_at.into_iter().take_while(|(us, _)| *us <= until_us) {
            let end = &self.truth.ends[number];
            if end.shape_at(us) == Shape::Hidden {
                continue;
            }
            let shown = &end.shown;
            if tick.misses == Some(number) && shown.is_shown.get() && !shown.is_missed.get() {
                shown.is_missed.set(true);
                continue;
            }
            let cookie = self.truth.cookie_at(number, us);
            let socket = end.shown_at(us, cookie).unwrap();
            shown.is_shown.set(true);
            self.now_us.set(us);
            let made_at_ms = self.time.at(us).monotonic_ns / 1_000_000;
            let now_ms = self.time.jiffies_ms(us, number).min(socket.timer_ends_at_ms);
            each(&mut socket.message(family, now_ms), MadeAt::just(made_at_ms));
        }
        self.now_us.set(began_us + tick.takes_us);
        self.tick += 1;
        match tick.fate {
            DumpFate::Complete => DumpEnd::Complete,
            DumpFate::Interrupted => DumpEnd::Interrupted,
            DumpFate::Failed(_) => {
                DumpEnd::Failed { errno: Some(12), message: "Cannot allocate memory".to_owned() }
            }
        }
    }

    fn listens_to_events(&self) -> bool {
        self.run.listens
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        if !self.run.listens {
            return;
        }
        let now_us = self.now_us.get();
        let read = self.events.iter().take_while(|sent| sent.read_us <= now_us).count();
        for sent in self.events.drain(..read) {
            let end = &self.truth.ends[sent.end];
            let event = end.event(self.truth.cookie_of_socket(sent.end, sent.at_us)).unwrap();
            let sent_ms = self.time.jiffies_ms(sent.at_us, sent.end);
            let payload = event.message(Protocol::Tcp, Family::Inet, sent_ms);
            let sent_after_ns = self.time.at(sent.after_us).boottime_ns;
            end.shown.told_us.set(Some(sent.read_us));
            batch.push(&payload, self.time.at(sent.read_us), sent_after_ns);
            // Not every answer comes.
            let is_answered = pick((sent.at_us, sent.end, "answer"), 5) > 0;
            if is_answered && in_doubt(true)(&Message::parse(&payload).unwrap()) {
                let at_us = sent.read_us + pick((sent.at_us, "look-up"), 100);
                let left = self.truth.left_at(sent.end, at_us);
                batch.look_up_last(LookUp { at: self.time.at(at_us), left });
            }
        }
        let unread_since = self.unread.iter().find(|(from, to)| (*from..*to).contains(&now_us));
        let read_until_us = unread_since.map_or(now_us, |(from, _)| *from);
        batch.read_until_ns = Some(self.time.at(read_until_us).monotonic_ns);
        for (from, to) in self.losses.extract_if(.., |(_, to)| *to <= now_us) {
            let (from, to) = (self.time.at(from), self.time.at(to));
            batch.losses.push(LostSpan { from, to, count: None });
        }
    }
}

/// Ticks as late as a script says.
pub struct ScriptedPace<'a> {
    pub run: &'a Run,
    pub time: &'a Timeline,
    pub now_us: &'a Cell<i64>,
    pub tick: usize,
}

impl Pace for ScriptedPace<'_> {
    fn now(&self) -> Clocks {
        self.time.at(self.now_us.get())
    }

    fn wait_until(&mut self, due_ns: i64) -> Wake {
        let due_us = (due_ns - START_MONOTONIC) / 1_000;
        let late_us = self.run.ticks.get(self.tick).map_or(0, |tick| tick.late_us);
        self.now_us.set(self.now_us.get().max(due_us) + late_us);
        self.tick += 1;
        Wake::Due
    }
}
