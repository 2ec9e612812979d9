-- The lifetime of each socket: who, from when to when, what became of it.
-- An opening or closing is an interval: not before `_after`, not after `_before`; NULL is unknown.
--
-- Parameters: none.
-- Order: as first seen. Index: none for the ended (one scan of sockets and socket_ends); for those
-- still there the last group of each capture.
WITH
    still_open AS MATERIALIZED (SELECT * FROM open_sockets)
SELECT
    k.socket_id,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    k.interface,
    k.mark,
    k.cgroup_id,
    coalesce(st.name, 'STATE-' || coalesce(e.state, r.state)) AS state,
    first.ended_at_ns AS first_seen_at_ns,
    last.ended_at_ns AS last_seen_at_ns,
    before.started_at_ns AS opened_after_ns,
    first.ended_at_ns AS opened_before_ns,
    CASE
        WHEN k.opened_after_snapshot_id IS NOT NULL THEN 'snapshot'
        WHEN k.first_snapshot_id = (
            SELECT min(g.first_snapshot_id) FROM groups AS g WHERE g.capture_id = first.capture_id
        ) THEN 'recording_start'
    END AS opened_evidence,
    last.started_at_ns AS closed_after_ns,
    gone.ended_at_ns AS closed_before_ns,
    coalesce(e.evidence, CASE WHEN o.is_capture_over THEN 'recording_end' END) AS closed_evidence,
    max(0, last.started_boottime_ns - first.ended_boottime_ns) AS duration_min_ns,
    gone.ended_boottime_ns - before.started_boottime_ns AS duration_max_ns,
    CASE WHEN e.socket_id IS NULL THEN q.rtt_us ELSE e.rtt_us END AS rtt_us,
    CASE WHEN e.socket_id IS NULL THEN q.rttvar_us ELSE e.rttvar_us END AS rttvar_us,
    CASE WHEN e.socket_id IS NULL THEN c.min_rtt_us ELSE e.min_rtt_us END AS min_rtt_us,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_sent ELSE e.bytes_sent END AS bytes_sent,
    CASE WHEN e.socket_id IS NULL THEN c.bytes_retrans ELSE e.bytes_retrans END AS bytes_retrans,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_acked ELSE e.bytes_acked END AS bytes_acked,
    CASE WHEN e.socket_id IS NULL THEN q.bytes_received ELSE e.bytes_received END AS bytes_received,
    CASE WHEN e.socket_id IS NULL THEN q.segs_out ELSE e.segs_out END AS segs_out,
    CASE WHEN e.socket_id IS NULL THEN q.segs_in ELSE e.segs_in END AS segs_in,
    CASE WHEN e.socket_id IS NULL THEN q.data_segs_out ELSE e.data_segs_out END AS data_segs_out,
    CASE WHEN e.socket_id IS NULL THEN q.data_segs_in ELSE e.data_segs_in END AS data_segs_in,
    CASE WHEN e.socket_id IS NULL THEN c.total_retrans ELSE e.total_retrans END AS total_retrans,
    coalesce(e.samples, o.samples) AS samples
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN still_open AS o ON o.socket_id = k.socket_id
LEFT JOIN samples AS r ON r.snapshot_id = o.snapshot_id AND r.socket_id = k.socket_id
LEFT JOIN samples AS q ON q.snapshot_id = o.counted_snapshot_id AND q.socket_id = k.socket_id
LEFT JOIN snapshots AS qn ON qn.snapshot_id = o.counted_snapshot_id
LEFT JOIN conditions AS c ON c.group_id = qn.group_id AND c.condition_id = q.condition_id
LEFT JOIN snapshots AS first ON first.snapshot_id = k.first_snapshot_id
LEFT JOIN snapshots AS before ON before.snapshot_id = k.opened_after_snapshot_id
LEFT JOIN snapshots AS last
    ON last.snapshot_id = coalesce(e.last_snapshot_id, o.last_snapshot_id)
LEFT JOIN snapshots AS gone ON gone.snapshot_id = e.closed_before_snapshot_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
LEFT JOIN states AS st ON st.state = coalesce(e.state, r.state)
ORDER BY k.socket_id
