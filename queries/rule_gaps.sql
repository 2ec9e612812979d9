-- Time in the span in which was not looked, or not well.
--
-- Parameters: none.
-- Order: none. Index: as blind_spots.sql, whose rows it reads as `blind`.
SELECT
    'broken' AS verdict,
    NULL AS socket_id,
    from_ns,
    to_ns,
    (to_ns - from_ns) / 1e9 AS value,
    0 AS "limit",
    kind || coalesce(' ' || scope, '') || coalesce(': ' || count, '') || coalesce(', ' || message, '')
        AS message
FROM blind
WHERE kind NOT IN ('no_events', 'states_not_asked', 'thinned')
