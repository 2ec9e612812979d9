//! A steady clock out of the times of packets.

use crate::model::{Clocks, Nanos};

/// UTC that goes back further than this was set; less is the order in which processors captured.
const STEP_NS: Nanos = 50_000_000;

/// Takes the place of `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`, which no capture tells: it goes with the
/// times of the packets, but never back.
#[derive(Debug, Default)]
pub(super) struct SteadyClock {
    last_ns: Option<Nanos>,
    ahead_of_utc_ns: Nanos,
}

impl SteadyClock {
    /// A moment by its UTC.
    pub(super) fn at(&mut self, utc_ns: Nanos) -> Clocks {
        let mut steady_ns = utc_ns.saturating_add(self.ahead_of_utc_ns);
        if let Some(last_ns) = self.last_ns.filter(|&last_ns| steady_ns < last_ns) {
            if last_ns - steady_ns > STEP_NS {
                self.ahead_of_utc_ns = last_ns - utc_ns;
            }
            steady_ns = last_ns;
        }
        self.last_ns = Some(steady_ns);
        Clocks { utc_ns, monotonic_ns: steady_ns, boottime_ns: steady_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(times: &[Nanos]) -> Vec<Nanos> {
        let mut clock = SteadyClock::default();
        times.iter().map(|&utc_ns| clock.at(utc_ns).boottime_ns).collect()
    }

    #[test]
    fn packets_out_of_order_do_not_push_the_clock_ahead() {
        assert_eq!(steady(&[1_000, 900, 1_100, 1_050, 2_000]), [1_000, 1_000, 1_100, 1_100, 2_000]);
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on_from_where_it_was() {
        let hour = 3_600_000_000_000;
        assert_eq!(steady(&[hour, 0, 5, 9]), [hour, hour, hour + 5, hour + 9]);
    }
}
