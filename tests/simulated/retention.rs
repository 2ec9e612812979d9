//! What is left after the oldest groups were dropped answers as before.

use std::path::Path;

use proptest::prelude::*;

use sockrec::model::Clocks;
use sockrec::query::Question;
use sockrec::store::{Before, Capacity, forecast, prune};

use crate::extracts::{Row, extract_to, integer, rows, with_keyframes};
use crate::harness::{ask, assert_recording_is_whole};
use crate::lifetimes::{config, recorded, recorded_in};
use crate::socket::FakeSocket;
use crate::world::{SECOND, World};

const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

/// Drops what had ended before `moment_ns`; gives the first snapshot that is held and its start.
pub fn prune_before(path: &Path, moment_ns: i64) -> (i64, i64) {
    let utc_ns = moment_ns + 1_000;
    let now = Clocks { utc_ns, monotonic_ns: 0, boottime_ns: 0 };
    let capacity = Capacity { max_age_ns: Some(1_000), ..Capacity::NONE };
    let told = forecast(path, capacity.clone(), now).unwrap();
    let pruned = prune(path, capacity, now).unwrap();
    assert_eq!(told, pruned, "the forecast is exact for an age");
    first_held(path)
}

fn assert_sound(path: &Path) {
    assert_recording_is_whole(path);
    for (what, sql) in [
        (
            "rows of dropped groups",
            "SELECT (SELECT count(*) FROM samples WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM state_changes WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM held_samples WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM missing_sockets WHERE snapshot_id < f.id)
                 + (SELECT count(*) FROM unasked_namespaces WHERE snapshot_id < f.id)
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
pub fn without(columns: &[&str], mut row: Row) -> Row {
    row.retain(|name, _| !columns.contains(name));
    row
}

/// Asserts that two answers are equal; tells where they are not.
#[track_caller]
pub fn assert_same(what: &str, left: Vec<Row>, right: Vec<Row>) {
    let differences: Vec<_> = left
        .iter()
        .zip(&right)
        .flat_map(|(left, right)| {
            let unlike = left.iter().filter(|(name, value)| right.get(*name) != Some(value));
            unlike.map(|(name, value)| format!("{name}: {value}, {:?}", right.get(name)))
        })
        .collect();
    let lengths = (left.len(), right.len());
    assert!(
        lengths.0 == lengths.1 && differences.is_empty(),
        "{what} {lengths:?}: {differences:?}"
    );
}

fn compare(whole: &Path, pruned: &Path, (first, first_ns): (i64, i64), has_restarted: bool) {
    let held = (first_ns, i64::MAX);
    for question in [Question::Samples, Question::Snapshots] {
        assert_same("rows", rows(whole, question, held), rows(pruned, question, held));
    }
    let snapshots = rows(pruned, Question::Snapshots, ALWAYS);
    assert!(snapshots.iter().all(|row| integer(row, "snapshot_id") >= Some(first)));
    for row in &snapshots {
        let question = Question::At { snapshot_id: integer(row, "snapshot_id").unwrap() };
        assert_same("at", rows(whole, question, ALWAYS), rows(pruned, question, ALWAYS));
    }
    compare_connections(whole, pruned, first_ns, has_restarted);
    let gaps = |path, span| {
        let mut gaps = rows(path, Question::Coverage, span);
        gaps.retain(|row| {
            !["recorded", "dropped"].contains(&row["kind"].as_str())
                // An exception that goes on from what was dropped begins with it now.
                && integer(row, "from") > Some(first_ns)
        });
        gaps
    };
    assert_same("gaps", gaps(whole, held), gaps(pruned, held));
    let all = rows(pruned, Question::Coverage, ALWAYS);
    let is_dropped = first > 1;
    assert_eq!(all.iter().any(|row| row["kind"] == "dropped"), is_dropped, "{all:?}");
}

fn compare_connections(whole: &Path, pruned: &Path, first_ns: i64, has_restarted: bool) {
    let of = |path| rows(path, Question::Connections, ALWAYS);
    let (all, left) = (of(whole), of(pruned));
    let told_of = |row: &Row| {
        ["last_seen_at", "closed_before", "destroyed_at"]
            .iter()
            .any(|column| integer(row, column) >= Some(first_ns))
    };
    for row in &all {
        let id = integer(row, "socket_id").unwrap();
        let Some(found) = left.iter().find(|other| integer(other, "socket_id") == Some(id)) else {
            assert!(!told_of(row), "not there any more: {row:?}");
            continue;
        };
        // Of an open one the rows are counted that are held, also by a later capture that goes on with
        // it; gaps say that some were dropped.
        let is_open = format!("SELECT count(*) FROM open_sockets WHERE socket_id = {id}");
        let is_open = ask(pruned, &is_open).unwrap() == 1;
        // How long it went on half-closed is told by the dumps before its TIME-WAIT.
        let is_half = format!(
            "SELECT count(*) FROM remains WHERE socket_id = {id}
                 AND time_wait_snapshot_id IS NOT first_snapshot_id"
        );
        let (mut row, mut found) = (row.clone(), found.clone());
        if ask(pruned, &is_half).unwrap() == 1 {
            for column in ["last_seen_at", "closed_after", "duration_min_ns"] {
                assert!(integer(&found, column) <= integer(&row, column), "{column} of {found:?}");
                row.remove(column);
                found.remove(column);
            }
        }
        let others = if is_open || has_restarted { &["gaps", "samples"][..] } else { &["gaps"] };
        let (row, found) = (without(others, row), without(others, found));
        assert_same("connections", vec![row], vec![found]);
    }
    assert!(left.len() <= all.len());
}

/// What is asked of the held span only.
fn compare_answers(whole: &Path, pruned: &Path, first_ns: i64) {
    let held = (first_ns, i64::MAX);
    for question in [
        Question::Listeners { snapshot_id: None },
        Question::States { bucket_ns: 5 * SECOND },
        Question::Churn { bucket_ns: 5 * SECOND },
    ] {
        let of = |path| {
            let rows = rows(path, question, held);
            rows.into_iter().map(|row| without(&["gaps"], row)).collect::<Vec<_>>()
        };
        assert_same(&format!("{question:?}"), of(whole), of(pruned));
    }
}

fn first_held(path: &Path) -> (i64, i64) {
    let first = ask(path, "SELECT min(first_snapshot_id) FROM groups").unwrap();
    let sql = format!("SELECT started_at_ns FROM snapshots WHERE snapshot_id = {first}");
    (first, ask(path, &sql).unwrap())
}

/// What is written of a socket that was dropped is let go of; these only come in a later batch.
#[test]
fn what_is_told_of_sockets_that_come_by_thousands_is_kept() {
    let mut world = World::default();
    let all: Vec<FakeSocket> = (0..3_000)
        .map(|n| FakeSocket::established(10 + u64::from(n), 10_000 + n, 80).time_wait())
        .collect();
    let all: Vec<_> = all.iter().collect();
    world.shows(&all).shows(&all).shows(&[]).shows(&[]);
    world.record();
    assert_recording_is_whole(&world.path());
    let sql = "SELECT count(*) FROM remains WHERE gone_before_snapshot_id IS NOT NULL";
    assert_eq!(ask(&world.path(), sql).unwrap(), 3_000);
}

#[test]
fn captures_of_which_all_was_dropped_become_one() {
    let mut world = World::default();
    for capture in 0..6 {
        if capture > 0 {
            world.goes_on_after(SECOND);
        }
        world.shows(&[]).shows(&[]);
        world.record();
    }
    let path = world.path();
    let later = Clocks { utc_ns: i64::MAX / 2, monotonic_ns: 0, boottime_ns: 0 };
    let pruned = prune(&path, Capacity { max_age_ns: Some(1), ..Capacity::NONE }, later).unwrap();
    assert_eq!((pruned.snapshots, pruned.is_beyond), (10, true));
    assert_sound(&path);
    for (sql, wanted) in [
        ("SELECT count(*) FROM captures", 2),
        ("SELECT count(*) FROM dropped_spans", 1),
        ("SELECT snapshots FROM dropped_spans", 10),
        ("SELECT min(first_snapshot_id) FROM dropped_spans", 1),
        ("SELECT count(*) FROM gaps WHERE kind = 'not_recording' AND from_ns IS NOT NULL", 1),
        ("SELECT count(*) FROM gaps WHERE kind = 'dropped'", 1),
    ] {
        assert_eq!(ask(&path, sql).unwrap(), wanted, "{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..config() })]
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
            compare(&whole, &path, (first, first_ns), false);
            compare_answers(&whole, &path, first_ns);
            // In two steps it comes to the same.
            let twice = world.directory.path().join("twice.db");
            std::fs::copy(&whole, &twice).unwrap();
            prune_before(&twice, i64::midpoint(from, moment));
            prune_before(&twice, moment);
            assert_sound(&twice);
            compare(&whole, &twice, (first, first_ns), false);
            // A part of what is left is as whole as one of the whole.
            let part = world.directory.path().join("part.db");
            if extract_to(&path, (first_ns, to), Before::Everyone, &part).is_some() {
                assert_recording_is_whole(&part);
            }
        });
    }

    #[test]
    fn a_recorder_that_drops_goes_on_as_one_that_does_not(
        script in with_keyframes(), max_age_s in 1..5_000_i64
    ) {
        recorded(&script, |whole, _| {
            let capacity = Capacity { max_age_ns: Some(max_age_s * SECOND), ..Capacity::NONE };
            recorded_in(World { capacity, ..World::default() }, &script, |world, _| {
                let (first, first_ns) = first_held(&world.path());
                assert_recording_is_whole(&world.path());
                let has_restarted = script.restart.is_some();
                compare(&whole.path(), &world.path(), (first, first_ns), has_restarted);
                compare_answers(&whole.path(), &world.path(), first_ns);
            });
        });
    }
}
