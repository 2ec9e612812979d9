-- What went through each chosen connection in the span: its counters at the end of the span less those
-- at its beginning, and the worst that was seen between. Other questions are put together from it.
-- A connection that was there before anyone looked counts from its first sight; NULL is unknown.
--
-- Reads `chosen`, rows of connections.sql; edges.sql, which stands where the braces are; and what the
-- program has added up of seen.sql (`seen_of`).
-- Parameters: :from_ns, :to_ns (UTC); those of edges.sql.
-- Order: none. Index: primary keys; samples of the groups in which the span begins and ends.
WITH
    edges AS MATERIALIZED (
{edges}
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
    -- The counters at both ends of the span.
    counters AS (
        SELECT
            k.*,
            coalesce(k.closed_before_ns <= :to_ns, 0) AS is_over,
            none.is_so AS none_before,
            b.bytes_sent AS sent_before, b.bytes_received AS received_before,
            b.data_segs_out AS segs_before, b.total_retrans AS retrans_before,
            b.rtt_us AS rtt_before, b.busy_time_us AS busy_before,
            b.rwnd_limited_us AS rwnd_before, b.sndbuf_limited_us AS sndbuf_before,
            last_known.is_so AS is_last_known,
            a.socket_id IS NOT NULL AS is_there_after,
            a.bytes_sent AS sent_after, a.bytes_received AS received_after,
            a.data_segs_out AS segs_after, a.total_retrans AS retrans_after,
            b.zero_window_samples AS zero_windows_before
        -- The limit, which is none, keeps SQLite from working out each column at each of its uses.
        FROM (
            SELECT socket_id, protocol, family, local_address, local_port, remote_address, remote_port,
                direction, pid, comm, exe, command_line, user, uid, cgroup, unit, container, owners,
                owner_count, state, ending, opened_after_ns, opened_before_ns, opened_evidence,
                closed_before_ns, destroyed_at_ns, rtt_us, min_rtt_us, bytes_sent, bytes_received,
                data_segs_out, total_retrans, counters_evidence, gaps
            FROM chosen LIMIT -1
        ) AS k
        -- One that is freed and goes on half-closed has told its last counters.
        LEFT JOIN temp.truth AS last_known ON last_known.is_so = CASE
            WHEN NOT (SELECT is_cut FROM edges) THEN 1
            ELSE coalesce(coalesce(k.closed_before_ns, k.destroyed_at_ns) <= :to_ns, 0) END
        LEFT JOIN before AS b ON b.socket_id = k.socket_id
        -- Over one that began in the span nothing had gone before.
        LEFT JOIN temp.truth AS none ON none.is_so = CASE
            WHEN b.socket_id IS NULL AND k.opened_after_ns IS NOT NULL THEN 0 END
        LEFT JOIN after AS a ON a.socket_id = k.socket_id
    )
SELECT
    x.*,
    opened_before_ns BETWEEN :from_ns AND :to_ns
        AND opened_evidence NOT IN ('recording_start', 'extract_start') AS is_opened,
    is_over AND closed_before_ns >= :from_ns AS is_ended,
    CASE WHEN is_last_known THEN bytes_sent WHEN is_there_after THEN coalesce(sent_after, bytes_sent) END
        - coalesce(sent_before, none_before) AS sent_delta_bytes,
    CASE WHEN is_last_known THEN bytes_received
        WHEN is_there_after THEN coalesce(received_after, bytes_received) END
        - coalesce(received_before, none_before) AS received_delta_bytes,
    -- Segments are counted in 32 bits.
    (CASE WHEN is_last_known THEN total_retrans
        WHEN is_there_after THEN coalesce(retrans_after, total_retrans) END
        - coalesce(retrans_before, none_before)) & 4294967295 AS retrans_delta,
    (CASE WHEN is_last_known THEN data_segs_out
        WHEN is_there_after THEN coalesce(segs_after, data_segs_out) END
        - coalesce(segs_before, none_before)) & 4294967295 AS data_segs_delta,
    nullif(max(coalesce(seen_of(socket_id, 'max_rtt_us'), -1), coalesce(rtt_before, -1),
        coalesce(CASE WHEN is_last_known THEN rtt_us END, -1)), -1) AS worst_rtt_us,
    coalesce(seen_of(socket_id, 'zero_window_samples') + zero_windows_before,
        seen_of(socket_id, 'zero_window_samples'), zero_windows_before) AS zero_window_samples,
    -- Counters only grow: the greatest is the last.
    seen_of(socket_id, 'busy_time_us') - coalesce(busy_before, none_before) AS busy_delta_us,
    seen_of(socket_id, 'rwnd_limited_us') - coalesce(rwnd_before, none_before)
        AS rwnd_limited_delta_us,
    seen_of(socket_id, 'sndbuf_limited_us') - coalesce(sndbuf_before, none_before)
        AS sndbuf_limited_delta_us
FROM counters AS x
-- Sockets that were never connected are none.
WHERE remote_port IS NOT 0
