-- Every socket as it was in one snapshot: the keyframe before it plus what changed since.
-- Where the snapshot's own dump of a socket's family and protocol failed, what was there in the
-- last complete one is held; observed_at tells.
--
-- Parameters: :snapshot_id.
-- Order: protocol, family, local address and port, remote address and port.
-- Index: primary key of samples, from the keyframe on.
WITH
    asked AS (
        SELECT n.snapshot_id, n.ended_at_ns, n.ended_monotonic_ns, n.capture_id,
            g.first_snapshot_id AS keyframe_id,
            (SELECT min(first_snapshot_id) FROM groups WHERE capture_id = n.capture_id)
                AS capture_first_id,
            (SELECT max(l.snapshot_id) FROM snapshots AS l
             WHERE l.snapshot_id >= (SELECT max(first_snapshot_id) FROM groups
                WHERE capture_id = n.capture_id) AND l.capture_id = n.capture_id)
                AS capture_last_id
        FROM snapshots AS n
        JOIN groups AS g ON g.group_id = n.group_id
        WHERE n.snapshot_id = :snapshot_id
    ),
    latest AS (
        SELECT s.socket_id, max(s.snapshot_id) AS snapshot_id
        FROM asked AS a
        JOIN samples AS s ON s.snapshot_id BETWEEN a.keyframe_id AND a.snapshot_id
        GROUP BY s.socket_id
    ),
    -- The last complete dump of each scope, the one before it and the next one.
    complete AS MATERIALIZED (
        SELECT sc.netns_id, sc.family, sc.protocol, sc.scope_id,
            (SELECT n.snapshot_id FROM snapshots AS n
             WHERE n.snapshot_id BETWEEN a.capture_first_id AND a.snapshot_id
                AND NOT EXISTS (SELECT 1 FROM exceptions AS x
                    WHERE x.snapshot_id = n.snapshot_id AND x.scope_id = sc.scope_id
                        AND x.kind <> 'sockets_not_stored')
             ORDER BY n.snapshot_id DESC LIMIT 1) AS last_id,
            (SELECT n.snapshot_id FROM snapshots AS n
             WHERE n.snapshot_id BETWEEN a.capture_first_id AND a.snapshot_id
                AND NOT EXISTS (SELECT 1 FROM exceptions AS x
                    WHERE x.snapshot_id = n.snapshot_id AND x.scope_id = sc.scope_id
                        AND x.kind <> 'sockets_not_stored')
             ORDER BY n.snapshot_id DESC LIMIT 1 OFFSET 1) AS before_id,
            (SELECT n.snapshot_id FROM snapshots AS n
             WHERE n.snapshot_id BETWEEN a.snapshot_id + 1 AND a.capture_last_id
                AND NOT EXISTS (SELECT 1 FROM exceptions AS x
                    WHERE x.snapshot_id = n.snapshot_id AND x.scope_id = sc.scope_id
                        AND x.kind <> 'sockets_not_stored')
             ORDER BY n.snapshot_id LIMIT 1) AS next_id
        FROM asked AS a
        JOIN capture_scopes AS cs ON cs.capture_id = a.capture_id
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id
    )
SELECT
    a.ended_at_ns AS taken_at,
    a.snapshot_id,
    v.socket_id,
    o.ended_at_ns AS observed_at,
    n.ended_at_ns AS changed_at,
    v.cookie,
    v.generation,
    v.inode,
    v.uid,
    coalesce(ns.name, 'net:[' || ns.inode || ']') AS netns,
    v.protocol,
    v.family,
    v.local_address,
    v.local_port,
    v.remote_address,
    v.remote_port,
    v.interface,
    v.state,
    v.rqueue_bytes,
    v.wqueue_bytes,
    v.backlog,
    v.backlog_limit,
    v.timer,
    v.timer_retransmits,
    n.ended_at_ns + v.timer_expires_at_ms * 1000000 - n.ended_monotonic_ns AS timer_expires_at,
    n.ended_at_ns + v.last_data_sent_at_ms * 1000000 - n.ended_monotonic_ns AS last_data_sent_at,
    n.ended_at_ns + v.last_data_recv_at_ms * 1000000 - n.ended_monotonic_ns AS last_data_recv_at,
    n.ended_at_ns + v.last_ack_recv_at_ms * 1000000 - n.ended_monotonic_ns AS last_ack_recv_at,
    v.bytes_sent,
    v.bytes_acked,
    v.bytes_received,
    v.segs_out,
    v.segs_in,
    v.data_segs_out,
    v.data_segs_in,
    v.delivered,
    v.rtt_us,
    v.rttvar_us,
    v.rto_us,
    v.ato_us,
    v.snd_wnd_bytes,
    v.rcv_wnd_bytes,
    v.rcv_ssthresh_bytes,
    v.busy_time_us,
    v.ca_state,
    v.retransmits,
    v.probes,
    v.backoff,
    v.snd_mss_bytes,
    v.rcv_mss_bytes,
    v.unacked,
    v.sacked,
    v.lost,
    v.retrans,
    v.fackets,
    v.snd_ssthresh,
    v.snd_cwnd,
    v.reordering,
    v.rcv_rtt_us,
    v.rcv_space_bytes,
    v.total_retrans,
    v.pacing_rate_bytes_per_s,
    v.notsent_bytes,
    v.min_rtt_us,
    v.delivery_rate_bytes_per_s,
    v.delivery_rate_app_limited,
    v.rwnd_limited_us,
    v.sndbuf_limited_us,
    v.delivered_ce,
    v.bytes_retrans,
    v.dsack_dups,
    v.reord_seen,
    v.rcv_ooopack,
    v.rehash,
    v.total_rto,
    v.total_rto_recoveries,
    v.total_rto_time_ms,
    v.received_ce,
    v.delivered_e1_bytes,
    v.delivered_e0_bytes,
    v.delivered_ce_bytes,
    v.received_e1_bytes,
    v.received_e0_bytes,
    v.received_ce_bytes,
    v.sk_rmem_alloc_bytes,
    v.sk_wmem_alloc_bytes,
    v.sk_fwd_alloc_bytes,
    v.sk_wmem_queued_bytes,
    v.sk_optmem_bytes,
    v.sk_backlog_bytes,
    v.sk_drops,
    v.vegas_enabled,
    v.vegas_rtt_count,
    v.vegas_rtt_us,
    v.vegas_min_rtt_us,
    v.dctcp_enabled,
    v.dctcp_ce_state,
    v.dctcp_alpha,
    v.dctcp_ab_ecn_bytes,
    v.dctcp_ab_tot_bytes,
    v.bbr_bw_bytes_per_s,
    v.bbr_min_rtt_us,
    v.bbr_pacing_gain,
    v.bbr_cwnd_gain,
    v.mptcp_subflows,
    v.mptcp_add_addr_signal,
    v.mptcp_add_addr_accepted,
    v.mptcp_write_seq,
    v.mptcp_snd_una,
    v.mptcp_rcv_nxt,
    v.mptcp_local_addr_used,
    v.mptcp_retransmits,
    v.mptcp_subflows_total,
    v.mark,
    v.cgroup_id,
    v.has_inode,
    v.options,
    v.snd_wscale,
    v.rcv_wscale,
    v.fastopen_client_fail,
    v.pmtu_bytes,
    v.advmss_bytes,
    v.max_pacing_rate_bytes_per_s,
    v.sk_rcvbuf_bytes,
    v.sk_sndbuf_bytes,
    v.congestion_control,
    v.tos,
    v.tclass,
    v.class_id,
    v.shutdown,
    v.v6only,
    v.socket_options,
    v.ulp,
    v.ulp_info,
    v.mptcp_flags,
    v.mptcp_token,
    v.mptcp_subflows_max,
    v.mptcp_add_addr_signal_max,
    v.mptcp_add_addr_accepted_max,
    v.mptcp_local_addr_max,
    v.mptcp_csum_enabled,
    v.mptcp_endp_laminar_max,
    v.mptcp_endp_fullmesh_max,
    v.info_tail,
    v.unknown_attributes
FROM asked AS a
CROSS JOIN latest AS l
CROSS JOIN socket_samples AS v ON v.snapshot_id = l.snapshot_id AND v.socket_id = l.socket_id
JOIN snapshots AS n ON n.snapshot_id = l.snapshot_id
JOIN sockets AS k ON k.socket_id = l.socket_id
LEFT JOIN socket_ends AS e ON e.socket_id = l.socket_id
LEFT JOIN complete AS c
    ON c.netns_id = k.netns_id AND c.family = k.family AND c.protocol = k.protocol
LEFT JOIN missing_sockets AS m ON m.snapshot_id = c.last_id AND m.socket_id = l.socket_id
LEFT JOIN snapshots AS o
    ON o.snapshot_id = max(
        v.observed_snapshot_id,
        coalesce(CASE WHEN m.socket_id IS NULL THEN c.last_id ELSE c.before_id END, 0)
    )
LEFT JOIN namespaces AS ns ON ns.netns_id = v.netns_id
WHERE
    CASE
        WHEN e.socket_id IS NOT NULL THEN e.last_snapshot_id >= coalesce(c.last_id, 0)
        -- Lacked by that dump alone: had the next one lacked it too, it would have ended.
        ELSE m.socket_id IS NULL OR c.next_id IS NOT NULL
    END
ORDER BY v.protocol, v.family, v.local_address, v.local_port, v.remote_address, v.remote_port,
    v.socket_id
