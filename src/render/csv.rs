//! CSV: RFC 4180 with a header line and line feeds, quoted by the csv crate.

use std::io;

use super::options::{Options, TimeFormat};
use super::sink::Sink;
use super::time::Rfc3339;
use super::{Exporter, check_length, value};
use crate::model::{Column, Kind, Value};

pub(super) struct Csv<'w> {
    writer: csv::Writer<Sink<'w>>,
    times: TimeFormat,
    rfc3339: Rfc3339,
    kinds: Vec<Kind>,
    field: Vec<u8>,
}

impl<'w> Csv<'w> {
    pub(super) fn new(options: &Options, sink: Sink<'w>) -> Self {
        Self {
            writer: csv::Writer::from_writer(sink),
            times: options.times,
            rfc3339: Rfc3339::new(),
            kinds: Vec::new(),
            field: Vec::new(),
        }
    }
}

impl Exporter for Csv<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.kinds = columns.iter().map(|column| column.kind).collect();
        self.writer.write_record(columns.iter().map(|column| column.name)).map_err(cause)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.kinds.len(), values.len())?;
        for (value, kind) in values.iter().zip(&self.kinds) {
            let out = &mut self.field;
            out.clear();
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
                Value::Text(content) => out.extend_from_slice(content.as_bytes()),
                Value::Bytes(bytes) => value::hex(out, bytes),
            }
            self.writer.write_field(&self.field).map_err(cause)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(cause)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The error of the file or pipe itself: who closed it must still be told by its kind.
fn cause(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
