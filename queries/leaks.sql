-- What does not come back: sockets that are half closed for long and those whose holder keeps them so,
-- processes whose sockets only grow, and local ports that run out towards one address and port. As it
-- was at the end of the span.
--
-- Reads `chosen`, rows of connections.sql.
-- Parameters: :longer_ns (how long half closed is long), :first_snapshot_id, :last_snapshot_id (those
-- within the span).
-- Order: kind, most sockets first. Index: samples of the group in which the span ends; one scan of
-- socket_owners and state_changes.
WITH
    -- No more columns than are looked at: each costs a look-up for each of all connections.
    asked AS MATERIALIZED (
        SELECT socket_id, netns, protocol, local_address, local_port, remote_address, remote_port,
            direction, pid, comm, owners
        FROM chosen
    ),
    latest AS MATERIALIZED (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id, s.state
        FROM snapshots AS n
        JOIN groups AS g ON g.group_id = n.group_id
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND n.snapshot_id
        WHERE n.snapshot_id = :last_snapshot_id
        GROUP BY s.socket_id
    ),
    -- Those that were there at the end, what is left of connections counted in.
    there AS MATERIALIZED (
        SELECT k.*, l.state AS state_number, s.first_snapshot_id
        FROM latest AS l
        JOIN asked AS k ON k.socket_id = l.socket_id
        JOIN sockets AS s ON s.socket_id = l.socket_id
        LEFT JOIN socket_ends AS e ON e.socket_id = l.socket_id
        LEFT JOIN remains AS m ON m.socket_id = l.socket_id
        WHERE CASE WHEN m.socket_id IS NOT NULL
            THEN coalesce(m.last_snapshot_id, :last_snapshot_id) >= :last_snapshot_id
            ELSE e.socket_id IS NULL OR e.last_snapshot_id >= :last_snapshot_id END
    ),
    last_changes AS (
        SELECT socket_id, max(snapshot_id) AS snapshot_id FROM state_changes
        WHERE snapshot_id <= :last_snapshot_id
        GROUP BY socket_id
    ),
    half_closed AS (
        SELECT t.socket_id, t.state_number, t.pid, t.comm, t.owners,
            z.started_boottime_ns - a.ended_boottime_ns AS for_ns
        FROM there AS t
        LEFT JOIN last_changes AS c ON c.socket_id = t.socket_id
        -- Changes of state that were dropped lie before what is held.
        JOIN snapshots AS a ON a.snapshot_id = coalesce(c.snapshot_id,
            max(t.first_snapshot_id, (SELECT min(first_snapshot_id) FROM groups)))
        JOIN snapshots AS z ON z.snapshot_id = :last_snapshot_id
        WHERE t.protocol IN ('tcp', 'mptcp') AND t.state_number IN (4, 5, 8)
            AND z.started_boottime_ns - a.ended_boottime_ns >= :longer_ns
    ),
    -- Eight moments, evenly spread; the search for owners is done by the first.
    moments AS MATERIALIZED (
        SELECT value AS place,
            :first_snapshot_id + (:last_snapshot_id - :first_snapshot_id) * value / 8 AS snapshot_id
        FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8]')
    ),
    held AS (
        SELECT o.process_id, p.place, count(DISTINCT o.socket_id) AS sockets
        FROM moments AS p
        CROSS JOIN socket_owners AS o ON o.first_snapshot_id <= p.snapshot_id
        JOIN asked AS k ON k.socket_id = o.socket_id
        LEFT JOIN socket_ends AS e ON e.socket_id = o.socket_id
        WHERE coalesce(o.last_snapshot_id, e.last_snapshot_id, p.snapshot_id) >= p.snapshot_id
        GROUP BY o.process_id, p.place
    ),
    grown AS (
        SELECT process_id, place, sockets,
            sockets - lag(sockets) OVER (PARTITION BY process_id ORDER BY place) AS growth
        FROM held
    ),
    growing AS (
        SELECT process_id, min(sockets) AS sockets_before, max(sockets) AS sockets
        FROM grown
        GROUP BY process_id
        HAVING count(*) = 8 AND min(growth) >= 0 AND sum(growth > 0) >= 4 AND max(sockets) >= min(sockets) + 7
    ),
    -- An unnamed namespace may have the inode of one that is gone.
    ranges AS (
        SELECT coalesce(w.name, 'net:[' || w.inode || ']') AS netns,
            min(w.first_local_port) AS first_port, max(w.last_local_port) AS last_port
        FROM snapshots AS n
        JOIN captures AS c ON c.capture_id = n.capture_id
        JOIN namespaces AS w ON w.boot_id = c.boot_id
        WHERE n.snapshot_id = :last_snapshot_id
        GROUP BY 1
    ),
    outgoing AS (
        SELECT t.local_address, t.remote_address, t.remote_port,
            count(DISTINCT t.local_port) AS sockets,
            sum(t.state_number = 6) AS time_wait,
            r.last_port - r.first_port + 1 AS local_ports
        FROM ranges AS r
        JOIN there AS t ON t.netns = r.netns AND t.local_port BETWEEN r.first_port AND r.last_port
        WHERE t.protocol IN ('tcp', 'mptcp') AND t.remote_port > 0
            AND t.direction IS NOT 'inbound'
        GROUP BY t.netns, t.local_address, t.remote_address, t.remote_port
        HAVING 4 * count(DISTINCT t.local_port) >= r.last_port - r.first_port + 1
    ),
    found AS (
        SELECT 'half_closed' AS kind, coalesce(st.name, 'STATE-' || h.state_number) AS state, h.pid,
            h.comm, h.owners, NULL AS local_address, NULL AS remote_address, NULL AS remote_port,
            count(*) AS sockets, NULL AS sockets_before, NULL AS time_wait, NULL AS local_ports,
            h.socket_id, max(h.for_ns) AS in_state_min_ns
        FROM half_closed AS h
        LEFT JOIN states AS st ON st.state = h.state_number
        GROUP BY h.state_number, h.owners
        UNION ALL
        SELECT 'only_grows', NULL, w.pid, w.comm, coalesce(w.comm, '?') || '[' || w.pid || ']', NULL,
            NULL, NULL, g.sockets, g.sockets_before, NULL, NULL, NULL, NULL
        FROM growing AS g
        JOIN processes AS w ON w.process_id = g.process_id
        UNION ALL
        SELECT 'local_ports', NULL, NULL, NULL, NULL, local_address, remote_address, remote_port,
            sockets, NULL, time_wait, local_ports, NULL, NULL
        FROM outgoing
    )
SELECT kind, state, sockets, sockets_before, pid, comm, owners, socket_id, in_state_min_ns,
    local_address, remote_address, remote_port, time_wait AS time_wait_sockets, local_ports,
    1.0 * sockets / local_ports AS used_share
FROM found
ORDER BY kind, sockets DESC, in_state_min_ns DESC
