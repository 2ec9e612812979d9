//! sd_notify(3), with a socket as the service manager has it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Dir, Running};

/// A service manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    fn new(dir: &Dir) -> Self {
        let socket = UnixDatagram::bind(dir.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(socket)
    }

    /// The next message in which this is a line.
    #[track_caller]
    fn hears(&self, line: &str) -> Vec<String> {
        let mut bytes = [0; 4_096];
        loop {
            let length = self.0.recv(&mut bytes).unwrap_or_else(|e| panic!("no `{line}`: {e}"));
            let text = str::from_utf8(&bytes[..length]).unwrap();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|told| told == line) {
                return lines;
            }
        }
    }
}

fn start(dir: &Dir, line: &str, watchdog_us: &str) -> Running {
    let mut command = dir.command(line);
    command.env("NOTIFY_SOCKET", dir.path("notify")).env("WATCHDOG_USEC", watchdog_us);
    Running::spawn(command)
}

#[test]
fn the_manager_is_told_when_recording_has_begun_lives_and_ends() {
    let dir = Dir::new();
    let manager = Manager::new(&dir);
    // Far longer than a watchdog waits.
    let recorder = start(&dir, "record -q -i 1h -o rec.db", "300000");
    let told = manager.hears("READY=1");
    // It may be stored by then.
    let is_status = |line: &String| {
        ["STATUS=0 snapshots, ", "STATUS=1 snapshot, "].iter().any(|begin| line.starts_with(begin))
    };
    assert!(told.iter().any(is_status), "{told:?}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    recorder.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(recorder.finish().told(), "exit 0\n");
}

#[test]
fn a_reload_has_the_limits_read_again_and_is_told_of() {
    let dir = Dir::new();
    let manager = Manager::new(&dir);
    fs::write(dir.path("limits"), "max-cpu = none\n").unwrap();
    let recorder = start(&dir, "record -i 20ms -o rec.db --limits limits", "0");
    manager.hears("READY=1");
    for text in ["max-cpu = 20%", "max-cup = 20%"] {
        fs::write(dir.path("limits"), text).unwrap();
        recorder.signal(Signal::HUP);
        let told = manager.hears("RELOADING=1");
        assert!(told.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{told:?}");
        manager.hears("READY=1");
    }
    recorder.signal(Signal::TERM);
    let said = recorder.finish().recorded().stderr;
    assert!(said.contains("note: the limits were read again\n"), "{said}");
    let stay =
        "warning: the limits stay as they were: line 1 of `limits`: there is no limit `max-cup`";
    assert!(said.contains(stay), "{said}");
}

#[test]
fn a_watchdog_that_waits_for_no_time_is_none() {
    let dir = Dir::new();
    let manager = Manager::new(&dir);
    start(&dir, "record -q -i 10ms -c 20 -o rec.db", "0").finish().recorded();
    manager.0.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4_096];
    let mut told = Vec::new();
    while let Ok(length) = manager.0.recv(&mut bytes) {
        told.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    assert!(told.iter().any(|text| text.contains("READY=1")), "{told:?}");
    assert!(!told.iter().any(|text| text.contains("WATCHDOG=1")), "{told:?}");
}

/// Where nobody listens nothing changes.
#[test]
fn a_manager_that_is_gone_keeps_nobody_from_recording() {
    let dir = Dir::new();
    let recorder = start(&dir, "record -q -i 10ms -c 3 -o rec.db", "10000");
    recorder.finish().recorded();
}
