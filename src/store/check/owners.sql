SELECT o.socket_id, o.process_id, o.first_snapshot_id FROM (
    SELECT *, lag(coalesce(last_snapshot_id, 9e18)) OVER (
        PARTITION BY socket_id, process_id ORDER BY first_snapshot_id) AS before
    FROM socket_owners) AS o
JOIN sockets AS k ON k.socket_id = o.socket_id
WHERE o.first_snapshot_id < k.first_snapshot_id OR o.first_snapshot_id < o.before
   OR o.last_snapshot_id < o.first_snapshot_id
