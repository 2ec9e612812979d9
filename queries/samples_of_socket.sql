-- The series of one socket: one row for each change and keyframe, walked back along the chain of
-- its rows.
--
-- Parameters: :socket_id, :from_ns, :to_ns (UTC).
-- Order: snapshot. Index: primary key of samples.
WITH RECURSIVE
    -- The last group of each capture holds a row of every socket that was there to the end.
    last_groups AS (
        SELECT
            g.first_snapshot_id,
            coalesce(
                g.last_snapshot_id,
                (SELECT max(n.snapshot_id) FROM snapshots AS n WHERE n.group_id = g.group_id
                 AND n.snapshot_id >= g.first_snapshot_id)
            ) AS last_snapshot_id
        FROM groups AS g
        WHERE g.group_id IN (SELECT max(group_id) FROM groups GROUP BY capture_id)
    ),
    last_row AS (
        SELECT coalesce(
            (SELECT last_sample_snapshot_id FROM socket_ends WHERE socket_id = :socket_id),
            (SELECT max(s.snapshot_id) FROM last_groups AS g
             JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
             WHERE s.socket_id = :socket_id)
        ) AS snapshot_id
    ),
    chain AS (
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM last_row AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = :socket_id
        UNION ALL
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = :socket_id
    )
SELECT v.*
FROM chain AS c
CROSS JOIN socket_samples AS v ON v.snapshot_id = c.snapshot_id AND v.socket_id = :socket_id
WHERE v.taken_at_ns BETWEEN :from_ns AND :to_ns
ORDER BY v.snapshot_id
