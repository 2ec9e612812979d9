-- The stretches of whole snapshots: of one capture each, without a gap, and what is cut off of it.
WITH
    islands AS (
        SELECT *, snapshot_id - row_number() OVER (PARTITION BY capture_id ORDER BY snapshot_id) AS island
        FROM whole_snapshots
    ),
    runs AS (
        SELECT capture_id, min(snapshot_id) AS first_id, max(snapshot_id) AS last_id
        FROM islands GROUP BY capture_id, island
    )
SELECT r.capture_id, r.first_id, r.last_id,
    EXISTS (SELECT 1 FROM known_snapshots AS n
        WHERE n.capture_id = r.capture_id AND n.snapshot_id < r.first_id),
    EXISTS (SELECT 1 FROM known_snapshots AS n
        WHERE n.capture_id = r.capture_id AND n.snapshot_id > r.last_id)
FROM runs AS r ORDER BY r.first_id;
