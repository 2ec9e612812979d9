-- Who had how many connections in the span, how much went through them, how many failed: a row a
-- peer, port, process, cgroup or user, which stand where the braces are. Sums are over what is known.
--
-- Reads `traffic`, rows of traffic.sql.
-- Parameters: none.
-- Order: most connections first, then most failures, most bytes. Index: none, one scan of traffic.
SELECT
    {by},
    count(*) AS connections,
    sum(is_opened) AS openings,
    sum(is_ended) AS endings,
    sum(is_ended AND ending = 'reset') AS endings_reset,
    sum(is_ended AND ending = 'timed_out') AS endings_timed_out,
    sum(is_ended AND ending = 'not_established') AS endings_not_established,
    sum(sent_delta_bytes) AS sent_delta_bytes,
    sum(received_delta_bytes) AS received_delta_bytes,
    sum(retrans_delta) AS retrans_delta,
    1.0 * sum(retrans_delta) / nullif(sum(data_segs_delta), 0) AS retrans_share,
    max(worst_rtt_us) AS max_rtt_us,
    sum(is_counted) AS counted
-- The limit, which is none, keeps SQLite from sorting all that each figure is worked out of.
FROM (
    SELECT {of}, is_opened, is_ended, ending, sent_delta_bytes, received_delta_bytes, retrans_delta,
        data_segs_delta, worst_rtt_us,
        -- After the last snapshot that showed it more may have gone.
        sent_delta_bytes IS NOT NULL AND (NOT is_last_known OR counters_evidence IS NOT 'snapshot')
            AS is_counted
    FROM traffic LIMIT -1
) AS t
GROUP BY {keys}
ORDER BY connections DESC,
    endings_reset + endings_timed_out + endings_not_established DESC,
    coalesce(sum(sent_delta_bytes), 0) + coalesce(sum(received_delta_bytes), 0) DESC, {keys}
