-- Each run of the recorder: where, when, what it looked at, how it ended.
--
-- Parameters: none.
-- Order: as recorded. Index: primary keys; one scan of snapshots.
SELECT
    c.capture_id,
    c.uuid,
    c.previous_capture_id,
    c.source,
    c.host_name,
    c.kernel_release,
    c.architecture,
    c.sockrec_version,
    b.uuid AS boot,
    c.interval_ns,
    c.started_at_ns AS started_at_ns,
    c.ended_at_ns AS ended_at_ns,
    c.end_reason,
    coalesce(n.snapshots, 0) AS snapshots,
    coalesce(c.missed_ticks, n.missed_ticks) AS missed_ticks,
    (SELECT group_concat(name, ' ') FROM (
        SELECT p.name || '/' || f.name ||
            CASE WHEN sc.states IS NULL THEN ' (states not known)'
                WHEN sc.states = 4294967295 THEN '' ELSE printf(' (states 0x%x)', sc.states) END AS name
        FROM capture_scopes AS cs
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
        JOIN protocols AS p ON p.protocol = sc.protocol
        JOIN families AS f ON f.family = sc.family
        WHERE cs.capture_id = c.capture_id
        GROUP BY 1 ORDER BY min(sc.scope_id)
    )) AS scopes,
    (SELECT count(DISTINCT sc.netns_id) FROM capture_scopes AS cs
     JOIN scopes AS sc ON sc.scope_id = cs.scope_id
     WHERE cs.capture_id = c.capture_id) AS namespaces,
    (SELECT group_concat(DISTINCT sc.filter) FROM capture_scopes AS cs
     JOIN scopes AS sc ON sc.scope_id = cs.scope_id
     WHERE cs.capture_id = c.capture_id AND sc.filter <> '') AS filter,
    c.options AS capture_options,
    t.recording_uuid AS taken_from,
    t.is_cut_before,
    t.is_cut_after,
    t.selection
FROM captures AS c
JOIN boots AS b ON b.boot_id = c.boot_id
LEFT JOIN capture_sources AS t ON t.capture_id = c.capture_id
LEFT JOIN (
    SELECT capture_id, count(*) AS snapshots, sum(missed_ticks) AS missed_ticks
    FROM held_snapshots GROUP BY capture_id
) AS n ON n.capture_id = c.capture_id
ORDER BY c.capture_id
