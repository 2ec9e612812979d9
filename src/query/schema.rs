//! The tables and views of a recording, and what their columns mean: as docs/FORMAT.md says, which a
//! test holds against the schema.

use std::collections::HashMap;

use super::Recording;
use crate::model::Value;
use crate::store::StoreError;

/// Columns of [`Recording::schema`].
pub const SCHEMA_COLUMNS: &[&str] = &["table_name", "column_name", "column_type", "about"];

/// One column of a table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaColumn {
    /// Table or view.
    pub table: String,
    /// Column.
    pub name: String,
    /// SQL type, `None` in views.
    pub sql_type: Option<String>,
    /// What it is.
    pub about: Option<String>,
}

impl Recording {
    /// Every column of every table and view.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn schema(&self) -> Result<Vec<SchemaColumn>, StoreError> {
        let about = described(include_str!("../../docs/FORMAT.md"));
        let mut columns = Vec::new();
        self.run(include_str!("../../queries/schema.sql"), &[], |row| {
            if let [Value::Text(table), Value::Text(name), sql_type] = row {
                let (table, name) = ((*table).to_owned(), (*name).to_owned());
                let sql_type = match sql_type {
                    Value::Text(text) if !text.is_empty() => Some((*text).to_owned()),
                    _ => None,
                };
                let about = about.get(&(table.as_str(), name.as_str())).cloned();
                columns.push(SchemaColumn { table, name, sql_type, about });
            }
        })?;
        Ok(columns)
    }

    /// The statements that make the tables, indexes and views.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn statements(&self) -> Result<Vec<String>, StoreError> {
        let mut statements = Vec::new();
        self.run(include_str!("../../queries/statements.sql"), &[], |row| {
            if let [Value::Text(sql)] = row {
                statements.push((*sql).to_owned());
            }
        })?;
        Ok(statements)
    }
}

/// What a document says of each table's columns: under a heading that is a name in backticks, the
/// second cell of each line of a table, with that of NULL.
fn described(document: &str) -> HashMap<(&str, &str), String> {
    let mut found = HashMap::new();
    let mut table = None;
    for line in document.lines() {
        if line.starts_with('#') {
            table = name_in(line.trim_start_matches('#'));
        } else if let (Some(table), Some(cells)) = (table, line.strip_prefix('|')) {
            let mut cells = cells.trim_end_matches('|').split('|').map(str::trim);
            let (Some(name), Some(about)) = (cells.next().and_then(name_in), cells.next()) else {
                continue;
            };
            let null = cells.next().filter(|text| !text.is_empty());
            let about = null.map_or_else(|| about.to_owned(), |n| format!("{about} (NULL: {n})"));
            found.insert((table, name), about);
        }
    }
    found
}

fn name_in(text: &str) -> Option<&str> {
    text.trim().strip_prefix('`')?.strip_suffix('`').filter(|name| !name.contains('`'))
}
