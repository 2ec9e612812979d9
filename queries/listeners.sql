-- The accept queue of each listening socket: as it was in one snapshot, at its longest in the span, and
-- in which share of the snapshots it was filling up or full.
--
-- Parameters: :snapshot_id (whose backlog is shown; NULL: the last of the span, and those who had gone
-- by then are shown too), :first_snapshot_id, :last_snapshot_id (those within the span).
-- Order: the most often full first, then the fullest. Index: primary key of samples, back along each
-- socket's rows.
WITH RECURSIVE
    still_open AS MATERIALIZED (
        SELECT socket_id, snapshot_id, last_snapshot_id FROM open_sockets
    ),
    last_rows AS MATERIALIZED (
        SELECT k.socket_id, coalesce(e.last_sample_snapshot_id, o.snapshot_id) AS snapshot_id,
            coalesce(e.last_snapshot_id, o.last_snapshot_id) AS last_seen_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN still_open AS o ON o.socket_id = k.socket_id
        WHERE k.protocol IN (6, 262) AND k.remote_port = 0
            AND k.first_snapshot_id <= max(:last_snapshot_id, coalesce(:snapshot_id, 0))
            AND coalesce(e.last_snapshot_id, o.last_snapshot_id)
                >= min(:first_snapshot_id, coalesce(:snapshot_id, :first_snapshot_id))
    ),
    chain AS (
        SELECT r.socket_id, s.snapshot_id, s.previous_snapshot_id, r.last_seen_id + 1 AS until_id,
            s.state, s.rqueue, s.wqueue, s.condition_id
        FROM last_rows AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        UNION ALL
        SELECT s.socket_id, s.snapshot_id, s.previous_snapshot_id, c.snapshot_id, s.state, s.rqueue,
            s.wqueue, s.condition_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = c.socket_id
        WHERE c.snapshot_id > min(:first_snapshot_id, coalesce(:snapshot_id, :first_snapshot_id))
            AND s.snapshot_id < c.snapshot_id -- a recording may come from anyone: no chain is endless
    ),
    held AS MATERIALIZED (
        SELECT c.*, d.sk_drops
        FROM chain AS c
        JOIN snapshots AS n ON n.snapshot_id = c.snapshot_id
        LEFT JOIN conditions AS d
            ON d.group_id = n.group_id AND d.condition_id = c.condition_id
        WHERE c.state = 10
    ),
    -- Its rows in the span, each with the complete dumps in which it held.
    rows_in_span AS MATERIALIZED (
        SELECT h.socket_id, h.rqueue, h.wqueue, h.sk_drops,
            max(h.snapshot_id, :first_snapshot_id) AS first_id,
            min(h.until_id, :last_snapshot_id + 1) - max(h.snapshot_id, :first_snapshot_id) - (
                SELECT count(DISTINCT x.snapshot_id) FROM exceptions AS x
                JOIN scopes AS sc ON sc.scope_id = x.scope_id
                WHERE x.snapshot_id >= max(h.snapshot_id, :first_snapshot_id)
                    AND x.snapshot_id < min(h.until_id, :last_snapshot_id + 1)
                    AND x.kind <> 'sockets_not_stored'
                    AND sc.netns_id = k.netns_id AND sc.family = k.family AND sc.protocol = k.protocol
            ) AS snapshots,
            h.snapshot_id > k.first_snapshot_id OR k.opened_after_snapshot_id IS NULL
                AS had_drops_before
        FROM held AS h
        JOIN sockets AS k ON k.socket_id = h.socket_id
        WHERE h.snapshot_id <= :last_snapshot_id AND h.until_id > :first_snapshot_id
    ),
    spans AS (
        SELECT socket_id, sum(snapshots) AS snapshots, max(rqueue) AS max_backlog,
            sum(snapshots * (2 * rqueue > wqueue)) AS above_half,
            sum(snapshots * (rqueue > 0 AND rqueue >= wqueue)) AS at_limit
        FROM rows_in_span
        GROUP BY socket_id
    ),
    longest AS (
        SELECT socket_id, first_id, rqueue, row_number() OVER (
            PARTITION BY socket_id ORDER BY rqueue DESC, first_id) AS place
        FROM rows_in_span
    ),
    edges AS (
        SELECT DISTINCT socket_id,
            first_value(CASE WHEN had_drops_before THEN sk_drops ELSE 0 END) OVER w AS drops_before,
            last_value(sk_drops) OVER w AS drops_after,
            last_value(wqueue) OVER w AS last_limit
        FROM rows_in_span
        WINDOW w AS (PARTITION BY socket_id ORDER BY first_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ),
    shown AS MATERIALIZED (
        SELECT h.* FROM held AS h
        WHERE h.snapshot_id <= coalesce(:snapshot_id, :last_snapshot_id)
            AND h.until_id > coalesce(:snapshot_id, :last_snapshot_id)
    )
SELECT
    n.ended_at_ns AS at_ns,
    k.socket_id,
    k.cookie,
    k.inode,
    k.uid,
    hc.host_name,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    k.interface,
    'LISTEN' AS state,
    c.rqueue AS backlog,
    coalesce(c.wqueue, e.last_limit) AS backlog_limit,
    s.max_backlog,
    lm.ended_at_ns AS max_backlog_at_ns,
    1.0 * s.above_half / nullif(s.snapshots, 0) AS above_half_share,
    1.0 * s.at_limit / nullif(s.snapshots, 0) AS at_limit_share,
    s.snapshots,
    (e.drops_after - e.drops_before) & 4294967295 AS drops_delta,
    c.sk_drops,
    w.pid,
    w.comm,
    w.exe,
    w.command_line,
    w.user,
    (
        SELECT group_concat(h.name) FROM (
            SELECT coalesce(p.comm, '?') || '[' || p.pid || ']' AS name
            FROM socket_owners AS o
            JOIN processes AS p ON p.process_id = o.process_id
            WHERE o.socket_id = k.socket_id
            GROUP BY o.process_id
            ORDER BY min(o.first_snapshot_id), o.process_id
        ) AS h
    ) AS owners,
    CASE WHEN w.process_id IS NOT NULL THEN (
        SELECT count(DISTINCT o.process_id) FROM socket_owners AS o WHERE o.socket_id = k.socket_id
    ) END AS owner_count,
    coalesce(cg.path, w.cgroup) AS cgroup,
    coalesce(cg.unit, w.unit) AS unit,
    coalesce(cg.container, w.container) AS container
FROM sockets AS k
LEFT JOIN shown AS c ON c.socket_id = k.socket_id
LEFT JOIN spans AS s ON s.socket_id = k.socket_id
LEFT JOIN edges AS e ON e.socket_id = k.socket_id
LEFT JOIN longest AS l ON l.socket_id = k.socket_id AND l.place = 1
LEFT JOIN snapshots AS lm ON lm.snapshot_id = l.first_id
LEFT JOIN snapshots AS n
    ON n.snapshot_id = coalesce(:snapshot_id, :last_snapshot_id) AND c.socket_id IS NOT NULL
LEFT JOIN processes AS w ON w.process_id = (
    SELECT o.process_id FROM socket_owners AS o WHERE o.socket_id = k.socket_id
    ORDER BY o.first_snapshot_id, o.process_id LIMIT 1
)
LEFT JOIN snapshots AS hn ON hn.snapshot_id = k.first_snapshot_id
LEFT JOIN captures AS hc ON hc.capture_id = hn.capture_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN cgroups AS cg ON cg.boot_id = ns.boot_id AND cg.cgroup_id = k.cgroup_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
WHERE k.socket_id IN (SELECT socket_id FROM last_rows)
    AND (c.socket_id IS NOT NULL OR (:snapshot_id IS NULL AND s.socket_id IS NOT NULL))
ORDER BY at_limit_share DESC NULLS LAST, above_half_share DESC NULLS LAST,
    1.0 * s.max_backlog / max(coalesce(c.wqueue, e.last_limit), 1) DESC, k.local_port, k.socket_id
