//! How answers look: golden files for every format, and everything read back by other libraries.
//!
//! `UPDATE_GOLDEN=1 cargo test --test render` rewrites tests/fixtures/golden.

mod reading_back;
mod writers;

use std::io::ErrorKind;
use std::path::Path;

use sockrec::model::{Column, Kind, Value};
use sockrec::render::{Format, Options, TimeFormat, Zone, exporter};

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
