SELECT snapshot_id, socket_id, p AS previous_snapshot_id, l AS row_before FROM (
    SELECT snapshot_id, socket_id, previous_snapshot_id AS p, lag(snapshot_id)
        OVER (PARTITION BY socket_id ORDER BY snapshot_id) AS l FROM samples)
WHERE p IS NOT l AND NOT (l IS NULL AND p < (SELECT snapshot_id FROM floor))
