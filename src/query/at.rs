//! Which snapshots tell of a moment, and what is to be known beside them.

use std::collections::HashMap;

use super::recording::Recording;
use crate::model::{Nanos, Value};
use crate::store::StoreError;

/// The last snapshot by a moment on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The snapshot.
    pub snapshot_id: i64,
    /// When it had ended, UTC nanoseconds.
    pub ended_at_ns: i64,
    /// The name of the host, where it is known.
    pub host_name: Option<String>,
    /// The interval of its capture.
    pub interval_ns: Option<i64>,
    /// By what machines are told apart; what is not known may be any.
    machine: Option<String>,
    /// Whether its capture goes on past the moment.
    is_passed: bool,
}

/// Captures that follow each other on one machine.
pub(super) struct Line {
    /// In their order.
    pub(super) captures: Vec<i64>,
    /// First and last snapshots of runs in which UTC only grows, in their order.
    pub(super) blocks: Vec<(i64, i64)>,
    /// From the start of the earliest snapshot to the end of the latest.
    pub(super) span_ns: (i64, i64),
}

/// Of a snapshot whose samples were thinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thinned {
    /// To a value in each of these steps.
    pub every_ns: Nanos,
    /// End of the last snapshot by then of which all values are there, UTC.
    pub exact_at_ns: Nanos,
}

impl Recording {
    /// The last snapshot of each machine, or of the host of this name, that had ended by then. Where UTC
    /// went back and passed this time twice, the later pass counts. Of recorders that ran at once on
    /// one machine all that were running then count, and of imports of who knows which machine.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn looks_at(&self, utc_ns: i64, host: Option<&str>) -> Result<Vec<Look>, StoreError> {
        let mut looks = Vec::new();
        for line in self.lines(host)? {
            looks.extend(self.latest_of(&line, utc_ns)?);
        }
        looks.sort_by(|a, b| {
            let of_machine = (&a.machine, !a.is_passed).cmp(&(&b.machine, !b.is_passed));
            of_machine.then((b.ended_at_ns, b.snapshot_id).cmp(&(a.ended_at_ns, a.snapshot_id)))
        });
        // Of a machine those that were running, or the last that was.
        looks.dedup_by(|next, kept| {
            next.machine == kept.machine
                && (!next.is_passed || (next.machine.is_none() && kept.is_passed))
        });
        looks.sort_by(|a, b| (&a.host_name, a.snapshot_id).cmp(&(&b.host_name, b.snapshot_id)));
        Ok(looks)
    }

    /// The one snapshot that tells of a moment where one machine was recorded, the latest of several.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn snapshot_at(&self, utc_ns: i64) -> Result<Option<i64>, StoreError> {
        let looks = self.looks_at(utc_ns, None)?;
        let latest = looks.iter().max_by_key(|look| (look.is_passed, look.ended_at_ns));
        Ok(latest.map(|look| look.snapshot_id))
    }

    /// The captures of each machine, or of the host of this name.
    pub(super) fn lines(&self, host: Option<&str>) -> Result<Vec<Line>, StoreError> {
        let mut lines: Vec<Line> = Vec::new();
        let mut of_captures: HashMap<i64, usize> = HashMap::new();
        let mut last_of_all = None;
        self.run(
            // UTC grows from a step back to the next: the ends of such a run are its first and last moment.
            // The clock may have been set while the first snapshot was taken: then the second began earlier.
            "SELECT s.capture_id, c.previous_capture_id, b.snapshot_id, s.last_snapshot_id,
                 b.is_step, (SELECT min(n.started_at_ns) FROM (SELECT started_at_ns FROM snapshots
                    WHERE snapshot_id BETWEEN b.snapshot_id AND s.last_snapshot_id
                    ORDER BY snapshot_id LIMIT 2) AS n),
                 (SELECT ended_at_ns FROM snapshots WHERE snapshot_id <= min(s.last_snapshot_id,
                        coalesce(b.next_snapshot_id - 1, s.last_snapshot_id))
                    ORDER BY snapshot_id DESC LIMIT 1)
             FROM capture_spans AS s
             JOIN captures AS c ON c.capture_id = s.capture_id
             JOIN (SELECT snapshot_id, max(is_step) AS is_step,
                        lead(snapshot_id) OVER (ORDER BY snapshot_id) AS next_snapshot_id FROM (
                    SELECT first_snapshot_id AS snapshot_id, 0 AS is_step FROM capture_spans
                    UNION ALL SELECT snapshot_id, 1 FROM utc_steps_back)
                   GROUP BY snapshot_id) AS b
                ON b.snapshot_id BETWEEN s.first_snapshot_id AND s.last_snapshot_id
             WHERE :host IS NULL OR c.host_name = :host
             ORDER BY s.capture_id, b.snapshot_id",
            &[(":host", host.map_or(Value::Null, Value::Text))],
            |row| {
                let [
                    Value::Integer(capture),
                    previous,
                    Value::Integer(first),
                    Value::Integer(last),
                    Value::Integer(is_step),
                    Value::Integer(from_ns),
                    Value::Integer(to_ns),
                ] = *row
                else {
                    return;
                };
                let before = if let Value::Integer(id) = previous { id } else { capture };
                let place = of_captures.get(&before).copied().unwrap_or(lines.len());
                if place == lines.len() {
                    let (captures, blocks) = (Vec::new(), Vec::new());
                    lines.push(Line { captures, blocks, span_ns: (from_ns, to_ns) });
                }
                let Some(line) = lines.get_mut(place) else { return };
                line.span_ns = (line.span_ns.0.min(from_ns), line.span_ns.1.max(to_ns));
                if of_captures.insert(capture, place).is_none() {
                    line.captures.push(capture);
                }
                let before_first = first.saturating_sub(1);
                // Ids that follow each other without a step back are one block.
                match line.blocks.last_mut() {
                    Some(block) if is_step == 0 && last_of_all == Some(before_first) => {
                        block.1 = last
                    }
                    block => {
                        if let Some(block) = block {
                            block.1 = block.1.min(before_first);
                        }
                        line.blocks.push((first, last));
                    }
                }
                last_of_all = Some(last);
            },
        )?;
        Ok(lines)
    }

    /// The last snapshot by a moment on one machine.
    pub(super) fn latest_of(&self, line: &Line, utc_ns: i64) -> Result<Option<Look>, StoreError> {
        for &block in line.blocks.iter().rev() {
            // The later pass tells more, however the clock went.
            if let Some(look) = self.latest_in(block, utc_ns)? {
                return Ok(Some(look));
            }
        }
        Ok(None)
    }

    /// The last snapshot by a moment, of those in a run in which UTC grows.
    fn latest_in(&self, block: (i64, i64), utc_ns: i64) -> Result<Option<Look>, StoreError> {
        let mut found = None;
        self.run(
            // One look into the index by time; by number it would be a scan of the run. That is what the
            // plus signs are for.
            "SELECT f.snapshot_id, f.ended_at_ns, c.host_name, c.interval_ns,
                 coalesce(c.machine_id_hash, c.host_name),
                 EXISTS (SELECT 1 FROM snapshots AS x WHERE x.snapshot_id = f.snapshot_id + 1
                     AND x.snapshot_id <= :last AND x.capture_id = f.capture_id
                     AND x.ended_at_ns >= :utc_ns) OR f.ended_at_ns = :utc_ns
             FROM (SELECT snapshot_id, ended_at_ns, capture_id FROM snapshots
                 WHERE ended_at_ns <= :utc_ns AND group_id IS NOT NULL
                     AND +snapshot_id BETWEEN :first AND :last
                 ORDER BY ended_at_ns DESC LIMIT 1) AS f
             JOIN captures AS c ON c.capture_id = f.capture_id",
            &[
                (":utc_ns", Value::Integer(utc_ns)),
                (":first", Value::Integer(block.0)),
                (":last", Value::Integer(block.1)),
            ],
            |row| {
                let text = |i: usize| match row.get(i) {
                    Some(Value::Text(text)) => Some((*text).to_owned()),
                    _ => None,
                };
                let integer = |i: usize| match row.get(i) {
                    Some(Value::Integer(n)) => Some(*n),
                    _ => None,
                };
                if let (Some(snapshot_id), Some(ended_at_ns)) = (integer(0), integer(1)) {
                    found = Some(Look {
                        snapshot_id,
                        ended_at_ns,
                        host_name: text(2),
                        interval_ns: integer(3),
                        machine: text(4),
                        is_passed: integer(5) == Some(1),
                    });
                }
            },
        )?;
        Ok(found)
    }

    /// Whether what was recorded at this moment was dropped to keep within a limit.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn is_dropped_at(&self, utc_ns: i64) -> Result<bool, StoreError> {
        let found = self.reader.integer(
            "SELECT 1 FROM dropped_spans WHERE :utc_ns BETWEEN started_at_ns AND ended_at_ns",
            &[(":utc_ns", Value::Integer(utc_ns))],
        )?;
        Ok(found.is_some())
    }

    /// How a snapshot was thinned, `None` if all that it showed is there.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn thinning_of(&self, snapshot_id: i64) -> Result<Option<Thinned>, StoreError> {
        let mut thinned = None;
        self.reader.run(
            "SELECT g.thinned_to_ns, (SELECT e.ended_at_ns FROM snapshots AS e
                 WHERE e.snapshot_id BETWEEN g.first_snapshot_id AND n.snapshot_id AND NOT e.is_thinned
                 ORDER BY e.snapshot_id DESC LIMIT 1)
             FROM snapshots AS n JOIN groups AS g ON g.group_id = n.group_id
             WHERE n.snapshot_id = :id AND n.is_thinned",
            &[(":id", Value::Integer(snapshot_id))],
            |row| {
                if let [Value::Integer(every_ns), Value::Integer(exact_at_ns)] = *row {
                    thinned = Some(Thinned { every_ns, exact_at_ns });
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(thinned)
    }

    /// What a reader of the answer about a moment has to know beside it.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn notes_at(&self, utc_ns: i64, snapshot_id: i64) -> Result<Vec<String>, StoreError> {
        let mut notes = Vec::new();
        let passes = self.reader.integer(
            "SELECT 1 + count(*) FROM utc_steps_back AS b
             JOIN snapshots AS n ON n.snapshot_id = b.snapshot_id
             JOIN snapshots AS p ON p.snapshot_id = b.previous_snapshot_id
             JOIN captures AS c ON c.capture_id = n.capture_id
             JOIN snapshots AS s ON s.snapshot_id = :id
             JOIN captures AS o ON o.capture_id = s.capture_id
             WHERE :utc_ns BETWEEN n.ended_at_ns AND p.ended_at_ns
                 AND coalesce(c.machine_id_hash, c.host_name) IS
                     coalesce(o.machine_id_hash, o.host_name)",
            &[(":utc_ns", Value::Integer(utc_ns)), (":id", Value::Integer(snapshot_id))],
        )?;
        if passes.is_some_and(|n| n > 1) {
            notes.push(
                "the clock was set back: this time was passed more than once, and the last pass \
                 is shown"
                    .to_owned(),
            );
        }
        self.reader.run(
            // Of hundreds of namespaces those that lack the same are told of together.
            "SELECT kind, group_concat(scope, ', '), message, count, namespaces FROM (
                 SELECT x.kind, p.name || '/' || f.name AS scope, x.message, sum(x.count) AS count,
                     count(DISTINCT sc.netns_id) AS namespaces, min(x.scope_id) AS first_scope_id
                 FROM exceptions AS x
                 LEFT JOIN scopes AS sc ON sc.scope_id = x.scope_id
                 LEFT JOIN protocols AS p ON p.protocol = sc.protocol
                 LEFT JOIN families AS f ON f.family = sc.family
                 WHERE x.snapshot_id = :id AND x.kind NOT IN ('dump_unsupported', 'ticks_left_out')
                 GROUP BY x.kind, sc.protocol, sc.family, x.message)
             GROUP BY kind, CASE WHEN kind <> 'not_asked' THEN scope END, message, namespaces
             ORDER BY min(first_scope_id)",
            &[(":id", Value::Integer(snapshot_id))],
            |row| {
                let text = |i: usize| match row.get(i) {
                    Some(Value::Text(text)) => (*text).to_owned(),
                    Some(Value::Integer(n)) => n.to_string(),
                    _ => String::new(),
                };
                let scope = match row.get(4) {
                    Some(Value::Integer(n)) if *n > 1 => {
                        format!("{} in {n} network namespaces", text(1))
                    }
                    _ => text(1),
                };
                notes.push(match text(0).as_str() {
                    "dump_failed" => format!(
                        "the dump of {scope} failed ({}): the sockets are shown as last observed",
                        text(2)
                    ),
                    "dump_interrupted" => {
                        format!("the dump of {scope} was interrupted: it may lack sockets")
                    }
                    "sockets_not_stored" => {
                        format!("new sockets of {scope} were counted but not stored: {}", text(3))
                    }
                    "messages_unreadable" => {
                        format!("messages of {scope} could not be read: {}", text(3))
                    }
                    "not_asked" => {
                        format!("nobody asked for {scope}: the sockets are shown as last observed")
                    }
                    "partly_asked" => format!("the dump of {scope} may lack sockets: {}", text(2)),
                    other => format!("{scope}: {other}"),
                });
                Ok::<_, StoreError>(())
            },
        )?;
        notes.extend(self.refused_in(snapshot_id)?);
        Ok(notes)
    }

    /// The namespaces that were meant and could not be recorded in a snapshot, by name as far as they are
    /// few.
    fn refused_in(&self, snapshot_id: i64) -> Result<Option<String>, StoreError> {
        const NAMED: usize = 3;
        let mut refused = Vec::new();
        self.run(
            "SELECT f.name, f.message FROM refused_namespaces AS f
             JOIN snapshots AS n ON n.capture_id = f.capture_id
             WHERE n.snapshot_id = :id
                 AND :id BETWEEN f.first_snapshot_id AND coalesce(f.last_snapshot_id, :id)
             ORDER BY f.name",
            &[(":id", Value::Integer(snapshot_id))],
            |row| {
                refused.push(match *row {
                    [Value::Text(name), Value::Text(why)] => format!("`{name}`: {why}"),
                    [Value::Text(name), _] => format!("`{name}`"),
                    _ => String::new(),
                });
            },
        )?;
        let others = match refused.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        refused.truncate(NAMED);
        Ok((!refused.is_empty()).then(|| {
            let named = refused.join(", ");
            format!("network namespaces could not be recorded then: {named}{others}")
        }))
    }
}
