-- Gives the boots and network namespaces of `src` their numbers in a recording that is made of several.

INSERT INTO boots (uuid) SELECT b.uuid FROM src.boots AS b WHERE true ON CONFLICT DO NOTHING;

CREATE TEMP TABLE boot_names AS
SELECT b.boot_id AS old_id, n.boot_id AS new_id
FROM src.boots AS b JOIN main.boots AS n ON n.uuid = b.uuid;

-- The cookie is the key; only where the kernel tells none must the inode do.
CREATE TEMP VIEW netns_pairs AS
SELECT o.netns_id AS old_id, n.netns_id AS new_id, o.name, o.first_local_port, o.last_local_port
FROM src.namespaces AS o
JOIN boot_names AS b ON b.old_id = o.boot_id
JOIN main.namespaces AS n ON n.boot_id = b.new_id AND n.netns_cookie IS o.netns_cookie
    AND (n.netns_cookie IS NOT NULL OR n.inode IS o.inode);
INSERT INTO main.namespaces (boot_id, netns_cookie, inode, name, first_local_port, last_local_port)
SELECT b.new_id, o.netns_cookie, o.inode, o.name, o.first_local_port, o.last_local_port
FROM src.namespaces AS o
JOIN boot_names AS b ON b.old_id = o.boot_id
WHERE o.netns_id NOT IN (SELECT old_id FROM netns_pairs);
UPDATE main.namespaces AS n SET name = coalesce(n.name, p.name),
    first_local_port = coalesce(n.first_local_port, p.first_local_port),
    last_local_port = coalesce(n.last_local_port, p.last_local_port)
FROM netns_pairs AS p WHERE p.new_id = n.netns_id;
CREATE TEMP TABLE netns_names AS SELECT old_id, new_id FROM netns_pairs;
DROP VIEW temp.netns_pairs;
