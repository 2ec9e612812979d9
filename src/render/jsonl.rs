//! JSON lines: one object a line; nothing at all for no rows.

use std::io;

use super::Exporter;
use super::object::Objects;
use super::options::Options;
use super::sink::Sink;
use crate::model::{Column, Value};

pub(super) struct Jsonl<'w> {
    sink: Sink<'w>,
    objects: Objects,
}

impl<'w> Jsonl<'w> {
    pub(super) fn new(options: &Options, sink: Sink<'w>) -> Self {
        Self { sink, objects: Objects::new(options) }
    }
}

impl Exporter for Jsonl<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.objects.set_columns(columns)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        self.objects.check(values)?;
        self.objects.write(&mut self.sink.buffer, values)?;
        self.sink.buffer.push(b'\n');
        self.sink.line_done()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }
}
