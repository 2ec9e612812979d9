//! Merges of random recordings: what they say is what the recordings said.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use sockrec::query::{By, QueryError, Question, Recording, Selection};
use sockrec::store::{Before, Merged, NewRecording, Reader, StoreError};

use crate::extracts::{
    FACTS, HOUR_NS, Row, extract_to, integer, moments_between, rows, rows_of, with_keyframes,
};
use crate::harness::{assert_recording_is_whole, violations};
use crate::lifetimes::{config, recorded, recorded_in};
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, World};

const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

fn merge(parts: &[&Path], to: &Path) -> Result<Merged, StoreError> {
    let sources: Vec<_> = parts.iter().map(|path| Reader::open(path).unwrap()).collect();
    NewRecording::create(to)?.merge(&sources, 1)
}

pub fn merged(parts: &[&Path], to: PathBuf) -> PathBuf {
    merge(parts, &to).unwrap();
    to
}

/// Columns of rows but those that tell how a file came to be.
fn without(mut rows: Vec<Row>, columns: &[&str]) -> Vec<Vec<(&'static str, String)>> {
    let mut plain: Vec<_> = rows
        .drain(..)
        .map(|row| {
            let mut row: Vec<_> =
                row.into_iter().filter(|(name, _)| !columns.contains(name)).collect();
            row.sort();
            row
        })
        .collect();
    plain.sort();
    plain
}

fn looks(path: &Path) -> Vec<i64> {
    rows(path, Question::Snapshots, ALWAYS)
        .iter()
        .filter_map(|row| integer(row, "ended_at"))
        .collect()
}

/// Every answer but those about whole files, in the order of their rows.
fn assert_same_answers(a: &Path, b: &Path) {
    for question in [
        Question::Snapshots,
        Question::Samples,
        Question::Sockets,
        Question::Owners,
        Question::Gaps,
        Question::Coverage,
        Question::Markers,
        Question::Connections,
    ] {
        let (a, b) = (rows(a, question, ALWAYS), rows(b, question, ALWAYS));
        assert_eq!(without(a, &[]), without(b, &[]), "{question:?}");
    }
    for utc_ns in looks(a).into_iter().step_by(4) {
        let question = Question::AtTime { utc_ns };
        assert_eq!(rows(a, question, ALWAYS), rows(b, question, ALWAYS), "at {utc_ns}");
    }
}

/// Parts that overlap are the whole again.
fn compare_parts(world: &World, cut: (i64, i64), is_reversed: bool) {
    let (whole, directory) = (world.path(), tempfile::tempdir().unwrap());
    let at = |name: &str| directory.path().join(name);
    let (early, late) = ((i64::MIN, cut.1), (cut.0, i64::MAX));
    let parts = [(early, "early.db"), (late, "late.db")]
        .map(|(span, name)| extract_to(&whole, span, Before::Everyone, &at(name)));
    let [Some(early), Some(late)] = parts else { return };
    let order: [&Path; 2] = if is_reversed { [&late, &early] } else { [&early, &late] };
    let both = merged(&order, at("both.db"));
    if violations(&whole).is_empty() {
        assert_recording_is_whole(&both);
    }
    for question in [Question::Snapshots, Question::Samples, Question::Gaps, Question::Coverage] {
        let (whole, both) = (rows(&whole, question, ALWAYS), rows(&both, question, ALWAYS));
        assert_eq!(without(whole, &[]), without(both, &[]), "{question:?}");
    }
    for utc_ns in looks(&whole).into_iter().step_by(3) {
        let question = Question::AtTime { utc_ns };
        assert_eq!(rows(&whole, question, ALWAYS), rows(&both, question, ALWAYS), "at {utc_ns}");
    }
    let found: HashMap<_, _> = rows(&both, Question::Connections, ALWAYS)
        .into_iter()
        .map(|row| (row["socket_id"].clone(), row))
        .collect();
    let expected = rows(&whole, Question::Connections, ALWAYS);
    assert_eq!(expected.len(), found.len());
    for w in expected {
        let b = &found[&w["socket_id"]];
        for fact in FACTS {
            assert_eq!(w[fact], b[fact], "{fact}\nwhole {w:?}\nboth {b:?}");
        }
    }
}

fn assert_is_symmetric(world: &World, cuts: [i64; 4]) {
    let at = |name: &str| world.directory.path().join(name);
    let spans = [(i64::MIN, cuts[1]), (cuts[0], cuts[3]), (cuts[2], i64::MAX)];
    let parts: Vec<_> = spans
        .iter()
        .enumerate()
        .filter_map(|(n, &span)| {
            extract_to(&world.path(), span, Before::Everyone, &at(&format!("{n}.db")))
        })
        .collect();
    let [a, b, c] = &parts[..] else { return };
    let all = merged(&[a, b, c], at("abc.db"));
    let outer = merged(&[a, c], at("ac.db"));
    for (n, order) in [[&outer, b], [b, &outer]].into_iter().enumerate() {
        let other = merged(&[order[0], order[1]], at(&format!("again{n}.db")));
        assert_same_answers(&all, &other);
    }
    // Nothing is counted twice.
    assert_same_answers(&all, &merged(&[&all, b, c], at("twice.db")));
}

/// What one host's rows say, whatever else is in the file.
fn of_host(path: &Path, host: &str, question: Question) -> Vec<Vec<(&'static str, String)>> {
    let mut rows = rows(path, question, ALWAYS);
    rows.retain(|row| row["host_name"] == host);
    without(rows, &["socket_id", "snapshot_id", "peer_socket_id", "capture_id", "group_id"])
}

fn compare_hosts(worlds: [&World; 2]) {
    let paths = worlds.map(World::path);
    let both = merged(&[&paths[0], &paths[1]], worlds[0].directory.path().join("hosts.db"));
    if paths.iter().all(|path| violations(path).is_empty()) {
        assert_recording_is_whole(&both);
    }
    for (world, path) in worlds.iter().zip(&paths) {
        for question in
            [Question::Connections, Question::Samples, Question::Coverage, Question::Gaps]
        {
            let alone = of_host(path, world.host, question);
            assert_eq!(alone, of_host(&both, world.host, question), "{question:?}");
        }
        compare_totals(&both, world);
        for utc_ns in looks(path).into_iter().step_by(3) {
            let question = Question::AtTime { utc_ns };
            let alone = of_host(path, world.host, question);
            assert_eq!(alone, of_host(&both, world.host, question), "at {utc_ns}");
        }
    }
    let (a, b) = (Recording::open(&both).unwrap(), looks(&both).into_iter().max().unwrap());
    let hosts: Vec<_> =
        a.looks_at(b, None).unwrap().into_iter().map(|look| look.host_name).collect();
    assert_eq!(hosts, worlds.map(|world| Some(world.host.to_owned())));
}

/// What is asked of one machine is asked by the name of its host.
fn compare_totals(both: &Path, world: &World) {
    let questions = [
        Question::Totals(By::Port),
        Question::Slow,
        Question::States { bucket_ns: SECOND },
        Question::Churn { bucket_ns: SECOND },
        Question::Listeners { snapshot_id: None },
        Question::Leaks { longer_ns: SECOND },
    ];
    for question in questions {
        let answer = |path: &Path, host: Option<&str>| {
            let selection = Selection { host: host.map(str::to_owned), ..Selection::default() };
            let mut rows = rows_of(path, question, &selection)?;
            for row in &mut rows {
                row.retain(|name, _| !["socket_id", "peer_socket_id"].contains(name));
            }
            Ok::<_, QueryError>(without(rows, &[]))
        };
        let alone = answer(&world.path(), None).unwrap();
        assert_eq!(alone, answer(both, Some(world.host)).unwrap(), "{question:?}");
        assert!(matches!(answer(both, None), Err(QueryError::SeveralHosts { .. })));
    }
}

fn other_host() -> World {
    World { boot_uuid: "00000000-0000-4000-8000-000000000002", host: "a world", ..World::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases / 8, ..config() })]
    #[test]
    fn extracts_that_overlap_make_the_whole_again(
        script in with_keyframes(), places in (0.0..1.0_f64, 0.0..1.0_f64), is_reversed in any::<bool>()
    ) {
        recorded(&script, |world, _| {
            let (a, b) = moments_between(world, places);
            compare_parts(world, (a.min(b), a.max(b)), is_reversed);
        });
    }

    #[test]
    fn in_whatever_order_recordings_are_merged_they_answer_the_same(
        script in with_keyframes(), places in [(0.0..1.0_f64, 0.0..1.0_f64), (0.0..1.0_f64, 0.0..1.0_f64)]
    ) {
        recorded(&script, |world, _| {
            let (a, b) = moments_between(world, places[0]);
            let (c, d) = moments_between(world, places[1]);
            let mut cuts = [a, b, c, d];
            cuts.sort_unstable();
            assert_is_symmetric(world, cuts);
        });
    }

    #[test]
    fn of_two_hosts_each_answers_as_before(one in with_keyframes(), two in with_keyframes()) {
        recorded(&one, |first, _| {
            recorded_in(other_host(), &two, |second, _| compare_hosts([second, first]));
        });
    }
}

#[test]
fn recordings_of_one_machine_follow_each_other_with_a_gap() {
    let mut first = World::default();
    let socket = FakeSocket::established(7, 1_007, 80);
    for _ in 0..3 {
        first.shows(&[&socket]);
    }
    first.record();
    let mut second = World { directory: tempfile::tempdir().unwrap(), ..World::default() };
    second.goes_on_after(10 * SECOND);
    for _ in 0..3 {
        second.shows(&[&socket]);
    }
    second.record();
    let both = first.directory.path().join("both.db");
    merge(&[&second.path(), &first.path()], &both).unwrap();
    assert_recording_is_whole(&both);
    let gaps = rows(&both, Question::Gaps, ALWAYS);
    assert_eq!(gaps.iter().map(|row| row["kind"].as_str()).collect::<Vec<_>>(), ["not_recording"]);
    let lives = rows(&both, Question::Connections, ALWAYS);
    assert_eq!(lives.len(), 1, "{lives:?}");
    assert_eq!(lives[0]["samples"], "2");
}

#[test]
fn what_is_left_of_a_connection_was_seen_first_where_its_event_was_not_read_before() {
    let a = FakeSocket::established(1, 1_001, 80).opened_at(1_400);
    let events = [a.fin_acked().destroyed()];
    let rest = FakeSocket { cookie: 2, ..a.time_wait() };
    let whole = |is_event_late: bool, keyframe: Option<usize>| {
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]);
        match is_event_late {
            true => world.tells_while_dumping(&events),
            false => world.tells(&events),
        };
        world.shows(&[&rest]).shows(&[&rest]).shows(&[&rest]).shows(&[]).shows(&[]);
        let late = Jump { late_ns: HOUR_NS, ..Jump::default() };
        world.jumps.extend(keyframe.map(|tick| (tick, late)));
        world.record();
        world
    };
    for is_event_late in [true, false] {
        for keyframe in [None, Some(2), Some(3), Some(4)] {
            let world = whole(is_event_late, keyframe);
            let ends = looks(&world.path());
            for (from, to) in [(0, 2), (1, 3), (2, 2), (3, 3), (4, 4)] {
                compare_parts(&world, (ends[from], ends[to]), false);
            }
        }
    }
}
