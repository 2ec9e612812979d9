-- The gaps that the lifetime of one socket may overlap.
--
-- Parameters: :socket_id, :from_ns, :to_ns (UTC).
-- Order: in the order of recording. Index: primary keys; one scan of snapshots.
SELECT g.from_ns, g.to_ns, g.kind,
    CASE WHEN sc.scope_id IS NOT NULL THEN coalesce(w.name, 'net:[' || w.inode || ']') END AS netns,
    p.name AS protocol, f.name AS family, g.snapshots, g.count, g.delta_ns, g.errno, g.message, g.host_name
FROM gaps AS g
JOIN sockets AS k ON k.socket_id = :socket_id
JOIN namespaces AS w ON w.netns_id = k.netns_id
JOIN snapshots AS nt ON nt.snapshot_id = g.last_snapshot_id
JOIN captures AS ct ON ct.capture_id = nt.capture_id
LEFT JOIN snapshots AS nf ON nf.snapshot_id = g.first_snapshot_id
LEFT JOIN captures AS cf ON cf.capture_id = nf.capture_id
LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
WHERE (sc.scope_id IS NULL OR (sc.netns_id = k.netns_id AND sc.family = k.family
        AND sc.protocol = k.protocol))
    AND w.boot_id IN (cf.boot_id, ct.boot_id) AND g.kind NOT IN ('dump_unsupported', 'netns_refused')
    AND g.to_ns >= :from_ns AND coalesce(g.from_ns, g.to_ns) <= :to_ns
ORDER BY g.last_snapshot_id, g.kind, g.scope_id
