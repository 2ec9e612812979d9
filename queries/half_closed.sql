-- Which of some sockets have left a FIN-WAIT-2 that is still there: their connection is not over.
--
-- Parameters: :socket_ids (JSON).
-- Order: none. Index: primary key of remains.
SELECT socket_id
FROM remains
WHERE socket_id IN (SELECT value FROM json_each(:socket_ids))
    AND time_wait_snapshot_id IS NULL AND last_snapshot_id IS NULL
