-- Every socket as it was in one snapshot, or in one of each machine: the keyframe before it plus what
-- changed since.
-- Where the snapshot's own dump of a socket's family and protocol failed, what was there in the
-- last complete one is held; last_observed_at_ns tells.
--
-- Parameters: :snapshot_ids (JSON).
-- Order: host, protocol, family, local address and port, remote address and port.
-- Index: primary key of samples, from the keyframe on; primary key of socket_owners.
WITH
    asked AS (
        SELECT n.snapshot_id, n.ended_at_ns, n.ended_monotonic_ns, n.capture_id, p.host_name,
            g.first_snapshot_id AS keyframe_id,
            (SELECT min(first_snapshot_id) FROM groups WHERE capture_id = n.capture_id)
                AS capture_first_id,
            (SELECT max(l.snapshot_id) FROM snapshots AS l
             WHERE l.snapshot_id >= (SELECT max(first_snapshot_id) FROM groups
                WHERE capture_id = n.capture_id) AND l.capture_id = n.capture_id)
                AS capture_last_id
        FROM snapshots AS n
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN captures AS p ON p.capture_id = n.capture_id
        WHERE n.snapshot_id IN (SELECT value FROM json_each(:snapshot_ids))
    ),
    latest AS (
        SELECT a.snapshot_id AS asked_id, s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM asked AS a
        JOIN samples AS s ON s.snapshot_id BETWEEN a.keyframe_id AND a.snapshot_id
        GROUP BY a.snapshot_id, s.socket_id
    ),
    -- The last complete dump of each scope, the one before it and the next one.
    complete AS MATERIALIZED (
        SELECT a.snapshot_id AS asked_id, sc.netns_id, sc.family, sc.protocol, sc.scope_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id
                BETWEEN max(a.capture_first_id, cs.first_snapshot_id) AND a.snapshot_id
             ORDER BY d.snapshot_id DESC LIMIT 1) AS last_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id
                BETWEEN max(a.capture_first_id, cs.first_snapshot_id) AND a.snapshot_id
             ORDER BY d.snapshot_id DESC LIMIT 1 OFFSET 1) AS before_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN a.snapshot_id + 1
                AND min(a.capture_last_id, coalesce(cs.last_snapshot_id, a.capture_last_id))
             ORDER BY d.snapshot_id LIMIT 1) AS next_id
        FROM asked AS a
        JOIN capture_scopes AS cs ON cs.capture_id = a.capture_id
            AND a.snapshot_id BETWEEN cs.first_snapshot_id
                AND coalesce(cs.last_snapshot_id, a.snapshot_id)
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    )
SELECT
    a.ended_at_ns AS at_ns,
    last.ended_at_ns AS last_observed_at_ns,
    v.*,
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
                AND o.first_snapshot_id <= a.snapshot_id
                AND coalesce(o.last_snapshot_id, a.snapshot_id) >= a.snapshot_id
        ) THEN coalesce(w.comm, '?') || '[' || w.pid || ']'
        ELSE (
            SELECT group_concat(h.name) FROM (
                SELECT coalesce(p.comm, '?') || '[' || p.pid || ']' AS name
                FROM socket_owners AS o
                JOIN processes AS p ON p.process_id = o.process_id
                WHERE o.socket_id = k.socket_id
                    AND o.first_snapshot_id <= a.snapshot_id
                    AND coalesce(o.last_snapshot_id, a.snapshot_id) >= a.snapshot_id
                GROUP BY o.process_id
                ORDER BY min(o.first_snapshot_id), o.process_id
            ) AS h
        )
    END AS owners,
    CASE WHEN w.process_id IS NOT NULL THEN (
        SELECT count(*) FROM (
            SELECT DISTINCT o.process_id FROM socket_owners AS o
            WHERE o.socket_id = k.socket_id
                AND o.first_snapshot_id <= a.snapshot_id
                AND coalesce(o.last_snapshot_id, a.snapshot_id) >= a.snapshot_id
        )
    ) END AS owner_count,
    coalesce(cg.path, w.cgroup) AS cgroup,
    coalesce(cg.unit, w.unit) AS unit,
    coalesce(cg.container, w.container) AS container
FROM asked AS a
CROSS JOIN latest AS l ON l.asked_id = a.snapshot_id
CROSS JOIN socket_samples AS v ON v.snapshot_id = l.snapshot_id AND v.socket_id = l.socket_id
JOIN sockets AS k ON k.socket_id = l.socket_id
LEFT JOIN socket_ends AS e ON e.socket_id = l.socket_id
LEFT JOIN remains AS z ON z.socket_id = l.socket_id
LEFT JOIN complete AS c
    ON c.asked_id = a.snapshot_id AND c.netns_id = k.netns_id AND c.family = k.family
    AND c.protocol = k.protocol
LEFT JOIN missing_sockets AS m ON m.snapshot_id = c.last_id AND m.socket_id = l.socket_id
LEFT JOIN held_samples AS h ON h.snapshot_id = l.snapshot_id AND h.socket_id = l.socket_id
LEFT JOIN snapshots AS last
    ON last.snapshot_id = max(
        coalesce(h.observed_snapshot_id, l.snapshot_id),
        coalesce(CASE WHEN m.socket_id IS NULL THEN c.last_id ELSE c.before_id END, 0)
    )
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN cgroups AS cg ON cg.boot_id = ns.boot_id AND cg.cgroup_id = k.cgroup_id
-- The first of those who held it then.
LEFT JOIN processes AS w ON w.process_id = (
    SELECT CASE WHEN min(o.process_id) = max(o.process_id) THEN min(o.process_id) ELSE (
        SELECT i.process_id FROM socket_owners AS i
        WHERE i.socket_id = k.socket_id
            AND i.first_snapshot_id <= a.snapshot_id
            AND coalesce(i.last_snapshot_id, a.snapshot_id) >= a.snapshot_id
        ORDER BY i.first_snapshot_id, i.process_id LIMIT 1
    ) END
    FROM socket_owners AS o
    WHERE o.socket_id = k.socket_id
        AND o.first_snapshot_id <= a.snapshot_id
        AND coalesce(o.last_snapshot_id, a.snapshot_id) >= a.snapshot_id
)
WHERE
    CASE
        -- What is left of a connection is shown as long as dumps showed it.
        WHEN z.last_snapshot_id IS NOT NULL THEN z.last_snapshot_id >= coalesce(c.last_id, 0)
        WHEN e.socket_id IS NOT NULL AND z.socket_id IS NULL THEN
            e.last_snapshot_id >= coalesce(c.last_id, 0)
            AND (e.last_snapshot_id >= a.snapshot_id
                OR coalesce(e.destroyed_snapshot_id, a.snapshot_id + 1) > a.snapshot_id)
        -- Lacked by that dump alone: had the next one lacked it too, it would have ended.
        ELSE m.socket_id IS NULL OR c.next_id IS NOT NULL
    END
ORDER BY a.host_name, a.snapshot_id, v.protocol, v.family, v.local_address, v.local_port, v.remote_address, v.remote_port,
    v.socket_id
