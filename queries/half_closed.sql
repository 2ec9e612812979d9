-- Which of some sockets left a FIN-WAIT-2 that is still there, or may have, or whose other
-- end has not ended: their connection is not known to be over. What a socket left whose event came after
-- the last dump, the next one shows; three prove that nothing is left.
--
-- Parameters: :socket_ids (JSON), :is_last (1: there is no next dump).
-- Order: none. Index: primary keys.
SELECT e.socket_id
FROM socket_ends AS e
JOIN sockets AS k ON k.socket_id = e.socket_id
LEFT JOIN endings AS n ON n.ending = e.ending
LEFT JOIN remains AS m ON m.socket_id = e.socket_id
LEFT JOIN socket_ends AS pe ON pe.socket_id = k.peer_socket_id
WHERE e.socket_id IN (SELECT value FROM json_each(:socket_ids))
    AND CASE
        WHEN m.time_wait_snapshot_id IS NOT NULL THEN 0
        WHEN m.socket_id IS NOT NULL AND e.evidence IS NOT 'closed' THEN m.last_snapshot_id IS NULL
        WHEN n.evidence NOT IN ('fin_acked', 'half_closed') THEN 0
        ELSE (k.peer_socket_id <> k.socket_id AND pe.socket_id IS NULL)
            OR (:is_last IS NOT 1 AND e.destroyed_snapshot_id > (SELECT max(snapshot_id) FROM snapshots)
                - CASE WHEN e.over_ns IS NULL AND e.closed_before_snapshot_id IS NULL THEN 3 ELSE 1 END)
    END
