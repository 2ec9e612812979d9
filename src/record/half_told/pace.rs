//! How far events overtake each other.
//!
//! The kernel sends them from each processor on its own, by a thread that may have to wait for it. Where few
//! come the second of two was read up to 4 ms before the first, in one of 200 pairs; where thousands a
//! second come, in one of 20, by up to 168 ms (measured on a virtual machine with two processors).

use std::collections::VecDeque;

use crate::model::Nanos;

/// Events come fast if so many …
const MANY: usize = 500;
/// … come within that time, or were unread at once. Then they overtake each other by …
const FAST_NS: Nanos = 100_000_000;
/// … so much, at most.
const OVERTAKEN_NS: Nanos = 200_000_000;
/// And between the making of one and its sending the kernel's thread may have to wait for a processor so long.
const SLACK_NS: Nanos = 50_000_000;

/// When events of whatever namespace were read.
#[derive(Debug, Default)]
pub(in crate::record) struct Pace {
    /// On `CLOCK_MONOTONIC`; and since when some may have been unread, on `CLOCK_BOOTTIME`.
    latest: VecDeque<(Nanos, Nanos)>,
    haste: Haste,
}

/// How fast events come now.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::record) struct Haste {
    is_fast_until_ns: Nanos,
    now_ns: Nanos,
    /// No more events are taken.
    is_over: bool,
}

impl Pace {
    /// An event was read, before which none was unread until then. Of those that are taken together this is told before
    /// the first is taken.
    pub(in crate::record) fn note(&mut self, at_ns: Nanos, none_unread_until_ns: Nanos) {
        if self.latest.len() == MANY
            && let Some((first_ns, until_ns)) = self.latest.pop_front()
            && (at_ns - first_ns <= FAST_NS || none_unread_until_ns == until_ns)
        {
            self.haste.is_fast_until_ns = at_ns + OVERTAKEN_NS;
        }
        self.latest.push_back((at_ns, none_unread_until_ns));
    }

    pub(in crate::record) fn haste(&self) -> Haste {
        self.haste
    }

    /// All that was sent before this moment was taken.
    pub(in crate::record) fn read_until(&mut self, ns: Nanos) -> Haste {
        self.haste.now_ns = self.haste.now_ns.max(ns);
        self.haste
    }

    /// What was taken is all that will be.
    pub(in crate::record) fn end(&mut self) -> Haste {
        self.haste.is_over = true;
        self.haste
    }
}

impl Haste {
    /// By so much what an event tells of times may be wrong that was read then.
    pub(super) fn slack_ns(&self, read_ns: Nanos) -> Nanos {
        if read_ns < self.is_fast_until_ns { SLACK_NS } else { 0 }
    }

    /// Whether no more events are taken.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether those that are read now come in the order in which they were sent.
    pub(super) fn is_in_order(&self) -> bool {
        self.now_ns >= self.is_fast_until_ns
    }

    /// Whether no event that was to come by this moment is still to come. Where few come, what was sent has been read.
    pub(super) fn is_past(&self, ns: Nanos) -> bool {
        let late_ns = if self.is_in_order() { 0 } else { OVERTAKEN_NS };
        self.is_over || self.is_read_until(ns + late_ns)
    }

    /// Whether all that was sent before this moment was taken.
    pub(super) fn is_read_until(&self, ns: Nanos) -> bool {
        self.now_ns >= ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn only_among_many_an_event_is_waited_for() {
        let mut pace = Pace::default();
        let mut read = |ms: Nanos, count| {
            (0..count).for_each(|_| pace.note(ms * MS, (ms - 1) * MS));
            pace.read_until(ms * MS)
        };
        for ms in 0..2_000 {
            let haste = read(ms, 4);
            assert!(haste.is_past(ms * MS));
            assert_eq!(haste.slack_ns(ms * MS), 0);
        }
        let mut haste = Haste::default();
        for ms in 2_000..2_200 {
            haste = read(ms, 6);
        }
        assert!(haste.is_past(1_999 * MS));
        assert!(!haste.is_past(2_000 * MS));
        assert!(haste.slack_ns(2_000 * MS) > 0);
        let haste = pace.read_until(2_300 * MS);
        assert!(haste.is_past(2_100 * MS));
        assert!(!haste.is_past(2_101 * MS));
        assert!(pace.read_until(2_399 * MS).is_past(2_199 * MS));
    }

    #[test]
    fn many_that_are_unread_at_once_have_come_fast() {
        let mut pace = Pace::default();
        (0..500).for_each(|ms| pace.note((1_000 + ms) * MS, 900 * MS));
        assert!(pace.read_until(1_000 * MS).is_in_order());
        pace.note(1_500 * MS, 900 * MS);
        assert!(!pace.read_until(1_000 * MS).is_in_order());
    }
}
