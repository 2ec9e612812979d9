//! Several at one file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use insta::assert_snapshot;
use rustix::process::Signal;
use sockrec::store::{Reader, StoreError, is_being_recorded};

use crate::harness::{
    Churn, Dir, MadeUp, Ran, Running, ask, assert_is_one_file, assert_recording_is_whole,
    observation, read_only,
};

fn snapshots(path: &Path) -> i64 {
    ask(path, "SELECT count(*) FROM snapshots").unwrap()
}

fn stop(recorder: Running) -> Ran {
    recorder.signal(Signal::INT);
    recorder.finish()
}

#[test]
fn a_second_recorder_is_turned_away_and_the_first_goes_on() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut first = dir.start("record -q -i 10ms -o rec.db");
    first.until_snapshots(&path, 2);
    let second = dir.sockrec("record -c 1 -o rec.db");
    assert_snapshot!(second.told(), @"
    exit 1
    error: `rec.db` is being recorded to by another sockrec

    hint: record to another file with `-o FILE`; queries may read this one meanwhile
    ");
    assert!(dir.sockrec("info -f rec.db").fine().stdout().starts_with("rec.db (being recorded)\n"));
    first.until_snapshots(&path, snapshots(&path) + 3);
    stop(first).recorded();
    assert_eq!(ask(&path, "SELECT count(*) FROM captures").unwrap(), 1);
    assert!(dir.sockrec("info -f rec.db").fine().stdout().starts_with("rec.db\n"));
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

/// Asking whether a file is being recorded takes the recorder's lock for a moment.
#[test]
fn a_recorder_is_not_turned_away_by_who_just_looks() {
    let dir = Dir::new();
    let path = dir.record("rec.db");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                is_being_recorded(&path);
            }
        });
        let told: Vec<_> = (0..12).map(|_| dir.sockrec("record -q -c 1 -o rec.db")).collect();
        is_over.store(true, Ordering::Relaxed);
        told.into_iter().for_each(|ran| {
            ran.recorded();
        });
    });
}

#[test]
fn questions_are_answered_while_it_records() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let _churn = Churn::start();
    let mut recorder = dir.start("record -q -i 5ms -o rec.db");
    recorder.until_snapshots(&path, 3);
    for round in 0..5 {
        for line in [
            "query connections -f rec.db --format csv",
            "query at now -f rec.db --format json",
            "query samples -f rec.db --format jsonl --limit 500",
            "info -f rec.db --format json",
            "export snapshots -f rec.db -o snapshots.csv",
        ] {
            let ran = dir.sockrec(line);
            // `at` says so when the newest snapshot is old: the machine may be busy.
            assert!(matches!(ran.code(), Some(0 | 3)), "round {round}, {line}: {}", ran.told());
            assert!(!ran.stderr.contains("error"), "round {round}, {line}: {}", ran.told());
        }
        assert_recording_is_whole(&path);
    }
    recorder.until_snapshots(&path, snapshots(&path) + 3);
    stop(recorder).recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

/// A listing on several threads is of one moment, whatever is recorded meanwhile.
#[test]
fn readers_that_are_alike_see_the_same_moment() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    MadeUp::begin(&path).end();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Many times as often as any recorder.
            let writer = rusqlite::Connection::open(&path).unwrap();
            writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;").unwrap();
            while !is_over.load(Ordering::Relaxed) {
                writer.execute("UPDATE captures SET missed_ticks = missed_ticks + 1", []).unwrap();
            }
        });
        let reader = Reader::open(&path).unwrap();
        let look = || -> Result<HashSet<Option<i64>>, StoreError> {
            let sql = "SELECT missed_ticks FROM captures";
            reader.alike(8)?.iter().map(|reader| reader.integer(sql, &[])).collect()
        };
        let looks: Vec<_> = (0..300).map(|_| look()).collect();
        is_over.store(true, Ordering::Relaxed);
        let looks: Vec<_> = looks.into_iter().map(Result::unwrap).collect();
        assert!(looks.iter().all(|seen| seen.len() == 1), "{looks:?}");
        let moments: HashSet<_> = looks.into_iter().flatten().collect();
        assert!(moments.len() > 10, "the writer was idle");
    });
}

#[test]
fn a_reader_that_holds_a_transaction_holds_up_nobody() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 10ms -o rec.db");
    recorder.until_snapshots(&path, 2);
    let reader = read_only(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || {
        let sql = "SELECT count(*) FROM snapshots";
        reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let seen = count();
    recorder.until_snapshots(&path, seen + 10);
    assert_eq!(count(), seen, "a transaction sees one moment");
    reader.execute_batch("COMMIT").unwrap();
    assert!(count() >= seen + 10);
    drop(reader);
    stop(recorder).recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

/// The log cannot be folded in under a reader. The recorder says so, and the last reader does it.
#[test]
fn a_log_that_a_reader_kept_is_folded_in_when_the_reader_goes() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = Some(dir.start("record -q -i 1h -o rec.db"));
    recorder.as_mut().unwrap().until_snapshots(&path, 1);
    let reader = Reader::open(&path).unwrap();
    let mut told = String::new();
    reader
        .run("SELECT 1 FROM snapshots", &[], |_| {
            told = stop(recorder.take().unwrap()).told();
            Ok::<_, StoreError>(())
        })
        .unwrap();
    assert_snapshot!(told, @"
    exit 0
    warning: a reader kept `rec.db-wal` from being folded in: until the last reader has ended, copy it along with `rec.db`
    ");
    assert_eq!(dir.names(), ["rec.db", "rec.db-shm", "rec.db-wal"]);
    drop(reader);
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    let reason = "SELECT count(*) FROM captures WHERE end_reason = 'signal'";
    assert_eq!(ask(&path, reason).unwrap(), 1);
}

/// The same with a reader of another make: whoever of us comes next folds it in.
#[test]
fn a_log_that_another_program_left_is_folded_in_by_the_next_reader() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 1h -o rec.db");
    recorder.until_snapshots(&path, 1);
    let other = read_only(&path).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM snapshots").unwrap();
    assert!(stop(recorder).fine().stderr.contains("warning: a reader kept `rec.db-wal`"));
    dir.sockrec("info -f rec.db").fine();
    assert_eq!(dir.names(), ["rec.db", "rec.db-shm", "rec.db-wal"]);
    drop(other);
    dir.sockrec("info -f rec.db").fine();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

/// A look at whether it is being recorded must not cost a reader its own locks, or the log would
/// be folded in and thrown away under it.
#[test]
fn a_reader_that_asked_who_records_still_keeps_the_log() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 1h -o rec.db");
    recorder.until_snapshots(&path, 1);
    let recording = sockrec::query::Recording::open(&path).unwrap();
    assert!(recording.is_being_recorded());
    stop(recorder).fine();
    assert!(dir.path("rec.db-wal").exists(), "folded in under a reader");
    drop(recording);
    assert_is_one_file(&path);
}

/// What a crash left is evidence: a question changes no byte of it.
#[test]
fn a_question_does_not_fold_in_the_log_of_a_lost_capture() {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("made.db"));
    made.snapshot(&[observation(1)]).commit();
    for end in ["", "-wal"] {
        std::fs::copy(dir.path(format!("made.db{end}")), dir.path(format!("rec.db{end}"))).unwrap();
    }
    let files = || ["rec.db", "rec.db-wal"].map(|name| std::fs::read(dir.path(name)).unwrap());
    let before = files();
    let shown = dir.sockrec("query connections -f rec.db --format csv --columns local_port");
    assert_eq!(shown.fine().stdout(), "local_port\n1\n");
    assert!(files() == before);
    dir.sockrec("record -q -c 1 -o rec.db").recorded();
    assert_is_one_file(&dir.path("rec.db"));
    assert_recording_is_whole(&dir.path("rec.db"));
}
