-- Listeners that dropped connection requests, because their accept queue was full or memory was short.
-- The kernel counts them (SK_MEMINFO_DROPS), also between snapshots.
--
-- Parameters: :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: none. Index: primary key of samples, from the keyframe before the span on.
WITH
    listeners AS (
        SELECT s.socket_id, s.snapshot_id, k.opened_after_snapshot_id, c.sk_drops
        FROM samples AS s
        JOIN sockets AS k ON k.socket_id = s.socket_id
        JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
        LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
        WHERE s.state = 10 AND s.snapshot_id <= :last_snapshot_id AND s.snapshot_id >= (
            SELECT min(g.first_snapshot_id) FROM snapshots AS n
            JOIN groups AS g ON g.group_id = n.group_id
            WHERE n.snapshot_id IN (:first_snapshot_id, :first_snapshot_id - 1)
        ) AND (:socket_ids IS NULL OR s.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    -- What had been dropped before the span, and by its end.
    counts AS (
        SELECT l.socket_id, count(*) - count(l.sk_drops) AS untold,
            min(l.snapshot_id) FILTER (WHERE l.snapshot_id >= :first_snapshot_id) AS first_id,
            max(l.snapshot_id) AS last_id,
            (SELECT x.sk_drops FROM listeners AS x WHERE x.socket_id = l.socket_id
             ORDER BY x.snapshot_id DESC LIMIT 1) AS dropped,
            coalesce(
                (SELECT x.sk_drops FROM listeners AS x
                 WHERE x.socket_id = l.socket_id AND x.snapshot_id < :first_snapshot_id
                 ORDER BY x.snapshot_id DESC LIMIT 1),
                CASE WHEN l.opened_after_snapshot_id IS NOT NULL THEN 0 END,
                (SELECT x.sk_drops FROM listeners AS x WHERE x.socket_id = l.socket_id
                 ORDER BY x.snapshot_id LIMIT 1)
            ) AS dropped_before
        FROM listeners AS l
        GROUP BY l.socket_id
    )
SELECT
    CASE WHEN untold > 0 THEN 'not_known' ELSE 'broken' END AS verdict,
    c.socket_id,
    first.started_at_ns AS from_ns,
    last.ended_at_ns AS to_ns,
    CASE WHEN untold = 0 THEN (dropped - dropped_before) & 4294967295 END AS value,
    0 AS "limit",
    CASE WHEN untold > 0 THEN 'the kernel did not tell them' ELSE 'requests dropped' END AS message
FROM counts AS c
JOIN snapshots AS first ON first.snapshot_id = coalesce(c.first_id, :first_snapshot_id)
JOIN snapshots AS last ON last.snapshot_id = c.last_id
WHERE untold > 0 OR dropped <> dropped_before
