-- The rules are of what is held: rows of dropped groups may still be on their way out.
CREATE TEMP VIEW floor AS
SELECT coalesce(min(first_snapshot_id), 0) AS snapshot_id, coalesce(min(group_id), 0) AS group_id
FROM groups;
CREATE TEMP VIEW snapshots AS SELECT * FROM main.snapshots WHERE group_id IS NOT NULL;
CREATE TEMP VIEW samples AS
SELECT * FROM main.samples WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
CREATE TEMP VIEW held_samples AS
SELECT * FROM main.held_samples WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
CREATE TEMP VIEW state_changes AS
SELECT * FROM main.state_changes WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
CREATE TEMP VIEW missing_sockets AS
SELECT * FROM main.missing_sockets WHERE snapshot_id >= (SELECT snapshot_id FROM floor);
CREATE TEMP VIEW conditions AS
SELECT * FROM main.conditions WHERE group_id >= (SELECT group_id FROM floor);
CREATE TEMP VIEW settings AS
SELECT * FROM main.settings WHERE group_id >= (SELECT group_id FROM floor);
CREATE TEMP VIEW group_sockets AS
SELECT * FROM main.group_sockets WHERE group_id >= (SELECT group_id FROM floor);
-- Of each socket how many of its rows were thinned out: what its groups had of it when they were closed,
-- less what they have.
CREATE TEMP VIEW thinned_rows AS
SELECT socket_id, sum(samples) AS samples FROM (
    SELECT t.socket_id, t.samples FROM groups AS g
    JOIN group_sockets AS t ON t.group_id = g.group_id WHERE g.thinned_to_ns IS NOT NULL
    UNION ALL
    SELECT s.socket_id, -1 FROM snapshots AS n
    JOIN groups AS g ON g.group_id = n.group_id AND g.thinned_to_ns IS NOT NULL
    JOIN samples AS s ON s.snapshot_id = n.snapshot_id)
GROUP BY socket_id;
