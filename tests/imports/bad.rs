//! Files that are cut, damaged or something else: what can be read is imported, the rest is counted
//! and said.

use std::fs;

use insta::assert_snapshot;

use crate::captures::{Asking, NETLINK_SOCK_DIAG, Pcap, Pcapng, Traffic, cooked, done, message};
use crate::harness::{Dir, Random, assert_recording_is_whole};
use crate::socket::FakeSocket;
use crate::{SECOND, START, dir_with, rows, told};

fn socket(cookie: u64) -> FakeSocket {
    FakeSocket::established(cookie, 1_000 + u16::try_from(cookie).unwrap(), 80).to_afar()
}

/// Two dumps of two sockets.
fn traffic() -> Traffic {
    let mut traffic = Traffic::default();
    for tick in 0..2 {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, Asking::default(), &told(&[&socket(1), &socket(2)], at_ns));
    }
    traffic
}

/// What `ss -D` writes of two sockets.
fn raw() -> Vec<u8> {
    let asking = Asking::default();
    let mut raw: Vec<u8> =
        told(&[&socket(1), &socket(2)], START).iter().flat_map(|m| asking.answer(m)).collect();
    raw.extend(asking.done());
    raw.extend(asking.done());
    raw
}

/// What is said when this is imported, and that nothing is left behind if nothing was.
fn refused(name: &str, bytes: &[u8]) -> String {
    let dir = dir_with(name, bytes);
    let told = dir.sockrec(&format!("import {name} -o x.db")).told();
    assert_eq!(dir.names(), [name], "{told}");
    told
}

#[test]
fn what_is_no_capture_is_refused_by_name() {
    assert_snapshot!(refused("notes.txt", b"Netid State Recv-Q\n"), @r"
    exit 1
    error: `notes.txt` is neither raw netlink nor a pcap or pcapng file

    hint: `ss -D FILE` writes raw netlink; `tcpdump -i nlmon0 -w FILE` captures what others ask the kernel
    ");
    assert_snapshot!(refused("empty", b""), @r"
    exit 1
    error: `empty` is empty
    ");
    assert_snapshot!(refused("night.pcap.gz", &[0x1f, 0x8b, 8, 0]), @r"
    exit 1
    error: `night.pcap.gz` is compressed (gzip)

    hint: unpack it first
    ");
    let ethernet = Pcap { link_type: 1, ..Pcap::default() }.begin().bytes;
    assert_snapshot!(refused("eth0.pcap", &ethernet), @r"
    exit 1
    error: `eth0.pcap` was not captured on an nlmon interface: it has link type 1

    hint: `ip link add nlmon0 type nlmon && ip link set nlmon0 up` makes an interface that shows netlink (link type 253)
    ");
    assert_snapshot!(Dir::new().sockrec("import missing -o x.db").told(), @r"
    exit 1
    error: could not open `missing`
      caused by: No such file or directory (os error 2)
    ");
    assert_snapshot!(Dir::new().sockrec("import . -o x.db").told(), @r"
    exit 1
    error: could not open `.`
      caused by: it is read more than once and must be a file
    ");
}

#[test]
fn a_pcapng_without_nlmon_is_refused() {
    let mut file = Pcapng::begin(false, 9);
    file.bytes.clear();
    file.block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255]);
    file.interface(113);
    file.packet_on(0, START, &[1; 60]);
    let told = refused("any.pcapng", &file.bytes);
    assert!(told.contains("link type 113"), "{told}");
}

#[test]
fn a_capture_without_a_dump_is_refused() {
    let mut route = Pcap::default().begin();
    route.packet(START, &cooked(0, &message(26, 0x301, 1, 0, &[0; 12])));
    assert_snapshot!(refused("route.pcap", &route.bytes), @r"
    exit 1
    error: no sockets were asked for in what is to be imported: no dump and no destroy event

    hint: a capture shows only what is asked while it runs, as by `ss -tan`
    ");
    assert!(refused("x.pcap", &Pcap::default().begin().bytes).contains("no dump"));
}

#[test]
fn a_machine_of_the_other_byte_order_is_told_by_what_its_kernel_wrote() {
    let swapped = |traffic: Traffic| {
        let mut swapped = Vec::new();
        for (at_ns, mut datagram) in traffic.0 {
            datagram[..4].reverse();
            swapped.push((at_ns, datagram));
        }
        Traffic(swapped)
    };
    assert_snapshot!(refused("mips.pcap", &swapped(traffic()).pcap()), @r"
    exit 1
    error: `mips.pcap` is from a machine of the other byte order

    hint: import it on a machine with the byte order of that one
    ");
    let mut bytes = raw();
    bytes[..4].reverse();
    assert_snapshot!(refused("mips.raw", &bytes), @r"
    exit 1
    error: `mips.raw` is from a machine of the other byte order

    hint: import it on a machine with the byte order of that one
    ");
    // Headers of a file in the other order are no such sign.
    let mut file = Pcap { is_big: cfg!(target_endian = "little"), ..Pcap::default() }.begin();
    for (at_ns, datagram) in traffic().0 {
        file.packet(at_ns, &cooked(NETLINK_SOCK_DIAG, &datagram));
    }
    let dir = dir_with("x.pcap", &file.bytes);
    dir.sockrec("import x.pcap -o x.db").fine();
}

#[test]
fn a_file_that_is_cut_anywhere_gives_what_is_before_the_cut() {
    let whole = traffic().pcap();
    let first_dump = Traffic(traffic().0[..3].to_vec()).pcap().len();
    let raw = raw();
    let mut random = Random::new(7);
    for _ in 0..12 {
        let cut = first_dump + 1 + random.below((whole.len() - first_dump - 1) as u64) as usize;
        let dir = dir_with("x.pcap", &whole[..cut]);
        let ran = dir.sockrec("import x.pcap -o x.db");
        assert_eq!(ran.code(), Some(3), "cut at {cut}: {}", ran.told());
        assert_recording_is_whole(&dir.path("x.db"));
        assert_eq!(rows(&dir.path("x.db"), "SELECT count(*) FROM sockets"), ["2"], "{cut}");
        let ends = rows(&dir.path("x.db"), "SELECT count(*) FROM socket_ends");
        assert_eq!(ends, ["0"], "{cut}");

        let cut = 400 + random.below((raw.len() - 400) as u64) as usize;
        let dir = dir_with("x.raw", &raw[..cut]);
        let ran = dir.sockrec("import x.raw -o x.db");
        // A cut between two whole dumps cannot be seen.
        let is_seen = cut != raw.len() - 20;
        assert_eq!(ran.code(), Some(if is_seen { 3 } else { 0 }), "{cut}: {}", ran.told());
        let seen = rows(&dir.path("x.db"), "SELECT sockets_seen FROM snapshots");
        assert!(["1", "2"].contains(&seen[0].as_str()), "{cut}: {seen:?}");
    }
}

#[test]
fn what_is_left_out_is_counted_and_said() {
    let asking = Asking::default();
    let unix = message(20, 0x301, 1, 0, &[1; 24]);
    let dccp = message(20, 0x301, 2, 0, &[&[2, 33][..], &[0; 54]].concat());
    let look_up = message(20, 1, 3, 0, &[&[2, 6][..], &[0; 54]].concat());
    let mut traffic = traffic();
    traffic.say(START + 2 * SECOND, unix).say(START + 2 * SECOND, done(1, 9, 0));
    traffic.say(START + 2 * SECOND, dccp).say(START + 2 * SECOND, done(2, 9, 0));
    traffic.say(START + 2 * SECOND, look_up);
    let unasked = Asking { sequence: 77, port: 78, ..asking };
    traffic.say(START + 2 * SECOND, unasked.answer(&told(&[&socket(3)], START)[0]));
    traffic.say(START + 2 * SECOND, unasked.done());
    // A message of no family that is known, in a dump.
    let at_ns = START + 3 * SECOND;
    let strange = vec![99; 80];
    let payloads = [&told(&[&socket(1), &socket(2)], at_ns)[..], &[strange]].concat();
    traffic.dump(at_ns, asking, &payloads);
    let mut file = Pcap::default().begin();
    for (at_ns, datagram) in &traffic.0 {
        file.packet(*at_ns, &cooked(NETLINK_SOCK_DIAG, datagram));
    }
    file.packet(at_ns, &[1; 7]);
    let cut = cooked(NETLINK_SOCK_DIAG, &asking.answer(&told(&[&socket(1)], at_ns)[0]));
    file.packet(at_ns + 5_000, &cooked(NETLINK_SOCK_DIAG, &asking.request()));
    file.packet_of(at_ns + 6_000, &cut[..200], cut.len());
    file.packet(at_ns + 7_000, &cooked(NETLINK_SOCK_DIAG, &asking.done()));
    let dir = dir_with("x.pcap", &file.bytes);
    let ran = dir.sockrec("import x.pcap -o x.db -q");
    assert_snapshot!(ran.told(), @r"
    exit 3
    warning: left out: the ends of packets (`tcpdump -s 0` captures all) (1)
    warning: left out: packets that make no sense (1)
    warning: left out: messages that make no sense (1)
    warning: left out: dumps of an unknown protocol: their request is missing (1)
    warning: left out: dumps of protocols that are not recorded (1)
    warning: left out: look-ups of a single socket (1)
    note: 1 dump of unix, packet and other sockets, which are never recorded
    warning: dumps broke off or were interrupted (1): what they did not show is held as last observed
    ");
    assert_recording_is_whole(&dir.path("x.db"));
    let sql = "SELECT snapshot_id, kind, count, message FROM exceptions ORDER BY snapshot_id";
    assert_eq!(
        rows(&dir.path("x.db"), sql),
        ["3 messages_unreadable 1 -", "4 dump_failed - a part of it was not captured"]
    );
}

#[test]
fn where_packets_were_lost_nothing_closes_because_it_is_missing() {
    let mut traffic = traffic();
    for tick in 2..5 {
        let at_ns = START + tick * SECOND;
        traffic.dump(at_ns, Asking::default(), &told(&[&socket(1)], at_ns));
    }
    let mut file = Pcapng::begin(false, 9);
    for (at_ns, datagram) in traffic.0 {
        file.packet(at_ns, &cooked(NETLINK_SOCK_DIAG, &datagram));
    }
    let dir = dir_with("x.pcapng", &file.bytes);
    dir.sockrec("import x.pcapng -o lossless.db").fine();
    let ends = "SELECT count(*) FROM socket_ends";
    assert_eq!(rows(&dir.path("lossless.db"), ends), ["1"]);
    file.lost(5);
    fs::write(dir.path("x.pcapng"), &file.bytes).unwrap();
    let ran = dir.sockrec("import x.pcapng -o x.db -q");
    assert_eq!(rows(&dir.path("x.db"), ends), ["0"]);
    assert_snapshot!(ran.told(), @r"
    exit 3
    warning: left out: packets that were lost while capturing, as the capture says (5)
    ");
}

#[test]
fn a_time_is_for_one_snapshot_of_raw_netlink() {
    let dir = dir_with("a.raw", &raw());
    fs::write(dir.path("b.raw"), raw()).unwrap();
    fs::write(dir.path("x.pcap"), traffic().pcap()).unwrap();
    assert_snapshot!(dir.sockrec("import a.raw b.raw --at 12:00 -o x.db").told(), @r"
    exit 2
    error: `--at` gives the time of one snapshot, and several were given

    hint: leave it out; raw netlink is then of the last change of its file
    ");
    assert_snapshot!(dir.sockrec("import x.pcap --at 12:00 -o x.db").told(), @r"
    exit 2
    error: `--at` is of no use: captures tell the time of each packet

    hint: leave it out; raw netlink is then of the last change of its file
    ");
    assert_snapshot!(dir.sockrec("import a.raw --at 2199-01-01 -o x.db").told(), @r"
    exit 2
    error: the time `2199-01-01` is in the future

    hint: nothing can have been recorded then; check the date and the offset
    ");
    dir.sockrec("import a.raw --at '2026-11-21 03:12' -o x.db").fine();
    let at = rows(&dir.path("x.db"), "SELECT started_at_ns, ended_at_ns FROM snapshots");
    assert_eq!(at, ["1795230720000000000 1795230720000000000"]);
}

#[test]
fn raw_netlink_is_of_the_last_change_of_its_file_and_closes_nothing() {
    let asking = Asking::default();
    let alone = [asking.answer(&told(&[&socket(2)], START)[0]), asking.done()].concat();
    let dir = Dir::new();
    // Given in another order than that of their times.
    let names = ["d.raw", "c.raw", "b.raw", "a.raw"];
    for (tick, (name, bytes)) in (0..).zip(names.iter().zip([&raw(), &alone, &alone, &alone])) {
        fs::write(dir.path(name), bytes).unwrap();
        let file = fs::File::options().write(true).open(dir.path(name)).unwrap();
        let at = std::time::Duration::from_nanos((START + tick * SECOND).cast_unsigned());
        file.set_modified(std::time::UNIX_EPOCH + at).unwrap();
    }
    let ran = dir.sockrec("import a.raw b.raw c.raw d.raw -o x.db").fine();
    let counted = "exit 0\nimported 8 dumps as 4 snapshots with 8 samples; `x.db` has ";
    assert!(ran.told().starts_with(counted), "{}", ran.told());
    let path = dir.path("x.db");
    assert_recording_is_whole(&path);
    assert_eq!(rows(&path, "SELECT count(*) FROM socket_ends"), ["0"]);
    assert_eq!(rows(&path, "SELECT DISTINCT states, filter FROM scopes"), ["- -"]);
    let seen = rows(&path, "SELECT last_snapshot_id FROM open_sockets ORDER BY socket_id");
    assert_eq!(seen, ["1", "4"], "the first was last seen in the first, the second in each");
}

#[test]
fn damage_anywhere_neither_crashes_nor_spoils_the_recording() {
    let mut random = Random::new(99);
    for file in [traffic().pcap(), traffic().pcapng(), raw()] {
        for _ in 0..40 {
            let mut damaged = file.clone();
            for _ in 0..=random.below(4) {
                let place = random.below(damaged.len() as u64) as usize;
                damaged[place] = random.below(256) as u8;
            }
            let dir = dir_with("x", &damaged);
            let ran = dir.sockrec("import x -o x.db");
            assert!(matches!(ran.code(), Some(0 | 1 | 3)), "{}", ran.told());
            if ran.code() != Some(1) {
                assert_recording_is_whole(&dir.path("x.db"));
            }
        }
    }
}

#[test]
fn a_status_that_is_no_error_number_is_a_failure_like_any_other() {
    let asking = Asking::default();
    let end = done(asking.sequence, asking.port, i32::MIN);
    let mut traffic = Traffic::default();
    traffic.say(START, asking.request()).say(START + 1, end.clone());
    let raw = [asking.answer(&told(&[&socket(1)], START)[0]), end].concat();
    for bytes in [traffic.pcap(), raw] {
        let dir = dir_with("x", &bytes);
        assert_eq!(dir.sockrec("import x -o x.db").code(), Some(3));
        let sql = "SELECT DISTINCT kind, errno FROM exceptions";
        assert_eq!(rows(&dir.path("x.db"), sql), ["dump_failed 2147483647"]);
    }
}

#[test]
fn what_is_no_file_that_stays_is_refused() {
    let dir = Dir::new();
    assert!(std::process::Command::new("mkfifo").arg(dir.path("pipe")).status().unwrap().success());
    let told = dir.sockrec("import /dev/null -o x.db").told();
    assert!(told.contains("must be a file"), "{told}");
    assert_eq!(dir.names(), ["pipe"]);
    let told = dir.sockrec("import pipe -o x.db").told();
    assert!(told.contains("must be a file"), "{told}");
}
