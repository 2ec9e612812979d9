//! What bounds a capture and may be changed while it goes on; what it takes of the CPU.

use std::fmt::{self, Display, Formatter};

use crate::model::Nanos;
use crate::store::Capacity;

/// What a capture keeps to. Other than what it looks at, this may change while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// New sockets that one tick stores at most, but for the first.
    pub max_new_sockets: u64,
    /// CPU time that recording takes at most, of one CPU and in the long run; `None` for as much as it
    /// needs.
    pub max_cpu: Option<CpuShare>,
    /// What the recording may hold.
    pub capacity: Capacity,
}

impl Limits {
    /// No limit.
    pub const NONE: Self =
        Self { max_new_sockets: u64::MAX, max_cpu: None, capacity: Capacity::NONE };
}

/// A share of one CPU: 1.0 is all of it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct CpuShare(pub f64);

impl Display for CpuShare {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Tenths of a percent are meant as they were typed.
        write!(f, "{}%", (self.0 * 100_000.0).round() / 1_000.0)
    }
}

/// What was not used of the last seconds may be used at once: a keyframe, the first snapshot or the
/// search for owners costs more than the usual tick.
const SAVED_UP_NS: f64 = 10e9;

/// CPU time that was granted and not used yet; below 0 what was taken too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuAccount {
    balance_ns: f64,
    at_ns: Nanos,
    cpu_ns: Nanos,
}

impl CpuAccount {
    /// One that begins at this moment of `CLOCK_MONOTONIC`, when the process had taken this much.
    pub(super) fn new(at_ns: Nanos, cpu_ns: Nanos) -> Self {
        // All that may be saved up is there.
        Self { balance_ns: f64::INFINITY, at_ns, cpu_ns }
    }

    /// Books what was granted and taken since the last time; gives for how long nothing is to be done.
    pub(super) fn settle(&mut self, share: Option<CpuShare>, at_ns: Nanos, cpu_ns: Nanos) -> Nanos {
        let passed_ns = (at_ns - self.at_ns) as f64;
        let taken_ns = (cpu_ns - self.cpu_ns) as f64;
        (self.at_ns, self.cpu_ns) = (at_ns, cpu_ns);
        let Some(CpuShare(share)) = share else {
            self.balance_ns = f64::INFINITY;
            return 0;
        };
        // What was taken is booked last: it is known, what may be saved up is bounded.
        let granted_ns = (self.balance_ns + passed_ns * share).min(SAVED_UP_NS * share);
        self.balance_ns = granted_ns - taken_ns;
        if self.balance_ns < 0.0 { (-self.balance_ns / share) as Nanos } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const TENTH: Option<CpuShare> = Some(CpuShare(0.1));

    #[test]
    fn what_is_within_the_share_never_waits() {
        let mut account = CpuAccount::new(0, 0);
        for second in 1..1_000 {
            assert_eq!(account.settle(TENTH, second * SECOND, second * SECOND / 10), 0);
        }
    }

    #[test]
    fn what_is_beyond_it_comes_to_the_share_in_the_long_run() {
        let mut account = CpuAccount::new(0, 0);
        let (mut now_ns, mut cpu_ns) = (0, 0);
        for _ in 0..1_000 {
            now_ns += SECOND / 2;
            cpu_ns += SECOND / 2;
            now_ns += account.settle(TENTH, now_ns, cpu_ns);
        }
        // Ten seconds' worth was there at the beginning.
        let expected = (cpu_ns - SECOND) * 10;
        assert!((now_ns - expected).abs() < 10 * SECOND, "{now_ns} {expected}");
    }

    #[test]
    fn a_burst_is_taken_from_what_was_saved_up_and_no_more() {
        let mut account = CpuAccount::new(0, 0);
        assert_eq!(account.settle(TENTH, 3_600 * SECOND, SECOND), 0);
        assert_eq!(account.settle(TENTH, 3_600 * SECOND, 2 * SECOND), 10 * SECOND);
    }

    #[test]
    fn a_limit_that_comes_later_does_not_ask_for_what_was_taken_before() {
        let mut account = CpuAccount::new(0, 0);
        assert_eq!(account.settle(None, SECOND, SECOND), 0);
        assert_eq!(account.settle(TENTH, 2 * SECOND, SECOND + SECOND / 10), 0);
    }

    #[test]
    fn a_share_is_written_as_it_was_typed() {
        assert_eq!(CpuShare(0.05).to_string(), "5%");
        assert_eq!(CpuShare(0.005).to_string(), "0.5%");
        assert_eq!(CpuShare(1.5).to_string(), "150%");
    }
}
