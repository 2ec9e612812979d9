-- When was looked, how much was seen, and what went wrong.
--
-- Parameters: :first_snapshot_id, :last_snapshot_id (both included), :from_ns, :to_ns (UTC).
-- Order: snapshot. Index: primary key of snapshots.
SELECT
    n.snapshot_id,
    n.started_at_ns AS started_at_ns,
    n.ended_at_ns AS ended_at_ns,
    n.ended_monotonic_ns - n.started_monotonic_ns AS duration_ns,
    n.started_boottime_ns AS started_boottime_ns,
    n.capture_id,
    p.host_name,
    n.group_id,
    n.is_keyframe,
    n.missed_ticks,
    n.sockets_seen,
    n.samples,
    n.is_thinned,
    n.events,
    n.events_unbound,
    n.events_unchosen,
    (SELECT group_concat(DISTINCT x.kind) FROM exceptions AS x
     WHERE x.snapshot_id = n.snapshot_id) AS exceptions,
    (SELECT delta_ns FROM clock_changes AS c
     WHERE c.snapshot_id = n.snapshot_id AND c.kind = 'step') AS clock_step_ns,
    (SELECT delta_ns FROM clock_changes AS c
     WHERE c.snapshot_id = n.snapshot_id AND c.kind = 'suspend') AS suspended_ns
FROM held_snapshots AS n
JOIN captures AS p ON p.capture_id = n.capture_id
WHERE n.snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
    AND n.ended_at_ns BETWEEN :from_ns AND :to_ns
ORDER BY n.snapshot_id
