//! What is left after the oldest groups were dropped answers as before.

use std::path::Path;

use proptest::prelude::*;

use sockrec::model::Clocks;
use sockrec::query::Question;
use sockrec::store::{Limits, forecast, prune};

use crate::extracts::{Row, integer, rows, with_keyframes};
use crate::harness::{ask, read_only};
use crate::lifetimes::{config, recorded};

const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

/// Drops what had ended before `moment_ns`; gives the first snapshot that is held and its start.
fn prune_before(path: &Path, moment_ns: i64) -> (i64, i64) {
    let utc_ns = moment_ns + 1_000;
    let now = Clocks { utc_ns, monotonic_ns: 0, boottime_ns: 0 };
    let limits = Limits { max_bytes: None, max_age_ns: Some(1_000) };
    let told = forecast(path, limits, now).unwrap();
    let pruned = prune(path, limits, now).unwrap();
    assert_eq!(told, pruned, "the forecast is exact for an age");
    let first = ask(path, "SELECT min(first_snapshot_id) FROM groups").unwrap();
    let sql = format!("SELECT started_at_ns FROM snapshots WHERE snapshot_id = {first}");
    (first, ask(path, &sql).unwrap())
}

fn assert_sound(path: &Path) {
    let connection = read_only(path).unwrap();
    let said: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    drop(connection);
    for (what, sql) in [
        ("dangling", "SELECT count(*) FROM pragma_foreign_key_check"),
        (
            "rows of dropped groups",
            "SELECT (SELECT count(*) FROM samples WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM state_changes WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM held_samples WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM missing_sockets WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM conditions WHERE group_id < f.group_id)
                 + (SELECT count(*) FROM settings WHERE group_id < f.group_id)
                 + (SELECT count(*) FROM group_sockets WHERE group_id < f.group_id)
             FROM (SELECT min(group_id) AS group_id, min(first_snapshot_id) AS id FROM groups) AS f",
        ),
        ("free pages", "SELECT freelist_count FROM pragma_freelist_count"),
    ] {
        assert_eq!(ask(path, sql).unwrap(), 0, "{what}");
    }
}

/// All but what an answer says of what was dropped.
fn without(columns: &[&str], mut row: Row) -> Row {
    row.retain(|name, _| !columns.contains(name));
    row
}

fn compare(whole: &Path, pruned: &Path, first: i64, first_ns: i64) {
    let held = (first_ns, i64::MAX);
    for question in [Question::Samples, Question::Snapshots] {
        assert_eq!(rows(whole, question, held), rows(pruned, question, held), "{question:?}");
    }
    let snapshots = rows(pruned, Question::Snapshots, ALWAYS);
    assert!(snapshots.iter().all(|row| integer(row, "snapshot_id") >= Some(first)));
    for row in &snapshots {
        let question = Question::At { snapshot_id: integer(row, "snapshot_id").unwrap() };
        assert_eq!(rows(whole, question, ALWAYS), rows(pruned, question, ALWAYS), "{row:?}");
    }
    compare_connections(whole, pruned, first_ns);
    let gaps = |path, span| {
        let mut gaps = rows(path, Question::Coverage, span);
        gaps.retain(|row| {
            !["recorded", "dropped"].contains(&row["kind"].as_str())
                // An exception that goes on from what was dropped begins with it now.
                && integer(row, "from") > Some(first_ns)
        });
        gaps
    };
    assert_eq!(gaps(whole, held), gaps(pruned, held));
    let all = rows(pruned, Question::Coverage, ALWAYS);
    let is_dropped = first > 1;
    assert_eq!(all.iter().any(|row| row["kind"] == "dropped"), is_dropped, "{all:?}");
}

fn compare_connections(whole: &Path, pruned: &Path, first_ns: i64) {
    let of = |path| rows(path, Question::Connections, ALWAYS);
    let (all, left) = (of(whole), of(pruned));
    let told_of = |row: &Row| {
        ["last_seen_at", "closed_before", "destroyed_at"]
            .iter()
            .any(|column| integer(row, column) >= Some(first_ns))
    };
    for row in &all {
        let found = left.iter().find(|other| other["socket_id"] == row["socket_id"]);
        let Some(found) = found else {
            assert!(!told_of(row), "not there any more: {row:?}");
            continue;
        };
        // Of a live one the rows are counted that are held; gaps say that some were dropped.
        let others = ["gaps", "samples"];
        let others = if row["closed_before"] == "-" { &others[..] } else { &others[..1] };
        assert_eq!(without(others, row.clone()), without(others, found.clone()));
    }
    assert!(left.len() <= all.len());
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn what_is_held_answers_as_before(script in with_keyframes(), place in 0.0..1.1_f64) {
        recorded(&script, |world, _| {
            let (whole, path) = (world.path(), world.directory.path().join("pruned.db"));
            std::fs::copy(&whole, &path).unwrap();
            let all = rows(&whole, Question::Snapshots, ALWAYS);
            let from = integer(&all[0], "started_at").unwrap();
            let to = integer(all.last().unwrap(), "ended_at").unwrap();
            let moment = from + ((to - from) as f64 * place) as i64;
            let (first, first_ns) = prune_before(&path, moment);
            assert_sound(&path);
            compare(&whole, &path, first, first_ns);
            // In two steps it comes to the same.
            let twice = world.directory.path().join("twice.db");
            std::fs::copy(&whole, &twice).unwrap();
            prune_before(&twice, i64::midpoint(from, moment));
            prune_before(&twice, moment);
            assert_sound(&twice);
            compare(&whole, &twice, first, first_ns);
        });
    }
}
