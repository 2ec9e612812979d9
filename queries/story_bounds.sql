-- Between which moments the life of one socket lies, and that of what was left of it, on both clocks.
--
-- Parameters: :socket_id.
-- Order: one row. Index: primary keys; of a socket that is still there the view open_sockets.
WITH
    told AS (
        SELECT
            e.*,
            m.socket_id IS NOT NULL AS is_left,
            m.first_snapshot_id AS left_first_id,
            m.time_wait_snapshot_id,
            m.time_wait_ms,
            m.last_snapshot_id AS left_last_id,
            m.gone_before_snapshot_id,
            -- What is left of it was in FIN-WAIT-2 first: the connection went on without its socket.
            m.socket_id IS NOT NULL AND e.evidence IS NOT 'closed'
                AND m.time_wait_snapshot_id IS NOT m.first_snapshot_id AS is_half,
            -- For so long it may have gone on, where nothing else tells; NULL: longer.
            CASE WHEN e.ending IS NULL OR e.ending IN (1, 3, 11) THEN e.over_ns ELSE 0 END AS open_ns
        FROM socket_ends AS e
        LEFT JOIN remains AS m ON m.socket_id = e.socket_id
        WHERE e.socket_id = :socket_id
    ),
    events AS (
        SELECT socket_id, destroyed_at_ns + open_ns AS at_ns,
            destroyed_boottime_ns + open_ns AS boottime_ns
        FROM told
        WHERE NOT is_half
    ),
    dumps AS (
        -- The timer of a TIME-WAIT tells more than when it was seen.
        SELECT t.socket_id,
            coalesce(n.started_at_ns - w.time_wait_ms * 1000000, n.ended_at_ns) AS at_ns,
            coalesce(n.started_boottime_ns - w.time_wait_ms * 1000000, n.ended_boottime_ns)
                AS boottime_ns
        FROM told AS t
        JOIN snapshots AS n ON n.snapshot_id = CASE
            WHEN t.is_half THEN coalesce(t.time_wait_snapshot_id, t.gone_before_snapshot_id)
            ELSE t.closed_before_snapshot_id END
        LEFT JOIN told AS w ON w.time_wait_snapshot_id = n.snapshot_id
    )
SELECT
    before.started_at_ns AS opened_after_ns,
    before.started_boottime_ns AS opened_after_boottime_ns,
    last.ended_at_ns AS last_seen_ns,
    last.ended_boottime_ns AS last_seen_boottime_ns,
    CASE WHEN v.boottime_ns < coalesce(d.boottime_ns, v.boottime_ns + 1) THEN v.at_ns
        ELSE d.at_ns END AS closed_before_ns,
    CASE WHEN v.boottime_ns < coalesce(d.boottime_ns, v.boottime_ns + 1) THEN v.boottime_ns
        ELSE d.boottime_ns END AS closed_before_boottime_ns,
    left_last.ended_at_ns AS remains_seen_ns,
    left_last.ended_boottime_ns AS remains_seen_boottime_ns,
    left_gone.ended_at_ns AS remains_gone_ns,
    left_gone.ended_boottime_ns AS remains_gone_boottime_ns
FROM sockets AS k
LEFT JOIN told AS t ON t.socket_id = k.socket_id
LEFT JOIN events AS v ON v.socket_id = k.socket_id
LEFT JOIN dumps AS d ON d.socket_id = k.socket_id
LEFT JOIN open_sockets AS o ON o.socket_id = k.socket_id
LEFT JOIN snapshots AS before ON before.snapshot_id = k.opened_after_snapshot_id
LEFT JOIN snapshots AS last ON last.snapshot_id = CASE
    WHEN t.socket_id IS NULL THEN o.last_snapshot_id
    WHEN NOT t.is_half THEN t.last_snapshot_id
    -- Of one that came to its TIME-WAIT the first sight of what was left is certain.
    WHEN t.time_wait_snapshot_id IS NOT NULL THEN t.left_first_id
    ELSE coalesce(t.left_last_id, o.last_snapshot_id) END
LEFT JOIN snapshots AS left_last ON t.is_left
    AND left_last.snapshot_id = coalesce(t.left_last_id, o.last_snapshot_id)
LEFT JOIN snapshots AS left_gone ON left_gone.snapshot_id = t.gone_before_snapshot_id
WHERE k.socket_id = :socket_id
