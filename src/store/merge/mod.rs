//! Several recordings as one.

mod plan;

use std::path::PathBuf;

use rusqlite::{Connection, params};

use super::StoreError;
use super::captures::{crate_version, end_lost, new_uuid};
use super::new_file::NewRecording;
use super::reader::Reader;
use super::summary::summarise_open_groups;
use crate::model::Nanos;
use plan::{Offsets, Piece, Placed, Refused};

/// What a recording was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Captures.
    pub captures: i64,
    /// Snapshots.
    pub snapshots: i64,
    /// Sockets.
    pub sockets: i64,
    /// Rows of samples.
    pub samples: i64,
}

const PIECES: &str = "
    SELECT c.capture_id, c.previous_capture_id, coalesce(t.recording_uuid, r.uuid), t.selection,
        coalesce(t.is_cut_before, 0), coalesce(t.is_cut_after, 0), coalesce(t.capture_offset, 0),
        coalesce(t.group_offset, 0), coalesce(t.snapshot_offset, 0), coalesce(t.socket_offset, 0),
        s.first_snapshot_id, s.last_snapshot_id, g.first_group_id, g.last_group_id,
        k.first_socket_id, k.last_socket_id, b.uuid,
        CASE c.source WHEN 'live' THEN coalesce(c.machine_id_hash, 'host ' || c.host_name) END,
        coalesce(f.started_at_ns, c.started_at_ns), coalesce(l.ended_at_ns, c.started_at_ns),
        f.started_boottime_ns, l.ended_boottime_ns
    FROM captures AS c, recording AS r
    JOIN boots AS b ON b.boot_id = c.boot_id
    LEFT JOIN capture_sources AS t ON t.capture_id = c.capture_id
    LEFT JOIN capture_spans AS s ON s.capture_id = c.capture_id
    LEFT JOIN snapshots AS f ON f.snapshot_id = s.first_snapshot_id
    LEFT JOIN snapshots AS l ON l.snapshot_id = s.last_snapshot_id
    LEFT JOIN (SELECT capture_id, min(group_id) AS first_group_id, max(group_id) AS last_group_id
        FROM groups GROUP BY capture_id) AS g ON g.capture_id = c.capture_id
    LEFT JOIN (SELECT n.capture_id, min(k.socket_id) AS first_socket_id,
            max(k.socket_id) AS last_socket_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        JOIN snapshots AS n
            ON n.snapshot_id = coalesce(k.first_snapshot_id, e.destroyed_snapshot_id)
        GROUP BY n.capture_id) AS k ON k.capture_id = c.capture_id";

const EVERYONE: &str = "
    CREATE TEMP TABLE everyone (file, old_id, new_id, run, line, netns_id, cookie, family, protocol,
        local_address, local_port, remote_address, remote_port, first_id, opened_after_id, closed_id,
        destroyed_id);
    CREATE TEMP TABLE file (number);
    CREATE TEMP TABLE places (old_id INTEGER PRIMARY KEY, new_id, previous_id, run, line, is_cut_before,
        is_cut_after, capture_offset, group_offset, snapshot_offset, socket_offset, group_shift,
        snapshot_shift, socket_shift, first_id, last_id, taken_to);
    CREATE TEMP TABLE snaps (old_id INTEGER PRIMARY KEY, new_id INTEGER, is_taken INTEGER);
    CREATE TEMP TABLE names (old_id INTEGER PRIMARY KEY, new_id INTEGER);";

const SNAPS: &str = "
    INSERT INTO snaps
    SELECT n.snapshot_id, n.snapshot_id + p.snapshot_shift, n.snapshot_id > p.taken_to
    FROM places AS p
    JOIN src.snapshots AS n ON n.snapshot_id BETWEEN p.first_id AND p.last_id";

impl NewRecording {
    /// Takes all of several recordings over, and makes it whole.
    ///
    /// # Errors
    /// When one of them is being recorded to, two have the same snapshots with other sockets, one cannot
    /// be read or the new one not written; then there is no new recording.
    pub fn merge(self, sources: &[Reader], taken_at_ns: Nanos) -> Result<Merged, StoreError> {
        let mut pieces = Vec::new();
        for (file, source) in sources.iter().enumerate() {
            if source.is_being_recorded() {
                return Err(StoreError::StillRecorded { path: source.path().to_owned() });
            }
            pieces.extend(pieces_of(source, file).map_err(|e| source.error(e))?);
        }
        let path =
            |file: usize| sources.get(file).map_or_else(PathBuf::new, |s| s.path().to_owned());
        let placed = plan::place(pieces).map_err(|refused| match refused {
            Refused::OtherSockets { files } => {
                StoreError::OtherSockets { path: path(files.1), other: path(files.0) }
            }
            Refused::Misnumbered { file } => StoreError::Misnumbered { path: path(file) },
        })?;
        let merged = self.take_all(sources, &placed, taken_at_ns)?;
        self.publish()?;
        Ok(merged)
    }

    fn take_all(
        &self,
        sources: &[Reader],
        placed: &[Placed],
        taken_at_ns: Nanos,
    ) -> Result<Merged, StoreError> {
        let connection = &self.connection;
        let error = |e| StoreError::sqlite(&self.file.path, "write to", e);
        connection.execute_batch(EVERYONE).map_err(error)?;
        let each = |take: &dyn Fn(&Connection) -> rusqlite::Result<()>| {
            for (file, source) in sources.iter().enumerate() {
                self.attach(source)
                    .and_then(|()| {
                        let transaction = connection.unchecked_transaction()?;
                        set_places(&transaction, file, placed)?;
                        transaction.execute_batch(include_str!("names.sql"))?;
                        take(&transaction)?;
                        transaction.execute_batch(FORGET)?;
                        transaction.commit()
                    })
                    .and_then(|()| connection.execute_batch("DETACH DATABASE src"))
                    .map_err(|e| self.file.error_beside(source, e))?;
            }
            Ok(())
        };
        each(&|transaction| transaction.execute_batch(include_str!("everyone.sql")))?;
        connection.execute_batch(include_str!("join.sql")).map_err(error)?;
        each(&|transaction| {
            transaction.execute(
                "INSERT INTO names SELECT old_id, new_id FROM everyone
                 WHERE file = (SELECT number FROM file)",
                [],
            )?;
            transaction.execute_batch(include_str!("merge.sql"))?;
            transaction.execute(SOURCES, [taken_at_ns]).map(|_| ())
        })?;
        finish(connection, taken_at_ns).map_err(error)
    }
}

const SOURCES: &str = "
    INSERT OR IGNORE INTO main.capture_sources
    SELECT p.new_id, coalesce(t.recording_uuid, r.uuid), ?1, p.is_cut_before, p.is_cut_after,
        t.selection, p.capture_offset, p.group_offset, p.snapshot_offset, p.socket_offset
    FROM places AS p, src.recording AS r
    LEFT JOIN src.capture_sources AS t ON t.capture_id = p.old_id";

const FORGET: &str = "
    DELETE FROM file; DELETE FROM places; DELETE FROM snaps; DELETE FROM names;
    DROP TABLE temp.boot_names; DROP TABLE temp.netns_names;
    DROP TABLE IF EXISTS temp.scope_names; DROP TABLE IF EXISTS temp.process_names;
    DROP TABLE IF EXISTS temp.group_names; DROP TABLE IF EXISTS temp.owned;
    DROP TABLE IF EXISTS temp.moved_conditions; DROP TABLE IF EXISTS temp.moved_settings;";

fn pieces_of(source: &Reader, file: usize) -> rusqlite::Result<Vec<Piece>> {
    let mut statement = source.connection().prepare(PIECES)?;
    let rows = statement.query_map([], |r| {
        let pair = |first: usize| -> rusqlite::Result<Option<(i64, i64)>> {
            Ok(r.get::<_, Option<i64>>(first)?.zip(r.get::<_, Option<i64>>(first + 1)?))
        };
        Ok(Piece {
            file,
            capture: r.get(0)?,
            previous: r.get(1)?,
            recording: r.get(2)?,
            selection: r.get(3)?,
            is_cut_before: r.get(4)?,
            is_cut_after: r.get(5)?,
            offsets: Offsets {
                capture: r.get(6)?,
                group: r.get(7)?,
                snapshot: r.get(8)?,
                socket: r.get(9)?,
            },
            snapshots: pair(10)?,
            groups: pair(12)?,
            sockets: pair(14)?,
            boot: r.get(16)?,
            machine: r.get(17)?,
            span_ns: (r.get(18)?, r.get(19)?),
            boottime_ns: pair(20)?,
        })
    })?;
    rows.collect()
}

/// Fills `file`, `places` and `snaps`.
fn set_places(connection: &Connection, file: usize, placed: &[Placed]) -> rusqlite::Result<()> {
    connection
        .execute("INSERT INTO file VALUES (?1)", [i64::try_from(file).unwrap_or(i64::MAX)])?;
    let mut add = connection.prepare(
        "INSERT INTO places VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
             ?16, ?17)",
    )?;
    for place in placed.iter().filter(|place| place.piece.file == file) {
        let (old, new) = (place.piece.offsets, place.offsets);
        let (first, last) = place.piece.snapshots.unwrap_or((0, -1));
        add.execute(params![
            place.piece.capture,
            place.piece.capture - old.capture + new.capture,
            place.previous,
            place.run,
            place.line,
            place.is_cut_before,
            place.is_cut_after,
            new.capture,
            new.group,
            new.snapshot,
            new.socket,
            new.group - old.group,
            new.snapshot - old.snapshot,
            new.socket - old.socket,
            first,
            last,
            place.taken_to,
        ])?;
    }
    connection.execute(SNAPS, []).map(|_| ())
}

fn finish(connection: &Connection, taken_at_ns: Nanos) -> rusqlite::Result<Merged> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(include_str!("mend.sql"))?;
    end_lost(&transaction)?;
    transaction.execute(
        "INSERT INTO recording (recording_id, uuid, created_at_ns, created_by)
         VALUES (1, ?1, ?2, ?3)",
        params![new_uuid(), taken_at_ns, crate_version()],
    )?;
    summarise_open_groups(&transaction)?;
    let merged = transaction.query_row(
        "SELECT (SELECT count(*) FROM captures), (SELECT count(*) FROM snapshots),
             (SELECT count(*) FROM sockets), (SELECT count(*) FROM samples)",
        [],
        |r| {
            Ok(Merged {
                captures: r.get(0)?,
                snapshots: r.get(1)?,
                sockets: r.get(2)?,
                samples: r.get(3)?,
            })
        },
    )?;
    transaction.commit()?;
    Ok(merged)
}
