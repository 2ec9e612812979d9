-- The lifetime of each socket: who, from when to when, who opened it, how it ended.
-- An opening or closing is an interval: not before `_after`, not after `_before`; NULL is unknown.
-- The end of the connection and that of the socket (destroyed_at) are two facts.
--
-- Parameters: :is_ended (1: only what has ended, without looking for what is open), :socket_id (NULL:
-- more than this one is asked for), :without_owners (1: nothing that owners tell is asked for).
-- Order: as first seen. Index: none for the ended (one scan of sockets and socket_ends, and of
-- socket_owners where they are asked for), primary key of socket_owners; for those still there the last
-- group of each capture.
WITH
    still_open AS (SELECT * FROM open_sockets WHERE :is_ended IS NOT 1),
    -- Looked for only if it is asked for.
    open_counts AS MATERIALIZED (SELECT socket_id, samples FROM open_sockets),
    -- Sockets that were held more than once, by several processes or by one: one look at all costs less
    -- than one at each.
    held_often AS MATERIALIZED (
        SELECT socket_id FROM socket_owners
        WHERE socket_id >= coalesce(:socket_id, -9223372036854775808)
            AND socket_id <= coalesce(:socket_id, 9223372036854775807)
        GROUP BY socket_id HAVING count(*) > 1
    ),
    blind AS MATERIALIZED (
        SELECT g.kind, coalesce(g.from_boottime_ns, g.to_boottime_ns) AS from_boottime_ns,
            g.to_boottime_ns, coalesce(bf.boot_id, bt.boot_id) AS from_boot_id,
            bt.boot_id AS to_boot_id, nt.capture_id, sc.family, sc.protocol
        FROM gaps AS g
        JOIN snapshots AS nt ON nt.snapshot_id = g.last_snapshot_id
        JOIN captures AS bt ON bt.capture_id = nt.capture_id
        LEFT JOIN snapshots AS nf ON nf.snapshot_id = g.first_snapshot_id
        LEFT JOIN captures AS bf ON bf.capture_id = nf.capture_id
        LEFT JOIN scopes AS sc ON sc.scope_id = g.scope_id
        WHERE g.kind IN ('dump_failed', 'dump_interrupted', 'events_lost', 'messages_unreadable',
            'not_recording', 'not_asked', 'partly_asked', 'sockets_not_stored', 'dropped')
    ),
    first_snapshots AS MATERIALIZED (
        SELECT capture_id, min(first_snapshot_id) AS snapshot_id FROM (
            SELECT capture_id, first_snapshot_id FROM groups
            UNION ALL SELECT capture_id, first_snapshot_id FROM dropped_spans)
        GROUP BY capture_id
    ),
    -- Snapshots that each fact rests on; times of events beside them.
    facts AS (
        SELECT
            k.*,
            e.socket_id IS NOT NULL AS is_ended,
            -- What is left of it was alive in FIN-WAIT-2.
            CASE WHEN half.is_so THEN 5 ELSE e.state END AS last_state,
            e.ending,
            CASE WHEN m.time_wait_snapshot_id IS NOT NULL AND half.is_so THEN 'time_wait'
                WHEN m.gone_before_snapshot_id IS NOT NULL AND half.is_so
                    THEN CASE WHEN other_boot.is_so THEN 'host_restart' ELSE 'absence' END
                WHEN NOT half.is_so THEN e.evidence END AS dump_evidence,
            e.destroyed_at_ns,
            CASE WHEN NOT half.is_so THEN e.destroyed_boottime_ns END AS destroyed_boottime_ns,
            -- For so long it may have gone on without its socket, where nothing else tells; NULL: longer.
            CASE WHEN e.over_ns = 0 OR e.ending NOT IN (1, 3, 11) THEN 0 ELSE e.over_ns END AS over_ns,
            e.destroyed_at_ns - e.idle_ms * 1000000 AS active_at_ns,
            CASE WHEN NOT half.is_so THEN e.destroyed_boottime_ns END - e.idle_ms * 1000000
                AS active_boottime_ns,
            e.destroyed_at_ns - coalesce(e.open_ms, 0) * 1000000 AS there_at_ns,
            e.destroyed_boottime_ns - coalesce(e.open_ms, 0) * 1000000 AS there_boottime_ns,
            first.ended_at_ns AS first_at_ns,
            first.ended_boottime_ns AS first_boottime_ns,
            -- Its first row may tell that it had been there for long.
            coalesce(first.started_at_ns - k.open_ms * 1000000, first.ended_at_ns) AS shown_at_ns,
            coalesce(first.started_boottime_ns - k.open_ms * 1000000, first.ended_boottime_ns)
                AS shown_boottime_ns,
            coalesce(first.capture_id, told.capture_id) AS capture_id,
            fs.is_cut_before,
            os.is_cut_after,
            before.started_at_ns AS before_at_ns,
            before.started_boottime_ns AS before_boottime_ns,
            last.started_at_ns AS last_started_at_ns,
            last.started_boottime_ns AS last_boottime_ns,
            last.ended_at_ns AS last_ended_at_ns,
            last.ended_boottime_ns AS last_ended_boottime_ns,
            -- The timer of a TIME-WAIT tells more than when it was seen.
            coalesce(
                CASE WHEN gone.snapshot_id = m.time_wait_snapshot_id
                    THEN gone.started_at_ns - m.time_wait_ms * 1000000 END,
                gone.ended_at_ns
            ) AS gone_at_ns,
            -- Boot times of two boots are not held against each other.
            CASE WHEN e.evidence IS NOT 'host_restart' AND other_boot.is_so IS NOT 1 THEN coalesce(
                CASE WHEN gone.snapshot_id = m.time_wait_snapshot_id
                    THEN gone.started_boottime_ns - m.time_wait_ms * 1000000 END,
                gone.ended_boottime_ns
            ) END AS gone_boottime_ns,
            -- It is over once its TIME-WAIT has begun, whenever the socket went.
            CASE WHEN NOT half.is_so THEN
                coalesce(tw.started_at_ns - m.time_wait_ms * 1000000, tw.ended_at_ns) END
                AS time_wait_at_ns,
            CASE WHEN NOT half.is_so THEN
                coalesce(tw.started_boottime_ns - m.time_wait_ms * 1000000, tw.ended_boottime_ns) END
                AS time_wait_boottime_ns,
            -- Both closed, or one of them was aborted.
            CASE WHEN pe.ending IS NULL THEN 0
                WHEN e.ending IN (1, 2) THEN pe.ending IN (1, 2)
                WHEN e.ending IN (4, 6) THEN pe.ending IN (4, 5) END AS is_told_by_peer,
            -- Who closed and is held was seen to be over before its event.
            pe.ending IN (1, 2) AND pg.ended_boottime_ns < coalesce(pe.destroyed_boottime_ns,
                pg.ended_boottime_ns + 1) AS is_peer_by_dump,
            pg.ended_at_ns AS peer_gone_at_ns,
            pg.ended_boottime_ns AS peer_gone_boottime_ns,
            pe.destroyed_at_ns AS peer_destroyed_at_ns,
            pe.destroyed_boottime_ns AS peer_destroyed_boottime_ns,
            e.ending IN (1, 2) AND pe.ending IN (1, 2) AS is_peer_orderly,
            -- Our FIN was acknowledged, and the other end has not ended.
            CASE WHEN k.peer_socket_id <> k.socket_id AND pe.socket_id IS NULL
                THEN coalesce(e.ending IN (2, 3, 11), 0) ELSE 0 END AS is_peer_open,
            -- Its event was to come in this capture, and has not come.
            CASE WHEN e.socket_id IS NOT NULL AND e.destroyed_at_ns IS NULL AND k.protocol IN (6, 17)
                    AND coalesce(last.capture_id, before.capture_id) = gone.capture_id
                THEN gone.capture_id END AS untold_capture_id,
            o.is_capture_over,
            o.snapshot_id AS open_snapshot_id,
            o.counted_snapshot_id,
            o.last_snapshot_id AS open_last_snapshot_id,
            CASE
                WHEN m.samples IS NOT NULL OR o.socket_id IS NULL THEN coalesce(m.samples, e.samples)
                WHEN :socket_id IS NULL THEN coalesce(
                    (SELECT x.samples FROM open_counts AS x WHERE x.socket_id = k.socket_id),
                    e.samples)
                -- Of one the rows are walked back: that is less than a look at those of all.
                ELSE (
                    WITH RECURSIVE chain AS (
                        SELECT s.snapshot_id, s.previous_snapshot_id FROM samples AS s
                        WHERE s.snapshot_id = o.snapshot_id AND s.socket_id = k.socket_id
                        UNION ALL
                        SELECT s.snapshot_id, s.previous_snapshot_id FROM chain AS c
                        JOIN samples AS s ON s.snapshot_id = c.previous_snapshot_id
                            AND s.socket_id = k.socket_id
                        WHERE s.snapshot_id < c.snapshot_id
                    )
                    SELECT count(*) FROM chain
                )
            END AS samples,
            m.time_wait_snapshot_id AS time_wait_id,
            tw.ended_boottime_ns AS time_wait_seen_boottime_ns,
            half.is_so AS is_half,
            e.over_ns IS NULL AND m.socket_id IS NULL AND e.destroyed_at_ns IS NOT NULL
                AND (e.ending IS NULL OR e.ending IN (3, 11)) AS may_be_half_closed,
            coalesce(m.last_snapshot_id, o.last_snapshot_id) AS remains_last_id,
            m.gone_before_snapshot_id AS remains_gone_id
        FROM sockets AS k
        LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
        LEFT JOIN remains AS m ON m.socket_id = k.socket_id
        LEFT JOIN socket_ends AS pe ON pe.socket_id = k.peer_socket_id
        LEFT JOIN snapshots AS pg ON pg.snapshot_id = pe.closed_before_snapshot_id
        LEFT JOIN snapshots AS tw ON tw.snapshot_id = m.time_wait_snapshot_id
        -- What is left of it was in FIN-WAIT-2 first: its socket went before it was over.
        LEFT JOIN temp.truth AS half ON half.is_so = CASE
            WHEN m.socket_id IS NULL OR e.evidence = 'closed' THEN 0
            ELSE m.time_wait_snapshot_id IS NOT m.first_snapshot_id END
        LEFT JOIN still_open AS o ON o.socket_id = k.socket_id
        LEFT JOIN snapshots AS first ON first.snapshot_id = k.first_snapshot_id
        LEFT JOIN snapshots AS told ON told.snapshot_id =
            CASE WHEN k.first_snapshot_id IS NULL THEN e.destroyed_snapshot_id END
        LEFT JOIN capture_sources AS fs ON fs.capture_id = first.capture_id
        LEFT JOIN snapshots AS before ON before.snapshot_id = k.opened_after_snapshot_id
        LEFT JOIN snapshots AS last ON last.snapshot_id =
            CASE WHEN e.socket_id IS NULL THEN o.last_snapshot_id
                WHEN NOT half.is_so THEN e.last_snapshot_id
                WHEN m.time_wait_snapshot_id IS NULL
                    THEN coalesce(m.last_snapshot_id, o.last_snapshot_id)
                -- The last one that showed it before its TIME-WAIT.
                ELSE coalesce((
                    SELECT d.snapshot_id FROM complete_dumps AS d
                    JOIN scopes AS sc ON sc.scope_id = d.scope_id AND sc.netns_id = k.netns_id
                        AND sc.family = k.family AND sc.protocol = k.protocol
                    WHERE d.snapshot_id > m.first_snapshot_id
                        AND d.snapshot_id < m.time_wait_snapshot_id
                        AND NOT EXISTS (SELECT 1 FROM missing_sockets AS x
                            WHERE x.snapshot_id = d.snapshot_id AND x.socket_id = k.socket_id)
                    ORDER BY d.snapshot_id DESC LIMIT 1
                ), m.first_snapshot_id) END
        LEFT JOIN capture_sources AS os ON os.capture_id = last.capture_id
        LEFT JOIN snapshots AS gone ON gone.snapshot_id =
            CASE WHEN half.is_so THEN coalesce(m.time_wait_snapshot_id, m.gone_before_snapshot_id)
                ELSE e.closed_before_snapshot_id END
        -- What goes on without its socket may be ended by a restart, too.
        LEFT JOIN temp.truth AS other_boot ON other_boot.is_so = CASE
            WHEN half.is_so AND m.gone_before_snapshot_id IS NOT NULL AND EXISTS (
                SELECT 1 FROM captures AS c JOIN namespaces AS w ON w.netns_id = k.netns_id
                WHERE c.capture_id = gone.capture_id AND c.boot_id <> w.boot_id) THEN 1 END
        WHERE :is_ended IS NOT 1 OR e.socket_id IS NOT NULL
    ),
    -- Of two bounds the tighter one, by boot time.
    choices AS (
        SELECT
            x.*,
            shown_boottime_ns IS NULL OR there_boottime_ns < shown_boottime_ns AS is_opening_by_event,
            active_boottime_ns > coalesce(last_boottime_ns, active_boottime_ns - 1)
                AS is_active_by_event,
            CASE WHEN is_peer_by_dump THEN peer_gone_at_ns ELSE peer_destroyed_at_ns END
                AS peer_ended_at_ns,
            CASE WHEN is_peer_by_dump THEN peer_gone_boottime_ns ELSE peer_destroyed_boottime_ns END
                AS peer_ended_boottime_ns,
            CASE WHEN is_peer_by_dump THEN 'peer_dump' ELSE 'peer_destroy_event' END AS peer_evidence,
            by_event.is_so AS is_closing_by_event
        FROM facts AS x
        LEFT JOIN temp.truth AS by_event ON by_event.is_so = CASE
            WHEN is_half OR may_be_half_closed THEN 0
            WHEN gone_at_ns IS NULL THEN 1
            ELSE destroyed_boottime_ns + coalesce(over_ns, 0) <= gone_boottime_ns END
    ),
    bounds AS (
        SELECT
            x.*,
            CASE WHEN is_opening_by_event THEN there_at_ns ELSE shown_at_ns END AS there_by_at_ns,
            CASE WHEN is_opening_by_event THEN there_boottime_ns ELSE shown_boottime_ns END
                AS there_by_boottime_ns,
            coalesce(CASE WHEN is_active_by_event THEN active_at_ns ELSE last_started_at_ns END,
                before_at_ns) AS closed_after_ns,
            coalesce(
                CASE WHEN is_active_by_event THEN active_boottime_ns ELSE last_boottime_ns END,
                before_boottime_ns
            ) AS closed_after_boottime_ns,
            CASE WHEN is_closing_by_event THEN destroyed_at_ns + coalesce(over_ns, 0)
                ELSE gone_at_ns END
                AS closed_before_ns,
            CASE WHEN is_closing_by_event THEN destroyed_boottime_ns + coalesce(over_ns, 0)
                ELSE gone_boottime_ns END
                AS closed_before_boottime_ns
        FROM choices AS x
    ),
    -- A connection whose other end was aborted is over, whoever still holds its socket. One of which a
    -- FIN was acknowledged goes on until the other end closes, or is aborted.
    closings AS (
        SELECT
            x.*,
            by_peer.is_so AS is_closing_by_peer
        FROM bounds AS x
        LEFT JOIN temp.truth AS by_peer ON by_peer.is_so = CASE
            WHEN NOT coalesce(is_told_by_peer, 0) THEN 0
            WHEN ending <> 4 AND is_closing_by_event
                AND peer_ended_boottime_ns > closed_before_boottime_ns THEN 1
            ELSE coalesce(NOT is_peer_orderly
                AND peer_ended_boottime_ns BETWEEN closed_after_boottime_ns AND
                coalesce(closed_before_boottime_ns, peer_ended_boottime_ns + 1) - 1, 0) END
    ),
    lives AS (
        SELECT
            x.*,
            by_time_wait.is_so AS is_closing_by_time_wait
        FROM closings AS x
        -- Without the other end's event or a look-up the TIME-WAIT tells until when it went on.
        LEFT JOIN temp.truth AS by_time_wait ON by_time_wait.is_so = CASE
            WHEN NOT is_closing_by_event OR time_wait_boottime_ns IS NULL THEN 0
            WHEN is_closing_by_peer THEN time_wait_boottime_ns < peer_ended_boottime_ns
            WHEN is_peer_orderly IS NOT 1 AND over_ns IS NULL THEN 1
            ELSE time_wait_boottime_ns < closed_before_boottime_ns END
    )
SELECT
    k.socket_id,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    hc.host_name,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    coalesce(k.addresses_inferred, 0) AS addresses_inferred,
    k.interface,
    k.mark,
    k.cgroup_id,
    w.pid,
    w.comm,
    w.exe,
    w.command_line,
    w.user,
    -- One holder is the usual case, and answered without sorting.
    CASE
        WHEN w.process_id IS NULL THEN NULL
        WHEN only.process_id IS NOT NULL
            THEN coalesce(w.comm, '?') || '[' || w.pid || ']'
        ELSE (
            SELECT group_concat(h.name) FROM (
                SELECT coalesce(p.comm, '?') || '[' || p.pid || ']' AS name
                FROM socket_owners AS o
                JOIN processes AS p ON p.process_id = o.process_id
                WHERE o.socket_id = k.socket_id
                GROUP BY o.process_id
                ORDER BY min(o.first_snapshot_id), o.process_id
            ) AS h
        )
    END AS owners,
    CASE
        WHEN w.process_id IS NULL THEN NULL
        WHEN only.process_id IS NOT NULL THEN 1
        ELSE (
            SELECT count(*) FROM (
                SELECT DISTINCT o.process_id FROM socket_owners AS o
                WHERE o.socket_id = k.socket_id
            )
        )
    END AS owner_count,
    coalesce(cg.path, w.cgroup) AS cgroup,
    coalesce(cg.unit, w.unit) AS unit,
    coalesce(cg.container, w.container) AS container,
    og.direction,
    og.evidence AS direction_evidence,
    coalesce(st.name, 'STATE-' || CASE WHEN k.is_ended THEN k.last_state ELSE r.state END) AS state,
    k.first_at_ns AS first_seen_at_ns,
    k.last_ended_at_ns AS last_seen_at_ns,
    k.before_at_ns AS opened_after_ns,
    -- What was first seen in TIME-WAIT had begun before that.
    min(k.there_by_at_ns, coalesce(k.closed_before_ns, k.there_by_at_ns)) AS opened_before_ns,
    CASE
        WHEN k.is_cut_before AND k.first_snapshot_id = begun.snapshot_id THEN 'extract_start'
        WHEN og.evidence IN ('syn_sent', 'syn_recv') THEN og.evidence
        WHEN k.first_snapshot_id IS NULL THEN 'event'
        WHEN k.opened_after_snapshot_id IS NOT NULL THEN 'snapshot'
        WHEN k.first_snapshot_id = begun.snapshot_id THEN 'recording_start'
    END AS opened_evidence,
    k.closed_after_ns,
    CASE WHEN k.is_closing_by_time_wait THEN k.time_wait_at_ns
        WHEN k.is_closing_by_peer THEN k.peer_ended_at_ns
        WHEN NOT k.is_peer_open THEN k.closed_before_ns END AS closed_before_ns,
    CASE
        WHEN k.is_closing_by_time_wait THEN 'time_wait'
        WHEN k.is_closing_by_peer THEN k.peer_evidence
        WHEN k.is_peer_open THEN NULL
        WHEN k.is_closing_by_event AND k.destroyed_at_ns IS NOT NULL
            THEN CASE WHEN k.over_ns > 0 THEN 'look_up' ELSE 'destroy_event' END
        WHEN k.is_ended AND k.dump_evidence IS NOT NULL THEN k.dump_evidence
        WHEN k.is_cut_after THEN 'extract_end'
        WHEN k.is_capture_over OR (k.may_be_half_closed AND (
            SELECT dc.ended_at_ns IS NOT NULL FROM snapshots AS ds
            JOIN captures AS dc ON dc.capture_id = ds.capture_id
            WHERE ds.snapshot_id = e.destroyed_snapshot_id)) THEN 'recording_end'
    END AS closed_evidence,
    k.destroyed_at_ns,
    en.name AS ending,
    en.evidence AS ending_evidence,
    max(0, k.closed_after_boottime_ns - min(k.there_by_boottime_ns,
        coalesce(k.closed_before_boottime_ns, k.there_by_boottime_ns))) AS duration_min_ns,
    CASE WHEN k.is_closing_by_time_wait THEN k.time_wait_boottime_ns
        WHEN k.is_closing_by_peer THEN k.peer_ended_boottime_ns
        WHEN NOT k.is_peer_open THEN k.closed_before_boottime_ns END - k.before_boottime_ns
        AS duration_max_ns,
    CASE WHEN k.dump_evidence IS NOT 'closed' THEN
        max(0, ml.started_boottime_ns - k.time_wait_seen_boottime_ns) END AS time_wait_min_ns,
    CASE WHEN k.time_wait_id NOT NULL AND k.dump_evidence IS NOT 'closed'
            AND mc.boot_id = ns.boot_id THEN
        mg.ended_boottime_ns - k.closed_after_boottime_ns END AS time_wait_max_ns,
    k.peer_socket_id,
    CASE WHEN k.is_ended THEN e.rtt_us ELSE q.rtt_us END AS rtt_us,
    CASE WHEN k.is_ended THEN e.rttvar_us ELSE q.rttvar_us END AS rttvar_us,
    CASE WHEN k.is_ended THEN e.min_rtt_us ELSE c.min_rtt_us END AS min_rtt_us,
    CASE WHEN k.is_ended THEN e.bytes_sent ELSE q.bytes_sent END AS bytes_sent,
    CASE WHEN k.is_ended THEN e.bytes_retrans ELSE c.bytes_retrans END AS bytes_retrans,
    CASE WHEN k.is_ended THEN e.bytes_acked ELSE q.bytes_acked END AS bytes_acked,
    CASE WHEN k.is_ended THEN e.bytes_received ELSE q.bytes_received END AS bytes_received,
    CASE WHEN k.is_ended THEN e.segs_out ELSE q.segs_out END AS segs_out,
    CASE WHEN k.is_ended THEN e.segs_in ELSE q.segs_in END AS segs_in,
    CASE WHEN k.is_ended THEN e.data_segs_out ELSE q.data_segs_out END AS data_segs_out,
    CASE WHEN k.is_ended THEN e.data_segs_in ELSE q.data_segs_in END AS data_segs_in,
    CASE WHEN k.is_ended THEN e.total_retrans ELSE c.total_retrans END AS total_retrans,
    CASE WHEN coalesce(e.rtt_us, e.bytes_acked, e.segs_out) IS NULL THEN NULL
        WHEN e.has_final_counters THEN 'destroy_event' ELSE 'snapshot' END AS counters_evidence,
    k.samples,
    (
        SELECT group_concat(DISTINCT b.kind) FROM blind AS b
        WHERE (b.family IS NULL OR (b.family = k.family AND b.protocol = k.protocol))
            AND ns.boot_id IN (b.from_boot_id, b.to_boot_id)
            AND (b.to_boot_id <> ns.boot_id OR b.to_boottime_ns >=
                coalesce(k.before_boottime_ns, k.first_boottime_ns, k.there_boottime_ns))
            AND (b.from_boot_id <> ns.boot_id OR k.dump_evidence IS 'host_restart'
                OR (b.kind = 'events_lost' AND b.capture_id = k.untold_capture_id)
                OR b.from_boottime_ns <= coalesce(
                    k.closed_before_boottime_ns, k.last_ended_boottime_ns))
    ) AS gaps
FROM lives AS k
LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
LEFT JOIN samples AS r ON r.snapshot_id = k.open_snapshot_id AND r.socket_id = k.socket_id
LEFT JOIN samples AS q ON q.snapshot_id = k.counted_snapshot_id AND q.socket_id = k.socket_id
LEFT JOIN snapshots AS qn ON qn.snapshot_id = k.counted_snapshot_id
LEFT JOIN conditions AS c ON c.group_id = qn.group_id AND c.condition_id = q.condition_id
LEFT JOIN snapshots AS ml ON ml.snapshot_id = k.remains_last_id
LEFT JOIN snapshots AS mg ON mg.snapshot_id = k.remains_gone_id
LEFT JOIN captures AS hc ON hc.capture_id = k.capture_id
LEFT JOIN captures AS mc ON mc.capture_id = mg.capture_id
LEFT JOIN namespaces AS ns ON ns.netns_id = k.netns_id
LEFT JOIN cgroups AS cg ON cg.boot_id = ns.boot_id AND cg.cgroup_id = k.cgroup_id
-- The first owner. The only one is joined: a look-up of its own would open the table anew for each.
LEFT JOIN socket_owners AS only ON only.socket_id = CASE
    WHEN :without_owners IS NOT 1 AND k.socket_id NOT IN (SELECT s.socket_id FROM held_often AS s)
        THEN k.socket_id END
LEFT JOIN processes AS w ON w.process_id = coalesce(only.process_id,
    CASE WHEN k.socket_id IN (SELECT s.socket_id FROM held_often AS s) THEN (
        SELECT o.process_id FROM socket_owners AS o WHERE o.socket_id = k.socket_id
        ORDER BY o.first_snapshot_id, o.process_id LIMIT 1
    ) END)
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
LEFT JOIN states AS st ON st.state = CASE WHEN k.is_ended THEN k.last_state ELSE r.state END
LEFT JOIN origins AS og ON og.origin = k.origin
LEFT JOIN endings AS en ON en.ending = k.ending
LEFT JOIN first_snapshots AS begun ON begun.capture_id = k.capture_id
ORDER BY k.socket_id
