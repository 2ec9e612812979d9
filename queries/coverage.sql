-- What was looked at when, and what was not: a row a capture and scope, and between them in time the
-- gaps and the markers. Namespaces that there was no time for are put together, unless :by_netns is 1.
--
-- Parameters: :from_ns, :to_ns (UTC), :by_netns.
-- Order: in the order of recording; a capture before its gaps. Index: primary keys; one scan of
-- snapshots.
WITH
    -- Most scopes are there as long as their capture: what is summed up is the same for all of them.
    stays AS (
        SELECT capture_id, first_snapshot_id, last_snapshot_id FROM capture_scopes
        GROUP BY 1, 2, 3
    ),
    looked_at AS MATERIALIZED (
        SELECT y.capture_id, y.first_snapshot_id, y.last_snapshot_id, min(n.snapshot_id) AS first_id,
            min(n.started_at_ns) AS from_ns, max(n.ended_at_ns) AS to_ns, count(*) AS snapshots,
            sum(n.events) AS count
        FROM stays AS y
        JOIN held_snapshots AS n ON n.capture_id = y.capture_id
            AND n.snapshot_id BETWEEN y.first_snapshot_id
                AND coalesce(y.last_snapshot_id, n.snapshot_id)
        GROUP BY 1, 2, 3
    ),
    -- A namespace that was passed over lacks all of its scopes: counted once for them all.
    lacking AS MATERIALIZED (
        SELECT n.capture_id, x.scope_id, NULL AS netns_id, NULL AS first_id, NULL AS last_id,
            count(DISTINCT x.snapshot_id) AS snapshots
        FROM noted_exceptions AS x
        JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
        WHERE x.scope_id IS NOT NULL AND x.kind <> 'sockets_not_stored' AND NOT EXISTS (
            SELECT 1 FROM unasked_namespaces AS u WHERE u.snapshot_id = x.snapshot_id
                AND u.netns_id = (SELECT netns_id FROM scopes WHERE scope_id = x.scope_id))
        GROUP BY n.capture_id, x.scope_id
        UNION ALL
        SELECT c.capture_id, NULL, c.netns_id, c.first_snapshot_id, c.last_snapshot_id, count(*)
        FROM unasked_namespaces AS u
        JOIN held_snapshots AS n ON n.snapshot_id = u.snapshot_id
        JOIN (
            SELECT DISTINCT cs.capture_id, sc.netns_id, cs.first_snapshot_id, cs.last_snapshot_id
            FROM capture_scopes AS cs JOIN scopes AS sc ON sc.scope_id = cs.scope_id
        ) AS c ON c.capture_id = n.capture_id AND c.netns_id = u.netns_id
            AND u.snapshot_id BETWEEN c.first_snapshot_id
                AND coalesce(c.last_snapshot_id, u.snapshot_id)
        GROUP BY 1, 3, 4, 5
    ),
    recorded AS (
        SELECT c.capture_id, cs.scope_id, l.first_id, l.from_ns, l.to_ns, l.snapshots,
            l.snapshots - coalesce(x.snapshots, 0) - coalesce(y.snapshots, 0) AS complete, l.count, c.interval_ns, c.host_name,
            json_extract(c.options, '$.owners') AS owners,
            json_extract(c.options, '$.sees_every_process') AS sees_every_process,
            t.selection
        FROM captures AS c
        LEFT JOIN capture_sources AS t ON t.capture_id = c.capture_id
        JOIN capture_scopes AS cs ON cs.capture_id = c.capture_id
        JOIN looked_at AS l ON l.capture_id = cs.capture_id
            AND l.first_snapshot_id = cs.first_snapshot_id
            AND l.last_snapshot_id IS cs.last_snapshot_id
        LEFT JOIN lacking AS x ON x.capture_id = cs.capture_id AND x.scope_id = cs.scope_id
        LEFT JOIN lacking AS y ON y.capture_id = cs.capture_id AND y.scope_id IS NULL
            AND y.netns_id = (SELECT netns_id FROM scopes WHERE scope_id = cs.scope_id)
            AND y.first_id = cs.first_snapshot_id AND y.last_id IS cs.last_snapshot_id
    ),
    spans AS (
        SELECT first_id AS place, 0 AS rank, from_ns, to_ns, 'recorded' AS kind, scope_id, snapshots,
            complete, count, NULL AS delta_ns, NULL AS errno,
            nullif(rtrim(
                CASE WHEN fs.filter <> '' THEN 'only ' || fs.filter || ', ' ELSE '' END ||
                CASE WHEN count IS NULL THEN 'without destroy events, ' ELSE '' END ||
                CASE WHEN owners = 0 THEN 'without owners, '
                    WHEN sees_every_process = 0 THEN 'owners: own processes only, ' ELSE '' END ||
                coalesce('only ' || selection, ''),
                ', '), '') AS message,
            interval_ns, host_name, NULL AS netns
        FROM recorded JOIN scopes AS fs USING (scope_id)
        UNION ALL
        SELECT CASE kind WHEN 'not_recording' THEN last_snapshot_id ELSE first_snapshot_id END,
            CASE kind WHEN 'not_recording' THEN -1 ELSE 1 END, from_ns, to_ns, kind, scope_id,
            snapshots, NULL, count, delta_ns, errno, message, NULL, host_name, netns
        FROM gaps WHERE kind <> 'not_asked' OR :by_netns
        UNION ALL
        SELECT first_snapshot_id, 1, from_ns, to_ns, kind, scope_id, snapshots, NULL, count, NULL, NULL,
            message, NULL, host_name, netns
        FROM unasked_spans WHERE NOT :by_netns
        UNION ALL
        SELECT coalesce(
                (SELECT min(snapshot_id) FROM held_snapshots WHERE ended_at_ns >= m.started_at_ns),
                (SELECT max(snapshot_id) + 1 FROM snapshots), 0),
            2, m.started_at_ns, CASE WHEN m.is_span THEN m.ended_at_ns ELSE m.started_at_ns END,
            'marker', NULL, NULL, NULL, NULL, NULL, NULL, m.name, NULL, NULL, NULL
        FROM markers AS m
    )
SELECT s.from_ns, s.to_ns, s.kind, coalesce(s.netns, w.name, 'net:[' || w.inode || ']') AS netns,
    p.name AS protocol, f.name AS family,
    CASE WHEN sc.states = 4294967295 THEN 'all' WHEN sc.states IS NOT NULL THEN 'some' END
        AS states_asked,
    s.interval_ns, s.snapshots, s.complete AS complete_snapshots, s.count, s.delta_ns, s.errno, s.message,
    s.host_name
FROM spans AS s
LEFT JOIN scopes AS sc ON sc.scope_id = s.scope_id
LEFT JOIN namespaces AS w ON w.netns_id = sc.netns_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
-- A span that was never ended may go on.
WHERE coalesce(s.to_ns, :from_ns) >= :from_ns AND coalesce(s.from_ns, s.to_ns) <= :to_ns
ORDER BY s.place, s.rank, s.kind, s.scope_id, s.from_ns, s.message
