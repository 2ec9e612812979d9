//! Rows of an answer that are kept.

use crate::model::{Column, Value};

/// Rows under named columns.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns.
    pub columns: Vec<Column>,
    cells: Vec<Vec<Cell>>,
}

/// A value that owns what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Integer)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Null, Self::Real)
    }
}

impl Cell {
    fn of(value: &Value<'_>) -> Self {
        match *value {
            Value::Null => Self::Null,
            Value::Integer(v) => Self::Integer(v),
            Value::Real(v) => Self::Real(v),
            Value::Text(v) => Self::Text(v.to_owned()),
            Value::Bytes(v) => Self::Bytes(v.to_owned()),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(v) => Value::Integer(*v),
            Self::Real(v) => Value::Real(*v),
            Self::Text(v) => Value::Text(v),
            Self::Bytes(v) => Value::Bytes(v),
        }
    }
}

impl Rows {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, cells: Vec::new() }
    }

    pub(super) fn push(&mut self, values: &[Value<'_>]) {
        self.push_cells(values.iter().map(Cell::of).collect());
    }

    pub(super) fn push_cells(&mut self, cells: Vec<Cell>) {
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
    cells: &'r [Cell],
}

impl<'r> Row<'r> {
    /// All values in the order of the columns.
    pub fn values(&self) -> Vec<Value<'r>> {
        self.cells.iter().map(Cell::value).collect()
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
        index.and_then(|i| self.cells.get(i)).map_or(Value::Null, Cell::value)
    }
}
