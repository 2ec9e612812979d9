SELECT h.snapshot_id, h.socket_id FROM held_samples AS h
JOIN snapshots AS n ON n.snapshot_id = h.snapshot_id
JOIN sockets AS k ON k.socket_id = h.socket_id
LEFT JOIN samples AS s ON s.snapshot_id = h.snapshot_id AND s.socket_id = h.socket_id
WHERE NOT n.is_keyframe OR s.socket_id IS NULL
   OR h.observed_snapshot_id NOT BETWEEN k.first_snapshot_id AND h.snapshot_id - 1
