//! A table for people: aligned columns, short numbers, nothing that acts on a terminal.
//!
//! Widths have to be known before the first line, so rows are held back. Only so many of them: past
//! the bound the widths are settled, rows are written as they come, and a wider value pushes its
//! own line out of step instead of filling the memory.

use std::fmt::{self, Write};
use std::io;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::human::{self, Moment, Span, Zone};
use super::options::{Options, TimeFormat};
use super::paint;
use super::sink::Sink;
use super::{Exporter, WIDEST_PADDED, check_length};
use crate::model::{Column, Kind, Value};

/// Rows held back at most.
const HELD_ROWS: usize = 10_000;
/// Text held back at most, in bytes.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// Spaces between columns.
const GAP: usize = 2;

pub(super) struct Table<'w> {
    sink: Sink<'w>,
    options: Options,
    columns: Vec<Shown>,
    /// The cells held back, one after the other, row after row.
    text: String,
    cells: Vec<Cell>,
    /// How many columns fit; known once the widths are settled.
    fitting: Option<usize>,
    hides_blank: bool,
}

/// A column as the table shows it.
struct Shown {
    name: &'static str,
    numbers: Numbers,
    /// Numbers end on the right, all else begins on the left.
    right: bool,
    width: usize,
    held: Held,
    is_hidden: bool,
}

/// What the cells of a column have in common so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Unknown,
    Zero,
    Values,
}

impl Held {
    fn and(self, cell: &str) -> Self {
        let of_cell = match cell {
            "-" => Self::Unknown,
            "0" | "0%" | "0s" | "none" => Self::Zero,
            _ => Self::Values,
        };
        if self == Self::Nothing || self == of_cell { of_cell } else { Self::Values }
    }
}

/// How the numbers of a column are written.
#[derive(Clone, Copy)]
pub(super) enum Numbers {
    Plain,
    Identifier,
    Time(Zone),
    Boolean,
    /// Lengths of time in a unit of so many nanoseconds.
    Span(u64),
    /// Bytes.
    Size,
}

impl Shown {
    /// The width that most values need not exceed.
    fn usual_width(&self) -> usize {
        match self.numbers {
            Numbers::Plain if matches!(self.name, "local" | "remote") => 21,
            Numbers::Plain if matches!(self.name, "process" | "closed") => 12,
            Numbers::Plain if matches!(self.name, "net" | "dir" | "retr") => 4,
            Numbers::Plain if self.right => 5,
            // An IPv4 one.
            Numbers::Plain if self.name.ends_with("address") => 15,
            Numbers::Plain => 8,
            Numbers::Identifier => 12,
            Numbers::Time(_) => 30,
            Numbers::Boolean => 5,
            Numbers::Span(_) | Numbers::Size => 7,
        }
    }
}

struct Cell {
    /// Where its text ends; it begins where the one before ends.
    end: usize,
    /// In terminal cells.
    width: usize,
}

impl<'w> Table<'w> {
    pub(super) fn new(options: &Options, sink: Sink<'w>) -> Self {
        let options = *options;
        let (columns, cells) = (Vec::new(), Vec::new());
        let (text, fitting, hides_blank) = (String::new(), None, false);
        Self { sink, options, columns, text, cells, fitting, hides_blank }
    }

    /// Where not all columns fit, those (but the first) whose cells are all 0, or all not known, are the
    /// first to go, and the last lines say so. Where not all rows are held back nobody can tell.
    pub(super) fn without_blank_columns(self) -> Self {
        Self { hides_blank: true, ..self }
    }

    /// Fixes the widths by what is held back, and writes the header and that.
    fn settle(&mut self, is_all: bool) -> io::Result<usize> {
        if let Some(fitting) = self.fitting {
            return Ok(fitting);
        }
        let is_tight = fitting(&self.columns, self.options.width) < self.columns.len();
        if self.hides_blank && is_all && is_tight {
            for column in self.columns.iter_mut().skip(1) {
                column.is_hidden = matches!(column.held, Held::Zero | Held::Unknown);
            }
        }
        let fitting = fitting(&self.columns, self.options.width);
        self.fitting = Some(fitting);
        let shown = &self.columns[..fitting];
        let mut header = String::new();
        let mut names = Vec::with_capacity(fitting);
        for column in shown {
            write_name(&mut header, column.name).map_err(io::Error::other)?;
            names.push(Cell { end: header.len(), width: 0 });
        }
        measure(&header, 0, &mut names);
        if !shown.is_empty() {
            let style = |_: &str, _: &str| paint::TITLE;
            write_line(
                &mut self.sink,
                shown,
                &header,
                0,
                &names,
                self.options.color.then_some(style),
            )?;
        }
        self.write_held(fitting)?;
        Ok(fitting)
    }

    /// Writes the rows held back and forgets them.
    fn write_held(&mut self, fitting: usize) -> io::Result<()> {
        let mut start = 0;
        for row in self.cells.chunks(self.columns.len().max(1)) {
            let columns = &self.columns[..fitting];
            let style = self.options.color.then_some(paint::of_cell);
            write_line(&mut self.sink, columns, &self.text, start, row, style)?;
            start = row.last().map_or(start, |cell| cell.end);
        }
        self.text.clear();
        self.cells.clear();
        Ok(())
    }
}

impl Exporter for Table<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.columns = columns.iter().map(|column| shown(column, &self.options)).collect();
        let mut name = String::new();
        for column in &mut self.columns {
            name.clear();
            write_name(&mut name, column.name).map_err(io::Error::other)?;
            column.width = name.width();
            if self.options.streams {
                column.width = column.width.max(column.usual_width());
            }
        }
        Ok(())
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.columns.len(), values.len())?;
        let (text_start, first_cell) = (self.text.len(), self.cells.len());
        for (value, column) in values.iter().zip(&self.columns) {
            write_value(&mut self.text, value, column.numbers, self.options.exact)
                .map_err(io::Error::other)?;
            self.cells.push(Cell { end: self.text.len(), width: 0 });
        }
        measure(&self.text, text_start, &mut self.cells[first_cell..]);
        if let Some(fitting) = self.fitting {
            return self.write_held(fitting);
        }
        let mut start = text_start;
        for (column, cell) in self.columns.iter_mut().zip(&self.cells[first_cell..]) {
            column.width = column.width.max(cell.width);
            column.held = column.held.and(&self.text[start..cell.end]);
            start = cell.end;
        }
        let rows = self.cells.len() / self.columns.len().max(1);
        if rows >= HELD_ROWS || self.text.len() >= HELD_BYTES {
            self.settle(false)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let fitting = self.settle(true)?;
        let (shown, others) = self.columns.split_at(fitting);
        let others: Vec<_> = others.iter().filter(|column| !column.is_hidden).collect();
        if !others.is_empty() {
            let s = if others.len() == 1 { "" } else { "s" };
            let note = format!(
                "{} column{s} not shown, use --columns or a wider terminal: {}\n",
                others.len(),
                names_of(others.into_iter())
            );
            self.sink.buffer.extend_from_slice(note.as_bytes());
        }
        for (held, what) in [(Held::Zero, "0 or none"), (Held::Unknown, "not known")] {
            let all = shown.iter().chain(&self.columns[fitting..]);
            let mut blank = all.filter(|column| column.is_hidden && column.held == held).peekable();
            if blank.peek().is_some() {
                let note = format!("{what} in every row: {}\n", names_of(blank));
                self.sink.buffer.extend_from_slice(note.as_bytes());
            }
        }
        self.sink.finish()
    }
}

fn names_of<'c>(columns: impl Iterator<Item = &'c Shown>) -> String {
    let names: Vec<_> = columns.map(|column| human::visible(column.name).to_string()).collect();
    names.join(", ")
}

fn shown(column: &Column, options: &Options) -> Shown {
    let right = match column.kind {
        Kind::Integer | Kind::Identifier | Kind::Duration | Kind::Real => true,
        Kind::Time => options.times == TimeFormat::UnixNs,
        Kind::Text | Kind::Boolean | Kind::Bytes => false,
    };
    let (name, numbers) = (column.name, numbers(column, options));
    Shown { name, numbers, right, width: 0, held: Held::Nothing, is_hidden: false }
}

/// How the numbers of a column are written.
pub(super) fn numbers(column: &Column, options: &Options) -> Numbers {
    match column.kind {
        Kind::Identifier => Numbers::Identifier,
        Kind::Boolean => Numbers::Boolean,
        Kind::Time if options.times == TimeFormat::Rfc3339 => Numbers::Time(options.zone),
        Kind::Duration if !options.exact => Numbers::Span(1),
        Kind::Integer | Kind::Real if !options.exact => by_name(column.name),
        _ => Numbers::Plain,
    }
}

/// What the unit in a column's name says about its numbers.
fn by_name(name: &str) -> Numbers {
    let units = [("_ns", 1), ("_us", 1_000), ("_ms", 1_000_000)];
    for (suffix, unit_ns) in units {
        if let Some(stem) = name.strip_suffix(suffix) {
            // A reading of a clock is no length of time: cut to `3d04h` it would be of no use.
            let reading = ["_at", "utc", "monotonic", "boottime"];
            let is_reading = reading.iter().any(|word| stem.ends_with(word));
            return if is_reading { Numbers::Plain } else { Numbers::Span(unit_ns) };
        }
    }
    let counts_bytes = name.split('_').any(|word| word == "bytes");
    if counts_bytes { Numbers::Size } else { Numbers::Plain }
}

/// How many columns, from the left, fit into the width; at least the first.
fn fitting(columns: &[Shown], width: Option<usize>) -> usize {
    let Some(limit) = width else { return columns.len() };
    let mut used = 0;
    for (index, column) in columns.iter().enumerate().filter(|(_, column)| !column.is_hidden) {
        used += column.width + if index == 0 { 0 } else { GAP };
        if used > limit {
            return index.max(1);
        }
    }
    columns.len()
}

fn write_name(out: &mut String, name: &str) -> fmt::Result {
    write!(out, "{}", human::visible(&name.to_uppercase()))
}

pub(super) fn write_value(
    out: &mut String,
    value: &Value<'_>,
    numbers: Numbers,
    exact: bool,
) -> fmt::Result {
    match *value {
        Value::Null => out.write_char('-'),
        Value::Integer(number) => match numbers {
            Numbers::Plain => out.write_str(itoa::Buffer::new().format(number)),
            Numbers::Identifier => {
                out.write_str(itoa::Buffer::new().format(number.cast_unsigned()))
            }
            Numbers::Time(zone) => write!(out, "{}", Moment::new(number, zone, exact)),
            Numbers::Boolean => out.write_str(if number == 0 { "no" } else { "yes" }),
            Numbers::Span(unit_ns) => write!(out, "{}", Span::of_units(number, unit_ns)),
            Numbers::Size => write!(out, "{}", human::bytes(number)),
        },
        Value::Real(number) if !number.is_finite() => out.write_char('-'),
        Value::Real(number) => match numbers {
            // The casts saturate, which is far outside anything worth reading.
            Numbers::Span(unit_ns) => {
                let ns = number * unit_ns as f64;
                write!(out, "{}", Span::of_units(ns as i64, 1))
            }
            Numbers::Size => write!(out, "{}", human::bytes(number as i64)),
            _ if exact => write!(out, "{number:?}"),
            _ if number == 0.0 || (1e-3..1e15).contains(&number.abs()) => {
                write!(out, "{number:.3}")
            }
            _ => write!(out, "{number:e}"),
        },
        Value::Text("") | Value::Bytes([]) => out.write_str("\"\""),
        Value::Text(text) => write!(out, "{}", human::visible(text)),
        Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
    }
}

/// Sets the widths of cells whose text begins at `start`.
fn measure(text: &str, mut start: usize, cells: &mut [Cell]) {
    for cell in cells {
        cell.width = text[start..cell.end].width();
        start = cell.end;
    }
}

/// Writes the cells of one line that have a column; their text begins at `start`. `style` is asked how
/// each is set off, by the name of its column and its text.
fn write_line(
    sink: &mut Sink<'_>,
    columns: &[Shown],
    text: &str,
    mut start: usize,
    cells: &[Cell],
    style: Option<impl Fn(&str, &str) -> Style>,
) -> io::Result<()> {
    let out = &mut sink.buffer;
    // Blanks owed by the columns so far; those at the end of a line are never paid.
    let mut blanks = 0;
    for (column, cell) in columns.iter().zip(cells) {
        if column.is_hidden {
            start = cell.end;
            continue;
        }
        let padding = column.width.min(WIDEST_PADDED).saturating_sub(cell.width);
        let before = if column.right { blanks + padding } else { blanks };
        out.resize(out.len() + before, b' ');
        let text = &text[start..cell.end];
        match &style {
            Some(style) => {
                let style = style(column.name, text);
                io::Write::write_fmt(out, format_args!("{style}{text}{style:#}"))?;
            }
            None => out.extend_from_slice(text.as_bytes()),
        }
        start = cell.end;
        blanks = GAP + if column.right { 0 } else { padding };
    }
    out.push(b'\n');
    sink.line_done()
}
