-- Between which moments the life of one socket lies, and that of what was left of it, on both clocks.
--
-- Parameters: :socket_id.
-- Order: one row. Index: primary keys; of a socket that is still there the view open_sockets.
SELECT
    before.started_at_ns AS opened_after_ns,
    before.started_boottime_ns AS opened_after_boottime_ns,
    last.ended_at_ns AS last_seen_ns,
    last.ended_boottime_ns AS last_seen_boottime_ns,
    CASE WHEN e.destroyed_boottime_ns < coalesce(gone.boottime_ns, e.destroyed_boottime_ns + 1)
        THEN e.destroyed_at_ns ELSE gone.at_ns END AS closed_before_ns,
    CASE WHEN e.destroyed_boottime_ns < coalesce(gone.boottime_ns, e.destroyed_boottime_ns + 1)
        THEN e.destroyed_boottime_ns ELSE gone.boottime_ns END AS closed_before_boottime_ns,
    left_last.ended_at_ns AS remains_seen_ns,
    left_last.ended_boottime_ns AS remains_seen_boottime_ns,
    left_gone.ended_at_ns AS remains_gone_ns,
    left_gone.ended_boottime_ns AS remains_gone_boottime_ns
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN remains AS m ON m.socket_id = k.socket_id
LEFT JOIN open_sockets AS o ON o.socket_id = k.socket_id
LEFT JOIN snapshots AS before ON before.snapshot_id = k.opened_after_snapshot_id
LEFT JOIN snapshots AS last ON last.snapshot_id =
    CASE WHEN e.socket_id IS NULL THEN o.last_snapshot_id ELSE e.last_snapshot_id END
LEFT JOIN (
    -- The timer of a TIME-WAIT tells more than when it was seen.
    SELECT n.snapshot_id,
        coalesce(n.started_at_ns - t.time_wait_ms * 1000000, n.ended_at_ns) AS at_ns,
        coalesce(n.started_boottime_ns - t.time_wait_ms * 1000000, n.ended_boottime_ns)
            AS boottime_ns
    FROM socket_ends AS x
    JOIN snapshots AS n ON n.snapshot_id = x.closed_before_snapshot_id
    LEFT JOIN remains AS t
        ON t.socket_id = x.socket_id AND t.time_wait_snapshot_id = n.snapshot_id
    WHERE x.socket_id = :socket_id
) AS gone ON gone.snapshot_id = e.closed_before_snapshot_id
LEFT JOIN snapshots AS left_last ON m.socket_id IS NOT NULL
    AND left_last.snapshot_id = coalesce(m.last_snapshot_id, o.last_snapshot_id)
LEFT JOIN snapshots AS left_gone ON left_gone.snapshot_id = m.gone_before_snapshot_id
WHERE k.socket_id = :socket_id
