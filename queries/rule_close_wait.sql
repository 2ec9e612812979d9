-- Sockets that were in CLOSE-WAIT for longer than allowed: the other end has closed, the program has not.
-- The least that it can have been breaks the rule; where only the most would, it is not known.
--
-- Parameters: :allowed (ns), :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: none. Index: one scan of state_changes and sockets; of open sockets the view open_sockets.
WITH
    -- Boot time; an import may have none.
    moments AS (
        SELECT snapshot_id, started_at_ns, ended_at_ns,
            coalesce(started_boottime_ns, started_at_ns) AS started_ns,
            coalesce(ended_boottime_ns, ended_at_ns) AS ended_ns
        FROM snapshots
    ),
    entered AS (
        SELECT socket_id, snapshot_id AS seen_id, 1 AS was_seen_before
        FROM state_changes WHERE to_state = 8
        UNION ALL
        SELECT k.socket_id, k.first_snapshot_id, 0
        FROM sockets AS k
        JOIN samples AS s ON s.snapshot_id = k.first_snapshot_id AND s.socket_id = k.socket_id
        WHERE s.state = 8
    ),
    still_open AS MATERIALIZED (SELECT socket_id, last_snapshot_id FROM open_sockets),
    stays AS (
        SELECT x.socket_id, x.seen_id, k.netns_id, k.family, k.protocol, e.evidence,
            CASE WHEN NOT x.was_seen_before THEN k.opened_after_snapshot_id END AS absent_id,
            x.was_seen_before,
            (SELECT min(c.snapshot_id) FROM state_changes AS c
             WHERE c.socket_id = x.socket_id AND c.from_state = 8 AND c.snapshot_id > x.seen_id)
                AS left_id,
            e.closed_before_snapshot_id AS closed_id,
            e.destroyed_boottime_ns,
            coalesce(e.last_snapshot_id, o.last_snapshot_id) AS last_id
        FROM entered AS x
        JOIN sockets AS k ON k.socket_id = x.socket_id
        LEFT JOIN socket_ends AS e ON e.socket_id = x.socket_id
        LEFT JOIN still_open AS o ON o.socket_id = x.socket_id
        WHERE x.seen_id <= :last_snapshot_id
            AND (:socket_ids IS NULL OR x.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    -- The last complete dump before it was seen in the state, and before it was seen out of it: the
    -- state cannot be entered twice, so that it held between.
    seen AS (
        SELECT x.*,
            CASE WHEN x.was_seen_before THEN (
                SELECT d.snapshot_id FROM complete_dumps AS d
                JOIN scopes AS sc ON sc.scope_id = d.scope_id
                WHERE d.snapshot_id < x.seen_id AND sc.netns_id = x.netns_id
                    AND sc.family = x.family AND sc.protocol = x.protocol
                    AND NOT EXISTS (SELECT 1 FROM missing_sockets AS m
                        WHERE m.snapshot_id = d.snapshot_id AND m.socket_id = x.socket_id)
                ORDER BY d.snapshot_id DESC LIMIT 1
            ) ELSE x.absent_id END AS before_id,
            CASE WHEN x.left_id IS NULL THEN x.last_id ELSE max(x.seen_id, coalesce((
                SELECT d.snapshot_id FROM complete_dumps AS d
                JOIN scopes AS sc ON sc.scope_id = d.scope_id
                WHERE d.snapshot_id < x.left_id AND sc.netns_id = x.netns_id
                    AND sc.family = x.family AND sc.protocol = x.protocol
                    AND NOT EXISTS (SELECT 1 FROM missing_sockets AS m
                        WHERE m.snapshot_id = d.snapshot_id AND m.socket_id = x.socket_id)
                ORDER BY d.snapshot_id DESC LIMIT 1
            ), 0)) END AS held_id
        FROM stays AS x
    ),
    -- Its age at the end of the span, or when it left the state.
    lengths AS (
        SELECT x.socket_id, x.seen_id, first.started_at_ns AS from_ns, last.ended_at_ns AS to_ns,
            before.started_ns IS NULL AS was_there,
            max(0, last.started_ns - first.ended_ns) AS least_ns,
            CASE WHEN x.evidence IS NOT 'host_restart' THEN
                min(
                    -- The first that shows it out of the state, or the end of the span.
                    coalesce(
                        (SELECT m.ended_ns FROM moments AS m WHERE m.snapshot_id =
                            coalesce(x.left_id, x.closed_id)),
                        x.destroyed_boottime_ns, window_end.ended_ns),
                    coalesce(x.destroyed_boottime_ns, window_end.ended_ns),
                    window_end.ended_ns
                ) - before.started_ns
            END AS most_ns
        FROM seen AS x
        JOIN namespaces AS w ON w.netns_id = x.netns_id
        JOIN moments AS first ON first.snapshot_id = x.seen_id
        JOIN moments AS last ON last.snapshot_id = min(x.held_id, :last_snapshot_id)
        JOIN moments AS window_end ON window_end.snapshot_id = (
            SELECT max(n.snapshot_id) FROM snapshots AS n
            JOIN captures AS c ON c.capture_id = n.capture_id
            WHERE n.snapshot_id <= :last_snapshot_id AND c.boot_id = w.boot_id
        )
        LEFT JOIN moments AS before ON before.snapshot_id = x.before_id
        WHERE x.held_id >= :first_snapshot_id
    )
SELECT
    CASE WHEN least_ns > :allowed THEN 'broken' ELSE 'not_known' END AS verdict,
    socket_id,
    from_ns,
    to_ns,
    least_ns / 1e9 AS value,
    :allowed / 1e9 AS "limit",
    CASE
        WHEN least_ns > :allowed THEN 'so long at least'
        WHEN was_there THEN 'since when it was in CLOSE-WAIT is not known'
        WHEN most_ns IS NULL THEN 'the machine was restarted meanwhile'
        ELSE 'so long at least, and ' || round(most_ns / 1e9, 3) || ' s at most'
    END AS message
FROM lengths
WHERE least_ns > :allowed OR coalesce(most_ns, :allowed + 1) > :allowed
