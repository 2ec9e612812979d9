//! CSV: RFC 4180 with a header line and line feeds. Written here because an export may hold a billion
//! fields, most of them numbers: the csv crate looks at each byte for something to quote, which was an
//! eighth of a listing. The tests read it back with that crate.

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

    /// Ends the line that began here.
    fn end_line(&mut self, begun: usize) -> io::Result<()> {
        let out = &mut self.sink.buffer;
        if out.len() == begun {
            out.extend_from_slice(b"\"\""); // a line of one empty field would be an empty line
        }
        out.push(b'\n');
        self.sink.line_done()
    }
}

impl Exporter for Csv<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.kinds = columns.iter().map(|column| column.kind).collect();
        let begun = self.sink.buffer.len();
        for (i, column) in columns.iter().enumerate() {
            separate(&mut self.sink.buffer, i);
            text(&mut self.sink.buffer, column.name);
        }
        self.end_line(begun)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.kinds.len(), values.len())?;
        let out = &mut self.sink.buffer;
        let begun = out.len();
        for (i, (value, kind)) in values.iter().zip(&self.kinds).enumerate() {
            separate(out, i);
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
                Value::Text(content) => text(out, content),
                Value::Bytes(bytes) => value::hex(out, bytes),
            }
        }
        self.end_line(begun)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }
}

/// Before every field but the first.
fn separate(out: &mut Vec<u8>, field: usize) {
    if field > 0 {
        out.push(b',');
    }
}

/// Appends a text, in quotes if it needs them.
fn text(out: &mut Vec<u8>, content: &str) {
    let needs_quotes = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    if !content.as_bytes().iter().any(needs_quotes) {
        out.extend_from_slice(content.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in content.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
