-- How many sockets were in which state: of each bucket of time the most that one of its snapshots
-- showed. What a dump that failed would have shown is held as last observed.
--
-- Reads `chosen`, rows of sockets.sql.
-- Parameters: :from_ns, :to_ns (UTC), :bucket_ns, :first_snapshot_id, :last_snapshot_id (those
-- within), :host (NULL: all).
-- Order: time. Index: primary keys: of samples the first row of each socket and the group in which
-- the span begins; state_changes of the span.
WITH RECURSIVE
    still_open AS MATERIALIZED (SELECT socket_id, last_snapshot_id FROM open_sockets),
    -- From its first to its last sight, what is left of a connection counted in.
    lives AS MATERIALIZED (
        SELECT
            k.socket_id,
            max(k.first_snapshot_id, :first_snapshot_id) AS first_id,
            CASE
                WHEN m.last_snapshot_id IS NOT NULL THEN m.last_snapshot_id
                WHEN e.socket_id IS NOT NULL AND m.socket_id IS NULL THEN e.last_snapshot_id
                ELSE o.last_snapshot_id
            END AS last_id
        FROM chosen AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN remains AS m ON m.socket_id = k.socket_id
        LEFT JOIN still_open AS o ON o.socket_id = k.socket_id
        WHERE k.first_snapshot_id <= :last_snapshot_id
    ),
    there_before AS MATERIALIZED (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id, s.state
        FROM snapshots AS n
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND n.snapshot_id
        WHERE n.snapshot_id = :first_snapshot_id
        GROUP BY s.socket_id
    ),
    first_states AS MATERIALIZED (
        SELECT v.socket_id, v.first_id, v.last_id, coalesce(b.state, s.state) AS state
        FROM lives AS v
        LEFT JOIN there_before AS b ON b.socket_id = v.socket_id
        LEFT JOIN samples AS s ON s.snapshot_id = v.first_id AND s.socket_id = v.socket_id
        WHERE v.last_id >= :first_snapshot_id
    ),
    changes AS MATERIALIZED (
        SELECT c.snapshot_id, c.socket_id, c.from_state, c.to_state, v.last_id
        FROM state_changes AS c
        CROSS JOIN first_states AS v ON v.socket_id = c.socket_id
        WHERE c.snapshot_id > :first_snapshot_id AND c.snapshot_id <= :last_snapshot_id
            AND c.snapshot_id > v.first_id AND c.snapshot_id <= v.last_id
    ),
    last_states AS MATERIALIZED (
        SELECT socket_id, max(snapshot_id), to_state FROM changes GROUP BY socket_id
    ),
    steps AS (
        SELECT first_id AS snapshot_id, state, 1 AS step FROM first_states
        UNION ALL
        SELECT snapshot_id, from_state, -1 FROM changes
        UNION ALL
        SELECT snapshot_id, to_state, 1 FROM changes
        UNION ALL
        SELECT v.last_id + 1, coalesce(l.to_state, v.state), -1
        FROM first_states AS v
        LEFT JOIN last_states AS l ON l.socket_id = v.socket_id
        WHERE v.last_id < :last_snapshot_id
        UNION ALL
        SELECT snapshot_id, NULL, 0 FROM held_snapshots
        WHERE snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
    ),
    changed AS MATERIALIZED (
        SELECT snapshot_id, sum(step) AS sockets,
            sum(step * (state = 1)) AS estab, sum(step * (state = 2)) AS syn_sent,
            sum(step * (state = 3)) AS syn_recv, sum(step * (state = 4)) AS fin_wait_1,
            sum(step * (state = 5)) AS fin_wait_2, sum(step * (state = 6)) AS time_wait,
            sum(step * (state = 7)) AS unconn, sum(step * (state = 8)) AS close_wait,
            sum(step * (state = 9)) AS last_ack, sum(step * (state = 10)) AS listen,
            sum(step * (state = 11)) AS closing, sum(step * (state > 11)) AS other_states
        FROM steps
        GROUP BY snapshot_id
    ),
    counts AS (
        SELECT c.snapshot_id,
            sum(c.sockets) OVER w AS sockets, sum(c.estab) OVER w AS estab,
            sum(c.syn_sent) OVER w AS syn_sent, sum(c.syn_recv) OVER w AS syn_recv,
            sum(c.fin_wait_1) OVER w AS fin_wait_1, sum(c.fin_wait_2) OVER w AS fin_wait_2,
            sum(c.time_wait) OVER w AS time_wait, sum(c.unconn) OVER w AS unconn,
            sum(c.close_wait) OVER w AS close_wait, sum(c.last_ack) OVER w AS last_ack,
            sum(c.listen) OVER w AS listen, sum(c.closing) OVER w AS closing,
            sum(c.other_states) OVER w AS other_states
        FROM changed AS c
        WINDOW w AS (ORDER BY c.snapshot_id)
    ),
    looked AS MATERIALIZED (
        SELECT n.ended_at_ns / :bucket_ns AS bucket, count(*) AS snapshots,
            max(sockets) AS sockets, max(estab) AS estab, max(listen) AS listen,
            max(syn_sent) AS syn_sent, max(syn_recv) AS syn_recv, max(fin_wait_1) AS fin_wait_1,
            max(fin_wait_2) AS fin_wait_2, max(time_wait) AS time_wait,
            max(close_wait) AS close_wait, max(last_ack) AS last_ack, max(closing) AS closing,
            max(unconn) AS unconn, max(other_states) AS other_states
        FROM counts AS c
        CROSS JOIN snapshots AS n ON n.snapshot_id = c.snapshot_id
        WHERE n.ended_at_ns BETWEEN :from_ns AND :to_ns
        GROUP BY 1
    ),
    buckets AS (
        SELECT min(bucket) AS bucket, max(bucket) AS last_bucket FROM looked HAVING count(*) > 0
        UNION ALL
        SELECT bucket + 1, last_bucket FROM buckets WHERE bucket < last_bucket
    ),
    blind AS MATERIALIZED (
        SELECT from_ns, to_ns, kind FROM gaps
        WHERE (:host IS NULL OR host_name = :host) AND kind NOT IN ('dump_unsupported', 'events_lost', 'clock_step', 'clock_suspend', 'thinned')
    )
SELECT
    b.bucket * :bucket_ns AS from_ns,
    (b.bucket + 1) * :bucket_ns AS to_ns,
    coalesce(l.snapshots, 0) AS snapshots,
    -- No socket was ever seen: none, where it was looked.
    CASE WHEN l.snapshots > 0 THEN coalesce(l.sockets, 0) END AS sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.estab, 0) END AS estab_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.listen, 0) END AS listen_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.syn_sent, 0) END AS syn_sent_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.syn_recv, 0) END AS syn_recv_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.fin_wait_1, 0) END AS fin_wait_1_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.fin_wait_2, 0) END AS fin_wait_2_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.time_wait, 0) END AS time_wait_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.close_wait, 0) END AS close_wait_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.last_ack, 0) END AS last_ack_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.closing, 0) END AS closing_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.unconn, 0) END AS unconn_sockets,
    CASE WHEN l.snapshots > 0 THEN coalesce(l.other_states, 0) END AS other_sockets,
    (
        SELECT group_concat(DISTINCT g.kind) FROM blind AS g
        WHERE g.to_ns >= b.bucket * :bucket_ns
            AND coalesce(g.from_ns, g.to_ns) < (b.bucket + 1) * :bucket_ns
    ) AS gaps
FROM buckets AS b
LEFT JOIN looked AS l ON l.bucket = b.bucket
ORDER BY b.bucket
