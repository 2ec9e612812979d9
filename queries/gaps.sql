-- When was not looked, or not well: ticks that were missed, dumps that failed, events that were lost,
-- time between captures, steps of the clock and suspends, namespaces that could not be recorded. Those
-- that there was no time for are put together.
--
-- Parameters: none.
-- Order: in the order of recording. Index: primary keys; one scan of snapshots.
WITH
    all_gaps AS (
        SELECT last_snapshot_id, scope_id, from_ns, to_ns, kind, netns, snapshots, count, delta_ns, errno,
            message, host_name
        FROM gaps WHERE kind <> 'not_asked'
        UNION ALL
        SELECT last_snapshot_id, scope_id, from_ns, to_ns, kind, netns, snapshots, count, NULL, NULL,
            message, host_name
        FROM unasked_spans
    )
SELECT g.from_ns, g.to_ns, g.kind, coalesce(g.netns, w.name, 'net:[' || w.inode || ']') AS netns,
    p.name AS protocol, f.name AS family, g.snapshots, g.count, g.delta_ns, g.errno, g.message, g.host_name
FROM all_gaps AS g
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN namespaces AS w ON w.netns_id = sc.netns_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
ORDER BY g.last_snapshot_id, g.kind, g.scope_id
