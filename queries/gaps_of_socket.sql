-- The gaps that the lifetime of one socket, or that of what was left of it, may overlap.
--
-- Parameters: :socket_id, :from_ns, :to_ns (UTC).
-- Order: in the order of recording. Index: primary keys; one scan of snapshots.
SELECT g.from_ns, g.to_ns, g.kind, p.name AS protocol, f.name AS family, g.snapshots, g.count,
    g.delta_ns, g.errno, g.message
FROM gaps AS g
JOIN sockets AS k ON k.socket_id = :socket_id
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
WHERE (sc.scope_id IS NULL OR (sc.family = k.family AND sc.protocol = k.protocol))
    AND g.kind <> 'dump_unsupported'
    AND g.to_ns >= :from_ns AND coalesce(g.from_ns, g.to_ns) <= :to_ns
ORDER BY g.last_snapshot_id, g.kind, g.scope_id
