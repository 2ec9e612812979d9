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
    moments AS (
        SELECT
            CASE WHEN e.is_opening THEN opened_before_ns ELSE closed_before_ns END AS at_ns,
            e.is_opening, direction, ending
        -- The limit, which is none, keeps SQLite from working out each column at each of its uses.
        FROM (SELECT * FROM chosen LIMIT -1)
        JOIN (SELECT 1 AS is_opening UNION ALL SELECT 0) AS e ON CASE WHEN e.is_opening
            THEN opened_evidence NOT IN ('recording_start', 'extract_start')
            ELSE closed_evidence NOT IN ('recording_end', 'extract_end', 'left_scope') END
        WHERE remote_port IS NOT 0
    ),
    counts AS MATERIALIZED (
        SELECT
            at_ns / :bucket_ns AS bucket,
            sum(is_opening) AS openings,
            sum(is_opening AND direction = 'outbound') AS openings_outbound,
            sum(is_opening AND direction = 'inbound') AS openings_inbound,
            sum(NOT is_opening) AS endings,
            sum(NOT is_opening AND ending = 'orderly') AS endings_orderly,
            sum(NOT is_opening AND ending = 'reset') AS endings_reset,
            sum(NOT is_opening AND ending = 'timed_out') AS endings_timed_out,
            sum(NOT is_opening AND ending = 'not_established') AS endings_not_established
        FROM moments
        WHERE at_ns BETWEEN :from_ns AND :to_ns
        GROUP BY 1
    ),
    blind AS MATERIALIZED (
        SELECT from_ns, to_ns, kind FROM gaps
        WHERE (:host IS NULL OR host_name = :host)
            AND kind NOT IN ('dump_unsupported', 'clock_step', 'clock_suspend')
    )
SELECT
    b.bucket * :bucket_ns AS from_ns,
    (b.bucket + 1) * :bucket_ns AS to_ns,
    coalesce(l.snapshots, 0) AS snapshots,
    -- Where nobody looked nothing is known, not none.
    coalesce(c.openings, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings,
    coalesce(c.openings_outbound, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings_outbound,
    coalesce(c.openings_inbound, CASE WHEN l.snapshots > 0 THEN 0 END) AS openings_inbound,
    coalesce(c.endings, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings,
    coalesce(c.endings_orderly, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_orderly,
    coalesce(c.endings_reset, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_reset,
    coalesce(c.endings_timed_out, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_timed_out,
    coalesce(c.endings_not_established, CASE WHEN l.snapshots > 0 THEN 0 END) AS endings_not_established,
    (
        SELECT group_concat(DISTINCT g.kind) FROM blind AS g
        WHERE g.to_ns >= b.bucket * :bucket_ns
            AND coalesce(g.from_ns, g.to_ns) < (b.bucket + 1) * :bucket_ns
    ) AS gaps
FROM buckets AS b
LEFT JOIN looked AS l ON l.bucket = b.bucket
LEFT JOIN counts AS c ON c.bucket = b.bucket
ORDER BY b.bucket
