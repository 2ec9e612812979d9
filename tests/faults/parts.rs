//! Recordings that are made out of others: whole under their name, or not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use crate::harness::{
    Dir, MadeUp, Random, ask, assert_is_one_file, assert_recording_is_whole, limited, observation,
    run,
};

const MAKINGS: [&str; 3] = [
    "copy -o made.db",
    "extract -o made.db",
    "extract --from 2023-11-14T22:13:25Z --to 2023-11-14T22:13:26Z --mergeable -o made.db",
];

fn large(dir: &Dir) {
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    for n in 1..=10 {
        let row = |port| {
            let mut row = observation(port);
            row.tcp.bytes_sent = Some(n);
            row
        };
        made.snapshot(&(1..=400).map(row).collect::<Vec<_>>()).commit();
    }
    made.end();
}

#[test]
fn what_was_made_is_private_and_whole_and_a_single_file() {
    let dir = Dir::new();
    large(&dir);
    for (n, line) in MAKINGS.iter().enumerate() {
        let name = format!("made{n}.db");
        dir.sockrec(&line.replace("made.db", &name)).fine();
        let path = dir.path(&name);
        assert_is_one_file(&path);
        assert_recording_is_whole(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let samples = |name: &str| dir.sockrec(&format!("query samples -f {name} --format csv")).stdout;
    assert_eq!(samples("made0.db"), samples("sockrec.db"));
    assert_eq!(samples("made1.db"), samples("sockrec.db"));
}

#[test]
fn owners_and_markers_of_the_span_come_along() {
    let dir = Dir::new();
    large(&dir);
    rusqlite::Connection::open(dir.path("sockrec.db"))
        .unwrap()
        .execute_batch(
            "INSERT INTO processes (process_id, boot_id, pid, started_ticks, comm)
                 SELECT value, 1, value * 10, 7, 'p' || value FROM json_each('[1, 2, 3, 4, 5]');
             -- Before the span, into it, within it, out of it, after it.
             INSERT INTO socket_owners VALUES (1, 1, 1, 2), (1, 2, 1, 5), (1, 3, 5, 6), (1, 4, 6, NULL),
                 (1, 5, 9, NULL);
             INSERT INTO markers (name, is_span, started_at_ns, ended_at_ns)
                 SELECT 'm' || n.value, 0, s.ended_at_ns, NULL
                 FROM json_each('[1, 3, 5, 6, 7, 9]') AS n
                 JOIN snapshots AS s ON s.snapshot_id = n.value
                 UNION ALL
                 SELECT 'long', 1, min(started_at_ns), max(ended_at_ns) FROM snapshots
                 UNION ALL
                 SELECT 'early', 1, min(started_at_ns), min(ended_at_ns) FROM snapshots;",
        )
        .unwrap();
    dir.sockrec(&MAKINGS[2].replace("made.db", "part.db")).fine();
    assert_recording_is_whole(&dir.path("part.db"));
    let ask = |question: &str, file: &str| {
        let span = "--from 2023-11-14T22:13:25Z --to 2023-11-14T22:13:26Z";
        dir.sockrec(&format!("{question} {span} -f {file} --format csv")).fine().stdout
    };
    for question in [
        "export markers",
        "export owners --columns pid,comm,held_to",
        "export processes --columns pid,comm",
        "query coverage --columns kind,protocol,family,message",
    ] {
        assert_eq!(
            String::from_utf8(ask(question, "sockrec.db")).unwrap(),
            String::from_utf8(ask(question, "part.db")).unwrap(),
            "{question}"
        );
    }
    let held = ask("export owners --columns comm", "part.db");
    assert_eq!(String::from_utf8(held).unwrap(), "comm\np2\np3\np4\n");
    for moment in ["22:13:25Z", "22:13:25.5Z", "22:13:26Z"] {
        let at =
            |file| dir.sockrec(&format!("query at 2023-11-14T{moment} -f {file} --format csv"));
        assert_eq!(at("sockrec.db").stdout(), at("part.db").stdout());
    }
}

#[test]
fn nothing_is_written_over() {
    let dir = Dir::new();
    large(&dir);
    fs::write(dir.path("made.db"), "precious").unwrap();
    let before = dir.contents();
    for line in MAKINGS {
        let ran = dir.sockrec(line);
        assert_eq!(ran.code(), Some(1), "{ran:?}");
        assert!(ran.stderr.contains("is there already"), "{ran:?}");
        assert!(before == dir.contents(), "{line} changed a file");
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = Dir::new();
    large(&dir);
    let before = dir.names();
    for line in MAKINGS {
        for kib in [0, 4, 60, 200] {
            let ran = run(limited(dir.command(line), kib * 1_024));
            assert_eq!(ran.code(), Some(1), "{line} within {kib} KiB: {ran:?}");
            assert_eq!(dir.names(), before, "{line} within {kib} KiB");
        }
    }
}

#[test]
fn a_kill_leaves_no_half_file_under_the_name() {
    let dir = Dir::new();
    large(&dir);
    let mut random = Random::new(0xe87_ac7);
    for kill in 0..30 {
        let making = dir.start(MAKINGS[kill % MAKINGS.len()]);
        thread::sleep(Duration::from_micros(random.below(60_000)));
        making.kill();
        let path = dir.path("made.db");
        if path.exists() {
            assert_recording_is_whole(&path);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_is_no_whole_recording_is_refused() {
    let dir = Dir::new();
    large(&dir);
    let bytes = fs::read(dir.path("sockrec.db")).unwrap();
    fs::write(dir.path("cut.db"), &bytes[..bytes.len() / 2]).unwrap();
    let mut newer = bytes;
    newer[63] = 99;
    fs::write(dir.path("newer.db"), newer).unwrap();
    let before = dir.names();
    for (file, told) in [("cut.db", "is damaged"), ("newer.db", "is newer than")] {
        for line in MAKINGS {
            let ran = dir.sockrec(&format!("{line} -f {file}"));
            assert_eq!(ran.code(), Some(1), "{line} -f {file}: {ran:?}");
            assert!(ran.stderr.contains(told), "{line} -f {file}: {ran:?}");
            assert_eq!(dir.names(), before);
        }
    }
}

#[test]
fn a_recording_is_copied_while_it_is_written() {
    let dir = Dir::new();
    let mut recorder = dir.start("record -q -i 5ms -o sockrec.db");
    recorder.until_snapshots(&dir.path("sockrec.db"), 3);
    for (n, line) in MAKINGS[..2].iter().enumerate() {
        let name = format!("made{n}.db");
        dir.sockrec(&line.replace("made.db", &name)).fine();
        assert_recording_is_whole(&dir.path(&name));
        assert_is_one_file(&dir.path(&name));
    }
    let stored = ask(&dir.path("sockrec.db"), "SELECT count(*) FROM snapshots").unwrap();
    recorder.until_snapshots(&dir.path("sockrec.db"), stored + 2);
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
}

#[test]
fn recordings_are_merged_with_clear_words() {
    let dir = Dir::new();
    large(&dir);
    dir.sockrec(&MAKINGS[2].replace("made.db", "part.db")).fine();
    fs::copy(dir.path("sockrec.db"), dir.path("copy.db")).unwrap();
    let mut newer = fs::read(dir.path("sockrec.db")).unwrap();
    newer[63] = 99;
    fs::write(dir.path("newer.db"), newer).unwrap();
    fs::write(dir.path("taken.db"), "precious").unwrap();
    dir.sockrec("extract --tcp -o tcp.db").fine();
    let before = dir.contents();
    for (line, code, told) in [
        ("merge sockrec.db -o made.db", 2, "nothing to merge with `sockrec.db`"),
        ("merge sockrec.db ./sockrec.db -o made.db", 2, "named twice"),
        ("merge sockrec.db newer.db -o made.db", 1, "is newer than"),
        ("merge sockrec.db none.db -o made.db", 1, "there is no recording `none.db`"),
        ("merge sockrec.db part.db -o taken.db", 1, "is there already"),
        ("merge sockrec.db part.db -o sockrec.db", 1, "is there already"),
        ("merge sockrec.db tcp.db -o made.db", 1, "sockets chosen in different ways"),
    ] {
        let ran = dir.sockrec(line);
        assert_eq!(ran.code(), Some(code), "{line}: {ran:?}");
        assert!(ran.told().contains(told), "{line}: {ran:?}");
        assert!(before == dir.contents(), "{line} changed a file");
    }
    dir.sockrec("merge part.db copy.db sockrec.db -o made.db").fine();
    assert_recording_is_whole(&dir.path("made.db"));
    let samples = |name: &str| dir.sockrec(&format!("query samples -f {name} --format csv")).stdout;
    assert_eq!(samples("made.db"), samples("sockrec.db"));
}

#[test]
fn what_is_being_recorded_is_not_merged() {
    let dir = Dir::new();
    large(&dir);
    let mut recorder = dir.start("record -q -i 5ms -o live.db");
    recorder.until_snapshots(&dir.path("live.db"), 3);
    let ran = dir.sockrec("merge sockrec.db live.db -o made.db");
    assert_eq!(ran.code(), Some(1), "{ran:?}");
    assert!(ran.stderr.contains("is being recorded to"), "{ran:?}");
    dir.sockrec("copy -f live.db -o copy.db").fine();
    dir.sockrec("merge sockrec.db copy.db -o made.db").fine();
    assert_recording_is_whole(&dir.path("made.db"));
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
}
