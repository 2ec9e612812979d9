-- What the captures of a span could not tell: in how many owners were not looked for, in how many only
-- those of one user, in how many the kernel told no marks, in how many destroy events were not listened
-- to; of how many in all.
--
-- Parameters: :from_ns, :to_ns (UTC), :host (NULL: all).
-- Order: one row. Index: none, a scan of captures.
SELECT
    count(*),
    count(*) FILTER (WHERE coalesce(said ->> '$.owners' = 0, source = 'import')),
    count(*) FILTER (WHERE said ->> '$.owners' = 1 AND said ->> '$.sees_every_process' = 0),
    count(*) FILTER (WHERE said ->> '$.has_net_admin' = 0),
    count(*) FILTER (WHERE said ->> '$.events' = 0)
FROM (SELECT *, CASE WHEN json_valid(options) THEN options END AS said FROM captures) AS c
WHERE c.started_at_ns <= :to_ns AND coalesce(c.ended_at_ns, :from_ns) >= :from_ns
    AND (:host IS NULL OR c.host_name = :host)
