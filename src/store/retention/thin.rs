//! Of old groups only the values at even steps of time are kept.
//!
//! A row that is followed by another of its socket within the same step goes: at the end of the step the
//! later one holds. What is left keeps its snapshot, so that no value gets another time, and names the row
//! before it that is left. The first and last row of a socket in a group stay, and those on both sides of
//! a change of state, or of the end of a connection of which something is left; so do snapshots with all
//! that is no sample. Every row goes with what names it in one transaction: a group that is thinned in
//! part is whole.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::groups::age_ns;
use super::{Moment, STEP_ROWS, begin};
use crate::model::Nanos;

/// Rows that one step looks at: each may cost two that are written.
const LOOKED_AT: i64 = STEP_ROWS / 2;

/// How old samples are thinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinRule {
    /// To a value in each of these steps, which begin at whole multiples of their length in UTC.
    pub every_ns: Nanos,
    /// Groups whose last snapshot is older than this.
    pub after_ns: Nanos,
}

/// A group that is to be thinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) group: i64,
    first: i64,
    last: i64,
    every_ns: Nanos,
}

/// Which groups are due, from the oldest on.
#[derive(Debug)]
pub(super) struct Dues {
    /// The coarsest first.
    rules: Vec<ThinRule>,
    /// By rule: no group before this one is due.
    next: Vec<i64>,
}

impl Dues {
    pub(super) fn new(rules: &[ThinRule]) -> Self {
        let mut rules = rules.to_vec();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.every_ns));
        let next = vec![0; rules.len()];
        Self { rules, next }
    }

    /// The next one, if there is any.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
        now: Moment,
    ) -> rusqlite::Result<Option<Due>> {
        for (rule, next) in self.rules.iter().zip(&mut self.next) {
            let found = connection
                .prepare_cached(PENDING)?
                .query_row(params![*next, rule.every_ns], |r| Due::read(r, *rule))
                .optional()?;
            let Some(due) = found else {
                // The last one may not be closed yet.
                *next = connection
                    .prepare_cached("SELECT coalesce(max(group_id), 0) FROM groups")?
                    .query_row([], |r| r.get(0))?;
                continue;
            };
            *next = due.group;
            if age_ns(connection, due.group, now)?.is_some_and(|age_ns| age_ns > rule.after_ns) {
                return Ok(Some(due));
            }
        }
        Ok(None)
    }

    /// All that are due now.
    pub(super) fn all(self, connection: &Connection, now: Moment) -> rusqlite::Result<Vec<Due>> {
        let mut all = BTreeMap::new();
        for rule in self.rules {
            let mut statement = connection.prepare_cached(PENDING)?;
            let pending: Vec<Due> = statement
                .query_map(params![0, rule.every_ns], |r| Due::read(r, rule))?
                .collect::<rusqlite::Result<_>>()?;
            for due in pending {
                if age_ns(connection, due.group, now)?.is_some_and(|age| age > rule.after_ns) {
                    all.entry(due.group).or_insert(due);
                }
            }
        }
        Ok(all.into_values().collect())
    }
}

impl Due {
    fn read(row: &rusqlite::Row<'_>, rule: ThinRule) -> rusqlite::Result<Self> {
        let every_ns = rule.every_ns;
        Ok(Self { group: row.get(0)?, first: row.get(1)?, last: row.get(2)?, every_ns })
    }
}

/// The closed groups from `?1` on that were not thinned to steps of `?2`, or not to the end.
const PENDING: &str = "
    SELECT group_id, first_snapshot_id, last_snapshot_id FROM groups
    WHERE group_id >= ?1 AND last_snapshot_id IS NOT NULL AND (thinned_to_ns IS NULL
        OR thinned_to_ns < ?2 OR (thinned_to_ns = ?2 AND thinned_samples IS NULL))
    ORDER BY group_id";

/// The steps of a group: of each the first and last snapshot. Where UTC was set back one comes twice.
fn steps(connection: &Connection, due: Due) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT snapshot_id, ended_at_ns FROM snapshots WHERE snapshot_id BETWEEN ?1 AND ?2
         ORDER BY snapshot_id",
    )?;
    let mut rows = statement.query([due.first, due.last])?;
    let mut steps: Vec<(i64, i64)> = Vec::new();
    let mut before = None;
    while let Some(row) = rows.next()? {
        let (snapshot, ended_at_ns): (i64, i64) = (row.get(0)?, row.get(1)?);
        // What ended at the very end of a step belongs to it.
        let step = ended_at_ns.saturating_sub(1).div_euclid(due.every_ns.max(1));
        match steps.last_mut().filter(|_| before == Some(step)) {
            Some((_, last)) => *last = snapshot,
            None => steps.push((snapshot, snapshot)),
        }
        before = Some(step);
    }
    Ok(steps)
}

/// How many rows would go.
pub(super) fn forecast(connection: &Connection, due: Due) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM samples AS s
         JOIN samples AS p
             ON p.snapshot_id = s.previous_snapshot_id AND p.socket_id = s.socket_id
         WHERE s.snapshot_id BETWEEN ?1 AND ?2 AND p.snapshot_id >= ?1 AND p.snapshot_id > ?3
             AND p.previous_snapshot_id >= ?3 AND p.state = s.state
             AND NOT EXISTS (SELECT 1 FROM state_changes AS c
                 WHERE c.snapshot_id = p.snapshot_id AND c.socket_id = p.socket_id)
             AND NOT EXISTS (SELECT 1 FROM remains AS m WHERE m.socket_id = p.socket_id
                 AND m.first_snapshot_id IN (p.snapshot_id, s.snapshot_id))",
    )?;
    steps(connection, due)?.into_iter().try_fold(0, |rows, (first, last)| {
        let of_step: i64 = statement.query_row([first, last, due.first], |r| r.get(0))?;
        Ok(rows + of_step)
    })
}

/// Takes a row out (`?1`, `?2`) that is followed by one (`?5`) of the same state (`?4`), unless it is the
/// first of its socket in the group (from `?3` on) or of its state, the last of a connection or the first
/// of what is left of it. Gives the row before it.
const DELETE: &str = "
    DELETE FROM samples WHERE snapshot_id = ?1 AND socket_id = ?2 AND snapshot_id > ?3
        AND previous_snapshot_id >= ?3 AND state = ?4
        AND NOT EXISTS (SELECT 1 FROM state_changes AS c
            WHERE c.snapshot_id = ?1 AND c.socket_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM remains AS m
            WHERE m.socket_id = ?2 AND m.first_snapshot_id IN (?1, ?5))
    RETURNING previous_snapshot_id";

/// The next rows of a group.
const ROWS: &str = "
    SELECT snapshot_id, socket_id, previous_snapshot_id, state, condition_id, setting_id FROM samples
    WHERE (snapshot_id, socket_id) > (?1, ?2) AND snapshot_id <= ?3
    ORDER BY snapshot_id, socket_id LIMIT ?4";

#[derive(Clone, Copy)]
struct Row {
    snapshot: i64,
    socket: i64,
    previous: Option<i64>,
    state: i64,
    condition: Option<i64>,
    setting: Option<i64>,
}

fn rows_after(connection: &Connection, place: (i64, i64), last: i64) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare_cached(ROWS)?
        .query_map(params![place.0, place.1, last, LOOKED_AT], |r| {
            Ok(Row {
                snapshot: r.get(0)?,
                socket: r.get(1)?,
                previous: r.get(2)?,
                state: r.get(3)?,
                condition: r.get(4)?,
                setting: r.get(5)?,
            })
        })?
        .collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Begin,
    /// Rows behind this one.
    Samples((i64, i64)),
    /// Which values those that are left have, from this row on.
    Values((i64, i64)),
    /// Values that none has any more, behind this number.
    Unused(&'static [(&'static str, &'static str)], i64),
}

/// Tables of shared values, with the column of their numbers.
const SHARED: &[(&str, &str)] = &[("conditions", "condition_id"), ("settings", "setting_id")];

/// The thinning of one group.
pub(super) struct Thinning {
    due: Due,
    phase: Phase,
    steps: Vec<(i64, i64)>,
    conditions: HashSet<i64>,
    settings: HashSet<i64>,
    /// Rows that went.
    pub(super) rows: i64,
}

impl Thinning {
    pub(super) fn new(due: Due) -> Self {
        let (steps, conditions, settings) = (Vec::new(), HashSet::new(), HashSet::new());
        Self { due, phase: Phase::Begin, steps, conditions, settings, rows: 0 }
    }

    /// One chunk; whether it was the last.
    pub(super) fn step(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        match self.phase {
            Phase::Begin => self.begin(connection)?,
            Phase::Samples(place) => self.samples(connection, place)?,
            Phase::Values(place) => self.values(connection, place)?,
            Phase::Unused(&[], _) => {
                let end = begin(connection)?;
                end.execute(THINNED, [self.due.group])?;
                end.commit()?;
                return Ok(true);
            }
            Phase::Unused(tables, after) => self.unused(connection, tables, after)?,
        }
        Ok(false)
    }

    /// Before the first row goes the group says so.
    fn begin(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = begin(connection)?;
        transaction.execute(
            "UPDATE groups SET thinned_to_ns = ?2, thinned_samples = NULL WHERE group_id = ?1",
            [self.due.group, self.due.every_ns],
        )?;
        self.steps = steps(&transaction, self.due)?;
        transaction.commit()?;
        self.phase = Phase::Samples((self.due.first, i64::MAX));
        Ok(())
    }

    /// The first snapshot of the step that a snapshot is in.
    fn step_of(&self, snapshot: i64) -> i64 {
        let after = self.steps.partition_point(|&(first, _)| first <= snapshot);
        after.checked_sub(1).and_then(|step| self.steps.get(step)).map_or(snapshot, |step| step.0)
    }

    fn samples(&mut self, connection: &Connection, place: (i64, i64)) -> rusqlite::Result<()> {
        let transaction = begin(connection)?;
        let rows = rows_after(&transaction, place, self.due.last)?;
        let mut gone = Gone::default();
        for row in &rows {
            let Some(previous) = row.previous else { continue };
            if previous < self.step_of(row.snapshot) {
                continue;
            }
            let before: Option<i64> = transaction
                .prepare_cached(DELETE)?
                .query_row([previous, row.socket, self.due.first, row.state, row.snapshot], |r| {
                    r.get(0)
                })
                .optional()?;
            if let Some(before) = before {
                transaction
                    .prepare_cached(
                        "UPDATE samples SET previous_snapshot_id = ?3
                         WHERE snapshot_id = ?1 AND socket_id = ?2",
                    )?
                    .execute([row.snapshot, row.socket, before])?;
                gone.add(previous, row.snapshot - 1);
                self.rows += 1;
            }
        }
        gone.tell(&transaction)?;
        transaction.commit()?;
        self.phase = match rows.last() {
            Some(row) => Phase::Samples((row.snapshot, row.socket)),
            None => Phase::Values((self.due.first, i64::MIN)),
        };
        Ok(())
    }

    fn values(&mut self, connection: &Connection, place: (i64, i64)) -> rusqlite::Result<()> {
        let rows = rows_after(connection, place, self.due.last)?;
        self.conditions.extend(rows.iter().filter_map(|row| row.condition));
        self.settings.extend(rows.iter().filter_map(|row| row.setting));
        self.phase = match rows.last() {
            Some(row) => Phase::Values((row.snapshot, row.socket)),
            None => Phase::Unused(SHARED, i64::MIN),
        };
        Ok(())
    }

    fn unused(
        &mut self,
        connection: &Connection,
        tables: &'static [(&'static str, &'static str)],
        after: i64,
    ) -> rusqlite::Result<()> {
        let Some((&(table, column), rest)) = tables.split_first() else { return Ok(()) };
        let used = if table == "conditions" { &self.conditions } else { &self.settings };
        let transaction = begin(connection)?;
        let numbers: Vec<i64> = transaction
            .prepare_cached(&format!(
                "SELECT {column} FROM {table} WHERE group_id = ?1 AND {column} > ?2
                 ORDER BY {column} LIMIT ?3"
            ))?
            .query_map([self.due.group, after, STEP_ROWS], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let delete = format!("DELETE FROM {table} WHERE group_id = ?1 AND {column} = ?2");
        let mut delete = transaction.prepare_cached(&delete)?;
        for number in numbers.iter().filter(|number| !used.contains(number)) {
            delete.execute([self.due.group, *number])?;
        }
        drop(delete);
        transaction.commit()?;
        self.phase = match numbers.last() {
            Some(last) => Phase::Unused(tables, *last),
            None => Phase::Unused(rest, i64::MIN),
        };
        Ok(())
    }
}

/// What its summaries count and is not there any more.
const THINNED: &str = "
    UPDATE groups SET thinned_samples =
        (SELECT coalesce(sum(t.samples), 0) FROM group_sockets AS t WHERE t.group_id = ?1)
        - (SELECT coalesce(sum(n.samples), 0) FROM snapshots AS n
           WHERE n.snapshot_id BETWEEN groups.first_snapshot_id AND groups.last_snapshot_id)
    WHERE group_id = ?1";

/// What is to be said of the snapshots of rows that went.
#[derive(Default)]
struct Gone {
    /// How many rows each lost.
    rows: BTreeMap<i64, i64>,
    /// From the snapshot of a row to the last one for which it held.
    spans: Vec<(i64, i64)>,
}

impl Gone {
    fn add(&mut self, snapshot: i64, held_to: i64) {
        *self.rows.entry(snapshot).or_default() += 1;
        self.spans.push((snapshot, held_to));
    }

    fn tell(mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut counted = connection
            .prepare_cached("UPDATE snapshots SET samples = samples - ?2 WHERE snapshot_id = ?1")?;
        for (snapshot, rows) in self.rows {
            counted.execute([snapshot, rows])?;
        }
        let mut flagged = connection.prepare_cached(
            "UPDATE snapshots SET is_thinned = 1
             WHERE snapshot_id BETWEEN ?1 AND ?2 AND NOT is_thinned",
        )?;
        self.spans.sort_unstable();
        let mut told_to = i64::MIN;
        for (first, last) in self.spans {
            if last > told_to {
                flagged.execute([first.max(told_to), last])?;
                told_to = last;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarser_rules_come_first() {
        let rule = |every_ns| ThinRule { every_ns, after_ns: every_ns };
        let dues = Dues::new(&[rule(1), rule(60), rule(10)]);
        let every: Vec<_> = dues.rules.iter().map(|rule| rule.every_ns).collect();
        assert_eq!(every, [60, 10, 1]);
    }
}
