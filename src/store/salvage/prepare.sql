-- Makes of the rows that were read what an extract can be taken of: what points to nothing goes, small
-- tables that were lost are made up for as far as other rows tell, what follows from others is worked out
-- anew, and the snapshots that are not whole are noted.

-- Which recording it was is not known any more, but that its parts are of one.
INSERT OR IGNORE INTO recording (recording_id, uuid, created_at_ns, created_by)
SELECT 1, lower(hex(randomblob(16))), coalesce(min(started_at_ns), 0), '' FROM snapshots;

INSERT OR IGNORE INTO captures (capture_id, uuid, boot_id, source, sockrec_version, options,
    started_at_ns, started_monotonic_ns, started_boottime_ns, ended_at_ns, ended_monotonic_ns,
    ended_boottime_ns, end_reason)
SELECT n.capture_id, lower(hex(randomblob(16))), coalesce((SELECT min(boot_id) FROM namespaces), 1),
    'unknown', '', '{}', min(n.started_at_ns), min(n.started_monotonic_ns), min(n.started_boottime_ns),
    max(n.ended_at_ns), max(n.ended_monotonic_ns), max(n.ended_boottime_ns), 'lost'
FROM snapshots AS n WHERE n.capture_id NOT IN (SELECT capture_id FROM captures)
GROUP BY n.capture_id;
UPDATE captures SET previous_capture_id = NULL
WHERE previous_capture_id NOT IN (SELECT capture_id FROM captures);

INSERT OR IGNORE INTO namespaces (netns_id, boot_id)
SELECT DISTINCT netns_id, (SELECT min(boot_id) FROM captures)
FROM (SELECT netns_id FROM sockets UNION SELECT netns_id FROM scopes)
WHERE netns_id NOT IN (SELECT netns_id FROM namespaces)
    AND EXISTS (SELECT 1 FROM captures);
INSERT OR IGNORE INTO boots (boot_id, uuid)
SELECT DISTINCT boot_id, lower(hex(randomblob(16)))
FROM (SELECT boot_id FROM captures UNION SELECT boot_id FROM namespaces)
WHERE boot_id NOT IN (SELECT boot_id FROM boots);

-- A group is known by its snapshots.
-- To what it was thinned is lost with its row: to no more than its length.
INSERT OR IGNORE INTO groups (group_id, capture_id, first_snapshot_id, encoding, thinned_to_ns)
SELECT group_id, min(capture_id), min(snapshot_id), 'plain',
    CASE WHEN max(is_thinned) THEN max(ended_at_ns) - min(started_at_ns) END FROM snapshots
WHERE group_id IS NOT NULL GROUP BY group_id;

-- A value that is lost is not known.
UPDATE samples SET condition_id = NULL WHERE condition_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM snapshots AS n JOIN conditions AS c
        ON c.group_id = n.group_id AND c.condition_id = samples.condition_id
    WHERE n.snapshot_id = samples.snapshot_id);
UPDATE samples SET setting_id = NULL WHERE setting_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM snapshots AS n JOIN settings AS c
        ON c.group_id = n.group_id AND c.setting_id = samples.setting_id
    WHERE n.snapshot_id = samples.snapshot_id);

CREATE TABLE known_snapshots AS SELECT * FROM snapshots;
-- Of those that were dropped only the times were left.
DELETE FROM snapshots WHERE group_id IS NULL;

-- Rows of samples that others tell of and that are not there.
CREATE TABLE lost_rows AS
SELECT DISTINCT n.group_id, t.snapshot_id, t.socket_id FROM (
    SELECT previous_snapshot_id AS snapshot_id, socket_id FROM samples
    UNION ALL SELECT last_sample_snapshot_id, socket_id FROM socket_ends
    UNION ALL SELECT last_sample_snapshot_id, socket_id FROM remains
    UNION ALL SELECT first_snapshot_id, socket_id FROM sockets
) AS t
JOIN snapshots AS n ON n.snapshot_id = t.snapshot_id
LEFT JOIN samples AS s ON s.snapshot_id = t.snapshot_id AND s.socket_id = t.socket_id
WHERE s.socket_id IS NULL;

-- A snapshot is whole if it has its rows, and known if it is told whose rows it lacks.
CREATE TABLE counted_snapshots AS
SELECT n.snapshot_id, n.group_id, n.capture_id, n.samples = c.found AS is_whole,
    n.samples = c.found + c.told AS is_known, c.found
FROM (SELECT n.snapshot_id,
        (SELECT count(*) FROM samples AS s WHERE s.snapshot_id = n.snapshot_id) AS found,
        (SELECT count(*) FROM lost_rows AS l WHERE l.snapshot_id = n.snapshot_id) AS told
    FROM snapshots AS n) AS c
JOIN snapshots AS n ON n.snapshot_id = c.snapshot_id;

-- Of a group either what follows the first loss is given up, or the sockets that lost rows: whichever
-- costs fewer rows.
CREATE TEMP TABLE weights AS SELECT socket_id, count(*) AS samples FROM samples GROUP BY socket_id;
CREATE UNIQUE INDEX temp.weights_by_socket ON weights (socket_id);
CREATE TABLE blamed AS
WITH
    bounds AS (
        SELECT group_id, min(iif(is_whole, NULL, snapshot_id)) AS broken_id,
            coalesce(min(iif(is_whole OR is_known, NULL, snapshot_id)), max(snapshot_id) + 1) AS end_id
        FROM counted_snapshots GROUP BY group_id
    ),
    lost AS (
        SELECT DISTINCT l.group_id, l.socket_id FROM lost_rows AS l
        JOIN bounds AS b ON b.group_id = l.group_id AND l.snapshot_id < b.end_id
    )
SELECT l.group_id, l.socket_id FROM lost AS l
JOIN bounds AS b ON b.group_id = l.group_id
WHERE b.broken_id < b.end_id
    AND (SELECT sum(coalesce(w.samples, 0)) FROM lost AS o
        LEFT JOIN temp.weights AS w ON w.socket_id = o.socket_id WHERE o.group_id = l.group_id)
    < (SELECT sum(c.found) FROM counted_snapshots AS c WHERE c.group_id = l.group_id
        AND c.snapshot_id >= b.broken_id AND c.snapshot_id < b.end_id);
DROP TABLE temp.weights;

CREATE TABLE whole_snapshots AS
WITH placed AS (
    SELECT c.*, g.first_snapshot_id, f.is_keyframe, row_number() OVER w AS place,
        sum(NOT (c.is_whole OR (c.is_known
            AND c.group_id IN (SELECT group_id FROM blamed)))) OVER w AS broken
    FROM counted_snapshots AS c
    JOIN groups AS g ON g.group_id = c.group_id AND g.capture_id = c.capture_id
    JOIN snapshots AS f ON f.snapshot_id = g.first_snapshot_id
    WINDOW w AS (PARTITION BY c.group_id ORDER BY c.snapshot_id)
)
SELECT snapshot_id, group_id, capture_id FROM placed
WHERE is_keyframe AND broken = 0 AND snapshot_id = first_snapshot_id + place - 1;
CREATE UNIQUE INDEX whole_snapshots_by_id ON whole_snapshots (snapshot_id);

CREATE TABLE lost_sockets AS
SELECT socket_id FROM blamed UNION
SELECT socket_id FROM samples WHERE socket_id NOT IN (SELECT socket_id FROM sockets) UNION
SELECT socket_id FROM socket_ends WHERE socket_id NOT IN (SELECT socket_id FROM sockets);

-- Rows without a socket, and sockets without a row.
DELETE FROM samples WHERE socket_id NOT IN (SELECT socket_id FROM sockets);
DELETE FROM socket_ends WHERE socket_id NOT IN (SELECT socket_id FROM sockets);
DELETE FROM remains WHERE socket_id NOT IN (SELECT socket_id FROM socket_ends);
DELETE FROM held_samples WHERE NOT EXISTS (SELECT 1 FROM samples AS s
    WHERE s.snapshot_id = held_samples.snapshot_id AND s.socket_id = held_samples.socket_id);
DELETE FROM missing_sockets WHERE socket_id NOT IN (SELECT socket_id FROM sockets);
DELETE FROM socket_owners WHERE socket_id NOT IN (SELECT socket_id FROM sockets)
    OR process_id NOT IN (SELECT process_id FROM processes);
DELETE FROM capture_scopes WHERE scope_id NOT IN (SELECT scope_id FROM scopes);
DELETE FROM scopes WHERE netns_id NOT IN (SELECT netns_id FROM namespaces);
DELETE FROM processes WHERE boot_id NOT IN (SELECT boot_id FROM boots);
DELETE FROM cgroups WHERE boot_id NOT IN (SELECT boot_id FROM boots);
DELETE FROM markers WHERE boot_id NOT IN (SELECT boot_id FROM boots);
UPDATE noted_exceptions SET scope_id = NULL WHERE scope_id NOT IN (SELECT scope_id FROM scopes);
DELETE FROM unasked_namespaces WHERE netns_id NOT IN (SELECT netns_id FROM namespaces);
UPDATE sockets SET origin = NULL WHERE origin NOT IN (SELECT origin FROM origins);
UPDATE socket_ends SET ending = NULL WHERE ending NOT IN (SELECT ending FROM endings);
UPDATE sockets SET peer_socket_id = NULL WHERE peer_socket_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM sockets AS p
    WHERE p.socket_id = sockets.peer_socket_id AND p.peer_socket_id = sockets.socket_id);

-- What follows from the samples.
CREATE TEMP TABLE steps AS
SELECT snapshot_id, socket_id, state, lag(snapshot_id) OVER w AS before_id, lag(state) OVER w AS before_state
FROM samples WINDOW w AS (PARTITION BY socket_id ORDER BY snapshot_id);
CREATE UNIQUE INDEX temp.steps_by_id ON steps (snapshot_id, socket_id);
UPDATE samples SET previous_snapshot_id = t.before_id FROM steps AS t
WHERE t.snapshot_id = samples.snapshot_id AND t.socket_id = samples.socket_id
    AND samples.previous_snapshot_id IS NOT t.before_id;
DELETE FROM state_changes;
INSERT INTO state_changes
SELECT snapshot_id, socket_id, before_state, state FROM steps WHERE before_state <> state;
DROP TABLE temp.steps;
