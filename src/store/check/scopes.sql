-- The first and last row that a capture has of each socket, and what it asked for that shows it.
WITH rows AS (
    SELECT n.capture_id, s.socket_id, min(s.snapshot_id) AS first_id, max(s.snapshot_id) AS last_id
    FROM samples AS s JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id
    GROUP BY n.capture_id, s.socket_id)
SELECT r.capture_id, r.socket_id, NULL AS scope_id FROM rows AS r
JOIN sockets AS k ON k.socket_id = r.socket_id
JOIN scopes AS sc ON sc.netns_id = k.netns_id AND sc.family = k.family AND sc.protocol = k.protocol
JOIN capture_scopes AS cs ON cs.capture_id = r.capture_id AND cs.scope_id = sc.scope_id
GROUP BY r.capture_id, r.socket_id
HAVING NOT max(r.first_id >= cs.first_snapshot_id
    AND r.last_id <= coalesce(cs.last_snapshot_id, r.last_id))
UNION ALL
SELECT capture_id, NULL, scope_id FROM capture_scopes WHERE last_snapshot_id < first_snapshot_id
