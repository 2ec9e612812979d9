-- Notes every socket of `src` for a recording that is made of several, by what it is known in all of them.
--
-- temp.places, temp.snaps: see merge.sql. temp.netns_names: see names.sql. temp.file: the number of `src`
-- among the files.

INSERT INTO everyone
SELECT f.number, k.socket_id, k.socket_id + p.socket_shift, p.run, p.line, w.new_id, k.cookie, k.family,
    k.protocol, k.local_address, k.local_port, k.remote_address, k.remote_port, x.new_id, o.new_id,
    c.new_id, d.new_id
FROM file AS f, src.sockets AS k
JOIN netns_names AS w ON w.old_id = k.netns_id
LEFT JOIN src.socket_ends AS e ON e.socket_id = k.socket_id
-- By the capture that first saw it its number is one of that recording.
JOIN src.snapshots AS n ON n.snapshot_id = coalesce(k.first_snapshot_id, e.destroyed_snapshot_id)
JOIN places AS p ON p.old_id = n.capture_id
LEFT JOIN snaps AS x ON x.old_id = k.first_snapshot_id
LEFT JOIN snaps AS o ON o.old_id = k.opened_after_snapshot_id
LEFT JOIN snaps AS c ON c.old_id = e.closed_before_snapshot_id
LEFT JOIN snaps AS d ON d.old_id = e.destroyed_snapshot_id;
