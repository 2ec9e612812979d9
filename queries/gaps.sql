-- When was not looked, or not well: ticks that were missed, dumps that failed, time between captures,
-- steps of the clock and suspends. Equal exceptions of snapshots in a row are one gap.
--
-- Parameters: none.
-- Order: in the order of recording. Index: primary keys; one scan of snapshots.
WITH
    islands AS (
        SELECT x.snapshot_id, x.kind, x.scope_id, x.errno, x.count, x.message,
            x.snapshot_id - row_number() OVER (
                PARTITION BY x.kind, x.scope_id, x.errno, x.message ORDER BY x.snapshot_id
            ) AS island
        FROM exceptions AS x
    ),
    gaps AS (
        SELECT min(snapshot_id) AS first_id, max(snapshot_id) AS last_id, kind, scope_id, errno,
            message, count(DISTINCT snapshot_id) AS snapshots, sum(count) AS count,
            NULL AS delta_ns
        FROM islands
        GROUP BY kind, scope_id, errno, message, island
        UNION ALL
        SELECT n.snapshot_id - 1, n.snapshot_id, 'ticks_missed', NULL, NULL, NULL, NULL,
            n.missed_ticks, NULL
        FROM snapshots AS n WHERE n.missed_ticks > 0
        UNION ALL
        SELECT f.first_id - 1, f.first_id, 'not_recording', NULL, NULL, NULL, NULL, NULL, NULL
        FROM (SELECT min(first_snapshot_id) AS first_id FROM groups GROUP BY capture_id) AS f
        WHERE f.first_id > (SELECT min(first_snapshot_id) FROM groups)
        UNION ALL
        SELECT snapshot_id - 1, snapshot_id, 'clock_' || kind, NULL, NULL, NULL, NULL, NULL, delta_ns
        FROM clock_changes
    )
SELECT
    a.started_at_ns AS from_ns,
    b.ended_at_ns AS to_ns,
    g.kind,
    p.name AS protocol,
    f.name AS family,
    g.snapshots,
    g.count,
    g.delta_ns,
    g.errno,
    g.message
FROM gaps AS g
LEFT JOIN snapshots AS a ON a.snapshot_id = g.first_id
JOIN snapshots AS b ON b.snapshot_id = g.last_id
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
ORDER BY g.last_id, g.kind, g.scope_id
