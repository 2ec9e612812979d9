-- Every process that was found to hold a recorded socket.
--
-- Parameters: none.
-- Order: as found. Index: none, one scan of processes and one of socket_owners.
WITH held AS MATERIALIZED (
    SELECT process_id, count(DISTINCT socket_id) AS sockets,
        min(first_snapshot_id) AS first_snapshot_id,
        -- Without a last snapshot it held one to its end, or does still.
        CASE WHEN count(*) = count(last_snapshot_id) THEN max(last_snapshot_id) END
            AS last_snapshot_id
    FROM socket_owners
    GROUP BY process_id
)
SELECT
    w.process_id,
    b.uuid AS boot,
    c.host_name,
    w.pid,
    w.started_at_ns AS process_started_at_ns,
    w.comm,
    w.exe,
    w.command_line,
    w.uid AS process_uid,
    w.user,
    w.cgroup,
    w.unit,
    w.container,
    h.sockets AS sockets_held,
    since.ended_at_ns AS held_from_ns,
    until.ended_at_ns AS held_to_ns
FROM processes AS w
JOIN boots AS b ON b.boot_id = w.boot_id
LEFT JOIN held AS h ON h.process_id = w.process_id
LEFT JOIN snapshots AS since ON since.snapshot_id = h.first_snapshot_id
LEFT JOIN captures AS c ON c.capture_id = since.capture_id
LEFT JOIN snapshots AS until ON until.snapshot_id = h.last_snapshot_id
ORDER BY w.process_id
