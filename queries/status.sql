-- How recording goes: the capture that goes on, or the last one.
--
-- Parameters: none.
-- Order: one row, none where nothing was recorded. Index: primary keys; one scan of snapshots.
WITH
    current AS (
        SELECT c.capture_id, c.interval_ns, c.started_at_ns, c.ended_at_ns, b.uuid AS boot,
            json_extract(c.options, '$.max_bytes') AS max_bytes
        FROM captures AS c
        JOIN boots AS b ON b.boot_id = c.boot_id
        ORDER BY c.ended_at_ns IS NULL DESC, c.capture_id DESC
        LIMIT 1
    ),
    last AS (
        SELECT n.* FROM snapshots AS n
        WHERE n.snapshot_id = (SELECT max(snapshot_id) FROM snapshots
            WHERE capture_id = (SELECT capture_id FROM current))
    ),
    -- A row of samples, or that of a snapshot, is the measure of what takes room.
    grown AS (
        SELECT sum(n.samples + 1) AS all_rows,
            count(*) FILTER (WHERE n.capture_id = c.capture_id) AS snapshots,
            sum(n.missed_ticks) FILTER (WHERE n.capture_id = c.capture_id) AS missed_ticks,
            min(n.started_at_ns) FILTER (WHERE n.capture_id = c.capture_id
                AND n.started_at_ns > l.started_at_ns - 3600000000000) AS recent_from_ns,
            -- What the first one shows was there before.
            sum(n.samples + 1) FILTER (WHERE n.capture_id = c.capture_id
                AND n.started_at_ns > l.started_at_ns - 3600000000000
                AND n.snapshot_id > (SELECT min(first_snapshot_id) FROM groups AS g
                    WHERE g.capture_id = c.capture_id)) AS recent_rows
        FROM held_snapshots AS n, current AS c, last AS l
    )
SELECT c.capture_id, c.interval_ns, c.started_at_ns, c.ended_at_ns, c.boot, c.max_bytes,
    l.started_at_ns AS last_at_ns, l.started_boottime_ns AS last_boottime_ns,
    l.sockets_seen AS sockets, g.snapshots, g.missed_ticks,
    (SELECT coalesce(sum(x.count), 0) FROM exceptions AS x
        JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
        WHERE x.kind = 'ticks_left_out' AND n.capture_id = c.capture_id) AS left_out_ticks,
    (SELECT count(*) FROM exceptions AS x JOIN snapshots AS n ON n.snapshot_id = x.snapshot_id
        WHERE x.kind IN ('dump_failed', 'dump_interrupted') AND n.capture_id = c.capture_id)
        AS failed_dumps,
    (SELECT count(*) FROM event_losses AS e JOIN snapshots AS n ON n.snapshot_id = e.snapshot_id
        WHERE n.capture_id = c.capture_id) AS event_losses,
    g.all_rows, g.recent_rows, l.started_at_ns - g.recent_from_ns AS recent_ns,
    (SELECT p.page_count FROM pragma_page_count AS p)
        * (SELECT s.page_size FROM pragma_page_size AS s) AS held_bytes,
    (SELECT f.freelist_count FROM pragma_freelist_count AS f)
        * (SELECT s.page_size FROM pragma_page_size AS s) AS unused_bytes
FROM current AS c
LEFT JOIN last AS l
LEFT JOIN grown AS g
