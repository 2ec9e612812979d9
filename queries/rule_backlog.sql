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
    )
SELECT
    'broken' AS verdict,
    f.socket_id,
    first.ended_at_ns AS from_ns,
    last.ended_at_ns AS to_ns,
    max(f.rqueue) AS value,
    f.wqueue AS "limit",
    'snapshots: ' || sum(f.last_id - f.first_id + 1) AS message
FROM full_ones AS f
JOIN snapshots AS first ON first.snapshot_id =
    (SELECT min(x.first_id) FROM full_ones AS x WHERE x.socket_id = f.socket_id)
JOIN snapshots AS last ON last.snapshot_id =
    (SELECT max(x.last_id) FROM full_ones AS x WHERE x.socket_id = f.socket_id)
GROUP BY f.socket_id
