//! Too little memory for the recorder, from the start or from some moment on. It may end, and leaves what
//! was stored.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::disk_full::assert_can_go_on;
use crate::harness::{Dir, Ran, ask, assert_recording_is_whole, limited_to, run, until};

const MIB: u64 = 1 << 20;

/// It says what is missing, or the allocator or the loader does; the kernel, which finds no room for the
/// program or its stack, says nothing.
#[track_caller]
fn assert_lacked_memory(ran: &Ran) {
    if matches!(ran.status.signal(), Some(libc::SIGSEGV | libc::SIGKILL)) {
        return;
    }
    let is_aborted = ran.status.signal() == Some(libc::SIGABRT);
    assert!(is_aborted || matches!(ran.code(), Some(1 | 127)), "{}", ran.told());
    let words = [
        "out of memory",
        "memory allocation",
        "Cannot allocate",
        "cannot allocate",
        "failed to map",
        "temporarily unavailable", // no thread without room for its stack
    ];
    assert!(words.iter().any(|words| ran.stderr.contains(words)), "{}", ran.told());
}

#[test]
fn a_recorder_that_gets_too_little_memory_says_so_and_leaves_nothing_in_the_way() {
    let mut ended = [0, 0];
    for limit in [8, 16, 20, 24, 28, 32, 36, 40, 48, 64, 96, 128, 160, 192, 256, 4_096] {
        let dir = Dir::new();
        let command = dir.command("record -q -i 5ms -c 4 -o rec.db");
        let ran = run(limited_to(command, Resource::As, limit * MIB));
        let has_recorded = matches!(ran.code(), Some(0 | 3));
        ended[usize::from(has_recorded)] += 1;
        if !has_recorded {
            assert_lacked_memory(&ran);
        }
        if dir.path("rec.db").exists() {
            assert_can_go_on(&dir, "rec.db");
        }
    }
    assert!(ended[0] > 0 && ended[1] > 0, "{ended:?}");
}

/// A value of `/proc/PID/status`, in bytes.
fn memory_of(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1_024
}

fn snapshots(path: &Path) -> i64 {
    ask(path, "SELECT count(*) FROM snapshots").unwrap()
}

#[test]
fn a_recorder_that_runs_out_of_memory_leaves_what_it_had_stored() {
    for more in [0, 200 * 1_024, MIB, 3 * MIB] {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let mut recorder = dir.start("record -q -i 5ms -o rec.db --max-cpu none");
        recorder.until_snapshots(&path, 10);
        let stored = snapshots(&path);
        let pid = recorder.child.id();
        let limit = Some(memory_of(pid, "VmData") + more);
        let limit = Rlimit { current: limit, maximum: limit };
        prlimit(Some(Pid::from_child(&recorder.child)), Resource::Data, limit).unwrap();
        // What has ended is remembered for minutes: so it takes more and more.
        until("it has ended", || {
            drop((0..300).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect::<Vec<_>>());
            recorder.child.try_wait().unwrap().map(|_| ())
        });
        let ran = recorder.finish();
        assert_lacked_memory(&ran);
        assert_recording_is_whole(&path);
        assert!(snapshots(&path) >= stored, "{more}");
        assert_can_go_on(&dir, "rec.db");
        let captures = "SELECT count(*) FROM captures WHERE end_reason = 'count'";
        assert_eq!(ask(&path, captures).unwrap(), 1, "{more}");
    }
}
