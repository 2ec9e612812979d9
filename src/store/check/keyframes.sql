WITH stays AS (
    SELECT n.capture_id, s.socket_id, min(s.snapshot_id) AS first_id
    FROM samples AS s JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
    GROUP BY n.capture_id, s.socket_id),
left_at AS (
    SELECT e.socket_id, CASE WHEN m.socket_id IS NULL
       -- Its event may be told after two dumps lacked it.
       THEN coalesce(min(e.destroyed_snapshot_id, e.closed_before_snapshot_id),
           e.destroyed_snapshot_id, e.closed_before_snapshot_id, e.last_snapshot_id + 1)
       ELSE coalesce(m.gone_before_snapshot_id, m.last_snapshot_id + 1) END AS snapshot_id
    FROM socket_ends AS e LEFT JOIN remains AS m ON m.socket_id = e.socket_id)
SELECT n.snapshot_id, y.socket_id FROM snapshots AS n
JOIN stays AS y ON y.capture_id = n.capture_id AND y.first_id <= n.snapshot_id
LEFT JOIN left_at AS e ON e.socket_id = y.socket_id
LEFT JOIN remains AS m ON m.socket_id = y.socket_id
LEFT JOIN samples AS s ON s.snapshot_id = n.snapshot_id AND s.socket_id = y.socket_id
-- Between the end of a socket and the first sight of what is left of it there is none.
WHERE n.is_keyframe AND s.socket_id IS NULL
   AND (e.snapshot_id IS NULL OR e.snapshot_id > n.snapshot_id)
   AND NOT EXISTS (SELECT 1 FROM socket_ends AS d
       LEFT JOIN missing_sockets AS u
           ON u.socket_id = d.socket_id AND u.snapshot_id > d.last_snapshot_id
       WHERE d.socket_id = y.socket_id AND m.first_snapshot_id > n.snapshot_id
       AND (d.destroyed_snapshot_id <= n.snapshot_id OR u.snapshot_id < n.snapshot_id))
