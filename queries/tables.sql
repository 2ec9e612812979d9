-- What each table of the file holds, its indexes counted in.
--
-- Parameters: none.
-- Order: largest first. Index: none, every page is read.
SELECT
    coalesce(o.tbl_name, d.name) AS table_name,
    sum(d.pgsize) AS file_bytes,
    sum(d.payload) AS payload_bytes,
    -- Inner pages of a table with row ids hold no rows, those of a table without them do.
    sum(d.ncell) FILTER (
        WHERE o.type = 'table' AND (d.pagetype = 'leaf' OR o.sql LIKE '%WITHOUT ROWID%')
    ) AS rows
FROM dbstat AS d
LEFT JOIN sqlite_schema AS o ON o.name = d.name
GROUP BY table_name
ORDER BY file_bytes DESC, table_name
