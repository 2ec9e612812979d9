//! Recordings that keep within a limit, and those that are pruned.

use std::thread;
use std::time::Duration;

use sockrec::model::{Observation, TcpInfo};
use sockrec::store::{Alive, LOG_BYTES, Limits};

use crate::harness::{
    Churn, Dir, MadeUp, Random, ask, assert_recording_is_whole, observation, read_only,
};

/// Forty sockets whose counters change all the time.
fn busy(round: u64) -> Vec<Observation<'static>> {
    (0..40)
        .map(|n| {
            let tcp = TcpInfo { bytes_sent: Some(round * 1_000 + n), ..observation(1).tcp };
            Observation { tcp, ..observation(u16::try_from(1_000 + n).unwrap()) }
        })
        .collect()
}

#[test]
fn a_recording_with_its_log_stays_within_its_limit() {
    const MAX: u64 = LOG_BYTES + 2 * 1024 * 1024;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 50;
    made.writer.set_limits(Limits { max_bytes: Some(MAX), max_age_ns: None }, Alive::default());
    let mut largest = 0;
    for round in 0..4_000 {
        made.snapshot(&busy(round)).commit();
        let (now, start) = (made.now(), made.start);
        assert!(made.writer.keep_within_limits(&start, now, 40, || true).unwrap());
        largest = largest.max(made.writer.file_bytes());
    }
    assert!(largest <= MAX, "{largest} of {MAX} bytes");
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!((200..2_000).contains(&held), "{held} snapshots are held");
    // Of dropped snapshots only those are left that something rests on.
    let left = ask(&path, "SELECT count(*) FROM snapshots").unwrap() - held;
    assert!(left < held, "{left} beside {held}");
    made.end();
    assert_recording_is_whole(&path);
}

#[test]
fn a_reader_that_keeps_the_log_does_not_make_it_drop_everything() {
    const MAX: u64 = LOG_BYTES + 1024 * 1024;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 20;
    made.writer.set_limits(Limits { max_bytes: Some(MAX), max_age_ns: None }, Alive::default());
    let record = |made: &mut MadeUp, rounds: std::ops::Range<u64>| {
        for round in rounds {
            made.snapshot(&busy(round)).commit();
            let (now, start) = (made.now(), made.start);
            assert!(made.writer.keep_within_limits(&start, now, 40, || true).unwrap());
        }
    };
    record(&mut made, 0..500);
    let reader = read_only(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM samples").unwrap();
    record(&mut made, 500..2_500);
    assert!(made.writer.file_bytes() > MAX, "the log is not kept: {}", made.writer.file_bytes());
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!(held > 100, "{held} snapshots are held");
    drop(reader);
    record(&mut made, 2_500..2_600);
    assert!(made.writer.file_bytes() <= MAX, "{}", made.writer.file_bytes());
    made.end();
    assert_recording_is_whole(&path);
}

#[test]
fn the_real_recorder_keeps_to_an_age_and_survives_kills_while_it_drops() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut random = Random::new(5);
    let _churn = Churn::start();
    for _ in 0..6 {
        let mut recorder = dir.start("record -q -i 2ms --max-age 1s -o rec.db");
        thread::sleep(Duration::from_micros(2_000_000 + random.below(400_000)));
        recorder.kill();
        assert_recording_is_whole(&path);
    }
    dir.sockrec("record -q -i 5ms -c 20 --max-age 1s -o rec.db").recorded();
    assert_recording_is_whole(&path);
    let dropped = ask(&path, "SELECT sum(snapshots) FROM dropped_spans").unwrap();
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!(dropped > held, "{dropped} dropped, {held} held");
    let coverage = dir.sockrec("query coverage -f rec.db").fine();
    assert!(coverage.stdout().contains("dropped"), "{}", coverage.stdout());

    let first =
        ask(&path, "SELECT min(started_at_ns) / 1000000000 + 1 FROM dropped_spans").unwrap();
    let gone = dir.sockrec(&format!("query at @{first} -f rec.db"));
    assert!(gone.stderr.contains("was dropped to keep within a limit"), "{}", gone.stderr);

    let sockets = ask(&path, "SELECT count(*) FROM sockets").unwrap();
    let told = dir.sockrec("prune -f rec.db --max-age 1ms --dry-run");
    assert!(told.stderr.contains("would go"), "{}", told.stderr);
    assert_eq!(ask(&path, "SELECT count(*) FROM held_snapshots").unwrap(), held);
    let pruned = dir.sockrec("prune -f rec.db --max-age 1ms");
    assert!(pruned.stderr.contains("dropped"), "{}", pruned.stderr);
    assert_recording_is_whole(&path);
    assert!(ask(&path, "SELECT count(*) FROM sockets").unwrap() < sockets);
    assert_eq!(ask(&path, "SELECT count(*) FROM groups").unwrap(), 1);
}
