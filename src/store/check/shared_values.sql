SELECT s.snapshot_id, s.socket_id, s.condition_id, s.setting_id FROM samples AS s
JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
LEFT JOIN conditions AS c
   ON c.group_id = n.group_id AND c.condition_id = s.condition_id
LEFT JOIN settings AS t ON t.group_id = n.group_id AND t.setting_id = s.setting_id
WHERE (s.condition_id IS NOT NULL AND c.condition_id IS NULL)
   OR (s.setting_id IS NOT NULL AND t.setting_id IS NULL)
