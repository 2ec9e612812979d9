//! What every recording must fulfil, whatever happened to those who wrote it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sockrec::store::{Finding, Verdict, check};

/// A connection that cannot change the file, nor fold its log in.
pub(crate) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

/// The whole number that a query gives.
pub(crate) fn ask(path: &Path, sql: &str) -> rusqlite::Result<i64> {
    read_only(path)?.query_row(sql, [], |row| row.get(0))
}

/// Asserts that a recording that was ended cleanly is one file that can be copied off.
#[track_caller]
pub(crate) fn assert_is_one_file(path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let beside: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|other| other != name && other.starts_with(name))
        .collect();
    assert!(beside.is_empty(), "beside {name}: {beside:?}");
    let mode: String = read_only(path)
        .unwrap()
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
}

/// Asserts that a recording is sound and that no table contradicts another.
#[track_caller]
pub(crate) fn assert_recording_is_whole(path: &Path) {
    let found = violations(path);
    assert!(found.is_empty(), "{} is not whole:\n{}", path.display(), found.join("\n"));
}

/// What a recording does not fulfil, with examples.
pub(crate) fn violations(path: &Path) -> Vec<String> {
    let checked = check(path).unwrap();
    let told = |finding: Finding| match finding.verdict {
        Verdict::Holds => None,
        Verdict::Violated { examples, .. } => {
            Some(format!("{}: not so for {examples:?}", finding.invariant.name))
        }
        Verdict::NotKnown { why } => Some(format!("{}: {why}", finding.invariant.name)),
    };
    checked.findings.into_iter().filter_map(told).collect()
}
