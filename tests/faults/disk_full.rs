//! Disks without room: a small file system of one's own where the test may mount one, and in any
//! case a limit of file sizes, which takes no privileges.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use sockrec::store::{Reader, StoreError};

use crate::harness::{
    Churn, Dir, ask, assert_is_one_file, assert_recording_is_whole, limited, run, without_slowness,
};
use crate::not_run::not_here;

/// Runs a script in which `small` is a directory that takes so much and `$S` the program. False, said
/// aloud, where nothing can be mounted.
fn on_small_disk(dir: &Dir, size: &str, script: &str) -> bool {
    fs::create_dir(dir.path("small")).unwrap();
    let script_after = |then: &str| {
        // Mounted in a namespace of its own: it goes with the last process in there.
        let mount = format!("mount -t tmpfs -o size={size},mode=0700 none small && {{ {then}\n}}");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &mount]).current_dir(dir.path("."));
        command.env("S", env!("CARGO_BIN_EXE_sockrec")).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let tried = script_after("true").output();
    if tried.is_ok_and(|output| output.status.success()) {
        run(script_after(script)).fine();
        return true;
    }
    not_here("a full disk", "this test may not mount a file system (needs root)");
    false
}

fn text(dir: &Dir, name: &str) -> String {
    fs::read_to_string(dir.path(name)).unwrap()
}

fn snapshots(path: &Path) -> i64 {
    ask(path, "SELECT count(*) FROM snapshots").unwrap()
}

/// What a recorder without room left is a recording, or nothing, or, where it was aborted, nothing yet; it
/// can be gone on with.
#[track_caller]
pub(crate) fn assert_can_go_on(dir: &Dir, name: &str) {
    let path = dir.path(name);
    match Reader::open(&path) {
        Ok(reader) => {
            drop(reader);
            assert_recording_is_whole(&path);
        }
        Err(StoreError::Missing { .. } | StoreError::NotARecording { why: "it is empty", .. }) => {}
        Err(error) => panic!("{name}: {error:?}"),
    }
    dir.sockrec(&format!("record -q -u -i 5ms -c 2 -o {name}")).recorded();
    assert_eq!(ask(&path, "PRAGMA auto_vacuum").unwrap(), 2, "{name}");
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

#[test]
fn a_disk_that_fills_up_pauses_the_recording_until_there_is_room() {
    const SCRIPT: &str = r#"
        until_told() { until grep -q "$1" told; do sleep 0.02; done; }
        head -c $((23 * 1024))k /dev/zero >small/filler
        NOTIFY_SOCKET=$PWD/notify "$S" record -q -u -i 1ms -o small/rec.db --metrics metrics 2>told &
        recorder=$!
        until_told 'recording pauses'
        until grep -q '^sockrec_recording 0' metrics; do sleep 0.02; done
        "$S" info --live -f small/rec.db >/dev/null 2>info.told || echo "exit $?" >>info.told
        "$S" query snapshots --format csv -f small/rec.db >snapshots.csv 2>snapshots.told
        "$S" export samples -f small/rec.db -o small/out.csv 2>/dev/null
        rm -f small/out.csv small/filler
        until_told 'recording goes on'
        until [ "$("$S" query snapshots --format csv -f small/rec.db 2>/dev/null | wc -l)" \
            -gt $(($(wc -l <snapshots.csv) + 50)) ]; do sleep 0.02; done
        kill -TERM $recorder; wait $recorder; echo "exit $?" >>told
        cp small/rec.db* .
    "#;
    let dir = Dir::new();
    let manager = UnixDatagram::bind(dir.path("notify")).unwrap();
    let _churn = Churn::start();
    if !on_small_disk(&dir, "24m", SCRIPT) {
        return;
    }
    manager.set_nonblocking(true).unwrap();
    let heard = std::iter::from_fn(|| {
        let mut bytes = [0; 4_096];
        let length = manager.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    });
    let heard: Vec<_> = heard.collect();
    let paused = "STATUS=paused: no space left to write to `small/rec.db`";
    let at = |status: &str| heard.iter().position(|told| told.trim_end() == status);
    assert!(at(paused).is_some() && at(paused) < at("STATUS=recording goes on"), "{heard:?}");
    assert_snapshot!(text(&dir, "info.told"), @"
    warning: nobody records into it; the disk is full: a recorder that pauses goes on once there is room
    exit 3
    ");
    let told = text(&dir, "told");
    let told: Vec<_> =
        told.lines().filter(|line| line.contains("room") || line.contains("exit")).collect();
    let expected = [
        "warning: no space left to write to `small/rec.db`: recording pauses until there is room; what \
         was recorded before is kept",
        "warning: there is room again: recording goes on",
        "exit 3",
    ];
    assert_eq!(told, expected);
    assert_eq!(text(&dir, "snapshots.told"), "", "a full disk can be read");
    let path = dir.path("rec.db");
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    // Nothing of what was stored is gone, and the pause is told of.
    let shown = i64::try_from(text(&dir, "snapshots.csv").lines().count() - 1).unwrap();
    let first = ask(&path, "SELECT count(*) FROM snapshots WHERE capture_id = 1").unwrap();
    assert!(first > 4 && first >= shown, "{first} stored, {shown} shown");
    assert!(snapshots(&path) > first);
    let captures = "SELECT count(*) FROM captures WHERE end_reason = 'lost' AND capture_id = 1";
    assert_eq!(ask(&path, captures).unwrap(), 1);
    let gaps =
        "SELECT count(*) FROM gaps WHERE kind = 'not_recording' AND to_ns - from_ns > 1000000000";
    assert_eq!(ask(&path, gaps).unwrap(), 1);
    assert_can_go_on(&dir, "rec.db");
}

#[test]
fn metrics_on_a_full_disk_go_on_as_soon_as_there_is_room_for_them() {
    const SCRIPT: &str = r#"
        until_told() { until grep -q "$1" told; do sleep 0.02; done; }
        until_metrics() { until grep -q "^sockrec_recording $1" small/metrics; do sleep 0.02; done; }
        head -c $((18 * 1024))k /dev/zero >small/filler
        "$S" record -q -u -i 1ms -o small/rec.db --metrics small/metrics 2>told &
        recorder=$!
        until_told 'recording pauses'
        # What others let go of is taken too.
        until grep -q 'could not write `small/metrics`' told; do
            cat /dev/zero >>small/rest 2>/dev/null
            sleep 0.02
        done
        # Not enough for the recording.
        truncate -s 15M small/filler
        rm small/rest
        until_metrics 0
        rm small/filler
        until_told 'recording goes on'
        until_metrics 1
        kill -TERM $recorder; wait $recorder; echo "exit $?" >>told
        cp small/rec.db* small/metrics .
    "#;
    let dir = Dir::new();
    let _churn = Churn::start();
    if !on_small_disk(&dir, "20m", SCRIPT) {
        return;
    }
    let told = text(&dir, "told");
    let count = |what: &str| told.matches(what).count();
    assert!(told.ends_with("exit 3\n"), "{told}");
    // How often it was full for a moment is the disk's affair; each time has a beginning and an end.
    let failed =
        count("could not write `small/metrics`, no metrics until that can be done: No space");
    assert!(failed > 0, "{told}");
    assert_eq!(failed, count("metrics are written to `small/metrics` again"), "{told}");
    assert!(text(&dir, "metrics").contains("\nsockrec_recording 0\n"));
    assert_recording_is_whole(&dir.path("rec.db"));
}

/// Who waits for room need not find any.
#[test]
fn a_recording_that_pauses_ends_as_any_other() {
    const SCRIPT: &str = r#"
        head -c $((2 * 1024 - 500))k /dev/zero >small/filler
        "$S" record -q -u -i 1ms -o small/rec.db 2>told & recorder=$!
        until grep -q 'recording pauses' told; do sleep 0.02; done
        kill -TERM $recorder; wait $recorder; echo "exit $?" >>told
        [ ! -s small/rec.db-wal ] || echo left >log
        "$S" record -q -u -i 1ms --duration 3s -o small/rec.db 2>again.told
        echo "exit $?" >>again.told
        cp small/rec.db* .
    "#;
    let dir = Dir::new();
    let _churn = Churn::start();
    if !on_small_disk(&dir, "2m", SCRIPT) {
        return;
    }
    let told = text(&dir, "told");
    assert!(told.ends_with("exit 3\n") && !told.contains("reader"), "{told}");
    let full =
        "warning: the disk is full: a part of what was recorded is still in `small/rec.db-wal`";
    assert_eq!(told.contains(full), dir.path("log").exists(), "{told}");
    let again = text(&dir, "again.told");
    let is_refused = again.contains("error: no space left to write to `small/rec.db`");
    assert_eq!(again.ends_with("exit 1\n"), is_refused, "{again}");
    assert_can_go_on(&dir, "rec.db");
}

/// A little more room each time, so that every write in turn is the first that fails.
#[test]
fn a_disk_may_be_full_at_any_moment_of_a_recording() {
    const SCRIPT: &str = r#"
        for room in $(seq 0 20 100) $(seq 112 4 260) 500; do
            rm -f small/*
            head -c $((1024 - room))k /dev/zero >small/filler
            "$S" record -q -t --state listening -i 2ms -c 2 -o small/rec.db 2>"$room.told"
            echo "exit $?" >>"$room.told"
            "$S" info -f small/rec.db >/dev/null 2>"$room.info"
            for end in '' -wal -shm -journal; do
                [ ! -e small/rec.db$end ] || cp small/rec.db$end "$room.db$end"
            done
        done
    "#;
    let dir = Dir::new();
    if !on_small_disk(&dir, "1m", SCRIPT) {
        return;
    }
    let told: Vec<String> =
        dir.names().into_iter().filter(|name| name.ends_with(".told")).collect();
    assert!(told.len() > 40);
    let mut done = 0;
    for name in told {
        let ended = without_slowness(&text(&dir, &name));
        let name = name.replace(".told", ".db");
        if ended.ends_with("exit 1\n") {
            let is_clear = ended.starts_with("error: no space left to write to `small/rec.db`\n")
                && ended.contains("\nhint: what was recorded before is kept; make room");
            assert!(is_clear, "{name}: {ended}");
        } else {
            assert!(ended.ends_with("exit 0\n") || ended.ends_with("exit 3\n"), "{name}: {ended}");
            assert_is_one_file(&dir.path(&name));
            done += 1;
        }
        let info = text(&dir, &name.replace(".db", ".info"));
        assert!(info.is_empty() || info.contains("there is no recording"), "{name}: {info}");
        assert_can_go_on(&dir, &name);
    }
    assert!(done > 0, "not even the most room was enough");
}

#[test]
fn a_limit_of_file_sizes_ends_the_recording_with_all_before_it_kept() {
    let dir = Dir::new();
    let _churn = Churn::start();
    let mut told = Vec::new();
    for limit in [0, 100, 5_000, 50_000, 140_000, 145_000, 160_000, 180_000, 300_000] {
        let name = format!("{limit}.db");
        let ran = run(limited(dir.command(&format!("record -q -u -i 1ms -o {name}")), limit));
        assert_eq!(ran.code(), Some(1), "{name}: {}", ran.told());
        let text = ran.told().replace(&name, "rec.db").replace("open `", "write to `");
        told.push(without_slowness(&text));
        assert_can_go_on(&dir, &name);
    }
    assert!(snapshots(&dir.path("300000.db")) > 4, "none was stored before it was too much");
    told.dedup();
    assert_snapshot!(told.join("\n"), @"
    exit 1
    error: could not write to `rec.db`
      caused by: Error code 778: disk I/O error

    hint: what was recorded before is kept; a quota, a limit of file sizes (`ulimit -f`) or a failing disk may be the cause
    ");
}
