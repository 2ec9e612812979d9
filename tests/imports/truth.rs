//! What an import knows, and what it does not.

use sockrec::model::{Family, Protocol, States, TcpState};

use crate::captures::{
    Asking, DUMP_INTR, MULTI, NETLINK_SOCK_DIAG, NLMSG_ERROR, Pcap, Pcapng, SOCK_DIAG_BY_FAMILY,
    Traffic, cooked, done, message,
};
use crate::harness::{Dir, assert_is_one_file, assert_recording_is_whole};
use crate::socket::FakeSocket;
use crate::{SECOND, START, column, dir_with, rows, told};

fn socket(cookie: u64) -> FakeSocket {
    FakeSocket::established(cookie, 1_000 + u16::try_from(cookie).unwrap(), 80).to_afar()
}

/// Imports traffic into `x.db` and gives the exit code.
fn import(traffic: &Traffic) -> (Dir, Option<i32>) {
    let dir = dir_with("x.pcap", &traffic.pcap());
    let ran = dir.sockrec("import x.pcap -o x.db");
    assert!(!ran.stderr.contains("error:"), "{}", ran.told());
    assert_recording_is_whole(&dir.path("x.db"));
    assert_is_one_file(&dir.path("x.db"));
    (dir, ran.code())
}

const ENDS: &str = "SELECT s.cookie, e.evidence, e.last_snapshot_id, e.closed_before_snapshot_id
    FROM sockets AS s LEFT JOIN socket_ends AS e USING (socket_id) ORDER BY s.cookie";

fn ends(dir: &Dir) -> Vec<String> {
    rows(&dir.path("x.db"), ENDS)
}

fn exceptions(dir: &Dir) -> Vec<String> {
    let sql = "SELECT x.snapshot_id, x.kind, f.name, x.errno, x.message FROM exceptions AS x
        JOIN scopes AS s USING (scope_id) JOIN families AS f USING (family)
        ORDER BY x.snapshot_id, f.family";
    rows(&dir.path("x.db"), sql)
}

#[test]
fn a_connection_lives_from_the_dump_before_it_to_the_two_that_lack_it() {
    // Of `b` its first row tells no more than that it was there.
    let (a, b) = (socket(1), socket(2).opened_at(1_000));
    let mut traffic = Traffic::default();
    let shown: [&[&FakeSocket]; 5] = [&[&a], &[&a, &b], &[&a, &b], &[&a], &[&a]];
    for (tick, sockets) in (0..).zip(shown) {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, Asking::default(), &told(sockets, at_ns));
    }
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    assert_eq!(ends(&dir), ["1 - - -", "2 absence 3 5"]);
    let starts = |tick: i64| (START + tick * SECOND).to_string();
    let active = (START - 5_450_000_000).to_string();
    let ended = |tick: i64| (START + tick * SECOND + 2_000).to_string();
    assert_eq!(column(&dir, "query connections", "opened_after"), ["".to_owned(), starts(0)]);
    assert_eq!(column(&dir, "query connections", "opened_before"), [active, ended(1)]);
    assert_eq!(column(&dir, "query connections", "closed_after"), [starts(4), starts(2)]);
    assert_eq!(column(&dir, "query connections", "closed_before"), ["".to_owned(), ended(4)]);
    let lengths = column(&dir, "query connections", "duration_max_ns");
    assert_eq!(lengths[1], (4 * SECOND + 2_000).to_string());
    let path = dir.path("x.db");
    // `a` has never changed: one row for five dumps.
    assert_eq!(rows(&path, "SELECT count(*) FROM samples"), ["2"]);
    assert_eq!(
        rows(&path, "SELECT source, interval_ns, end_reason, started_at_ns FROM captures"),
        [format!("import - input {START}")]
    );
}

#[test]
fn an_idle_socket_keeps_the_moment_of_its_last_data() {
    let a = socket(1).opened_at(-5_000);
    let mut traffic = Traffic::default();
    traffic.dump(START, Asking::default(), &told(&[&a], START));
    traffic.dump(START + SECOND, Asking::default(), &told(&[&a], START + SECOND));
    let (dir, _) = import(&traffic);
    let last = rows(&dir.path("x.db"), "SELECT last_data_sent_at_ns FROM socket_samples");
    assert_eq!(last, [(START - 5 * SECOND).to_string()]);
}

#[test]
fn dumps_that_broke_off_close_nothing() {
    let (a, b) = (socket(1), socket(2));
    let asking = Asking::default();
    let mut traffic = Traffic::default();
    traffic.dump(START, asking, &told(&[&a, &b], START));
    // Refused at its end, then in the middle, then never ended, then interrupted.
    let mut at_ns = START + SECOND;
    traffic.say(at_ns, asking.request()).say(at_ns + 1, done(asking.sequence, asking.port, -12));
    at_ns += SECOND;
    traffic.say(at_ns, asking.request());
    let quoted = [&(-11i32).to_ne_bytes()[..], &asking.request()].concat();
    let refused = message(NLMSG_ERROR, 0, asking.sequence, asking.port, &quoted);
    traffic.say(at_ns + 1, refused);
    at_ns += SECOND;
    let sequel = Asking { sequence: 9, ..asking };
    traffic.say(at_ns, sequel.request()).say(at_ns + 1, sequel.answer(&told(&[&a], at_ns)[0]));
    at_ns += SECOND;
    let flags = MULTI | DUMP_INTR;
    traffic.say(at_ns, asking.request());
    let answer = &told(&[&a], at_ns)[0];
    traffic
        .say(at_ns + 1, message(SOCK_DIAG_BY_FAMILY, flags, asking.sequence, asking.port, answer));
    traffic.say(at_ns + 2, asking.done());
    at_ns += SECOND;
    traffic.dump(at_ns, asking, &told(&[&a], at_ns));
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(3), "dumps broke off");
    assert_eq!(ends(&dir), ["1 - - -", "2 - - -"]);
    assert_eq!(
        exceptions(&dir),
        [
            "2 dump_failed inet 12 Cannot allocate memory (os error 12)",
            "3 dump_failed inet 11 Resource temporarily unavailable (os error 11)",
            "4 dump_failed inet - its end was not captured",
            "5 dump_interrupted inet - -",
        ]
    );
}

#[test]
fn a_dump_that_asked_for_less_proves_nothing() {
    let (a, b) = (socket(1), socket(2));
    let all = Asking::default();
    let some = Asking { states: States::only(TcpState::ESTABLISHED), port: 77, ..all };
    let mut traffic = Traffic::default();
    traffic.dump(START, all, &told(&[&a, &b], START));
    for tick in 1..4 {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, some, &told(&[&a], at_ns));
    }
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    assert_eq!(ends(&dir), ["1 - - -", "2 - - -"]);
    let lack = "fewer states were asked for, or with a filter";
    let expected: Vec<_> = (2..5).map(|n| format!("{n} partly_asked inet - {lack}")).collect();
    assert_eq!(exceptions(&dir), expected);
    // Which of them each dump showed is known all the same.
    let at = format!("query at @{}.1", (START + 3 * SECOND) / SECOND);
    let observed = |tick: i64| (START + tick * SECOND + 2_000).to_string();
    assert_eq!(column(&dir, &at, "last_observed_at"), [observed(3), observed(0)]);
}

#[test]
fn whoever_leaves_the_states_that_all_dumps_ask_for_has_not_closed() {
    let (a, b) = (socket(1), socket(2));
    let asking = Asking { states: States::only(TcpState::ESTABLISHED), ..Asking::default() };
    let mut traffic = Traffic::default();
    for (tick, sockets) in (0..).zip([&[&a, &b][..], &[&a], &[&a]]) {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, asking, &told(sockets, at_ns));
    }
    let (dir, _) = import(&traffic);
    assert_eq!(ends(&dir), ["1 - - -", "2 left_scope 1 -"]);
    assert_eq!(rows(&dir.path("x.db"), "SELECT states, filter FROM scopes"), ["2 "]);
}

#[test]
fn the_states_that_ss_asks_for_are_all_that_a_connection_can_be_in() {
    let (a, b) = (socket(1), socket(2));
    let asking = Asking { states: States(0xfff), ..Asking::default() };
    let mut traffic = Traffic::default();
    for (tick, sockets) in (0..).zip([&[&a, &b][..], &[&a], &[&a]]) {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, asking, &told(sockets, at_ns));
    }
    let (dir, _) = import(&traffic);
    assert_eq!(ends(&dir), ["1 - - -", "2 absence 1 3"]);
}

#[test]
fn whoever_leaves_a_filter_has_not_closed() {
    let (a, b) = (socket(1), socket(2));
    let asking = Asking::default();
    let mut request = asking.request();
    request[24..26].copy_from_slice(&443u16.to_be_bytes()); // idiag_sport
    request.extend([8, 0, 1, 0, 1, 2, 3, 4]); // INET_DIAG_REQ_BYTECODE
    let len = u32::try_from(request.len()).unwrap();
    request[..4].copy_from_slice(&len.to_ne_bytes());
    let mut traffic = Traffic::default();
    for (tick, sockets) in (0..).zip([&[&a, &b][..], &[&a], &[&a]]) {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, asking, &told(sockets, at_ns));
        let requested = traffic.0.iter_mut().rev().nth(2).unwrap();
        requested.1.clone_from(&request);
    }
    let (dir, _) = import(&traffic);
    assert_eq!(ends(&dir), ["1 - - -", "2 left_scope 1 -"]);
    let filter = rows(&dir.path("x.db"), "SELECT filter FROM scopes");
    assert_eq!(filter, ["sport = :443 and bytecode 01020304"]);
}

#[test]
fn what_nobody_asked_for_in_a_snapshot_is_held() {
    let a = socket(1);
    let (v4, v6) = (Asking::default(), Asking { family: Family::Inet6, ..Asking::default() });
    let mut traffic = Traffic::default();
    traffic.dump(START, v4, &told(&[&a], START)).dump(START + 10_000, v6, &[]);
    for tick in 1..4 {
        traffic.dump(START + tick * SECOND, v6, &[]);
    }
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    assert_eq!(ends(&dir), ["1 - - -"]);
    let expected: Vec<_> = (2..5).map(|n| format!("{n} not_asked inet - -")).collect();
    assert_eq!(exceptions(&dir), expected);
}

#[test]
fn dumps_of_several_programs_at_once_are_told_apart() {
    let (a, b) = (socket(1), socket(2));
    let one = Asking { port: 11, ..Asking::default() };
    let other = Asking { port: 22, sequence: 5, protocol: Protocol::Udp, ..Asking::default() };
    let mut traffic = Traffic::default();
    traffic.say(START, one.request()).say(START + 1, other.request());
    traffic.say(START + 2, one.answer(&told(&[&a], START)[0]));
    traffic.say(START + 3, other.answer(&told(&[&b], START)[0]));
    traffic.say(START + 4, one.done()).say(START + 5, other.done());
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    let sql = "SELECT cookie, protocol FROM sockets ORDER BY cookie";
    assert_eq!(rows(&dir.path("x.db"), sql), ["1 6", "2 17"]);
    assert_eq!(rows(&dir.path("x.db"), "SELECT count(*) FROM snapshots"), ["1"]);
}

#[test]
fn a_request_of_old_shows_both_families() {
    let asking = Asking::default();
    let mut fixed = vec![0; 60];
    fixed[52..56].copy_from_slice(&u32::MAX.to_ne_bytes());
    let mut v6 = told(&[&socket(2)], START);
    v6[0][0] = Family::Inet6.number();
    let mut traffic = Traffic::default();
    traffic.say(START, message(18, 0x301, asking.sequence, 0, &fixed));
    for payload in [&told(&[&socket(1)], START)[0], &v6[0]] {
        traffic.say(START + 1, message(18, MULTI, asking.sequence, asking.port, payload));
    }
    traffic.say(START + 2, asking.done());
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    let sql = "SELECT cookie, family FROM sockets ORDER BY cookie";
    assert_eq!(rows(&dir.path("x.db"), sql), ["1 2", "2 10"]);
    assert!(exceptions(&dir).is_empty());
}

#[test]
fn destroy_events_end_sockets_and_tell_of_those_that_no_dump_saw() {
    let (a, short) = (socket(1), socket(3).opened_at(500));
    let at_ns = START + SECOND / 2;
    let told_at = |s: &FakeSocket, ms: i64| {
        s.destroyed().message(Protocol::Tcp, Family::Inet, at_ns / 1_000_000 + ms)
    };
    let mut traffic = Traffic::default();
    traffic.dump(START, Asking::default(), &told(&[&a], START));
    // Each of two listeners is sent it.
    traffic.event(at_ns, &told_at(&a, 0)).event(at_ns + 1_000, &told_at(&a, 0));
    traffic.event(at_ns + 100_000_000, &told_at(&short, 100));
    traffic.dump(START + SECOND, Asking::default(), &[]);
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    let sql = "SELECT s.cookie, e.destroyed_at_ns, e.bytes_sent FROM socket_ends AS e
        JOIN sockets AS s USING (socket_id) ORDER BY s.cookie";
    let expected = [format!("1 {at_ns} 100"), format!("3 {} 100", at_ns + 100_000_000)];
    assert_eq!(rows(&dir.path("x.db"), sql), expected);
    assert_eq!(rows(&dir.path("x.db"), "SELECT events FROM snapshots"), ["0", "2"]);
}

#[test]
fn events_are_taken_where_nobody_made_a_dump() {
    let mut traffic = Traffic::default();
    let gone = socket(1).destroyed();
    traffic.event(START, &gone.message(Protocol::Tcp, Family::Inet, START / 1_000_000));
    let (dir, code) = import(&traffic);
    assert_eq!(code, Some(0));
    let sql = "SELECT destroyed_at_ns FROM socket_ends";
    assert_eq!(rows(&dir.path("x.db"), sql), [START.to_string()]);
    assert_eq!(exceptions(&dir), ["1 not_asked inet - -"]);
}

#[test]
fn the_formats_of_captures_say_the_same() {
    let asking = Asking::default();
    let mut traffic = Traffic::default();
    traffic.dump(START + 7_000, asking, &told(&[&socket(1)], START));
    let packets: Vec<_> =
        traffic.0.iter().map(|(at, d)| (*at, cooked(NETLINK_SOCK_DIAG, d))).collect();
    let mut files = Vec::new();
    for is_big in [false, true] {
        for is_nano in [false, true] {
            let mut file = Pcap { is_big, is_nano, ..Pcap::default() }.begin();
            packets.iter().for_each(|(at_ns, packet)| file.packet(*at_ns, packet));
            files.push(file.bytes);
            let mut file = Pcapng::begin(is_big, if is_nano { 9 } else { 6 });
            file.interface(1);
            file.packet_on(1, START, &[1; 60]); // Ethernet
            file.block(0x0bad, &[1, 2, 3, 4]);
            packets.iter().for_each(|(at_ns, packet)| file.packet(*at_ns, packet));
            files.push(file.bytes);
        }
    }
    for file in files {
        let dir = dir_with("x.pcap", &file);
        dir.sockrec("import x.pcap -o x.db").fine();
        let sql = "SELECT started_at_ns, ended_at_ns, sockets_seen FROM snapshots";
        let expected = format!("{} {} 1", START + 7_000, START + 9_000);
        assert_eq!(rows(&dir.path("x.db"), sql), [expected]);
    }
}

#[test]
fn a_capture_that_was_split_is_one() {
    let asking = Asking::default();
    let mut traffic = Traffic::default();
    for tick in 0..3 {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, asking, &told(&[&socket(1)], at_ns));
    }
    // In the middle of the second dump.
    let rest = Traffic(traffic.0.split_off(4));
    let dir = dir_with("a", &rest.pcap());
    std::fs::write(dir.path("b"), traffic.pcapng()).unwrap();
    dir.sockrec("import a b -o x.db").fine();
    assert_eq!(rows(&dir.path("x.db"), "SELECT count(*) FROM snapshots"), ["3"]);
    assert!(exceptions(&dir).is_empty());
}

#[test]
fn files_are_read_in_the_order_of_time_and_none_twice() {
    let asking = Asking::default();
    let (mut a, mut b) = (Traffic::default(), Traffic::default());
    for tick in [0, 2, 4] {
        let at_ns = START + tick * SECOND;
        a.dump(at_ns, asking, &told(&[&socket(1)], at_ns));
        let at_ns = at_ns + SECOND;
        b.dump(at_ns, Asking { port: 5, ..asking }, &told(&[&socket(1), &socket(2)], at_ns));
    }
    let dir = dir_with("a", &a.pcap());
    std::fs::write(dir.path("b"), b.pcap()).unwrap();
    let raw = [asking.answer(&told(&[&socket(3)], START)[0]), asking.done()].concat();
    std::fs::write(dir.path("c"), raw).unwrap();
    let at = format!("@{}.5", START / SECOND + 2);
    dir.sockrec(&format!("import b c a --at {at} -o x.db")).fine();
    let path = dir.path("x.db");
    assert_recording_is_whole(&path);
    let sql = format!("SELECT (started_at_ns - {START}) / 500000000 FROM snapshots");
    assert_eq!(rows(&path, &sql), ["0", "2", "4", "5", "6", "8", "10"]);
    assert!(rows(&path, "SELECT kind FROM clock_changes").is_empty());
    assert_eq!(ends(&dir), ["1 - - -", "2 - - -", "3 absence 4 6"]);
    std::os::unix::fs::symlink("a", dir.path("d")).unwrap();
    let told = dir.sockrec("import a d -o y.db").told();
    assert!(told.contains("`d` is given twice"), "{told}");
}

#[test]
fn a_clock_that_was_set_back_is_a_step_and_no_time_passes_twice() {
    let asking = Asking::default();
    let mut traffic = Traffic::default();
    for at_ns in [START, START + SECOND, START - 600 * SECOND, START - 599 * SECOND] {
        traffic.dump(at_ns, asking, &told(&[&socket(1)], at_ns));
    }
    let (dir, _) = import(&traffic);
    let path = dir.path("x.db");
    assert_eq!(rows(&path, "SELECT snapshot_id, kind FROM clock_changes"), ["3 step"]);
    let lengths = column(&dir, "query connections", "duration_min_ns");
    // From 5,450 ms before the first dump.
    assert_eq!(lengths, [(7_450_002_000_i64).to_string()]);
}

#[test]
fn imports_unite_with_nothing_but_those_of_the_same_boot() {
    let mut traffic = Traffic::default();
    traffic.dump(START, Asking::default(), &told(&[&socket(1)], START));
    let dir = dir_with("a.pcap", &traffic.pcap());
    let mut later = Traffic::default();
    later.dump(START + SECOND, Asking::default(), &told(&[&socket(1)], START + SECOND));
    std::fs::write(dir.path("b.pcap"), later.pcap()).unwrap();
    dir.record("x.db");
    dir.sockrec("import a.pcap -o x.db").fine();
    dir.sockrec("import a.pcap -o x.db --boot-id one --host h --kernel 5.4.0").fine();
    dir.sockrec("import b.pcap -o x.db --boot-id one --host h --kernel 5.4.0").fine();
    let path = dir.path("x.db");
    assert_recording_is_whole(&path);
    let sql = "SELECT first_snapshot_id FROM sockets WHERE netns_id > 1";
    assert_eq!(rows(&path, sql), ["4", "5"], "the third goes on with the second's socket");
    let sql = "SELECT c.host_name, c.kernel_release, b.uuid FROM captures AS c
        JOIN boots AS b USING (boot_id) WHERE c.capture_id = 3";
    assert_eq!(rows(&path, sql), ["h 5.4.0 import:one"]);
}

#[test]
fn what_was_imported_later_does_not_hide_what_was_recorded() {
    let mut traffic = Traffic::default();
    traffic.dump(START, Asking::default(), &told(&[&socket(1)], START));
    let dir = dir_with("a.pcap", &traffic.pcap());
    dir.record("x.db");
    dir.sockrec("import a.pcap -o x.db").fine();
    let ran = dir.sockrec("query at now -f x.db --format csv --columns cookie");
    assert!(ran.stderr.contains("snapshot 3,"), "{}", ran.told());
    let then = format!("query at @{}.5 -f x.db --format csv --columns cookie", START / SECOND);
    let ran = dir.sockrec(&then);
    assert!(ran.stderr.contains("snapshot 4,"), "{}", ran.told());
    assert!(!ran.stderr.contains("set back"), "{}", ran.told());
    // Nobody stopped recording one machine when the other was imported.
    let gaps = rows(&dir.path("x.db"), "SELECT kind FROM gaps WHERE kind = 'not_recording'");
    assert!(gaps.is_empty(), "{gaps:?}");
}
