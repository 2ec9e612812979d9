//! Rows of values, written as text: a table for people, CSV, JSON and JSON lines for programs.
//!
//! This floor owns how a value looks and nothing else. The formats know columns and values, not what
//! they are about, so every answer and every export keeps one contract (docs/OUTPUT.md) and a new
//! question needs no code here; only the layouts for people (of `ss`, of connections, of a story) do. CSV and JSON are lossless and stable; the table is for eyes, may
//! change, and is the only format that shortens numbers and escapes hostile text. Rows are written
//! as they come: only the table holds some back, up to a bound, to learn its widths.

mod anonymize;
mod connections;
mod csv;
pub mod human;
mod json;
mod jsonl;
mod object;
mod openmetrics;
mod options;
mod paint;
mod row;
mod sheet;
mod sink;
mod sockets;
mod story;
mod table;
mod time;
mod value;

use std::io::{self, Write};

use crate::model::{CONTAINER_ID_LEN, Column, SHORT_ID_LEN, Value};

pub use anonymize::{Anonymized, Judgement, judgement};
pub use connections::{ConnectionTable, ShownMoment};
pub use human::Zone;
pub use openmetrics::{Metric, MetricKind, openmetrics};
pub use options::{Format, Options, TimeFormat, UnknownName};
pub use sheet::{Sheet, SheetTable};
pub use sockets::{Details, SocketTable};
pub use story::{story_json, story_text};

/// Writes one answer in one format: [`begin`](Self::begin) once, [`row`](Self::row) for each row,
/// [`finish`](Self::finish) at the end.
///
/// Output is buffered; without `finish` its end is missing. Errors are those of the writer (a pipe
/// that was closed early comes as [`io::ErrorKind::BrokenPipe`]), and after one every later write
/// fails with the same kind, so that a hole never hides in the middle of a file.
pub trait Exporter {
    /// Takes the columns and writes the header, if the format has one.
    fn begin(&mut self, columns: &[Column]) -> io::Result<()>;

    /// Writes one row, one value a column in the order of the columns.
    ///
    /// A value that is not of its column's kind (a text in a column of numbers, say) is written as
    /// what it is rather than lost. A row of another length than the header is refused with
    /// [`io::ErrorKind::InvalidInput`] and leaves the output as it was.
    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()>;

    /// Writes what is left and flushes the writer.
    fn finish(&mut self) -> io::Result<()>;
}

/// The exporter for a format.
pub fn exporter<'w>(
    format: Format,
    options: &Options,
    writer: Box<dyn Write + 'w>,
) -> Box<dyn Exporter + 'w> {
    let sink = sink::Sink::new(writer);
    match format {
        Format::Table => Box::new(table::Table::new(options, sink)),
        Format::Csv => Box::new(csv::Csv::new(options, sink)),
        Format::Json => Box::new(json::Json::new(options, sink)),
        Format::Jsonl => Box::new(jsonl::Jsonl::new(options, sink)),
    }
}

/// The width up to which the lines of a table are padded to the longest value: one that is hostile makes its
/// own line long and not every other.
const WIDEST_PADDED: usize = 256;

/// Refuses a row that does not match its header.
fn check_length(columns: usize, values: usize) -> io::Result<()> {
    if columns == values {
        return Ok(());
    }
    let text = format!("a row of {values} values under {columns} columns");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Where a row of a table is of, as far as it has to be named: where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Several hosts.
    pub host: bool,
    /// Several network namespaces of a host.
    pub netns: bool,
}

impl Named {
    /// Neither.
    pub const NONE: Self = Self { host: false, netns: false };
}

/// The name of a namespace as people see it: of the id of a container its first digits.
fn short_netns(name: &str) -> &str {
    let is_id = name.len() == CONTAINER_ID_LEN && name.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &name[..SHORT_ID_LEN] } else { name }
}
