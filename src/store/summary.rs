//! What a group tells of each of its sockets, written when it is closed: who asks for the worst, or for who
//! was there, need not look through the samples.

use hashbrown::HashMap;
use rusqlite::{CachedStatement, Connection, Row, Statement, params};

/// Closes every group that is still open: the last snapshot, and a summary of each socket.
pub(super) fn summarise_open_groups(connection: &Connection) -> rusqlite::Result<()> {
    let groups: Vec<i64> = connection
        .prepare_cached("SELECT group_id FROM groups WHERE last_snapshot_id IS NULL")?
        .query_map([], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for group in groups {
        connection
            .prepare_cached(
                "UPDATE groups SET last_snapshot_id =
                     (SELECT max(snapshot_id) FROM snapshots WHERE group_id = ?1
                      AND snapshot_id >= groups.first_snapshot_id)
                 WHERE group_id = ?1",
            )?
            .execute([group])?;
        summarise(connection, group)?;
    }
    Ok(())
}

/// The rows of a group in the order in which they stand, by snapshot: SQLite would sort them by socket, all
/// that a group has.
const SAMPLES_SQL: &str = "
    SELECT s.socket_id, s.snapshot_id, s.condition_id, s.rtt_us, s.rqueue, s.wqueue, s.busy_time_us,
        s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8)
    FROM groups AS g
    JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
    WHERE g.group_id = ?1
    ORDER BY s.snapshot_id";

const CONDITION_SQL: &str = "
    SELECT total_retrans, rwnd_limited_us, sndbuf_limited_us FROM conditions
    WHERE group_id = ?1 AND condition_id = ?2";

const SUMMARY_SQL: &str = "
    INSERT INTO group_sockets (group_id, socket_id, first_snapshot_id, last_snapshot_id, samples,
        min_rtt_us, max_rtt_us, max_rqueue, max_wqueue, total_retrans, zero_window_samples,
        busy_time_us, rwnd_limited_us, sndbuf_limited_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Of one socket. There may be a hundred thousand: what is not known takes no room of its own.
struct Summary {
    socket: i64,
    first: i64,
    last: i64,
    samples: i64,
    condition: i64,
    min_rtt_us: i64,
    zero_window_samples: i64,
    /// The greatest `rtt_us`, `rqueue`, `wqueue` and `busy_time_us`.
    of_samples: [i64; 4],
    /// The greatest `total_retrans`, `rwnd_limited_us` and `sndbuf_limited_us`.
    of_conditions: [i64; 3],
}

/// So many conditions are remembered at a time.
const REMEMBERED: usize = 4_096;

/// Less than any value.
const UNKNOWN: i64 = i64::MIN;

fn known(value: i64) -> Option<i64> {
    (value != UNKNOWN).then_some(value)
}

fn summarise(connection: &Connection, group: i64) -> rusqlite::Result<()> {
    let mut summaries: Vec<Summary> = Vec::new();
    let mut places: HashMap<i64, usize> = HashMap::new();
    let mut samples = connection.prepare_cached(SAMPLES_SQL)?;
    let mut conditions = Conditions {
        select: connection.prepare_cached(CONDITION_SQL)?,
        remembered: HashMap::new(),
    };
    let mut rows = samples.query([group])?;
    while let Some(row) = rows.next()? {
        let socket = row.get(0)?;
        let place = *places.entry(socket).or_insert(summaries.len());
        if place == summaries.len() {
            summaries.push(Summary::new(socket, row.get(1)?));
        }
        let summary = &mut summaries[place];
        summary.add(row)?;
        let condition = row.get::<_, Option<i64>>(2)?;
        // Most often it is that of the row before.
        if let Some(condition) = condition.filter(|condition| *condition != summary.condition) {
            summary.condition = condition;
            let greatest = conditions.greatest_of(group, condition)?;
            for (known, value) in summary.of_conditions.iter_mut().zip(greatest) {
                *known = value.max(*known);
            }
        }
    }
    drop(places);
    // As they are to stand.
    summaries.sort_unstable_by_key(|summary| summary.socket);
    let mut insert = connection.prepare_cached(SUMMARY_SQL)?;
    summaries.iter().try_for_each(|summary| summary.write(&mut insert, group))
}

/// What the conditions of a group tell; many rows share one.
struct Conditions<'c> {
    select: CachedStatement<'c>,
    remembered: HashMap<i64, [i64; 3]>,
}

impl Conditions<'_> {
    fn greatest_of(&mut self, group: i64, condition: i64) -> rusqlite::Result<[i64; 3]> {
        if let Some(greatest) = self.remembered.get(&condition) {
            return Ok(*greatest);
        }
        let mut greatest = [UNKNOWN; 3];
        let mut found = self.select.query([group, condition])?;
        if let Some(row) = found.next()? {
            raise(&mut greatest, row, 0)?;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(condition, greatest);
        Ok(greatest)
    }
}

impl Summary {
    fn new(socket: i64, first: i64) -> Self {
        Self {
            socket,
            first,
            last: first,
            samples: 0,
            condition: UNKNOWN,
            min_rtt_us: UNKNOWN,
            zero_window_samples: UNKNOWN,
            of_samples: [UNKNOWN; 4],
            of_conditions: [UNKNOWN; 3],
        }
    }

    /// Takes the next row of [`SAMPLES_SQL`].
    fn add(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.last = row.get(1)?;
        self.samples += 1;
        if let Some(rtt_us) = row.get(3)? {
            self.min_rtt_us = known(self.min_rtt_us).map_or(rtt_us, |least| least.min(rtt_us));
        }
        raise(&mut self.of_samples, row, 3)?;
        if let Some(is_zero_window) = row.get::<_, Option<i64>>(7)? {
            self.zero_window_samples = self.zero_window_samples.max(0) + is_zero_window;
        }
        Ok(())
    }

    fn write(&self, insert: &mut Statement<'_>, group: i64) -> rusqlite::Result<()> {
        let [max_rtt_us, max_rqueue, max_wqueue, busy_time_us] = self.of_samples.map(known);
        let [total_retrans, rwnd_limited_us, sndbuf_limited_us] = self.of_conditions.map(known);
        insert.execute(params![
            group,
            self.socket,
            self.first,
            self.last,
            self.samples,
            known(self.min_rtt_us),
            max_rtt_us,
            max_rqueue,
            max_wqueue,
            total_retrans,
            known(self.zero_window_samples),
            busy_time_us,
            rwnd_limited_us,
            sndbuf_limited_us
        ])?;
        Ok(())
    }
}

/// Makes each no less than the value of a column, from this one on.
fn raise<const N: usize>(
    greatest: &mut [i64; N],
    row: &Row<'_>,
    first_column: usize,
) -> rusqlite::Result<()> {
    for (column, greatest) in (first_column..).zip(greatest) {
        *greatest = (*greatest).max(row.get::<_, Option<i64>>(column)?.unwrap_or(UNKNOWN));
    }
    Ok(())
}
