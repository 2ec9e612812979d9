-- Between which snapshots a span lies. What held when it began, held at the snapshot before its first
-- one.
--
-- Parameters: :first_snapshot_id, :last_snapshot_id (those within).
-- Order: one row; none for a span without snapshots. Index: primary key.
SELECT coalesce(b.snapshot_id, f.snapshot_id) AS first_id, :last_snapshot_id AS last_id,
    EXISTS (SELECT 1 FROM snapshots AS n WHERE n.snapshot_id > :last_snapshot_id) AS is_cut
FROM snapshots AS f
LEFT JOIN snapshots AS b ON b.snapshot_id = f.snapshot_id - 1
    AND b.capture_id = f.capture_id AND b.group_id IS NOT NULL
WHERE f.snapshot_id = :first_snapshot_id
