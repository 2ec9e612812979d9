-- When was not looked, or not well: ticks that were missed, dumps that failed, events that were lost,
-- time between captures, steps of the clock and suspends, namespaces that could not be recorded. Those
-- that there was no time for are put together.
--
-- Parameters: none.
-- Order: in the order of recording. Index: primary keys; one scan of snapshots.
WITH
    passed_over AS (
        SELECT n.capture_id, u.scope_id, n.snapshot_id, count(*) AS namespaces, min(u.netns_id) AS least,
            max(u.netns_id) AS most,
            n.snapshot_id - row_number() OVER (
                PARTITION BY n.capture_id, u.scope_id ORDER BY n.snapshot_id) AS island
        FROM (
            SELECT snapshot_id, netns_id, NULL AS scope_id FROM unasked_namespaces
            UNION ALL
            SELECT snapshot_id, NULL, scope_id FROM noted_exceptions WHERE kind = 'not_asked'
        ) AS u
        JOIN held_snapshots AS n ON n.snapshot_id = u.snapshot_id
        GROUP BY n.capture_id, u.scope_id, n.snapshot_id
    ),
    all_gaps AS (
        SELECT last_snapshot_id, scope_id, from_ns, to_ns, kind, netns, snapshots, count, delta_ns, errno,
            message, host_name
        FROM gaps WHERE kind <> 'not_asked'
        UNION ALL
        SELECT r.last_id, r.scope_id, a.started_at_ns, b.ended_at_ns, 'not_asked', w.name, r.snapshots, r.count,
            NULL, NULL, r.message, c.host_name
        FROM (
            SELECT capture_id, scope_id, min(snapshot_id) AS first_id, max(snapshot_id) AS last_id,
                count(*) AS snapshots, CASE WHEN scope_id IS NULL THEN sum(namespaces) END AS count,
                CASE WHEN min(least) = max(most) THEN min(least) END AS netns_id,
                CASE WHEN min(least) < max(most)
                    THEN 'up to ' || max(namespaces) || ' network namespaces at a time' END AS message
            FROM passed_over GROUP BY capture_id, scope_id, island
        ) AS r
        JOIN snapshots AS a ON a.snapshot_id = r.first_id
        JOIN snapshots AS b ON b.snapshot_id = r.last_id
        JOIN captures AS c ON c.capture_id = r.capture_id
        LEFT JOIN (SELECT netns_id, coalesce(name, 'net:[' || inode || ']') AS name
            FROM namespaces) AS w ON w.netns_id = r.netns_id
    )
SELECT g.from_ns, g.to_ns, g.kind, coalesce(g.netns, w.name, 'net:[' || w.inode || ']') AS netns,
    p.name AS protocol, f.name AS family, g.snapshots, g.count, g.delta_ns, g.errno, g.message, g.host_name
FROM all_gaps AS g
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN namespaces AS w ON w.netns_id = sc.netns_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
ORDER BY g.last_snapshot_id, g.kind, g.scope_id
