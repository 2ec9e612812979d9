-- To steps of which lengths samples of a span were thinned.
--
-- Parameters: :from_ns, :to_ns (UTC), :host (NULL: all).
-- Order: length. Index: one scan of groups; primary key of snapshots.
SELECT DISTINCT g.thinned_to_ns
FROM groups AS g
JOIN captures AS c ON c.capture_id = g.capture_id
JOIN snapshots AS a ON a.snapshot_id = g.first_snapshot_id
JOIN snapshots AS b ON b.snapshot_id = g.last_snapshot_id
WHERE g.thinned_to_ns IS NOT NULL AND (:host IS NULL OR c.host_name = :host)
    AND b.ended_at_ns >= :from_ns AND a.started_at_ns <= :to_ns
ORDER BY 1
