SELECT g.group_id, NULL AS snapshot_id FROM groups AS g
LEFT JOIN snapshots AS n ON n.snapshot_id = g.first_snapshot_id
WHERE n.is_keyframe IS NOT 1 OR n.group_id IS NOT g.group_id
UNION ALL
SELECT n.group_id, n.snapshot_id FROM snapshots AS n JOIN groups AS g ON g.group_id = n.group_id
WHERE n.is_keyframe <> (n.snapshot_id = g.first_snapshot_id)
   OR n.capture_id <> g.capture_id
