-- What of a span was not looked at, or not well: gaps, what lies outside of the recording, captures
-- without destroy events, and such as did not ask for TCP sockets in the states that are needed.
--
-- Parameters: :from_ns, :to_ns (UTC), :first_snapshot_id, :last_snapshot_id, :needed_states (bit mask),
-- :host (NULL: all).
-- Order: none. Index: primary keys; scans of snapshots.
SELECT g.kind,
    -- What a dump lacked was not seen since the one before, nor until the one after.
    CASE WHEN g.scope_id IS NULL THEN g.from_ns ELSE coalesce(a.started_at_ns, g.from_ns) END AS from_ns,
    CASE WHEN g.scope_id IS NULL THEN g.to_ns ELSE coalesce(b.ended_at_ns, g.to_ns) END AS to_ns,
    g.count, g.message, sc.protocol, coalesce(g.netns, p.name || '/' || f.name) AS scope
FROM gaps AS g
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
LEFT JOIN snapshots AS a ON a.snapshot_id = g.first_snapshot_id - 1
LEFT JOIN snapshots AS b ON b.snapshot_id = g.last_snapshot_id + 1
WHERE (:host IS NULL OR g.host_name = :host) AND g.kind NOT IN ('clock_step', 'clock_suspend', 'dump_unsupported')
    AND g.to_ns >= :from_ns AND coalesce(g.from_ns, g.to_ns) <= :to_ns
UNION ALL
SELECT 'nothing_recorded', nullif(:from_ns, -9223372036854775808), nullif(:to_ns, 9223372036854775807),
    NULL, NULL, NULL, NULL
WHERE :last_snapshot_id < :first_snapshot_id
UNION ALL
-- Nearer to an end of the recording than two intervals nobody could have looked.
SELECT 'before_recording', :from_ns, n.started_at_ns, NULL, NULL, NULL, NULL
FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
WHERE n.snapshot_id = (SELECT min(s.first_snapshot_id) FROM capture_spans AS s
        JOIN captures AS x ON x.capture_id = s.capture_id
        WHERE :host IS NULL OR x.host_name = :host)
    AND n.snapshot_id = :first_snapshot_id AND :from_ns <> -9223372036854775808
    AND :from_ns < n.started_at_ns - 2 * coalesce(c.interval_ns, 0)
    AND NOT EXISTS (SELECT 1 FROM dropped_spans AS d
        WHERE :from_ns BETWEEN d.started_at_ns AND n.started_at_ns)
UNION ALL
SELECT 'after_recording', n.ended_at_ns, :to_ns, NULL, NULL, NULL, NULL
FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
WHERE n.snapshot_id = (SELECT max(s.last_snapshot_id) FROM capture_spans AS s
        JOIN captures AS x ON x.capture_id = s.capture_id
        WHERE :host IS NULL OR x.host_name = :host)
    AND n.snapshot_id = :last_snapshot_id AND :to_ns <> 9223372036854775807
    AND :to_ns > n.ended_at_ns + 2 * coalesce(c.interval_ns, 0)
UNION ALL
SELECT 'no_events', min(n.started_at_ns), max(n.ended_at_ns), NULL, NULL, NULL, NULL
FROM snapshots AS n
WHERE n.snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id AND n.events IS NULL
GROUP BY n.capture_id
UNION ALL
SELECT 'states_not_asked', min(n.started_at_ns), max(n.ended_at_ns), NULL, NULL, NULL, NULL
FROM snapshots AS n
WHERE n.snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id AND NOT EXISTS (
    SELECT 1 FROM capture_scopes AS cs JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    WHERE cs.capture_id = n.capture_id AND sc.protocol = 6
        AND sc.states & :needed_states = :needed_states)
GROUP BY n.capture_id
