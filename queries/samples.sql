-- The series of all sockets: one row for each sample, that is for each change and keyframe.
-- A value holds until the socket's next row or its end.
--
-- Parameters: :first_snapshot_id, :last_snapshot_id (both included), :from_ns, :to_ns (UTC).
-- Order: snapshot, then socket. Index: primary key of samples.
SELECT *
FROM socket_samples
WHERE snapshot_id BETWEEN :first_snapshot_id AND :last_snapshot_id
    AND taken_at_ns BETWEEN :from_ns AND :to_ns
ORDER BY snapshot_id, socket_id
