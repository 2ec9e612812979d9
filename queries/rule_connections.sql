-- Whether too many TCP connections were there at once: the snapshots that showed so many, and the most.
--
-- Parameters: :allowed, :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: one row or none. Index: one scan of sockets; of open sockets the view open_sockets.
WITH
    still_open AS MATERIALIZED (
        SELECT socket_id, last_snapshot_id FROM open_sockets WHERE NOT is_remains
    ),
    lives AS (
        SELECT max(k.first_snapshot_id, :first_snapshot_id) AS first_id,
            min(coalesce(e.last_snapshot_id, o.last_snapshot_id), :last_snapshot_id) AS last_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN still_open AS o ON o.socket_id = k.socket_id
        WHERE k.protocol = 6 AND k.remote_port IS NOT 0 AND (
            :socket_ids IS NULL OR k.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    changes AS (
        SELECT first_id AS snapshot_id, 1 AS delta FROM lives WHERE first_id <= last_id
        UNION ALL
        SELECT last_id + 1, -1 FROM lives WHERE first_id <= last_id
    ),
    levels AS (
        SELECT snapshot_id AS first_id, sum(sum(delta)) OVER w AS connections,
            lead(snapshot_id) OVER w - 1 AS last_id
        FROM changes GROUP BY snapshot_id WINDOW w AS (ORDER BY snapshot_id)
    ),
    over AS (
        SELECT min(first_id) AS first_id, max(last_id) AS last_id, max(connections) AS most,
            sum(last_id - first_id + 1) AS snapshots
        FROM levels WHERE connections >= :allowed AND last_id IS NOT NULL
    )
SELECT
    'broken' AS verdict,
    NULL AS socket_id,
    first.started_at_ns AS from_ns,
    last.ended_at_ns AS to_ns,
    o.most AS value,
    :allowed AS "limit",
    'snapshots: ' || o.snapshots AS message
FROM over AS o
JOIN snapshots AS first ON first.snapshot_id = o.first_id
JOIN snapshots AS last ON last.snapshot_id = o.last_id
