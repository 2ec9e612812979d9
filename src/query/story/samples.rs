//! The rows that a story is told from, and the states that they show.

use super::Moment;
use crate::model::Value;

/// Between which moments a life lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) opened_after: Option<Moment>,
    pub(super) last_seen: Option<Moment>,
    pub(super) closed_before: Option<Moment>,
    /// When its socket was freed, unless the connection went on without it.
    pub(super) destroyed: Option<Moment>,
    pub(super) remains_seen: Option<Moment>,
    pub(super) remains_gone: Option<Moment>,
}

impl Bounds {
    /// Reads a row of `story_bounds.sql`.
    pub(super) fn read(values: &[Value<'_>]) -> Self {
        Self {
            opened_after: moment(values, 0),
            last_seen: moment(values, 2),
            closed_before: moment(values, 4),
            destroyed: moment(values, 6),
            remains_seen: moment(values, 8),
            remains_gone: moment(values, 10),
        }
    }
}

/// One row of samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) taken: Moment,
    /// When the state of the row before was last seen.
    pub(super) held_until: Option<Moment>,
    /// When the values of the row before were last seen.
    pub(super) unchanged_until: Option<Moment>,
    pub(super) state: String,
    pub(super) is_remains: bool,
    pub(super) bytes_sent: Option<i64>,
    pub(super) bytes_received: Option<i64>,
    pub(super) total_retrans: Option<i64>,
    pub(super) rtt_us: Option<i64>,
    pub(super) snd_cwnd: Option<i64>,
    pub(super) busy_time_us: Option<i64>,
    pub(super) rwnd_limited_us: Option<i64>,
    pub(super) sndbuf_limited_us: Option<i64>,
}

impl Sample {
    /// Reads a row of `story_samples.sql`.
    pub(super) fn read(values: &[Value<'_>]) -> Self {
        let state = match values.get(4) {
            Some(Value::Text(state)) => (*state).to_owned(),
            _ => String::new(),
        };
        Self {
            taken: moment(values, 0).unwrap_or_default(),
            held_until: moment(values, 2),
            state,
            is_remains: integer(values, 5) == Some(1),
            bytes_sent: integer(values, 6),
            bytes_received: integer(values, 7),
            total_retrans: integer(values, 8),
            rtt_us: integer(values, 9),
            snd_cwnd: integer(values, 10),
            busy_time_us: integer(values, 11),
            rwnd_limited_us: integer(values, 12),
            sndbuf_limited_us: integer(values, 13),
            unchanged_until: moment(values, 14),
        }
    }
}

fn integer(values: &[Value<'_>], index: usize) -> Option<i64> {
    match values.get(index) {
        Some(Value::Integer(v)) => Some(*v),
        _ => None,
    }
}

/// UTC and, behind it, boot time.
fn moment(values: &[Value<'_>], index: usize) -> Option<Moment> {
    let (utc_ns, boottime_ns) = (integer(values, index)?, integer(values, index + 1)?);
    Some(Moment { utc_ns, boottime_ns })
}

/// A state that a socket was seen in for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpan {
    /// As `ss` spells it.
    pub state: String,
    /// Whether the connection was over, and this is what was left of it.
    pub is_remains: bool,
    /// It was not in it yet: another state, or nothing, was seen.
    pub entered_after: Option<Moment>,
    /// First seen in it.
    pub seen_from: Moment,
    /// Last seen in it.
    pub seen_to: Moment,
    /// The least that it can have been in it.
    pub min_ns: i64,
    /// The most, `None` where nothing bounds it.
    pub max_ns: Option<i64>,
}

/// Gathers [`StateSpan`]s out of samples.
#[derive(Debug, Default)]
pub(super) struct States {
    spans: Vec<StateSpan>,
    last_taken: Option<Moment>,
}

impl States {
    pub(super) fn add(&mut self, sample: Sample) {
        let before = sample.held_until.or(self.last_taken);
        self.last_taken = Some(sample.taken);
        if let Some(span) = self.spans.last_mut() {
            if span.state == sample.state && span.is_remains == sample.is_remains {
                span.seen_to = sample.taken;
                return;
            }
            span.seen_to = before.unwrap_or(span.seen_to);
        }
        self.spans.push(StateSpan {
            state: sample.state,
            is_remains: sample.is_remains,
            entered_after: before,
            seen_from: sample.taken,
            seen_to: sample.taken,
            min_ns: 0,
            max_ns: None,
        });
    }

    /// The spans with their lengths.
    pub(super) fn finish(mut self, bounds: &Bounds) -> Vec<StateSpan> {
        if let Some(first) = self.spans.first_mut() {
            first.entered_after = bounds.opened_after;
        }
        let mut left_by = None;
        for span in self.spans.iter_mut().rev() {
            let (seen, gone) = if span.is_remains {
                (bounds.remains_seen, bounds.remains_gone)
            } else {
                (bounds.last_seen, bounds.closed_before)
            };
            // The last of its kind was seen for as long as its kind was.
            let is_last_of_kind =
                left_by.is_none_or(|(_, is_remains)| is_remains != span.is_remains);
            if is_last_of_kind && let Some(seen) = seen {
                let is_later = seen.boottime_ns > span.seen_to.boottime_ns;
                span.seen_to = if is_later { seen } else { span.seen_to };
            }
            let until = match left_by {
                Some((by, _)) => Some(by),
                None => gone,
            };
            // What a dump shows after it was over is no part of its life.
            let over = bounds.closed_before.filter(|_| !span.is_remains);
            let until = [until, over].into_iter().flatten().min_by_key(|moment| moment.boottime_ns);
            span.max_ns = until
                .zip(span.entered_after)
                .map(|(until, after): (Moment, Moment)| until.since(after).max(0));
            // It was seen at some time in a dump, which the end may have come in.
            let most_ns = span.max_ns.unwrap_or(i64::MAX);
            span.min_ns = span.seen_to.since(span.seen_from).min(most_ns);
            left_by = Some((span.seen_from, span.is_remains));
        }
        self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Moment {
        Moment { utc_ns: 100 + second, boottime_ns: second }
    }

    fn sample(second: i64, held_until: Option<i64>, state: &str, is_remains: bool) -> Sample {
        let (taken, held_until) = (at(second), held_until.map(at));
        Sample { taken, held_until, state: state.to_owned(), is_remains, ..Sample::default() }
    }

    #[test]
    fn what_is_left_of_a_connection_does_not_count_as_its_life() {
        let mut states = States::default();
        states.add(sample(10, None, "SYN-SENT", false));
        states.add(sample(11, Some(10), "ESTAB", false));
        states.add(sample(15, Some(14), "ESTAB", false));
        states.add(sample(31, Some(30), "TIME-WAIT", true));
        let bounds = Bounds {
            opened_after: Some(at(9)),
            last_seen: Some(at(30)),
            closed_before: Some(at(31)),
            remains_seen: Some(at(90)),
            remains_gone: Some(at(92)),
            ..Bounds::default()
        };
        let spans: Vec<_> = states
            .finish(&bounds)
            .into_iter()
            .map(|s| (s.state, s.seen_from.boottime_ns, s.seen_to.boottime_ns, s.min_ns, s.max_ns))
            .collect();
        assert_eq!(
            spans,
            [
                ("SYN-SENT".to_owned(), 10, 10, 0, Some(2)),
                ("ESTAB".to_owned(), 11, 30, 19, Some(21)),
                ("TIME-WAIT".to_owned(), 31, 90, 59, Some(62)),
            ]
        );
    }

    #[test]
    fn no_state_of_a_life_lasts_longer_than_that() {
        let mut states = States::default();
        states.add(sample(10, None, "ESTAB", false));
        states.add(sample(20, Some(19), "FIN-WAIT-2", false));
        states.add(sample(31, Some(30), "TIME-WAIT", true));
        // Its timer tells since when; what was open is told to have ended before that was seen.
        let bounds = Bounds {
            opened_after: Some(at(9)),
            last_seen: Some(at(20)),
            closed_before: Some(at(15)),
            remains_seen: Some(at(31)),
            ..Bounds::default()
        };
        let spans: Vec<_> =
            states.finish(&bounds).into_iter().map(|s| (s.state, s.min_ns, s.max_ns)).collect();
        assert_eq!(
            spans,
            [
                ("ESTAB".to_owned(), 6, Some(6)),
                ("FIN-WAIT-2".to_owned(), 0, Some(0)),
                ("TIME-WAIT".to_owned(), 0, None),
            ]
        );
    }

    #[test]
    fn a_state_that_was_there_from_the_start_has_no_greatest_length() {
        let mut states = States::default();
        states.add(sample(10, None, "LISTEN", false));
        let spans = states.finish(&Bounds { last_seen: Some(at(40)), ..Bounds::default() });
        assert_eq!((spans[0].min_ns, spans[0].max_ns), (30, None));
    }
}
