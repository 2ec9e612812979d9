//! CSV: RFC 4180 with a header line and line feeds.
//!
//! The quoting is ours and not the csv crate's, because that one cannot tell an empty text (`""`)
//! from an unknown value (nothing), and the difference is kept. The tests read everything back with
//! the csv crate.

use std::io;

use super::options::{Options, TimeFormat};
use super::sink::Sink;
use super::time::Rfc3339;
use super::{Exporter, check_length, value};
use crate::model::{Column, Kind, Value};

pub(super) struct Csv<'w> {
    sink: Sink<'w>,
    times: TimeFormat,
    rfc3339: Rfc3339,
    kinds: Vec<Kind>,
}

impl<'w> Csv<'w> {
    pub(super) fn new(options: &Options, sink: Sink<'w>) -> Self {
        Self { sink, times: options.times, rfc3339: Rfc3339::new(), kinds: Vec::new() }
    }
}

impl Exporter for Csv<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.kinds = columns.iter().map(|column| column.kind).collect();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.sink.buffer.push(b',');
            }
            text(&mut self.sink.buffer, column.name.as_bytes());
        }
        self.sink.buffer.push(b'\n');
        self.sink.line_done()
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.kinds.len(), values.len())?;
        let out = &mut self.sink.buffer;
        // Readers skip an empty line, and a lone unknown value would be one.
        if matches!(values, [Value::Null]) {
            out.extend_from_slice(b"\"\"");
        }
        for (index, (value, kind)) in values.iter().zip(&self.kinds).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match *value {
                Value::Null => {}
                Value::Integer(number) => match kind {
                    Kind::Identifier => value::identifier(out, number),
                    Kind::Boolean => value::boolean(out, number),
                    Kind::Time if self.times == TimeFormat::Rfc3339 => {
                        out.extend_from_slice(self.rfc3339.format(number));
                    }
                    _ => value::integer(out, number),
                },
                Value::Real(number) if number.is_finite() => value::real(out, number)?,
                Value::Real(_) => {}
                Value::Text(content) => text(out, content.as_bytes()),
                Value::Bytes([]) => text(out, b""),
                Value::Bytes(bytes) => value::hex(out, bytes),
            }
        }
        out.push(b'\n');
        self.sink.line_done()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }
}

/// Appends text, quoted where a reader would take it apart otherwise.
fn text(out: &mut Vec<u8>, content: &[u8]) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    if !content.is_empty() && !content.iter().any(special) {
        out.extend_from_slice(content);
        return;
    }
    out.push(b'"');
    for (index, part) in content.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}
