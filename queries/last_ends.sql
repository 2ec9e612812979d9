-- Whose end the last snapshot brought, if its recorder was killed: it may not have told of that. Those that
-- waited for that snapshot (half_closed.sql) are among them, and a few that were told before.
--
-- Parameters: none.
-- Order: none. Index: none (a scan of socket_ends), primary keys; nothing is looked at unless it was killed.
WITH
    killed AS MATERIALIZED (
        SELECT n.snapshot_id FROM snapshots AS n
        JOIN captures AS c ON c.capture_id = n.capture_id
        WHERE n.snapshot_id = (SELECT max(snapshot_id) FROM snapshots)
            AND (c.ended_at_ns IS NULL OR c.end_reason = 'lost')
    ),
    -- The snapshot that brought each end. What left the recorded states was missing from two.
    ended AS (
        SELECT socket_id, ending, coalesce(min(closed_before_snapshot_id, destroyed_snapshot_id),
            closed_before_snapshot_id, destroyed_snapshot_id, last_snapshot_id + 2) AS snapshot_id
        FROM socket_ends
    )
SELECT e.socket_id
FROM killed AS x
CROSS JOIN ended AS e
JOIN sockets AS k ON k.socket_id = e.socket_id
LEFT JOIN ended AS pe ON pe.socket_id = k.peer_socket_id
LEFT JOIN remains AS m ON m.socket_id = e.socket_id
WHERE x.snapshot_id IN (e.snapshot_id, pe.snapshot_id)
    -- That it was orderly is what the TIME-WAIT has told.
    OR (x.snapshot_id = m.time_wait_snapshot_id AND e.ending = 1)
    OR (x.snapshot_id = m.gone_before_snapshot_id AND m.time_wait_snapshot_id IS NULL)
    OR (x.snapshot_id - 3 <= e.snapshot_id AND (e.ending IS NULL OR e.ending IN (3, 11)))
