SELECT n.snapshot_id, NULL AS capture_id, n.samples AS counted, count(s.socket_id) AS found
FROM snapshots AS n
LEFT JOIN samples AS s ON s.snapshot_id = n.snapshot_id
GROUP BY n.snapshot_id HAVING n.samples <> count(s.socket_id)
UNION ALL
SELECT NULL, c.capture_id, c.missed_ticks, sum(n.missed_ticks) FROM captures AS c
JOIN snapshots AS n ON n.capture_id = c.capture_id
GROUP BY c.capture_id HAVING c.missed_ticks < sum(n.missed_ticks)
   OR (c.missed_ticks IS NULL) <> (coalesce(c.end_reason, 'lost') = 'lost')
