//! Samples at even steps of time: of each socket the values that held then, and how fast its counters
//! grew.
//!
//! Rows are read in the order of recording, and of them no more is kept than the last one of each socket
//! that is there. Where nobody looked, a dump did not show the socket, or what it showed was thinned out,
//! there is no row.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::columns::column;
use super::question::Question;
use super::recording::{QueryError, Recording};
use super::selection::Selection;
use crate::model::{Column, Nanos, OwnedValue, Value};

/// Steps of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Between two of them; they are whole multiples of it since 1970.
    pub step_ns: Nanos,
    /// Whether the growth of counters is told beside their values.
    pub with_rates: bool,
}

/// Counters, the columns of their growth, and the bits after which the kernel begins at 0 again.
const COUNTERS: &[(&str, &str, u32)] = &[
    ("bytes_sent", "bytes_sent_per_s", 64),
    ("bytes_acked", "bytes_acked_per_s", 64),
    ("bytes_received", "bytes_received_per_s", 64),
    ("bytes_retrans", "bytes_retrans_per_s", 64),
    ("segs_out", "segs_out_per_s", 32),
    ("segs_in", "segs_in_per_s", 32),
    ("data_segs_out", "data_segs_out_per_s", 32),
    ("data_segs_in", "data_segs_in_per_s", 32),
    ("delivered", "delivered_per_s", 32),
    ("total_retrans", "total_retrans_per_s", 32),
    ("total_rto", "total_rto_per_s", 16),
    ("sk_drops", "sk_drops_per_s", 32),
];

/// A snapshot, and the steps that it tells of.
struct Look {
    snapshot_id: i64,
    ended_at_ns: Nanos,
    /// It tells of steps before this moment.
    until_ns: Nanos,
    /// Not all of its values are there.
    is_thinned: bool,
}

/// The last row of a socket.
struct Held {
    values: Vec<OwnedValue>,
    counters: Vec<Option<i64>>,
    scope: [i64; 3],
    /// The last snapshot that showed it as a live one, and the first and last that showed its rest.
    life_to: Option<i64>,
    rest: (Option<i64>, Option<i64>),
    is_wanted: bool,
}

/// What was not seen in a snapshot.
#[derive(Default)]
struct Unseen {
    scopes: HashMap<i64, Vec<[i64; 3]>>,
    sockets: HashMap<i64, HashSet<i64>>,
}

impl Recording {
    /// The columns of [`Recording::dense`].
    ///
    /// # Errors
    /// When a selected column does not exist.
    pub fn dense_columns(
        &self,
        selection: &Selection,
        dense: Dense,
    ) -> Result<Vec<Column>, QueryError> {
        let mut columns: Vec<Column> = column("at").into_iter().copied().collect();
        columns.extend(self.columns(Question::Samples, selection)?);
        if dense.with_rates {
            columns.extend(COUNTERS.iter().filter_map(|(_, name, _)| column(name)).copied());
        }
        Ok(columns)
    }

    /// A row a socket and step, by step and socket; gives the number of rows.
    ///
    /// # Errors
    /// When the recording cannot be read, or the first error of `each`.
    pub fn dense(
        &self,
        selection: &Selection,
        dense: Dense,
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        let looks = self.dense_looks(selection, dense)?;
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Ok(0) };
        let ids = (first.snapshot_id, last.snapshot_id);
        let unseen = self.unseen(ids)?;
        let span_ns = (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
        let limit = selection.limit.unwrap_or(u64::MAX);
        let (held, before) = (BTreeMap::new(), HashMap::new());
        let mut steps = Steps { dense, span_ns, unseen, held, before, rows: 0, limit };
        let (sql, owned) = self.dense_sql(selection)?;
        let mut parameters: Vec<_> =
            owned.iter().map(|(name, value)| (name.as_str(), value.value())).collect();
        parameters.push((":first_snapshot_id", Value::Integer(ids.0)));
        parameters.push((":last_snapshot_id", Value::Integer(ids.1)));
        let mut next = 0;
        let mut keyframe = None;
        self.reader.run(&sql, &parameters, |row| {
            let Some((socket_id, snapshot_id, is_keyframe, held)) = Held::read(row) else {
                return Ok(());
            };
            while let Some(look) = looks.get(next).filter(|look| look.snapshot_id < snapshot_id) {
                steps.tell(look, &mut each)?;
                next += 1;
            }
            if is_keyframe && keyframe != Some(snapshot_id) {
                // It has a row of everyone who is there.
                keyframe = Some(snapshot_id);
                steps.held.clear();
            }
            steps.held.insert(socket_id, held);
            Ok::<_, QueryError>(())
        })?;
        for look in looks.get(next..).unwrap_or_default() {
            steps.tell(look, &mut each)?;
        }
        Ok(steps.rows)
    }

    /// The snapshots of the span, from the keyframe before it on.
    fn dense_looks(&self, selection: &Selection, dense: Dense) -> Result<Vec<Look>, QueryError> {
        let (from_ns, to_ns) =
            (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
        let host = selection.host.as_deref();
        let mut looks: Vec<Look> = Vec::new();
        self.run(
            include_str!("../../queries/dense_looks.sql"),
            &[
                (":from_ns", Value::Integer(from_ns)),
                (":to_ns", Value::Integer(to_ns)),
                (":host", host.map_or(Value::Null, Value::Text)),
            ],
            |row| {
                let [
                    Value::Integer(snapshot_id),
                    Value::Integer(ended_at_ns),
                    interval,
                    Value::Integer(is_thinned),
                ] = *row
                else {
                    return;
                };
                let interval_ns = match interval {
                    Value::Integer(interval_ns) => interval_ns,
                    _ => dense.step_ns,
                };
                // What held at a snapshot holds to the next one, unless that was missed.
                if let Some(before) = looks.last_mut()
                    && (before.ended_at_ns..=before.until_ns.saturating_add(interval_ns))
                        .contains(&ended_at_ns)
                {
                    before.until_ns = ended_at_ns;
                }
                let until_ns = ended_at_ns.saturating_add(interval_ns);
                let is_thinned = is_thinned != 0;
                looks.push(Look { snapshot_id, ended_at_ns, until_ns, is_thinned });
            },
        )?;
        Ok(looks)
    }

    fn unseen(&self, (first, last): (i64, i64)) -> Result<Unseen, QueryError> {
        let mut unseen = Unseen::default();
        let parameters = [(":first", Value::Integer(first)), (":last", Value::Integer(last))];
        self.run(
            "SELECT x.snapshot_id, s.netns_id, s.family, s.protocol FROM exceptions AS x
             JOIN scopes AS s ON s.scope_id = x.scope_id
             WHERE x.kind <> 'sockets_not_stored' AND x.snapshot_id BETWEEN :first AND :last",
            &parameters,
            |row| {
                if let [
                    Value::Integer(id),
                    Value::Integer(netns),
                    Value::Integer(family),
                    Value::Integer(protocol),
                ] = *row
                {
                    unseen.scopes.entry(id).or_default().push([netns, family, protocol]);
                }
            },
        )?;
        self.run(
            "SELECT snapshot_id, socket_id FROM missing_sockets
             WHERE snapshot_id BETWEEN :first AND :last",
            &parameters,
            |row| {
                if let [Value::Integer(id), Value::Integer(socket)] = *row {
                    unseen.sockets.entry(id).or_default().insert(socket);
                }
            },
        )?;
        Ok(unseen)
    }

    /// The query of the rows, those that are not wanted too: they end what was held before them.
    fn dense_sql(
        &self,
        selection: &Selection,
    ) -> Result<(String, Vec<(String, OwnedValue)>), QueryError> {
        let selected = self.selected(Question::Samples, selection)?;
        let names = selected.into_iter().map(|(name, _)| name).collect();
        let quoted =
            |names: Vec<String>| names.iter().map(|n| format!("r.\"{n}\"")).collect::<Vec<_>>();
        let counters = COUNTERS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        let columns = [quoted(counters), quoted(names)].concat().join(", ");
        let (wanted, parameters) = self.wanted(Question::Samples, selection)?;
        let sql = include_str!("../../queries/dense.sql")
            .replace("{columns}", &columns)
            .replace("{wanted}", &wanted);
        Ok((sql, parameters))
    }
}

impl Held {
    /// The socket, the snapshot, whether that is a keyframe, and what holds from then on.
    fn read(row: &[Value<'_>]) -> Option<(i64, i64, bool, Self)> {
        let integer = |i: usize| match row.get(i) {
            Some(Value::Integer(n)) => Some(*n),
            _ => None,
        };
        let counters = OWN..OWN + COUNTERS.len();
        let held = Self {
            scope: [integer(3)?, integer(4)?, integer(5)?],
            life_to: integer(6),
            rest: (integer(7), integer(8)),
            is_wanted: integer(9) == Some(1),
            counters: counters.clone().map(integer).collect(),
            values: row.get(counters.end..)?.iter().map(OwnedValue::of).collect(),
        };
        Some((integer(0)?, integer(1)?, integer(2) == Some(1), held))
    }

    /// Whether a snapshot showed it.
    fn is_shown_in(&self, socket_id: i64, snapshot_id: i64, unseen: &Unseen) -> bool {
        let is_alive = self.life_to.is_some_and(|last| snapshot_id <= last);
        let (first, last) = self.rest;
        let is_rest = first.is_some_and(|first| snapshot_id >= first)
            && last.is_some_and(|last| snapshot_id <= last);
        let is_missing = unseen.sockets.get(&snapshot_id).is_some_and(|s| s.contains(&socket_id));
        let is_failed = unseen.scopes.get(&snapshot_id).is_some_and(|s| s.contains(&self.scope));
        (is_alive || is_rest) && !is_missing && !is_failed
    }
}

/// Columns of `dense.sql` before those that were asked for.
const OWN: usize = 10;

/// What is written step by step.
struct Steps {
    dense: Dense,
    span_ns: (Nanos, Nanos),
    unseen: Unseen,
    held: BTreeMap<i64, Held>,
    /// Of each socket its last step and the counters then.
    before: HashMap<i64, (Nanos, Vec<Option<i64>>)>,
    rows: u64,
    limit: u64,
}

impl Steps {
    /// Writes the steps from the end of a snapshot to the next one.
    fn tell(
        &mut self,
        look: &Look,
        each: &mut impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        if look.is_thinned {
            return Ok(());
        }
        let step_ns = self.dense.step_ns;
        let from_ns = look.ended_at_ns.max(self.span_ns.0);
        let mut at_ns = from_ns.div_euclid(step_ns).saturating_mul(step_ns);
        if at_ns < from_ns {
            at_ns = at_ns.saturating_add(step_ns);
        }
        while at_ns < look.until_ns && at_ns <= self.span_ns.1 {
            self.tell_step(look.snapshot_id, at_ns, each)?;
            at_ns = at_ns.saturating_add(step_ns);
        }
        Ok(())
    }

    fn tell_step(
        &mut self,
        snapshot_id: i64,
        at_ns: Nanos,
        each: &mut impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut shown = HashMap::new();
        for (&socket_id, held) in &self.held {
            if !held.is_shown_in(socket_id, snapshot_id, &self.unseen) {
                continue;
            }
            let before = self.before.get(&socket_id);
            let before = before
                .filter(|(then_ns, _)| then_ns.checked_add(self.dense.step_ns) == Some(at_ns));
            if held.is_wanted && self.rows < self.limit {
                self.rows += 1;
                let mut row = vec![Value::Integer(at_ns)];
                row.extend(held.values.iter().map(OwnedValue::value));
                if self.dense.with_rates {
                    let before = before.map(|(_, counters)| counters);
                    let rates = rates(before, &held.counters, self.dense.step_ns);
                    row.extend(rates.into_iter().map(|rate| rate.map_or(Value::Null, Value::Real)));
                }
                each(&row)?;
            }
            if self.dense.with_rates {
                shown.insert(socket_id, (at_ns, held.counters.clone()));
            }
        }
        self.before = shown;
        Ok(())
    }
}

/// How much each counter grew a second.
fn rates(
    before: Option<&Vec<Option<i64>>>,
    now: &[Option<i64>],
    step_ns: Nanos,
) -> Vec<Option<f64>> {
    let counters = COUNTERS.iter().zip(now).enumerate();
    counters
        .map(|(i, ((_, _, bits), now))| {
            let then = before.and_then(|counters| counters.get(i).copied().flatten())?;
            Some(grown(then, (*now)?, *bits) * 1e9 / step_ns as f64)
        })
        .collect()
}

/// By how much a counter of so many bits has grown, which may have begun at 0 again.
fn grown(then: i64, now: i64, bits: u32) -> f64 {
    (now.wrapping_sub(then).cast_unsigned() & (u64::MAX >> (64 - bits))) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_began_anew_has_grown() {
        assert_eq!(grown(10, 12, 64), 2.0);
        assert_eq!(grown(u32::MAX.into(), 1, 32), 2.0);
        assert_eq!(grown(0xfffe, 1, 16), 3.0);
        assert_eq!(grown(i64::MAX, i64::MIN, 64), 1.0);
    }

    #[test]
    fn every_counter_has_a_column() {
        for (value, rate, _) in COUNTERS {
            assert!(column(value).is_some() && column(rate).is_some(), "{value}");
        }
    }
}
