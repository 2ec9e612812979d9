//! The command as a user runs it, on real sockets of this machine: what is recorded must come out
//! again as the sockets themselves say it was.

mod common;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::facts::Facts;
use common::sockets::{self, Connection, Held, Route, Traffic};
use common::wait;
use common::{Differences, note};
use sockrec::kernel::SystemClock;
use sockrec::model::TcpState;

/// A directory with a recording in it.
struct Rig {
    directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("rig.db")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockrec"));
        command.args(words).stdin(Stdio::null());
        command.arg(if words[0] == "record" { "-o" } else { "-f" }).arg(self.file());
        command
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(is_done(&output), "{words:?} ended with {}: {stderr}", output.status);
        output
    }

    /// The rows of an answer, by column name.
    #[track_caller]
    fn rows(&self, words: &[&str]) -> Vec<HashMap<String, Value>> {
        let output = self.run(&[words, &["--format", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The row of this socket, by its cookie (and, of MPTCP, more than one).
    #[track_caller]
    fn row(&self, words: &[&str], cookie: u64) -> HashMap<String, Value> {
        let rows = self.rows(&[words, &["--cookie", &cookie.to_string()]].concat());
        assert_eq!(rows.len(), 1, "{words:?} has {} rows of cookie {cookie}", rows.len());
        rows.into_iter().next().unwrap()
    }

    fn start(&self, words: &[&str]) -> Recorder {
        let mut command = self.command(&[&["record", "-q"], words].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let recorder = Recorder(child);
        self.wait_for_snapshots(1);
        recorder
    }

    fn snapshots(&self) -> u64 {
        let info = self.command(&["info", "--format", "json"]).output().unwrap();
        let info: Value = serde_json::from_slice(&info.stdout).unwrap_or_default();
        info["snapshots"].as_u64().unwrap_or(0)
    }

    /// Waits for so many more.
    fn wait_for_snapshots(&self, more: u64) {
        let before = self.snapshots();
        wait::until(&format!("{more} more snapshots"), || self.snapshots() >= before + more);
    }
}

/// A recorder that is running.
struct Recorder(Child);

impl Recorder {
    /// Ends it as a service manager does: Ctrl-C is ignored in the background of a shell.
    fn stop(mut self) -> Output {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
        // `Child` is taken out of the guard only now that it has ended.
        let mut stderr = Vec::new();
        if let Some(mut pipe) = self.0.stderr.take() {
            std::io::Read::read_to_end(&mut pipe, &mut stderr).unwrap();
        }
        let status = self.0.wait().unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Done, perhaps with gaps: on a loaded machine a tick may be missed, and `at now` says that nothing
/// was recorded since.
fn is_done(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 3))
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn number(value: impl Into<u64>) -> Value {
    Value::from(value.into())
}

fn nanos(value: &Value) -> i64 {
    let time = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_nanos_opt().unwrap()
}

#[test]
fn every_socket_comes_out_as_it_says_it_is() {
    for route in Route::available() {
        let held = sockets::every_state(route);
        let rig = Rig::new();
        rig.run(&["record", "--count", "2", "--interval", "20ms"]);
        for one in &held {
            check_socket(&rig, one);
        }
        // Long after they are gone the recording still knows.
        let cookies: Vec<_> = held.iter().map(|h| (h.identity.cookie, h.state)).collect();
        drop(held);
        for (cookie, state) in cookies {
            let row = rig.row(&["query", "at", "now"], cookie);
            assert_eq!(row["state"], text(state.name().unwrap()), "cookie {cookie}");
        }
    }
}

fn check_socket(rig: &Rig, held: &Held) {
    let row = rig.row(&["query", "at", "now"], held.identity.cookie);
    let d = &mut Differences::of(&held.what);
    let identity = &held.identity;
    d.equal("protocol", row["protocol"].clone(), text(identity.protocol.name()));
    d.equal("family", row["family"].clone(), text(identity.family.name()));
    d.equal("state", row["state"].clone(), text(held.state.name().unwrap()));
    d.equal("cookie", row["cookie"].clone(), text(identity.cookie));
    d.equal("local_address", row["local_address"].clone(), text(identity.local.ip()));
    d.equal("local_port", row["local_port"].clone(), number(identity.local.port()));
    d.equal("remote_address", row["remote_address"].clone(), text(identity.remote.ip()));
    d.equal("remote_port", row["remote_port"].clone(), number(identity.remote.port()));
    let Some(socket) = &held.socket else { return };
    d.equal("inode", row["inode"].clone(), number(socket.inode()));
    d.equal("uid", row["uid"].clone(), number(socket.uid()));
    d.equal("sk_rcvbuf_bytes", row["sk_rcvbuf_bytes"].clone(), number(socket.receive_buffer()));
    d.equal("sk_sndbuf_bytes", row["sk_sndbuf_bytes"].clone(), number(socket.send_buffer()));
    if held.state == TcpState::LISTEN {
        d.equal("rqueue_bytes", row["rqueue_bytes"].clone(), Value::Null);
        d.equal("rtt_us", row["rtt_us"].clone(), Value::Null);
        d.holds("it has a backlog", row["backlog"].is_u64() && row["backlog_limit"].is_u64());
    } else {
        d.equal("backlog", row["backlog"].clone(), Value::Null);
    }
}

#[test]
fn counters_are_those_of_the_socket() {
    for route in Route::available() {
        let [client, server] = sockets::established(route, Traffic::SOME);
        let rig = Rig::new();
        rig.run(&["record", "--count", "1"]);
        for held in [&client, &server] {
            let info = held.socket().info(libc::IPPROTO_TCP, libc::TCP_INFO);
            let row = rig.row(&["query", "connections"], held.identity.cookie);
            let d = &mut Differences::of(&held.what);
            for (name, at) in [("bytes_acked", 120), ("bytes_received", 128), ("bytes_sent", 200)] {
                let told = u64::from_ne_bytes(info.bytes[at..at + 8].try_into().unwrap());
                d.equal(name, row[name].clone(), number(told));
            }
            for (name, at) in [("segs_out", 136), ("segs_in", 140), ("rtt_us", 68)] {
                d.equal(name, row[name].clone(), number(common::tcp_info::u32_at(&info.bytes, at)));
            }
        }
    }
}

#[test]
fn a_lifetime_lies_within_its_bounds() {
    let rig = Rig::new();
    let recorder = rig.start(&["--interval", "10ms"]);
    let now = || SystemClock.now().utc_ns;
    let before_open = now();
    let connection = Connection::open(Route::V4);
    let after_open = now();
    let identity = connection.client.identity();
    sockets::transfer(&connection.client, &connection.server, 1_000);
    rig.wait_for_snapshots(3);
    let before_close = now();
    // Reset, so that nothing is left of it.
    sockets::abort_seen_by(&connection.server, connection.client);
    let after_close = now();
    let cookie = identity.cookie.to_string();
    let row = wait::until_some("the recorder sees that it is gone", || {
        let rows = rig.rows(&["query", "connections", "--cookie", &cookie]);
        rows.into_iter().find(|row| !row["destroyed_at"].is_null())
    });
    assert!(is_done(&recorder.stop()));

    assert_eq!(row["opened_evidence"], text("snapshot"));
    // Two dumps may have lacked it before the kernel told of it.
    let evidence = row["closed_evidence"].as_str().unwrap();
    assert!(["destroy_event", "absence"].contains(&evidence), "{evidence}");
    assert_eq!(row["direction"], text("outbound"));
    assert_eq!(row["ending"], text("reset"));
    assert!(nanos(&row["opened_after"]) <= after_open);
    assert!(nanos(&row["opened_before"]) >= before_open);
    // That the whole machine stood still between the kernel's word and its reader is not noticed below
    // 100 ms (docs/ARCHITECTURE.md).
    let late = nanos(&row["closed_after"]) - after_close;
    assert!(late <= 100_000_000, "{late} ns after its end: {row:?}");
    assert!(nanos(&row["closed_before"]) >= before_close);
    let length = |name: &str| row[name].as_i64().unwrap();
    assert!(length("duration_min_ns") <= after_close - before_open + late.max(0));
    assert!(length("duration_max_ns") >= before_close - after_open);
    assert_eq!(row["bytes_sent"], number(1_000u64));
}

#[test]
fn a_connection_has_a_story() {
    let rig = Rig::new();
    let recorder = rig.start(&["--interval", "20ms", "-t"]);
    let connection = Connection::open(Route::V4);
    let identity = connection.client.identity();
    let cookie = identity.cookie.to_string();
    let of_client = ["query", "connections", "--cookie", &cookie];
    let row = wait::until_some("the recorder has found who holds it", || {
        rig.rows(&of_client).into_iter().find(|row| !row["pid"].is_null())
    });
    sockets::transfer(&connection.client, &connection.server, 5_000);
    rig.wait_for_snapshots(2);
    sockets::transfer(&connection.server, &connection.client, 700);
    rig.wait_for_snapshots(2);
    sockets::finish(&connection.client);
    sockets::wait_for_state(&connection.client, TcpState::FIN_WAIT2);
    rig.wait_for_snapshots(2);
    sockets::abort(connection.client);
    wait::until("the recorder sees that it is gone", || {
        rig.rows(&of_client).iter().any(|row| !row["closed_before"].is_null())
    });
    assert!(is_done(&recorder.stop()));

    let id = row["socket_id"].to_string();
    let told = rig.run(&["query", "connection", &id, "--format", "json"]);
    let story: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(story["connection"]["cookie"], text(&cookie));
    assert_eq!(story["connection"]["direction"], text("outbound"));
    // What another test started meanwhile had it too until it executed its program.
    let owners = story["owners"].as_array().unwrap();
    assert!(owners.iter().any(|o| o["pid"] == number(std::process::id())), "{owners:?}");
    let names: Vec<_> = story["states"].as_array().unwrap().iter().map(|s| &s["state"]).collect();
    // A dump may have come upon it as it was opened, and FIN-WAIT-1 may have been seen between them.
    assert!([text("SYN-SENT"), text("ESTAB")].contains(names[0]), "{names:?}");
    assert_eq!(names[names.len() - 1], &text("FIN-WAIT-2"));
    let sum = |name: &str| -> u64 {
        let traffic = story["traffic"].as_array().unwrap();
        traffic.iter().filter_map(|interval| interval[name].as_u64()).sum()
    };
    assert_eq!((sum("sent_delta_bytes"), sum("received_delta_bytes")), (5_000, 700));
    // The other end, which this process holds as well, tells the same from its side.
    let peer = story["connection"]["peer_socket_id"].to_string();
    let told = rig.run(&["query", "connection", &peer]);
    let told = String::from_utf8(told.stdout).unwrap();
    let (local, remote) = (identity.local, identity.remote);
    assert!(told.contains(&format!("tcp {remote} <- {local}")), "{told}");
    assert!(told.contains(&format!("peer: connection {id}")), "{told}");
    assert!(told.contains(&format!("[{}] of ", std::process::id())), "{told}");
}

#[test]
fn coverage_tells_of_both_captures_and_the_time_between() {
    let rig = Rig::new();
    for _ in 0..2 {
        rig.run(&["record", "--count", "2", "--interval", "20ms", "-t"]);
    }
    let rows = rig.rows(&["query", "coverage"]);
    let kinds: Vec<_> = rows
        .iter()
        .map(|row| (row["kind"].clone(), row["family"].clone()))
        .filter(|(kind, _)| *kind != text("ticks_missed"))
        .collect();
    let recorded = |family: &str| (text("recorded"), text(family));
    let gap = (text("not_recording"), Value::Null);
    let one = [recorded("inet"), recorded("inet6")];
    assert_eq!(kinds, [&one[..], &[gap], &one].concat());
    for row in rows.iter().filter(|row| row["kind"] == text("recorded")) {
        assert_eq!((&row["snapshots"], &row["states_asked"]), (&number(2u64), &text("all")));
        assert!(nanos(&row["from"]) < nanos(&row["to"]));
    }
}

#[test]
fn the_state_at_a_time_is_what_it_was_then() {
    let rig = Rig::new();
    let recorder = rig.start(&["--interval", "10ms"]);
    let connection = Connection::open(Route::V4);
    let cookie = connection.client.identity().cookie;
    rig.wait_for_snapshots(2);
    let while_open = SystemClock.now().utc_ns;
    sockets::finish(&connection.client);
    sockets::wait_for_state(&connection.client, TcpState::FIN_WAIT2);
    rig.wait_for_snapshots(2);
    let half_closed = SystemClock.now().utc_ns;
    assert!(is_done(&recorder.stop()));
    let state_at = |ns: i64| {
        let time = format!("@{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        rig.row(&["query", "at", &time], cookie)["state"].clone()
    };
    assert_eq!(state_at(while_open), text("ESTAB"));
    assert_eq!(state_at(half_closed), text("FIN-WAIT-2"));
    let states: Vec<_> = rig
        .rows(&["query", "samples", "--cookie", &cookie.to_string()])
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert!(states.contains(&text("ESTAB")) && states.contains(&text("FIN-WAIT-2")), "{states:?}");
}

#[test]
fn the_table_is_laid_out_as_ss_does() {
    let listeners = sockets::listening(Route::V4, 7, 2);
    let [client, _server] = sockets::established(Route::V4, Traffic::SOME);
    let rig = Rig::new();
    rig.run(&["record", "--count", "1"]);
    let table = rig.run(&["query", "at", "now", "--info"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        "Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let (listener, local) = (listeners[0].identity.local, client.identity.local);
    let of_listener = ["tcp", "LISTEN", "2", "7", &listener.to_string(), "0.0.0.0:*"];
    assert!(lines.iter().any(|l| l[..] == of_listener), "{table}");
    let of_client = &["tcp", "ESTAB"];
    let found = lines
        .iter()
        .position(|l| l.starts_with(of_client) && l.get(4) == Some(&local.to_string().as_str()));
    let details = &lines[found.unwrap_or_else(|| panic!("{local} is not in {table}")) + 1];
    assert!(details.iter().any(|w| w.starts_with("rtt:")), "{details:?}");
    assert!(details.contains(&format!("cookie:{}", client.identity.cookie).as_str()));
}

#[test]
fn exports_hold_the_same_in_every_format() {
    let held = sockets::established(Route::V4, Traffic::SOME);
    let rig = Rig::new();
    let recorder = rig.start(&["--interval", "10ms"]);
    wait::until("owners are found", || !rig.rows(&["export", "owners"]).is_empty());
    recorder.stop();
    for what in ["connections", "samples", "sockets", "owners", "processes", "snapshots"] {
        let path = |ending: &str| rig.directory.path().join(format!("{what}.{ending}"));
        for ending in ["csv", "json", "jsonl"] {
            rig.run(&["export", what, "--output", path(ending).to_str().unwrap()]);
        }
        let json: Vec<HashMap<String, Value>> =
            serde_json::from_slice(&std::fs::read(path("json")).unwrap()).unwrap();
        let jsonl: Vec<HashMap<String, Value>> = std::fs::read_to_string(path("jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(!json.is_empty());
        assert_eq!(json, jsonl);
        let mut csv = csv::Reader::from_path(path("csv")).unwrap();
        let header = csv.headers().unwrap().clone();
        let rows: Vec<_> = csv.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), json.len());
        for (row, object) in rows.iter().zip(&json) {
            for (name, cell) in header.iter().zip(row) {
                let expected = match &object[name] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!(cell, expected, "{what}.{name}");
            }
        }
    }
    drop(held);
}

#[test]
fn a_recording_is_gone_on_with_as_a_new_capture() {
    let rig = Rig::new();
    let [client, _server] = sockets::established(Route::V4, Traffic::SOME);
    for _ in 0..3 {
        rig.run(&["record", "--count", "2", "--interval", "5ms", "-t"]);
    }
    // A connection that lives through all of them is one row.
    let row = rig.row(&["query", "connections"], client.identity.cookie);
    // A sample in the keyframe that each capture begins with, and another only where something changed: where
    // a busy machine has the clocks read late, that is when data came last.
    let socket = row["socket_id"].to_string();
    let samples = rig.rows(&["query", "samples", "--socket", &socket]);
    let is_keyframe = |sample: &&HashMap<_, _>| sample["is_keyframe"] == true;
    assert_eq!(samples.iter().filter(is_keyframe).count(), 3);
    for pair in samples.windows(2).filter(|pair| !is_keyframe(&&pair[1])) {
        let of_snapshot = ["taken_at", "snapshot_id", "is_keyframe", "observed_at"];
        let differs = |(name, value): (&String, &Value)| {
            !of_snapshot.contains(&name.as_str()) && pair[0][name] != *value
        };
        assert!(pair[1].iter().any(differs), "nothing changed: {pair:?}");
    }
    assert_eq!((&row["samples"], &row["closed_before"]), (&samples.len().into(), &Value::Null));
    let info: Value =
        serde_json::from_slice(&rig.run(&["info", "--format", "json"]).stdout).unwrap();
    let captures = info["captures"].as_array().unwrap();
    assert_eq!(captures.len(), 3);
    for capture in captures {
        assert_eq!(capture["end_reason"], text("count"));
        assert_eq!(capture["snapshots"], number(2u64));
        assert_eq!(capture["scopes"], text("tcp/inet tcp/inet6"));
    }
    assert_eq!(info["snapshots"], number(6u64));
    assert_eq!(std::fs::read_dir(rig.directory.path()).unwrap().count(), 1, "one file");
}

#[test]
fn a_command_is_recorded_while_it_runs_and_its_exit_code_kept() {
    let rig = Rig::new();
    let mut command = rig.command(&["record", "--interval", "5ms"]);
    let output = command.args(["--", "sh", "-c", "read never; exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let info: Value =
        serde_json::from_slice(&rig.run(&["info", "--format", "json"]).stdout).unwrap();
    assert_eq!(info["captures"][0]["end_reason"], text("command"));
    let missing = rig.command(&["record"]).args(["--", "/no/such/command"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/command"));
}

#[test]
fn an_ordinary_user_records_too_and_is_told_once_what_is_missing() {
    const NOBODY: u32 = 65_534;
    let held = sockets::established(Route::V4, Traffic::SOME);
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(directory.path());
    let binary = directory.path().join("sockrec");
    // By a program of its own: while this process had it open to be written, and any that another test
    // starts with it, nobody could execute it.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_sockrec")).arg(&binary).status();
    assert!(copied.unwrap().success());
    open(&binary);
    let mut command = Command::new(&binary);
    command.current_dir(directory.path()).args(["record", "--count", "1"]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    } else {
        note("this runs as an ordinary user already");
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(is_done(&output), "{stderr}");
    assert_eq!(stderr.matches("CAP_NET_ADMIN").count(), 1, "{stderr}");
    let rig = Rig { directory };
    std::fs::rename(rig.directory.path().join("sockrec.db"), rig.file()).unwrap();
    let row = rig.row(&["query", "at", "now"], held[0].identity.cookie);
    assert_eq!((&row["state"], &row["mark"]), (&text("ESTAB"), &Value::Null));
}

#[test]
fn states_and_protocols_can_be_chosen() {
    let listeners = sockets::listening(Route::V4, 3, 1);
    let held = sockets::established(Route::V4, Traffic::SOME);
    let udp = sockets::udp(Route::V4);
    let rig = Rig::new();
    rig.run(&["record", "--count", "1", "-t", "-4", "--state", "established,listening"]);
    let cookies = |words: &[&str]| -> Vec<Value> {
        rig.rows(&[&["query", "connections"], words].concat())
            .iter()
            .map(|row| row["cookie"].clone())
            .collect()
    };
    let of = |held: &Held| text(held.identity.cookie);
    let all = cookies(&[]);
    assert!(all.contains(&of(&listeners[0])) && all.contains(&of(&held[0])));
    assert!(!all.contains(&of(&udp[0])));
    let listening = cookies(&["--state", "listening"]);
    assert!(listening.contains(&of(&listeners[0])) && !listening.contains(&of(&held[0])));
    let none = rig.run(&["query", "connections", "-u"]);
    assert!(
        String::from_utf8_lossy(&none.stderr)
            .contains("recorded were tcp/inet in some states from")
    );
}
