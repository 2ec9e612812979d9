//! A span of a recording as a recording of its own.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::anonymize::anonymize;
use super::captures::{crate_version, new_uuid};
use super::new_file::NewRecording;
use super::reader::Reader;
use super::summary::summarise_open_groups;
use crate::model::Nanos;

/// Snapshots of one machine that are to be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Captures that follow each other.
    pub captures: Vec<i64>,
    /// From the state at this snapshot on.
    pub first_snapshot: i64,
    /// Up to this one.
    pub last_snapshot: i64,
}

/// What of the time before the span is taken over with what the first state rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Only who was still there when the span began.
    WhoIsThere,
    /// Everyone: parts of one recording can be merged again.
    Everyone,
}

/// What is to be taken over.
#[derive(Clone, Debug)]
pub struct Excerpt<'a> {
    /// Of each machine.
    pub stretches: &'a [Stretch],
    /// Of these sockets only.
    pub sockets: Option<&'a [i64]>,
    /// And of those before the span.
    pub before: Before,
    /// In words, by what they were chosen.
    pub selection: Option<&'a str>,
    /// Now, UTC nanoseconds.
    pub taken_at_ns: Nanos,
    /// The key of the names that it gets in place of those that were recorded, if it does.
    pub key: Option<&'a [u8]>,
}

/// What was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Snapshots, with those before the span that its first state needs.
    pub snapshots: i64,
    /// Sockets.
    pub sockets: i64,
    /// Rows of samples.
    pub samples: i64,
}

/// Every socket with a row in the span, or of which an event was read there, with its first row,
/// its rows, and those of it as a live one.
const KEPT: &str = "
    -- Connections that go on half-closed, which only what comes after the span shows.
    CREATE TEMP TABLE half_closed AS
    SELECT m.socket_id FROM span AS x
    JOIN src.remains AS m ON m.first_snapshot_id > x.last_id
    JOIN src.socket_ends AS e ON e.socket_id = m.socket_id
    WHERE e.destroyed_snapshot_id <= x.last_id AND e.evidence IS NOT 'closed'
        AND m.time_wait_snapshot_id IS NOT m.first_snapshot_id;
    CREATE TEMP TABLE kept (
        socket_id  INTEGER PRIMARY KEY,
        first_id   INTEGER,
        samples    INTEGER NOT NULL,
        alive      INTEGER NOT NULL
    );
    INSERT INTO kept
    SELECT s.socket_id, min(s.snapshot_id), count(*), count(*) FILTER (
        WHERE m.socket_id IS NULL OR s.snapshot_id < m.first_snapshot_id)
    FROM span AS x, taken AS n
    JOIN src.samples AS s ON s.snapshot_id = n.snapshot_id
    LEFT JOIN src.remains AS m ON m.socket_id = s.socket_id
    WHERE x.is_all OR s.socket_id IN (SELECT socket_id FROM chosen)
    GROUP BY s.socket_id;
    -- The first keyframe repeats what its own dump proves gone.
    DELETE FROM kept WHERE socket_id IN (
        SELECT h.socket_id FROM span AS x
        JOIN src.held_samples AS h
            ON h.snapshot_id = x.first_id AND h.observed_snapshot_id < x.first_id);
    -- What only its event tells of has no first sight, though what is left of it may show.
    UPDATE kept SET first_id = NULL
    WHERE EXISTS (SELECT 1 FROM src.sockets AS k
        JOIN src.socket_ends AS e ON e.socket_id = k.socket_id, span AS x
        WHERE k.socket_id = kept.socket_id AND k.first_snapshot_id IS NULL
            AND e.destroyed_snapshot_id BETWEEN x.first_id AND x.last_id);
    INSERT OR IGNORE INTO kept
    SELECT e.socket_id, NULL, 0, 0 FROM span AS x, src.socket_ends AS e
    JOIN taken AS n ON n.snapshot_id = e.destroyed_snapshot_id
    WHERE (x.is_all OR e.socket_id IN (SELECT socket_id FROM chosen))
        AND e.socket_id NOT IN (SELECT socket_id FROM half_closed)
        AND (NOT x.is_cut_before OR (e.destroyed_snapshot_id > x.first_id
            AND coalesce(e.closed_before_snapshot_id > x.first_id, 1)));";

/// Takes out who was gone, with all that was left of it, when the state at the beginning was seen
/// (`?1`). The other end of one that was there stays: it tells of that one.
const ONLY_WHO_IS_THERE: &str = "
    DELETE FROM kept WHERE socket_id IN (
        SELECT e.socket_id FROM src.socket_ends AS e
        LEFT JOIN src.remains AS m ON m.socket_id = e.socket_id
        LEFT JOIN src.sockets AS k ON k.socket_id = e.socket_id
        LEFT JOIN src.socket_ends AS p ON p.socket_id = k.peer_socket_id
        LEFT JOIN src.remains AS r ON r.socket_id = k.peer_socket_id
        WHERE e.closed_before_snapshot_id <= ?1
            AND coalesce(e.destroyed_snapshot_id <= ?1, 1)
            AND (m.socket_id IS NULL OR m.gone_before_snapshot_id <= ?1)
            AND (k.peer_socket_id IS NULL OR (p.closed_before_snapshot_id <= ?1
                AND coalesce(p.destroyed_snapshot_id <= ?1, 1)
                AND (r.socket_id IS NULL OR r.gone_before_snapshot_id <= ?1))))";

/// The keyframe of a snapshot's group.
const KEYFRAME: &str = "SELECT g.first_snapshot_id FROM src.snapshots AS n
    JOIN src.groups AS g ON g.group_id = n.group_id WHERE n.snapshot_id = ?1";

/// From when on what a first snapshot (`?1`) leans on was seen: what its keyframe repeats without having
/// shown it, and what an earlier capture saw last and was found gone after `?3`.
const UNSEEN_SINCE: &str = "
    SELECT min(seen_id) FROM (
        SELECT h.socket_id, h.observed_snapshot_id AS seen_id, CASE WHEN m.socket_id IS NULL
            THEN e.closed_before_snapshot_id ELSE m.gone_before_snapshot_id END AS gone_id
        FROM src.held_samples AS h
        LEFT JOIN src.socket_ends AS e ON e.socket_id = h.socket_id
        LEFT JOIN src.remains AS m ON m.socket_id = h.socket_id
        WHERE h.snapshot_id = ?1
        UNION ALL
        SELECT socket_id, last_snapshot_id, closed_before_snapshot_id FROM src.socket_ends
        WHERE closed_before_snapshot_id > ?3
        UNION ALL
        SELECT socket_id, last_snapshot_id, gone_before_snapshot_id FROM src.remains
        WHERE gone_before_snapshot_id > ?3
    )
    WHERE seen_id < ?1 AND coalesce(gone_id > ?1, 1)
        AND (SELECT n.capture_id FROM src.snapshots AS n WHERE n.snapshot_id = seen_id)
            IN (SELECT capture_id FROM line)
        AND (?2 OR socket_id IN (SELECT socket_id FROM chosen))";

/// The snapshot after this one, and of each scope the next two complete dumps: they tell by when a
/// socket had been opened, and whether one is gone. Where dumps fail, not far beyond the group.
const NEXT_LOOK: &str = "
    SELECT max(?1, coalesce(max(next_id), ?1)) FROM (
        SELECT (SELECT max(snapshot_id) FROM (
                SELECT d.snapshot_id FROM src.complete_dumps AS d
                WHERE d.scope_id = cs.scope_id AND d.snapshot_id > ?1 AND d.snapshot_id < coalesce(
                    (SELECT g.first_snapshot_id FROM src.groups AS g WHERE g.group_id > n.group_id
                        AND g.capture_id IN (SELECT capture_id FROM line)
                     ORDER BY g.group_id LIMIT 1 OFFSET 1), 9223372036854775807)
                ORDER BY d.snapshot_id LIMIT 2)) AS next_id
        FROM src.snapshots AS n
        JOIN src.capture_scopes AS cs ON cs.capture_id = n.capture_id
        WHERE n.snapshot_id = ?1
        UNION ALL
        SELECT min(max(s.first_snapshot_id, ?1 + 1)) FROM line
        JOIN src.capture_spans AS s ON s.capture_id = line.capture_id
        WHERE s.last_snapshot_id > ?1)";

const SPAN: &str = "
    CREATE TEMP TABLE span AS
    SELECT ?1 AS first_id, ?2 AS last_id, ?3 AS is_all,
        EXISTS (SELECT 1 FROM line JOIN src.capture_spans AS s ON s.capture_id = line.capture_id
            WHERE s.first_snapshot_id < ?1)
        OR EXISTS (SELECT 1 FROM line JOIN src.captures AS c ON c.capture_id = line.capture_id
            JOIN src.dropped_spans AS d ON d.capture_id IN (c.capture_id, c.previous_capture_id))
            AS is_cut_before,
        EXISTS (SELECT 1 FROM line JOIN src.capture_spans AS s ON s.capture_id = line.capture_id
            WHERE s.last_snapshot_id > ?2) AS is_cut_after";

const TAKEN: &str = "
    CREATE TEMP TABLE taken (snapshot_id INTEGER PRIMARY KEY);
    INSERT INTO taken
    SELECT n.snapshot_id FROM span AS x
    JOIN src.snapshots AS n ON n.snapshot_id BETWEEN x.first_id AND x.last_id
    WHERE n.capture_id IN (SELECT capture_id FROM line);";

/// Takes out the endings that something told after the span, or may have: the event of a socket, its
/// TIME-WAIT or that nothing is left of it, or the other end.
const ONLY_WHAT_WAS_TOLD: &str = "
    UPDATE socket_ends SET ending = NULL WHERE socket_id IN (
        SELECT t.socket_id FROM span AS x, kept AS t
        JOIN src.socket_ends AS e ON e.socket_id = t.socket_id
        JOIN src.endings AS n ON n.ending = e.ending
        JOIN src.sockets AS k ON k.socket_id = t.socket_id
        LEFT JOIN src.remains AS m ON m.socket_id = t.socket_id
        LEFT JOIN src.socket_ends AS pe ON pe.socket_id = k.peer_socket_id
        LEFT JOIN src.remains AS pm ON pm.socket_id = k.peer_socket_id
        WHERE x.last_id < CASE n.evidence
            WHEN 'time_wait' THEN coalesce(m.time_wait_snapshot_id, e.destroyed_snapshot_id)
            WHEN 'half_closed' THEN max(e.destroyed_snapshot_id, coalesce(m.gone_before_snapshot_id, 0))
            WHEN 'both_fins' THEN max(coalesce(e.destroyed_snapshot_id, 0),
                coalesce(pe.destroyed_snapshot_id, 0), coalesce(pe.closed_before_snapshot_id, 0),
                coalesce(pm.time_wait_snapshot_id, 0))
            WHEN 'peer' THEN max(coalesce(e.destroyed_snapshot_id, 0),
                coalesce(pe.destroyed_snapshot_id, 0))
            ELSE e.destroyed_snapshot_id END)";

const FORGET: &str = "
    DROP TABLE temp.line; DROP TABLE temp.span; DROP TABLE temp.taken; DROP TABLE temp.half_closed;
    DROP TABLE temp.kept; DROP TABLE temp.used;";

const SOURCES: &str = "
    INSERT INTO capture_sources
    SELECT c.capture_id, coalesce(o.recording_uuid, r.uuid), ?1,
        max(coalesce(o.is_cut_before, 0),
            x.is_cut_before AND c.capture_id = (SELECT min(capture_id) FROM taken
                JOIN snapshots USING (snapshot_id))),
        max(coalesce(o.is_cut_after, 0), x.is_cut_after),
        CASE WHEN o.selection IS NULL OR ?2 IS NULL THEN coalesce(o.selection, ?2)
            ELSE o.selection || '; ' || ?2 END,
        coalesce(o.capture_offset, 0), coalesce(o.group_offset, 0),
        coalesce(o.snapshot_offset, 0), coalesce(o.socket_offset, 0)
    FROM captures AS c, span AS x, src.recording AS r
    LEFT JOIN src.capture_sources AS o ON o.capture_id = c.capture_id
    WHERE c.capture_id IN (SELECT capture_id FROM line)";

impl NewRecording {
    /// Takes over a part of a recording, and makes it whole.
    ///
    /// # Errors
    /// When one cannot be read or the other not written; then there is no new recording.
    pub fn extract(self, source: &Reader, excerpt: &Excerpt<'_>) -> Result<Taken, StoreError> {
        let taken = self
            .attach(source)
            .and_then(|()| extract(&self.connection, excerpt))
            .and_then(|taken| {
                self.connection.execute_batch("DETACH DATABASE src")?;
                excerpt.key.map_or(Ok(()), |key| anonymize(&self.connection, key))?;
                Ok(taken)
            })
            .map_err(|e| self.file.error_beside(source, e))?;
        self.publish()?;
        Ok(taken)
    }
}

pub(super) fn extract(connection: &Connection, excerpt: &Excerpt<'_>) -> rusqlite::Result<Taken> {
    let transaction = connection.unchecked_transaction()?;
    choose(&transaction, excerpt)?;
    for stretch in excerpt.stretches {
        set_span(&transaction, stretch, excerpt.sockets.is_none())?;
        transaction.execute_batch(TAKEN)?;
        transaction.execute_batch(KEPT)?;
        if excerpt.before == Before::WhoIsThere {
            transaction.execute(ONLY_WHO_IS_THERE, [stretch.first_snapshot])?;
        }
        transaction.execute_batch(include_str!("extract.sql"))?;
        if excerpt.before == Before::WhoIsThere {
            transaction.execute_batch(ONLY_WHAT_WAS_TOLD)?;
        }
        transaction.execute(SOURCES, params![excerpt.taken_at_ns, excerpt.selection])?;
        transaction.execute_batch(FORGET)?;
    }
    transaction.execute(
        "UPDATE captures SET previous_capture_id = NULL
         WHERE previous_capture_id NOT IN (SELECT capture_id FROM captures)",
        [],
    )?;
    transaction.execute(
        "INSERT INTO recording (recording_id, uuid, created_at_ns, created_by)
         VALUES (1, ?1, ?2, ?3)",
        params![new_uuid(), excerpt.taken_at_ns, crate_version()],
    )?;
    summarise_open_groups(&transaction)?;
    let taken = transaction.query_row(
        "SELECT (SELECT count(*) FROM snapshots), (SELECT count(*) FROM sockets),
             (SELECT count(*) FROM samples)",
        [],
        |r| Ok(Taken { snapshots: r.get(0)?, sockets: r.get(1)?, samples: r.get(2)? }),
    )?;
    transaction.commit()?;
    Ok(taken)
}

/// Fills `chosen`.
fn choose(connection: &Connection, excerpt: &Excerpt<'_>) -> rusqlite::Result<()> {
    connection.execute_batch("CREATE TEMP TABLE chosen (socket_id INTEGER PRIMARY KEY)")?;
    let mut choose = connection.prepare("INSERT OR IGNORE INTO chosen VALUES (?1)")?;
    for socket in excerpt.sockets.unwrap_or_default() {
        choose.execute([socket])?;
    }
    Ok(())
}

/// Fills `line` and `span`.
fn set_span(connection: &Connection, stretch: &Stretch, is_all: bool) -> rusqlite::Result<()> {
    connection.execute_batch("CREATE TEMP TABLE line (capture_id INTEGER PRIMARY KEY)")?;
    let mut add = connection.prepare("INSERT INTO line VALUES (?1)")?;
    for capture in &stretch.captures {
        add.execute([capture])?;
    }
    let keyframe_of = |id: i64| connection.query_row(KEYFRAME, [id], |r| r.get::<_, i64>(0));
    let mut first = keyframe_of(stretch.first_snapshot)?;
    let unseen_since = |first: i64| {
        connection.query_row(UNSEEN_SINCE, params![first, is_all, stretch.first_snapshot], |r| {
            r.get::<_, Option<i64>>(0)
        })
    };
    while let Some(seen) = unseen_since(first)? {
        // What was seen last in what was dropped is repeated by the first keyframe that is held.
        let Some(keyframe) = keyframe_of(seen).optional()? else {
            let held = "SELECT min(first_snapshot_id) FROM src.groups";
            first = connection.query_row(held, [], |r| r.get(0))?;
            break;
        };
        first = keyframe;
    }
    let last: i64 = connection.query_row(NEXT_LOOK, [stretch.last_snapshot], |r| r.get(0))?;
    connection.execute(SPAN, params![first, last, is_all])?;
    Ok(())
}
