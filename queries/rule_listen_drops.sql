-- Listeners that dropped connection requests, because their accept queue was full or memory was short.
-- The kernel counts them (SK_MEMINFO_DROPS), also between snapshots.
--
-- Parameters: :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: none. Index: primary key of samples, from the keyframe before the span on.
WITH
    listeners AS MATERIALIZED (
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
    -- The last row by the end of the span, the last one before its start, and the first of all.
    spans AS (
        SELECT socket_id, count(*) - count(sk_drops) AS untold, max(snapshot_id) AS last_id,
            min(snapshot_id) AS first_id,
            max(snapshot_id) FILTER (WHERE snapshot_id < :first_snapshot_id) AS before_id,
            opened_after_snapshot_id
        FROM listeners GROUP BY socket_id
    ),
    counts AS (
        SELECT s.*, l.sk_drops AS dropped,
            CASE WHEN s.before_id IS NULL AND s.opened_after_snapshot_id IS NOT NULL THEN 0
                ELSE b.sk_drops END AS dropped_before
        FROM spans AS s
        JOIN listeners AS l ON l.socket_id = s.socket_id AND l.snapshot_id = s.last_id
        JOIN listeners AS b
            ON b.socket_id = s.socket_id AND b.snapshot_id = coalesce(s.before_id, s.first_id)
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
JOIN snapshots AS first ON first.snapshot_id = max(c.first_id, :first_snapshot_id)
JOIN snapshots AS last ON last.snapshot_id = max(c.last_id, :first_snapshot_id)
WHERE untold > 0 OR dropped <> dropped_before
