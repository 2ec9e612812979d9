WITH summed AS (
    SELECT n.group_id, s.socket_id, min(s.snapshot_id), max(s.snapshot_id), count(*),
        min(s.rtt_us), max(s.rtt_us), max(s.rqueue), max(s.wqueue), max(c.total_retrans),
        sum(CASE WHEN s.state IN (1, 4, 8) THEN s.snd_wnd_bytes = 0 ELSE 0 END),
        max(s.busy_time_us), max(c.rwnd_limited_us), max(c.sndbuf_limited_us)
    FROM groups AS g
    JOIN snapshots AS n ON n.group_id = g.group_id
    JOIN samples AS s ON s.snapshot_id = n.snapshot_id
    LEFT JOIN conditions AS c
       ON c.group_id = n.group_id AND c.condition_id = s.condition_id
    WHERE g.last_snapshot_id IS NOT NULL GROUP BY n.group_id, s.socket_id)
SELECT group_id, socket_id FROM (SELECT * FROM summed EXCEPT SELECT * FROM group_sockets)
UNION SELECT group_id, socket_id FROM (SELECT * FROM group_sockets EXCEPT SELECT * FROM summed)
