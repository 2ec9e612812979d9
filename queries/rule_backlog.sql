-- Listeners whose accept queue was full in a snapshot: more connections waited than its limit says. At
-- the limit the kernel takes in one more (sk_acceptq_is_full in Linux' include/net/sock.h).
--
-- Parameters: :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: none. Index: primary key of samples, from the keyframe before the span on.
WITH
    -- Each row with the last snapshot for which it holds.
    queues AS (
        SELECT s.socket_id, s.snapshot_id, s.rqueue, s.wqueue,
            coalesce(
                lead(s.snapshot_id) OVER (PARTITION BY s.socket_id ORDER BY s.snapshot_id) - 1,
                e.last_snapshot_id, :last_snapshot_id) AS until_id
        FROM samples AS s
        LEFT JOIN socket_ends AS e ON e.socket_id = s.socket_id
        WHERE s.state = 10 AND s.snapshot_id <= :last_snapshot_id AND s.snapshot_id >= (
            SELECT g.first_snapshot_id FROM snapshots AS n JOIN groups AS g ON g.group_id = n.group_id
            WHERE n.snapshot_id = :first_snapshot_id
        ) AND (:socket_ids IS NULL OR s.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    full_ones AS (
        SELECT socket_id, rqueue, wqueue, max(snapshot_id, :first_snapshot_id) AS first_id,
            min(until_id, :last_snapshot_id) AS last_id
        FROM queues
        WHERE rqueue > wqueue AND until_id >= :first_snapshot_id
    ),
    listeners AS (
        SELECT socket_id, min(first_id) AS first_id, max(last_id) AS last_id, max(rqueue) AS most,
            min(wqueue) AS least_limit, sum(last_id - first_id + 1) AS snapshots
        FROM full_ones GROUP BY socket_id
    )
SELECT
    'broken' AS verdict,
    l.socket_id,
    first.ended_at_ns AS from_ns,
    last.ended_at_ns AS to_ns,
    l.most AS value,
    l.least_limit AS "limit",
    'snapshots: ' || l.snapshots AS message
FROM listeners AS l
JOIN snapshots AS first ON first.snapshot_id = l.first_id
JOIN snapshots AS last ON last.snapshot_id = l.last_id
