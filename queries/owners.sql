-- Which process held which socket, from when to when: one row an ownership.
--
-- Parameters: none.
-- Order: socket, then as found. Index: primary keys; one scan of socket_owners.
SELECT
    o.socket_id,
    k.cookie,
    k.inode,
    c.host_name,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    o.process_id,
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
    since.ended_at_ns AS held_from_ns,
    until.ended_at_ns AS held_to_ns
FROM socket_owners AS o
JOIN sockets AS k ON k.socket_id = o.socket_id
JOIN processes AS w ON w.process_id = o.process_id
LEFT JOIN snapshots AS since ON since.snapshot_id = o.first_snapshot_id
LEFT JOIN captures AS c ON c.capture_id = since.capture_id
LEFT JOIN snapshots AS until ON until.snapshot_id = o.last_snapshot_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
ORDER BY o.socket_id, o.first_snapshot_id, o.process_id
