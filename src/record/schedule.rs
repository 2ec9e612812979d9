//! When the ticks are due: on a grid that does not drift.

use crate::model::Nanos;

/// Ticks at `start + n * interval` of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval_ns: Nanos,
    due_ns: Nanos,
}

impl Schedule {
    /// The first tick is due at once.
    pub fn new(start_ns: Nanos, interval_ns: Nanos) -> Self {
        Self { interval_ns: interval_ns.max(1), due_ns: start_ns }
    }

    /// When the next tick is due.
    pub fn due_ns(&self) -> Nanos {
        self.due_ns
    }

    /// Goes on to the first tick that is still to come, and says how many were missed: those that
    /// fell due before `now_ns` are never made up for.
    pub fn advance(&mut self, now_ns: Nanos) -> u64 {
        let late_ns = now_ns - self.due_ns;
        let passed = if late_ns < 0 { 0 } else { late_ns / self.interval_ns };
        self.due_ns += (passed + 1) * self.interval_ns;
        passed.unsigned_abs()
    }

    /// Leaves out the ticks that are due before `from_ns`, and says how many those are.
    pub fn skip_until(&mut self, from_ns: Nanos) -> u64 {
        let behind_ns = from_ns - self.due_ns;
        if behind_ns <= 0 {
            return 0;
        }
        let skipped = (behind_ns - 1) / self.interval_ns + 1;
        self.due_ns += skipped * self.interval_ns;
        skipped.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stay_on_the_grid_however_late_each_is_taken() {
        let mut schedule = Schedule::new(1_000, 100);
        for n in 1..50 {
            assert_eq!(schedule.advance(schedule.due_ns() + n), 0);
            assert_eq!(schedule.due_ns(), 1_000 + n * 100);
        }
    }

    #[test]
    fn a_tick_that_overruns_misses_those_due_meanwhile() {
        let mut schedule = Schedule::new(0, 100);
        assert_eq!(schedule.advance(99), 0);
        assert_eq!(schedule.due_ns(), 100);
        assert_eq!(schedule.advance(450), 3); // 200, 300 and 400
        assert_eq!(schedule.due_ns(), 500);
    }

    #[test]
    fn ticks_that_are_left_out_leave_the_others_on_the_grid() {
        let mut schedule = Schedule::new(0, 100);
        assert_eq!(schedule.advance(0), 0);
        assert_eq!(schedule.skip_until(100), 0);
        assert_eq!(schedule.skip_until(101), 1);
        assert_eq!(schedule.skip_until(550), 4); // 200, 300, 400 and 500
        assert_eq!(schedule.due_ns(), 600);
        assert_eq!(schedule.skip_until(10), 0);
    }

    #[test]
    fn a_clock_before_the_due_time_moves_just_one_tick() {
        let mut schedule = Schedule::new(1_000, 100);
        assert_eq!(schedule.advance(0), 0);
        assert_eq!(schedule.due_ns(), 1_100);
    }
}
