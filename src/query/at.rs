//! Which snapshot tells of a moment, and what is to be known beside it.

use super::recording::Recording;
use crate::model::Value;
use crate::store::StoreError;

/// The last snapshot by a moment in a stretch of snapshots.
struct Latest {
    snapshot_id: i64,
    ended_at_ns: i64,
    /// What the recorder and each import are told apart by.
    line: i64,
    /// Whether its capture goes on past the moment.
    is_passed: bool,
}

impl Recording {
    /// The last snapshot that had ended by then. Where UTC went back and passed this time twice,
    /// the later pass counts.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn snapshot_at(&self, utc_ns: i64) -> Result<Option<i64>, StoreError> {
        // Between two steps back UTC only grows: look in the last such stretch first.
        let mut stretches = vec![i64::MIN];
        self.reader.run(
            "SELECT snapshot_id FROM utc_steps_back ORDER BY snapshot_id",
            &[],
            |row| {
                if let [Value::Integer(id)] = row {
                    stretches.push(*id);
                }
                Ok::<_, StoreError>(())
            },
        )?;
        let mut end = i64::MAX;
        let mut latest: Vec<Latest> = Vec::new();
        for start in stretches.into_iter().rev() {
            let found = self.latest_in(start, end, utc_ns)?;
            // Of one recorder the later stretch tells more, however its clock went.
            latest
                .extend(found.filter(|found| latest.iter().all(|known| known.line != found.line)));
            end = start;
        }
        let best = latest.iter().max_by_key(|found| (found.is_passed, found.ended_at_ns));
        Ok(best.map(|found| found.snapshot_id))
    }

    /// The last snapshot by a moment, of those in a stretch in which UTC grows.
    fn latest_in(&self, start: i64, end: i64, utc_ns: i64) -> Result<Option<Latest>, StoreError> {
        let mut found = None;
        self.reader.run(
            // One look into the index by time; by number it would be a scan of the stretch. That is
            // what the plus signs are for.
            "SELECT f.snapshot_id, f.ended_at_ns,
                 CASE c.source WHEN 'import' THEN c.capture_id ELSE 0 END,
                 EXISTS (SELECT 1 FROM snapshots AS x WHERE x.capture_id = f.capture_id
                     AND +x.snapshot_id >= :start AND +x.snapshot_id < :end
                     AND x.ended_at_ns >= :utc_ns)
             FROM (SELECT snapshot_id, ended_at_ns, capture_id FROM snapshots
                 WHERE ended_at_ns <= :utc_ns AND group_id IS NOT NULL AND +snapshot_id >= :start AND +snapshot_id < :end
                 ORDER BY ended_at_ns DESC LIMIT 1) AS f
             JOIN captures AS c ON c.capture_id = f.capture_id",
            &[
                (":utc_ns", Value::Integer(utc_ns)),
                (":start", Value::Integer(start)),
                (":end", Value::Integer(end)),
            ],
            |row| {
                if let [
                    Value::Integer(snapshot_id),
                    Value::Integer(ended_at_ns),
                    Value::Integer(line),
                    Value::Integer(is_passed),
                ] = *row
                {
                    let is_passed = is_passed != 0;
                    found = Some(Latest { snapshot_id, ended_at_ns, line, is_passed });
                }
                Ok::<_, StoreError>(())
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

    /// What a reader of the answer about a moment has to know beside it.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn notes_at(&self, utc_ns: i64, snapshot_id: i64) -> Result<Vec<String>, StoreError> {
        let mut notes = Vec::new();
        let passes = self.reader.integer(
            "SELECT 1 + count(*) FROM utc_steps_back AS b
             JOIN snapshots AS n ON n.snapshot_id = b.snapshot_id
             JOIN snapshots AS p ON p.snapshot_id = b.snapshot_id - 1
             JOIN captures AS cn ON cn.capture_id = n.capture_id
             JOIN captures AS cp ON cp.capture_id = p.capture_id
             WHERE :utc_ns BETWEEN n.ended_at_ns AND p.ended_at_ns
                 AND (cn.capture_id = cp.capture_id OR 'import' NOT IN (cn.source, cp.source))",
            &[(":utc_ns", Value::Integer(utc_ns))],
        )?;
        if passes.is_some_and(|n| n > 1) {
            notes.push(
                "the clock was set back: this time was passed more than once, and the last pass \
                 is shown"
                    .to_owned(),
            );
        }
        self.reader.run(
            "SELECT x.kind, p.name || '/' || f.name, x.message, x.count
             FROM exceptions AS x
             LEFT JOIN scopes AS sc ON sc.scope_id = x.scope_id
             LEFT JOIN protocols AS p ON p.protocol = sc.protocol
             LEFT JOIN families AS f ON f.family = sc.family
             WHERE x.snapshot_id = :id AND x.kind <> 'dump_unsupported'",
            &[(":id", Value::Integer(snapshot_id))],
            |row| {
                let text = |i: usize| match row.get(i) {
                    Some(Value::Text(text)) => (*text).to_owned(),
                    Some(Value::Integer(n)) => n.to_string(),
                    _ => String::new(),
                };
                let scope = text(1);
                notes.push(match text(0).as_str() {
                    "dump_failed" => format!(
                        "the dump of {scope} failed ({}): its sockets are shown as last observed",
                        text(2)
                    ),
                    "dump_interrupted" => {
                        format!("the dump of {scope} was interrupted: it may lack sockets")
                    }
                    "sockets_not_stored" => {
                        format!("{} new sockets of {scope} were counted but not stored", text(3))
                    }
                    "messages_unreadable" => {
                        format!("{} messages of {scope} could not be read", text(3))
                    }
                    "not_asked" => {
                        format!("nobody asked for {scope}: its sockets are shown as last observed")
                    }
                    "partly_asked" => format!("the dump of {scope} may lack sockets: {}", text(2)),
                    other => format!("{scope}: {other}"),
                });
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(notes)
    }
}
