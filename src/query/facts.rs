//! What is known of a recording as a whole: from when to when, of which hosts, how much.

use super::question::Question;
use super::recording::Recording;
use crate::model::Value;
use crate::store::StoreError;

/// From the first to the last snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Start of the first, UTC nanoseconds.
    pub from_ns: i64,
    /// End of the last, UTC nanoseconds.
    pub to_ns: i64,
}

impl Recording {
    /// From when to when was recorded, `None` without a snapshot.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn span(&self) -> Result<Option<Span>, StoreError> {
        // UTC grows from a step back to the next; where the clock was set while a snapshot was taken, the
        // one after it began earlier. So there is no need to look at all of them.
        self.read_span(
            "WITH runs AS (
                 SELECT min(first_snapshot_id) AS snapshot_id FROM groups GROUP BY capture_id
                 UNION ALL SELECT snapshot_id FROM utc_steps_back)
             SELECT (SELECT min(n.started_at_ns) FROM held_snapshots AS n WHERE n.snapshot_id IN (
                    SELECT snapshot_id FROM runs UNION ALL SELECT snapshot_id + 1 FROM runs)),
                 (SELECT ended_at_ns FROM held_snapshots ORDER BY ended_at_ns DESC LIMIT 1)",
        )
    }

    /// When the first and the last look ended, `None` without a snapshot: a file may have an end before
    /// any start.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn span_of_ends(&self) -> Result<Option<Span>, StoreError> {
        self.read_span("SELECT min(ended_at_ns), max(ended_at_ns) FROM held_snapshots")
    }

    fn read_span(&self, sql: &str) -> Result<Option<Span>, StoreError> {
        let mut span = None;
        self.reader.run(sql, &[], |row| {
            if let [Value::Integer(from), Value::Integer(to)] = row {
                span = Some(Span { from_ns: *from, to_ns: *to });
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(span)
    }

    /// How many snapshots are held.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn snapshot_count(&self) -> Result<i64, StoreError> {
        Ok(self.reader.integer("SELECT count(*) FROM held_snapshots", &[])?.unwrap_or(0))
    }

    /// The names of the hosts that were recorded.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn hosts(&self) -> Result<Vec<String>, StoreError> {
        let mut hosts = Vec::new();
        let sql = "SELECT DISTINCT host_name FROM captures WHERE host_name IS NOT NULL ORDER BY 1";
        self.run(sql, &[], |row| {
            if let [Value::Text(name)] = *row {
                hosts.push(name.to_owned());
            }
        })?;
        Ok(hosts)
    }

    /// Whether sockets are of several network namespaces of one machine.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn has_several_namespaces(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM namespaces GROUP BY boot_id HAVING count(*) > 1)
            OR EXISTS (SELECT 1 FROM refused_namespaces)";
        Ok(self.reader.integer(sql, &[])? == Some(1))
    }

    /// The protocols and families that any capture looked at, as `tcp/inet`.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn scopes(&self) -> Result<Vec<String>, StoreError> {
        let mut scopes = Vec::new();
        self.reader.run(
            "SELECT DISTINCT p.name || '/' || f.name ||
                 CASE WHEN sc.states = 4294967295 THEN '' ELSE ' in some states' END
             FROM scopes AS sc
             JOIN protocols AS p ON p.protocol = sc.protocol
             JOIN families AS f ON f.family = sc.family ORDER BY sc.scope_id",
            &[],
            |row| {
                if let [Value::Text(name)] = row {
                    scopes.push((*name).to_owned());
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(scopes)
    }

    /// Sockets that were recorded, all captures together.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn socket_count(&self) -> Result<i64, StoreError> {
        Ok(self.reader.integer("SELECT count(*) FROM sockets", &[])?.unwrap_or(0))
    }

    /// How many rows an answer will have at most, where that is quickly known.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn expected_rows(&self, question: Question) -> Result<Option<u64>, StoreError> {
        let sql = match question {
            Question::Connections | Question::Sockets => "SELECT max(socket_id) FROM sockets",
            Question::Snapshots => "SELECT max(snapshot_id) FROM snapshots",
            Question::Samples => "SELECT sum(samples) FROM group_sockets",
            _ => return Ok(None),
        };
        Ok(self.reader.integer(sql, &[])?.and_then(|n| u64::try_from(n).ok()))
    }
}
