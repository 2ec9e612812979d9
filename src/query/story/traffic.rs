//! What went through a connection between its rows, and what limited its sending.

use super::samples::Sample;
use super::{Moment, Row};

/// The counter's width in the kernel: `total_retrans` wraps at 2^32.
const U32: u32 = 32;
const U64: u32 = 64;

/// What went through between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The counters were seen to stand where they stood.
    pub from: Moment,
    /// The counters were seen to stand where they stand now.
    pub to: Moment,
    /// Payload bytes sent, retransmissions included.
    pub sent: Option<i64>,
    /// Payload bytes received in order.
    pub received: Option<i64>,
    /// Segments retransmitted.
    pub retransmitted: Option<i64>,
    /// Round trip time at the end; the greatest where intervals were put together.
    pub rtt_us: Option<i64>,
    /// Congestion window at the end; the least where intervals were put together.
    pub snd_cwnd: Option<i64>,
}

impl Interval {
    /// An amount as a rate in seconds, `None` if it is not known or there was no time.
    pub fn per_s(&self, amount: Option<i64>) -> Option<i64> {
        let ns = self.to.since(self.from);
        let per_s =
            i128::from(amount?) * 1_000_000_000 / i128::from(Some(ns).filter(|ns| *ns > 0)?);
        i64::try_from(per_s).ok()
    }

    fn is_idle(&self) -> bool {
        [self.sent, self.received, self.retransmitted].iter().all(|n| n.is_none_or(|n| n == 0))
    }

    /// This and the next one as one.
    fn with(self, next: Self) -> Self {
        let sum = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
        Self {
            from: self.from,
            to: next.to,
            sent: sum(self.sent, next.sent),
            received: sum(self.received, next.received),
            retransmitted: sum(self.retransmitted, next.retransmitted),
            rtt_us: self.rtt_us.max(next.rtt_us),
            snd_cwnd: [self.snd_cwnd, next.snd_cwnd].into_iter().flatten().min(),
        }
    }
}

/// At most so many intervals: neighbours are put together.
pub fn thinned(intervals: &[Interval], most: usize) -> Vec<Interval> {
    let lines = intervals.len().min(most);
    let start = |line: usize| line * intervals.len() / lines.max(1);
    let together = |line| intervals[start(line)..start(line + 1)].iter().copied();
    (0..lines).filter_map(|line| together(line).reduce(Interval::with)).collect()
}

/// How long a connection had data outstanding, and what held it up then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Over so long a time, `None` where it was seen but once: then the counts are those of its life
    /// up to there.
    pub observed_ns: Option<i64>,
    /// With data outstanding.
    pub busy_us: i64,
    /// Of that, held up by the peer's receive window.
    pub rwnd_limited_us: Option<i64>,
    /// Of that, held up by the send buffer.
    pub sndbuf_limited_us: Option<i64>,
}

impl Limits {
    /// The share of the time in which it was busy; in the rest the application had nothing to send.
    pub fn busy_share(&self) -> Option<f64> {
        let observed_us = self.observed_ns.filter(|ns| *ns > 0)? as f64 / 1_000.0;
        // The kernel's clock for this ticks in milliseconds.
        Some((self.busy_us as f64 / observed_us).min(1.0))
    }

    /// What is left of the busy time: the network, or its congestion window, set the pace.
    pub fn network_us(&self) -> Option<i64> {
        let limited_us = self.rwnd_limited_us?.saturating_add(self.sndbuf_limited_us?);
        Some(self.busy_us.saturating_sub(limited_us).max(0))
    }

    /// An amount as a share of the busy time.
    pub fn of_busy(&self, us: Option<i64>) -> Option<f64> {
        if self.busy_us <= 0 {
            return None;
        }
        us.map(|us| (us as f64 / self.busy_us as f64).min(1.0))
    }
}

/// Gathers intervals and limits out of samples.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    intervals: Vec<Interval>,
    first: Option<Sample>,
    last: Option<Sample>,
    /// Whether the last sample told no counters.
    is_blind: bool,
    /// The last sample was still so then.
    held_until: Option<Moment>,
}

impl Traffic {
    pub(super) fn add(&mut self, sample: &Sample) {
        if sample.bytes_sent.is_none() && sample.bytes_received.is_none() {
            self.is_blind = true; // a mini-socket, or not TCP
            return;
        }
        if let Some(last) = self.last.take() {
            let changed_after =
                sample.unchanged_until.filter(|m| m.boottime_ns > last.taken.boottime_ns);
            if let Some(unchanged_until) = changed_after {
                self.push(between(&last, &last, last.taken, unchanged_until));
            }
            let from = changed_after.unwrap_or(last.taken);
            self.push(between(&last, sample, from, sample.taken));
        }
        self.first.get_or_insert_with(|| sample.clone());
        self.last = Some(sample.clone());
    }

    /// It stayed as it was until it was last seen, unless only a mini-socket was seen of it by then.
    pub(super) fn hold(&mut self, last_seen: Moment) {
        if let Some(last) = self.last.clone().filter(|_| !self.is_blind)
            && last_seen.boottime_ns > last.taken.boottime_ns
        {
            self.push(between(&last, &last, last.taken, last_seen));
            self.held_until = Some(last_seen);
        }
    }

    /// Adds what its destroy event told: the counters as they stood at its end, by the first of these moments
    /// that comes after what dumps told.
    pub(super) fn end(&mut self, last_seen: Moment, by: [Option<Moment>; 2], told: &Row<'_>) {
        let Some(last) = self.last.clone() else { return };
        let is_later = |moment: &Moment| moment.boottime_ns > last.taken.boottime_ns;
        let Some(closed_before) = by.into_iter().flatten().find(is_later) else { return };
        let end = Sample {
            taken: closed_before,
            unchanged_until: Some(last_seen),
            bytes_sent: told.integer("bytes_sent"),
            bytes_received: told.integer("bytes_received"),
            total_retrans: told.integer("total_retrans"),
            rtt_us: told.integer("rtt_us"),
            ..Sample::default()
        };
        let (first, before) = (self.first.clone(), self.last.clone());
        self.add(&end);
        // Of the limits it tells nothing.
        (self.first, self.last) = (first, before);
        self.held_until = Some(last_seen).filter(is_later).filter(|_| !self.is_blind);
    }

    fn push(&mut self, interval: Interval) {
        match self.intervals.last_mut() {
            Some(last) if last.is_idle() && interval.is_idle() => *last = last.with(interval),
            _ => self.intervals.push(interval),
        }
    }

    pub(super) fn finish(self) -> (Vec<Interval>, Option<Limits>) {
        let held_until = self.held_until;
        let limits = self
            .first
            .zip(self.last)
            .and_then(|(first, last)| limits(&first, &last, held_until.unwrap_or(last.taken)));
        (self.intervals, limits)
    }
}

fn between(old: &Sample, new: &Sample, from: Moment, to: Moment) -> Interval {
    Interval {
        from,
        to,
        sent: grown(old.bytes_sent, new.bytes_sent, U64),
        received: grown(old.bytes_received, new.bytes_received, U64),
        retransmitted: grown(old.total_retrans, new.total_retrans, U32),
        rtt_us: new.rtt_us,
        snd_cwnd: new.snd_cwnd,
    }
}

/// The last sample held until then.
fn limits(first: &Sample, last: &Sample, until: Moment) -> Option<Limits> {
    let observed_ns = until.since(first.taken);
    if observed_ns == 0 {
        return Some(Limits {
            observed_ns: None,
            busy_us: last.busy_time_us?,
            rwnd_limited_us: last.rwnd_limited_us,
            sndbuf_limited_us: last.sndbuf_limited_us,
        });
    }
    Some(Limits {
        observed_ns: Some(observed_ns),
        busy_us: grown(first.busy_time_us, last.busy_time_us, U64)?,
        rwnd_limited_us: grown(first.rwnd_limited_us, last.rwnd_limited_us, U64),
        sndbuf_limited_us: grown(first.sndbuf_limited_us, last.sndbuf_limited_us, U64),
    })
}

/// By how much a counter of so many bits has grown.
fn grown(old: Option<i64>, new: Option<i64>, bits: u32) -> Option<i64> {
    let delta = new?.wrapping_sub(old?).cast_unsigned();
    i64::try_from(if bits == U64 { delta } else { delta & ((1 << bits) - 1) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn at(second: i64) -> Moment {
        Moment { utc_ns: 7 + second * S, boottime_ns: second * S }
    }

    fn sample(second: i64, unchanged_until: Option<i64>, sent: i64) -> Sample {
        Sample {
            taken: at(second),
            unchanged_until: unchanged_until.map(at),
            bytes_sent: Some(sent),
            bytes_received: Some(0),
            ..Sample::default()
        }
    }

    fn spans(traffic: Traffic) -> Vec<(i64, i64, Option<i64>, Option<i64>)> {
        let (intervals, _) = traffic.finish();
        let second = |m: Moment| m.boottime_ns / S;
        let span = |i: Interval| (second(i.from), second(i.to), i.sent, i.per_s(i.sent));
        intervals.into_iter().map(span).collect()
    }

    #[test]
    fn what_came_after_a_rest_is_not_spread_over_it() {
        let mut traffic = Traffic::default();
        traffic.add(&sample(0, None, 100));
        traffic.add(&sample(10, Some(9), 600));
        traffic.add(&sample(11, Some(10), 700));
        let expected = [
            (0, 9, Some(0), Some(0)),
            (9, 10, Some(500), Some(500)),
            (10, 11, Some(100), Some(100)),
        ];
        assert_eq!(spans(traffic), expected);
    }

    #[test]
    fn where_nobody_looked_a_change_is_somewhere_in_between() {
        let mut traffic = Traffic::default();
        traffic.add(&sample(0, None, 0));
        traffic.add(&sample(10, None, 500));
        assert_eq!(spans(traffic), [(0, 10, Some(500), Some(50))]);
    }

    #[test]
    fn rest_goes_on_over_rows_that_changed_nothing_that_is_counted() {
        let mut traffic = Traffic::default();
        for second in [0, 10, 20] {
            traffic.add(&sample(second, (second > 0).then_some(second - 1), 5));
        }
        assert_eq!(spans(traffic), [(0, 20, Some(0), Some(0))]);
    }

    #[test]
    fn counters_wrap_at_their_width() {
        assert_eq!(grown(Some(-1), Some(4), U64), Some(5));
        assert_eq!(grown(Some(i64::MAX), Some(i64::MIN), U64), Some(1));
        assert_eq!(grown(Some(u32::MAX.into()), Some(1), U32), Some(2));
        assert_eq!(grown(None, Some(1), U32), None);
    }

    #[test]
    fn many_intervals_are_put_together_without_losing_any() {
        let mut traffic = Traffic::default();
        for second in 0..=1_000 {
            traffic.add(&sample(second, None, second * second));
        }
        let (intervals, _) = traffic.finish();
        assert_eq!(thinned(&intervals, 2_000), intervals);
        let few = thinned(&intervals, 24);
        assert_eq!(few.len(), 24);
        assert_eq!(few.iter().filter_map(|i| i.sent).sum::<i64>(), 1_000_000);
        assert_eq!((few[0].from, few[few.len() - 1].to), (at(0), at(1_000)));
        assert!(thinned(&[], 24).is_empty());
    }

    #[test]
    fn what_limited_it_is_told_by_shares() {
        let busy = |second: i64, busy_us| Sample {
            busy_time_us: Some(busy_us),
            rwnd_limited_us: Some(busy_us / 4),
            sndbuf_limited_us: Some(0),
            ..sample(second, None, second)
        };
        let mut traffic = Traffic::default();
        traffic.add(&busy(0, 1_000_000));
        traffic.add(&busy(10, 5_000_000));
        let limits = traffic.finish().1.unwrap();
        assert_eq!(limits.busy_share(), Some(0.4));
        assert_eq!(limits.of_busy(limits.rwnd_limited_us), Some(0.25));
        assert_eq!(limits.of_busy(limits.network_us()), Some(0.75));
        // Seen once: what it was busy with, but not for which share of its time.
        let mut traffic = Traffic::default();
        traffic.add(&busy(0, 1_000_000));
        let limits = traffic.finish().1.unwrap();
        assert_eq!(
            (limits.busy_share(), limits.of_busy(limits.rwnd_limited_us)),
            (None, Some(0.25))
        );
    }
}
