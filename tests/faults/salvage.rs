//! `sockrec salvage`: of files with real damage as much as can be is saved, whole and told.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;

use rustix::process::Signal;

use crate::harness::{
    Churn, Dir, MadeUp, Ran, Random, Running, ask, assert_is_one_file, assert_recording_is_whole,
    limited, observation, run, until,
};

const PAGE: usize = 4_096;

/// Several groups of snapshots of which each changes every socket.
fn large(path: &Path) {
    let mut made = MadeUp::begin(path);
    for n in 1..=60 {
        let row = |port| {
            let mut row = observation(port);
            row.tcp.bytes_sent = Some(n << 40);
            row.tcp.snd_cwnd = u32::try_from(n).ok();
            row
        };
        made.snapshot(&(1..=120).map(row).collect::<Vec<_>>()).commit();
    }
    made.end();
}

/// Sockets that came, changed and went.
fn recorded(dir: &Dir, name: &str) {
    let churn = Churn::start();
    let mut recorder = dir.start(&format!("record -q -i 20ms -o {name}"));
    recorder.until_snapshots(&dir.path(name), 25);
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
    drop(churn);
    dir.record(name);
}

/// Salvages `rec.db`: what comes of it is whole, and the file is what it was.
#[track_caller]
fn salvaged(dir: &Dir) -> Ran {
    let _ = fs::remove_file(dir.path("new.db"));
    let before = dir.contents();
    let ran = dir.sockrec("salvage rec.db -o new.db");
    assert!(matches!(ran.code(), Some(0 | 1 | 3)), "{}", ran.told());
    if ran.code() != Some(1) {
        assert_recording_is_whole(&dir.path("new.db"));
        assert_is_one_file(&dir.path("new.db"));
    }
    let after: Vec<_> = dir.contents().into_iter().filter(|(name, _)| name != "new.db").collect();
    assert!(after == before, "something else than the new file was touched: {:?}", dir.names());
    ran
}

fn answers(dir: &Dir, name: &str) -> [String; 3] {
    [
        "query samples",
        "query snapshots --columns snapshot_id,ended_at,sockets_seen,samples",
        "export owners",
    ]
    .map(|line| dir.sockrec(&format!("{line} -f {name} --format csv")).fine().stdout())
}

#[test]
fn what_is_not_damaged_is_saved_as_it_is() {
    let dir = Dir::new();
    recorded(&dir, "rec.db");
    let ran = salvaged(&dir);
    assert_eq!(ran.code(), Some(0), "{}", ran.told());
    assert_eq!(answers(&dir, "new.db"), answers(&dir, "rec.db"));
}

/// One page after the other.
#[test]
fn a_flipped_page_costs_a_part_and_the_rest_is_whole() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    recorded(&dir, "rec.db");
    let whole = fs::read(&path).unwrap();
    let snapshots = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
    let pages = whole.len() / PAGE;
    let mut kept_much = 0;
    // The roots of the tables come first.
    let tried: Vec<_> =
        (0..pages.min(48)).chain((48..pages).step_by((pages / 24).max(1))).collect();
    for &page in &tried {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let ran = salvaged(&dir);
        if ran.code() == Some(1) {
            // Without any snapshot there is no moment that the rest could be of.
            let is_all = ran
                .stderr
                .contains("`snapshots`: 1 page and 0 further rows could not be read, 0 rows");
            assert!(is_all, "page {}: {}", page + 1, ran.told());
            continue;
        }
        let kept = ask(&dir.path("new.db"), "SELECT count(*) FROM snapshots").unwrap();
        kept_much += usize::from(kept * 2 > snapshots);
    }
    assert!(kept_much * 2 > tried.len(), "{kept_much} of {}", tried.len());
}

#[test]
fn bytes_that_changed_anywhere() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    recorded(&dir, "rec.db");
    let whole = fs::read(&path).unwrap();
    for seed in 1..=30 {
        let mut random = Random::new(seed * 6_007);
        let mut damaged = whole.clone();
        for _ in 0..=random.below(30) {
            let at = random.below(damaged.len() as u64) as usize;
            damaged[at] = random.below(256) as u8;
        }
        fs::write(&path, &damaged).unwrap();
        println!("seed {seed}");
        salvaged(&dir);
    }
}

#[test]
fn a_file_that_was_cut_off_keeps_its_beginning() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    let whole = fs::read(&path).unwrap();
    let mut last = 0;
    for share in [30, 50, 70, 90] {
        fs::write(&path, &whole[..whole.len() * share / 100]).unwrap();
        let ran = salvaged(&dir);
        println!("{share} %: {}", ran.told());
        if ran.code() == Some(1) {
            continue;
        }
        let kept = ask(&dir.path("new.db"), "SELECT count(*) FROM snapshots").unwrap();
        assert!(kept >= last, "{share} %: {kept} after {last}");
        assert!(ran.stderr.contains("it was cut off"), "{}", ran.told());
        last = kept;
    }
    assert!(last > 20, "{last}");
}

#[test]
fn a_header_or_a_first_page_that_was_zeroed() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    recorded(&dir, "rec.db");
    let asked = answers(&dir, "rec.db");
    let whole = fs::read(&path).unwrap();
    for len in [16, 100, PAGE] {
        let mut damaged = whole.clone();
        damaged[..len].fill(0);
        fs::write(&path, &damaged).unwrap();
        let ran = salvaged(&dir);
        assert_eq!(ran.code(), Some(3), "{}", ran.told());
        assert!(ran.stderr.contains("its header is lost"), "{}", ran.told());
        assert_eq!(answers(&dir, "new.db"), asked);
    }
}

/// Killed while it recorded: the last snapshots stand in the log alone, of which a part is missing.
#[test]
fn a_log_that_was_cut_off() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&dir.path("live.db"));
    let mut counts = Vec::new();
    for n in 1..=20 {
        let mut row = observation(1);
        row.tcp.bytes_sent = Some(n);
        made.snapshot(&[row, observation(2)]).commit();
    }
    for ending in ["", "-wal"] {
        fs::copy(dir.path(format!("live.db{ending}")), dir.path(format!("rec.db{ending}")))
            .unwrap();
    }
    drop(made);
    for name in ["live.db", "live.db-wal", "live.db-shm"] {
        let _ = fs::remove_file(dir.path(name));
    }
    let log = fs::read(dir.path("rec.db-wal")).unwrap();
    for share in [100, 90, 60] {
        fs::write(dir.path("rec.db-wal"), &log[..log.len() * share / 100]).unwrap();
        salvaged(&dir);
        counts.push(ask(&dir.path("new.db"), "SELECT count(*) FROM snapshots").unwrap());
    }
    assert_eq!(counts[0], 20);
    assert!(counts[1] < 20 && counts[2] < counts[1] && counts[2] > 0, "{counts:?}");
    assert!(path.exists());
}

#[test]
fn what_is_told_of_a_loss() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    let sql = "SELECT pageno FROM dbstat WHERE name = 'samples' AND pagetype = 'leaf'
               ORDER BY pageno DESC LIMIT 1 OFFSET 5";
    let page = usize::try_from(ask(&path, sql).unwrap()).unwrap();
    let mut damaged = fs::read(&path).unwrap();
    damaged[(page - 1) * PAGE..page * PAGE].fill(0xa5);
    fs::write(&path, damaged).unwrap();
    let mut command = dir.command("salvage rec.db -o new.db");
    command.env("TZ", "UTC");
    let ran = run(command);
    assert_recording_is_whole(&dir.path("new.db"));
    assert_snapshot!(ran.told(), @"
    exit 3
    warning: `samples`: 1 page and 0 further rows could not be read, 7122 rows could
    warning: lost from 2023-11-14 22:14:15.000 +00:00 to 2023-11-14 22:14:20.000 +00:00: 5 snapshots
    note: `new.db` holds 1 capture, 55 snapshots, 120 sockets and 6600 samples in 568 KiB
    ");
}

#[test]
fn what_is_no_recording_gives_none() {
    let dir = Dir::new();
    fs::write(dir.path("rec.db"), "minutes of the meeting\n".repeat(4_000)).unwrap();
    let ran = salvaged(&dir);
    assert_eq!(ran.code(), Some(1));
    assert!(!dir.path("new.db").exists());
    assert_eq!(dir.sockrec("salvage missing.db -o new.db").code(), Some(1));
}

#[test]
fn a_full_disk_leaves_no_part_and_is_told_of_the_new_file() {
    let dir = Dir::new();
    large(&dir.path("rec.db"));
    for kib in [0, 4, 60, 200, 400, 500] {
        let ran = run(limited(dir.command("salvage rec.db -o new.db"), kib * 1_024));
        assert_eq!(ran.code(), Some(1), "within {kib} KiB: {}", ran.told());
        assert_eq!(dir.names(), ["rec.db"], "within {kib} KiB");
        assert!(ran.stderr.contains("`new.db`"), "within {kib} KiB: {}", ran.told());
    }
}

/// One that has begun with its parts.
fn started(dir: &Dir, output: &str) -> Running {
    let before = dir.names();
    let salvage = dir.start(&format!("salvage rec.db -o {output}"));
    until("its parts", || {
        let mut names = dir.names();
        names.retain(|name| !before.contains(name));
        (!names.is_empty()).then_some(())
    });
    salvage
}

fn left(dir: &Dir) -> usize {
    dir.names().iter().filter(|name| name.starts_with(".sockrec-salvage-")).count()
}

#[test]
fn what_a_killed_salvage_left_goes_with_the_next_one() {
    let dir = Dir::new();
    large(&dir.path("rec.db"));
    fs::create_dir(dir.path(".sockrec-salvage")).unwrap();
    let mut random = Random::new(0x5a1_4a6e);
    let mut leavers = 0;
    for _ in 0..10 {
        let salvage = started(&dir, "new.db");
        thread::sleep(Duration::from_micros(random.below(300_000)));
        salvage.kill();
        leavers += left(&dir);
        assert!(left(&dir) <= 1, "{:?}", dir.names());
        if dir.path("new.db").exists() {
            assert_recording_is_whole(&dir.path("new.db"));
            fs::remove_file(dir.path("new.db")).unwrap();
        }
        // It has no other parts, and none that bears the name of a recording.
        for name in dir.names().iter().filter(|name| name.starts_with(".sockrec-salvage-")) {
            let parts = fs::read_dir(dir.path(name)).unwrap();
            let mut names = parts.map(|part| part.unwrap().file_name().into_string().unwrap());
            assert!(names.all(|name| name.contains(".partial")));
        }
    }
    assert!(leavers > 0);
    dir.sockrec("salvage rec.db -o new.db").fine();
    assert_eq!(dir.names(), [".sockrec-salvage", "new.db", "rec.db"]);
}

#[test]
fn what_another_salvage_works_in_is_left_to_it() {
    let dir = Dir::new();
    large(&dir.path("rec.db"));
    let other = started(&dir, "other.db");
    other.signal(Signal::STOP);
    dir.sockrec("salvage rec.db -o new.db").fine();
    other.signal(Signal::CONT);
    other.finish().fine();
    assert_eq!(dir.names(), ["new.db", "other.db", "rec.db"]);
}
