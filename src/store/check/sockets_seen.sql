WITH stays AS (
    SELECT n.capture_id, s.socket_id, min(s.snapshot_id) AS first_id
    FROM samples AS s JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
    GROUP BY n.capture_id, s.socket_id),
left_at AS (
    SELECT e.socket_id, CASE WHEN m.socket_id IS NULL
       THEN coalesce(e.destroyed_snapshot_id, e.closed_before_snapshot_id)
       -- Of what was left in a namespace that was let go of nothing says when it went.
       ELSE coalesce(m.gone_before_snapshot_id, m.last_snapshot_id + 1) END AS snapshot_id
    FROM socket_ends AS e LEFT JOIN remains AS m ON m.socket_id = e.socket_id),
moves AS (
    -- SQLite makes an index only for a column whose type it knows.
    SELECT CAST(snapshot_id AS INTEGER) AS snapshot_id, sum(step) AS step FROM (
        SELECT first_id AS snapshot_id, 1 AS step FROM stays
        UNION ALL
        SELECT e.snapshot_id, -1 FROM left_at AS e
        JOIN snapshots AS n ON n.snapshot_id = e.snapshot_id
        JOIN stays AS y ON y.capture_id = n.capture_id AND y.socket_id = e.socket_id)
    GROUP BY 1),
-- Of a socket that left for a state that was not asked for nothing says until when.
vague AS (
    SELECT n.capture_id FROM socket_ends AS e
    JOIN snapshots AS n ON n.snapshot_id = e.last_snapshot_id
    WHERE e.evidence = 'left_scope'),
-- Of an extract that chose sockets the others are not there.
chosen AS (SELECT capture_id FROM capture_sources WHERE selection IS NOT NULL),
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
   AND capture_id NOT IN (SELECT capture_id FROM vague UNION ALL SELECT capture_id FROM chosen)
   AND capture_id NOT IN (SELECT n.capture_id FROM eventful AS v
       JOIN snapshots AS n ON n.snapshot_id = v.snapshot_id)
   AND NOT EXISTS (SELECT 1 FROM exceptions AS x WHERE x.snapshot_id = c.snapshot_id
       AND x.kind IN ('dump_failed', 'dump_interrupted', 'messages_unreadable',
           'not_asked', 'partly_asked'))
