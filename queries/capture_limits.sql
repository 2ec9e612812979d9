-- What the captures of a span could not tell: in how many owners were not looked for, in how many only
-- those of one user, in how many the kernel told no marks; of how many in all.
--
-- Parameters: :from_ns, :to_ns (UTC).
-- Order: one row. Index: one scan of captures.
SELECT count(*),
    count(*) FILTER (WHERE source = 'import' OR owners = 0),
    count(*) FILTER (WHERE owners = 1 AND sees_every_process = 0),
    count(*) FILTER (WHERE has_net_admin = 0)
FROM (
    SELECT c.source, o.value ->> 'owners' AS owners,
        o.value ->> 'sees_every_process' AS sees_every_process,
        o.value ->> 'has_net_admin' AS has_net_admin
    FROM captures AS c
    JOIN json_each(json_array(json(CASE WHEN json_valid(c.options) THEN c.options ELSE '{}' END)))
        AS o
    WHERE c.started_at_ns <= :to_ns AND coalesce(c.ended_at_ns, :from_ns) >= :from_ns
)
