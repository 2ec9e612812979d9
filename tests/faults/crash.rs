//! Crashes: SIGKILL at any moment, and logs that a power cut left half written.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use sockrec::store::{Reader, StoreError};

use crate::harness::{
    Churn, Dir, Random, ask, assert_is_one_file, assert_recording_is_whole, read_only,
};

fn snapshots(path: &Path) -> i64 {
    ask(path, "SELECT count(*) FROM snapshots").unwrap()
}

fn rows(path: &Path, table: &str) -> rusqlite::Result<i64> {
    ask(path, &format!("SELECT count(*) FROM {table}"))
}

/// A moment that only decides where the kill falls. Every moment has to do.
fn a_moment(random: &mut Random, at_most_ms: u64) {
    thread::sleep(Duration::from_micros(random.below(at_most_ms * 1_000)));
}

#[test]
fn a_recording_survives_kills_at_any_moment() {
    const KILLS: usize = 44;
    // What the churn is for; those that are missing only where there are no events.
    const GROWS: [&str; 3] = ["socket_ends", "state_changes", "missing_sockets"];
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut random = Random::new(0x50c_4ec);
    let _churn = Churn::start();
    dir.sockrec("record -q -i 5ms -c 2 -o rec.db").recorded();
    let mut stored = snapshots(&path);
    for kill in 0..KILLS {
        // Half of them know the end of a socket only by its absence.
        let events = if kill % 2 == 0 { "" } else { "--no-events" };
        let mut recorder = dir.start(&format!("record -q -i 5ms -o rec.db {events}"));
        if kill % 4 == 0 {
            a_moment(&mut random, 40); // while it opens the file, or soon after
        } else {
            recorder.until_snapshots(&path, stored + 1);
            for table in &GROWS[..if events.is_empty() { 2 } else { 3 }] {
                let rows = || rows(&path, table).unwrap_or(0);
                let enough = rows() + 5;
                recorder.until(table, || (rows() >= enough).then_some(()));
            }
            a_moment(&mut random, 120);
        }
        recorder.kill();
        let info = dir.sockrec("info -f rec.db").fine();
        assert!(!info.stdout().contains("being recorded"), "the lock outlived its holder");
        assert_recording_is_whole(&path);
        let now = snapshots(&path);
        assert!(now >= stored, "kill {kill}: {now} snapshots of {stored}");
        stored = now;
    }
    dir.sockrec("record -q -i 5ms -c 2 -o rec.db").recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    let lost = ask(&path, "SELECT count(*) FROM captures WHERE end_reason = 'lost'").unwrap();
    let ended = ask(&path, "SELECT count(*) FROM captures WHERE end_reason = 'count'").unwrap();
    assert!(lost >= 33, "only {lost} of {KILLS} kills fell into a capture");
    assert_eq!(ended, 2);
    for table in GROWS.iter().chain(&["group_sockets"]) {
        let rows = rows(&path, table).unwrap();
        assert!(rows > 100, "{rows} rows in {table}");
    }
    assert_eq!(ask(&path, "PRAGMA auto_vacuum").unwrap(), 2);
}

#[test]
fn a_recorder_that_was_killed_while_it_made_the_file_leaves_nothing_in_the_way() {
    let mut random = Random::new(7);
    for kill in 0..24 {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let mut recorder = dir.start("record -q -i 5ms -o rec.db");
        recorder.until("there is a file", || path.exists().then_some(()));
        a_moment(&mut random, 12);
        recorder.kill();
        match Reader::open(&path) {
            Ok(_) => assert_recording_is_whole(&path),
            Err(StoreError::NotARecording { why: "it is empty", .. }) => {}
            Err(error) => panic!("kill {kill}: {error:?}, {:?}", dir.names()),
        }
        dir.sockrec("record -q -i 5ms -c 2 -o rec.db").recorded();
        assert_eq!(ask(&path, "PRAGMA auto_vacuum").unwrap(), 2, "kill {kill}");
        assert_is_one_file(&path);
        assert_recording_is_whole(&path);
    }
}

/// A power cut may lose the end of the log, or leave junk there: the last snapshots go, whole ones
/// stay.
#[test]
fn a_log_that_was_cut_off_anywhere_costs_the_last_snapshots_only() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let churn = Churn::start();
    dir.sockrec("record -q -i 5ms -c 3 -o rec.db").recorded();
    let before = snapshots(&path);
    let mut recorder = dir.start("record -q -i 5ms -o rec.db");
    recorder.until_snapshots(&path, before + 30);
    recorder.kill();
    drop(churn);
    let (file, log) = (fs::read(&path).unwrap(), fs::read(dir.path("rec.db-wal")).unwrap());
    let stored = snapshots(&path);
    assert!(!log.is_empty());

    let mut random = Random::new(99);
    let mut counts = Vec::new();
    let len = log.len() as u64;
    for cut in 0..40 {
        let at = usize::try_from(random.below(len)).unwrap();
        let mut left = log.clone();
        if cut % 2 == 0 {
            left.truncate(at);
        } else {
            left[at..].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
        }
        let copy = dir.path("copy.db");
        fs::write(&copy, &file).unwrap();
        fs::write(dir.path("copy.db-wal"), &left).unwrap();
        let _ = fs::remove_file(dir.path("copy.db-shm"));
        assert_recording_is_whole(&copy);
        let left = snapshots(&copy);
        assert!((before..=stored).contains(&left), "{left} snapshots of {stored}");
        counts.push((at, left));
    }
    counts.sort_unstable();
    assert!(counts.is_sorted_by_key(|(_, left)| left), "more log, fewer snapshots: {counts:?}");
    assert!(counts[0].1 < counts[39].1, "every cut cost the same: {counts:?}");

    // The next recorder goes on where what is left ends.
    dir.sockrec("record -q -i 5ms -c 2 -o copy.db").recorded();
    let copy = dir.path("copy.db");
    assert_is_one_file(&copy);
    assert_recording_is_whole(&copy);
    let reasons = "SELECT group_concat(end_reason) FROM captures";
    let told: String = read_only(&copy).unwrap().query_row(reasons, [], |row| row.get(0)).unwrap();
    assert!(matches!(told.as_str(), "count,lost,count" | "count,count"), "{told}");
}
