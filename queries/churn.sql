-- How many connections were opened and ended in each bucket of time, by who opened them and how they
-- ended. Each counts where it is known to have happened by then.
--
-- Reads `chosen`, rows of connections.sql.
-- Parameters: :from_ns, :to_ns (UTC), :bucket_ns, :first_snapshot_id, :last_snapshot_id (those
-- within), :host (NULL: all).
-- Order: time. Index: one scan of snapshots.
WITH RECURSIVE
    looked AS MATERIALIZED (
        SELECT ended_at_ns / :bucket_ns AS bucket, count(*) AS snapshots
        FROM held_snapshots
        WHERE snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
            AND ended_at_ns BETWEEN :from_ns AND :to_ns
        GROUP BY 1
    ),
    buckets AS (
        SELECT min(bucket) AS bucket, max(bucket) AS last_bucket FROM looked HAVING count(*) > 0
        UNION ALL
        SELECT bucket + 1, last_bucket FROM buckets WHERE bucket < last_bucket
    ),
    moments AS MATERIALIZED (
        SELECT
            CASE WHEN opened_evidence NOT IN ('recording_start', 'extract_start')
                THEN opened_before_ns END AS opened_ns,
            CASE WHEN closed_evidence NOT IN ('recording_end', 'extract_end', 'left_scope')
                THEN closed_before_ns END AS closed_ns,
            direction, ending
        -- The limit, which is none, keeps SQLite from working out each column at each of its uses.
        FROM (
            SELECT opened_before_ns, opened_evidence, closed_before_ns, closed_evidence, direction,
                ending, remote_port
            FROM chosen LIMIT -1
        )
        WHERE remote_port IS NOT 0
    ),
    opened AS MATERIALIZED (
        SELECT
            opened_ns / :bucket_ns AS bucket,
            count(*) AS openings,
            sum(direction IS 'outbound') AS openings_outbound,
            sum(direction IS 'inbound') AS openings_inbound
        FROM moments
        WHERE opened_ns BETWEEN :from_ns AND :to_ns
        GROUP BY 1
    ),
    ended AS MATERIALIZED (
        SELECT
            closed_ns / :bucket_ns AS bucket,
            count(*) AS endings,
            sum(ending IS 'orderly') AS endings_orderly,
            sum(ending IS 'reset') AS endings_reset,
            sum(ending IS 'timed_out') AS endings_timed_out,
            sum(ending IS 'not_established') AS endings_not_established
        FROM moments
        WHERE closed_ns BETWEEN :from_ns AND :to_ns
        GROUP BY 1
    ),
    blind AS MATERIALIZED (
        SELECT from_ns, to_ns, kind FROM gaps
        WHERE (:host IS NULL OR host_name = :host)
            AND kind NOT IN ('dump_unsupported', 'clock_step', 'clock_suspend', 'thinned')
    )
SELECT
    b.bucket * :bucket_ns AS from_ns,
    (b.bucket + 1) * :bucket_ns AS to_ns,
    coalesce(l.snapshots, 0) AS snapshots,
    -- Where nobody looked nothing is known, not none.
    coalesce(o.openings, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings,
    coalesce(o.openings_outbound, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings_outbound,
    coalesce(o.openings_inbound, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings_inbound,
    coalesce(e.endings, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings,
    coalesce(e.endings_orderly, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_orderly,
    coalesce(e.endings_reset, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_reset,
    coalesce(e.endings_timed_out, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_timed_out,
    coalesce(e.endings_not_established, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_not_established,
    (
        SELECT group_concat(DISTINCT g.kind) FROM blind AS g
        WHERE g.to_ns >= b.bucket * :bucket_ns
            AND coalesce(g.from_ns, g.to_ns) < (b.bucket + 1) * :bucket_ns
    ) AS gaps
FROM buckets AS b
LEFT JOIN looked AS l ON l.bucket = b.bucket
LEFT JOIN opened AS o ON o.bucket = b.bucket
LEFT JOIN ended AS e ON e.bucket = b.bucket
ORDER BY b.bucket
