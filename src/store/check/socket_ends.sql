WITH alive AS (
    SELECT s.socket_id, count(*) AS samples, max(s.snapshot_id) AS last FROM samples AS s
    LEFT JOIN remains AS m ON m.socket_id = s.socket_id
    WHERE m.socket_id IS NULL OR s.snapshot_id < m.first_snapshot_id
    GROUP BY s.socket_id)
SELECT e.socket_id, e.samples, s.samples AS samples_found,
    e.last_sample_snapshot_id, s.last AS last_found
FROM socket_ends AS e
JOIN sockets AS k ON k.socket_id = e.socket_id
LEFT JOIN alive AS s ON s.socket_id = e.socket_id
LEFT JOIN samples AS r
   ON r.snapshot_id = e.last_sample_snapshot_id AND r.socket_id = e.socket_id
LEFT JOIN held_samples AS h
   ON h.snapshot_id = e.last_sample_snapshot_id AND h.socket_id = e.socket_id
LEFT JOIN thinned_rows AS w ON w.socket_id = e.socket_id
CROSS JOIN floor AS f
WHERE e.samples < coalesce(s.samples, 0)
   OR (e.samples > coalesce(s.samples, 0) + coalesce(w.samples, 0)
       AND (k.first_snapshot_id >= f.snapshot_id OR k.first_snapshot_id IS NULL))
   OR (e.last_sample_snapshot_id IS NOT s.last
       AND (s.last IS NOT NULL OR e.last_sample_snapshot_id >= f.snapshot_id))
   OR (e.state IS NOT r.state
       AND (e.last_sample_snapshot_id >= f.snapshot_id OR e.last_sample_snapshot_id IS NULL))
   OR e.closed_before_snapshot_id < s.last
   OR e.last_snapshot_id < k.first_snapshot_id
   OR e.last_snapshot_id > e.closed_before_snapshot_id
   OR (e.last_snapshot_id IS NULL) <> (e.last_sample_snapshot_id IS NULL)
   OR coalesce(h.observed_snapshot_id, s.last) > e.last_snapshot_id
