//! JSON: an array of objects, one object a line.

use std::io;

use super::Exporter;
use super::object::Objects;
use super::options::Options;
use super::sink::Sink;
use crate::model::{Column, Value};

pub(super) struct Json<'w> {
    sink: Sink<'w>,
    objects: Objects,
    /// A row was written, hence the bracket before it too.
    opened: bool,
}

impl<'w> Json<'w> {
    pub(super) fn new(options: &Options, sink: Sink<'w>) -> Self {
        Self { sink, objects: Objects::new(options), opened: false }
    }
}

impl Exporter for Json<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.objects.set_columns(columns)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        self.objects.check(values)?;
        let lead = if self.opened { b",\n" } else { b"[\n" };
        self.opened = true;
        self.sink.buffer.extend_from_slice(lead);
        self.objects.write(&mut self.sink.buffer, values)?;
        self.sink.line_done()
    }

    fn finish(&mut self) -> io::Result<()> {
        let end: &[u8] = if self.opened { b"\n]\n" } else { b"[]\n" };
        self.sink.buffer.extend_from_slice(end);
        self.sink.finish()
    }
}
