-- The lifetime of each socket: who, from when to when, what became of it.
-- An opening or closing is an interval: not before `_after`, not after `_before`; NULL is unknown.
--
-- Parameters: none.
-- Order: as first seen. Index: none for the ended (one scan of sockets and socket_ends); for those
-- still there the last group of each capture.
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
    open_rows AS MATERIALIZED (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id, count(*) AS samples
        FROM last_groups AS g
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
        WHERE NOT EXISTS (SELECT 1 FROM socket_ends AS e WHERE e.socket_id = s.socket_id)
        GROUP BY s.socket_id
    ),
    -- A mini-socket (TIME-WAIT …) has no counters: those of the full socket before it hold.
    chain AS (
        SELECT r.socket_id, s.snapshot_id, s.previous_snapshot_id, s.condition_id
        FROM open_rows AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        UNION ALL
        SELECT c.socket_id, s.snapshot_id, s.previous_snapshot_id, s.condition_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = c.socket_id
        WHERE c.condition_id IS NULL
    ),
    counted_rows AS MATERIALIZED (
        SELECT socket_id, min(snapshot_id) AS snapshot_id FROM chain GROUP BY socket_id
    ),
    earlier_samples AS MATERIALIZED (
        SELECT t.socket_id, sum(t.samples) AS samples
        FROM group_sockets AS t
        JOIN open_rows AS r ON r.socket_id = t.socket_id
        JOIN groups AS g ON g.group_id = t.group_id
        WHERE NOT EXISTS (
            SELECT 1 FROM last_groups AS l WHERE l.first_snapshot_id = g.first_snapshot_id)
        GROUP BY t.socket_id
    ),
    -- The last complete dump of each scope of each capture, and the one before it.
    complete AS MATERIALIZED (
        SELECT p.capture_id, sc.netns_id, sc.family, sc.protocol,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN p.first_id AND p.last_id
             ORDER BY d.snapshot_id DESC LIMIT 1) AS last_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN p.first_id AND p.last_id
             ORDER BY d.snapshot_id DESC LIMIT 1 OFFSET 1) AS before_id
        FROM (
            SELECT g.capture_id, min(g.first_snapshot_id) AS first_id,
                (SELECT max(n.snapshot_id) FROM snapshots AS n
                 WHERE n.group_id = max(g.group_id)
                    AND n.snapshot_id >= max(g.first_snapshot_id)) AS last_id
            FROM groups AS g GROUP BY g.capture_id
        ) AS p
        JOIN capture_scopes AS cs ON cs.capture_id = p.capture_id
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    ),
    -- When the sockets that are still there were last seen.
    open_sockets AS MATERIALIZED (
        SELECT r.socket_id, r.snapshot_id, q.snapshot_id AS counted_snapshot_id,
            r.samples + coalesce(t.samples, 0) AS samples,
            max(
                coalesce(h.observed_snapshot_id, r.snapshot_id),
                coalesce(CASE WHEN m.socket_id IS NULL THEN c.last_id ELSE c.before_id END, 0)
            ) AS last_snapshot_id,
            p.ended_at_ns IS NOT NULL AS is_capture_over
        FROM open_rows AS r
        JOIN sockets AS k ON k.socket_id = r.socket_id
        JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
        JOIN captures AS p ON p.capture_id = n.capture_id
        JOIN counted_rows AS q ON q.socket_id = r.socket_id
        LEFT JOIN earlier_samples AS t ON t.socket_id = r.socket_id
        LEFT JOIN held_samples AS h
            ON h.snapshot_id = r.snapshot_id AND h.socket_id = r.socket_id
        LEFT JOIN complete AS c
            ON c.capture_id = n.capture_id AND c.netns_id = k.netns_id AND c.family = k.family
            AND c.protocol = k.protocol
        LEFT JOIN missing_sockets AS m ON m.snapshot_id = c.last_id AND m.socket_id = r.socket_id
    )
SELECT
    k.socket_id,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    k.interface,
    k.mark,
    k.cgroup_id,
    coalesce(st.name, 'STATE-' || coalesce(e.state, r.state)) AS state,
    first.ended_at_ns AS first_seen_at_ns,
    last.ended_at_ns AS last_seen_at_ns,
    before.started_at_ns AS opened_after_ns,
    first.ended_at_ns AS opened_before_ns,
    CASE
        WHEN k.opened_after_snapshot_id IS NOT NULL THEN 'snapshot'
        WHEN k.first_snapshot_id = (
            SELECT min(g.first_snapshot_id) FROM groups AS g WHERE g.capture_id = first.capture_id
        ) THEN 'recording_start'
    END AS opened_evidence,
    last.started_at_ns AS closed_after_ns,
    gone.ended_at_ns AS closed_before_ns,
    CASE
        WHEN e.closed_before_snapshot_id IS NOT NULL THEN 'absence'
        WHEN e.socket_id IS NOT NULL THEN 'left_scope'
        WHEN o.is_capture_over THEN 'recording_end'
    END AS closed_evidence,
    max(0, last.started_boottime_ns - first.ended_boottime_ns) AS duration_min_ns,
    gone.ended_boottime_ns - before.started_boottime_ns AS duration_max_ns,
    CASE WHEN e.socket_id IS NULL THEN q.rtt_us ELSE e.rtt_us END AS rtt_us,
    CASE WHEN e.socket_id IS NULL THEN q.rttvar_us ELSE e.rttvar_us END AS rttvar_us,
    CASE WHEN e.socket_id IS NULL THEN c.min_rtt_us ELSE e.min_rtt_us END AS min_rtt_us,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_sent ELSE e.bytes_sent END AS bytes_sent,
    CASE WHEN e.socket_id IS NULL THEN c.bytes_retrans ELSE e.bytes_retrans END AS bytes_retrans,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_acked ELSE e.bytes_acked END AS bytes_acked,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_received ELSE e.bytes_received END AS bytes_received,
    CASE WHEN e.socket_id IS NULL THEN q.segs_out ELSE e.segs_out END AS segs_out,
    CASE WHEN e.socket_id IS NULL THEN q.segs_in ELSE e.segs_in END AS segs_in,
    CASE WHEN e.socket_id IS NULL THEN q.data_segs_out ELSE e.data_segs_out END AS data_segs_out,
    CASE WHEN e.socket_id IS NULL THEN q.data_segs_in ELSE e.data_segs_in END AS data_segs_in,
    CASE WHEN e.socket_id IS NULL THEN c.total_retrans ELSE e.total_retrans END AS total_retrans,
    coalesce(e.samples, o.samples) AS samples
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN open_sockets AS o ON o.socket_id = k.socket_id
LEFT JOIN samples AS r ON r.snapshot_id = o.snapshot_id AND r.socket_id = k.socket_id
LEFT JOIN samples AS q ON q.snapshot_id = o.counted_snapshot_id AND q.socket_id = k.socket_id
LEFT JOIN snapshots AS qn ON qn.snapshot_id = o.counted_snapshot_id
LEFT JOIN conditions AS c ON c.group_id = qn.group_id AND c.condition_id = q.condition_id
LEFT JOIN snapshots AS first ON first.snapshot_id = k.first_snapshot_id
LEFT JOIN snapshots AS before ON before.snapshot_id = k.opened_after_snapshot_id
LEFT JOIN snapshots AS last
    ON last.snapshot_id = coalesce(e.last_snapshot_id, o.last_snapshot_id)
LEFT JOIN snapshots AS gone ON gone.snapshot_id = e.closed_before_snapshot_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
LEFT JOIN states AS st ON st.state = coalesce(e.state, r.state)
ORDER BY k.socket_id
