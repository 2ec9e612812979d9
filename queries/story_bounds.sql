-- Between which moments the life of one socket lies, and that of what was left of it, on both clocks.
--
-- Parameters: :socket_id, :closed_before_ns (UTC, as `connections` has it).
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
                AND m.time_wait_snapshot_id IS NOT m.first_snapshot_id AS is_half
        FROM socket_ends AS e
        LEFT JOIN remains AS m ON m.socket_id = e.socket_id
        WHERE e.socket_id = :socket_id
    ),
    -- Its own end, and the other one's, which may tell when it was over.
    ends AS (
        SELECT e.* FROM socket_ends AS e
        WHERE e.socket_id IN (SELECT :socket_id UNION ALL
            SELECT k.peer_socket_id FROM sockets AS k WHERE k.socket_id = :socket_id)
    ),
    -- Snapshots of its boot: the boot time of another is no measure.
    looks AS (
        SELECT n.* FROM snapshots AS n
        JOIN captures AS c ON c.capture_id = n.capture_id
        JOIN sockets AS k ON k.socket_id = :socket_id
        JOIN namespaces AS w ON w.netns_id = k.netns_id AND w.boot_id = c.boot_id
    ),
    -- What `connections` chooses from.
    moments AS (
        SELECT destroyed_at_ns + coalesce(over_ns, 0) AS at_ns,
            destroyed_boottime_ns + coalesce(over_ns, 0) AS boottime_ns
        FROM ends
        UNION ALL
        SELECT destroyed_at_ns, destroyed_boottime_ns FROM ends
        UNION ALL
        SELECT n.ended_at_ns, n.ended_boottime_ns
        FROM ends AS e JOIN looks AS n ON n.snapshot_id = e.closed_before_snapshot_id
        UNION ALL
        SELECT n.ended_at_ns, n.ended_boottime_ns
        FROM told AS t
        JOIN looks AS n ON n.snapshot_id IN (t.time_wait_snapshot_id, t.gone_before_snapshot_id)
        UNION ALL
        SELECT n.started_at_ns - t.time_wait_ms * 1000000,
            n.started_boottime_ns - t.time_wait_ms * 1000000
        FROM told AS t JOIN looks AS n ON n.snapshot_id = t.time_wait_snapshot_id
    )
SELECT
    before.started_at_ns AS opened_after_ns,
    before.started_boottime_ns AS opened_after_boottime_ns,
    last.ended_at_ns AS last_seen_ns,
    last.ended_boottime_ns AS last_seen_boottime_ns,
    :closed_before_ns AS closed_before_ns,
    (SELECT min(x.boottime_ns) FROM moments AS x WHERE x.at_ns = :closed_before_ns)
        AS closed_before_boottime_ns,
    CASE WHEN NOT t.is_half THEN t.destroyed_at_ns END AS destroyed_at_ns,
    CASE WHEN NOT t.is_half THEN t.destroyed_boottime_ns END AS destroyed_boottime_ns,
    left_last.ended_at_ns AS remains_seen_ns,
    left_last.ended_boottime_ns AS remains_seen_boottime_ns,
    left_gone.ended_at_ns AS remains_gone_ns,
    left_gone.ended_boottime_ns AS remains_gone_boottime_ns
FROM sockets AS k
LEFT JOIN told AS t ON t.socket_id = k.socket_id
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
LEFT JOIN looks AS left_gone ON left_gone.snapshot_id = t.gone_before_snapshot_id
WHERE k.socket_id = :socket_id
