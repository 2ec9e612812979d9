//! How answers look: golden files for every format, and everything read back by other libraries.
//!
//! `UPDATE_GOLDEN=1 cargo test --test render` rewrites tests/fixtures/golden.

use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::rc::Rc;

use chrono::{DateTime, SecondsFormat};
use proptest::prelude::*;
use sockrec::model::{Column, Kind, Value};
use sockrec::render::{Exporter, Format, Options, TimeFormat, Zone, exporter};

const STREAMED: [Format; 3] = [Format::Csv, Format::Json, Format::Jsonl];

fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, about: "" }
}

/// Columns of every kind, and of the names that tables read units from.
fn all_kinds() -> Vec<Column> {
    vec![
        column("cookie", Kind::Identifier),
        column("opened_at", Kind::Time),
        column("lifetime_ns", Kind::Duration),
        column("process", Kind::Text),
        column("retransmits", Kind::Integer),
        column("bytes_sent", Kind::Integer),
        column("rtt_us", Kind::Integer),
        column("sent_at_ms", Kind::Integer),
        column("share", Kind::Real),
        column("closed", Kind::Boolean),
        column("raw", Kind::Bytes),
    ]
}

fn plain() -> Vec<Value<'static>> {
    vec![
        Value::Integer(4_097),
        Value::Integer(1_795_266_187_123_456_789),
        Value::Integer(7_512_345_678_901),
        Value::Text("nginx"),
        Value::Integer(3),
        Value::Integer(1_234_567),
        Value::Integer(12_345),
        Value::Integer(86_400_123),
        Value::Real(0.1),
        Value::Integer(1),
        Value::Bytes(&[0x00, 0x0f, 0xab, 0xff]),
    ]
}

/// What a column can hold, and what someone might put there.
fn rows() -> Vec<Vec<Value<'static>>> {
    let plain = plain();
    let with = |changes: &[(usize, Value<'static>)]| {
        let mut row = plain.clone();
        for &(index, value) in changes {
            row[index] = value;
        }
        row
    };
    let numbers = |n: i64| (0..11).filter(|i| ![3, 8, 10].contains(i)).map(move |i| (i, n));
    let extreme = |n: i64, real: f64| {
        let mut changes: Vec<_> = numbers(n).map(|(i, n)| (i, Value::Integer(n))).collect();
        changes.push((8, Value::Real(real)));
        with(&changes)
    };
    let process = |text: &'static str| with(&[(3, Value::Text(text))]);
    vec![
        plain.clone(),
        vec![Value::Null; 11],
        extreme(0, 0.0),
        extreme(-1, -0.5),
        extreme(i64::MAX, f64::MAX),
        extreme(i64::MIN, 5e-324),
        with(&[(3, Value::Text("")), (8, Value::Real(f64::NAN)), (10, Value::Bytes(&[]))]),
        with(&[(3, Value::Text("-")), (8, Value::Real(f64::INFINITY))]),
        process("comma, \"quote\" and 'quote'"),
        process("two\nlines\r\nand\ta tab"),
        process("\u{1b}[31m\u{1b}]0;owned\u{7}\0\u{7f}\u{9b}31m"),
        process("invoice\u{202e}fdp.exe\u{2066}\u{2069}\u{200e}\u{200f}"),
        process("\u{6f22}\u{5b57} \u{65e5}\u{672c}"),
        process("\u{e9}t\u{e9} e\u{301} \u{1f980}"),
        process("=1+1"),
        process("  back\\slash #  "),
    ]
}

fn write_all(
    format: Format,
    options: &Options,
    columns: &[Column],
    rows: &[Vec<Value<'_>>],
) -> String {
    let mut out = Vec::new();
    let mut exporter = exporter(format, options, Box::new(&mut out));
    exporter.begin(columns).unwrap();
    for row in rows {
        exporter.row(row).unwrap();
    }
    exporter.finish().unwrap();
    drop(exporter);
    String::from_utf8(out).unwrap()
}

fn one_column(format: Format, kind: Kind, values: &[Value<'_>]) -> String {
    let rows: Vec<_> = values.iter().map(|value| vec![*value]).collect();
    write_all(format, &Options::default(), &[column("x", kind)], &rows)
}

fn assert_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{name} is not what it was\n\n{actual}\nhint: if that is meant, run \
         `UPDATE_GOLDEN=1 cargo test --test render` and read the diff"
    );
}

fn fixed() -> Options {
    Options { zone: Zone::Fixed(3_600), ..Options::default() }
}

#[test]
fn csv_is_as_documented() {
    assert_golden("all_kinds.csv", &write_all(Format::Csv, &fixed(), &all_kinds(), &rows()));
}

#[test]
fn json_is_as_documented() {
    assert_golden("all_kinds.json", &write_all(Format::Json, &fixed(), &all_kinds(), &rows()));
}

#[test]
fn jsonl_is_as_documented() {
    assert_golden("all_kinds.jsonl", &write_all(Format::Jsonl, &fixed(), &all_kinds(), &rows()));
}

#[test]
fn tables_are_readable() {
    assert_golden("all_kinds.txt", &write_all(Format::Table, &fixed(), &all_kinds(), &rows()));
}

#[test]
fn exact_tables_shorten_nothing() {
    let options = Options { exact: true, zone: Zone::Utc, ..Options::default() };
    let table = write_all(Format::Table, &options, &all_kinds(), &rows());
    assert_golden("all_kinds_exact_utc.txt", &table);
}

#[test]
fn narrow_tables_name_the_columns_that_they_hide() {
    let options = Options { width: Some(80), ..fixed() };
    let table = write_all(Format::Table, &options, &all_kinds(), &[plain()]);
    assert_golden("narrow.txt", &table);
}

#[test]
fn times_can_be_nanoseconds() {
    let options = Options { times: TimeFormat::UnixNs, ..fixed() };
    let columns = [column("at", Kind::Time), column("closed", Kind::Boolean)];
    let rows = [vec![Value::Integer(-1), Value::Integer(0)], vec![Value::Null, Value::Null]];
    let written = |format| write_all(format, &options, &columns, &rows);
    assert_eq!(written(Format::Csv), "at,closed\n-1,false\n,\n");
    assert_eq!(
        written(Format::Jsonl),
        "{\"at\":-1,\"closed\":false}\n{\"at\":null,\"closed\":null}\n"
    );
    assert_eq!(written(Format::Table), "AT  CLOSED\n-1  no\n -  -\n");
}

#[test]
fn an_answer_without_rows_is_valid_in_every_format() {
    let columns = all_kinds();
    let written = |format| write_all(format, &fixed(), &columns, &[]);
    assert_eq!(written(Format::Json), "[]\n");
    assert_eq!(written(Format::Jsonl), "");
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    assert_eq!(written(Format::Csv), names.join(",") + "\n");
    let header: Vec<_> = written(Format::Table).split_whitespace().map(str::to_owned).collect();
    assert_eq!(header.join(",").to_lowercase(), names.join(","));
}

#[test]
fn names_of_columns_are_escaped_like_values() {
    let columns = [column("count(\"a\",\u{1b}[m)", Kind::Integer)];
    let written = |format| write_all(format, &fixed(), &columns, &[vec![Value::Integer(1)]]);
    assert!(written(Format::Csv).starts_with("\"count(\"\"a\"\",\u{1b}[m)\"\n"));
    assert_eq!(written(Format::Jsonl), "{\"count(\\\"a\\\",\\u001b[m)\":1}\n");
    assert!(written(Format::Table).starts_with("COUNT(\"A\",\\x1b[M)\n"));
}

#[test]
fn a_value_of_another_kind_is_written_as_what_it_is() {
    let values = [Value::Text("seven"), Value::Real(7.5), Value::Bytes(&[7])];
    assert_eq!(one_column(Format::Csv, Kind::Identifier, &values), "x\nseven\n7.5\n07\n");
    let jsonl = one_column(Format::Jsonl, Kind::Time, &values);
    assert_eq!(jsonl, "{\"x\":\"seven\"}\n{\"x\":7.5}\n{\"x\":\"07\"}\n");
    let table = one_column(Format::Table, Kind::Boolean, &values);
    assert_eq!(table, "X\nseven\n7.500\n07\n");
}

#[test]
fn a_csv_row_of_one_unknown_value_is_still_a_row() {
    // An empty line would be no row at all to most readers.
    assert_eq!(one_column(Format::Csv, Kind::Text, &[Value::Null]), "x\n\"\"\n");
}

#[test]
fn a_row_of_the_wrong_length_is_refused_and_leaves_no_trace() {
    for format in Format::ALL {
        let mut out = Vec::new();
        let mut exporter = exporter(format, &fixed(), Box::new(&mut out));
        exporter.begin(&[column("x", Kind::Integer)]).unwrap();
        for wrong in [&[][..], &[Value::Integer(1), Value::Integer(2)]] {
            assert_eq!(exporter.row(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        exporter.row(&[Value::Integer(3)]).unwrap();
        exporter.finish().unwrap();
        drop(exporter);
        let expected = one_column(format, Kind::Integer, &[Value::Integer(3)]);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn formats_are_known_by_their_names() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    for times in TimeFormat::ALL {
        assert_eq!(times.to_string().parse(), Ok(times));
    }
    let error = "xml".parse::<Format>().unwrap_err().to_string();
    assert_eq!(error, "unknown format `xml`, expected one of `table`, `csv`, `json`, `jsonl`");
    let error = "".parse::<TimeFormat>().unwrap_err().to_string();
    assert_eq!(error, "unknown time format ``, expected one of `rfc3339`, `unix-ns`");
}

// Reading back.

/// What a value may come back as: text formats do not know an infinite number.
fn as_kept(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Real(number) if !number.is_finite() => Value::Null,
        value => value,
    }
}

/// A value from the text of its kind.
fn parsed<'a>(kind: Kind, text: &'a str, bytes: &'a mut Vec<u8>) -> Value<'a> {
    match kind {
        Kind::Integer | Kind::Duration => Value::Integer(text.parse().unwrap()),
        Kind::Identifier => Value::Integer(text.parse::<u64>().unwrap().cast_signed()),
        Kind::Time => {
            let time = DateTime::parse_from_rfc3339(text).unwrap();
            Value::Integer(time.timestamp_nanos_opt().unwrap())
        }
        Kind::Real => Value::Real(text.parse().unwrap()),
        Kind::Boolean => Value::Integer(text.parse::<bool>().unwrap().into()),
        Kind::Text => Value::Text(text),
        Kind::Bytes => {
            for pair in text.as_bytes().chunks(2) {
                let digits = std::str::from_utf8(pair).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            Value::Bytes(bytes)
        }
    }
}

fn assert_same_value(column: &Column, read: Value<'_>, written: Value<'_>) {
    match (read, as_kept(written)) {
        // Only 0 and 1 are booleans; the others are true.
        (Value::Integer(read), Value::Integer(written)) if column.kind == Kind::Boolean => {
            assert_eq!(read, i64::from(written != 0));
        }
        (read, written) => assert_eq!(read, written, "{}", column.name),
    }
}

fn assert_csv_reads_back(columns: &[Column], rows: &[Vec<Value<'_>>]) {
    let written = write_all(Format::Csv, &Options::default(), columns, rows);
    let mut reader = csv::Reader::from_reader(written.as_bytes());
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    assert_eq!(reader.headers().unwrap(), names);
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(rows) {
        assert_eq!(record.len(), row.len());
        for ((text, value), column) in record.iter().zip(row).zip(columns) {
            // The csv crate does not tell `""` from nothing; another test looks at the bytes.
            if text.is_empty() {
                let empty = [Value::Null, Value::Text(""), Value::Bytes(&[])];
                assert!(empty.contains(&as_kept(*value)), "{value:?}");
                continue;
            }
            assert_same_value(column, parsed(column.kind, text, &mut Vec::new()), *value);
        }
    }
}

fn assert_json_reads_back(columns: &[Column], rows: &[Vec<Value<'_>>]) {
    let json = write_all(Format::Json, &Options::default(), columns, rows);
    let objects: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(&json).unwrap();
    let jsonl = write_all(Format::Jsonl, &Options::default(), columns, rows);
    let lines: Vec<serde_json::Map<String, serde_json::Value>> =
        jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects, lines);
    assert_eq!(json.lines().count(), rows.len() + if rows.is_empty() { 1 } else { 2 });

    assert_eq!(objects.len(), rows.len());
    for (object, row) in objects.iter().zip(rows) {
        assert_eq!(object.len(), columns.len());
        for (column, value) in columns.iter().zip(row) {
            use serde_json::Value as Json;
            let string_of_number = matches!(column.kind, Kind::Identifier | Kind::Time);
            let mut bytes = Vec::new();
            let read = match (&object[column.name], column.kind) {
                (Json::Null, _) => Value::Null,
                (Json::Bool(value), Kind::Boolean) => Value::Integer((*value).into()),
                (Json::Number(number), Kind::Real) => Value::Real(number.as_f64().unwrap()),
                (Json::Number(number), _) if !string_of_number => {
                    Value::Integer(number.as_i64().unwrap())
                }
                (Json::String(text), kind) => parsed(kind, text, &mut bytes),
                (other, kind) => panic!("{other} for {kind:?}"),
            };
            assert_same_value(column, read, *value);
        }
    }
}

#[test]
fn csv_reads_back_as_the_same_values() {
    assert_csv_reads_back(&all_kinds(), &rows());
    assert_csv_reads_back(&all_kinds(), &[]);
}

#[test]
fn json_reads_back_as_the_same_values() {
    assert_json_reads_back(&all_kinds(), &rows());
    assert_json_reads_back(&all_kinds(), &[]);
}

/// Any text, and often such that needs quoting.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a,\"\r\n\\\\\t' ;#\u{0}\u{1b}\u{e9}\u{202e}]{0,12}"]
}

proptest! {
    #[test]
    fn any_text_and_number_reads_back(
        rows in prop::collection::vec((any_text(), any_text(), any::<i64>(), any::<Vec<u8>>()), 0..8)
    ) {
        let columns = [
            column("first", Kind::Text),
            column("cookie", Kind::Identifier),
            column("bytes", Kind::Integer),
            column("at", Kind::Time),
            column("raw", Kind::Bytes),
            column("last", Kind::Text),
        ];
        let rows: Vec<_> = rows
            .iter()
            .map(|(first, last, number, raw)| {
                let number = Value::Integer(*number);
                let (first, last) = (Value::Text(first), Value::Text(last));
                vec![first, number, number, number, Value::Bytes(raw), last]
            })
            .collect();
        assert_csv_reads_back(&columns, &rows);
        assert_json_reads_back(&columns, &rows);
    }

    #[test]
    fn any_text_alone_in_its_row_reads_back(texts in prop::collection::vec(any_text(), 0..8)) {
        let rows: Vec<_> = texts.iter().map(|text| vec![Value::Text(text)]).collect();
        assert_csv_reads_back(&[column("x", Kind::Text)], &rows);
        assert_json_reads_back(&[column("x", Kind::Text)], &rows);
    }

    // By the text, as serde_json reads some numbers one bit off unless it is told not to.
    #[test]
    fn any_real_reads_back_to_the_bit(number in any::<f64>()) {
        let csv = one_column(Format::Csv, Kind::Real, &[Value::Real(number)]);
        let jsonl = one_column(Format::Jsonl, Kind::Real, &[Value::Real(number)]);
        let in_csv = csv.lines().nth(1).unwrap();
        let in_json = jsonl.trim().strip_prefix("{\"x\":").unwrap().strip_suffix('}').unwrap();
        if number.is_finite() {
            prop_assert_eq!(in_csv.parse::<f64>().unwrap().to_bits(), number.to_bits());
            prop_assert_eq!(in_json, in_csv);
        } else {
            prop_assert_eq!((in_csv, in_json), ("", "null"));
        }
    }

    #[test]
    fn any_text_keeps_a_table_to_its_lines(texts in prop::collection::vec(any_text(), 0..8)) {
        let values: Vec<_> = texts.iter().map(|text| Value::Text(text)).collect();
        let table = one_column(Format::Table, Kind::Text, &values);
        prop_assert_eq!(table.split('\n').count(), texts.len() + 2);
        prop_assert!(!table.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_table_is_never_wider_than_it_may_be(
        texts in prop::collection::vec("[a-z\u{6f22}\u{e9}]{0,20}", 4),
        width in 20_usize..80,
    ) {
        let names = ["a", "b", "c", "d"];
        let columns = names.map(|name| column(name, Kind::Text));
        let row: Vec<_> = texts.iter().map(|text| Value::Text(text)).collect();
        let options = Options { width: Some(width), ..Options::default() };
        let table = write_all(Format::Table, &options, &columns, &[row]);
        let fits = |line: &str| unicode_width::UnicodeWidthStr::width(line) <= width;
        let header = table.lines().next().unwrap();
        let shown = header.split_whitespace().count();
        prop_assert!(shown == 1 || table.lines().take(2).all(fits), "{}", table);
        let hidden = table.lines().nth(2).unwrap_or_default();
        let named = hidden.split(": ").nth(1).map_or(0, |names| names.split(", ").count());
        prop_assert_eq!(shown + named, 4);
    }
}

// Time.

#[test]
fn moments_are_those_of_chrono() {
    const DAY: i64 = 86_400_000_000_000;
    let mut moments = vec![0, -1, 1, i64::MIN, i64::MAX];
    // The edges of every day that an i64 can hold: all leap years and turns of centuries.
    for day in i64::MIN / DAY..=i64::MAX / DAY {
        moments.extend([day * DAY - 1, day * DAY]);
    }
    // And moments all over, by the generator of Knuth's MMIX.
    let mut random = 1_i64;
    for _ in 0..100_000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        moments.push(random);
    }
    let values: Vec<_> = moments.iter().map(|&ns| Value::Integer(ns)).collect();
    let written = one_column(Format::Csv, Kind::Time, &values);
    for (ours, &ns) in written.lines().skip(1).zip(&moments) {
        let theirs = DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true);
        assert_eq!(ours, theirs, "{ns}");
    }
}

// Writers.

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
