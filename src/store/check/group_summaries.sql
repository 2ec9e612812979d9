WITH summed AS (
    SELECT n.group_id, s.socket_id, min(s.snapshot_id) AS first_snapshot_id,
        max(s.snapshot_id) AS last_snapshot_id, count(*) AS samples,
        min(s.rtt_us) AS min_rtt_us, max(s.rtt_us) AS max_rtt_us, max(s.rqueue) AS max_rqueue,
        max(s.wqueue) AS max_wqueue, max(c.total_retrans) AS total_retrans,
        sum(CASE WHEN s.state IN (1, 4, 8) THEN s.snd_wnd_bytes = 0 ELSE 0 END)
            AS zero_window_samples,
        max(s.busy_time_us) AS busy_time_us, max(c.rwnd_limited_us) AS rwnd_limited_us,
        max(c.sndbuf_limited_us) AS sndbuf_limited_us
    FROM groups AS g
    JOIN snapshots AS n ON n.group_id = g.group_id
    JOIN samples AS s ON s.snapshot_id = n.snapshot_id
    LEFT JOIN conditions AS c
       ON c.group_id = n.group_id AND c.condition_id = s.condition_id
    WHERE g.last_snapshot_id IS NOT NULL GROUP BY n.group_id, s.socket_id),
thinned AS (SELECT group_id FROM groups WHERE thinned_to_ns IS NOT NULL)
SELECT group_id, socket_id FROM (SELECT * FROM summed EXCEPT SELECT * FROM group_sockets)
WHERE group_id NOT IN thinned
UNION SELECT group_id, socket_id FROM (SELECT * FROM group_sockets EXCEPT SELECT * FROM summed)
WHERE group_id NOT IN thinned
UNION
-- What was thinned out counts in the summary.
SELECT p.group_id, p.socket_id
FROM (SELECT group_id, socket_id FROM group_sockets WHERE group_id IN thinned
    UNION SELECT group_id, socket_id FROM summed WHERE group_id IN thinned) AS p
LEFT JOIN group_sockets AS t ON t.group_id = p.group_id AND t.socket_id = p.socket_id
-- SQLite makes no index for a FULL JOIN.
LEFT JOIN summed AS s ON s.group_id = p.group_id AND s.socket_id = p.socket_id
WHERE s.first_snapshot_id IS NOT t.first_snapshot_id OR s.last_snapshot_id IS NOT t.last_snapshot_id
    OR s.samples > t.samples OR s.min_rtt_us < t.min_rtt_us OR s.max_rtt_us > t.max_rtt_us
    OR s.max_rqueue > t.max_rqueue OR s.max_wqueue > t.max_wqueue
    OR s.total_retrans > t.total_retrans OR s.zero_window_samples > t.zero_window_samples
    OR s.busy_time_us > t.busy_time_us OR s.rwnd_limited_us > t.rwnd_limited_us
    OR s.sndbuf_limited_us > t.sndbuf_limited_us
