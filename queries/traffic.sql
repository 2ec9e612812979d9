-- What went through each chosen connection in the span: its counters at the end of the span less those
-- at its beginning, and the worst that was seen between. Other questions are put together from it.
-- A connection that was there before anyone looked counts from its first sight; NULL is unknown.
--
-- What stands in braces is NULL for questions that do not ask what limited the sending.
-- Reads `chosen`, rows of connections.sql.
-- Parameters: :from_ns, :to_ns (UTC), :first_snapshot_id, :last_snapshot_id (those within).
-- Order: none. Index: primary keys; group_sockets of the groups that lie in the span, samples of those
-- that reach beyond it.
WITH
    -- What held when the span began, held at the snapshot before its first one.
    edges AS MATERIALIZED (
        SELECT coalesce(b.snapshot_id, f.snapshot_id) AS first_id, :last_snapshot_id AS last_id,
            EXISTS (SELECT 1 FROM snapshots AS n WHERE n.snapshot_id > :last_snapshot_id) AS is_cut
        FROM snapshots AS f
        LEFT JOIN snapshots AS b ON b.snapshot_id = f.snapshot_id - 1
            AND b.capture_id = f.capture_id AND b.group_id IS NOT NULL
        WHERE f.snapshot_id = :first_snapshot_id
    ),
    -- The rows that count as the beginning: also the first of whoever a later capture found there.
    first_rows AS (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM edges AS d
        JOIN snapshots AS n ON n.snapshot_id = d.first_id
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND d.first_id
        GROUP BY s.socket_id
        UNION ALL
        SELECT k.socket_id, k.first_snapshot_id
        FROM edges AS d
        JOIN (SELECT min(first_snapshot_id) AS id FROM groups GROUP BY capture_id) AS c
            ON c.id > d.first_id AND c.id <= d.last_id
        JOIN samples AS s ON s.snapshot_id = c.id
        JOIN sockets AS k ON k.socket_id = s.socket_id AND k.first_snapshot_id = c.id
            AND k.opened_after_snapshot_id IS NULL
    ),
    last_rows AS (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM edges AS d
        JOIN snapshots AS n ON n.snapshot_id = d.last_id AND d.is_cut
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND d.last_id
        GROUP BY s.socket_id
    ),
    before AS (
        SELECT r.socket_id, s.rtt_us, s.bytes_sent, s.bytes_received, s.data_segs_out,
            s.busy_time_us, c.total_retrans, c.rwnd_limited_us, c.sndbuf_limited_us,
            s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8) AS zero_window_samples
        FROM first_rows AS r
        CROSS JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        CROSS JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
        LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
    ),
    after AS (
        SELECT r.socket_id, s.bytes_sent, s.bytes_received, s.data_segs_out, c.total_retrans
        FROM last_rows AS r
        CROSS JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        CROSS JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
        LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
    ),
    pieces AS MATERIALIZED (
        SELECT g.group_id, max(g.first_snapshot_id, d.first_id + 1) AS first_id,
            min(coalesce(g.last_snapshot_id, d.last_id), d.last_id) AS last_id,
            coalesce(g.first_snapshot_id > d.first_id AND g.last_snapshot_id <= d.last_id, 0)
                AS is_whole
        FROM edges AS d
        JOIN groups AS g ON g.first_snapshot_id <= d.last_id
            AND coalesce(g.last_snapshot_id, d.last_id) > d.first_id
    ),
    -- Groups are numbered as their snapshots are: whole ones stand in a row.
    whole AS MATERIALIZED (
        SELECT min(group_id) AS first_id, max(group_id) AS last_id FROM pieces WHERE is_whole
    ),
    -- Counters only grow: the greatest is the last.
    seen_in_groups AS (
        SELECT t.socket_id, max(t.max_rtt_us) AS max_rtt_us,
            {sum(t.zero_window_samples)} AS zero_window_samples,
            {max(t.busy_time_us)} AS busy_time_us,
            {max(t.rwnd_limited_us)} AS rwnd_limited_us,
            {max(t.sndbuf_limited_us)} AS sndbuf_limited_us
        FROM whole AS w
        CROSS JOIN group_sockets AS t ON t.group_id BETWEEN w.first_id AND w.last_id
        GROUP BY t.socket_id
    ),
    seen_in_samples AS (
        SELECT s.socket_id, max(s.rtt_us) AS max_rtt_us,
            {sum(s.snd_wnd_bytes = 0 AND s.state IN (1, 4, 8))} AS zero_window_samples,
            {max(s.busy_time_us)} AS busy_time_us,
            {max(c.rwnd_limited_us)} AS rwnd_limited_us,
            {max(c.sndbuf_limited_us)} AS sndbuf_limited_us
        FROM pieces AS p
        JOIN samples AS s ON s.snapshot_id BETWEEN p.first_id AND p.last_id
        LEFT JOIN conditions AS c ON c.group_id = p.group_id AND c.condition_id = s.condition_id
        WHERE NOT p.is_whole
        GROUP BY s.socket_id
    ),
    -- The counters at both ends of the span.
    counters AS (
        SELECT
            k.*,
            coalesce(k.closed_before_ns <= :to_ns, 0) AS is_over,
            b.socket_id IS NULL AND k.opened_after_ns IS NULL AS is_start_unknown,
            b.socket_id IS NOT NULL AS was_there,
            b.bytes_sent AS sent_before, b.bytes_received AS received_before,
            b.data_segs_out AS segs_before, b.total_retrans AS retrans_before,
            b.rtt_us AS rtt_before, b.busy_time_us AS busy_before,
            b.rwnd_limited_us AS rwnd_before, b.sndbuf_limited_us AS sndbuf_before,
            -- One that is freed and goes on half-closed has told its last counters.
            coalesce(k.closed_before_ns, k.destroyed_at_ns) <= :to_ns OR NOT d.is_cut AS is_last_known,
            a.socket_id IS NOT NULL AS is_there_after,
            a.bytes_sent AS sent_after, a.bytes_received AS received_after,
            a.data_segs_out AS segs_after, a.total_retrans AS retrans_after,
            coalesce(max(g.max_rtt_us, s.max_rtt_us), g.max_rtt_us, s.max_rtt_us) AS max_rtt_us,
            CASE WHEN coalesce(g.zero_window_samples, s.zero_window_samples, b.zero_window_samples)
                IS NOT NULL THEN coalesce(g.zero_window_samples, 0)
                + coalesce(s.zero_window_samples, 0) + coalesce(b.zero_window_samples, 0) END
                AS zero_window_samples,
            coalesce(max(g.busy_time_us, s.busy_time_us), g.busy_time_us,
                s.busy_time_us) AS busy_after,
            coalesce(max(g.rwnd_limited_us, s.rwnd_limited_us), g.rwnd_limited_us,
                s.rwnd_limited_us) AS rwnd_after,
            coalesce(max(g.sndbuf_limited_us, s.sndbuf_limited_us), g.sndbuf_limited_us,
                s.sndbuf_limited_us) AS sndbuf_after
        -- The limit, which is none, keeps SQLite from working out each column at each of its uses.
        FROM (SELECT * FROM chosen LIMIT -1) AS k
        LEFT JOIN edges AS d ON 1
        LEFT JOIN before AS b ON b.socket_id = k.socket_id
        LEFT JOIN after AS a ON a.socket_id = k.socket_id
        LEFT JOIN seen_in_groups AS g ON g.socket_id = k.socket_id
        LEFT JOIN seen_in_samples AS s ON s.socket_id = k.socket_id
    )
SELECT
    x.*,
    opened_before_ns BETWEEN :from_ns AND :to_ns
        AND opened_evidence NOT IN ('recording_start', 'extract_start') AS is_opened,
    is_over AND closed_before_ns >= :from_ns AS is_ended,
    CASE WHEN is_last_known THEN bytes_sent WHEN is_there_after THEN coalesce(sent_after, bytes_sent) END
        - CASE WHEN was_there THEN sent_before WHEN NOT is_start_unknown THEN 0 END
        AS sent_delta_bytes,
    CASE WHEN is_last_known THEN bytes_received
        WHEN is_there_after THEN coalesce(received_after, bytes_received) END
        - CASE WHEN was_there THEN received_before WHEN NOT is_start_unknown THEN 0 END
        AS received_delta_bytes,
    -- Segments are counted in 32 bits.
    (CASE WHEN is_last_known THEN total_retrans
        WHEN is_there_after THEN coalesce(retrans_after, total_retrans) END
        - CASE WHEN was_there THEN retrans_before WHEN NOT is_start_unknown THEN 0 END) & 4294967295
        AS retrans_delta,
    (CASE WHEN is_last_known THEN data_segs_out
        WHEN is_there_after THEN coalesce(segs_after, data_segs_out) END
        - CASE WHEN was_there THEN segs_before WHEN NOT is_start_unknown THEN 0 END) & 4294967295
        AS data_segs_delta,
    max(coalesce(max_rtt_us, rtt_before, rtt_us), coalesce(rtt_before, max_rtt_us, rtt_us),
        coalesce(CASE WHEN is_last_known THEN rtt_us END, max_rtt_us, rtt_before)) AS worst_rtt_us,
    busy_after - CASE WHEN was_there THEN busy_before WHEN NOT is_start_unknown THEN 0 END
        AS busy_delta_us,
    rwnd_after - CASE WHEN was_there THEN rwnd_before WHEN NOT is_start_unknown THEN 0 END
        AS rwnd_limited_delta_us,
    sndbuf_after - CASE WHEN was_there THEN sndbuf_before WHEN NOT is_start_unknown THEN 0 END
        AS sndbuf_limited_delta_us
FROM counters AS x
-- Sockets that were never connected are none.
WHERE remote_port IS NOT 0
