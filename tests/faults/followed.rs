//! What `record --follow` writes of those who ended while nobody recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Dir, ask, assert_recording_is_whole, read_only};

/// The lines of a capture, by their sockets.
fn followed(dir: &Dir, options: &str) -> BTreeMap<i64, Vec<Value>> {
    let line = format!("record -q -i 20ms --follow=jsonl {options} -o rec.db");
    let mut lines = BTreeMap::<_, Vec<_>>::new();
    for line in dir.sockrec(&line).recorded().stdout().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        lines.entry(row["socket_id"].as_i64().unwrap()).or_default().push(row);
    }
    lines
}

fn socket_ids(path: &Path, sql: &str) -> BTreeSet<i64> {
    let file = read_only(path).unwrap();
    let mut statement = file.prepare(sql).unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.collect::<Result<_, _>>().unwrap()
}

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// The machine is not restarted: what was recorded is made that of another boot.
#[test]
fn what_a_restart_of_the_machine_ended_is_written_out_at_the_start() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut recorder = dir.start("record -q -i 20ms -o rec.db");
    recorder.until_snapshots(&path, 2);
    let (_client, _server) = pair(&listener);
    let (half_closed, _other_end) = pair(&listener);
    let so_far = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
    recorder.until_snapshots(&path, so_far + 2);
    drop(half_closed);
    let left = format!(
        "SELECT count(*) FROM remains AS m JOIN sockets AS k USING (socket_id)
         WHERE k.remote_port = {} AND k.protocol = 6 AND m.time_wait_snapshot_id IS NULL",
        listener.local_addr().unwrap().port()
    );
    recorder.until("it is seen in FIN-WAIT-2", || (ask(&path, &left).unwrap() == 1).then_some(()));
    recorder.signal(Signal::INT);
    recorder.finish().recorded();
    let other = "UPDATE boots SET uuid = '00000000-0000-4000-8000-000000000001'";
    Connection::open(&path).unwrap().execute(other, []).unwrap();

    let lines = followed(&dir, "-c 1");
    assert_recording_is_whole(&path);
    let port = listener.local_addr().unwrap().port();
    let is_of = |row: &Value| row["local_port"] == port || row["remote_port"] == port;
    let told: Vec<_> = lines.values().filter(|rows| is_of(&rows[0])).collect();
    assert_eq!(told.len(), 4, "{lines:?}");
    for rows in told {
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["closed_evidence"], "host_restart", "{rows:?}");
        assert!(rows[0]["closed_before"].is_string(), "{rows:?}");
    }
    let again = followed(&dir, "-c 4");
    assert!(!again.values().flatten().any(is_of), "{again:?}");
}

/// Whoever killed it killed it before its last lines were written.
#[test]
fn what_a_killed_recorder_stored_last_is_written_out_by_the_next() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Those of other tests may be half-closed.
    let port = listener.local_addr().unwrap().port();
    let last = &format!(
        "SELECT socket_id FROM socket_ends AS e JOIN sockets AS k USING (socket_id)
         WHERE e.destroyed_snapshot_id = (SELECT max(snapshot_id) FROM snapshots) AND k.protocol = 6
            AND k.remote_port <> 0 AND {port} IN (k.local_port, k.remote_port)"
    );
    let long_ago = "SELECT socket_id FROM socket_ends WHERE destroyed_snapshot_id <
        (SELECT max(snapshot_id) FROM snapshots) - 4";
    let is_over = AtomicBool::new(false);
    let (ended, told_before) = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(pair(&listener));
                thread::sleep(Duration::from_millis(1));
            }
        });
        // On a busy machine nothing may have come in the last one.
        let ended = loop {
            let so_far = ask(&path, "SELECT count(*) FROM snapshots").unwrap_or(0);
            let mut recorder = dir.start("record -q -i 100ms -o rec.db");
            recorder.until_snapshots(&path, so_far + 6);
            recorder.kill();
            let ended = socket_ids(&path, last);
            if !ended.is_empty() {
                break ended;
            }
        };
        is_over.store(true, Ordering::Relaxed);
        (ended, socket_ids(&path, long_ago))
    });
    let lines = followed(&dir, "-c 4");
    assert_recording_is_whole(&path);
    let told: BTreeSet<_> = lines.keys().copied().collect();
    assert!(told.is_superset(&ended), "{ended:?} {told:?}");
    assert!(told.is_disjoint(&told_before), "{told_before:?} {told:?}");
    assert!(lines.values().all(|rows| rows.len() == 1), "{lines:?}");
    let again = followed(&dir, "-c 2");
    assert!(again.keys().all(|socket| !told.contains(socket)), "{again:?}");
}

#[test]
fn what_was_there_when_recording_began_is_written_out_once_it_is_over() {
    for options in ["", "--no-events"] {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap().port();
        // Of this one only its TIME-WAIT is there.
        drop(pair(&listener));
        let (client, server) = pair(&listener);
        let port = client.local_addr().unwrap().port();
        let mut recorder =
            dir.start(&format!("record -q -i 20ms --follow=jsonl {options} -o rec.db"));
        recorder.until_snapshots(&path, 2);
        drop(client);
        let is_seen = |condition: &str| {
            let sql = format!(
                "SELECT count(*) FROM remains AS m JOIN sockets AS k USING (socket_id)
                 WHERE k.protocol = 6 AND k.local_port = {port} AND k.remote_port = {listening}
                    AND {condition}"
            );
            (ask(&path, &sql).unwrap() == 1).then_some(())
        };
        recorder.until("it is in FIN-WAIT-2", || is_seen("m.time_wait_snapshot_id IS NULL"));
        drop(server);
        recorder.until("it is in TIME-WAIT", || is_seen("m.time_wait_snapshot_id NOT NULL"));
        recorder.signal(Signal::INT);
        let lines = recorder.finish().recorded().stdout();
        let rows: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let of_listener =
            |row: &&Value| row["protocol"] == "tcp" && row["remote_port"] == listening;
        let told: Vec<_> = rows.iter().filter(of_listener).map(|row| &row["local_port"]).collect();
        assert_eq!(told, [port], "{options}: {rows:?}");
    }
}
