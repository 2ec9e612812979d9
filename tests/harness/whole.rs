//! What every recording must fulfil, whatever happened to those who wrote it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// A connection that cannot change the file, nor fold its log in.
pub(crate) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

/// The whole number that a query gives.
pub(crate) fn ask(path: &Path, sql: &str) -> rusqlite::Result<i64> {
    read_only(path)?.query_row(sql, [], |row| row.get(0))
}

/// Asserts that a recording that was ended cleanly is one file that can be copied off.
#[track_caller]
pub(crate) fn assert_is_one_file(path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let beside: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|other| other != name && other.starts_with(name))
        .collect();
    assert!(beside.is_empty(), "beside {name}: {beside:?}");
    let mode: String = read_only(path)
        .unwrap()
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
}

/// Asserts that a recording is sound and that no table contradicts another.
#[track_caller]
pub(crate) fn assert_recording_is_whole(path: &Path) {
    let found = violations(path);
    assert!(found.is_empty(), "{} is not whole:\n{}", path.display(), found.join("\n"));
}

/// What a recording does not fulfil, with an example each.
pub(crate) fn violations(path: &Path) -> Vec<String> {
    let connection = read_only(path).unwrap();
    // All rules see the same moment, even beside a recorder.
    connection.execute_batch(HELD).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    let mut found = Vec::new();
    let said = first_rows(&connection, "PRAGMA integrity_check");
    if said != ["Text(\"ok\")"] {
        found.push(format!("SQLite finds it damaged: {}", said.join("; ")));
    }
    for (rule, sql) in RULES {
        let rows = first_rows(&connection, sql);
        if !rows.is_empty() {
            found.push(format!("{rule}: not so for {}", rows.join("; ")));
        }
    }
    found
}

fn first_rows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap_or_else(|e| panic!("{e} in {sql}"));
    let width = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..width).map(|i| row.get::<_, Value>(i).map(|v| format!("{v:?}"))).collect()
    });
    let rows = rows.unwrap().take(3);
    rows.map(|row: Result<Vec<String>, _>| row.map_or_else(|e| e.to_string(), |r| r.join(", ")))
        .collect()
}

/// The rules are of what is held: rows of dropped groups may still be on their way out.
const HELD: &str = "
    CREATE TEMP VIEW floor AS
    SELECT coalesce(min(first_snapshot_id), 0) AS snapshot_id, coalesce(min(group_id), 0) AS group_id
    FROM groups;
    CREATE TEMP VIEW snapshots AS SELECT * FROM main.snapshots WHERE group_id IS NOT NULL;
    CREATE TEMP VIEW samples AS
    SELECT * FROM main.samples WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
    CREATE TEMP VIEW held_samples AS
    SELECT * FROM main.held_samples WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
    CREATE TEMP VIEW state_changes AS
    SELECT * FROM main.state_changes WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
    CREATE TEMP VIEW missing_sockets AS
    SELECT * FROM main.missing_sockets WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
    CREATE TEMP VIEW conditions AS
    SELECT * FROM main.conditions WHERE group_id >= (SELECT group_id FROM floor);
    CREATE TEMP VIEW settings AS
    SELECT * FROM main.settings WHERE group_id >= (SELECT group_id FROM floor);
    CREATE TEMP VIEW group_sockets AS
    SELECT * FROM main.group_sockets WHERE group_id >= (SELECT group_id FROM floor);";

/// Each with a query for the rows that break it.
const RULES: &[(&str, &str)] = &[
    (
        "every reference leads to a row: whole snapshots only",
        "SELECT \"table\", rowid, parent FROM pragma_foreign_key_check
         WHERE NOT (parent = 'groups' AND \"table\" IN ('conditions', 'settings', 'group_sockets'))
         UNION ALL
         SELECT 'conditions or the like', group_id, condition_id FROM (
             SELECT group_id, condition_id FROM conditions
             UNION ALL SELECT group_id, setting_id FROM settings
             UNION ALL SELECT group_id, socket_id FROM group_sockets)
         WHERE group_id NOT IN (SELECT group_id FROM groups)",
    ),
    (
        "what was dropped lies before what is held, and only times are left of it",
        "SELECT n.snapshot_id FROM main.snapshots AS n
         LEFT JOIN dropped_spans AS d ON d.capture_id = n.capture_id
         WHERE n.group_id IS NULL AND (n.snapshot_id >= (SELECT snapshot_id FROM floor)
            OR d.capture_id IS NULL
            OR n.snapshot_id NOT BETWEEN d.first_snapshot_id AND d.last_snapshot_id)
         UNION ALL
         SELECT snapshot_id FROM (
             SELECT snapshot_id FROM exceptions UNION ALL SELECT snapshot_id FROM event_losses
             UNION ALL SELECT snapshot_id FROM clock_changes)
         WHERE snapshot_id < (SELECT snapshot_id FROM floor)",
    ),
    (
        "snapshots are numbered without a gap, groups and captures ascend with them",
        "SELECT snapshot_id FROM (SELECT *, lag(snapshot_id) OVER w AS s, lag(group_id) OVER w AS g,
             lag(capture_id) OVER w AS c FROM snapshots WINDOW w AS (ORDER BY snapshot_id))
         WHERE snapshot_id <> s + 1 OR group_id < g OR capture_id < c
             OR (group_id = g) <> (NOT is_keyframe)",
    ),
    (
        "a group begins with its only keyframe",
        "SELECT g.group_id FROM groups AS g
         LEFT JOIN snapshots AS n ON n.snapshot_id = g.first_snapshot_id
         WHERE n.is_keyframe IS NOT 1 OR n.group_id IS NOT g.group_id
         UNION ALL
         SELECT n.snapshot_id FROM snapshots AS n JOIN groups AS g ON g.group_id = n.group_id
         WHERE n.is_keyframe <> (n.snapshot_id = g.first_snapshot_id)
            OR n.capture_id <> g.capture_id",
    ),
    (
        "a closed group ends with its last snapshot",
        "SELECT g.group_id FROM groups AS g
         JOIN (SELECT group_id, max(snapshot_id) AS last FROM snapshots GROUP BY group_id) AS n
            ON n.group_id = g.group_id
         WHERE g.last_snapshot_id <> n.last",
    ),
    (
        "only the last capture may be open, and only its last group",
        "SELECT capture_id FROM captures
         WHERE ended_at_ns IS NULL AND capture_id < (SELECT max(capture_id) FROM captures)
         UNION ALL
         SELECT g.group_id FROM groups AS g JOIN captures AS c ON c.capture_id = g.capture_id
         WHERE g.last_snapshot_id IS NULL AND (c.ended_at_ns IS NOT NULL
            OR g.group_id < (SELECT max(group_id) FROM groups))",
    ),
    (
        "the steady clocks go forward within a capture",
        "SELECT snapshot_id FROM (SELECT n.*, c.source = 'import' AS is_import,
             lag(n.ended_monotonic_ns) OVER w AS m, lag(n.ended_boottime_ns) OVER w AS b
             FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
             WINDOW w AS (PARTITION BY n.capture_id ORDER BY n.snapshot_id))
         -- Others may make dumps at the same time.
         WHERE iif(is_import, ended_monotonic_ns, started_monotonic_ns) < m
            OR iif(is_import, ended_boottime_ns, started_boottime_ns) < b
            OR ended_monotonic_ns < started_monotonic_ns
            OR ended_boottime_ns < started_boottime_ns",
    ),
    (
        "a sample names the socket's row before it, back to the first",
        "SELECT snapshot_id, socket_id, p, l FROM (
             SELECT snapshot_id, socket_id, previous_snapshot_id AS p, lag(snapshot_id)
                 OVER (PARTITION BY socket_id ORDER BY snapshot_id) AS l FROM samples)
         WHERE p IS NOT l AND NOT (l IS NULL AND p < (SELECT snapshot_id FROM floor))",
    ),
    (
        "a socket's first row is of the snapshot that first showed it",
        "SELECT k.socket_id FROM sockets AS k
         LEFT JOIN samples AS s
            ON s.snapshot_id = k.first_snapshot_id AND s.socket_id = k.socket_id
         WHERE k.opened_after_snapshot_id >= k.first_snapshot_id
            OR (k.first_snapshot_id >= (SELECT snapshot_id FROM floor)
                AND (s.socket_id IS NULL OR s.previous_snapshot_id IS NOT NULL))",

    ),
    (
        "a sample's condition and setting stand in its group",
        "SELECT s.snapshot_id, s.socket_id, s.condition_id, s.setting_id FROM samples AS s
         JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
         LEFT JOIN conditions AS c
            ON c.group_id = n.group_id AND c.condition_id = s.condition_id
         LEFT JOIN settings AS t ON t.group_id = n.group_id AND t.setting_id = s.setting_id
         WHERE (s.condition_id IS NOT NULL AND c.condition_id IS NULL)
            OR (s.setting_id IS NOT NULL AND t.setting_id IS NULL)",
    ),
    (
        "the summary of a closed group says what its samples say",
        "WITH summed AS (
             SELECT n.group_id, s.socket_id, min(s.snapshot_id), max(s.snapshot_id), count(*),
                 min(s.rtt_us), max(s.rtt_us), max(s.rqueue), max(s.wqueue), max(c.total_retrans),
                 sum(CASE WHEN s.state IN (1, 4, 8) THEN s.snd_wnd_bytes = 0 ELSE 0 END),
                 max(s.busy_time_us), max(c.rwnd_limited_us), max(c.sndbuf_limited_us)
             FROM groups AS g
             JOIN snapshots AS n ON n.group_id = g.group_id
             JOIN samples AS s ON s.snapshot_id = n.snapshot_id
             LEFT JOIN conditions AS c
                ON c.group_id = n.group_id AND c.condition_id = s.condition_id
             WHERE g.last_snapshot_id IS NOT NULL GROUP BY n.group_id, s.socket_id)
         SELECT * FROM (SELECT * FROM summed EXCEPT SELECT * FROM group_sockets)
         UNION ALL SELECT * FROM (SELECT * FROM group_sockets EXCEPT SELECT * FROM summed)",
    ),
    (
        "the end of a socket agrees with its rows as a live one",
        "WITH alive AS (
             SELECT s.socket_id, count(*) AS samples, max(s.snapshot_id) AS last FROM samples AS s
             LEFT JOIN remains AS m ON m.socket_id = s.socket_id
             WHERE m.socket_id IS NULL OR s.snapshot_id < m.first_snapshot_id
             GROUP BY s.socket_id)
         SELECT e.socket_id, e.samples, s.samples, e.last_sample_snapshot_id, s.last
         FROM socket_ends AS e
         JOIN sockets AS k ON k.socket_id = e.socket_id
         LEFT JOIN alive AS s ON s.socket_id = e.socket_id
         LEFT JOIN samples AS r
            ON r.snapshot_id = e.last_sample_snapshot_id AND r.socket_id = e.socket_id
         LEFT JOIN held_samples AS h
            ON h.snapshot_id = e.last_sample_snapshot_id AND h.socket_id = e.socket_id
         WHERE e.samples < coalesce(s.samples, 0)
            OR (e.samples > coalesce(s.samples, 0)
                AND k.first_snapshot_id >= (SELECT snapshot_id FROM floor))
            OR (e.last_sample_snapshot_id IS NOT s.last AND (s.last IS NOT NULL
                OR e.last_sample_snapshot_id >= (SELECT snapshot_id FROM floor)))
            OR (e.state IS NOT r.state
                AND e.last_sample_snapshot_id >= (SELECT snapshot_id FROM floor))
            OR e.closed_before_snapshot_id < s.last
            OR e.last_snapshot_id < k.first_snapshot_id
            OR e.last_snapshot_id > e.closed_before_snapshot_id
            OR (e.last_snapshot_id IS NULL) <> (e.last_sample_snapshot_id IS NULL)
            OR coalesce(h.observed_snapshot_id, s.last) > e.last_snapshot_id",
    ),
    (
        "what is left of a connection comes after its end and agrees with its rows",
        "SELECT m.socket_id, e.evidence FROM remains AS m
         LEFT JOIN socket_ends AS e ON e.socket_id = m.socket_id
         LEFT JOIN (SELECT socket_id, count(*) AS samples, max(snapshot_id) AS last,
            max(snapshot_id) FILTER (WHERE state IN (5, 6, 7)) AS over
            FROM samples GROUP BY socket_id) AS s ON s.socket_id = m.socket_id
         LEFT JOIN sockets AS k ON k.socket_id = m.socket_id
         LEFT JOIN samples AS f
            ON f.snapshot_id = m.first_snapshot_id AND f.socket_id = m.socket_id
         WHERE e.socket_id IS NULL
            OR (f.socket_id IS NULL AND m.first_snapshot_id >= (SELECT snapshot_id FROM floor))
            OR m.first_snapshot_id < e.last_sample_snapshot_id
            OR m.first_snapshot_id > e.closed_before_snapshot_id
            OR s.over IS NOT s.last OR s.last < m.first_snapshot_id
            OR m.last_snapshot_id < m.first_snapshot_id
            OR m.last_snapshot_id > m.gone_before_snapshot_id
            OR (m.last_snapshot_id IS NULL) <> (m.samples IS NULL)
            OR m.samples < s.samples OR (m.samples > s.samples
                AND coalesce(k.first_snapshot_id, m.first_snapshot_id)
                    >= (SELECT snapshot_id FROM floor))
            OR m.last_sample_snapshot_id <> s.last",
    ),
    (
        "both ends of a connection name each other",
        "SELECT k.socket_id, k.peer_socket_id, p.peer_socket_id FROM sockets AS k
         LEFT JOIN sockets AS p ON p.socket_id = k.peer_socket_id
         WHERE k.peer_socket_id IS NOT NULL AND (
            k.local_port IS NOT p.remote_port OR k.remote_port IS NOT p.local_port
            OR k.netns_id <> p.netns_id OR k.protocol <> p.protocol
            OR p.peer_socket_id IS NOT k.socket_id)",
    ),
    (
        "what only events tell of was never seen, and what was seen is not half known",
        "SELECT k.socket_id FROM sockets AS k
         LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
         LEFT JOIN samples AS s ON s.snapshot_id = k.first_snapshot_id
            AND s.socket_id = k.socket_id
         WHERE (k.first_snapshot_id IS NULL AND e.destroyed_at_ns IS NULL)
            OR (k.first_snapshot_id IS NOT NULL
                AND (k.local_address IS NULL OR k.remote_port IS NULL
                    OR k.addresses_inferred IS NOT NULL))
            OR (e.destroyed_at_ns IS NULL) <> (e.destroyed_snapshot_id IS NULL)
            OR (e.destroyed_at_ns IS NULL) <> (e.destroyed_boottime_ns IS NULL)
            OR k.origin NOT IN (SELECT origin FROM origins)
            OR e.ending NOT IN (SELECT ending FROM endings)",
    ),
    (
        "states change where the samples say so",
        "WITH steps AS (
             SELECT s.snapshot_id, s.socket_id, b.state AS before, s.state AS after
             FROM samples AS s
             LEFT JOIN samples AS b
                ON b.snapshot_id = s.previous_snapshot_id AND b.socket_id = s.socket_id)
         SELECT t.snapshot_id, t.socket_id, t.before, t.after FROM steps AS t
         LEFT JOIN state_changes AS c
            ON c.snapshot_id = t.snapshot_id AND c.socket_id = t.socket_id
         WHERE t.before <> t.after AND c.socket_id IS NULL
         UNION ALL
         SELECT c.snapshot_id, c.socket_id, c.from_state, c.to_state FROM state_changes AS c
         LEFT JOIN steps AS t ON t.snapshot_id = c.snapshot_id AND t.socket_id = c.socket_id
         WHERE c.to_state IS NOT t.after OR c.from_state <> t.before",
    ),
    (
        "only a keyframe holds a row over, from a snapshot that showed the socket",
        "SELECT h.snapshot_id, h.socket_id FROM held_samples AS h
         JOIN snapshots AS n ON n.snapshot_id = h.snapshot_id
         JOIN sockets AS k ON k.socket_id = h.socket_id
         LEFT JOIN samples AS s ON s.snapshot_id = h.snapshot_id AND s.socket_id = h.socket_id
         WHERE NOT n.is_keyframe OR s.socket_id IS NULL
            OR h.observed_snapshot_id NOT BETWEEN k.first_snapshot_id AND h.snapshot_id - 1",
    ),
    (
        "a keyframe has a row of every socket that is there",
        "WITH stays AS (
             SELECT n.capture_id, s.socket_id, min(s.snapshot_id) AS first_id
             FROM samples AS s JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
             GROUP BY n.capture_id, s.socket_id),
         left_at AS (
             SELECT e.socket_id, CASE WHEN m.socket_id IS NULL
                THEN coalesce(e.destroyed_snapshot_id, e.closed_before_snapshot_id,
                    e.last_snapshot_id + 1)
                ELSE coalesce(m.gone_before_snapshot_id, m.last_snapshot_id + 1) END AS snapshot_id
             FROM socket_ends AS e LEFT JOIN remains AS m ON m.socket_id = e.socket_id)
         SELECT n.snapshot_id, y.socket_id FROM snapshots AS n
         JOIN stays AS y ON y.capture_id = n.capture_id AND y.first_id <= n.snapshot_id
         LEFT JOIN left_at AS e ON e.socket_id = y.socket_id
         LEFT JOIN remains AS m ON m.socket_id = y.socket_id
         LEFT JOIN samples AS s ON s.snapshot_id = n.snapshot_id AND s.socket_id = y.socket_id
         -- Between the event of a socket and the first sight of what is left of it there is none.
         WHERE n.is_keyframe AND s.socket_id IS NULL
            AND (e.snapshot_id IS NULL OR e.snapshot_id > n.snapshot_id)
            AND NOT EXISTS (SELECT 1 FROM socket_ends AS d WHERE d.socket_id = y.socket_id
                AND d.destroyed_snapshot_id <= n.snapshot_id
                AND m.first_snapshot_id > n.snapshot_id)",
    ),
    (
        "a snapshot saw the sockets that are there but for those that it missed",
        "WITH stays AS (
             SELECT n.capture_id, s.socket_id, min(s.snapshot_id) AS first_id
             FROM samples AS s JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
             GROUP BY n.capture_id, s.socket_id),
         left_at AS (
             SELECT e.socket_id, CASE WHEN m.socket_id IS NULL
                THEN coalesce(e.destroyed_snapshot_id, e.closed_before_snapshot_id)
                ELSE m.gone_before_snapshot_id END AS snapshot_id
             FROM socket_ends AS e LEFT JOIN remains AS m ON m.socket_id = e.socket_id),
         moves AS (
             SELECT snapshot_id, sum(step) AS step FROM (
                 SELECT first_id AS snapshot_id, 1 AS step FROM stays
                 UNION ALL
                 SELECT e.snapshot_id, -1 FROM left_at AS e
                 JOIN snapshots AS n ON n.snapshot_id = e.snapshot_id
                 JOIN stays AS y ON y.capture_id = n.capture_id AND y.socket_id = e.socket_id)
             GROUP BY snapshot_id),
         -- Of a socket that left for a state that was not asked for nothing says until when.
         vague AS (
             SELECT n.capture_id FROM socket_ends AS e
             JOIN snapshots AS n ON n.snapshot_id = e.last_snapshot_id
             WHERE e.evidence = 'left_scope'),
         -- An event may come before or after the dump of its tick has shown its socket.
         eventful AS (SELECT snapshot_id FROM snapshots WHERE events > 0),
         absent AS (SELECT snapshot_id, count(*) AS sockets FROM missing_sockets GROUP BY 1),
         counted AS (
             SELECT n.snapshot_id, n.capture_id, n.sockets_seen, coalesce(a.sockets, 0) AS missed,
                 sum(coalesce(m.step, 0))
                    OVER (PARTITION BY n.capture_id ORDER BY n.snapshot_id) AS there
             FROM snapshots AS n
             LEFT JOIN moves AS m ON m.snapshot_id = n.snapshot_id
             LEFT JOIN absent AS a ON a.snapshot_id = n.snapshot_id)
         SELECT * FROM counted AS c WHERE sockets_seen <> there - missed
            AND capture_id NOT IN (SELECT capture_id FROM vague)
            AND capture_id NOT IN (SELECT n.capture_id FROM eventful AS v
                JOIN snapshots AS n ON n.snapshot_id = v.snapshot_id)
            AND NOT EXISTS (SELECT 1 FROM exceptions AS x WHERE x.snapshot_id = c.snapshot_id
                AND x.kind IN ('dump_failed', 'dump_interrupted', 'messages_unreadable',
                    'not_asked', 'partly_asked'))",
    ),
    (
        "a snapshot counts its samples, a capture its missed ticks",
        "SELECT n.snapshot_id, n.samples, count(s.socket_id) FROM snapshots AS n
         LEFT JOIN samples AS s ON s.snapshot_id = n.snapshot_id
         GROUP BY n.snapshot_id HAVING n.samples <> count(s.socket_id)
         UNION ALL
         SELECT c.capture_id, c.missed_ticks, sum(n.missed_ticks) FROM captures AS c
         JOIN snapshots AS n ON n.capture_id = c.capture_id
         GROUP BY c.capture_id HAVING c.missed_ticks < sum(n.missed_ticks)
            OR (c.missed_ticks IS NULL) <> (coalesce(c.end_reason, 'lost') = 'lost')",
    ),
    (
        "a process holds a socket from its first snapshot on, once at a time",
        "SELECT o.socket_id, o.process_id, o.first_snapshot_id FROM (
             SELECT *, lag(coalesce(last_snapshot_id, 9e18)) OVER (
                 PARTITION BY socket_id, process_id ORDER BY first_snapshot_id) AS before
             FROM socket_owners) AS o
         JOIN sockets AS k ON k.socket_id = o.socket_id
         WHERE o.first_snapshot_id < k.first_snapshot_id OR o.first_snapshot_id < o.before
            OR o.last_snapshot_id < o.first_snapshot_id",
    ),
    (
        "a process has one number, and is of the boot of its sockets",
        "SELECT max(process_id) FROM processes GROUP BY boot_id, pid, started_ticks
         HAVING count(*) > 1
         UNION ALL
         SELECT p.process_id FROM socket_owners AS o
         JOIN processes AS p ON p.process_id = o.process_id
         JOIN sockets AS k ON k.socket_id = o.socket_id
         JOIN namespaces AS n ON n.netns_id = k.netns_id
         WHERE n.boot_id <> p.boot_id",
    ),
    (
        "an end says what it rests on",
        "SELECT socket_id, evidence FROM socket_ends
         WHERE evidence NOT IN ('absence', 'replaced', 'time_wait', 'closed', 'left_scope',
                'host_restart')
            OR (coalesce(evidence, 'left_scope') = 'left_scope')
                <> (closed_before_snapshot_id IS NULL)
            OR (evidence IS NULL AND destroyed_at_ns IS NULL)",
    ),
];
