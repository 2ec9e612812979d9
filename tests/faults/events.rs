//! Destroy events that come faster than they are read, and connections that are followed.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, WaitIdOptions, WaitIdStatus, waitid};
use serde_json::Value;

use super::permissions::{as_owner, ordinary, reachable};
use crate::harness::{Dir, Lines, Running, ask, assert_recording_is_whole, until};

/// A connection that ended in order.
fn connection(listener: &TcpListener) -> u16 {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = client.local_addr().unwrap().port();
    let (server, _) = listener.accept().unwrap();
    drop(client);
    drop(server);
    port
}

/// Whether a row is of this client's connection: others, and sockets of UDP, may have its port too.
fn is_of(row: &Value, client: u16, server: u16) -> bool {
    row["protocol"] == "tcp" && row["local_port"] == client && row["remote_port"] == server
}

/// Waits until this client's connection is written out.
#[track_caller]
fn until_told(lines: &Lines, client: u16, server: u16) -> Value {
    lines.until("the connection", |line| {
        Some(serde_json::from_str(line).unwrap()).filter(|row| is_of(row, client, server))
    })
}

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether the kernel dropped messages of a socket of this recorder that has joined groups of sock_diag.
fn has_dropped_events(recorder: &Running) -> bool {
    const SOCK_DIAG: &str = "4";
    let open = fs::read_dir(format!("/proc/{}/fd", recorder.child.id())).unwrap();
    let open: Vec<_> = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
    let is_its = |inode: &str| open.contains(&PathBuf::from(format!("socket:[{inode}]")));
    let sockets = fs::read_to_string("/proc/net/netlink").unwrap();
    sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
        let [_, protocol, _, groups, .., drops, inode] = columns[..] else { return false };
        protocol == SOCK_DIAG && groups != "00000000" && drops != "0" && is_its(inode)
    })
}

/// Waits until no more is left of this client's connection than what waits in TIME-WAIT: a program that
/// another test just starts has its sockets too for a moment.
fn until_closed(port: u16) {
    let port = format!(":{port:04X}");
    until("the connection is over", || {
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let is_there = sockets.lines().any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = columns[..] else { return false };
            (local.ends_with(&port) || remote.ends_with(&port)) && state != "06"
        });
        (!is_there).then_some(())
    });
}

fn stand_still(recorder: &Running) {
    recorder.signal(Signal::STOP);
    until("it stands still", || {
        let status = waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&recorder.child)),
            WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT,
        );
        status.unwrap().is_some_and(|status: WaitIdStatus| status.stopped()).then_some(())
    });
}

/// The kernel says once that it lost events, and never how many.
#[test]
fn lost_events_are_told_by_whoever_may_have_lost_something() {
    let Some(dir) = reachable() else { return };
    as_owner(&dir.path("."));
    let path = dir.path("rec.db");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stays = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut recorder = Running::spawn(ordinary(dir.command("record -i 50ms -o rec.db")));
    recorder.until_snapshots(&path, 2);
    let buffer_bytes =
        ask(&path, "SELECT json_extract(options, '$.event_buffer_bytes') FROM captures").unwrap();

    // While it stands still nobody reads. An event takes more than 512 bytes, a connection two.
    stand_still(&recorder);
    for _ in 0..buffer_bytes / 1_024 {
        connection(&listener);
    }
    // The kernel sends them in its own time.
    until("the kernel has no room for them", || has_dropped_events(&recorder).then_some(()));
    recorder.signal(Signal::CONT);
    recorder.until("a loss is recorded", || {
        (ask(&path, "SELECT count(*) FROM event_losses").ok()? > 0).then_some(())
    });
    drop(stays);
    let stored = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
    recorder.until_snapshots(&path, stored + 2);
    recorder.signal(Signal::INT);
    let ran = recorder.finish();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert!(ran.stderr.contains("destroy events came faster"), "{}", ran.told());
    assert_recording_is_whole(&path);

    let port = listener.local_addr().unwrap().port();
    let rows = dir.sockrec("query connections -f rec.db -t --format jsonl").fine();
    let rows = objects(&rows.stdout());
    let of_listener = rows.iter().filter(|row| row["remote_port"] == port);
    let mut told = 0;
    for row in of_listener {
        // Who was there before lived through it; who came and went within it may be missing.
        let kinds = row["gaps"].as_str().unwrap_or_default();
        told += usize::from(kinds.split(',').any(|kind| kind == "events_lost"));
    }
    assert!(told > 0, "no lifetime says that events were lost");
    // Those that are there do not end for want of an event.
    let span = "SELECT max(ended_boottime_ns - started_boottime_ns) > 0 FROM event_losses";
    assert_eq!(ask(&path, span), Ok(1));
}

/// While it stands still events queue up: it must not take when it read them for when they were sent.
#[test]
fn a_recorder_that_stood_still_does_not_say_that_connections_lived_until_it_went_on() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut recorder = dir.start("record -q -i 50ms -o rec.db");
    recorder.until_snapshots(&path, 4);
    stand_still(&recorder);
    let closed_by: Vec<_> = (0..5)
        .map(|_| {
            let port = connection(&listener);
            until_closed(port);
            (port, SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos())
        })
        .collect();
    // Longer than what the bounds of the kernel's clock ticks would explain.
    thread::sleep(Duration::from_millis(400));
    recorder.signal(Signal::CONT);
    let stored = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
    recorder.until_snapshots(&path, stored + 4);
    recorder.signal(Signal::INT);
    recorder.finish();
    assert_recording_is_whole(&path);
    let listening = listener.local_addr().unwrap().port();
    for (port, closed_by_ns) in closed_by {
        let ends_after = |moment: &str| {
            let sql = format!(
                "SELECT count(*) FROM sockets AS k JOIN socket_ends AS e USING (socket_id)
                 WHERE (k.local_port, k.remote_port) IN
                        (VALUES ({port}, {listening}), ({listening}, {port}))
                    AND {moment} > {closed_by_ns}"
            );
            ask(&path, &sql).unwrap()
        };
        assert_eq!(ends_after("e.destroyed_at_ns"), 2, "port {port}: not read late");
        assert_eq!(ends_after("e.destroyed_at_ns - e.idle_ms * 1000000"), 0, "port {port}");
    }
}

#[test]
fn a_connection_is_written_out_while_it_records() {
    let dir = Dir::new();
    let mut recorder = dir.command("record -q -i 20ms --follow=jsonl -o rec.db").spawn().unwrap();
    let lines = Lines::of(&mut recorder);
    let mut recorder = Running::spawn_of(recorder);
    recorder.until_snapshots(&dir.path("rec.db"), 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.local_addr().unwrap().port();
    let port = connection(&listener);
    let told = until_told(&lines, port, listening);
    recorder.signal(Signal::INT);
    recorder.finish().recorded();
    assert_eq!(told["direction"], "outbound");
    assert_eq!(told["ending"], "orderly");
    let line = format!("query connections -f rec.db --socket {} --format jsonl", told["socket_id"]);
    let asked = objects(&dir.sockrec(&line).fine().stdout()).remove(0);
    // What came to be known later, as the counters of a socket still held, is only in the answer.
    for column in ["socket_id", "local_port", "remote_port", "direction", "ending"] {
        assert_eq!(told[column], asked[column], "{column}");
    }
}

#[test]
fn a_half_closed_connection_is_written_out_once_it_is_over() {
    half_closed_is_told("", false);
}

#[test]
fn a_half_closed_connection_is_written_out_once_it_is_over_without_events() {
    half_closed_is_told("--no-events", false);
}

#[test]
fn what_was_half_closed_when_recording_stopped_is_written_out_by_the_next_capture() {
    half_closed_is_told("", true);
}

fn half_closed_is_told(options: &str, restarts: bool) {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let follow = || {
        let command = format!("record -q -i 20ms --follow=jsonl {options} -o rec.db");
        let mut recorder = dir.command(&command).spawn().unwrap();
        let lines = Lines::of(&mut recorder);
        (Running::spawn_of(recorder), lines)
    };
    let (mut recorder, mut lines) = follow();
    recorder.until_snapshots(&path, 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let port = client.local_addr().unwrap().port();
    let listening = client.peer_addr().unwrap().port();
    let more_snapshots = |recorder: &mut Running| {
        let so_far = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
        recorder.until_snapshots(&path, so_far + 2);
    };
    more_snapshots(&mut recorder);
    drop(client);
    let left = format!(
        "SELECT count(*) FROM remains AS m JOIN sockets AS k USING (socket_id)
         WHERE k.local_port = {port} AND k.remote_port = {listening} AND k.protocol = 6
            AND m.time_wait_snapshot_id IS NULL"
    );
    recorder.until("it is seen in FIN-WAIT-2", || (ask(&path, &left).unwrap() == 1).then_some(()));
    more_snapshots(&mut recorder);
    if restarts {
        recorder.signal(Signal::TERM);
        for row in objects(&lines.rest().join("\n")) {
            assert!(!is_of(&row, port, listening), "it is not over: {row}");
        }
        recorder.finish().recorded();
        (recorder, lines) = follow();
        more_snapshots(&mut recorder);
    }
    drop(server);
    let told = until_told(&lines, port, listening);
    recorder.signal(Signal::INT);
    recorder.finish().recorded();
    assert!(told["closed_before"].is_string(), "{told}");
    assert_eq!(told["ending"], "orderly");
}

#[test]
fn when_nobody_reads_what_is_followed_the_recording_ends_well() {
    let dir = Dir::new();
    let mut command = dir.command("record -i 20ms --follow -o rec.db");
    command.stdout(Stdio::piped());
    let mut recorder = command.spawn().unwrap();
    drop(recorder.stdout.take());
    let mut recorder = Running::spawn_of(recorder);
    recorder.until_snapshots(&dir.path("rec.db"), 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    connection(&listener);
    recorder.finish().recorded();
    assert_recording_is_whole(&dir.path("rec.db"));
    let ended = "SELECT count(*) FROM captures WHERE end_reason = 'output'";
    assert_eq!(ask(&dir.path("rec.db"), ended), Ok(1));
}

#[test]
fn a_connection_is_not_followed_in_a_format_that_has_an_end() {
    let dir = Dir::new();
    let ran = dir.sockrec("record --follow=json -o rec.db");
    assert_eq!(ran.code(), Some(2), "{}", ran.told());
    assert!(ran.stderr.contains("try `jsonl`"), "{}", ran.told());
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}
