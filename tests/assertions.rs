//! Rules and markers on the real kernel: what really happened breaks its rule, and only in its phase.

mod common;
mod harness;
#[path = "lifetimes/namespace.rs"]
mod namespace;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use harness::{Dir, Running, ask, until};
use namespace::{Surroundings, in_own_namespace};

/// How many may wait for accept(): the kernel takes one more.
const BACKLOG: i32 = 1;

/// A socket whose port is taken, and who connects to it is refused.
fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}

fn listener() -> Socket {
    let socket = bound();
    socket.listen(BACKLOG).unwrap();
    socket
}

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

fn pair(listener: &Socket) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(address(listener)).unwrap();
    (client, listener.accept().unwrap().0.into())
}

/// Has the kernel throw away what comes for a socket, or not any longer.
fn set_deaf(socket: &TcpStream, is_deaf: bool) {
    // A classic BPF program of one instruction: keep no byte.
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let option = if is_deaf { libc::SO_ATTACH_FILTER } else { libc::SO_DETACH_FILTER };
    // SAFETY: the descriptor is open, and the kernel reads the program before the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A recorder at work in a namespace where nobody else has sockets.
struct Rig {
    dir: Dir,
    recorder: Running,
}

impl Rig {
    fn start(options: &str) -> Self {
        let dir = Dir::new();
        let mut recorder = dir.start(&format!("record -q -i 10ms -o sockrec.db {options}"));
        recorder.until_snapshots(&dir.path("sockrec.db"), 3);
        Self { dir, recorder }
    }

    fn mark(&self, line: &str) {
        let ran = self.dir.sockrec(&format!("mark {line}"));
        assert_eq!(ran.told(), "exit 0\n");
    }

    fn until(&mut self, what: &str, sql: &str) {
        let path = self.dir.path("sockrec.db");
        self.recorder.until(what, || (ask(&path, sql).ok()? > 0).then_some(()));
    }

    fn until_snapshots(&mut self, more: i64) {
        let path = self.dir.path("sockrec.db");
        let seen = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
        self.recorder.until_snapshots(&path, seen + more);
    }

    fn stop(self) -> Judged {
        self.recorder.signal(Signal::INT);
        self.recorder.finish().recorded();
        Judged(self.dir)
    }
}

/// A recording that is held to rules.
struct Judged(Dir);

impl Judged {
    /// The rows that break a rule.
    #[track_caller]
    fn broken(&self, line: &str) -> Vec<Value> {
        let ran = self.0.sockrec(&format!("assert {line} --format json"));
        assert_eq!(ran.code(), Some(1), "{line}: {}", ran.told());
        let rows: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
        rows.into_iter().filter(|row| row["verdict"] == "broken").collect()
    }

    /// Nothing breaks the rule. On a busy machine a tick may have been missed, which is told.
    #[track_caller]
    fn not_broken(&self, line: &str) {
        let ran = self.0.sockrec(&format!("assert {line}"));
        assert!(matches!(ran.code(), Some(0 | 3)), "{line}: {}", ran.told());
        assert!(ran.code() == Some(0) || ran.stdout().contains("not_known"), "{}", ran.told());
    }
}

/// Runs a test where nobody else has sockets; not at all where that is not to be had.
fn alone(what: &str, test: impl FnOnce() + Send) {
    in_own_namespace(what, |surroundings| match surroundings {
        Surroundings::Own => test(),
        Surroundings::Shared => common::not_run(what, "the sockets of others break rules too"),
    });
}

#[test]
fn a_full_backlog_and_dropped_requests_break_their_rules_in_their_phase() {
    alone("a full backlog", || {
        let mut rig = Rig::start("");
        let listener = listener();
        let port = address(&listener).port();
        rig.until_snapshots(2);
        rig.mark("quiet");
        rig.mark("--start crowd");
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                // It goes on in the background, if it is not over at once.
                let result = client.connect(&address(&listener).into());
                let error = result.err().and_then(|e| e.raw_os_error());
                assert!(error.is_none_or(|errno| errno == libc::EINPROGRESS), "{error:?}");
                client
            })
            .collect();
        rig.until(
            "a full queue and a dropped request",
            "SELECT count(*) FROM socket_samples WHERE backlog > backlog_limit AND sk_drops > 0",
        );
        rig.until_snapshots(2);
        rig.mark("--end crowd");
        drop(clients);
        let judged = rig.stop();
        let in_crowd = "--from crowd --to crowd:end";
        let full = judged.broken(&format!("backlog-never-full {in_crowd}"));
        assert_eq!(full.len(), 1, "{full:?}");
        assert_eq!((&full[0]["value"], &full[0]["limit"]), (&2.into(), &1.into()), "{full:?}");
        assert_eq!(full[0]["local_port"], port);
        let dropped = judged.broken(&format!("no-listen-drops {in_crowd}"));
        assert!(dropped[0]["value"].as_i64() >= Some(1), "{dropped:?}");
        judged.not_broken("backlog-never-full no-listen-drops --to quiet");
        // Both ends of the connections that waited, and the clients that got no place.
        assert_eq!(judged.broken("connections-below=5").len(), 1);
        judged.not_broken("connections-below=5 --to quiet");
        // They were never let in, and had more patience than the test.
        judged.not_broken("no-close-wait-longer-than=1m");
    });
}

#[test]
fn a_close_wait_that_is_held_breaks_its_rule() {
    alone("a socket held in CLOSE-WAIT", || {
        let mut rig = Rig::start("");
        let listener = listener();
        let (client, server) = pair(&listener);
        let port = server.peer_addr().unwrap().port();
        rig.until_snapshots(2);
        rig.mark("closing");
        drop(client);
        until("a CLOSE-WAIT of 200 ms", || {
            let ran = rig.dir.sockrec("assert no-close-wait-longer-than=200ms");
            (ran.code() == Some(1)).then_some(())
        });
        drop(server);
        rig.until_snapshots(2);
        let judged = rig.stop();
        let held = judged.broken("no-close-wait-longer-than=200ms");
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0]["remote_port"], port);
        assert!(held[0]["value"].as_f64() > Some(0.2), "{held:?}");
        let owners = held[0]["owners"].as_str();
        let this = format!("[{}]", std::process::id());
        assert!(owners.is_none_or(|owners| owners.contains(&this)), "{held:?}");
        judged.not_broken("no-close-wait-longer-than=10m");
        judged.not_broken("no-close-wait-longer-than=1ms --to closing");
        // It was closed in order: neither reset nor refused.
        judged.not_broken("no-resets no-failed-connects");
    });
}

#[test]
fn retransmissions_break_their_rule() {
    alone("retransmissions", || {
        let mut rig = Rig::start("");
        let listener = listener();
        let (mut client, mut server) = pair(&listener);
        rig.until_snapshots(2);
        rig.mark("--start deaf");
        set_deaf(&server, true);
        client.write_all(b"nobody hears this").unwrap();
        rig.until("a retransmission", "SELECT count(*) FROM conditions WHERE total_retrans > 0");
        rig.until_snapshots(2);
        rig.mark("--end deaf");
        set_deaf(&server, false);
        server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        server.read_exact(&mut [0; 17]).unwrap();
        drop((client, server));
        rig.until_snapshots(2);
        let judged = rig.stop();
        for span in ["", "--from deaf --to deaf:end"] {
            let rows = judged.broken(&format!("retransmit-ratio-below=1% {span}"));
            assert_eq!(rows.len(), 1, "{rows:?}");
            assert!(rows[0]["value"].as_f64() >= Some(50.0), "one of two at least: {rows:?}");
        }
        judged.not_broken("retransmit-ratio-below=1% --to deaf");
        assert_eq!(
            judged.broken("no-gaps retransmit-ratio-below=1%").last().unwrap()["limit"],
            1.0
        );
    });
}

#[test]
fn resets_and_refused_connects_break_their_rules() {
    alone("resets", || {
        let mut rig = Rig::start("");
        let listener = listener();
        let (client, mut server) = pair(&listener);
        rig.until_snapshots(2);
        rig.mark("abort");
        let client = Socket::from(client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        // The reset goes when nobody has the client any more: a program that another test starts
        // has it too, for a moment. For the same reason no port that was let go is connected to.
        drop(client);
        let error = server.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        drop(server);
        let bound = bound();
        let error = TcpStream::connect(address(&bound)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        rig.until("the ends of all three", "SELECT count(*) = 3 FROM socket_ends");
        rig.until_snapshots(2);
        let judged = rig.stop();
        assert!(!judged.broken("no-resets").is_empty());
        assert_eq!(judged.broken("no-failed-connects").len(), 1);
        judged.not_broken("no-resets no-failed-connects --to abort");
    });
}

#[test]
fn without_events_a_recording_cannot_vouch_for_resets() {
    let dir = Dir::new();
    dir.sockrec("record -q -i 10ms -c 3 -u --no-events -o udp.db").recorded();
    let ran = dir.sockrec("assert no-resets -f udp.db --format csv --columns verdict,message");
    let mut told: Vec<_> = ran.stdout().lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert_eq!(told, ["not_known,no_events", "not_known,states_not_asked", "verdict,message"]);
}

#[test]
fn a_command_that_was_recorded_is_judged_by_its_own_recording() {
    let dir = Dir::new();
    dir.sockrec("record -q -i 10ms -o run.db -- sleep 0.1").recorded();
    let ran = dir.sockrec("assert -f run.db connections-below=1000000");
    assert!(matches!(ran.code(), Some(0 | 3)), "{}", ran.told());
    assert!(Path::exists(&dir.path("run.db")));
}
