-- Connections that were reset or aborted in the span; of those whose end nothing explains, and of those
-- that ended about one of its ends, it is not known.
--
-- Parameters: :socket_ids (JSON, NULL: all), :from_ns, :to_ns (UTC).
-- Order: none. Index: as connections.sql, whose rows it reads as `connections`.
SELECT
    CASE WHEN ending = 'reset'
        AND coalesce(closed_after_ns, -9223372036854775808) >= :from_ns AND closed_before_ns <= :to_ns
        THEN 'broken' ELSE 'not_known' END AS verdict,
    socket_id,
    closed_after_ns AS from_ns,
    closed_before_ns AS to_ns,
    NULL AS value,
    NULL AS "limit",
    CASE WHEN ending = 'reset' THEN ending_evidence ELSE 'it ended, and how is not known' END
        AS message
FROM connections
WHERE protocol = 'tcp' AND remote_port IS NOT 0 AND coalesce(ending, 'reset') = 'reset'
    AND closed_before_ns >= :from_ns AND coalesce(closed_after_ns, closed_before_ns) <= :to_ns
    AND (:socket_ids IS NULL OR socket_id IN (SELECT value FROM json_each(:socket_ids)))
