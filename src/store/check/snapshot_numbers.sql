SELECT snapshot_id FROM (SELECT *, lag(snapshot_id) OVER w AS s, lag(group_id) OVER w AS g,
    lag(capture_id) OVER w AS c FROM snapshots WINDOW w AS (ORDER BY snapshot_id))
WHERE snapshot_id <> s + 1 OR group_id < g OR capture_id < c
    OR (group_id = g) <> (NOT is_keyframe)
