-- Where the captures that recorded one socket looked for owners: 0 nowhere, 1 at processes of their own
-- user only, 2 at every process; NULL where none says.
--
-- Parameters: :socket_id.
-- Order: one row. Index: primary keys; of captures those from its first snapshot to its last.
SELECT max(CASE WHEN json_valid(c.options) THEN json_extract(c.options, '$.owners')
    * (1 + coalesce(json_extract(c.options, '$.sees_every_process'), 1)) END)
FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
JOIN snapshots AS since ON since.snapshot_id =
    coalesce(k.first_snapshot_id, k.opened_after_snapshot_id, e.closed_before_snapshot_id)
LEFT JOIN snapshots AS until ON until.snapshot_id =
    coalesce(e.closed_before_snapshot_id, e.last_snapshot_id)
JOIN captures AS c ON c.capture_id >= since.capture_id
    AND (until.capture_id IS NULL OR c.capture_id <= until.capture_id)
WHERE k.socket_id = :socket_id
