-- The rows of samples that the values at even steps are made of, each with until when its socket was seen.
--
-- {columns}: counters, then the columns that were asked for. {wanted}: whether a row was.
-- Parameters: :first_snapshot_id, :last_snapshot_id (both included).
-- Order: snapshot, then socket. Index: primary key of samples; the view open_sockets.
WITH
    still_open AS MATERIALIZED (SELECT socket_id, last_snapshot_id FROM open_sockets)
SELECT
    r.socket_id,
    r.snapshot_id,
    r.is_keyframe,
    k.netns_id,
    k.family,
    k.protocol,
    CASE WHEN e.socket_id IS NULL THEN o.last_snapshot_id
        ELSE e.last_snapshot_id END AS life_to_id,
    m.first_snapshot_id AS rest_from_id,
    coalesce(m.last_snapshot_id, o.last_snapshot_id) AS rest_to_id,
    r.is_wanted,
    {columns}
FROM (
    SELECT *, {wanted} AS is_wanted FROM (
        SELECT * FROM socket_samples
        WHERE snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
    ) AS answer
) AS r
LEFT JOIN sockets AS k ON k.socket_id = r.socket_id
LEFT JOIN socket_ends AS e ON e.socket_id = r.socket_id
LEFT JOIN remains AS m ON m.socket_id = r.socket_id
LEFT JOIN still_open AS o ON o.socket_id = r.socket_id
ORDER BY r.snapshot_id, r.socket_id
