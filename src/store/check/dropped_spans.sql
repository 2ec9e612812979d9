SELECT n.snapshot_id FROM main.snapshots AS n
LEFT JOIN dropped_spans AS d ON d.capture_id = n.capture_id
WHERE n.group_id IS NULL AND (n.snapshot_id >= (SELECT snapshot_id FROM floor)
   OR d.capture_id IS NULL
   OR n.snapshot_id NOT BETWEEN d.first_snapshot_id AND d.last_snapshot_id)
UNION ALL
SELECT snapshot_id FROM (
    SELECT snapshot_id FROM noted_exceptions UNION ALL SELECT snapshot_id FROM event_losses
    UNION ALL SELECT snapshot_id FROM clock_changes)
WHERE snapshot_id < (SELECT snapshot_id FROM floor)
