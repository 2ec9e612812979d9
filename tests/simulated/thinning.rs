//! What is left of samples that were thinned answers as before where it says that it does.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use sockrec::model::{Clocks, TcpState};
use sockrec::query::Question;
use sockrec::store::{Before, Capacity, Pruned, ThinRule, forecast, prune};

use crate::extracts::{Row, extract_to, integer, rows, with_keyframes};
use crate::harness::{ask, assert_recording_is_whole, read_only};
use crate::lifetimes::{config, recorded, recorded_in};
use crate::retention::{assert_same, without};
use crate::socket::FakeSocket;
use crate::world::{SECOND, World};

const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

fn to_steps_of(every_ns: i64) -> Capacity {
    Capacity { thin: vec![ThinRule { every_ns, after_ns: 1 }], ..Capacity::NONE }
}

/// Thins all of a copy.
fn thin(whole: &Path, name: &str, every_ns: i64) -> (PathBuf, Pruned) {
    let path = whole.with_file_name(name);
    std::fs::copy(whole, &path).unwrap();
    let pruned = thin_in_place(&path, every_ns);
    (path, pruned)
}

fn thin_in_place(path: &Path, every_ns: i64) -> Pruned {
    let later = Clocks { utc_ns: i64::MAX / 2, monotonic_ns: 0, boottime_ns: 0 };
    let told = forecast(path, to_steps_of(every_ns), later).unwrap();
    let pruned = prune(path, to_steps_of(every_ns), later).unwrap();
    assert_eq!(told, pruned);
    assert_recording_is_whole(path);
    assert_eq!(ask(path, "SELECT freelist_count FROM pragma_freelist_count").unwrap(), 0);
    pruned
}

/// The rows of samples, as they name each other.
fn chains(path: &Path) -> Vec<(i64, i64, Option<i64>)> {
    let reader = read_only(path).unwrap();
    let sql = "SELECT snapshot_id, socket_id, previous_snapshot_id FROM samples ORDER BY 1, 2";
    let mut statement = reader.prepare(sql).unwrap();
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The snapshots that end a step, or their group.
fn ends_of_steps(snapshots: &[Row], every_ns: i64) -> HashSet<i64> {
    let step = |row: &Row| (integer(row, "ended_at").unwrap() - 1).div_euclid(every_ns);
    let is_end = |i: usize| {
        let next = snapshots.get(i + 1);
        next.is_none_or(|n| {
            n["group_id"] != snapshots[i]["group_id"] || step(n) != step(&snapshots[i])
        })
    };
    let ends = (0..snapshots.len()).filter(|&i| is_end(i));
    ends.map(|i| integer(&snapshots[i], "snapshot_id").unwrap()).collect()
}

fn compare(whole: &Path, thinned: &Path, every_ns: i64) {
    let of = |path, question: Question, others: &[&str]| -> Vec<Row> {
        rows(path, question, ALWAYS).into_iter().map(|row| without(others, row)).collect()
    };
    for (question, others) in [
        (Question::Connections, &[][..]),
        (Question::Sockets, &[]),
        (Question::Owners, &[]),
        (Question::Snapshots, &["samples", "is_thinned"]),
        (Question::States { bucket_ns: 5 * SECOND }, &[]),
        (Question::Churn { bucket_ns: 5 * SECOND }, &[]),
    ] {
        let what = format!("{question:?}");
        assert_same(&what, of(whole, question, others), of(thinned, question, others));
    }
    let mut coverage = of(thinned, Question::Coverage, &[]);
    assert!(coverage.iter().any(|row| row["kind"] == "thinned"), "{coverage:?}");
    coverage.retain(|row| row["kind"] != "thinned");
    assert_same("coverage", of(whole, Question::Coverage, &[]), coverage);

    let snapshots = rows(thinned, Question::Snapshots, ALWAYS);
    let ends = ends_of_steps(&snapshots, every_ns);
    for row in &snapshots {
        let snapshot_id = integer(row, "snapshot_id").unwrap();
        let is_thinned = row["is_thinned"] == "true" || row["is_thinned"] == "1";
        assert!(!(is_thinned && ends.contains(&snapshot_id)), "{row:?}");
        let question = Question::At { snapshot_id };
        let (before, after) = (of(whole, question, &[]), of(thinned, question, &[]));
        if !is_thinned {
            assert_same("at", before, after);
            continue;
        }
        // Who was there, and in which state, is exact all the same.
        let known = |rows: Vec<Row>| -> Vec<Vec<String>> {
            let columns = ["socket_id", "cookie", "state", "owners"];
            rows.iter().map(|row| columns.map(|c| row[c].clone()).to_vec()).collect()
        };
        assert_eq!(known(before), known(after), "{row:?}");
    }
}

/// A socket that sends all the time.
fn sender(tick: u32) -> FakeSocket {
    let mut socket = FakeSocket::established(1, 1_001, 80);
    socket.bytes_sent = u64::from(tick) * 1_000;
    socket
}

#[test]
fn one_value_in_each_step_is_left_with_its_own_time() {
    let mut world = World::default();
    for tick in 0..35 {
        world.shows(&[&sender(tick)]);
    }
    world.record();
    let (path, pruned) = thin(&world.path(), "thinned.db", 10 * SECOND);
    let left: Vec<i64> = chains(&path).into_iter().map(|row| row.0).collect();
    let ends = ends_of_steps(&rows(&path, Question::Snapshots, ALWAYS), 10 * SECOND);
    assert!((4..=5).contains(&ends.len()), "{ends:?}");
    // The keyframe, and the last row of each step.
    assert!(left.iter().all(|id| *id == 1 || ends.contains(id)), "{left:?} {ends:?}");
    assert_eq!(pruned.thinned_samples, 35 - left.len() as i64);
    let sql = "SELECT thinned_samples FROM groups";
    assert_eq!(ask(&path, sql).unwrap(), pruned.thinned_samples);
    compare(&world.path(), &path, 10 * SECOND);
    // No value is said to be of a moment when it was not.
    let sent = "SELECT count(*) FROM samples AS s
        JOIN snapshots AS n USING (snapshot_id) WHERE s.bytes_sent <> (s.snapshot_id - 1) * 1000";
    assert_eq!(ask(&path, sent).unwrap(), 0);
    // What nothing points at goes too.
    let unused = "SELECT count(*) FROM conditions AS c WHERE NOT EXISTS (
        SELECT 1 FROM samples AS s WHERE s.condition_id = c.condition_id)";
    assert_eq!(ask(&path, unused).unwrap(), 0);
}

/// A FIN-WAIT-2 that its program lets go of shows the same state before and after.
#[test]
fn the_last_counters_of_a_connection_stay_when_what_is_left_of_it_shows_the_same_state() {
    let alive = |bytes| FakeSocket {
        bytes_received: bytes,
        ..sender(9).fin_acked().in_state(TcpState::FIN_WAIT2)
    };
    let left = FakeSocket { is_mini: true, inode: 0, uid: 0, ..alive(5) };
    let mut world = World::default();
    let beat = |tick| FakeSocket { cookie: 2, local_port: 1_002, ..sender(tick) };
    for (tick, socket) in
        [sender(9), alive(1), alive(2), alive(3), left.clone(), left.time_wait()].iter().enumerate()
    {
        world.shows(&[socket, &beat(tick as u32)]);
    }
    world.shows(&[&beat(7)]).shows(&[&beat(8)]);
    world.record();
    let (path, pruned) = thin(&world.path(), "thinned.db", 100 * SECOND);
    assert!(pruned.thinned_samples > 0);
    compare(&world.path(), &path, 100 * SECOND);
    let last = "SELECT s.bytes_received FROM socket_ends AS e JOIN samples AS s
        ON s.socket_id = e.socket_id AND s.snapshot_id = e.last_sample_snapshot_id";
    assert_eq!(ask(&path, last).unwrap(), 3);
}

#[test]
fn the_coarsest_rule_that_an_age_has_come_to_holds() {
    let mut world = World::default();
    for tick in 0..40 {
        world.shows(&[&sender(tick)]);
    }
    world.record();
    world.goes_on_after(1_000 * SECOND);
    for tick in 0..40 {
        world.shows(&[&sender(40 + tick)]);
    }
    world.record();
    let path = world.path();
    let newest = ask(&path, "SELECT max(ended_at_ns) FROM snapshots").unwrap();
    let now = Clocks { utc_ns: newest + 100 * SECOND, monotonic_ns: 0, boottime_ns: 0 };
    let rule =
        |every_s, after_s| ThinRule { every_ns: every_s * SECOND, after_ns: after_s * SECOND };
    let thin = vec![rule(5, 50), rule(20, 500), rule(40, 5_000)];
    prune(&path, Capacity { thin, ..Capacity::NONE }, now).unwrap();
    assert_recording_is_whole(&path);
    let steps = "SELECT group_concat(thinned_to_ns / 1000000000, ' ') FROM groups";
    let steps: String = read_only(&path).unwrap().query_row(steps, [], |r| r.get(0)).unwrap();
    assert_eq!(steps, "20 5");
    let gaps = "SELECT count(*) FROM gaps WHERE kind = 'thinned' AND delta_ns IN (5000000000, 20000000000)";
    assert_eq!(ask(&path, gaps).unwrap(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..config() })]
    #[test]
    fn what_was_thinned_answers_as_before_at_each_step(
        script in with_keyframes(), every_s in 1..6_i64, times in 2..4_i64
    ) {
        recorded(&script, |world, _| {
            let (whole, every_ns) = (world.path(), every_s * SECOND);
            let (path, _) = thin(&whole, "thinned.db", every_ns);
            compare(&whole, &path, every_ns);
            // Once more changes nothing.
            let before = chains(&path);
            assert_eq!(thin_in_place(&path, every_ns).thinned_samples, 0);
            assert_eq!(chains(&path), before);
            // A part of it is as whole as one of the whole.
            let from = integer(&rows(&path, Question::Snapshots, ALWAYS)[1], "started_at").unwrap();
            let part = path.with_file_name("part.db");
            if extract_to(&path, (from, i64::MAX), Before::Everyone, &part).is_some() {
                assert_recording_is_whole(&part);
            }
            // Finer first comes to the same.
            let (coarse, _) = thin(&whole, "coarse.db", times * every_ns);
            thin_in_place(&path, times * every_ns);
            compare(&whole, &path, times * every_ns);
            assert_eq!(chains(&path), chains(&coarse));
        });
    }

    #[test]
    fn a_recorder_that_thins_goes_on_as_one_that_does_not(
        script in with_keyframes(), every_s in 1..6_i64, after_s in 1..5_000_i64
    ) {
        recorded(&script, |whole, _| {
            let every_ns = every_s * SECOND;
            let thin = vec![ThinRule { every_ns, after_ns: after_s * SECOND }];
            let capacity = Capacity { thin, ..Capacity::NONE };
            recorded_in(World { capacity, ..World::default() }, &script, |world, _| {
                assert_recording_is_whole(&world.path());
                let thinned = "SELECT count(*) FROM groups WHERE thinned_to_ns IS NOT NULL";
                if ask(&world.path(), thinned).unwrap() > 0 {
                    compare(&whole.path(), &world.path(), every_ns);
                }
            });
        });
    }
}
