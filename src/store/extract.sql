-- Takes a span of one machine of `src` over into a new recording: what lies in it as it stands, what
-- reaches out of it as if recording had begun with its first snapshot and ended with its last.
--
-- temp.span: the first and last snapshot, and whether others come before and after it.
-- temp.taken: the snapshots.
-- What stands for all machines, or for several as sockets of imports of one boot do, is taken once.
-- temp.kept: the sockets, see KEPT in extract.rs.

INSERT INTO snapshots
SELECT * FROM src.snapshots WHERE snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT INTO groups
SELECT * FROM src.groups WHERE group_id IN (
    SELECT group_id FROM src.snapshots WHERE snapshot_id IN (SELECT snapshot_id FROM taken));
-- Whole groups come with their end; it is written anew, with the summaries.
UPDATE groups SET last_snapshot_id = NULL;

INSERT INTO captures
SELECT * FROM src.captures WHERE capture_id IN (
    SELECT capture_id FROM src.snapshots WHERE snapshot_id IN (SELECT snapshot_id FROM taken));

INSERT OR IGNORE INTO capture_scopes
SELECT c.capture_id, c.scope_id, c.first_snapshot_id,
    CASE WHEN c.last_snapshot_id < x.last_id THEN c.last_snapshot_id END
FROM span AS x, src.capture_scopes AS c
WHERE c.capture_id IN (SELECT capture_id FROM captures) AND c.first_snapshot_id <= x.last_id
    AND coalesce(c.last_snapshot_id, x.last_id) >= x.first_id;

INSERT OR IGNORE INTO scopes
SELECT * FROM src.scopes WHERE scope_id IN (SELECT scope_id FROM capture_scopes);

INSERT OR IGNORE INTO refused_namespaces
SELECT f.capture_id, f.name, f.first_snapshot_id,
    CASE WHEN f.last_snapshot_id < x.last_id THEN f.last_snapshot_id END, f.errno, f.message
FROM span AS x, src.refused_namespaces AS f
WHERE f.capture_id IN (SELECT capture_id FROM captures) AND f.first_snapshot_id <= x.last_id
    AND coalesce(f.last_snapshot_id, x.last_id) >= x.first_id;

INSERT INTO noted_exceptions
SELECT * FROM src.noted_exceptions WHERE snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT INTO unasked_namespaces
SELECT * FROM src.unasked_namespaces WHERE snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT INTO event_losses
SELECT * FROM src.event_losses WHERE snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT INTO clock_changes
SELECT * FROM src.clock_changes WHERE snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT OR IGNORE INTO sockets
SELECT k.socket_id, k.netns_id, k.cookie, k.generation, k.family, k.protocol, k.local_address,
    k.local_port, k.remote_address, k.remote_port, k.addresses_inferred, k.interface, k.inode, k.uid,
    k.cgroup_id, k.mark, t.first_id,
    CASE WHEN k.opened_after_snapshot_id >= x.first_id THEN k.opened_after_snapshot_id END,
    -- What was there before the span had been so for longer when it began.
    CASE WHEN t.first_id = k.first_snapshot_id THEN k.open_ms
        ELSE (n.started_boottime_ns - coalesce(f.started_boottime_ns - k.open_ms * 1000000,
            f.ended_boottime_ns)) / 1000000 END,
    k.origin,
    CASE WHEN k.peer_socket_id IN (SELECT socket_id FROM kept) THEN k.peer_socket_id END
FROM kept AS t, span AS x
JOIN src.sockets AS k ON k.socket_id = t.socket_id
LEFT JOIN src.snapshots AS f ON f.snapshot_id = k.first_snapshot_id
LEFT JOIN src.snapshots AS n ON n.snapshot_id = t.first_id;

INSERT OR IGNORE INTO namespaces
SELECT * FROM src.namespaces WHERE netns_id IN (
    SELECT netns_id FROM sockets UNION ALL SELECT netns_id FROM scopes
    UNION ALL SELECT netns_id FROM unasked_namespaces);

-- Spans that were never ended may go on.
INSERT OR IGNORE INTO markers
SELECT m.* FROM src.markers AS m, span AS x
WHERE (NOT x.is_cut_after OR m.started_at_ns <= (SELECT max(ended_at_ns) FROM snapshots))
    AND (NOT x.is_cut_before OR (m.is_span AND m.ended_at_ns IS NULL)
        OR coalesce(m.ended_at_ns, m.started_at_ns) >= (SELECT min(started_at_ns) FROM snapshots));

INSERT OR IGNORE INTO boots
SELECT * FROM src.boots WHERE boot_id IN (SELECT boot_id FROM namespaces
    UNION ALL SELECT boot_id FROM captures UNION ALL SELECT boot_id FROM markers);

-- An end is known here if the dumps prove it by the end of the span, or its event was read by then. Of
-- what an event ended before the span the first dump in it shows what is left. What went on half-closed
-- without its socket is not over because of the event.
INSERT OR IGNORE INTO socket_ends
SELECT e.socket_id,
    CASE WHEN e.last_snapshot_id >= x.first_id THEN e.last_snapshot_id END,
    CASE WHEN e.closed_before_snapshot_id <= x.last_id
            THEN max(e.closed_before_snapshot_id, x.first_id)
        WHEN e.destroyed_snapshot_id < x.first_id THEN max(m.first_snapshot_id, x.first_id) END,
    CASE WHEN e.last_snapshot_id >= x.first_id THEN e.last_sample_snapshot_id END,
    CASE WHEN e.closed_before_snapshot_id <= x.last_id
            OR (e.evidence = 'left_scope' AND e.last_snapshot_id BETWEEN x.first_id AND x.last_id - 1)
            THEN e.evidence
        WHEN e.destroyed_snapshot_id < x.first_id THEN 'time_wait' END,
    t.alive,
    CASE WHEN e.last_snapshot_id >= x.first_id THEN e.state END,
    e.ending,
    CASE WHEN d.is_told THEN e.destroyed_snapshot_id END,
    CASE WHEN d.is_told THEN e.destroyed_at_ns END,
    CASE WHEN d.is_told THEN e.destroyed_boottime_ns END,
    CASE WHEN d.is_told THEN e.idle_ms END,
    CASE WHEN d.is_told THEN e.open_ms END,
    CASE WHEN d.is_told THEN e.over_ns END,
    e.has_final_counters,
    e.rtt_us, e.rttvar_us, e.min_rtt_us, e.bytes_sent, e.bytes_retrans, e.bytes_acked,
    e.bytes_received, e.segs_out, e.segs_in, e.data_segs_out, e.data_segs_in, e.total_retrans
FROM kept AS t, span AS x
JOIN src.socket_ends AS e ON e.socket_id = t.socket_id
LEFT JOIN src.remains AS m ON m.socket_id = t.socket_id
JOIN (SELECT 0 AS is_told UNION ALL SELECT 1) AS d ON d.is_told =
    coalesce(e.destroyed_snapshot_id BETWEEN x.first_id AND x.last_id, 0)
WHERE (e.closed_before_snapshot_id <= x.last_id OR e.destroyed_snapshot_id <= x.last_id
        OR (e.closed_before_snapshot_id IS NULL AND e.evidence = 'left_scope'
            AND e.last_snapshot_id BETWEEN x.first_id AND x.last_id - 1))
    AND e.socket_id NOT IN (SELECT socket_id FROM half_closed);

-- What was in TIME-WAIT before the span had been so for longer when the span began.
INSERT OR IGNORE INTO remains
SELECT m.socket_id, m.cookie, max(m.first_snapshot_id, x.first_id),
    CASE WHEN m.time_wait_snapshot_id <= x.last_id
        THEN max(m.time_wait_snapshot_id, x.first_id) END,
    CASE WHEN m.time_wait_snapshot_id < x.first_id AND c.boot_id = f.boot_id THEN
            (n.started_boottime_ns - coalesce(w.started_boottime_ns - m.time_wait_ms * 1000000,
                w.ended_boottime_ns)) / 1000000
        WHEN m.time_wait_snapshot_id BETWEEN x.first_id AND x.last_id THEN m.time_wait_ms END,
    CASE WHEN g.is_gone THEN m.last_snapshot_id END,
    CASE WHEN g.is_gone THEN m.gone_before_snapshot_id END,
    CASE WHEN g.is_gone THEN m.last_sample_snapshot_id END,
    CASE WHEN g.is_gone THEN t.samples END
FROM kept AS t, span AS x
JOIN src.remains AS m ON m.socket_id = t.socket_id
JOIN (SELECT 0 AS is_gone UNION ALL SELECT 1) AS g ON g.is_gone =
    coalesce(m.gone_before_snapshot_id <= x.last_id, m.last_snapshot_id < x.last_id, 0)
JOIN src.snapshots AS n ON n.snapshot_id = x.first_id
JOIN src.captures AS f ON f.capture_id = n.capture_id
LEFT JOIN src.snapshots AS w ON w.snapshot_id = m.time_wait_snapshot_id
LEFT JOIN src.captures AS c ON c.capture_id = w.capture_id
WHERE m.first_snapshot_id <= x.last_id AND m.socket_id IN (SELECT socket_id FROM socket_ends);

INSERT INTO samples
SELECT s.* FROM taken AS n
JOIN src.samples AS s ON s.snapshot_id = n.snapshot_id
WHERE s.socket_id IN (SELECT socket_id FROM kept);
UPDATE samples SET previous_snapshot_id = NULL
WHERE previous_snapshot_id < (SELECT first_id FROM span)
    AND snapshot_id >= (SELECT first_id FROM span);

INSERT INTO held_samples
SELECT h.* FROM src.held_samples AS h JOIN samples USING (snapshot_id, socket_id)
WHERE h.snapshot_id IN (SELECT snapshot_id FROM taken);

INSERT INTO missing_sockets
SELECT * FROM src.missing_sockets
WHERE snapshot_id IN (SELECT snapshot_id FROM taken)
    AND socket_id IN (SELECT socket_id FROM kept);

-- A change needs the state before it.
INSERT INTO state_changes
SELECT c.* FROM taken AS n
JOIN src.state_changes AS c ON c.snapshot_id = n.snapshot_id
JOIN samples AS s ON s.snapshot_id = c.snapshot_id AND s.socket_id = c.socket_id
WHERE s.previous_snapshot_id IS NOT NULL;

CREATE TEMP TABLE used AS
SELECT DISTINCT n.group_id, s.condition_id, s.setting_id
FROM taken AS t
JOIN snapshots AS n ON n.snapshot_id = t.snapshot_id
JOIN samples AS s ON s.snapshot_id = t.snapshot_id;

INSERT INTO conditions
SELECT c.* FROM (SELECT DISTINCT group_id, condition_id FROM used) AS u
JOIN src.conditions AS c ON c.group_id = u.group_id AND c.condition_id = u.condition_id;

INSERT INTO settings
SELECT c.* FROM (SELECT DISTINCT group_id, setting_id FROM used) AS u
JOIN src.settings AS c ON c.group_id = u.group_id AND c.setting_id = u.setting_id;

INSERT OR IGNORE INTO socket_owners
SELECT o.socket_id, o.process_id, max(o.first_snapshot_id, x.first_id, coalesce(t.first_id, 0)),
    CASE WHEN o.last_snapshot_id <= x.last_id THEN o.last_snapshot_id END
FROM kept AS t, span AS x
JOIN src.socket_owners AS o ON o.socket_id = t.socket_id
WHERE o.first_snapshot_id <= x.last_id
    AND coalesce(o.last_snapshot_id >= max(x.first_id, coalesce(t.first_id, 0)), 1);

INSERT OR IGNORE INTO processes
SELECT * FROM src.processes WHERE process_id IN (SELECT process_id FROM socket_owners);

INSERT OR IGNORE INTO cgroups
SELECT * FROM src.cgroups AS c WHERE c.boot_id IN (SELECT boot_id FROM boots)
    AND c.cgroup_id IN (SELECT cgroup_id FROM sockets UNION ALL SELECT cgroup_id FROM settings);

UPDATE snapshots SET samples =
    (SELECT count(*) FROM samples AS s WHERE s.snapshot_id = snapshots.snapshot_id);
