//! What queries give and exports write: named columns of a kind, rows of values.

/// What the values of a column are, which decides how each format writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed number.
    Integer,
    /// An unsigned 64-bit identifier, held in the bits of an `i64`; a string in JSON, where
    /// numbers above 2^53 lose bits.
    Identifier,
    /// Nanoseconds of UTC since 1970.
    Time,
    /// A length of time in nanoseconds.
    Duration,
    /// A floating point number.
    Real,
    /// Text, possibly hostile.
    Text,
    /// True or false, held as 1 or 0.
    Boolean,
    /// Bytes; hexadecimal in text formats.
    Bytes,
}

/// One column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name, the same in every format.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// One line of description.
    pub about: &'static str,
}

/// One value of a row; `Null` is "not known", never zero or empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Not known or not applicable.
    Null,
    /// A whole number, by the column's kind.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A value that owns what it holds.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// Not known or not applicable.
    Null,
    /// A whole number, by the column's kind.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl OwnedValue {
    /// A copy of a value.
    pub fn of(value: &Value<'_>) -> Self {
        match *value {
            Value::Null => Self::Null,
            Value::Integer(v) => Self::Integer(v),
            Value::Real(v) => Self::Real(v),
            Value::Text(v) => Self::Text(v.to_owned()),
            Value::Bytes(v) => Self::Bytes(v.to_owned()),
        }
    }

    /// The value that it holds.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(v) => Value::Integer(*v),
            Self::Real(v) => Value::Real(*v),
            Self::Text(v) => Value::Text(v),
            Self::Bytes(v) => Value::Bytes(v),
        }
    }
}

impl From<Option<i64>> for OwnedValue {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Integer)
    }
}

impl From<Option<f64>> for OwnedValue {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Null, Self::Real)
    }
}
