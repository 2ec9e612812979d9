-- The sockets table with names for its numbers: who was seen, without its lifetime.
--
-- Parameters: none.
-- Order: as first seen. Index: none, one scan; primary key of socket_owners.
SELECT
    k.socket_id,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    c.host_name,
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
    w.pid,
    w.comm,
    w.exe,
    w.command_line,
    w.user,
    -- One holder is the usual case, and answered without sorting.
    CASE
        WHEN w.process_id IS NULL THEN NULL
        WHEN NOT EXISTS (
            SELECT 1 FROM socket_owners AS o
            WHERE o.socket_id = k.socket_id AND o.process_id <> w.process_id
        ) THEN coalesce(w.comm, '?') || '[' || w.pid || ']'
        ELSE (
            SELECT group_concat(h.name) FROM (
                SELECT coalesce(p.comm, '?') || '[' || p.pid || ']' AS name
                FROM socket_owners AS o
                JOIN processes AS p ON p.process_id = o.process_id
                WHERE o.socket_id = k.socket_id
                GROUP BY o.process_id
                ORDER BY min(o.first_snapshot_id), o.process_id
            ) AS h
        )
    END AS owners,
    CASE WHEN w.process_id IS NOT NULL THEN (
        SELECT count(*) FROM (
            SELECT DISTINCT o.process_id FROM socket_owners AS o
            WHERE o.socket_id = k.socket_id
        )
    ) END AS owner_count,
    coalesce(cg.path, w.cgroup) AS cgroup,
    coalesce(cg.unit, w.unit) AS unit,
    coalesce(cg.container, w.container) AS container,
    k.first_snapshot_id,
    n.ended_at_ns AS first_seen_at_ns,
    e.last_snapshot_id,
    l.ended_at_ns AS last_seen_at_ns
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN snapshots AS n ON n.snapshot_id = k.first_snapshot_id
LEFT JOIN snapshots AS l ON l.snapshot_id = e.last_snapshot_id
LEFT JOIN captures AS c ON c.capture_id = n.capture_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN boots AS b ON b.boot_id = ns.boot_id
LEFT JOIN cgroups AS cg ON cg.boot_id = ns.boot_id AND cg.cgroup_id = k.cgroup_id
-- The first owner. Whether there is one is asked first: that costs the least.
LEFT JOIN processes AS w ON EXISTS (
    SELECT 1 FROM socket_owners AS o WHERE o.socket_id = k.socket_id
) AND w.process_id = (
    SELECT CASE WHEN min(o.process_id) = max(o.process_id) THEN min(o.process_id) ELSE (
        SELECT i.process_id FROM socket_owners AS i
        WHERE i.socket_id = k.socket_id
        ORDER BY i.first_snapshot_id, i.process_id LIMIT 1
    ) END
    FROM socket_owners AS o
    WHERE o.socket_id = k.socket_id
)
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
ORDER BY k.socket_id
