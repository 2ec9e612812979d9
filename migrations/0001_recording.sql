-- Step 1: the recording, its captures and snapshots, the sockets and their samples.
-- Every table and column is described in docs/FORMAT.md.

-- What this file is.

CREATE TABLE recording (
    recording_id   INTEGER PRIMARY KEY CHECK (recording_id = 1),
    uuid           TEXT    NOT NULL,
    created_at_ns  INTEGER NOT NULL,
    created_by     TEXT    NOT NULL
) STRICT;

-- Names of the kernel's numbers. A number without a row here is kept all the same.

CREATE TABLE families (
    family  INTEGER PRIMARY KEY,
    name    TEXT NOT NULL
) STRICT;
INSERT INTO families (family, name) VALUES (2, 'inet'), (10, 'inet6');

CREATE TABLE protocols (
    protocol  INTEGER PRIMARY KEY,
    name      TEXT NOT NULL
) STRICT;
INSERT INTO protocols (protocol, name) VALUES (6, 'tcp'), (17, 'udp'), (255, 'raw'), (262, 'mptcp');

CREATE TABLE states (
    state  INTEGER PRIMARY KEY,
    name   TEXT NOT NULL
) STRICT;
INSERT INTO states (state, name) VALUES
    (1, 'ESTAB'), (2, 'SYN-SENT'), (3, 'SYN-RECV'), (4, 'FIN-WAIT-1'), (5, 'FIN-WAIT-2'),
    (6, 'TIME-WAIT'), (7, 'UNCONN'), (8, 'CLOSE-WAIT'), (9, 'LAST-ACK'), (10, 'LISTEN'),
    (11, 'CLOSING'), (12, 'NEW-SYN-RECV'), (13, 'BOUND-INACTIVE');

CREATE TABLE timers (
    timer  INTEGER PRIMARY KEY,
    name   TEXT NOT NULL
) STRICT;
INSERT INTO timers (timer, name) VALUES
    (0, 'off'), (1, 'on'), (2, 'keepalive'), (3, 'timewait'), (4, 'persist');

-- Who opened a connection and how it ended, each with what that rests on.

CREATE TABLE origins (
    origin     INTEGER PRIMARY KEY,
    direction  TEXT NOT NULL,
    evidence   TEXT NOT NULL
) STRICT;
INSERT INTO origins (origin, direction, evidence) VALUES
    (1, 'outbound', 'syn_sent'), (2, 'inbound', 'syn_recv'), (3, 'inbound', 'listener'),
    (4, 'outbound', 'remote_listener'), (5, 'outbound', 'syn_counted'),
    (6, 'inbound', 'syn_not_counted'), (7, 'outbound', 'peer'), (8, 'inbound', 'peer'),
    (9, 'outbound', 'nothing_received');

CREATE TABLE endings (
    ending    INTEGER PRIMARY KEY,
    name      TEXT,
    evidence  TEXT NOT NULL
) STRICT;
INSERT INTO endings (ending, name, evidence) VALUES
    (1, 'orderly', 'time_wait'), (2, 'orderly', 'both_fins'), (3, NULL, 'fin_acked'),
    (4, 'reset', 'fin_not_acked'), (5, 'reset', 'disconnected'), (6, 'reset', 'peer'),
    (7, 'timed_out', 'retransmits'), (8, 'timed_out', 'probes'),
    (9, 'not_established', 'nothing_received'), (10, NULL, 'request_vanished'),
    (11, NULL, 'half_closed');

-- Where and when was recorded.

CREATE TABLE boots (
    boot_id  INTEGER PRIMARY KEY,
    uuid     TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE namespaces (
    netns_id          INTEGER PRIMARY KEY,
    boot_id           INTEGER NOT NULL REFERENCES boots,
    netns_cookie      INTEGER,
    inode             INTEGER,
    name              TEXT,
    first_local_port  INTEGER,
    last_local_port   INTEGER
) STRICT;

CREATE TABLE captures (
    capture_id            INTEGER PRIMARY KEY,
    uuid                  TEXT    NOT NULL,
    previous_capture_id   INTEGER REFERENCES captures (capture_id),
    boot_id               INTEGER NOT NULL REFERENCES boots,
    source                TEXT    NOT NULL,
    host_name             TEXT,
    machine_id_hash       TEXT,
    kernel_release        TEXT,
    architecture          TEXT,
    sockrec_version       TEXT    NOT NULL,
    options               TEXT    NOT NULL,
    interval_ns           INTEGER,
    started_at_ns         INTEGER NOT NULL,
    started_monotonic_ns  INTEGER,
    started_boottime_ns   INTEGER,
    ended_at_ns           INTEGER,
    ended_monotonic_ns    INTEGER,
    ended_boottime_ns     INTEGER,
    end_reason            TEXT,
    missed_ticks          INTEGER,
    CHECK ((ended_at_ns IS NULL) = (end_reason IS NULL))
) STRICT;

-- Captures that were taken from other recordings: what was cut off, and how the numbers here come of
-- those there.
CREATE TABLE capture_sources (
    capture_id       INTEGER PRIMARY KEY REFERENCES captures,
    recording_uuid   TEXT    NOT NULL,
    taken_at_ns      INTEGER NOT NULL,
    is_cut_before    INTEGER NOT NULL,
    is_cut_after     INTEGER NOT NULL,
    selection        TEXT,
    capture_offset   INTEGER NOT NULL,
    group_offset     INTEGER NOT NULL,
    snapshot_offset  INTEGER NOT NULL,
    socket_offset    INTEGER NOT NULL
) STRICT;

CREATE TABLE scopes (
    scope_id  INTEGER PRIMARY KEY,
    netns_id  INTEGER NOT NULL REFERENCES namespaces,
    family    INTEGER NOT NULL,
    protocol  INTEGER NOT NULL,
    states    INTEGER,
    filter    TEXT,
    UNIQUE (netns_id, family, protocol, states, filter)
) STRICT;

-- What a capture asked for, and from which snapshot to which: namespaces come and go.
CREATE TABLE capture_scopes (
    capture_id         INTEGER NOT NULL REFERENCES captures,
    scope_id           INTEGER NOT NULL REFERENCES scopes,
    first_snapshot_id  INTEGER NOT NULL,
    last_snapshot_id   INTEGER,
    PRIMARY KEY (capture_id, scope_id)
) STRICT, WITHOUT ROWID;

-- Namespaces that were meant and could not be recorded, and from which snapshot to which.
CREATE TABLE refused_namespaces (
    capture_id         INTEGER NOT NULL REFERENCES captures,
    name               TEXT    NOT NULL,
    first_snapshot_id  INTEGER NOT NULL,
    last_snapshot_id   INTEGER,
    errno              INTEGER,
    message            TEXT,
    PRIMARY KEY (capture_id, name, first_snapshot_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
    group_id           INTEGER PRIMARY KEY,
    capture_id         INTEGER NOT NULL REFERENCES captures,
    first_snapshot_id  INTEGER NOT NULL,
    last_snapshot_id   INTEGER,
    encoding           TEXT    NOT NULL,
    thinned_to_ns      INTEGER,
    thinned_samples    INTEGER
) STRICT;

CREATE TABLE snapshots (
    snapshot_id           INTEGER PRIMARY KEY,
    capture_id            INTEGER NOT NULL REFERENCES captures,
    group_id              INTEGER REFERENCES groups,
    is_keyframe           INTEGER NOT NULL,
    started_at_ns         INTEGER NOT NULL,
    ended_at_ns           INTEGER NOT NULL,
    started_monotonic_ns  INTEGER,
    ended_monotonic_ns    INTEGER,
    started_boottime_ns   INTEGER,
    ended_boottime_ns     INTEGER,
    missed_ticks          INTEGER NOT NULL,
    sockets_seen          INTEGER NOT NULL,
    samples               INTEGER NOT NULL,
    events                INTEGER,
    events_unbound        INTEGER,
    events_unchosen       INTEGER,
    is_thinned            INTEGER NOT NULL
) STRICT;
CREATE INDEX snapshots_by_end ON snapshots (ended_at_ns);

-- What was dropped to keep within a limit: the first snapshots of a capture, perhaps all.
CREATE TABLE dropped_spans (
    capture_id           INTEGER PRIMARY KEY REFERENCES captures,
    first_snapshot_id    INTEGER NOT NULL REFERENCES snapshots (snapshot_id),
    last_snapshot_id     INTEGER NOT NULL REFERENCES snapshots (snapshot_id),
    started_at_ns        INTEGER NOT NULL,
    started_boottime_ns  INTEGER,
    ended_at_ns          INTEGER NOT NULL,
    ended_boottime_ns    INTEGER,
    snapshots            INTEGER NOT NULL,
    samples              INTEGER NOT NULL,
    dropped_at_ns        INTEGER NOT NULL
) STRICT;

CREATE TABLE noted_exceptions (
    exception_id  INTEGER PRIMARY KEY,
    snapshot_id   INTEGER NOT NULL REFERENCES snapshots,
    kind          TEXT    NOT NULL,
    scope_id      INTEGER REFERENCES scopes,
    errno         INTEGER,
    count         INTEGER,
    message       TEXT
) STRICT;
CREATE INDEX exceptions_by_snapshot ON noted_exceptions (snapshot_id, scope_id);

-- Namespaces that a snapshot passed over: of many there may be hundreds in each.
CREATE TABLE unasked_namespaces (
    snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    netns_id     INTEGER NOT NULL REFERENCES namespaces,
    PRIMARY KEY (snapshot_id, netns_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE missing_sockets (
    snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    socket_id    INTEGER NOT NULL REFERENCES sockets,
    PRIMARY KEY (snapshot_id, socket_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_losses (
    event_loss_id        INTEGER PRIMARY KEY,
    snapshot_id          INTEGER NOT NULL REFERENCES snapshots,
    started_at_ns        INTEGER NOT NULL,
    started_boottime_ns  INTEGER NOT NULL,
    ended_at_ns          INTEGER NOT NULL,
    ended_boottime_ns    INTEGER NOT NULL,
    count                INTEGER
) STRICT;

CREATE TABLE clock_changes (
    snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    kind         TEXT    NOT NULL,
    delta_ns     INTEGER NOT NULL,
    PRIMARY KEY (snapshot_id, kind)
) STRICT, WITHOUT ROWID;

-- Moments and spans that the user named.

CREATE TABLE markers (
    marker_id            INTEGER PRIMARY KEY,
    name                 TEXT    NOT NULL,
    is_span              INTEGER NOT NULL,
    boot_id              INTEGER REFERENCES boots,
    started_at_ns        INTEGER NOT NULL,
    started_boottime_ns  INTEGER,
    ended_at_ns          INTEGER,
    ended_boottime_ns    INTEGER
) STRICT;

-- The sockets and what became of them.

CREATE TABLE sockets (
    socket_id                 INTEGER PRIMARY KEY,
    netns_id                  INTEGER NOT NULL REFERENCES namespaces,
    cookie                    INTEGER NOT NULL,
    generation                INTEGER NOT NULL,
    family                    INTEGER NOT NULL,
    protocol                  INTEGER NOT NULL,
    local_address             TEXT,
    local_port                INTEGER NOT NULL,
    remote_address            TEXT    NOT NULL,
    remote_port               INTEGER,
    addresses_inferred        INTEGER,
    interface                 INTEGER,
    inode                     INTEGER,
    uid                       INTEGER,
    cgroup_id                 INTEGER,
    mark                      INTEGER,
    first_snapshot_id         INTEGER REFERENCES snapshots,
    opened_after_snapshot_id  INTEGER REFERENCES snapshots,
    open_ms                   INTEGER,
    origin                    INTEGER REFERENCES origins,
    peer_socket_id            INTEGER REFERENCES sockets (socket_id)
) STRICT;

CREATE TABLE socket_ends (
    socket_id                  INTEGER PRIMARY KEY REFERENCES sockets,
    last_snapshot_id           INTEGER REFERENCES snapshots,
    closed_before_snapshot_id  INTEGER REFERENCES snapshots,
    last_sample_snapshot_id    INTEGER REFERENCES snapshots,
    evidence                   TEXT,
    samples                    INTEGER NOT NULL,
    state                      INTEGER,
    ending                     INTEGER REFERENCES endings,
    destroyed_snapshot_id      INTEGER REFERENCES snapshots,
    destroyed_at_ns            INTEGER,
    destroyed_boottime_ns      INTEGER,
    idle_ms                    INTEGER,
    open_ms                    INTEGER,
    over_ns                    INTEGER,
    has_final_counters         INTEGER,
    rtt_us                     INTEGER,
    rttvar_us                  INTEGER,
    min_rtt_us                 INTEGER,
    bytes_sent                 INTEGER,
    bytes_retrans              INTEGER,
    bytes_acked                INTEGER,
    bytes_received             INTEGER,
    segs_out                   INTEGER,
    segs_in                    INTEGER,
    data_segs_out              INTEGER,
    data_segs_in               INTEGER,
    total_retrans              INTEGER
) STRICT;

CREATE TABLE remains (
    socket_id                INTEGER PRIMARY KEY REFERENCES sockets,
    cookie                   INTEGER,
    first_snapshot_id        INTEGER NOT NULL REFERENCES snapshots,
    time_wait_snapshot_id    INTEGER REFERENCES snapshots,
    time_wait_ms             INTEGER,
    last_snapshot_id         INTEGER REFERENCES snapshots,
    gone_before_snapshot_id  INTEGER REFERENCES snapshots,
    last_sample_snapshot_id  INTEGER REFERENCES snapshots,
    samples                  INTEGER
) STRICT;

CREATE TABLE state_changes (
    snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    socket_id    INTEGER NOT NULL REFERENCES sockets,
    from_state   INTEGER NOT NULL,
    to_state     INTEGER NOT NULL,
    PRIMARY KEY (snapshot_id, socket_id)
) STRICT, WITHOUT ROWID;

-- Who holds, or held, the sockets. Found out beside the dumps: between two snapshots.

CREATE TABLE processes (
    process_id     INTEGER PRIMARY KEY,
    boot_id        INTEGER NOT NULL REFERENCES boots,
    pid            INTEGER NOT NULL,
    started_ticks  INTEGER NOT NULL,
    started_at_ns  INTEGER,
    comm           TEXT,
    exe            TEXT,
    command_line   TEXT,
    uid            INTEGER,
    user           TEXT,
    cgroup         TEXT,
    unit           TEXT,
    container      TEXT
) STRICT;

CREATE TABLE socket_owners (
    socket_id          INTEGER NOT NULL REFERENCES sockets,
    process_id         INTEGER NOT NULL REFERENCES processes,
    first_snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    last_snapshot_id   INTEGER REFERENCES snapshots,
    PRIMARY KEY (socket_id, process_id, first_snapshot_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE cgroups (
    boot_id    INTEGER NOT NULL REFERENCES boots,
    cgroup_id  INTEGER NOT NULL,
    path       TEXT    NOT NULL,
    unit       TEXT,
    container  TEXT,
    PRIMARY KEY (boot_id, cgroup_id)
) STRICT, WITHOUT ROWID;

-- The samples: a row only when something changed. What changes often stands in
-- `samples`; what changes seldom is shared by value within a group.

CREATE TABLE samples (
    snapshot_id           INTEGER NOT NULL REFERENCES snapshots,
    socket_id             INTEGER NOT NULL REFERENCES sockets,
    previous_snapshot_id  INTEGER,
    condition_id          INTEGER,
    setting_id            INTEGER,
    state                 INTEGER NOT NULL,
    timer                 INTEGER,
    timer_retransmits     INTEGER,
    timer_expires_at_ms   INTEGER,
    rqueue                INTEGER,
    wqueue                INTEGER,
    bytes_sent            INTEGER,
    bytes_acked           INTEGER,
    bytes_received        INTEGER,
    segs_out              INTEGER,
    segs_in               INTEGER,
    data_segs_out         INTEGER,
    data_segs_in          INTEGER,
    delivered             INTEGER,
    last_data_sent_at_ms  INTEGER,
    last_data_recv_at_ms  INTEGER,
    last_ack_recv_at_ms   INTEGER,
    rtt_us                INTEGER,
    rttvar_us             INTEGER,
    rto_us                INTEGER,
    ato_us                INTEGER,
    snd_wnd_bytes         INTEGER,
    rcv_wnd_bytes         INTEGER,
    rcv_ssthresh_bytes    INTEGER,
    busy_time_us          INTEGER,
    PRIMARY KEY (snapshot_id, socket_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE held_samples (
    snapshot_id           INTEGER NOT NULL REFERENCES snapshots,
    socket_id             INTEGER NOT NULL REFERENCES sockets,
    observed_snapshot_id  INTEGER NOT NULL REFERENCES snapshots,
    PRIMARY KEY (snapshot_id, socket_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE conditions (
    group_id                       INTEGER NOT NULL REFERENCES groups,
    condition_id                   INTEGER NOT NULL,
    ca_state                       INTEGER,
    retransmits                    INTEGER,
    probes                         INTEGER,
    backoff                        INTEGER,
    snd_mss_bytes                  INTEGER,
    rcv_mss_bytes                  INTEGER,
    unacked                        INTEGER,
    sacked                         INTEGER,
    lost                           INTEGER,
    retrans                        INTEGER,
    fackets                        INTEGER,
    snd_ssthresh                   INTEGER,
    snd_cwnd                       INTEGER,
    reordering                     INTEGER,
    rcv_rtt_us                     INTEGER,
    rcv_space_bytes                INTEGER,
    total_retrans                  INTEGER,
    pacing_rate_bytes_per_s        INTEGER,
    notsent_bytes                  INTEGER,
    min_rtt_us                     INTEGER,
    delivery_rate_bytes_per_s      INTEGER,
    delivery_rate_app_limited      INTEGER,
    rwnd_limited_us                INTEGER,
    sndbuf_limited_us              INTEGER,
    delivered_ce                   INTEGER,
    bytes_retrans                  INTEGER,
    dsack_dups                     INTEGER,
    reord_seen                     INTEGER,
    rcv_ooopack                    INTEGER,
    rehash                         INTEGER,
    total_rto                      INTEGER,
    total_rto_recoveries           INTEGER,
    total_rto_time_ms              INTEGER,
    received_ce                    INTEGER,
    delivered_e1_bytes             INTEGER,
    delivered_e0_bytes             INTEGER,
    delivered_ce_bytes             INTEGER,
    received_e1_bytes              INTEGER,
    received_e0_bytes              INTEGER,
    received_ce_bytes              INTEGER,
    sk_rmem_alloc_bytes            INTEGER,
    sk_wmem_alloc_bytes            INTEGER,
    sk_fwd_alloc_bytes             INTEGER,
    sk_wmem_queued_bytes           INTEGER,
    sk_optmem_bytes                INTEGER,
    sk_backlog_bytes               INTEGER,
    sk_drops                       INTEGER,
    vegas_enabled                  INTEGER,
    vegas_rtt_count                INTEGER,
    vegas_rtt_us                   INTEGER,
    vegas_min_rtt_us               INTEGER,
    dctcp_enabled                  INTEGER,
    dctcp_ce_state                 INTEGER,
    dctcp_alpha                    INTEGER,
    dctcp_ab_ecn_bytes             INTEGER,
    dctcp_ab_tot_bytes             INTEGER,
    bbr_bw_bytes_per_s             INTEGER,
    bbr_min_rtt_us                 INTEGER,
    bbr_pacing_gain                INTEGER,
    bbr_cwnd_gain                  INTEGER,
    mptcp_subflows                 INTEGER,
    mptcp_add_addr_signal          INTEGER,
    mptcp_add_addr_accepted        INTEGER,
    mptcp_write_seq                INTEGER,
    mptcp_snd_una                  INTEGER,
    mptcp_rcv_nxt                  INTEGER,
    mptcp_local_addr_used          INTEGER,
    mptcp_retransmits              INTEGER,
    mptcp_subflows_total           INTEGER,
    PRIMARY KEY (group_id, condition_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    group_id                    INTEGER NOT NULL REFERENCES groups,
    setting_id                  INTEGER NOT NULL,
    has_inode                   INTEGER,
    options                     INTEGER,
    snd_wscale                  INTEGER,
    rcv_wscale                  INTEGER,
    fastopen_client_fail        INTEGER,
    pmtu_bytes                  INTEGER,
    advmss_bytes                INTEGER,
    max_pacing_rate_bytes_per_s INTEGER,
    sk_rcvbuf_bytes             INTEGER,
    sk_sndbuf_bytes             INTEGER,
    congestion_control          TEXT,
    tos                         INTEGER,
    tclass                      INTEGER,
    class_id                    INTEGER,
    shutdown                    INTEGER,
    v6only                      INTEGER,
    socket_options              INTEGER,
    mark                        INTEGER,
    cgroup_id                   INTEGER,
    ulp                         TEXT,
    ulp_info                    BLOB,
    mptcp_flags                 INTEGER,
    mptcp_token                 INTEGER,
    mptcp_subflows_max          INTEGER,
    mptcp_add_addr_signal_max   INTEGER,
    mptcp_add_addr_accepted_max INTEGER,
    mptcp_local_addr_max        INTEGER,
    mptcp_csum_enabled          INTEGER,
    mptcp_endp_laminar_max      INTEGER,
    mptcp_endp_fullmesh_max     INTEGER,
    info_tail                   BLOB,
    unknown_attributes          BLOB,
    PRIMARY KEY (group_id, setting_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE group_sockets (
    group_id             INTEGER NOT NULL REFERENCES groups,
    socket_id            INTEGER NOT NULL REFERENCES sockets,
    first_snapshot_id    INTEGER NOT NULL,
    last_snapshot_id     INTEGER NOT NULL,
    samples              INTEGER NOT NULL,
    min_rtt_us           INTEGER,
    max_rtt_us           INTEGER,
    max_rqueue           INTEGER,
    max_wqueue           INTEGER,
    total_retrans        INTEGER,
    zero_window_samples  INTEGER,
    busy_time_us         INTEGER,
    rwnd_limited_us      INTEGER,
    sndbuf_limited_us    INTEGER,
    PRIMARY KEY (group_id, socket_id)
) STRICT, WITHOUT ROWID;

-- The snapshots that are there with all their rows. Of others only their times are left, for those facts
-- that rest on them.

CREATE VIEW held_snapshots AS
SELECT * FROM snapshots WHERE group_id IS NOT NULL;

-- What was not looked at, or not well, a row a scope.

CREATE VIEW exceptions AS
SELECT exception_id, snapshot_id, kind, scope_id, errno, count, message FROM noted_exceptions
UNION ALL
SELECT NULL, u.snapshot_id, 'not_asked', cs.scope_id, NULL, NULL, NULL
FROM unasked_namespaces AS u
JOIN snapshots AS n ON n.snapshot_id = u.snapshot_id AND n.group_id IS NOT NULL
JOIN capture_scopes AS cs ON cs.capture_id = n.capture_id
    AND u.snapshot_id BETWEEN cs.first_snapshot_id AND coalesce(cs.last_snapshot_id, u.snapshot_id)
JOIN scopes AS sc ON sc.scope_id = cs.scope_id AND sc.netns_id = u.netns_id;

-- Which dumps were complete: only these prove that a socket of their scope was not there.

CREATE VIEW complete_dumps AS
SELECT n.snapshot_id, cs.scope_id
FROM held_snapshots AS n
JOIN capture_scopes AS cs ON cs.capture_id = n.capture_id
WHERE n.snapshot_id BETWEEN cs.first_snapshot_id AND coalesce(cs.last_snapshot_id, n.snapshot_id)
    AND NOT EXISTS (
        SELECT 1 FROM noted_exceptions AS x
        WHERE x.snapshot_id = n.snapshot_id AND x.scope_id = cs.scope_id
            AND x.kind <> 'sockets_not_stored'
    )
    AND NOT EXISTS (
        SELECT 1 FROM unasked_namespaces AS u
        WHERE u.snapshot_id = n.snapshot_id
            AND u.netns_id = (SELECT sc.netns_id FROM scopes AS sc WHERE sc.scope_id = cs.scope_id)
    );

-- The first and last snapshot of each capture, and the last one before it on its machine.

CREATE VIEW capture_spans AS
WITH spans AS MATERIALIZED (
    SELECT g.capture_id, min(g.first_snapshot_id) AS first_snapshot_id,
        (SELECT max(n.snapshot_id) FROM snapshots AS n
         WHERE n.group_id = max(g.group_id) AND n.snapshot_id >= max(g.first_snapshot_id))
            AS last_snapshot_id
    FROM groups AS g GROUP BY g.capture_id
)
SELECT s.capture_id, s.first_snapshot_id, s.last_snapshot_id,
    coalesce(p.last_snapshot_id, d.last_snapshot_id) AS previous_snapshot_id
FROM spans AS s
JOIN captures AS c ON c.capture_id = s.capture_id
LEFT JOIN spans AS p ON p.capture_id = c.previous_capture_id
LEFT JOIN dropped_spans AS d ON d.capture_id = c.previous_capture_id;

-- The snapshots that ended earlier, by UTC, than the one before them on the same machine: after a step
-- of the clock, within a capture or between two.

CREATE VIEW utc_steps_back AS
SELECT snapshot_id, snapshot_id - 1 AS previous_snapshot_id
FROM clock_changes WHERE kind = 'step' AND delta_ns < 0
UNION
SELECT n.snapshot_id, p.snapshot_id
FROM capture_spans AS s
JOIN snapshots AS n ON n.snapshot_id = s.first_snapshot_id
JOIN snapshots AS p ON p.snapshot_id = s.previous_snapshot_id
WHERE n.ended_at_ns < p.ended_at_ns;

-- When was not looked, or not well: ticks that were missed, dumps that failed, events that were lost,
-- time between captures of a machine, steps of the clock and suspends, namespaces that could not be
-- recorded, and what was dropped or thinned since. Equal exceptions of snapshots in a row of one capture
-- are one gap.

CREATE VIEW gaps AS
WITH
    islands AS (
        SELECT x.snapshot_id, x.kind, x.scope_id, x.errno, x.count, x.message, n.capture_id,
            x.snapshot_id - row_number() OVER (
                PARTITION BY n.capture_id, x.kind, x.scope_id, x.errno, x.message
                ORDER BY x.snapshot_id
            ) AS island
        FROM noted_exceptions AS x
        JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
    ),
    -- Apart from the others: there may be hundreds a snapshot, and who does not ask for them need not wait.
    passed_over AS (
        SELECT capture_id, netns_id, min(snapshot_id) AS first_id, max(snapshot_id) AS last_id
        FROM (
            SELECT n.capture_id, u.netns_id, u.snapshot_id,
                u.snapshot_id - row_number() OVER (
                    PARTITION BY n.capture_id, u.netns_id ORDER BY u.snapshot_id) AS island
            FROM unasked_namespaces AS u
            JOIN snapshots AS n ON n.snapshot_id = u.snapshot_id AND n.group_id IS NOT NULL
        )
        GROUP BY capture_id, netns_id, island
    ),
    spans AS (
        -- What came since the snapshot before may not have been stored, or was not looked at.
        SELECT min(snapshot_id) - (kind IN ('sockets_not_stored', 'ticks_left_out')) AS first_id,
            max(snapshot_id) AS last_id, kind, scope_id, errno, message,
            count(DISTINCT snapshot_id) AS snapshots, sum(count) AS count, NULL AS delta_ns
        FROM islands
        GROUP BY capture_id, kind, scope_id, errno, message, island
        UNION ALL
        SELECT max(p.first_id, cs.first_snapshot_id),
            min(p.last_id, coalesce(cs.last_snapshot_id, p.last_id)), 'not_asked', cs.scope_id, NULL, NULL,
            min(p.last_id, coalesce(cs.last_snapshot_id, p.last_id))
                - max(p.first_id, cs.first_snapshot_id) + 1,
            NULL, NULL
        FROM passed_over AS p
        JOIN scopes AS sc ON sc.netns_id = p.netns_id
        JOIN capture_scopes AS cs ON cs.capture_id = p.capture_id AND cs.scope_id = sc.scope_id
            AND cs.first_snapshot_id <= p.last_id
            AND coalesce(cs.last_snapshot_id, p.first_id) >= p.first_id
        UNION ALL
        SELECT n.snapshot_id - 1, n.snapshot_id, 'ticks_missed', NULL, NULL, NULL, NULL,
            n.missed_ticks - n.left_out_ticks, NULL
        FROM (
            SELECT m.snapshot_id, m.missed_ticks, (
                SELECT coalesce(sum(x.count), 0) FROM exceptions AS x
                WHERE x.snapshot_id = m.snapshot_id AND x.kind = 'ticks_left_out') AS left_out_ticks
            FROM held_snapshots AS m WHERE m.missed_ticks > 0
        ) AS n WHERE n.missed_ticks > n.left_out_ticks
        UNION ALL
        SELECT previous_snapshot_id, first_snapshot_id, 'not_recording', NULL, NULL, NULL, NULL, NULL,
            NULL
        FROM capture_spans WHERE previous_snapshot_id IS NOT NULL
        UNION ALL
        SELECT snapshot_id - 1, snapshot_id, 'clock_' || kind, NULL, NULL, NULL, NULL, NULL, delta_ns
        FROM clock_changes
    )
SELECT s.kind, s.scope_id, s.first_id AS first_snapshot_id, s.last_id AS last_snapshot_id,
    CASE WHEN s.kind = 'not_recording' THEN a.ended_at_ns ELSE a.started_at_ns END AS from_ns,
    CASE WHEN s.kind = 'not_recording' THEN b.started_at_ns ELSE b.ended_at_ns END AS to_ns,
    CASE WHEN s.kind = 'not_recording' THEN a.ended_boottime_ns ELSE a.started_boottime_ns END
        AS from_boottime_ns,
    CASE WHEN s.kind = 'not_recording' THEN b.started_boottime_ns ELSE b.ended_boottime_ns END
        AS to_boottime_ns,
    s.snapshots, s.count, s.delta_ns, s.errno, s.message, c.host_name, NULL AS netns
FROM spans AS s
LEFT JOIN snapshots AS a ON a.snapshot_id = s.first_id
JOIN snapshots AS b ON b.snapshot_id = s.last_id
JOIN captures AS c ON c.capture_id = b.capture_id
UNION ALL
SELECT 'events_lost', NULL, l.snapshot_id, l.snapshot_id, l.started_at_ns, l.ended_at_ns,
    l.started_boottime_ns, l.ended_boottime_ns, NULL, l.count, NULL, NULL, NULL, c.host_name, NULL
FROM event_losses AS l
JOIN snapshots AS n ON n.snapshot_id = l.snapshot_id
JOIN captures AS c ON c.capture_id = n.capture_id
UNION ALL
SELECT 'dropped', NULL, d.first_snapshot_id, d.last_snapshot_id, d.started_at_ns, d.ended_at_ns,
    d.started_boottime_ns, d.ended_boottime_ns, d.snapshots, NULL, NULL, NULL, NULL, c.host_name, NULL
FROM dropped_spans AS d
JOIN captures AS c ON c.capture_id = d.capture_id
UNION ALL
SELECT 'thinned', NULL, t.first_id, t.last_id, a.started_at_ns, b.ended_at_ns, a.started_boottime_ns,
    b.ended_boottime_ns, t.last_id - t.first_id + 1, t.samples, t.thinned_to_ns, NULL, NULL, c.host_name,
    NULL
FROM (
    SELECT capture_id, thinned_to_ns, min(first_snapshot_id) AS first_id,
        max(last_snapshot_id) AS last_id, sum(thinned_samples) AS samples
    FROM (
        SELECT *, group_id - row_number() OVER (
            PARTITION BY capture_id, thinned_to_ns ORDER BY group_id) AS island
        FROM groups WHERE thinned_to_ns IS NOT NULL
    )
    GROUP BY capture_id, thinned_to_ns, island
) AS t
JOIN snapshots AS a ON a.snapshot_id = t.first_id
JOIN snapshots AS b ON b.snapshot_id = t.last_id
JOIN captures AS c ON c.capture_id = t.capture_id
UNION ALL
SELECT 'netns_refused', NULL, r.first_id, r.last_id, a.started_at_ns, b.ended_at_ns, a.started_boottime_ns,
    b.ended_boottime_ns, r.last_id - r.first_id + 1, NULL, NULL, r.errno, r.message, c.host_name, r.name
FROM (
    SELECT f.capture_id, f.name, f.errno, f.message,
        max(f.first_snapshot_id, s.first_snapshot_id) AS first_id,
        coalesce(f.last_snapshot_id, s.last_snapshot_id) AS last_id
    FROM refused_namespaces AS f JOIN capture_spans AS s ON s.capture_id = f.capture_id
) AS r
JOIN snapshots AS a ON a.snapshot_id = r.first_id
JOIN snapshots AS b ON b.snapshot_id = r.last_id
JOIN captures AS c ON c.capture_id = r.capture_id
WHERE r.first_id <= r.last_id;

-- Of the same the network namespaces that there was no time for, and the dumps of an import that nobody asked
-- for, those of snapshots in a row together: `gaps` has a row for each scope.

CREATE VIEW unasked_spans AS
WITH
    passed_over AS (
        SELECT n.capture_id, u.scope_id, n.snapshot_id, count(*) AS namespaces, min(u.netns_id) AS least,
            max(u.netns_id) AS most,
            n.snapshot_id - row_number() OVER (
                PARTITION BY n.capture_id, u.scope_id ORDER BY n.snapshot_id) AS island
        FROM (
            SELECT snapshot_id, netns_id, NULL AS scope_id FROM unasked_namespaces
            UNION ALL
            SELECT snapshot_id, NULL, scope_id FROM noted_exceptions WHERE kind = 'not_asked'
        ) AS u
        JOIN held_snapshots AS n ON n.snapshot_id = u.snapshot_id
        GROUP BY n.capture_id, u.scope_id, n.snapshot_id
    ),
    spans AS (
        SELECT capture_id, scope_id, min(snapshot_id) AS first_id, max(snapshot_id) AS last_id,
            count(*) AS snapshots, CASE WHEN scope_id IS NULL THEN sum(namespaces) END AS count,
            min(least) AS least, max(most) AS most, max(namespaces) AS namespaces
        FROM passed_over GROUP BY capture_id, scope_id, island
    )
SELECT 'not_asked' AS kind, s.scope_id, s.first_id AS first_snapshot_id, s.last_id AS last_snapshot_id,
    a.started_at_ns AS from_ns, b.ended_at_ns AS to_ns, s.snapshots, s.count,
    CASE WHEN s.least < s.most
        THEN 'up to ' || s.namespaces || ' network namespaces at a time' END AS message,
    c.host_name, coalesce(w.name, 'net:[' || w.inode || ']') AS netns
FROM spans AS s
-- In this order: whoever turns out to ask for none of it does not have it gathered.
CROSS JOIN snapshots AS a ON a.snapshot_id = s.first_id
JOIN snapshots AS b ON b.snapshot_id = s.last_id
JOIN captures AS c ON c.capture_id = s.capture_id
LEFT JOIN namespaces AS w ON w.netns_id = s.least AND s.least = s.most;

-- One row a sample, everything by name.

CREATE VIEW socket_samples AS
SELECT
    n.ended_at_ns AS taken_at_ns,
    s.snapshot_id,
    s.socket_id,
    n.is_keyframe,
    o.ended_at_ns AS observed_at_ns,
    k.cookie,
    k.generation,
    k.inode,
    k.uid,
    a.host_name,
    coalesce(w.name, 'net:[' || w.inode || ']') AS netns,
    coalesce(p.name, k.protocol) AS protocol,
    coalesce(f.name, k.family) AS family,
    k.local_address,
    k.local_port,
    k.remote_address,
    k.remote_port,
    k.interface,
    coalesce(st.name, 'STATE-' || s.state) AS state,
    CASE WHEN s.state <> 10 THEN s.rqueue END AS rqueue_bytes,
    CASE WHEN s.state <> 10 THEN s.wqueue END AS wqueue_bytes,
    CASE WHEN s.state = 10 THEN s.rqueue END AS backlog,
    CASE WHEN s.state = 10 THEN s.wqueue END AS backlog_limit,
    coalesce(t.name, 'timer-' || s.timer) AS timer,
    s.timer_retransmits,
    n.ended_at_ns + s.timer_expires_at_ms * 1000000 - n.ended_monotonic_ns AS timer_expires_at_ns,
    n.ended_at_ns + s.last_data_sent_at_ms * 1000000 - n.ended_monotonic_ns AS last_data_sent_at_ns,
    n.ended_at_ns + s.last_data_recv_at_ms * 1000000 - n.ended_monotonic_ns AS last_data_recv_at_ns,
    n.ended_at_ns + s.last_ack_recv_at_ms * 1000000 - n.ended_monotonic_ns AS last_ack_recv_at_ns,
    s.bytes_sent,
    s.bytes_acked,
    s.bytes_received,
    s.segs_out,
    s.segs_in,
    s.data_segs_out,
    s.data_segs_in,
    s.delivered,
    s.rtt_us,
    s.rttvar_us,
    s.rto_us,
    s.ato_us,
    s.snd_wnd_bytes,
    s.rcv_wnd_bytes,
    s.rcv_ssthresh_bytes,
    s.busy_time_us,
    c.ca_state,
    c.retransmits,
    c.probes,
    c.backoff,
    c.snd_mss_bytes,
    c.rcv_mss_bytes,
    c.unacked,
    c.sacked,
    c.lost,
    c.retrans,
    c.fackets,
    c.snd_ssthresh,
    c.snd_cwnd,
    c.reordering,
    c.rcv_rtt_us,
    c.rcv_space_bytes,
    c.total_retrans,
    c.pacing_rate_bytes_per_s,
    c.notsent_bytes,
    c.min_rtt_us,
    c.delivery_rate_bytes_per_s,
    c.delivery_rate_app_limited,
    c.rwnd_limited_us,
    c.sndbuf_limited_us,
    c.delivered_ce,
    c.bytes_retrans,
    c.dsack_dups,
    c.reord_seen,
    c.rcv_ooopack,
    c.rehash,
    c.total_rto,
    c.total_rto_recoveries,
    c.total_rto_time_ms,
    c.received_ce,
    c.delivered_e1_bytes,
    c.delivered_e0_bytes,
    c.delivered_ce_bytes,
    c.received_e1_bytes,
    c.received_e0_bytes,
    c.received_ce_bytes,
    c.sk_rmem_alloc_bytes,
    c.sk_wmem_alloc_bytes,
    c.sk_fwd_alloc_bytes,
    c.sk_wmem_queued_bytes,
    c.sk_optmem_bytes,
    c.sk_backlog_bytes,
    c.sk_drops,
    c.vegas_enabled,
    c.vegas_rtt_count,
    c.vegas_rtt_us,
    c.vegas_min_rtt_us,
    c.dctcp_enabled,
    c.dctcp_ce_state,
    c.dctcp_alpha,
    c.dctcp_ab_ecn_bytes,
    c.dctcp_ab_tot_bytes,
    c.bbr_bw_bytes_per_s,
    c.bbr_min_rtt_us,
    c.bbr_pacing_gain,
    c.bbr_cwnd_gain,
    c.mptcp_subflows,
    c.mptcp_add_addr_signal,
    c.mptcp_add_addr_accepted,
    c.mptcp_write_seq,
    c.mptcp_snd_una,
    c.mptcp_rcv_nxt,
    c.mptcp_local_addr_used,
    c.mptcp_retransmits,
    c.mptcp_subflows_total,
    g.mark,
    g.cgroup_id,
    g.has_inode,
    g.options,
    g.snd_wscale,
    g.rcv_wscale,
    g.fastopen_client_fail,
    g.pmtu_bytes,
    g.advmss_bytes,
    g.max_pacing_rate_bytes_per_s,
    g.sk_rcvbuf_bytes,
    g.sk_sndbuf_bytes,
    g.congestion_control,
    g.tos,
    g.tclass,
    g.class_id,
    g.shutdown,
    g.v6only,
    g.socket_options,
    g.ulp,
    g.ulp_info,
    g.mptcp_flags,
    g.mptcp_token,
    g.mptcp_subflows_max,
    g.mptcp_add_addr_signal_max,
    g.mptcp_add_addr_accepted_max,
    g.mptcp_local_addr_max,
    g.mptcp_csum_enabled,
    g.mptcp_endp_laminar_max,
    g.mptcp_endp_fullmesh_max,
    g.info_tail,
    g.unknown_attributes
FROM samples AS s
JOIN snapshots AS n ON n.snapshot_id = s.snapshot_id AND n.group_id IS NOT NULL
JOIN captures AS a ON a.capture_id = n.capture_id
JOIN sockets AS k ON k.socket_id = s.socket_id
LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = s.condition_id
LEFT JOIN settings AS g ON g.group_id = n.group_id AND g.setting_id = s.setting_id
LEFT JOIN held_samples AS h ON h.snapshot_id = s.snapshot_id AND h.socket_id = s.socket_id
LEFT JOIN snapshots AS o ON o.snapshot_id = coalesce(h.observed_snapshot_id, s.snapshot_id)
LEFT JOIN namespaces AS w ON w.netns_id = k.netns_id
LEFT JOIN families AS f ON f.family = k.family
LEFT JOIN protocols AS p ON p.protocol = k.protocol
LEFT JOIN states AS st ON st.state = s.state
LEFT JOIN timers AS t ON t.timer = s.timer;

-- The sockets that are not known to have left the dumps: those whose connection is not over, and what
-- is left of others. Their last row, when they were last seen, and the last row that has counters (a
-- mini-socket has none: those of the full socket before it hold).

CREATE VIEW open_sockets AS
WITH RECURSIVE
    -- The last group of each capture holds a row of every socket that was there to the end.
    last_groups AS (
        SELECT
            g.first_snapshot_id,
            g.last_snapshot_id IS NOT NULL AS is_closed,
            coalesce(
                g.last_snapshot_id,
                (SELECT max(n.snapshot_id) FROM snapshots AS n WHERE n.group_id = g.group_id
                 AND n.snapshot_id >= g.first_snapshot_id)
            ) AS last_snapshot_id
        FROM groups AS g
        WHERE g.group_id IN (SELECT max(group_id) FROM groups GROUP BY capture_id)
    ),
    open_rows AS MATERIALIZED (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id,
            count(*) FILTER (WHERE NOT g.is_closed) AS samples
        FROM last_groups AS g
        JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
        WHERE NOT EXISTS (SELECT 1 FROM socket_ends AS e WHERE e.socket_id = s.socket_id)
            OR EXISTS (SELECT 1 FROM remains AS m
                WHERE m.socket_id = s.socket_id AND m.last_snapshot_id IS NULL)
        GROUP BY s.socket_id
    ),
    chain AS (
        SELECT r.socket_id, s.snapshot_id, s.previous_snapshot_id, s.condition_id
        FROM open_rows AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = r.socket_id
        UNION ALL
        SELECT c.socket_id, s.snapshot_id, s.previous_snapshot_id, s.condition_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = c.socket_id
        -- A recording may come from anyone: no chain is endless.
        WHERE c.condition_id IS NULL AND s.snapshot_id < c.snapshot_id
    ),
    counted_rows AS MATERIALIZED (
        SELECT socket_id, min(snapshot_id) AS snapshot_id FROM chain GROUP BY socket_id
    ),
    -- Of closed groups, thinned or not.
    earlier_samples AS MATERIALIZED (
        SELECT t.socket_id, sum(t.samples) AS samples
        FROM group_sockets AS t
        WHERE t.socket_id IN (SELECT socket_id FROM open_rows)
            AND t.group_id IN (SELECT group_id FROM groups)
        GROUP BY t.socket_id
    ),
    -- The last complete dump of each scope of each capture, and the one before it.
    complete AS MATERIALIZED (
        SELECT p.capture_id, sc.netns_id, sc.family, sc.protocol,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id
                AND d.snapshot_id BETWEEN max(p.first_id, cs.first_snapshot_id)
                    AND min(p.last_id, coalesce(cs.last_snapshot_id, p.last_id))
             ORDER BY d.snapshot_id DESC LIMIT 1) AS last_id,
            (SELECT d.snapshot_id FROM complete_dumps AS d
             WHERE d.scope_id = sc.scope_id
                AND d.snapshot_id BETWEEN max(p.first_id, cs.first_snapshot_id)
                    AND min(p.last_id, coalesce(cs.last_snapshot_id, p.last_id))
             ORDER BY d.snapshot_id DESC LIMIT 1 OFFSET 1) AS before_id
        FROM (
            SELECT g.capture_id, min(g.first_snapshot_id) AS first_id,
                (SELECT max(n.snapshot_id) FROM snapshots AS n
                 WHERE n.group_id = max(g.group_id)
                    AND n.snapshot_id >= max(g.first_snapshot_id)) AS last_id
            FROM groups AS g GROUP BY g.capture_id
        ) AS p
        JOIN capture_scopes AS cs ON cs.capture_id = p.capture_id
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    )
SELECT r.socket_id, r.snapshot_id, q.snapshot_id AS counted_snapshot_id,
    -- Looked for only if it is asked for.
    r.samples + coalesce(
        (SELECT t.samples FROM earlier_samples AS t WHERE t.socket_id = r.socket_id), 0
    ) AS samples,
    max(
        coalesce(h.observed_snapshot_id, r.snapshot_id),
        coalesce(CASE WHEN m.socket_id IS NULL THEN c.last_id ELSE c.before_id END, 0)
    ) AS last_snapshot_id,
    p.ended_at_ns IS NOT NULL AS is_capture_over,
    EXISTS (SELECT 1 FROM remains AS x WHERE x.socket_id = r.socket_id AND x.last_snapshot_id IS NULL)
        AS is_remains
FROM open_rows AS r
JOIN sockets AS k ON k.socket_id = r.socket_id
JOIN snapshots AS n ON n.snapshot_id = r.snapshot_id
JOIN captures AS p ON p.capture_id = n.capture_id
JOIN counted_rows AS q ON q.socket_id = r.socket_id
LEFT JOIN held_samples AS h
    ON h.snapshot_id = r.snapshot_id AND h.socket_id = r.socket_id
LEFT JOIN complete AS c
    ON c.capture_id = n.capture_id AND c.netns_id = k.netns_id AND c.family = k.family
    AND c.protocol = k.protocol
LEFT JOIN missing_sockets AS m ON m.snapshot_id = c.last_id AND m.socket_id = r.socket_id;
