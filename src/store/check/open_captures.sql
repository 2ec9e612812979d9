SELECT capture_id, NULL AS group_id FROM captures
WHERE ended_at_ns IS NULL AND capture_id < (SELECT max(capture_id) FROM captures)
UNION ALL
SELECT g.capture_id, g.group_id FROM groups AS g JOIN captures AS c ON c.capture_id = g.capture_id
WHERE g.last_snapshot_id IS NULL AND (c.ended_at_ns IS NOT NULL
   OR g.group_id < (SELECT max(group_id) FROM groups))
