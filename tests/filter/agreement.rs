//! SQL and the predicate mean the same; what is refused as never true never is.

use std::net::IpAddr;

use proptest::prelude::*;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, ToSql};
use sockrec::filter::{ANSWER, Answer, Filter, PREFIX_FUNCTION, Prefix};
use sockrec::model::OwnedValue;
use sockrec::model::{Column, Value};
use sockrec::query::column;

use crate::arbitrary::{Row, condition, filter_of, row};
use crate::parse;

const NAMES: [&str; 17] = [
    "state",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "interface",
    "mark",
    "rtt_us",
    "duration_min_ns",
    "duration_max_ns",
    "closed_after",
    "closed_before",
    "busy_share",
    "ulp",
    "cgroup",
    "cookie",
    "is_remains",
];

fn columns() -> Vec<(String, Column)> {
    NAMES.iter().map(|&name| (name.to_owned(), *column(name).expect("a column"))).collect()
}

fn database(rows: &[Row]) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection
        .create_scalar_function(PREFIX_FUNCTION, 2, flags, |context| {
            let prefix: Prefix = context.get::<String>(1)?.parse().expect("a prefix");
            let address: Option<String> = context.get(0)?;
            let address = address.map(|a| a.parse::<IpAddr>().expect("an address"));
            Ok(address.map(|address| prefix.contains(address)))
        })
        .unwrap();
    connection
        .execute(&format!("CREATE TABLE {ANSWER} (n INTEGER, {})", NAMES.join(", ")), [])
        .unwrap();
    let places: Vec<_> = (0..=NAMES.len()).map(|_| "?").collect();
    let insert = format!("INSERT INTO {ANSWER} VALUES ({})", places.join(", "));
    for (n, row) in rows.iter().enumerate() {
        let told = &row.told;
        let address = |a: Option<IpAddr>| a.map(|a| a.to_string());
        let values: Vec<Box<dyn ToSql>> = vec![
            Box::new(i64::try_from(n).unwrap()),
            Box::new(told.state.and_then(|state| state.name())),
            Box::new(address(told.local_address)),
            Box::new(told.local_port),
            Box::new(address(told.remote_address)),
            Box::new(told.remote_port),
            Box::new(told.interface.filter(|&index| index != 0)),
            Box::new(told.mark),
            Box::new(row.rtt_us),
            Box::new(row.duration.0),
            Box::new(row.duration.1),
            Box::new(row.closed.0),
            Box::new(row.closed.1),
            Box::new(row.busy_share),
            Box::new(row.ulp.clone()),
            Box::new(row.cgroup.clone()),
            Box::new(row.cookie),
            Box::new(row.is_remains),
        ];
        connection.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
    }
    connection
}

/// What the condition is for each row.
fn by_sql(connection: &Connection, filter: &Filter) -> Vec<Option<bool>> {
    let columns = columns();
    let condition = filter.to_sql(Answer { columns: &columns, holders: None }).unwrap();
    let sql = format!("SELECT {} FROM {ANSWER} ORDER BY n", condition.text);
    let mut statement = connection.prepare(&sql).unwrap();
    for (name, value) in &condition.parameters {
        let index = statement.parameter_index(name).unwrap().unwrap();
        match value {
            OwnedValue::Integer(v) => statement.raw_bind_parameter(index, v),
            OwnedValue::Real(v) => statement.raw_bind_parameter(index, v),
            OwnedValue::Text(v) => statement.raw_bind_parameter(index, v),
            OwnedValue::Null | OwnedValue::Bytes(_) => panic!("{name} is {value:?}"),
        }
        .unwrap();
    }
    let mut rows = statement.raw_query();
    let mut truths = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        truths.push(row.get(0).unwrap());
    }
    truths
}

fn by_predicate(filter: &Filter, row: &Row) -> Option<bool> {
    let integer = |value: Option<i64>| value.map_or(Value::Null, Value::Integer);
    filter.holds(&row.told, &|name| match name {
        "rtt_us" => integer(row.rtt_us),
        "duration_min_ns" => integer(row.duration.0),
        "duration_max_ns" => integer(row.duration.1),
        "closed_after" => integer(row.closed.0),
        "closed_before" => integer(row.closed.1),
        "busy_share" => row.busy_share.map_or(Value::Null, Value::Real),
        "ulp" => row.ulp.as_deref().map_or(Value::Null, Value::Text),
        "cgroup" => row.cgroup.as_deref().map_or(Value::Null, Value::Text),
        "cookie" => integer(row.cookie),
        "is_remains" => integer(row.is_remains),
        other => panic!("{other} is not asked for"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sql_and_the_predicate_mean_the_same(
        text in filter_of(condition()),
        rows in prop::collection::vec(row(), 1..30),
    ) {
        let Ok(filter) = parse(&text) else { return Ok(()) }; // never true
        let expected: Vec<_> = rows.iter().map(|row| by_predicate(&filter, row)).collect();
        prop_assert_eq!(by_sql(&database(&rows), &filter), expected.clone(), "{}", text);
        let inner: Vec<_> =
            rows.iter().map(|row| by_predicate(&filter.with_inner_negations(), row)).collect();
        prop_assert_eq!(inner, expected, "{}", text);
    }

    #[test]
    fn what_is_refused_as_never_true_never_is(
        a in condition(), b in condition(), rows in prop::collection::vec(row(), 50),
    ) {
        if let (Ok(one), Ok(other), Err(_)) = (parse(&a), parse(&b), parse(&format!("({a}) and ({b})"))) {
            for row in &rows {
                let both = [by_predicate(&one, row), by_predicate(&other, row)];
                prop_assert_ne!(both, [Some(true); 2], "{} and {} at {:?}", a, b, row);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same(text in filter_of(condition())) {
        let Ok(filter) = parse(&text) else { return Ok(()) };
        let written = filter.to_string();
        let again = parse(&written);
        prop_assert!(again.is_ok(), "{} as {}: {:?}", text, written, again);
        let again = again.unwrap();
        prop_assert_eq!(again.to_string(), written);
        let conditions = |f: &Filter| -> Vec<_> {
            f.conditions().into_iter().map(|(condition, _)| condition.clone()).collect()
        };
        prop_assert_eq!(conditions(&again), conditions(&filter));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }
}
