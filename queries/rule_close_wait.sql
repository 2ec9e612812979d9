-- Sockets that were in CLOSE-WAIT for longer than allowed: the other end has closed, the program has not.
-- The least that it can have been breaks the rule; where only the most would, it is not known.
--
-- Parameters: :allowed (ns), :socket_ids (JSON, NULL: all), :first_snapshot_id, :last_snapshot_id.
-- Order: none. Index: scans of state_changes and sockets, primary keys; the view open_sockets.
WITH
    -- Boot time; an import may have none.
    moments AS (
        SELECT snapshot_id, started_at_ns, ended_at_ns,
            coalesce(started_boottime_ns, started_at_ns) AS started_ns,
            coalesce(ended_boottime_ns, ended_at_ns) AS ended_ns
        FROM snapshots
    ),
    -- The snapshots that first showed a socket in the state, and out of it, each with one before that
    -- really showed it: the last, or where that is not sure the one of its row before.
    changes AS MATERIALIZED (
        SELECT c.socket_id, c.snapshot_id, c.to_state = 8 AS is_entry,
            CASE WHEN NOT EXISTS (SELECT 1 FROM missing_sockets AS m
                    WHERE m.snapshot_id = c.snapshot_id - 1 AND m.socket_id = c.socket_id)
                AND EXISTS (SELECT 1 FROM complete_dumps AS d
                    JOIN scopes AS sc ON sc.scope_id = d.scope_id
                    WHERE d.snapshot_id = c.snapshot_id - 1 AND sc.netns_id = k.netns_id
                        AND sc.family = k.family AND sc.protocol = k.protocol)
                THEN c.snapshot_id - 1
                ELSE coalesce(h.observed_snapshot_id, s.previous_snapshot_id) END AS shown_id
        FROM state_changes AS c
        JOIN sockets AS k ON k.socket_id = c.socket_id
        JOIN samples AS s ON s.snapshot_id = c.snapshot_id AND s.socket_id = c.socket_id
        LEFT JOIN held_samples AS h
            ON h.snapshot_id = s.previous_snapshot_id AND h.socket_id = c.socket_id
        WHERE 8 IN (c.from_state, c.to_state)
    ),
    entered AS (
        SELECT socket_id, snapshot_id AS seen_id, shown_id AS before_id FROM changes WHERE is_entry
        UNION ALL
        SELECT k.socket_id, k.first_snapshot_id, k.opened_after_snapshot_id
        FROM sockets AS k
        JOIN samples AS s ON s.snapshot_id = k.first_snapshot_id AND s.socket_id = k.socket_id
        WHERE s.state = 8
        UNION ALL
        -- It may have been in it in what was dropped.
        SELECT s.socket_id, s.snapshot_id, NULL
        FROM (SELECT first_snapshot_id, coalesce(last_snapshot_id, :last_snapshot_id) AS last_id
              FROM groups ORDER BY group_id LIMIT 1) AS g
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_id
        WHERE s.state = 8 AND s.previous_snapshot_id < g.first_snapshot_id AND NOT EXISTS (
            SELECT 1 FROM state_changes AS c
            WHERE c.snapshot_id = s.snapshot_id AND c.socket_id = s.socket_id)
    ),
    still_open AS MATERIALIZED (SELECT socket_id, last_snapshot_id FROM open_sockets),
    -- The state cannot be entered twice: it held between two snapshots that showed it.
    seen AS (
        SELECT x.socket_id, x.seen_id, x.before_id, k.netns_id, e.evidence,
            coalesce(l.snapshot_id, e.closed_before_snapshot_id) AS left_id,
            e.destroyed_boottime_ns,
            CASE WHEN l.socket_id IS NULL THEN coalesce(e.last_snapshot_id, o.last_snapshot_id)
                ELSE max(x.seen_id, l.shown_id) END AS held_id
        FROM entered AS x
        JOIN sockets AS k ON k.socket_id = x.socket_id
        LEFT JOIN changes AS l ON l.socket_id = x.socket_id AND NOT l.is_entry
        LEFT JOIN socket_ends AS e ON e.socket_id = x.socket_id
        LEFT JOIN still_open AS o ON o.socket_id = x.socket_id
        WHERE x.seen_id <= :last_snapshot_id
            AND (:socket_ids IS NULL OR x.socket_id IN (SELECT value FROM json_each(:socket_ids)))
    ),
    -- Its age at the end of the span, or when it left the state.
    lengths AS (
        SELECT x.socket_id, x.seen_id, first.started_at_ns AS from_ns, last.ended_at_ns AS to_ns,
            before.started_ns IS NULL AS was_there,
            max(0, last.started_ns - first.ended_ns) AS least_ns,
            CASE WHEN x.evidence IS NOT 'host_restart' THEN
                -- By the first that shows it out of the state, its event, or the end of the span.
                min(
                    coalesce(gone.ended_ns, window_end.ended_ns),
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
        LEFT JOIN moments AS gone ON gone.snapshot_id = x.left_id
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
