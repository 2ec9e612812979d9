-- What was not looked at, or not well.
--
-- Parameters: none.
-- Order: snapshot. Index: primary keys.
SELECT
    n.capture_id,
    x.snapshot_id,
    n.started_at_ns AS started_at_ns,
    x.kind,
    p.name AS protocol,
    f.name AS family,
    x.errno,
    x.count,
    x.message
FROM exceptions AS x
JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
LEFT JOIN scopes AS sc ON sc.scope_id = x.scope_id
LEFT JOIN protocols AS p ON p.protocol = sc.protocol
LEFT JOIN families AS f ON f.family = sc.family
ORDER BY x.exception_id
