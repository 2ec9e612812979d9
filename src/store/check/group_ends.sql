SELECT g.group_id FROM groups AS g
JOIN (SELECT group_id, max(snapshot_id) AS last FROM snapshots GROUP BY group_id) AS n
   ON n.group_id = g.group_id
WHERE g.last_snapshot_id <> n.last
