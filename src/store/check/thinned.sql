SELECT n.snapshot_id FROM snapshots AS n JOIN groups AS g ON g.group_id = n.group_id
WHERE n.is_thinned NOT IN (0, 1)
   OR (n.is_thinned = 1 AND (n.is_keyframe OR g.thinned_to_ns IS NULL))
