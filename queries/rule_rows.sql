-- What breaks a rule, and what may have broken it unseen, with the socket that it is about.
--
-- Parameters: :rule, :unit, :hidden_by (JSON: kinds of blind spots), :shortest_ns (shorter ones hide
-- nothing).
-- Order: what breaks it first, the worst before the others. Index: primary keys; reads a file
-- rule_*.sql as `found` and blind_spots.sql as `blind`.
WITH
    all_found AS (
        SELECT verdict, socket_id, from_ns, to_ns, value, "limit", message FROM found
        UNION ALL
        SELECT 'not_known', NULL, min(from_ns), max(to_ns), NULL, NULL,
            kind || CASE WHEN count(*) > 1 THEN ' (' || count(*) || ' times)' ELSE '' END
        FROM blind
        -- Rules are about TCP.
        WHERE kind IN (SELECT value FROM json_each(:hidden_by)) AND coalesce(protocol, 6) = 6
            AND (kind = 'sockets_not_stored' OR coalesce(to_ns - from_ns >= :shortest_ns, 1))
        GROUP BY kind
    )
SELECT
    :rule AS rule,
    f.verdict,
    f.value,
    f."limit",
    :unit AS value_unit,
    f.from_ns,
    f.to_ns,
    f.message,
    f.socket_id,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(fa.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    (
        SELECT group_concat(h.name) FROM (
            SELECT coalesce(w.comm, '?') || '[' || w.pid || ']' AS name
            FROM socket_owners AS o
            JOIN processes AS w ON w.process_id = o.process_id
            WHERE o.socket_id = f.socket_id
            GROUP BY o.process_id
            ORDER BY min(o.first_snapshot_id), o.process_id
        ) AS h
    ) AS owners
FROM all_found AS f
LEFT JOIN sockets AS k ON k.socket_id = f.socket_id
LEFT JOIN protocols AS p ON p.protocol = k.protocol
LEFT JOIN families AS fa ON fa.family = k.family
ORDER BY f.verdict, f.value DESC NULLS LAST, f.socket_id, f.message
