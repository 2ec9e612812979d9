//! Signals.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Dir, Running, ask, assert_is_one_file, assert_recording_is_whole, read_only, until,
};

const COUNT: &str = "SELECT count(*) FROM snapshots";

fn end_reason(dir: &Dir) -> String {
    let sql = "SELECT end_reason FROM captures ORDER BY capture_id DESC LIMIT 1";
    read_only(&dir.path("rec.db")).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Has the program started with a signal ignored.
fn ignoring(mut command: Command, signal: i32) -> Command {
    // SAFETY: signal() may be called between fork and exec, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_IGN);
            Ok(())
        });
    }
    command
}

#[test]
fn a_signal_ends_a_capture_cleanly() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let mut recorder = dir.start("record -q -i 1h -o rec.db");
        recorder.until_snapshots(&path, 1);
        recorder.signal(signal);
        assert_eq!(recorder.finish().told(), "exit 0\n", "{signal:?}");
        assert_eq!(end_reason(&dir), "signal");
        assert_eq!(dir.names(), ["rec.db"]);
        assert_is_one_file(&path);
        assert_recording_is_whole(&path);
    }
}

#[test]
fn a_signal_between_ticks_that_follow_closely_ends_it_too() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    for _ in 0..6 {
        let so_far = ask(&path, COUNT).unwrap_or(0);
        let mut recorder = dir.start("record -q -i 1ms -o rec.db");
        recorder.until_snapshots(&path, so_far + 1);
        recorder.signal(Signal::INT);
        recorder.finish().recorded();
        assert_eq!(end_reason(&dir), "signal");
        assert_is_one_file(&path);
    }
    assert_recording_is_whole(&path);
}

/// timeout(1) signals the process and then its group, it among them: twice within microseconds.
#[test]
fn signals_that_come_together_are_one_wish() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]].repeat(3) {
        let so_far = ask(&path, COUNT).unwrap_or(0);
        let mut recorder = dir.start("record -q -i 5ms -o rec.db");
        recorder.until_snapshots(&path, so_far + 1);
        signals.iter().for_each(|&signal| recorder.signal(signal));
        recorder.finish().recorded();
        assert_eq!(end_reason(&dir), "signal");
        assert_is_one_file(&path);
    }
    assert_recording_is_whole(&path);
}

/// From the moment that there is a part of a file, whatever it is that is being made.
#[test]
fn a_signal_leaves_no_part_of_a_file() {
    let dir = Dir::new();
    for words in
        ["record -q -i 5ms --count 100 -o rec.db", "record -q -i 5ms --count 20 -o other.db"]
    {
        dir.sockrec(words).recorded();
    }
    let recordings = dir.names();
    let commands = [
        "export samples -f rec.db -o out.csv",
        "export samples -f rec.db --sort cookie -o out.csv",
        "extract -f rec.db -o out.db",
        "copy -f rec.db -o out.db",
        "merge rec.db other.db -o out.db",
        "salvage rec.db -o out.db",
    ];
    for command in commands.repeat(5) {
        let output = dir.path(command.rsplit(' ').next().unwrap());
        let running = dir.start(command);
        until("its file", || (dir.names() != recordings).then_some(()));
        [Signal::TERM; 2].iter().for_each(|&signal| running.signal(signal));
        // Unless it was faster.
        let ran = running.finish();
        assert_eq!(output.exists(), ran.code() == Some(0), "{command}: {}", ran.told());
        let _ = fs::remove_file(&output);
        assert_eq!(dir.names(), recordings, "{command}");
    }
}

/// Here what the recorder waits for is a command that does not end.
#[test]
fn a_second_signal_later_ends_the_process_where_it_stands() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let script = "trap '' TERM; echo $$ > made; mv made pid; exec sleep 600";
    let words = ["record", "-q", "-i", "5ms", "-o", "rec.db", "--", "sh", "-c", script];
    let mut recorder = Running::spawn(dir.command_of(words));
    let pid = recorder.until("the command", || fs::read_to_string(dir.path("pid")).ok());
    recorder.until_snapshots(&path, 1);
    let first = Instant::now();
    let status = until("its end", || {
        let status = recorder.child.try_wait().unwrap();
        if status.is_none() {
            recorder.signal(Signal::TERM);
        }
        status
    });
    let command = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(command, Signal::KILL).unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(first.elapsed() >= Duration::from_millis(500), "{:?}", first.elapsed());
    assert_recording_is_whole(&path);
    recorder.finish();
    dir.record("rec.db");
    assert_is_one_file(&path);
}

#[test]
fn what_was_recorded_is_summed_up_at_the_end() {
    let dir = Dir::new();
    let mut recorder = dir.start("record -i 1h -o rec.db");
    recorder.until_snapshots(&dir.path("rec.db"), 1);
    recorder.signal(Signal::INT);
    let ran = recorder.finish().fine();
    assert!(ran.stdout.is_empty());
    // The second one is of the end.
    assert!(ran.stderr.contains("recorded 2 snapshots in "), "{}", ran.stderr);
}

/// `nohup sockrec record` is to outlive its terminal; a shell without job control has what it puts
/// into the background ignore Ctrl-C.
#[test]
fn a_signal_that_was_to_be_ignored_stays_ignored() {
    for (number, signal) in [(libc::SIGHUP, Signal::HUP), (libc::SIGINT, Signal::INT)] {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let mut recorder =
            Running::spawn(ignoring(dir.command("record -q -i 10ms -o rec.db"), number));
        recorder.until_snapshots(&path, 1);
        recorder.signal(signal);
        let so_far = ask(&path, COUNT).unwrap();
        recorder.until_snapshots(&path, so_far + 5);
        recorder.signal(Signal::TERM);
        recorder.finish().recorded();
        assert_eq!(end_reason(&dir), "signal");
        assert_is_one_file(&path);
    }
}

/// A signal that no program can take: the next recorder tells.
#[test]
fn a_killed_recorder_is_told_of_by_the_next() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 1h -o rec.db");
    recorder.until_snapshots(&path, 1);
    recorder.kill();
    assert_recording_is_whole(&path);
    let reasons = "SELECT count(*) FROM captures WHERE end_reason IS NULL";
    assert_eq!(ask(&path, reasons).unwrap(), 1);
    dir.record("rec.db");
    let reasons = "SELECT group_concat(end_reason) FROM captures";
    let told: String = read_only(&path).unwrap().query_row(reasons, [], |row| row.get(0)).unwrap();
    assert_eq!(told, "lost,count");
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}
