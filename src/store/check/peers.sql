SELECT k.socket_id, k.peer_socket_id, p.peer_socket_id AS peer_of_peer FROM sockets AS k
LEFT JOIN sockets AS p ON p.socket_id = k.peer_socket_id
WHERE k.peer_socket_id IS NOT NULL AND (
   k.local_port IS NOT p.remote_port OR k.remote_port IS NOT p.local_port
   OR k.netns_id <> p.netns_id OR k.protocol <> p.protocol
   OR p.peer_socket_id IS NOT k.socket_id)
