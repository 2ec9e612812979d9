WITH steps AS (
    SELECT s.snapshot_id, s.socket_id, b.state AS before, s.state AS after
    FROM samples AS s
    LEFT JOIN samples AS b
       ON b.snapshot_id = s.previous_snapshot_id AND b.socket_id = s.socket_id)
SELECT t.snapshot_id, t.socket_id, t.before, t.after FROM steps AS t
LEFT JOIN state_changes AS c
   ON c.snapshot_id = t.snapshot_id AND c.socket_id = t.socket_id
WHERE t.before <> t.after AND c.socket_id IS NULL
UNION ALL
SELECT c.snapshot_id, c.socket_id, c.from_state, c.to_state FROM state_changes AS c
LEFT JOIN steps AS t ON t.snapshot_id = c.snapshot_id AND t.socket_id = c.socket_id
WHERE c.to_state IS NOT t.after OR c.from_state <> t.before
