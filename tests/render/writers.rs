//! What is written to: pipes that close, writes that fail, and how much is held back.

use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;

use sockrec::model::{Kind, Value};
use sockrec::render::{Exporter, Format, exporter};

use crate::{all_kinds, column, fixed, plain, write_all};

const STREAMED: [Format; 3] = [Format::Csv, Format::Json, Format::Jsonl];

/// Takes some bytes, then fails as often as it is told to.
struct Failing {
    takes: usize,
    failures: usize,
    kind: ErrorKind,
    taken: Rc<Cell<usize>>,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.taken.get() >= self.takes && self.failures > 0 {
            self.failures -= 1;
            return Err(self.kind.into());
        }
        self.taken.set(self.taken.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_many(exporter: &mut dyn Exporter, rows: usize) -> io::Result<()> {
    exporter.begin(&all_kinds())?;
    let row = plain();
    for _ in 0..rows {
        exporter.row(&row)?;
    }
    exporter.finish()
}

#[test]
fn a_pipe_closed_early_is_an_error_and_no_panic() {
    for format in Format::ALL {
        for rows in [1, 20_000] {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            let mut exporter = exporter(format, &fixed(), Box::new(writer));
            let error = write_many(&mut *exporter, rows).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{format}");
        }
    }
}

#[test]
fn after_one_failed_write_nothing_more_is_written() {
    for format in STREAMED {
        let taken = Rc::new(Cell::new(0));
        let failing = Failing {
            takes: 100_000,
            failures: 1,
            kind: ErrorKind::StorageFull,
            taken: taken.clone(),
        };
        let mut exporter = exporter(format, &fixed(), Box::new(failing));
        let error = write_many(&mut *exporter, 20_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let before = taken.get();
        assert_eq!(exporter.finish().unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(taken.get(), before);
    }
}

#[test]
fn rows_are_not_gathered_in_memory() {
    // A table holds back its first rows to learn its widths, and streams from then on.
    for format in Format::ALL {
        let taken = Rc::new(Cell::new(0));
        let counting =
            Failing { takes: 0, failures: 0, kind: ErrorKind::Other, taken: taken.clone() };
        let mut exporter = exporter(format, &fixed(), Box::new(counting));
        exporter.begin(&all_kinds()).unwrap();
        let row = plain();
        for _ in 0..30_000 {
            exporter.row(&row).unwrap();
        }
        let streamed = taken.get();
        exporter.finish().unwrap();
        assert!(taken.get() - streamed <= 128 * 1024, "{format}: {streamed} of {}", taken.get());
    }
}

#[test]
fn rows_past_those_that_set_the_widths_lose_nothing() {
    let columns = [column("first", Kind::Text), column("second", Kind::Integer)];
    let mut rows = vec![vec![Value::Text("short"), Value::Integer(1)]; 10_000];
    rows.push(vec![Value::Text("much longer than those before"), Value::Integer(22)]);
    rows.push(vec![Value::Text("s"), Value::Integer(1_234_567_890)]);
    rows.push(vec![Value::Text("short"), Value::Integer(1)]);
    let table = write_all(Format::Table, &fixed(), &columns, &rows);
    let last: Vec<_> = table.lines().skip(10_000).collect();
    let expected = [
        "short       1",
        "much longer than those before      22",
        "s      1234567890",
        "short       1",
    ];
    assert_eq!(last, expected);
}
