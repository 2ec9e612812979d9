SELECT k.socket_id FROM sockets AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN samples AS s ON s.snapshot_id = k.first_snapshot_id
   AND s.socket_id = k.socket_id
WHERE (k.first_snapshot_id IS NULL AND e.destroyed_at_ns IS NULL)
   OR (k.first_snapshot_id IS NOT NULL
       AND (k.local_address IS NULL OR k.remote_port IS NULL
           OR k.addresses_inferred IS NOT NULL))
   OR (e.destroyed_at_ns IS NULL) <> (e.destroyed_snapshot_id IS NULL)
   OR (e.destroyed_at_ns IS NULL) <> (e.destroyed_boottime_ns IS NULL)
   OR k.origin NOT IN (SELECT origin FROM origins)
   OR e.ending NOT IN (SELECT ending FROM endings)
