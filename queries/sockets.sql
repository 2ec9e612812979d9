-- The sockets table with names for its numbers: who was seen, without its lifetime.
--
-- Parameters: none.
-- Order: as first seen. Index: none, one scan.
SELECT
    k.socket_id,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    ns.netns_cookie,
    b.uuid AS boot,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    k.interface,
    k.mark,
    k.cgroup_id,
    k.first_snapshot_id,
    n.ended_at_ns AS first_seen_at_ns,
    e.last_snapshot_id,
    l.ended_at_ns AS last_seen_at_ns
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN snapshots AS n ON n.snapshot_id = k.first_snapshot_id
LEFT JOIN snapshots AS l ON l.snapshot_id = e.last_snapshot_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN boots AS b ON b.boot_id = ns.boot_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
ORDER BY k.socket_id
