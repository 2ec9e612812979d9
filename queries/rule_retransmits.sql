-- Whether too great a share of the data segments that all connections sent in the span were
-- retransmissions. Counters are read at the snapshots next to the ends of the span.
--
-- Parameters: :allowed (millionths), :socket_ids (JSON, NULL: all), :first_snapshot_id,
-- :last_snapshot_id.
-- Order: one row or none. Index: primary key of samples, the groups at both ends of the span; one
-- scan of socket_ends.
WITH
    asked AS (
        SELECT k.* FROM sockets AS k
        WHERE k.protocol = 6 AND k.remote_port IS NOT 0 AND (
            :socket_ids IS NULL OR k.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    -- The last row with counters by the end of the span, and before its start.
    rows_by_then AS (
        SELECT t.is_end, s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM (SELECT 0 AS is_end, :first_snapshot_id - 1 AS by_id
              UNION ALL SELECT 1, :last_snapshot_id) AS t
        JOIN snapshots AS n ON n.snapshot_id = t.by_id
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND t.by_id
        WHERE s.data_segs_out IS NOT NULL
        GROUP BY t.is_end, s.socket_id
        UNION ALL
        -- Of what was there when recording began the first row tells what came before.
        SELECT 0, k.socket_id, k.first_snapshot_id
        FROM asked AS k
        WHERE k.opened_after_snapshot_id IS NULL
            AND k.first_snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
    ),
    counted AS MATERIALIZED (
        SELECT r.is_end, r.socket_id, s.data_segs_out, c.total_retrans
        FROM rows_by_then AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
        LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
    ),
    ends AS (
        SELECT e.socket_id, e.data_segs_out, e.total_retrans, e.ending, e.last_snapshot_id,
            coalesce(min(e.closed_before_snapshot_id, e.destroyed_snapshot_id),
                e.closed_before_snapshot_id, e.destroyed_snapshot_id) AS by_id
        FROM socket_ends AS e
    ),
    sent AS (
        SELECT k.socket_id, e.socket_id IS NOT NULL AS is_over,
            -- Never seen alive: in TIME-WAIT when recording began.
            e.last_snapshot_id IS NULL AND k.first_snapshot_id IS NOT NULL AS was_over,
            coalesce(e.ending IN (9, 10), 0) AS is_not_established,
            -- Counters wrap at 2^32.
            (coalesce(e.data_segs_out, b.data_segs_out) - coalesce(a.data_segs_out, 0)) & 4294967295
                AS segments,
            (coalesce(e.total_retrans, b.total_retrans) - coalesce(a.total_retrans, 0)) & 4294967295
                AS retransmits
        FROM asked AS k
        LEFT JOIN ends AS e ON e.socket_id = k.socket_id AND e.by_id <= :last_snapshot_id
        LEFT JOIN counted AS b ON b.socket_id = k.socket_id AND b.is_end
        LEFT JOIN counted AS a ON a.socket_id = k.socket_id AND NOT a.is_end
        WHERE (e.socket_id IS NOT NULL AND e.by_id >= :first_snapshot_id)
            OR (e.socket_id IS NULL AND b.socket_id IS NOT NULL)
    ),
    total AS (
        SELECT sum(retransmits) AS retransmits, sum(segments) AS segments,
            count(segments) AS connections,
            count(*) FILTER (WHERE segments IS NULL AND is_over AND NOT was_over
                AND NOT is_not_established) AS uncounted
        FROM sent
    )
SELECT
    CASE WHEN retransmits > 0 AND retransmits * 1000000 >= segments * :allowed THEN 'broken'
        ELSE 'not_known' END AS verdict,
    NULL AS socket_id,
    first.started_at_ns AS from_ns,
    last.ended_at_ns AS to_ns,
    100.0 * retransmits / nullif(segments, 0) AS value,
    :allowed / 10000.0 AS "limit",
    'retransmitted: ' || coalesce(retransmits, 0) || ', data segments: ' || coalesce(segments, 0) ||
        ', connections: ' || connections ||
        CASE WHEN uncounted > 0 THEN ', without known counters: ' || uncounted ELSE '' END
        AS message
FROM total
JOIN snapshots AS first ON first.snapshot_id = :first_snapshot_id
JOIN snapshots AS last ON last.snapshot_id = :last_snapshot_id
WHERE (retransmits > 0 AND retransmits * 1000000 >= segments * :allowed) OR uncounted > 0
