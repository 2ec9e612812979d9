-- Leaves sockets out of the scratch file: temp.out.
DELETE FROM samples WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM held_samples WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM missing_sockets WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM state_changes WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM socket_owners WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM remains WHERE socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM socket_ends WHERE socket_id IN (SELECT socket_id FROM temp.out);
UPDATE sockets SET peer_socket_id = NULL WHERE peer_socket_id IN (SELECT socket_id FROM temp.out);
DELETE FROM sockets WHERE socket_id IN (SELECT socket_id FROM temp.out);
