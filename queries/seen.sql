-- What was seen of sockets after the beginning of the span, piece by piece: summaries of the groups that
-- lie in it, and samples of those that reach beyond it. SQLite would sort all of them to add them up by
-- socket: the program does that as they come, and traffic.sql asks for them with `seen_of`. Of counts it
-- keeps the sum, of all else the greatest.
--
-- What stands in braces is edges.sql, or left out for questions that do not ask what limited the sending.
-- Parameters: those of edges.sql.
-- Order: none. Index: primary keys.
WITH
    edges AS MATERIALIZED (
{edges}
    ),
    pieces AS MATERIALIZED (
        SELECT g.group_id, max(g.first_snapshot_id, d.first_id + 1) AS first_id,
            min(coalesce(g.last_snapshot_id, d.last_id), d.last_id) AS last_id,
            coalesce(g.first_snapshot_id > d.first_id AND g.last_snapshot_id <= d.last_id, 0)
                AS is_whole
        FROM edges AS d
        JOIN groups AS g ON g.first_snapshot_id <= d.last_id
            AND coalesce(g.last_snapshot_id, d.last_id) > d.first_id
    )
SELECT t.socket_id, t.max_rtt_us{, t.zero_window_samples, t.busy_time_us, t.rwnd_limited_us,
    t.sndbuf_limited_us}
FROM pieces AS p
CROSS JOIN group_sockets AS t ON t.group_id = p.group_id
WHERE p.is_whole
UNION ALL
SELECT s.socket_id, s.rtt_us{, s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8), s.busy_time_us,
    c.rwnd_limited_us, c.sndbuf_limited_us}
FROM pieces AS p
JOIN samples AS s ON s.snapshot_id BETWEEN p.first_id AND p.last_id
LEFT JOIN conditions AS c ON c.group_id = p.group_id AND c.condition_id = s.condition_id
WHERE NOT p.is_whole
