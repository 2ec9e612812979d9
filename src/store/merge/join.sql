-- Decides which sockets are one: those that a recorder who had gone on would have taken for one.
--
-- temp.everyone: every socket of every file, see everyone.sql; its `new_id` is made final.

-- A number that came by way of a part of a merged recording may be that of another socket.
CREATE TEMP TABLE strangers AS
SELECT e.rowid AS id, (SELECT max(new_id) FROM everyone) + row_number() OVER () AS new_id
FROM everyone AS e
JOIN (SELECT new_id, min(rowid) AS id FROM everyone GROUP BY new_id) AS f ON f.new_id = e.new_id
JOIN everyone AS o ON o.rowid = f.id
WHERE (e.netns_id, e.cookie, e.protocol) IS NOT (o.netns_id, o.cookie, o.protocol);
UPDATE everyone SET new_id = s.new_id FROM strangers AS s WHERE s.id = everyone.rowid;

-- Of another run of the machine, it was there when that began, and had not ended by then.
CREATE TEMP TABLE persons AS
SELECT new_id, min(run) AS run, min(line) AS line, netns_id, cookie, family, protocol, local_address,
    local_port, remote_address, remote_port, coalesce(min(first_id), min(destroyed_id)) AS first_id,
    max(opened_after_id) AS opened_after_id, min(closed_id) AS closed_id,
    min(destroyed_id) AS destroyed_id
FROM everyone GROUP BY new_id;

CREATE TEMP TABLE joined AS
WITH
    pairs AS (
        SELECT new_id, first_id,
            coalesce(run <> lag(run) OVER w AND opened_after_id IS NULL
                AND coalesce(lag(closed_id) OVER w >= first_id, 1)
                AND coalesce(lag(destroyed_id) OVER w >= first_id, 1), 0) AS is_same,
            row_number() OVER w AS place, netns_id, line, cookie, family, protocol, local_address,
            local_port, remote_address, remote_port
        FROM persons
        WINDOW w AS (PARTITION BY netns_id, line, cookie, family, protocol, local_address, local_port,
            remote_address, remote_port ORDER BY first_id, new_id)
    ),
    chains AS (
        SELECT *, sum(NOT is_same) OVER (PARTITION BY netns_id, line, cookie, family, protocol,
            local_address, local_port, remote_address, remote_port ORDER BY place) AS chain
        FROM pairs
    )
SELECT new_id AS old_id, first_value(new_id) OVER (PARTITION BY netns_id, line, cookie, family, protocol,
    local_address, local_port, remote_address, remote_port, chain ORDER BY place) AS new_id
FROM chains;
CREATE UNIQUE INDEX temp.joined_by_old ON joined (old_id);

UPDATE everyone SET new_id = (SELECT j.new_id FROM joined AS j WHERE j.old_id = everyone.new_id);
DROP TABLE temp.strangers;
DROP TABLE temp.persons;
DROP TABLE temp.joined;
