-- What became of the sockets between two moments: which are new, which are gone, and which have another
-- state, other holders, or traffic since. Those that stayed as they were are left out.
--
-- Reads `rows_before` and `rows_after`, each of sockets_at.sql.
-- Parameters: none.
-- Order: new, gone, changed; then as the sockets were first seen. Index: none.
SELECT
    CASE WHEN b.socket_id IS NULL THEN 'new' WHEN a.socket_id IS NULL THEN 'gone' ELSE 'changed' END
        AS change,
    coalesce(a.socket_id, b.socket_id) AS socket_id,
    coalesce(a.cookie, b.cookie) AS cookie,
    coalesce(a.inode, b.inode) AS inode,
    coalesce(a.host_name, b.host_name) AS host_name,
    coalesce(a.protocol, b.protocol) AS protocol,
    coalesce(a.family, b.family) AS family,
    coalesce(a.local_address, b.local_address) AS local_address,
    coalesce(a.local_port, b.local_port) AS local_port,
    coalesce(a.remote_address, b.remote_address) AS remote_address,
    coalesce(a.remote_port, b.remote_port) AS remote_port,
    b.state AS state_before,
    a.state,
    b.owners AS owners_before,
    a.owners,
    CASE WHEN a.socket_id IS NULL THEN b.pid ELSE a.pid END AS pid,
    CASE WHEN a.socket_id IS NULL THEN b.comm ELSE a.comm END AS comm,
    CASE WHEN a.socket_id IS NULL THEN b.owner_count ELSE a.owner_count END AS owner_count,
    a.bytes_sent - b.bytes_sent AS sent_delta_bytes,
    a.bytes_received - b.bytes_received AS received_delta_bytes,
    (a.total_retrans - b.total_retrans) & 4294967295 AS retrans_delta,
    b.rtt_us AS rtt_before_us,
    a.rtt_us,
    b.backlog AS backlog_before,
    a.backlog
-- SQLite makes no index for a FULL JOIN.
FROM (SELECT socket_id FROM rows_before UNION SELECT socket_id FROM rows_after) AS either
LEFT JOIN rows_before AS b ON b.socket_id = either.socket_id
LEFT JOIN rows_after AS a ON a.socket_id = either.socket_id
WHERE a.socket_id IS NULL OR b.socket_id IS NULL OR a.state IS NOT b.state
    OR a.owners IS NOT b.owners OR a.backlog IS NOT b.backlog
    OR a.bytes_sent <> b.bytes_sent OR a.bytes_received <> b.bytes_received
    OR a.total_retrans <> b.total_retrans
ORDER BY CASE change WHEN 'new' THEN 1 WHEN 'gone' THEN 2 ELSE 3 END, 2
