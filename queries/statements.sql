-- The statements that make the tables, indexes and views of this recording.
--
-- Parameters: none.
-- Order: as made. Index: none.
SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid
