-- How well each connection did in the span: its worst round trip time, how much it sent again, whether
-- the other end closed its window, and what limited its sending.
--
-- Reads `traffic`, rows of traffic.sql.
-- Parameters: none.
-- Order: worst round trip time first, then greatest share of retransmissions. Index: none, one scan of
-- traffic.
SELECT
    socket_id, protocol, family, local_address, local_port, remote_address, remote_port, direction, pid,
    comm, owners, owner_count, state, ending,
    worst_rtt_us AS max_rtt_us,
    min_rtt_us,
    retrans_delta,
    1.0 * retrans_delta / nullif(data_segs_delta, 0) AS retrans_share,
    zero_window_samples,
    busy_delta_us,
    rwnd_limited_delta_us,
    sndbuf_limited_delta_us,
    CASE
        WHEN busy_delta_us IS NULL OR busy_delta_us = 0 THEN NULL
        WHEN coalesce(rwnd_limited_delta_us, 0) >= coalesce(sndbuf_limited_delta_us, 0)
            AND 2 * rwnd_limited_delta_us > busy_delta_us - coalesce(sndbuf_limited_delta_us, 0)
            THEN 'rwnd'
        WHEN 2 * sndbuf_limited_delta_us > busy_delta_us - coalesce(rwnd_limited_delta_us, 0)
            THEN 'sndbuf'
        WHEN rwnd_limited_delta_us IS NOT NULL AND sndbuf_limited_delta_us IS NOT NULL THEN 'network'
    END AS limited_by,
    sent_delta_bytes,
    received_delta_bytes,
    gaps
FROM traffic
WHERE protocol IN ('tcp', 'mptcp')
ORDER BY worst_rtt_us DESC NULLS LAST, retrans_share DESC NULLS LAST, socket_id
