//! What a recorder keeps to, and that it says what it left out.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;

use sockrec::model::{Observation, TcpInfo};

use crate::harness::{
    Churn, Dir, MadeUp, Running, ask, assert_recording_is_whole, observation, read_only,
};

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
    // What it takes to begin and to end differs from machine to machine, and is not counted.
    dir.sockrec("record -q -i 1ms -c 2 -o short.db --metrics m.prom --no-owners").recorded();
    let text = fs::read_to_string(dir.path("m.prom")).unwrap();
    let not_counted = metric(&text, "sockrec_cpu_seconds_total");
    // So little that no machine is fast enough to make do with it.
    let line = "record -i 1ms --max-cpu 0.5% --duration 4s -o rec.db --metrics m.prom --no-owners";
    let ran = dir.sockrec(line);
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert!(ran.stderr.contains("snapshots take more than 0.5% of a CPU"), "{}", ran.stderr);
    assert!(ran.stderr.contains("were left out to keep within the limit"), "{}", ran.stderr);
    let text = fs::read_to_string(dir.path("m.prom")).unwrap();
    // Ten seconds' worth may be taken at once. Where others want the processor all takes more of it; without
    // the limit it would be two seconds.
    let cpu = metric(&text, "sockrec_cpu_seconds_total");
    let most = 0.005 * 14.0 + 4.0 * not_counted + 0.4;
    assert!(cpu < most, "{cpu} of {most} s of CPU, {not_counted} s to begin and to end");
    let left_out = ask(&path, LEFT_OUT).unwrap();
    assert!(left_out > 1_000, "{left_out}");
    // Those after the last snapshot but one are told of by the last.
    assert_eq!(metric(&text, "sockrec_left_out_ticks_total"), left_out as f64);
    let missed = ask(&path, "SELECT sum(missed_ticks) FROM snapshots").unwrap();
    assert!(missed >= left_out, "{missed} {left_out}");
    let gaps = "SELECT count(*) FROM gaps WHERE kind = 'ticks_left_out'
        AND message = 'to keep within 0.5% of a CPU' AND count > 0 AND to_ns > from_ns";
    assert!(ask(&path, gaps).unwrap() > 0);
    // Those are no others that were missed.
    let sums =
        "SELECT (SELECT sum(count) FROM gaps WHERE kind IN ('ticks_left_out', 'ticks_missed'))
        - (SELECT sum(missed_ticks) FROM snapshots)";
    assert_eq!(ask(&path, sums).unwrap(), 0);
    assert_recording_is_whole(&path);
    let coverage = dir.sockrec("query coverage -f rec.db --format csv --columns kind,message");
    assert!(coverage.stdout().contains("ticks_left_out,to keep within 0.5% of a CPU"));
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
    let messages =
        "SELECT group_concat(DISTINCT message) FROM exceptions WHERE kind = 'ticks_left_out'";
    let messages: String =
        read_only(&path).unwrap().query_row(messages, [], |row| row.get(0)).unwrap();
    assert_eq!(messages, "to keep within 0.1% of a CPU");
}

/// A recording of another time, larger than the least limit.
fn large(path: &Path) {
    let mut made = MadeUp::begin(path);
    made.group_len = 40;
    for round in 0..1_300 {
        let sockets: Vec<_> = (0..500)
            .map(|n| {
                let tcp = TcpInfo {
                    bytes_sent: Some(round * 1_000_000_007 + n),
                    bytes_received: Some(round * 1_000_000_007),
                    snd_cwnd: Some(u32::try_from(round).unwrap()),
                    ..observation(1).tcp
                };
                Observation { tcp, ..observation(u16::try_from(1_000 + n).unwrap()) }
            })
            .collect();
        made.snapshot(&sockets).commit();
    }
    made.end();
}

#[test]
fn what_a_recording_may_hold_is_read_again_too() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    fs::write(dir.path("limits"), "max-size = none\nmax-age = none\n").unwrap();
    let _churn = Churn::start();
    let mut recorder = dir.start("record -i 2ms -o rec.db --limits limits --no-owners");
    let ask = |sql: &str| ask(&path, sql).ok();
    let groups = "SELECT count(*) FROM groups WHERE capture_id = 2";
    recorder.until("groups", || (ask(groups)? > 2).then_some(()));
    let whole = "SELECT (SELECT count(*) FROM dropped_spans)
        + (SELECT count(*) FROM groups WHERE thinned_to_ns IS NOT NULL)";
    assert_eq!(ask(whole), Some(0));
    let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    assert!(ask(size).unwrap() > 40 << 20, "{:?}", ask(size));

    fs::write(dir.path("limits"), "max-size = 32M # no less\n").unwrap();
    recorder.signal(Signal::HUP);
    recorder.until("it is within the size", || (ask(size)? <= 32 << 20).then_some(()));
    let old = "SELECT count(*) FROM groups WHERE capture_id = 1";
    let left = ask(old).unwrap();
    assert!((5..30).contains(&left), "{left} groups of 33");

    // Those are of another boot, and older than a day.
    fs::write(dir.path("limits"), "max-size = none\nthin = 20s after 1d\n").unwrap();
    recorder.signal(Signal::HUP);
    let thinned =
        "SELECT count(*) FROM groups WHERE thinned_samples > 0 AND thinned_to_ns = 20000000000";
    recorder.until("old groups are thinned", || (ask(thinned)? == ask(old)?).then_some(()));
    let own = "SELECT count(*) FROM groups WHERE capture_id = 2 AND thinned_to_ns IS NOT NULL";
    assert_eq!(ask(own), Some(0));

    fs::write(dir.path("limits"), "max-size = none\nmax-age = 100ms\n").unwrap();
    recorder.signal(Signal::HUP);
    recorder.until("what is older goes", || (ask(old)? == 0).then_some(()));

    // What makes no sense changes nothing.
    fs::write(dir.path("limits"), "max-size = 1M\n").unwrap();
    recorder.signal(Signal::HUP);
    let before = ask("SELECT max(snapshot_id) FROM snapshots").unwrap();
    let later = "SELECT max(snapshot_id) FROM snapshots";
    recorder.until("it goes on", || (ask(later)? > before + 100).then_some(()));
    recorder.signal(Signal::TERM);
    let ran = recorder.finish().recorded();
    assert_eq!(ran.stderr.matches("note: the limits were read again").count(), 3, "{}", ran.stderr);
    let told = "the limits stay as they were: line 1 of `limits`: invalid value `1M` for `max-size`: the \
                smallest is 32M";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert_recording_is_whole(&path);
}

#[test]
fn what_is_said_of_the_size_at_the_start() {
    let dir = Dir::new();
    let said = |options: &str| {
        let ran = dir.sockrec(&format!("record -i 10ms -c 1 -o rec.db {options}")).recorded();
        let of_size = |line: &&str| line.contains("size`");
        ran.stderr.lines().filter(of_size).map(str::to_owned).collect::<Vec<_>>()
    };
    // How much room there is changes with what others write.
    for options in ["", "--max-age 14d"] {
        let by_default = said(options);
        let [told] = by_default.as_slice() else { panic!("{by_default:?}") };
        let end =
            "B, a quarter of the room on this disk: then the oldest snapshots go (`--max-size`)";
        assert!(told.starts_with("note: keeps to ") && told.ends_with(end), "{told}");
    }
    let beyond = said("--max-size 900T");
    let [told] = beyond.as_slice() else { panic!("{beyond:?}") };
    let begin = "note: the limit of 989TB (`max-size`) is beyond what this disk has room for: ";
    assert!(told.starts_with(begin), "{told}");
    assert!(said("--max-size 100M").is_empty());
    assert!(said("--max-size none").is_empty());
    assert!(said("-q").is_empty());
}

/// What is read with it is gone.
#[test]
fn limits_may_come_through_a_pipe_at_the_start() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"max-size = 64M\n").unwrap();
    drop(writer);
    let mut command = dir.command("record -i 10ms -o rec.db --limits /dev/stdin");
    command.stdin(reader).stderr(File::create(dir.path("told")).unwrap());
    let mut recorder = Running::spawn(command);
    recorder.until_snapshots(&path, 1);
    recorder.signal(Signal::HUP);
    let told = || fs::read_to_string(dir.path("told")).unwrap();
    let kept = "warning: the limits stay as they were: `/dev/stdin` is no regular file, and nothing \
                else is read again";
    recorder.until("the reload", || told().contains(kept).then_some(()));
    recorder.signal(Signal::TERM);
    assert!(matches!(recorder.finish().code(), Some(0 | 3)), "{}", told());
    assert!(!told().contains("size`"), "{}", told());
    let max = "SELECT json_extract(options, '$.max_bytes') FROM captures";
    assert_eq!(ask(&path, max).unwrap(), 64 << 20);
}

/// Whoever opens a pipe to read waits for who writes to it: nobody does.
#[test]
fn a_pipe_in_the_place_of_the_file_of_limits_holds_no_signal() {
    let dir = Dir::new();
    let limits = dir.path("limits");
    fs::write(&limits, "max-cpu = none\n").unwrap();
    let mut command = dir.command("record -q -i 10ms -o rec.db --limits limits");
    command.stderr(File::create(dir.path("told")).unwrap());
    let mut recorder = Running::spawn(command);
    recorder.until_snapshots(&dir.path("rec.db"), 1);
    fs::remove_file(&limits).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &limits, 0o600.into()).unwrap();
    recorder.signal(Signal::HUP);
    let told = || fs::read_to_string(dir.path("told")).unwrap();
    let kept = "warning: the limits stay as they were: `limits` is no regular file";
    recorder.until("the reload", || told().contains(kept).then_some(()));
    recorder.signal(Signal::TERM);
    assert!(matches!(recorder.finish().code(), Some(0 | 3)), "{}", told());
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
    for name in [".", "/dev/zero"] {
        let ran = dir.sockrec(&format!("record --limits {name}"));
        let text = format!(
            "exit 2\nerror: `{name}` is neither a regular file nor a pipe: it holds no limits\n\n\
             hint: name a file of lines like `max-cpu = 5%`\n"
        );
        assert_eq!(ran.told(), text);
    }
    assert_snapshot!(dir.sockrec("record --max-cpu 5").told(), @"
    exit 2
    error: invalid value '5' for '--max-cpu <SHARE>': write it as in `5%`, of one CPU, or `none`

    For more information, try '--help'.
    ");
    assert_eq!(dir.names(), ["limits"]);
}
