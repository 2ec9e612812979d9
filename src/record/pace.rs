//! What tells and waits for time, and what comes in between: a stop, other limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::limits::Limits;
use crate::kernel::SystemClock;
use crate::model::{Clocks, EndReason, Nanos};

/// Why the wait for a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The time has come.
    Due,
    /// Recording is to stop.
    Stop(EndReason),
}

/// What tells and waits for time.
pub trait Pace {
    /// This moment.
    fn now(&self) -> Clocks;
    /// Waits until `CLOCK_MONOTONIC` reaches `due_ns`, or recording is to stop.
    fn wait_until(&mut self, due_ns: Nanos) -> Wake;
    /// What ends such a wait from another thread: a writer that fails is told of at once, not at
    /// the next tick. `None` where no wait takes long.
    fn stopper(&self) -> Option<Sender<EndReason>> {
        None
    }
    /// CPU time that recording has taken; 0 where nobody counts it.
    fn cpu_ns(&self) -> Nanos {
        0
    }
    /// The limits from now on, if they are others than before.
    fn new_limits(&mut self) -> Option<Limits> {
        None
    }
}

/// Signals and the machine's clock.
pub struct SignalPace {
    clock: SystemClock,
    stopper: Sender<EndReason>,
    stop: Receiver<EndReason>,
    limits: (Sender<Limits>, Receiver<Limits>),
    pulse: Pulse,
}

impl SignalPace {
    /// What is sent to the other part ends the recording before its time. Full: a stop is under way
    /// already.
    pub fn new() -> (Self, Sender<EndReason>) {
        let (stopper, stop) = bounded(4);
        let pace = Self {
            clock: SystemClock,
            stopper: stopper.clone(),
            stop,
            limits: unbounded(),
            pulse: Pulse::default(),
        };
        (pace, stopper)
    }

    /// Takes limits that hold from the next tick on.
    pub fn limits(&self) -> Sender<Limits> {
        self.limits.0.clone()
    }

    /// Tells others whether the loop goes on.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl Pace for SignalPace {
    fn now(&self) -> Clocks {
        self.clock.now()
    }

    fn wait_until(&mut self, due_ns: Nanos) -> Wake {
        self.pulse.0.store(due_ns, Ordering::Relaxed);
        loop {
            let left_ns = (due_ns - self.clock.monotonic_ns()).max(0);
            let left = Duration::from_nanos(left_ns.unsigned_abs());
            match self.stop.recv_timeout(left) {
                Ok(reason) => return Wake::Stop(reason),
                Err(_) if self.clock.monotonic_ns() >= due_ns => return Wake::Due,
                Err(_) => {} // a little early
            }
        }
    }

    fn stopper(&self) -> Option<Sender<EndReason>> {
        Some(self.stopper.clone())
    }

    fn cpu_ns(&self) -> Nanos {
        self.clock.process_cpu_ns()
    }

    fn new_limits(&mut self) -> Option<Limits> {
        self.limits.1.try_iter().last()
    }
}

/// Until when the loop last meant to wait.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulse {
    /// Whether the loop waits for its time, or is late by no more than this.
    pub fn is_felt(&self, patience: Duration) -> bool {
        let late_ns = SystemClock.monotonic_ns() - self.0.load(Ordering::Relaxed);
        u128::try_from(late_ns).map_or(true, |late_ns| late_ns <= patience.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_not_back_in_time_has_no_pulse() {
        let (mut pace, stopper) = SignalPace::new();
        let pulse = pace.pulse();
        let patience = Duration::from_millis(1);
        assert!(!pulse.is_felt(patience), "it has not begun");
        pace.wait_until(SystemClock.monotonic_ns());
        std::thread::sleep(2 * patience);
        assert!(!pulse.is_felt(patience));
        assert!(pulse.is_felt(Duration::from_secs(3_600)));
        stopper.try_send(EndReason::Signal).unwrap();
        assert_eq!(pace.wait_until(i64::MAX), Wake::Stop(EndReason::Signal));
        assert!(pulse.is_felt(Duration::ZERO), "it waits for what is to come");
    }
}
