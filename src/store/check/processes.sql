SELECT max(process_id) AS process_id FROM processes GROUP BY boot_id, pid, started_ticks
HAVING count(*) > 1
UNION ALL
SELECT p.process_id FROM socket_owners AS o
JOIN processes AS p ON p.process_id = o.process_id
JOIN sockets AS k ON k.socket_id = o.socket_id
JOIN namespaces AS n ON n.netns_id = k.netns_id
WHERE n.boot_id <> p.boot_id
