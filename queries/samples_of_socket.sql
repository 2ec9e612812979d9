-- The series of one socket: one row for each change and keyframe, walked back along the chain of
-- its rows.
--
-- Parameters: :socket_id, :from_ns, :to_ns (UTC).
-- Order: snapshot. Index: primary key of samples.
WITH RECURSIVE
    -- The last group of each capture holds a row of every socket that was there to the end.
    last_groups AS (
        SELECT
            g.first_snapshot_id,
            coalesce(
                g.last_snapshot_id,
                (SELECT max(n.snapshot_id) FROM snapshots AS n WHERE n.group_id = g.group_id
                 AND n.snapshot_id >= g.first_snapshot_id)
            ) AS last_snapshot_id
        FROM groups AS g
        WHERE g.group_id IN (SELECT max(group_id) FROM groups GROUP BY capture_id)
    ),
    last_row AS (
        SELECT coalesce(
            (SELECT last_sample_snapshot_id FROM socket_ends WHERE socket_id = :socket_id),
            (SELECT max(s.snapshot_id) FROM last_groups AS g
             JOIN samples AS s ON s.snapshot_id BETWEEN g.first_snapshot_id AND g.last_snapshot_id
             WHERE s.socket_id = :socket_id)
        ) AS snapshot_id
    ),
    chain AS (
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM last_row AS r
        JOIN samples AS s ON s.snapshot_id = r.snapshot_id AND s.socket_id = :socket_id
        UNION ALL
        SELECT s.snapshot_id, s.previous_snapshot_id
        FROM chain AS c
        JOIN samples AS s
            ON s.snapshot_id = c.previous_snapshot_id AND s.socket_id = :socket_id
    )
SELECT
    v.taken_at_ns AS taken_at,
    v.snapshot_id,
    v.socket_id,
    v.is_keyframe,
    o.ended_at_ns AS observed_at,
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
FROM chain AS c
CROSS JOIN socket_samples AS v ON v.snapshot_id = c.snapshot_id AND v.socket_id = :socket_id
JOIN snapshots AS n ON n.snapshot_id = v.snapshot_id
LEFT JOIN snapshots AS o ON o.snapshot_id = v.observed_snapshot_id
LEFT JOIN namespaces AS ns ON ns.netns_id = v.netns_id
WHERE n.ended_at_ns BETWEEN :from_ns AND :to_ns
ORDER BY v.snapshot_id
