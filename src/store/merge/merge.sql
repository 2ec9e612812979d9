-- Takes the recording `src` over into one that is made of several. What was taken from others before it is
-- filled in, never changed: an earlier part knows the start of a life, a later one its end.
--
-- temp.places: by capture of `src` its new numbers, see plan.rs.
-- temp.snaps: every snapshot of `src` with its new number, and whether it is taken from here.
-- temp.names: every socket of `src` with its new number. temp.boot_names, temp.netns_names: see
-- names.sql.

CREATE TEMP VIEW scope_pairs AS
SELECT o.scope_id AS old_id, n.scope_id AS new_id
FROM src.scopes AS o
JOIN netns_names AS w ON w.old_id = o.netns_id
JOIN main.scopes AS n ON n.netns_id = w.new_id AND n.family = o.family AND n.protocol = o.protocol
    AND n.states IS o.states AND n.filter IS o.filter;
INSERT INTO main.scopes (netns_id, family, protocol, states, filter)
SELECT w.new_id, o.family, o.protocol, o.states, o.filter
FROM src.scopes AS o
JOIN netns_names AS w ON w.old_id = o.netns_id
WHERE o.scope_id NOT IN (SELECT old_id FROM scope_pairs);
CREATE TEMP TABLE scope_names AS SELECT * FROM scope_pairs;
DROP VIEW temp.scope_pairs;

CREATE TEMP VIEW process_pairs AS
SELECT o.process_id AS old_id, n.process_id AS new_id
FROM src.processes AS o
JOIN boot_names AS b ON b.old_id = o.boot_id
JOIN main.processes AS n
    ON n.boot_id = b.new_id AND n.pid = o.pid AND n.started_ticks = o.started_ticks;
INSERT INTO main.processes (boot_id, pid, started_ticks, started_at_ns, comm, exe, command_line, uid,
    user, cgroup, unit, container)
SELECT b.new_id, o.pid, o.started_ticks, o.started_at_ns, o.comm, o.exe, o.command_line, o.uid, o.user,
    o.cgroup, o.unit, o.container
FROM src.processes AS o
JOIN boot_names AS b ON b.old_id = o.boot_id
WHERE o.process_id NOT IN (SELECT old_id FROM process_pairs)
ORDER BY o.process_id;
CREATE TEMP TABLE process_names AS SELECT * FROM process_pairs;
DROP VIEW temp.process_pairs;

INSERT OR IGNORE INTO main.cgroups
SELECT b.new_id, o.cgroup_id, o.path, o.unit, o.container
FROM src.cgroups AS o JOIN boot_names AS b ON b.old_id = o.boot_id;

-- A marker is the same if its name and start are; that of a longer part may have its end.
UPDATE main.markers AS n SET ended_at_ns = o.ended_at_ns, ended_boottime_ns = o.ended_boottime_ns
FROM src.markers AS o LEFT JOIN boot_names AS b ON b.old_id = o.boot_id
WHERE n.name = o.name AND n.is_span = o.is_span AND n.started_at_ns = o.started_at_ns
    AND n.boot_id IS b.new_id AND n.ended_at_ns IS NULL AND o.ended_at_ns IS NOT NULL;
INSERT INTO main.markers (name, is_span, boot_id, started_at_ns, started_boottime_ns, ended_at_ns,
    ended_boottime_ns)
SELECT o.name, o.is_span, b.new_id, o.started_at_ns, o.started_boottime_ns, o.ended_at_ns,
    o.ended_boottime_ns
FROM src.markers AS o LEFT JOIN boot_names AS b ON b.old_id = o.boot_id
WHERE NOT EXISTS (SELECT 1 FROM main.markers AS n
    WHERE n.name = o.name AND n.is_span = o.is_span AND n.started_at_ns = o.started_at_ns
        AND n.boot_id IS b.new_id)
ORDER BY o.marker_id;

INSERT INTO main.captures
SELECT p.new_id, c.uuid, p.previous_id, b.new_id, c.source, c.host_name, c.machine_id_hash,
    c.kernel_release, c.architecture, c.sockrec_version, c.options, c.interval_ns, c.started_at_ns,
    c.started_monotonic_ns, c.started_boottime_ns, c.ended_at_ns, c.ended_monotonic_ns,
    c.ended_boottime_ns, c.end_reason, c.missed_ticks
FROM src.captures AS c
JOIN places AS p ON p.old_id = c.capture_id
JOIN boot_names AS b ON b.old_id = c.boot_id
WHERE true ON CONFLICT (capture_id) DO UPDATE SET
    (ended_at_ns, ended_monotonic_ns, ended_boottime_ns, end_reason, missed_ticks) =
        (excluded.ended_at_ns, excluded.ended_monotonic_ns, excluded.ended_boottime_ns,
            excluded.end_reason, excluded.missed_ticks)
    WHERE ended_at_ns IS NULL OR (end_reason = 'lost' AND excluded.end_reason IS NOT NULL
        AND excluded.end_reason <> 'lost');

-- Of a capture that comes in parts each part knows the scopes that it saw, and until when if it saw that.
INSERT INTO main.capture_scopes
SELECT p.new_id, s.new_id, o.first_snapshot_id + p.snapshot_shift, o.last_snapshot_id + p.snapshot_shift
FROM src.capture_scopes AS o
JOIN places AS p ON p.old_id = o.capture_id
JOIN scope_names AS s ON s.old_id = o.scope_id
WHERE true ON CONFLICT (capture_id, scope_id) DO UPDATE SET
    first_snapshot_id = min(first_snapshot_id, excluded.first_snapshot_id),
    last_snapshot_id = coalesce(last_snapshot_id, excluded.last_snapshot_id);

INSERT OR IGNORE INTO main.groups
SELECT o.group_id + p.group_shift, p.new_id, x.new_id, NULL, o.encoding, o.thinned_to_ns,
    o.thinned_samples
FROM src.groups AS o
JOIN places AS p ON p.old_id = o.capture_id
JOIN snaps AS x ON x.old_id = o.first_snapshot_id;

-- One part may have been thinned, or more than another.
UPDATE main.groups AS n SET thinned_to_ns = o.thinned_to_ns, thinned_samples = o.thinned_samples
FROM src.groups AS o
JOIN places AS p ON p.old_id = o.capture_id
WHERE n.group_id = o.group_id + p.group_shift
    AND o.thinned_to_ns > coalesce(n.thinned_to_ns, 0);

INSERT INTO main.snapshots
SELECT x.new_id, p.new_id, o.group_id + p.group_shift, o.is_keyframe, o.started_at_ns, o.ended_at_ns,
    o.started_monotonic_ns, o.ended_monotonic_ns, o.started_boottime_ns, o.ended_boottime_ns,
    o.missed_ticks, o.sockets_seen, o.samples, o.events, o.events_unbound, o.events_unchosen,
    o.is_thinned
FROM src.snapshots AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
JOIN places AS p ON p.old_id = o.capture_id;

INSERT INTO main.refused_namespaces
SELECT p.new_id, o.name, o.first_snapshot_id + p.snapshot_shift, o.last_snapshot_id + p.snapshot_shift,
    o.errno, o.message
FROM src.refused_namespaces AS o
JOIN places AS p ON p.old_id = o.capture_id
WHERE true ON CONFLICT (capture_id, name, first_snapshot_id) DO UPDATE SET
    last_snapshot_id = coalesce(last_snapshot_id, excluded.last_snapshot_id);

INSERT INTO main.unasked_namespaces
SELECT x.new_id, w.new_id FROM src.unasked_namespaces AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
JOIN netns_names AS w ON w.old_id = o.netns_id;

INSERT INTO main.noted_exceptions (snapshot_id, kind, scope_id, errno, count, message)
SELECT x.new_id, o.kind, s.new_id, o.errno, o.count, o.message
FROM src.noted_exceptions AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
LEFT JOIN scope_names AS s ON s.old_id = o.scope_id
ORDER BY o.exception_id;

INSERT INTO main.event_losses (snapshot_id, started_at_ns, started_boottime_ns, ended_at_ns,
    ended_boottime_ns, count)
SELECT x.new_id, o.started_at_ns, o.started_boottime_ns, o.ended_at_ns, o.ended_boottime_ns, o.count
FROM src.event_losses AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
ORDER BY o.event_loss_id;

INSERT INTO main.clock_changes
SELECT x.new_id, o.kind, o.delta_ns FROM src.clock_changes AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken;

INSERT INTO main.sockets
SELECT m.new_id, w.new_id, k.cookie, k.generation, k.family, k.protocol, k.local_address, k.local_port,
    k.remote_address, k.remote_port, k.addresses_inferred, k.interface, k.inode, k.uid, k.cgroup_id,
    k.mark, f.new_id, o.new_id, k.open_ms, k.origin, p.new_id
FROM src.sockets AS k
JOIN names AS m ON m.old_id = k.socket_id
JOIN netns_names AS w ON w.old_id = k.netns_id
LEFT JOIN snaps AS f ON f.old_id = k.first_snapshot_id
LEFT JOIN snaps AS o ON o.old_id = k.opened_after_snapshot_id
LEFT JOIN names AS p ON p.old_id = k.peer_socket_id
WHERE true ON CONFLICT (socket_id) DO UPDATE SET
    interface = coalesce(interface, excluded.interface),
    inode = coalesce(inode, excluded.inode),
    uid = coalesce(uid, excluded.uid),
    cgroup_id = coalesce(cgroup_id, excluded.cgroup_id),
    mark = coalesce(mark, excluded.mark),
    first_snapshot_id = coalesce(
        min(first_snapshot_id, excluded.first_snapshot_id), first_snapshot_id,
        excluded.first_snapshot_id),
    opened_after_snapshot_id = coalesce(opened_after_snapshot_id, excluded.opened_after_snapshot_id),
    -- It is told of the first of them.
    open_ms = CASE
        WHEN first_snapshot_id <= coalesce(excluded.first_snapshot_id, first_snapshot_id) THEN open_ms
        ELSE excluded.open_ms END,
    origin = coalesce(origin, excluded.origin),
    peer_socket_id = coalesce(peer_socket_id, excluded.peer_socket_id);

INSERT INTO main.socket_ends
SELECT m.new_id, l.new_id, c.new_id, s.new_id, e.evidence, e.samples, e.state, e.ending, d.new_id,
    e.destroyed_at_ns, e.destroyed_boottime_ns, e.idle_ms, e.open_ms, e.over_ns,
    e.has_final_counters, e.rtt_us, e.rttvar_us, e.min_rtt_us, e.bytes_sent, e.bytes_retrans, e.bytes_acked, e.bytes_received, e.segs_out, e.segs_in,
    e.data_segs_out, e.data_segs_in, e.total_retrans
FROM src.socket_ends AS e
JOIN names AS m ON m.old_id = e.socket_id
LEFT JOIN snaps AS l ON l.old_id = e.last_snapshot_id
LEFT JOIN snaps AS c ON c.old_id = e.closed_before_snapshot_id
LEFT JOIN snaps AS s ON s.old_id = e.last_sample_snapshot_id
LEFT JOIN snaps AS d ON d.old_id = e.destroyed_snapshot_id
WHERE true ON CONFLICT (socket_id) DO UPDATE SET
    last_snapshot_id = coalesce(last_snapshot_id, excluded.last_snapshot_id),
    -- A part that began later puts it at its start.
    closed_before_snapshot_id = coalesce(
        min(closed_before_snapshot_id, excluded.closed_before_snapshot_id),
        closed_before_snapshot_id, excluded.closed_before_snapshot_id),
    evidence = CASE
        WHEN excluded.closed_before_snapshot_id < closed_before_snapshot_id THEN excluded.evidence
        ELSE coalesce(evidence, excluded.evidence) END,
    last_sample_snapshot_id = coalesce(last_sample_snapshot_id, excluded.last_sample_snapshot_id),
    state = coalesce(state, excluded.state),
    ending = coalesce(ending, excluded.ending),
    destroyed_snapshot_id = coalesce(destroyed_snapshot_id, excluded.destroyed_snapshot_id),
    destroyed_at_ns = coalesce(destroyed_at_ns, excluded.destroyed_at_ns),
    destroyed_boottime_ns = coalesce(destroyed_boottime_ns, excluded.destroyed_boottime_ns),
    idle_ms = coalesce(idle_ms, excluded.idle_ms),
    open_ms = coalesce(open_ms, excluded.open_ms),
    over_ns = coalesce(over_ns, excluded.over_ns),
    has_final_counters = CASE WHEN coalesce(rtt_us, bytes_acked, segs_out) IS NULL
        THEN excluded.has_final_counters ELSE has_final_counters END,
    rtt_us = coalesce(rtt_us, excluded.rtt_us),
    rttvar_us = coalesce(rttvar_us, excluded.rttvar_us),
    min_rtt_us = coalesce(min_rtt_us, excluded.min_rtt_us),
    bytes_sent = coalesce(bytes_sent, excluded.bytes_sent),
    bytes_retrans = coalesce(bytes_retrans, excluded.bytes_retrans),
    bytes_acked = coalesce(bytes_acked, excluded.bytes_acked),
    bytes_received = coalesce(bytes_received, excluded.bytes_received),
    segs_out = coalesce(segs_out, excluded.segs_out),
    segs_in = coalesce(segs_in, excluded.segs_in),
    data_segs_out = coalesce(data_segs_out, excluded.data_segs_out),
    data_segs_in = coalesce(data_segs_in, excluded.data_segs_in),
    total_retrans = coalesce(total_retrans, excluded.total_retrans);

INSERT INTO main.remains
SELECT m.new_id, o.cookie, f.new_id, t.new_id, o.time_wait_ms, l.new_id, g.new_id, s.new_id, o.samples
FROM src.remains AS o
JOIN names AS m ON m.old_id = o.socket_id
JOIN snaps AS f ON f.old_id = o.first_snapshot_id
LEFT JOIN snaps AS t ON t.old_id = o.time_wait_snapshot_id
LEFT JOIN snaps AS l ON l.old_id = o.last_snapshot_id
LEFT JOIN snaps AS g ON g.old_id = o.gone_before_snapshot_id
LEFT JOIN snaps AS s ON s.old_id = o.last_sample_snapshot_id
WHERE true ON CONFLICT (socket_id) DO UPDATE SET
    first_snapshot_id = min(first_snapshot_id, excluded.first_snapshot_id),
    time_wait_snapshot_id = coalesce(
        min(time_wait_snapshot_id, excluded.time_wait_snapshot_id), time_wait_snapshot_id,
        excluded.time_wait_snapshot_id),
    time_wait_ms = CASE WHEN coalesce(excluded.time_wait_snapshot_id >= time_wait_snapshot_id,
            excluded.time_wait_snapshot_id IS NULL)
        THEN time_wait_ms ELSE excluded.time_wait_ms END,
    last_snapshot_id = coalesce(last_snapshot_id, excluded.last_snapshot_id),
    gone_before_snapshot_id = coalesce(gone_before_snapshot_id, excluded.gone_before_snapshot_id),
    last_sample_snapshot_id = coalesce(last_sample_snapshot_id, excluded.last_sample_snapshot_id),
    samples = coalesce(samples, excluded.samples);

INSERT INTO main.samples
SELECT x.new_id, m.new_id, b.new_id, s.condition_id, s.setting_id, s.state, s.timer,
    s.timer_retransmits, s.timer_expires_at_ms, s.rqueue, s.wqueue, s.bytes_sent, s.bytes_acked,
    s.bytes_received, s.segs_out, s.segs_in, s.data_segs_out, s.data_segs_in, s.delivered,
    s.last_data_sent_at_ms, s.last_data_recv_at_ms, s.last_ack_recv_at_ms, s.rtt_us, s.rttvar_us,
    s.rto_us, s.ato_us, s.snd_wnd_bytes, s.rcv_wnd_bytes, s.rcv_ssthresh_bytes, s.busy_time_us
FROM snaps AS x
JOIN src.samples AS s ON s.snapshot_id = x.old_id
JOIN names AS m ON m.old_id = s.socket_id
LEFT JOIN snaps AS b ON b.old_id = s.previous_snapshot_id
WHERE x.is_taken;

INSERT INTO main.held_samples
SELECT x.new_id, m.new_id, b.new_id
FROM src.held_samples AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
JOIN names AS m ON m.old_id = o.socket_id
JOIN snaps AS b ON b.old_id = o.observed_snapshot_id;

INSERT INTO main.missing_sockets
SELECT x.new_id, m.new_id
FROM src.missing_sockets AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
JOIN names AS m ON m.old_id = o.socket_id;

INSERT INTO main.state_changes
SELECT x.new_id, m.new_id, o.from_state, o.to_state
FROM src.state_changes AS o
JOIN snaps AS x ON x.old_id = o.snapshot_id AND x.is_taken
JOIN names AS m ON m.old_id = o.socket_id;

-- Numbers of shared values are those of the recording in all of its parts.
CREATE TEMP TABLE group_names AS
SELECT o.group_id AS old_id, o.group_id + p.group_shift AS new_id
FROM src.groups AS o JOIN places AS p ON p.old_id = o.capture_id;
CREATE TEMP TABLE moved_conditions AS SELECT * FROM src.conditions;
UPDATE moved_conditions SET group_id = g.new_id FROM group_names AS g WHERE g.old_id = group_id;
INSERT OR IGNORE INTO main.conditions SELECT * FROM moved_conditions;
CREATE TEMP TABLE moved_settings AS SELECT * FROM src.settings;
UPDATE moved_settings SET group_id = g.new_id FROM group_names AS g WHERE g.old_id = group_id;
INSERT OR IGNORE INTO main.settings SELECT * FROM moved_settings;

CREATE TEMP TABLE owned AS
SELECT m.new_id AS socket_id, w.new_id AS process_id, f.new_id AS first_id, l.new_id AS last_id
FROM src.socket_owners AS o
JOIN names AS m ON m.old_id = o.socket_id
JOIN process_names AS w ON w.old_id = o.process_id
JOIN snaps AS f ON f.old_id = o.first_snapshot_id
LEFT JOIN snaps AS l ON l.old_id = o.last_snapshot_id;

-- What one part saw held at its end and another from its start is one ownership.
UPDATE main.socket_owners AS n SET
    first_snapshot_id = min(n.first_snapshot_id, o.first_id),
    last_snapshot_id = coalesce(n.last_snapshot_id, o.last_id)
FROM owned AS o
WHERE n.socket_id = o.socket_id AND n.process_id = o.process_id
    AND o.first_id <= coalesce(n.last_snapshot_id, o.first_id)
    AND n.first_snapshot_id <= coalesce(o.last_id, n.first_snapshot_id);
INSERT INTO main.socket_owners
SELECT o.socket_id, o.process_id, o.first_id, o.last_id FROM owned AS o
WHERE NOT EXISTS (SELECT 1 FROM main.socket_owners AS n
    WHERE n.socket_id = o.socket_id AND n.process_id = o.process_id
        AND o.first_id <= coalesce(n.last_snapshot_id, o.first_id)
        AND n.first_snapshot_id <= coalesce(o.last_id, n.first_snapshot_id));
