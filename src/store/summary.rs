//! What a group tells of each of its sockets, written when it is closed: who asks for the worst, or for who
//! was there, need not look through the samples.

use rusqlite::Connection;

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
        connection.prepare_cached(SUMMARY_SQL)?.execute([group])?;
    }
    Ok(())
}

const SUMMARY_SQL: &str = "
    INSERT INTO group_sockets (group_id, socket_id, first_snapshot_id, last_snapshot_id, samples,
        min_rtt_us, max_rtt_us, max_rqueue, max_wqueue, total_retrans, zero_window_samples,
        busy_time_us, rwnd_limited_us, sndbuf_limited_us)
    SELECT g.group_id, s.socket_id, min(s.snapshot_id), max(s.snapshot_id), count(*),
        min(s.rtt_us), max(s.rtt_us), max(s.rqueue), max(s.wqueue), max(c.total_retrans),
        sum(s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8)),
        max(s.busy_time_us), max(c.rwnd_limited_us), max(c.sndbuf_limited_us)
    FROM groups AS g
    JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
    LEFT JOIN conditions AS c ON c.group_id = g.group_id AND c.condition_id = s.condition_id
    WHERE g.group_id = ?1
    GROUP BY s.socket_id";
