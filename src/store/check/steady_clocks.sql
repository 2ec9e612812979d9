SELECT snapshot_id FROM (SELECT n.*, c.source = 'import' AS is_import,
    lag(n.ended_monotonic_ns) OVER w AS m, lag(n.ended_boottime_ns) OVER w AS b
    FROM snapshots AS n JOIN captures AS c ON c.capture_id = n.capture_id
    WINDOW w AS (PARTITION BY n.capture_id ORDER BY n.snapshot_id))
-- Others may make dumps at the same time.
WHERE iif(is_import, ended_monotonic_ns, started_monotonic_ns) < m
   OR iif(is_import, ended_boottime_ns, started_boottime_ns) < b
   OR ended_monotonic_ns < started_monotonic_ns
   OR ended_boottime_ns < started_boottime_ns
