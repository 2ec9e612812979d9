//! Rows of an answer that are kept.

use crate::model::{Column, OwnedValue, Value};

/// Rows under named columns.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<Column>,
    cells: Vec<Vec<OwnedValue>>,
}

impl Rows {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, cells: Vec::new() }
    }

    pub(super) fn push(&mut self, values: &[Value<'_>]) {
        self.push_cells(values.iter().map(OwnedValue::of).collect());
    }

    pub(super) fn push_cells(&mut self, cells: Vec<OwnedValue>) {
        self.cells.push(cells);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.cells.iter().map(|cells| Row { columns: &self.columns, cells })
    }
}

/// One row, by column name.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    columns: &'r [Column],
    cells: &'r [OwnedValue],
}

impl<'r> Row<'r> {
    /// All values in the order of the columns.
    pub fn values(&self) -> Vec<Value<'r>> {
        self.cells.iter().map(OwnedValue::value).collect()
    }

    /// The whole number in this column, `None` if it is not known.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Value::Integer(v) => Some(v),
            _ => None,
        }
    }

    /// The text in this column, `None` if it is not known.
    pub fn text(&self, name: &str) -> Option<&'r str> {
        match self.value(name) {
            Value::Text(v) => Some(v),
            _ => None,
        }
    }

    /// The process of this row as `comm[pid]`.
    pub fn process(&self) -> String {
        let pid = self.integer("pid").map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        format!("{}[{pid}]", self.text("comm").unwrap_or("?"))
    }

    fn value(&self, name: &str) -> Value<'r> {
        let index = self.columns.iter().position(|column| column.name == name);
        index.and_then(|i| self.cells.get(i)).map_or(Value::Null, OwnedValue::value)
    }
}
