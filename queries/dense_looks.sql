-- The snapshots that tell of a span, from the keyframe before it on, and how often was looked.
--
-- Parameters: :from_ns, :to_ns (UTC), :host (NULL: all).
-- Order: snapshot. Index: one scan of snapshots.
SELECT n.snapshot_id, n.ended_at_ns, c.interval_ns, n.is_thinned
FROM groups AS g
JOIN captures AS c ON c.capture_id = g.capture_id
JOIN snapshots AS n ON n.group_id = g.group_id AND n.snapshot_id BETWEEN g.first_snapshot_id
    AND coalesce(g.last_snapshot_id, (SELECT max(snapshot_id) FROM snapshots))
WHERE (:host IS NULL OR c.host_name = :host) AND EXISTS (
    SELECT 1 FROM snapshots AS x
    WHERE x.group_id = g.group_id AND x.snapshot_id >= g.first_snapshot_id
        AND x.snapshot_id <= coalesce(g.last_snapshot_id, (SELECT max(snapshot_id) FROM snapshots))
        AND x.ended_at_ns <= :to_ns
        AND x.ended_at_ns + 2 * coalesce(c.interval_ns, 0) >= :from_ns)
ORDER BY n.snapshot_id
