SELECT k.socket_id FROM sockets AS k
LEFT JOIN samples AS s
   ON s.snapshot_id = k.first_snapshot_id AND s.socket_id = k.socket_id
WHERE k.opened_after_snapshot_id >= k.first_snapshot_id
   OR k.open_ms < 0 OR (k.open_ms IS NOT NULL AND k.first_snapshot_id IS NULL)
   OR (k.first_snapshot_id >= (SELECT snapshot_id FROM floor)
       AND (s.socket_id IS NULL OR s.previous_snapshot_id IS NOT NULL))
