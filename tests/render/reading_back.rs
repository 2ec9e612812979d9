//! What was written, read by other libraries: the same values come back.

use chrono::{DateTime, SecondsFormat};
use proptest::prelude::*;
use sockrec::model::{Column, Kind, Value};
use sockrec::render::{Format, Options};

use crate::{all_kinds, column, one_column, rows, write_all};

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
