-- Mends what reaches from one part of a recording that is made of several into another.

-- With the snapshot by which a part that never saw it knows of its end.
CREATE TEMP TABLE shared AS
SELECT new_id AS socket_id, min(destroyed_id) FILTER (WHERE first_id IS NULL) AS only_told_id
FROM everyone GROUP BY new_id HAVING count(*) > 1;
CREATE UNIQUE INDEX temp.shared_by_id ON shared (socket_id);

CREATE TEMP TABLE steps AS
SELECT s.snapshot_id, s.socket_id, s.state, lag(s.snapshot_id) OVER w AS before_id,
    lag(s.state) OVER w AS before_state
FROM samples AS s
WHERE s.socket_id IN (SELECT socket_id FROM shared)
WINDOW w AS (PARTITION BY s.socket_id ORDER BY s.snapshot_id);

UPDATE samples SET previous_snapshot_id = t.before_id FROM steps AS t
WHERE t.snapshot_id = samples.snapshot_id AND t.socket_id = samples.socket_id
    AND samples.previous_snapshot_id IS NOT t.before_id;
INSERT OR IGNORE INTO state_changes
SELECT snapshot_id, socket_id, before_state, state FROM steps WHERE before_state <> state;

-- The first row of each, and its rows as a live one.
CREATE TEMP TABLE lives AS
SELECT h.socket_id, h.only_told_id, min(t.snapshot_id) AS first_id,
    count(t.snapshot_id) FILTER (WHERE m.socket_id IS NULL OR t.snapshot_id < m.first_snapshot_id)
        AS samples,
    max(t.snapshot_id) FILTER (WHERE m.socket_id IS NULL OR t.snapshot_id < m.first_snapshot_id)
        AS last_id
FROM shared AS h
LEFT JOIN remains AS m ON m.socket_id = h.socket_id
LEFT JOIN steps AS t ON t.socket_id = h.socket_id
GROUP BY h.socket_id;
CREATE UNIQUE INDEX temp.lives_by_id ON lives (socket_id);

-- What only its event tells of has no first sight, though what is left of it may show.
UPDATE sockets SET
    first_snapshot_id = CASE WHEN l.only_told_id <= l.first_id THEN NULL ELSE l.first_id END,
    open_ms = CASE WHEN l.only_told_id <= l.first_id THEN NULL
        WHEN first_snapshot_id = l.first_id THEN open_ms END
FROM lives AS l WHERE l.socket_id = sockets.socket_id;
UPDATE sockets SET opened_after_snapshot_id = NULL
WHERE opened_after_snapshot_id >= first_snapshot_id
    AND socket_id IN (SELECT socket_id FROM shared);
UPDATE socket_ends SET samples = l.samples, last_sample_snapshot_id = l.last_id,
    last_snapshot_id = CASE WHEN l.last_id IS NOT NULL THEN coalesce(last_snapshot_id, l.last_id) END,
    state = (SELECT s.state FROM samples AS s
        WHERE s.snapshot_id = l.last_id AND s.socket_id = l.socket_id)
FROM lives AS l WHERE l.socket_id = socket_ends.socket_id;
UPDATE remains SET (last_sample_snapshot_id, samples) = (
    SELECT max(t.snapshot_id), count(*) FROM steps AS t WHERE t.socket_id = remains.socket_id)
WHERE last_snapshot_id IS NOT NULL AND socket_id IN (SELECT socket_id FROM shared);

-- Both ends of a connection name each other, or neither does.
UPDATE sockets SET peer_socket_id = NULL
WHERE peer_socket_id IS NOT NULL AND socket_id IS NOT (
    SELECT p.peer_socket_id FROM sockets AS p WHERE p.socket_id = sockets.peer_socket_id);

UPDATE snapshots SET samples =
    (SELECT count(*) FROM samples AS s WHERE s.snapshot_id = snapshots.snapshot_id);
DELETE FROM groups WHERE group_id NOT IN (SELECT group_id FROM snapshots);
DELETE FROM conditions WHERE group_id NOT IN (SELECT group_id FROM groups);
DELETE FROM settings WHERE group_id NOT IN (SELECT group_id FROM groups);
