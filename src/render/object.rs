//! One row as one JSON object, for both forms of JSON.

use std::io;

use super::options::{Options, TimeFormat};
use super::time::Rfc3339;
use super::{check_length, value};
use crate::model::{Column, Kind, Value};

pub(super) struct Objects {
    times: TimeFormat,
    rfc3339: Rfc3339,
    fields: Vec<Field>,
}

struct Field {
    kind: Kind,
    /// What stands before the value: `{"name":` for the first, `,"name":` for the others.
    lead: Vec<u8>,
}

impl Objects {
    pub(super) fn new(options: &Options) -> Self {
        Self { times: options.times, rfc3339: Rfc3339::new(), fields: Vec::new() }
    }

    pub(super) fn set_columns(&mut self, columns: &[Column]) -> io::Result<()> {
        self.fields.clear();
        for (index, column) in columns.iter().enumerate() {
            let mut lead = vec![if index == 0 { b'{' } else { b',' }];
            string(&mut lead, column.name)?;
            lead.push(b':');
            self.fields.push(Field { kind: column.kind, lead });
        }
        Ok(())
    }

    /// Refuses a row of the wrong length; to be called before anything of it is written.
    pub(super) fn check(&self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.fields.len(), values.len())
    }

    /// Appends one row.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, values: &[Value<'_>]) -> io::Result<()> {
        if values.is_empty() {
            out.push(b'{');
        }
        for (value, field) in values.iter().zip(&self.fields) {
            out.extend_from_slice(&field.lead);
            match *value {
                Value::Null => out.extend_from_slice(b"null"),
                Value::Integer(number) => match field.kind {
                    Kind::Identifier => quoted(out, |out| value::identifier(out, number)),
                    Kind::Boolean => value::boolean(out, number),
                    Kind::Time if self.times == TimeFormat::Rfc3339 => {
                        let text = self.rfc3339.format(number);
                        quoted(out, |out| out.extend_from_slice(text));
                    }
                    _ => value::integer(out, number),
                },
                Value::Real(number) if number.is_finite() => value::real(out, number)?,
                Value::Real(_) => out.extend_from_slice(b"null"),
                Value::Text(content) => string(out, content)?,
                Value::Bytes(bytes) => quoted(out, |out| value::hex(out, bytes)),
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// Appends a text that needs no escaping.
fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends any text.
fn string(out: &mut Vec<u8>, content: &str) -> io::Result<()> {
    Ok(serde_json::to_writer(out, content)?)
}
