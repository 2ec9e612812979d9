//! How recording goes, for those who watch it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Dir, MadeUp, ask, observation, run};

#[test]
fn info_live_tells_how_recording_goes() {
    let dir = Dir::new();
    let mut recorder = dir.start("record -q -i 50ms -o rec.db");
    recorder.until_snapshots(&dir.path("rec.db"), 5);
    let ran = dir.sockrec("info --live -f rec.db --format json").fine();
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["is_being_recorded"], true);
    assert_eq!(told["interval_ns"], 50_000_000);
    assert!(told["snapshots"].as_u64().unwrap() >= 5, "{told}");
    // Behind by no more than a busy machine explains, or it would have said so.
    assert!(told["lag_ns"].as_u64().unwrap() < 10_000_000_000, "{told}");
    assert!(told["last_snapshot_at"].as_str().unwrap().ends_with('Z'), "{told}");
    assert!(told["file_bytes"].as_u64().unwrap() > 0, "{told}");
    assert!(told["free_bytes"].as_u64().unwrap() > 0, "{told}");
    assert!(told["growth_bytes_per_day"].is_null(), "not known yet: {told}");
    let text = dir.sockrec("info --live -f rec.db").fine().stdout();
    assert!(text.starts_with("rec.db          being recorded\n"), "{text}");
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
    let ran = dir.sockrec("info --live -f rec.db --format json");
    assert_eq!((ran.code(), &*ran.stderr), (Some(3), "warning: nobody records into it\n"));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["is_being_recorded"], &told["lag_ns"]), (&Value::Bool(false), &Value::Null));
}

/// A recorder that stands still is found out.
#[test]
fn snapshots_that_are_overdue_are_told_of() {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("rec.db"));
    made.snapshot(&[observation(1)]).commit();
    // Made up: in 2026-11, of another boot, and still held by who made it.
    let ran = dir.sockrec("info --live -f rec.db --format json");
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert!(ran.stderr.contains("the next snapshot is overdue by "), "{}", ran.stderr);
}

#[test]
fn growth_is_told_from_what_the_last_hour_added() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    for _ in 0..200 {
        made.snapshot(&(0..20).map(observation).collect::<Vec<_>>()).commit();
    }
    made.end();
    let rows = ask(&path, "SELECT sum(samples + 1) FROM snapshots").unwrap();
    let span = ask(&path, "SELECT max(started_at_ns) - min(started_at_ns) FROM snapshots").unwrap();
    let ran = dir.sockrec("info --live -f rec.db --format json");
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("{name}: {told}"));
    let used = number("file_bytes") - number("unused_bytes");
    // All but the first snapshot.
    let first = ask(&path, "SELECT samples + 1 FROM snapshots LIMIT 1").unwrap();
    let share = (rows - first) as f64 / rows as f64;
    let expected = used * share * 86_400e9 / span as f64;
    assert!((number("growth_bytes_per_day") / expected - 1.0).abs() < 0.001, "{told} {expected}");
    let days = number("free_bytes") / expected;
    assert!((number("days_that_fit") - days).abs() < 0.1 + days * 0.01, "{told} {days}");
}

#[test]
fn what_was_dropped_is_not_counted() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 50;
    for _ in 0..200 {
        made.snapshot(&(0..20).map(observation).collect::<Vec<_>>()).commit();
    }
    made.end();
    let before: Value =
        serde_json::from_str(&dir.sockrec("info --live -f rec.db --format json").stdout()).unwrap();
    let pruned = dir.sockrec("prune -f rec.db --max-age 1d");
    assert!(pruned.stderr.contains("dropped"), "{}", pruned.told());
    let ran = dir.sockrec("info --live -f rec.db --format json");
    let told: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!((&before["snapshots"], &told["snapshots"]), (&200.into(), &50.into()));
    assert_eq!(ask(&path, "SELECT count(*) FROM held_snapshots").unwrap(), 50);
    // All that is held was recorded within the last hour, but less than a minute is no measure.
    assert!(told["growth_bytes_per_day"].is_null(), "{told}");
}

#[test]
fn other_formats_than_text_and_json_are_refused() {
    let dir = Dir::new();
    dir.record("rec.db");
    assert_snapshot!(dir.sockrec("info --live -f rec.db --format csv").told(), @"
    exit 2
    error: `info --live` is no table, which csv would need

    hint: use `--format json`
    ");
}

#[test]
fn metrics_are_whole_at_any_moment_and_tell_of_the_end() {
    let dir = Dir::new();
    let path = dir.path("sockrec.prom");
    let mut recorder = dir.start("record -q -i 20ms -o rec.db --metrics sockrec.prom");
    let first = recorder.until("metrics", || fs::read_to_string(&path).ok());
    assert!(first.ends_with("# EOF\n"), "{first}");
    assert!(first.contains("\nsockrec_recording 1\n"), "{first}");
    assert!(first.contains("# TYPE sockrec_missed_ticks counter\n"), "{first}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    recorder.until("new metrics", || (fs::read_to_string(&path).ok()? != first).then_some(()));
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
    let last = fs::read_to_string(&path).unwrap();
    assert!(last.contains("\nsockrec_recording 0\n"), "{last}");
    // Every number has a type and a line that tells what it is, and none comes twice.
    let mut names: Vec<_> = Vec::new();
    for lines in last.lines().collect::<Vec<_>>().chunks_exact(3) {
        let name = lines[0].strip_prefix("# TYPE ").unwrap().split(' ').next().unwrap();
        assert!(lines[1].starts_with(&format!("# HELP {name} ")), "{lines:?}");
        assert!(lines[2].starts_with(name), "{lines:?}");
        names.push(name.to_owned());
    }
    assert!(names.len() > 15, "{names:?}");
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    assert_eq!(dir.names(), ["rec.db", "sockrec.prom"]);
}

/// What stands on a line of the text format (OpenMetrics 1.0): a sample without labels.
fn sample(line: &str) -> Option<(&str, f64)> {
    let (name, value) = line.split_once(' ')?;
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let is_name =
        name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit());
    let is_number = value.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c));
    Some((name, value.parse().ok()?)).filter(|_| is_name && is_number)
}

#[test]
fn metrics_keep_to_the_text_format_whatever_things_are_called() {
    let dir = Dir::new();
    let names =
        ["with\nnewline", "quo\"te", "back\\slash", "# EOF", "{a=\"b\"} 1", "\u{202e}\u{1f9e6}"];
    for name in names {
        let metrics = format!("{name}.prom");
        let words = ["record", "-q", "-i", "10ms", "-c", "3", "-o", name, "--metrics", &metrics];
        run(dir.command_of(words)).recorded();
        let text = fs::read_to_string(dir.path(&metrics)).unwrap();
        // Nothing is said by name: no label could be broken out of.
        assert!(!text.contains(['{', '"', '\\', '\r', '\0']), "{text}");
        let rest = text.strip_suffix("# EOF\n").unwrap();
        assert!(!rest.contains("EOF"), "{text}");
        for lines in rest.lines().collect::<Vec<_>>().chunks(3) {
            let [of_type, of_help, of_sample] = lines else { panic!("{lines:?}") };
            let (name, value) = sample(of_sample).unwrap_or_else(|| panic!("{of_sample}"));
            let (family, kind) = match name.strip_suffix("_total") {
                Some(family) => (family, "counter"),
                None => (name, "gauge"),
            };
            assert_eq!(*of_type, format!("# TYPE {family} {kind}"));
            assert!(of_help.starts_with(&format!("# HELP {family} ")), "{of_help}");
            assert!(kind == "gauge" || value >= 0.0, "{of_sample}");
        }
    }
}

#[test]
fn metrics_that_cannot_be_written_end_no_recording() {
    let dir = Dir::new();
    let ran = dir.sockrec("record -q -i 10ms -c 3 -o rec.db --metrics none/m.prom").recorded();
    let told = "warning: could not write `none/m.prom`, no metrics until that can be done: ";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
}

#[test]
fn metrics_go_on_once_they_can_be_written() {
    let dir = Dir::new();
    let path = dir.path("later/m.prom");
    let mut recorder = dir.start("record -q -i 10ms -o rec.db --metrics later/m.prom");
    recorder.until_snapshots(&dir.path("rec.db"), 5);
    fs::create_dir(dir.path("later")).unwrap();
    let first = recorder.until("metrics", || fs::read_to_string(&path).ok());
    assert!(first.contains("\nsockrec_recording 1\n"), "{first}");
    recorder.signal(Signal::TERM);
    let ran = recorder.finish().recorded();
    for told in ["could not write `later/m.prom`", "metrics are written to `later/m.prom` again"] {
        assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    }
    let last = fs::read_to_string(&path).unwrap();
    assert!(last.contains("\nsockrec_recording 0\n"), "{last}");
}

/// The recording, whatever way it is named and whether it is there or not; and what is no file.
#[test]
fn metrics_take_the_place_of_nothing_that_is_needed() {
    let dir = Dir::new();
    fs::create_dir(dir.path("sub")).unwrap();
    symlink("..", dir.path("sub/up")).unwrap();
    symlink(Path::new("/dev/null"), dir.path("device")).unwrap();
    UnixListener::bind(dir.path("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path("pipe"), 0o600.into()).unwrap();
    let of_recording = ["rec.db", "rec.db-wal", "rec.db-shm", "rec.db-journal", "sub/up/rec.db"];
    let refuse = |names: &[&str], why: &str| {
        let before = dir.names();
        for name in names {
            let ran = dir.sockrec(&format!("record -q -i 10ms -c 1 -o rec.db --metrics {name}"));
            assert_eq!(ran.code(), Some(2), "{name}: {}", ran.told());
            assert!(ran.stderr.contains(why), "{name}: {}", ran.told());
            assert!(ran.stderr.contains("hint: name a"), "{name}: {}", ran.told());
        }
        assert_eq!(dir.names(), before);
    };
    refuse(&of_recording, "the metrics would take the place of the recording");
    refuse(&["device", "socket", "pipe", "sub"], "is no regular file");
    assert!(fs::metadata(dir.path("socket")).unwrap().file_type().is_socket());
    assert!(fs::metadata(dir.path("pipe")).unwrap().file_type().is_fifo());
    dir.record("rec.db");
    symlink("rec.db", dir.path("link")).unwrap();
    fs::hard_link(dir.path("rec.db"), dir.path("second_name")).unwrap();
    refuse(&of_recording, "the metrics would take the place of the recording");
    refuse(&["link", "second_name"], "the metrics would take the place of the recording");
    dir.sockrec("check rec.db").fine();
    fs::write(dir.path("limits"), "max-cpu = none\n").unwrap();
    for name in ["limits", "sub/up/limits"] {
        let line = format!("record -q -i 10ms -c 1 -o rec.db --limits limits --metrics {name}");
        let ran = dir.sockrec(&line);
        let why = format!("the metrics would take the place of the file of limits: `{name}`");
        assert!(ran.code() == Some(2) && ran.stderr.contains(&why), "{}", ran.told());
    }
    assert_eq!(fs::read_to_string(dir.path("limits")).unwrap(), "max-cpu = none\n");
}

/// The service has one that keeps others from its recordings.
#[test]
fn all_may_read_the_metrics_under_any_umask() {
    let dir = Dir::new();
    let mut command = dir.command("record -q -i 10ms -c 2 -o rec.db --metrics m.prom");
    // SAFETY: umask() may be called between fork and exec, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        });
    }
    run(command).recorded();
    let mode = |name| fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("m.prom"), mode("rec.db")), (0o644, 0o600));
}
