//! Recordings that are moved or removed while they are recorded, and the logs that stay behind.

use std::fs;

use insta::{allow_duplicates, assert_snapshot};

use crate::harness::{Churn, Dir, ask, assert_recording_is_whole};

/// Nobody has to end it: what is in the log is in a file of another name.
#[test]
fn a_recording_that_is_moved_ends_and_is_whole_where_it_went() {
    for interval in ["10ms", "1h"] {
        let dir = Dir::new();
        let mut recorder = dir.start(&format!("record -q -u -i {interval} -o rec.db"));
        recorder.until_snapshots(&dir.path("rec.db"), 1);
        fs::rename(dir.path("rec.db"), dir.path("moved.db")).unwrap();
        let ran = recorder.finish();
        allow_duplicates!(assert_snapshot!(ran.told_calmly(), @"
        exit 1
        error: `rec.db` was moved or removed while it was recorded

        hint: where it went it holds what was stored
        "));
        assert_eq!(dir.names(), ["moved.db"]);
        let moved = dir.path("moved.db");
        let ended = "SELECT count(*) FROM captures WHERE end_reason = 'error'";
        assert_eq!(ask(&moved, ended).unwrap(), 1);
        assert!(ask(&moved, "SELECT count(*) FROM snapshots").unwrap() >= 1);
        assert_recording_is_whole(&moved);
        dir.sockrec("record -q -i 5ms -c 2 -o rec.db").recorded();
        dir.sockrec("record -q -i 5ms -c 2 -o moved.db").recorded();
        assert_recording_is_whole(&moved);
    }
}

#[test]
fn a_recording_that_is_removed_ends() {
    let dir = Dir::new();
    let mut recorder = dir.start("record -q -u -i 10ms -o rec.db");
    recorder.until_snapshots(&dir.path("rec.db"), 1);
    fs::remove_file(dir.path("rec.db")).unwrap();
    let ran = recorder.finish();
    assert_eq!(ran.code(), Some(1), "{}", ran.told());
    assert!(ran.stderr.contains("was moved or removed while"), "{}", ran.told());
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}

/// SQLite would take it for that of the new file, or remove it.
#[test]
fn nothing_is_made_beside_the_log_of_a_recording_that_was_moved() {
    let dir = Dir::new();
    let _churn = Churn::start();
    let rec = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 10ms -o rec.db");
    recorder.until_snapshots(&rec, 5);
    recorder.kill();
    let stored = ask(&rec, "SELECT count(*) FROM snapshots").unwrap();
    fs::rename(&rec, dir.path("moved.db")).unwrap();
    dir.record("other.db");
    let before = dir.contents();
    assert_snapshot!(dir.sockrec("record -q -c 1 -o rec.db").told(), @"
    exit 1
    error: `rec.db` cannot be made: `rec.db-wal` is the log of a recording that was moved or removed

    hint: it holds what that lacks: move it beside that, as its name with `-wal` behind it; or delete `rec.db-wal` if that is gone
    ");
    let copied = dir.sockrec("copy -f other.db -o rec.db");
    assert_eq!(copied.code(), Some(1), "{}", copied.told());
    assert!(
        copied.stderr.contains("is the log of a recording that was moved"),
        "{}",
        copied.told()
    );
    assert_eq!(dir.contents(), before);

    fs::write(&rec, "").unwrap();
    assert_eq!(dir.sockrec("record -q -c 1 -o rec.db").code(), Some(1));
    fs::remove_file(&rec).unwrap();
    assert_eq!(dir.contents(), before);

    fs::rename(dir.path("rec.db-wal"), dir.path("moved.db-wal")).unwrap();
    dir.sockrec("record -q -i 5ms -c 2 -o rec.db").recorded();
    let moved = dir.path("moved.db");
    assert_eq!(ask(&moved, "SELECT count(*) FROM snapshots").unwrap(), stored);
    assert_recording_is_whole(&moved);
}
