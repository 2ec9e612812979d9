-- Which sockets are freed while their connection may go on: those that left a FIN-WAIT-2, or may have, and the
-- other ends of those that are open.
--
-- Parameters: none.
-- Order: none. Index: none (a scan of remains and of socket_ends), and that of the view open_sockets.
SELECT socket_id FROM remains WHERE time_wait_snapshot_id IS NULL AND last_snapshot_id IS NULL
UNION
SELECT socket_id FROM socket_ends
WHERE over_ns IS NULL AND destroyed_snapshot_id > (SELECT max(snapshot_id) FROM snapshots) - 3
UNION
SELECT k.peer_socket_id FROM open_sockets AS o
JOIN sockets AS k ON k.socket_id = o.socket_id
WHERE k.peer_socket_id IS NOT NULL
