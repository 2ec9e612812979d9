-- What of the sockets was recorded in a span, or taken over into an extract, where that was not all: in
-- how many captures of the span, and of which scopes; NULL: of all that those captures asked for.
--
-- Parameters: :from_ns, :to_ns (UTC), :host (NULL: all).
-- Order: as recorded. Index: primary keys; one scan of captures and their scopes.
WITH
    asked AS (
        SELECT c.capture_id, sc.scope_id, sc.filter, p.name || '/' || f.name AS name
        FROM captures AS c
        JOIN capture_scopes AS cs ON cs.capture_id = c.capture_id
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
        JOIN protocols AS p ON p.protocol = sc.protocol
        JOIN families AS f ON f.family = sc.family
        WHERE c.started_at_ns <= :to_ns AND coalesce(c.ended_at_ns, :from_ns) >= :from_ns
            AND (:host IS NULL OR c.host_name = :host)
    ),
    captured AS (SELECT DISTINCT capture_id FROM asked)
SELECT
    a.filter,
    0 AS is_taken,
    count(DISTINCT a.capture_id) AS captures,
    (SELECT count(*) FROM captured) AS captures_of_span,
    CASE WHEN EXISTS (
        SELECT 1 FROM asked AS o
        WHERE o.filter IS NOT a.filter
            AND o.capture_id IN (SELECT capture_id FROM asked WHERE filter = a.filter)
    ) THEN group_concat(DISTINCT a.name) END AS scopes
FROM asked AS a
WHERE a.filter <> ''
GROUP BY a.filter
UNION ALL
SELECT t.selection, 1, count(*), (SELECT count(*) FROM captured), NULL
FROM captured
JOIN capture_sources AS t ON t.capture_id = captured.capture_id
WHERE t.selection <> ''
GROUP BY t.selection
