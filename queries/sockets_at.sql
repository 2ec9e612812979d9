-- Every socket as it was in one snapshot: the keyframe before it plus what changed since.
-- Where the snapshot's own dump of a socket's family and protocol failed, what was there in the
-- last complete one is held; last_observed_at_ns tells.
--
-- Parameters: :snapshot_id.
-- Order: protocol, family, local address and port, remote address and port.
-- Index: primary key of samples, from the keyframe on.
WITH
    asked AS (
        SELECT n.snapshot_id, n.ended_at_ns, n.ended_monotonic_ns, n.capture_id,
            g.first_snapshot_id AS keyframe_id,
            (SELECT min(first_snapshot_id) FROM groups WHERE capture_id = n.capture_id)
                AS capture_first_id,
            (SELECT max(l.snapshot_id) FROM snapshots AS l
             WHERE l.snapshot_id >= (SELECT max(first_snapshot_id) FROM groups
                WHERE capture_id = n.capture_id) AND l.capture_id = n.capture_id)
                AS capture_last_id
        FROM snapshots AS n
        JOIN groups AS g ON g.group_id = n.group_id
        WHERE n.snapshot_id = :snapshot_id
    ),
    latest AS (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM asked AS a
        JOIN samples AS s ON s.snapshot_id BETWEEN a.keyframe_id AND a.snapshot_id
        GROUP BY s.socket_id
    ),
    -- The last complete dump of each scope, the one before it and the next one.
    complete AS MATERIALIZED (
        SELECT sc.netns_id, sc.family, sc.protocol, sc.scope_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN a.capture_first_id AND a.snapshot_id
             ORDER BY d.snapshot_id DESC LIMIT 1) AS last_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN a.capture_first_id AND a.snapshot_id
             ORDER BY d.snapshot_id DESC LIMIT 1 OFFSET 1) AS before_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id AND d.snapshot_id BETWEEN a.snapshot_id + 1 AND a.capture_last_id
             ORDER BY d.snapshot_id LIMIT 1) AS next_id
        FROM asked AS a
        JOIN capture_scopes AS cs ON cs.capture_id = a.capture_id
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    )
SELECT
    a.ended_at_ns AS at_ns,
    last.ended_at_ns AS last_observed_at_ns,
    v.*
FROM asked AS a
CROSS JOIN latest AS l
CROSS JOIN socket_samples AS v ON v.snapshot_id = l.snapshot_id AND v.socket_id = l.socket_id
JOIN sockets AS k ON k.socket_id = l.socket_id
LEFT JOIN socket_ends AS e ON e.socket_id = l.socket_id
LEFT JOIN remains AS z ON z.socket_id = l.socket_id
LEFT JOIN complete AS c
    ON c.netns_id = k.netns_id AND c.family = k.family AND c.protocol = k.protocol
LEFT JOIN missing_sockets AS m ON m.snapshot_id = c.last_id AND m.socket_id = l.socket_id
LEFT JOIN held_samples AS h ON h.snapshot_id = l.snapshot_id AND h.socket_id = l.socket_id
LEFT JOIN snapshots AS last
    ON last.snapshot_id = max(
        coalesce(h.observed_snapshot_id, l.snapshot_id),
        coalesce(CASE WHEN m.socket_id IS NULL THEN c.last_id ELSE c.before_id END, 0)
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
ORDER BY v.protocol, v.family, v.local_address, v.local_port, v.remote_address, v.remote_port,
    v.socket_id
