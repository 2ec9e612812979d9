-- What two spans, or two recordings, differ in, by what sockets are there for: which services were
-- listened on, which were used, by which program, how much and how well. What is the same is left out.
--
-- Parameters: :before, :after (JSON: an object a listener, and one a service that was used).
-- Order: new, gone, changed; then most failures more, most retransmissions more, most connections more
-- or less. Index: none.
WITH
    sides AS (
        SELECT 0 AS is_after, value AS row FROM json_each(:before)
        UNION ALL
        SELECT 1, value FROM json_each(:after)
    ),
    told AS (
        SELECT is_after, row ->> 'role' AS role, row ->> 'protocol' AS protocol,
            row ->> 'local_address' AS local_address, row ->> 'local_port' AS local_port,
            row ->> 'remote_address' AS remote_address, row ->> 'remote_port' AS remote_port,
            row ->> 'comm' AS comm,
            row ->> 'connections' AS connections,
            (row ->> 'endings_reset') + (row ->> 'endings_timed_out')
                + (row ->> 'endings_not_established') AS failures,
            row ->> 'sent_delta_bytes' AS sent_bytes, row ->> 'received_delta_bytes' AS received_bytes,
            row ->> 'retrans_share' AS retrans_share, row ->> 'max_rtt_us' AS max_rtt_us,
            row ->> 'max_backlog' AS max_backlog, row ->> 'drops_delta' AS drops
        FROM sides
    ),
    -- Several listeners of one program on one port are one service.
    services AS (
        SELECT is_after, role, protocol, local_address, local_port, remote_address, remote_port, comm,
            sum(connections) AS connections, sum(failures) AS failures,
            sum(sent_bytes) AS sent_bytes, sum(received_bytes) AS received_bytes,
            max(retrans_share) AS retrans_share, max(max_rtt_us) AS max_rtt_us,
            max(max_backlog) AS max_backlog, sum(drops) AS drops
        FROM told
        GROUP BY is_after, role, protocol, local_address, local_port, remote_address, remote_port, comm
    ),
    before AS MATERIALIZED (SELECT * FROM services WHERE NOT is_after),
    after AS MATERIALIZED (SELECT * FROM services WHERE is_after),
    pairs AS (
        SELECT b.*, a.connections AS connections_after, a.failures AS failures_after,
            a.sent_bytes AS sent_bytes_after, a.received_bytes AS received_bytes_after,
            a.retrans_share AS retrans_share_after, a.max_rtt_us AS max_rtt_us_after,
            a.max_backlog AS max_backlog_after, a.drops AS drops_after,
            CASE WHEN a.is_after IS NULL THEN 'gone' ELSE 'changed' END AS change
        FROM before AS b
        LEFT JOIN after AS a ON a.role IS b.role AND a.protocol IS b.protocol
            AND a.local_address IS b.local_address AND a.local_port IS b.local_port
            AND a.remote_address IS b.remote_address AND a.remote_port IS b.remote_port
            AND a.comm IS b.comm
        UNION ALL
        SELECT a.is_after, a.role, a.protocol, a.local_address, a.local_port, a.remote_address,
            a.remote_port, a.comm, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, a.connections,
            a.failures, a.sent_bytes, a.received_bytes, a.retrans_share, a.max_rtt_us, a.max_backlog,
            a.drops, 'new'
        FROM after AS a
        WHERE NOT EXISTS (
            SELECT 1 FROM before AS b WHERE a.role IS b.role AND a.protocol IS b.protocol
                AND a.local_address IS b.local_address AND a.local_port IS b.local_port
                AND a.remote_address IS b.remote_address AND a.remote_port IS b.remote_port
                AND a.comm IS b.comm)
    )
SELECT
    change, role, protocol, local_address, local_port, remote_address, remote_port, comm,
    connections AS connections_before, connections_after AS connections,
    failures AS failures_before, failures_after AS failures,
    sent_bytes AS sent_before_bytes, sent_bytes_after AS sent_delta_bytes,
    received_bytes AS received_before_bytes, received_bytes_after AS received_delta_bytes,
    retrans_share AS retrans_share_before, retrans_share_after AS retrans_share,
    max_rtt_us AS max_rtt_before_us, max_rtt_us_after AS max_rtt_us,
    max_backlog AS max_backlog_before, max_backlog_after AS max_backlog,
    drops AS drops_before, drops_after AS drops_delta
FROM pairs
WHERE change <> 'changed' OR connections IS NOT connections_after OR failures IS NOT failures_after
    OR sent_bytes IS NOT sent_bytes_after OR received_bytes IS NOT received_bytes_after
    OR retrans_share IS NOT retrans_share_after OR max_rtt_us IS NOT max_rtt_us_after
    OR max_backlog IS NOT max_backlog_after OR drops IS NOT drops_after
ORDER BY CASE change WHEN 'new' THEN 1 WHEN 'gone' THEN 2 ELSE 3 END,
    coalesce(failures_after, 0) - coalesce(failures, 0) DESC,
    coalesce(retrans_share_after, 0) - coalesce(retrans_share, 0) DESC,
    abs(coalesce(connections_after, 0) - coalesce(connections, 0)) DESC,
    role, protocol, local_port, remote_address, remote_port, comm
