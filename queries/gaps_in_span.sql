-- Which kinds of gaps a span overlaps, and how many of each: those that hide sockets.
--
-- Parameters: :from_ns, :to_ns (UTC), :host (NULL: all).
-- Order: kind. Index: that of the view gaps.
SELECT kind, count(*)
FROM gaps
WHERE (:host IS NULL OR host_name = :host) AND to_ns >= :from_ns AND coalesce(from_ns, to_ns) <= :to_ns
    AND kind NOT IN ('dump_unsupported', 'clock_step', 'clock_suspend', 'thinned')
GROUP BY kind
ORDER BY kind
