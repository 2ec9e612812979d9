SELECT socket_id, evidence FROM socket_ends
WHERE evidence NOT IN ('absence', 'replaced', 'time_wait', 'closed', 'left_scope',
       'host_restart', 'netns_gone')
   OR (coalesce(evidence, 'left_scope') = 'left_scope')
       <> (closed_before_snapshot_id IS NULL)
   OR (evidence IS NULL AND destroyed_at_ns IS NULL)
