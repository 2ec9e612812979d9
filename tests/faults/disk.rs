//! A disk that takes its time, or fails. What was not looked at meanwhile is told of, nothing is taken to
//! have ended for it, and what was stored stays.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::{
    Dir, Running, ask, assert_is_one_file, assert_recording_is_whole, read_only, until,
};
use crate::not_run::not_here;

/// What is loaded before the C library; `None`, said aloud, where it cannot be had.
fn faulty_disk(dir: &Dir) -> Option<PathBuf> {
    if cfg!(target_feature = "crt-static") {
        not_here("a faulty disk", "nothing can be loaded before the program's own C library");
        return None;
    }
    let library = dir.path("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/disk.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
    match compiler.output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(library)
        }
        Err(_) => {
            not_here("a faulty disk", "there is no C compiler");
            None
        }
    }
}

/// A recorder whose disk has a fault while there is a file `fault`.
fn start(dir: &Dir, library: &Path) -> Running {
    let mut command = dir.command("record -q -i 20ms -o rec.db --metrics metrics");
    command.env("LD_PRELOAD", library);
    command.env("DISK_FAULT", dir.path("fault")).env("DISK_FAULT_HIT", dir.path("hit"));
    Running::spawn(command)
}

/// Until the disk has kept the recorder from looking.
fn make_slow(dir: &Dir, recorder: &mut Running) {
    fs::write(dir.path("fault"), "0").unwrap();
    recorder.until("the disk is slow", || dir.path("hit").exists().then_some(()));
    recorder.until("ticks are missed", || {
        let text = fs::read_to_string(dir.path("metrics")).ok()?;
        let missed =
            text.lines().find_map(|line| line.strip_prefix("sockrec_missed_ticks_total "))?;
        // Some are missed on any busy machine.
        (missed.parse::<f64>().ok()? >= 100.0).then_some(())
    });
}

fn now_ns() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn snapshots(path: &Path) -> i64 {
    ask(path, "SELECT count(*) FROM snapshots").unwrap()
}

#[test]
fn a_slow_disk_costs_ticks_that_are_told_of_and_ends_nothing() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let Some(library) = faulty_disk(&dir) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let (stays, goes) = (pair(), pair());
    let [stays_port, goes_port] =
        [&stays, &goes].map(|(client, _)| client.local_addr().unwrap().port());
    let mut recorder = start(&dir, &library);
    recorder.until_snapshots(&path, 5);
    make_slow(&dir, &mut recorder);
    // Both ends, in the middle of it.
    let before_ns = now_ns();
    drop(goes);
    // A program that another test starts just then has both ends for a moment, too.
    let listening = listener.local_addr().unwrap().port();
    let ports = [goes_port, listening].map(|port| format!(":{port:04X} "));
    until("both ends have gone", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let is_there =
            |line: &str| line.contains(" 01 ") && ports.iter().all(|port| line.contains(port));
        (!table.lines().any(is_there)).then_some(())
    });
    let after_ns = now_ns();
    fs::remove_file(dir.path("fault")).unwrap();
    let stored = snapshots(&path);
    recorder.until_snapshots(&path, stored + 100);
    recorder.signal(Signal::TERM);
    let ran = recorder.finish().recorded();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    let why = "ticks every 20.0ms were missed: dumping or the disk took too long";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);

    // The gap is in the coverage, and is as long as it was.
    let coverage = dir.sockrec("query coverage -f rec.db --format csv --columns kind,count");
    let coverage = coverage.fine().stdout();
    let missed: Vec<i64> = coverage
        .lines()
        .filter_map(|line| line.strip_prefix("ticks_missed,")?.split(',').next()?.parse().ok())
        .collect();
    let told = ask(&path, "SELECT missed_ticks FROM captures").unwrap();
    assert!(told >= 100 && missed.iter().sum::<i64>() == told, "{told}: {coverage}");
    // What stayed was there all the time; what went has ended when it did.
    let of =
        |port: u16| format!("FROM sockets WHERE local_port = {port} AND remote_port = {listening}");
    let ended = |port: u16| {
        ask(
            &path,
            &format!(
                "SELECT count(*) FROM socket_ends WHERE socket_id IN (SELECT socket_id {})",
                of(port)
            ),
        )
        .unwrap()
    };
    assert_eq!(ask(&path, &format!("SELECT count(*) {}", of(stays_port))).unwrap(), 1);
    assert_eq!((ended(stays_port), ended(goes_port)), (0, 1));
    let connections = format!(
        "query connections -f rec.db sport = :{goes_port} and dport = :{listening} \
         --columns closed_after,closed_before --time-format unix-ns --format csv"
    );
    let closed = dir.sockrec(&connections).stdout();
    let line = closed.lines().nth(1).unwrap_or_else(|| panic!("{closed}"));
    let (not_before, not_after) = line.split_once(',').unwrap();
    let [not_before, not_after] = [not_before, not_after].map(|ns| ns.parse::<i64>().unwrap());
    assert!(not_before <= after_ns && before_ns <= not_after, "{closed} {before_ns} {after_ns}");
    drop(stays);
}

#[test]
fn a_recorder_that_is_killed_while_the_disk_is_slow_leaves_a_whole_recording() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let Some(library) = faulty_disk(&dir) else { return };
    let mut recorder = start(&dir, &library);
    recorder.until_snapshots(&path, 5);
    make_slow(&dir, &mut recorder);
    let stored = snapshots(&path);
    recorder.kill();
    assert_recording_is_whole(&path);
    assert!(snapshots(&path) >= stored);
    fs::remove_file(dir.path("fault")).unwrap();
    dir.sockrec("record -q -i 20ms -c 3 -o rec.db").recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    let reasons = "SELECT group_concat(end_reason) FROM captures";
    let told: String = read_only(&path).unwrap().query_row(reasons, [], |row| row.get(0)).unwrap();
    assert_eq!(told, "lost,count");
}

/// As when the file system is mounted read-only because of an error, or the disk itself fails.
#[test]
fn a_disk_that_fails_ends_the_recording_and_keeps_what_was_stored() {
    for (errno, name) in
        [(libc::EROFS, "read-only"), (libc::EIO, "failing"), (libc::EDQUOT, "quota")]
    {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let Some(library) = faulty_disk(&dir) else { return };
        let mut recorder = start(&dir, &library);
        recorder.until_snapshots(&path, 5);
        let stored = snapshots(&path);
        fs::write(dir.path("fault"), errno.to_string()).unwrap();
        let ran = recorder.finish();
        assert_eq!(ran.code(), Some(1), "{name}: {}", ran.told());
        assert!(
            ran.stderr.contains("error: could not write to `rec.db`"),
            "{name}: {}",
            ran.told()
        );
        let metrics = fs::read_to_string(dir.path("metrics")).unwrap();
        assert!(metrics.contains("\nsockrec_recording 0\n"), "{name}: {metrics}");
        assert_recording_is_whole(&path);
        assert!(snapshots(&path) >= stored, "{name}");
        fs::remove_file(dir.path("fault")).unwrap();
        dir.sockrec("record -q -i 20ms -c 3 -o rec.db").recorded();
        assert_is_one_file(&path);
        assert_recording_is_whole(&path);
        let reasons = "SELECT group_concat(end_reason) FROM captures";
        let told: String =
            read_only(&path).unwrap().query_row(reasons, [], |row| row.get(0)).unwrap();
        assert_eq!(told, "lost,count", "{name}");
    }
}
