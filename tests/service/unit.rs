//! The unit for systemd, and that nothing of what it forbids is needed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Dir, Running, is_root};
use crate::not_run::not_here;
use crate::rights;

const UNIT: &str = include_str!("../../packaging/sockrec.service");
const NAMESPACES: &str = include_str!("../../packaging/namespaces.conf");

/// What systemd rates as exposed, times ten. What is left: it sees the machine's network and processes,
/// with the three capabilities that this takes.
const EXPOSURE: &str = "20";

/// The unit with the program that is tested.
fn unit(dir: &Dir) -> String {
    let path = dir.path("sockrec.service");
    let unit = UNIT.replace("/usr/bin/sockrec", env!("CARGO_BIN_EXE_sockrec"));
    assert_ne!(unit, UNIT);
    fs::write(&path, unit).unwrap();
    path.to_str().unwrap().to_owned()
}

fn systemd_analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(_) => {
            not_here("the unit", "there is no systemd-analyze");
            None
        }
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = Dir::new();
    let Some(output) = systemd_analyze(&["verify", "--man=no", &unit(&dir)]) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_drop_in_for_namespaces() {
    let dir = Dir::new();
    let unit = unit(&dir);
    fs::create_dir(dir.path("sockrec.service.d")).unwrap();
    let verify = |drop_in: &str| {
        fs::write(dir.path("sockrec.service.d/namespaces.conf"), drop_in).unwrap();
        systemd_analyze(&["verify", "--man=no", &unit])
    };
    let Some(output) = verify(NAMESPACES) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // It is looked at.
    let output = verify(&format!("{NAMESPACES}NoSuchSetting=1\n")).unwrap();
    assert!(!output.stderr.is_empty());
}

#[test]
fn the_unit_exposes_no_more_than_it_takes_to_record() {
    let dir = Dir::new();
    let threshold = format!("--threshold={EXPOSURE}");
    let arguments = ["security", "--offline=yes", &threshold, &unit(&dir)];
    let Some(output) = systemd_analyze(&arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The command line of the unit is one that the program takes.
#[test]
fn the_unit_runs_what_the_program_understands() {
    let dir = Dir::new();
    let line =
        UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/sockrec ")).unwrap();
    fs::write(dir.path("limits"), include_str!("../../packaging/limits.conf")).unwrap();
    let line = line
        .replace("/var/lib/sockrec/sockrec.db", "rec.db")
        .replace("/etc/sockrec/limits.conf", "limits")
        .replace("$SOCKREC_OPTIONS", "-q -c 2 -i 10ms");
    dir.sockrec(&line).recorded();
    // What the files of settings show as examples is taken too.
    let limits = include_str!("../../packaging/limits.conf").replace("# max-", "max-");
    assert!(limits.contains("\nmax-cpu = 50%"), "{limits}");
    fs::write(dir.path("limits"), limits).unwrap();
    dir.sockrec(&line).recorded();
}

/// The system calls that `systemd-analyze syscall-filter` lists for a group, those of its groups too.
fn calls_of(group: &str) -> Option<BTreeSet<String>> {
    let output = systemd_analyze(&["syscall-filter", group])?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut calls = BTreeSet::new();
    // The group itself, a comment, then one a line.
    for name in text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')) {
        if name.starts_with('@') {
            calls.extend(calls_of(name)?);
        } else if !name.is_empty() {
            calls.insert(name.to_owned());
        }
    }
    Some(calls)
}

/// What a unit lets through, by its lines `SystemCallFilter`.
fn allowed_calls(unit: &str) -> Option<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (is_denied, groups) = match line.strip_prefix('~') {
            Some(groups) => (true, groups),
            None => (false, line),
        };
        for group in groups.split(' ') {
            let calls = match group.starts_with('@') {
                true => calls_of(group)?,
                false => BTreeSet::from([group.to_owned()]),
            };
            allowed = if is_denied { &allowed - &calls } else { &allowed | &calls };
        }
    }
    Some(allowed)
}

/// The system calls of a recorder that tells its metrics there, to a client too if that is a socket.
fn calls_made(dir: &Dir, name: &str, metrics: &str) -> Option<BTreeSet<String>> {
    let (recording, calls) = (format!("{name}.db"), dir.path(format!("{name}.calls")));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&calls).current_dir(dir.path("."));
    strace.arg(env!("CARGO_BIN_EXE_sockrec"));
    strace.args(["record", "-q", "-i", "100ms", "-o", &recording, "--metrics", metrics]);
    strace.env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "9");
    strace.stdout(Stdio::piped()).stderr(Stdio::piped());
    if is_root() {
        strace = rights::with(strace, rights::all());
    }
    let Ok(child) = strace.spawn() else {
        not_here("system calls", "there is no strace");
        return None;
    };
    let mut traced = Running::spawn_of(child);
    if let Some(socket) = metrics.strip_prefix("unix:") {
        let socket = dir.path(socket);
        let mut client = traced.until("a socket", || UnixStream::connect(&socket).ok());
        client.write_all(b"GET / HTTP/1.0\n\n").unwrap();
        assert!(std::io::read_to_string(client).unwrap().ends_with("# EOF\n"));
    }
    traced.until_snapshots(&dir.path(recording), 10);
    let text = fs::read_to_string(&calls).unwrap();
    // The first is that of the recorder; strace ends with it.
    let pid = text.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    traced.finish().recorded();
    let text = fs::read_to_string(&calls).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    // A thread that ends while strace looks at it tells no more what it called.
    Some(names.filter(|(name, _)| *name != "???").map(|(name, _)| name.to_owned()).collect())
}

#[test]
fn the_recorder_makes_no_system_call_that_the_unit_forbids() {
    // As root SQLite gives its files to whom the recording belongs; the unit is not run by root.
    let dir = if is_root() { rights::of_ordinary_user() } else { Some(Dir::new()) };
    let Some(dir) = dir else { return };
    let Some(mut made) = calls_made(&dir, "file", "metrics.prom") else { return };
    made.extend(calls_made(&dir, "socket", "unix:metrics").unwrap());
    let Some(allowed) = allowed_calls(UNIT) else { return };
    assert!(made.contains("recvfrom") || made.contains("recvmsg"), "{made:?}");
    assert!(made.contains("accept4") || made.contains("accept"), "{made:?}");
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

/// Entering a namespace, and asking whether one is still there.
#[test]
fn the_drop_in_lets_through_what_namespaces_take() {
    let Some(without) = allowed_calls(UNIT) else { return };
    let with = allowed_calls(&format!("{UNIT}{NAMESPACES}")).unwrap();
    assert!(with.contains("setns"));
    assert!(!without.contains("open_by_handle_at") && with.contains("open_by_handle_at"));
    let restricts = |text: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix("RestrictNamespaces="));
        values.next_back().map(str::to_owned)
    };
    assert_eq!((restricts(UNIT), restricts(NAMESPACES)), (Some("yes".into()), Some("net".into())));
}
