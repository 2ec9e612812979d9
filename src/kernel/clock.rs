//! The machine's clocks.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::{Clocks, Nanos};

/// The kernel's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// This moment on all three clocks, read within about 100 ns.
    pub fn now(self) -> Clocks {
        Clocks {
            utc_ns: nanos(clock_gettime(ClockId::Realtime)),
            monotonic_ns: nanos(clock_gettime(ClockId::Monotonic)),
            boottime_ns: nanos(clock_gettime(ClockId::Boottime)),
        }
    }

    /// `CLOCK_MONOTONIC`
    pub fn monotonic_ns(self) -> Nanos {
        nanos(clock_gettime(ClockId::Monotonic))
    }

    /// The same in milliseconds.
    pub fn monotonic_ms(self) -> i64 {
        self.monotonic_ns() / 1_000_000
    }

    /// CPU time that all threads of this process have taken so far.
    pub fn process_cpu_ns(self) -> Nanos {
        nanos(clock_gettime(ClockId::ProcessCPUTime))
    }
}

fn nanos(t: Timespec) -> Nanos {
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}
