-- The series of one socket: one row for each change and keyframe, walked back along the chain of
-- its rows.
--
-- Parameters: :socket_id, :from_ns, :to_ns (UTC).
-- Order: snapshot. Index: primary key of samples.
WITH RECURSIVE
    last_row AS (
        -- What is left of a connection has the last rows.
        SELECT CASE
            WHEN m.last_snapshot_id IS NOT NULL THEN m.last_sample_snapshot_id
            WHEN e.socket_id IS NOT NULL AND m.socket_id IS NULL THEN e.last_sample_snapshot_id
            ELSE (SELECT snapshot_id FROM open_sockets WHERE socket_id = :socket_id)
        END AS snapshot_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN remains AS m ON m.socket_id = k.socket_id
        WHERE k.socket_id = :socket_id
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
        WHERE s.snapshot_id < c.snapshot_id -- a recording may come from anyone: no chain is endless
    )
SELECT v.*
FROM chain AS c
CROSS JOIN socket_samples AS v ON v.snapshot_id = c.snapshot_id AND v.socket_id = :socket_id
WHERE v.taken_at_ns BETWEEN :from_ns AND :to_ns
ORDER BY v.snapshot_id
