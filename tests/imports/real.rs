//! What this kernel says: as `ss -D` writes it, and as an nlmon interface would show it.
//!
//! A kernel with nlmon is rare where tests run. What it shows is what netlink sockets exchange: that is
//! written down at the socket instead.

use std::collections::HashMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use sockrec::model::{Family, Protocol, States};
use sockrec::wire::netlink::{FrameKind, frame_at};
use sockrec::wire::request;

use crate::captures::Traffic;
use crate::common::sockets::{self, Connection, Held, Route, abort_seen_by};
use crate::common::ss::{self, Row};
use crate::common::{Differences, facts::Facts, not_run, note, wait};
use crate::harness::{Dir, assert_recording_is_whole};
use crate::{dir_with, rows};

/// What a recording says of a socket: state, queues, ports and what `tcp_info` counts.
const SAMPLE: &str = "SELECT state, coalesce(rqueue_bytes, backlog), coalesce(wqueue_bytes,
    backlog_limit), local_port, remote_port, inode, bytes_sent, bytes_received, snd_cwnd
    FROM socket_samples WHERE cookie = ";

#[test]
fn what_ss_writes_raw_is_what_it_shows() {
    if ss::version().is_none() {
        not_run("the import of what `ss -D` writes", "`ss` is not installed");
        return;
    }
    let mut held: Vec<Held> = Vec::new();
    for route in Route::available() {
        held.extend(sockets::established(route, sockets::Traffic::SOME));
        held.extend(sockets::listening(route, 4, 2));
    }
    // A walk can miss a socket while others come and go.
    wait::until_ok("all are shown both ways", || {
        let dir = Dir::new();
        let made =
            Command::new("ss").args(["-tainmeO", "-D", "x.raw"]).current_dir(dir.path("")).status();
        assert!(made.expect("ss can be started").success());
        dir.sockrec("import x.raw -o x.db").fine();
        assert_recording_is_whole(&dir.path("x.db"));
        let told = ss::run().expect("it was there before").into_iter();
        let told: HashMap<u64, Row> = told.filter_map(|row| Some((row.cookie()?, row))).collect();
        for held in &held {
            let cookie = held.socket().identity().cookie;
            let sample = rows(&dir.path("x.db"), &format!("{SAMPLE}{cookie}"));
            let (Some(sample), Some(row)) = (sample.first(), told.get(&cookie)) else {
                return Err(format!("{} was not shown", held.what));
            };
            compare(&held.what, sample, row.clone());
        }
        Ok(())
    });
}

fn compare(what: &str, sample: &str, mut row: Row) {
    let cells: Vec<&str> = sample.split(' ').collect();
    let number = |i: usize| cells[i].parse::<u64>().ok();
    let mut differences = Differences::of(what);
    differences.equal("state", cells[0], row.state.as_str());
    differences.equal("Recv-Q", number(1), Some(u64::from(row.recv_q)));
    differences.equal("Send-Q", number(2), Some(u64::from(row.send_q)));
    differences.equal("local port", number(3), Some(u64::from(row.local.port)));
    differences.equal("remote port", number(4), Some(u64::from(row.peer.port)));
    // `ss` leaves zeros out.
    differences.equal("ino", number(5).unwrap_or(0), row.take_number("ino").unwrap_or(0));
    for (i, name) in [(6, "bytes_sent"), (7, "bytes_received")] {
        differences.equal(name, number(i).unwrap_or(0), row.take_number(name).unwrap_or(0));
    }
    differences.equal("cwnd", number(8), row.take_number("cwnd"));
}

/// A program that makes dumps, and whoever looks over its shoulder.
struct Tapped {
    socket: Socket,
    traffic: Traffic,
    sequence: u32,
}

impl Tapped {
    fn new() -> Self {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        Self { socket, traffic: Traffic::default(), sequence: 0 }
    }

    /// Dumps TCP over both families.
    fn tick(&mut self) {
        for family in Family::ALL {
            self.sequence += 1;
            let request = request::dump(family, Protocol::Tcp, States::ALL, self.sequence);
            self.say(request.clone());
            self.socket.send(&request, 0).unwrap();
            while !self.read() {}
        }
    }

    /// Reads a datagram; whether it ends the dump.
    fn read(&mut self) -> bool {
        let (datagram, _) = self.socket.recv_from_full().unwrap();
        let mut is_over = false;
        let mut offset = 0;
        while let Some(frame) = frame_at(&datagram, offset).unwrap() {
            is_over |= matches!(frame.kind, FrameKind::Done(_) | FrameKind::Error(_));
            offset = frame.next;
        }
        self.say(datagram);
        is_over
    }

    fn say(&mut self, datagram: Vec<u8>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.traffic.say(i64::try_from(now.as_nanos()).unwrap(), datagram);
    }
}

#[test]
fn what_programs_ask_this_kernel_is_recorded_as_if_it_had_been_asked() {
    note(
        "no capture of a real nlmon interface is read: this test writes down at a netlink socket \
         what it would show",
    );
    let mut program = Tapped::new();
    let stays = Connection::open(Route::V4);
    program.tick();
    let goes = Connection::open(Route::V4);
    program.tick();
    let [stays_cookie, goes_cookie] = [&stays, &goes].map(|c| c.client.identity().cookie);
    abort_seen_by(&goes.server, goes.client);
    drop(goes.server);
    // A walk of the kernel may miss what is there, never show what is not.
    for _ in 0..3 {
        program.tick();
    }
    for file in [program.traffic.pcap(), program.traffic.pcapng()] {
        let dir = dir_with("x.pcap", &file);
        dir.sockrec("import x.pcap -o x.db").fine();
        let path = dir.path("x.db");
        assert_recording_is_whole(&path);
        assert_eq!(rows(&path, "SELECT count(*) FROM snapshots"), ["5"]);
        let life = |cookie: u64| {
            let sql = format!(
                "SELECT s.first_snapshot_id, e.last_snapshot_id, e.evidence FROM sockets AS s
                 LEFT JOIN socket_ends AS e USING (socket_id) WHERE s.cookie = {cookie}"
            );
            rows(&path, &sql)
        };
        assert_eq!(life(stays_cookie), ["1 - -"]);
        assert_eq!(life(goes_cookie), ["2 2 absence"]);
    }
}
