SELECT "table" AS child, rowid AS row, parent FROM pragma_foreign_key_check
