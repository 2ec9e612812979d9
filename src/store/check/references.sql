SELECT "table" AS child, rowid AS row, parent FROM pragma_foreign_key_check
WHERE NOT (parent = 'groups' AND "table" IN ('conditions', 'settings', 'group_sockets'))
UNION ALL
SELECT 'conditions', condition_id, 'groups' FROM conditions
WHERE group_id NOT IN (SELECT group_id FROM groups)
UNION ALL
SELECT 'settings', setting_id, 'groups' FROM settings
WHERE group_id NOT IN (SELECT group_id FROM groups)
UNION ALL
SELECT 'group_sockets', socket_id, 'groups' FROM group_sockets
WHERE group_id NOT IN (SELECT group_id FROM groups)
