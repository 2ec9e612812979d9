-- What none of the captures of a span looked for: each 1 if it was not, NULL without a capture.
--
-- Parameters: :from_ns, :to_ns (UTC).
-- Order: one row. Index: none, a scan of captures.
SELECT
    min(coalesce(said ->> '$.owners' = 0, source = 'import')) AS owners,
    min(coalesce(said ->> '$.has_net_admin' = 0, 0)) AS marks,
    min(coalesce(said ->> '$.events' = 0, 0)) AS events
FROM (SELECT *, CASE WHEN json_valid(options) THEN options END AS said FROM captures) AS c
WHERE c.started_at_ns <= :to_ns AND coalesce(c.ended_at_ns, :from_ns) >= :from_ns
