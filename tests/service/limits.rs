//! What a recorder keeps to, and that it says what it left out.

use std::fs;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::harness::{Dir, ask, assert_recording_is_whole, read_only};

const LEFT_OUT: &str =
    "SELECT coalesce(sum(count), 0) FROM exceptions WHERE kind = 'ticks_left_out'";

/// A number out of a file of metrics.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn a_recorder_that_needs_more_cpu_than_it_may_take_leaves_ticks_out_and_says_so() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let line = "record -i 1ms --max-cpu 2% --duration 4s -o rec.db --metrics m.prom --no-owners";
    let ran = dir.sockrec(line);
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert!(ran.stderr.contains("snapshots take more than 2% of a CPU"), "{}", ran.stderr);
    assert!(ran.stderr.contains("were left out to keep within the limit"), "{}", ran.stderr);
    let text = fs::read_to_string(dir.path("m.prom")).unwrap();
    // Ten seconds' worth may be taken at once; the beginning and the end are not counted.
    let cpu = metric(&text, "sockrec_cpu_seconds_total");
    assert!(cpu < 0.02 * 14.0 + 0.4, "{cpu}");
    let left_out = ask(&path, LEFT_OUT).unwrap();
    assert!(left_out > 1_000, "{left_out}");
    // Those after the last snapshot but one are told of by the last.
    assert_eq!(metric(&text, "sockrec_left_out_ticks_total"), left_out as f64);
    let missed = ask(&path, "SELECT sum(missed_ticks) FROM snapshots").unwrap();
    assert!(missed >= left_out, "{missed} {left_out}");
    let gaps = "SELECT count(*) FROM gaps WHERE kind = 'ticks_left_out'
        AND message = 'to keep within 2% of a CPU' AND count > 0 AND to_ns > from_ns";
    assert!(ask(&path, gaps).unwrap() > 0);
    // Those are no others that were missed.
    let sums =
        "SELECT (SELECT sum(count) FROM gaps WHERE kind IN ('ticks_left_out', 'ticks_missed'))
        - (SELECT sum(missed_ticks) FROM snapshots)";
    assert_eq!(ask(&path, sums).unwrap(), 0);
    assert_recording_is_whole(&path);
    let coverage = dir.sockrec("query coverage -f rec.db --format csv --columns kind,message");
    assert!(coverage.stdout().contains("ticks_left_out,to keep within 2% of a CPU"));
    let judged = dir.sockrec("assert -f rec.db no-gaps");
    assert_eq!(judged.code(), Some(1), "{}", judged.told());
}

#[test]
fn limits_that_are_read_again_hold_from_the_next_tick_on() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    fs::write(dir.path("limits"), "max-cpu = none\n").unwrap();
    let mut recorder = dir.start("record -q -i 5ms -o rec.db --limits limits --no-owners");
    recorder.until_snapshots(&path, 20);
    assert_eq!(ask(&path, LEFT_OUT).unwrap(), 0);
    // The first second of CPU time is granted at once.
    fs::write(dir.path("limits"), "# less\nmax-cpu = 0.1%\n").unwrap();
    recorder.signal(Signal::HUP);
    recorder.until("ticks are left out", || (ask(&path, LEFT_OUT).ok()? > 0).then_some(()));
    recorder.signal(Signal::TERM);
    let ran = recorder.finish();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    let message: String = read_only(&path)
        .unwrap()
        .query_row("SELECT DISTINCT message FROM exceptions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(message, "to keep within 0.1% of a CPU");
}

#[test]
fn options_hold_before_the_file_of_limits() {
    let dir = Dir::new();
    fs::write(dir.path("limits"), "max-cpu = 3%\nmax-new-sockets = 5\n").unwrap();
    dir.sockrec("record -q -c 1 --limits limits --max-cpu 7.5% -o rec.db").recorded();
    let of = |name: &str| {
        let sql = format!("SELECT json_extract(options, '$.{name}') FROM captures");
        read_only(&dir.path("rec.db")).unwrap().query_row(&sql, [], |row| row.get::<_, f64>(0))
    };
    assert_eq!(of("max_cpu").unwrap(), 0.075);
    let new = "SELECT json_extract(options, '$.max_new_sockets') FROM captures";
    assert_eq!(ask(&dir.path("rec.db"), new).unwrap(), 5);
}

#[test]
fn limits_that_make_no_sense_are_told_with_their_place() {
    let dir = Dir::new();
    fs::write(dir.path("limits"), "# mine\nmax-cup = 5%\n").unwrap();
    assert_snapshot!(dir.sockrec("record --limits limits").told(), @"
    exit 2
    error: line 2 of `limits`: there is no limit `max-cup`

    hint: did you mean `max-cpu`?
    ");
    assert_snapshot!(dir.sockrec("record --limits none").told(), @"
    exit 1
    error: could not read the limits in `none`
      caused by: No such file or directory (os error 2)
    ");
    assert_snapshot!(dir.sockrec("record --max-cpu 5").told(), @"
    exit 2
    error: invalid value '5' for '--max-cpu <SHARE>': write it as in `5%`, of one CPU, or `none`

    For more information, try '--help'.
    ");
    assert_eq!(dir.names(), ["limits"]);
}
