SELECT m.socket_id, e.evidence FROM remains AS m
LEFT JOIN socket_ends AS e ON e.socket_id = m.socket_id
LEFT JOIN (SELECT socket_id, count(*) AS samples, max(snapshot_id) AS last,
   max(snapshot_id) FILTER (WHERE state IN (5, 6, 7)) AS over
   FROM samples GROUP BY socket_id) AS s ON s.socket_id = m.socket_id
LEFT JOIN samples AS f
   ON f.snapshot_id = m.first_snapshot_id AND f.socket_id = m.socket_id
LEFT JOIN sockets AS k ON k.socket_id = m.socket_id
LEFT JOIN thinned_rows AS w ON w.socket_id = m.socket_id
CROSS JOIN floor AS b
WHERE e.socket_id IS NULL
   OR (f.socket_id IS NULL AND NOT EXISTS (SELECT 1 FROM main.snapshots AS n
       WHERE n.snapshot_id = m.first_snapshot_id AND n.group_id IS NULL))
   OR m.first_snapshot_id < e.last_sample_snapshot_id
   OR m.first_snapshot_id > e.closed_before_snapshot_id
   OR s.over IS NOT s.last OR s.last < m.first_snapshot_id
   OR m.last_snapshot_id < m.first_snapshot_id
   OR m.last_snapshot_id > m.gone_before_snapshot_id
   OR (m.last_snapshot_id IS NULL) <> (m.samples IS NULL)
   OR m.samples < s.samples OR (m.samples > s.samples + coalesce(w.samples, 0)
       AND coalesce(k.first_snapshot_id, m.first_snapshot_id) >= b.snapshot_id)
   OR m.last_sample_snapshot_id <> s.last
