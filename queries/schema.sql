-- The columns of each table and view of this recording, with their types.
--
-- Parameters: none.
-- Order: as made. Index: none.
SELECT s.name, c.name, c.type
FROM sqlite_schema AS s
CROSS JOIN pragma_table_info(s.name) AS c
WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite_%'
ORDER BY s.rowid, c.cid
