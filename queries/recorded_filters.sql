-- The filters with which was recorded in a span: in how many of its captures, and of which scopes;
-- NULL: of all that those captures asked for.
--
-- Parameters: :from_ns, :to_ns (UTC).
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
    )
SELECT
    a.filter,
    count(DISTINCT a.capture_id) AS captures,
    (SELECT count(DISTINCT capture_id) FROM asked) AS captures_of_span,
    CASE WHEN EXISTS (
        SELECT 1 FROM asked AS o
        WHERE o.filter IS NOT a.filter
            AND o.capture_id IN (SELECT capture_id FROM asked WHERE filter = a.filter)
    ) THEN group_concat(DISTINCT a.name) END AS scopes
FROM asked AS a
WHERE a.filter <> ''
GROUP BY a.filter
ORDER BY min(a.scope_id)
