-- What the story of one socket is told from: its rows of samples, without those that a keyframe
-- repeats unseen, until when the state before each row was seen to hold, and until when the values.
--
-- Parameters: :socket_id.
-- Order: snapshot. Index: primary key of samples.
WITH RECURSIVE
    last_row AS (
        -- What is left of a connection has the last rows.
        SELECT CASE
            WHEN m.last_snapshot_id IS NOT NULL THEN m.last_sample_snapshot_id
            WHEN e.socket_id IS NOT NULL AND m.socket_id IS NULL THEN e.last_sample_snapshot_id
            ELSE (SELECT snapshot_id FROM open_sockets WHERE socket_id = :socket_id)
        END AS snapshot_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN remains AS m ON m.socket_id = k.socket_id
        WHERE k.socket_id = :socket_id
    ),
    chain AS (
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM last_row AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = :socket_id
        UNION ALL
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = :socket_id
        WHERE s.snapshot_id < c.snapshot_id -- a recording may come from anyone: no chain is endless
    )
SELECT
    n.ended_at_ns,
    n.ended_boottime_ns,
    b.ended_at_ns AS held_until_ns,
    b.ended_boottime_ns AS held_until_boottime_ns,
    coalesce(st.name, 'STATE-' || s.state) AS state,
    -- In FIN-WAIT-2 (5) it went on without its socket.
    coalesce(s.snapshot_id >= m.first_snapshot_id AND s.state <> 5, 0) AS is_remains,
    s.bytes_sent,
    s.bytes_received,
    c.total_retrans,
    s.rtt_us,
    c.snd_cwnd,
    s.busy_time_us,
    c.rwnd_limited_us,
    c.sndbuf_limited_us,
    u.ended_at_ns AS unchanged_until_ns,
    u.ended_boottime_ns AS unchanged_until_boottime_ns
FROM chain AS r
CROSS JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = :socket_id
CROSS JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
CROSS JOIN sockets AS k ON k.socket_id = :socket_id
LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
LEFT JOIN remains AS m ON m.socket_id = :socket_id
LEFT JOIN states AS st ON st.state = s.state
LEFT JOIN held_samples AS h ON h.snapshot_id = s.snapshot_id AND h.socket_id = :socket_id
-- The snapshot before, if it showed the socket: its state was the same there.
LEFT JOIN snapshots AS b ON b.snapshot_id = s.snapshot_id - 1
    AND b.snapshot_id >= s.previous_snapshot_id AND b.group_id IS NOT NULL
    AND NOT EXISTS (
        SELECT 1 FROM missing_sockets AS l
        WHERE l.snapshot_id = b.snapshot_id AND l.socket_id = :socket_id
    )
    AND NOT EXISTS (
        SELECT 1 FROM exceptions AS x
        JOIN scopes AS sc ON sc.scope_id = x.scope_id
        WHERE x.snapshot_id = b.snapshot_id AND x.kind <> 'sockets_not_stored'
            AND sc.family = k.family AND sc.protocol = k.protocol
    )
-- Nothing had changed there; where samples were thinned, at the last one of which all values are there.
LEFT JOIN snapshots AS u ON u.snapshot_id = CASE WHEN NOT b.is_thinned THEN b.snapshot_id
    WHEN b.is_thinned THEN (
        SELECT x.snapshot_id FROM snapshots AS x
        WHERE x.snapshot_id < b.snapshot_id AND x.snapshot_id >= s.previous_snapshot_id
            AND NOT x.is_thinned
        ORDER BY x.snapshot_id DESC LIMIT 1) END
WHERE h.observed_snapshot_id IS NULL
ORDER BY r.snapshot_id
