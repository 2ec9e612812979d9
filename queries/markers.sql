-- The moments and spans that the user named.
--
-- Parameters: none.
-- Order: by start, then as written. Index: none, one scan.
SELECT
    marker_id,
    name AS marker,
    is_span,
    started_at_ns,
    ended_at_ns,
    ended_boottime_ns - started_boottime_ns AS length_ns,
    started_boottime_ns
FROM markers
ORDER BY started_at_ns, marker_id
