//! `sockrec import`: what others asked their kernels, from any kernel, cut and damaged as it may be.

mod bad;
mod captures;
#[path = "../common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;
mod kernels;
mod real;
#[path = "../simulated/socket.rs"]
#[allow(dead_code, reason = "the recorder's tests use all of it")]
mod socket;
mod truth;

/// What `socket` measures its times from: here the clock is UTC.
mod world {
    /// 2026-11-20 12:00:00 UTC
    pub(crate) const START_MONOTONIC: i64 = 1_795_176_000_000_000_000;
}

use std::fs;
use std::path::Path;

use rusqlite::types::Value;
use sockrec::model::Family;

use harness::{Dir, read_only};
use socket::FakeSocket;

const SECOND: i64 = 1_000_000_000;
const START: i64 = world::START_MONOTONIC;

/// What the kernel says of sockets at a moment.
fn told(sockets: &[&FakeSocket], at_ns: i64) -> Vec<Vec<u8>> {
    sockets.iter().map(|socket| socket.message(Family::Inet, at_ns / 1_000_000)).collect()
}

/// A directory with this file in it.
fn dir_with(name: &str, bytes: &[u8]) -> Dir {
    let dir = Dir::new();
    fs::write(dir.path(name), bytes).unwrap();
    dir
}

/// Rows of plain SQL, values with a blank between, NULL as `-`.
fn rows(path: &Path, sql: &str) -> Vec<String> {
    let connection = read_only(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let text = |value| match value {
        Value::Null => "-".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => n.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => format!("{bytes:?}"),
    };
    let rows = statement.query_map([], |row| {
        let cells: Result<Vec<_>, _> = (0..width).map(|i| row.get(i).map(text)).collect();
        Ok(cells?.join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// A column of an answer about a recording, a value a row.
fn column(dir: &Dir, question: &str, name: &str) -> Vec<String> {
    let line = format!("{question} -f x.db --format csv --columns {name} --time-format unix-ns");
    let ran = dir.sockrec(&line);
    assert!([Some(0), Some(3)].contains(&ran.code()), "{}", ran.told());
    ran.stdout().lines().skip(1).map(|cell| cell.trim_matches('"').to_owned()).collect()
}
