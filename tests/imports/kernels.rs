//! Captures of kernels that this machine does not run.

use sockrec::model::Family;

use crate::captures::{Asking, Traffic, of_older_kernel};
use crate::harness::{Dir, assert_recording_is_whole};
use crate::socket::FakeSocket;
use crate::{SECOND, START, dir_with, rows};

/// `tcp_info` of Linux 2.6.32, 4.1, 4.9, 4.18, 4.19, 5.5, 6.2 and 6.7, and one column each that it was
/// the first to have.
const KERNELS: [(usize, &str); 8] = [
    (104, "total_retrans"),
    (136, "bytes_received"),
    (160, "data_segs_out"),
    (192, "busy_time_us"),
    (224, "bytes_sent"),
    (232, "snd_wnd_bytes"),
    (240, "rehash"),
    (248, "total_rto"),
];

fn socket() -> FakeSocket {
    FakeSocket { total_retrans: 3, ..FakeSocket::established(1, 1_001, 80).to_afar() }
}

fn imported(payloads: &[Vec<u8>]) -> Dir {
    let mut traffic = Traffic::default();
    for (tick, payload) in (0..).zip(payloads) {
        traffic.dump(START + tick * SECOND, Asking::default(), std::slice::from_ref(payload));
    }
    let dir = dir_with("x.pcap", &traffic.pcap());
    dir.sockrec("import x.pcap -o x.db").fine();
    assert_recording_is_whole(&dir.path("x.db"));
    dir
}

#[test]
fn what_an_older_kernel_did_not_tell_is_null_and_not_zero() {
    let message = socket().message(Family::Inet, START / 1_000_000);
    for (place, (info_len, _)) in KERNELS.iter().enumerate() {
        let dir = imported(&[of_older_kernel(&message, *info_len, &[])]);
        for (other, (_, column)) in KERNELS.iter().enumerate() {
            let sql = format!("SELECT {column} IS NOT NULL FROM socket_samples");
            let is_known = i64::from(other <= place).to_string();
            assert_eq!(rows(&dir.path("x.db"), &sql), [is_known], "{column} of {info_len} bytes");
        }
    }
}

#[test]
fn an_attribute_that_an_older_kernel_did_not_send_is_null() {
    let mut message = socket().message(Family::Inet, START / 1_000_000);
    message.extend([12, 0, 21, 0, 1, 2, 0, 0, 0, 0, 0, 0]); // INET_DIAG_CGROUP_ID
    let sql = "SELECT cgroup_id, congestion_control, rtt_us FROM socket_samples";
    let dir = imported(&[message.clone()]);
    assert_eq!(rows(&dir.path("x.db"), sql), ["513 cubic 250"]);
    let dir = imported(&[of_older_kernel(&message, 280, &[4, 21])]);
    assert_eq!(rows(&dir.path("x.db"), sql), ["- - 250"]);
    let dir = imported(&[of_older_kernel(&message, 280, &[2])]);
    assert_eq!(rows(&dir.path("x.db"), sql), ["513 cubic -"], "nobody asked for tcp_info");
}

/// Captures as they are kept beside the tests, little-endian.
#[test]
#[cfg(target_endian = "little")]
fn the_captures_in_the_fixtures_are_read_as_ever() {
    let read = |name: &str| {
        let bytes = std::fs::read(format!("tests/fixtures/captures/{name}")).unwrap();
        let dir = dir_with(name, &bytes);
        dir.sockrec(&format!("import {name} -o x.db")).fine();
        assert_recording_is_whole(&dir.path("x.db"));
        let sql = "SELECT (SELECT count(*) FROM snapshots), (SELECT count(*) FROM sockets),
            (SELECT count(*) FROM samples), (SELECT sum(events) FROM snapshots)";
        rows(&dir.path("x.db"), sql)
    };
    assert_eq!(read("nlmon.pcap"), ["2 2 2 1"]);
    assert_eq!(read("nlmon.pcapng"), ["2 2 2 1"]);
    assert_eq!(read("ss.raw"), ["1 2 2 -"]);
}

#[test]
fn what_a_later_kernel_tells_is_kept() {
    let mut message = socket().message(Family::Inet, START / 1_000_000);
    message.extend([8, 0, 99, 0, 1, 2, 3, 4]);
    let dir = imported(&[message]);
    let sql = "SELECT hex(unknown_attributes) FROM socket_samples";
    assert_eq!(rows(&dir.path("x.db"), sql), ["0800630001020304"]);
}

#[test]
fn counters_outlive_a_dump_that_did_not_ask_for_them() {
    let message = socket().message(Family::Inet, START / 1_000_000);
    let without = of_older_kernel(&message, 280, &[2]);
    let mut traffic = Traffic::default();
    let asking = Asking::default();
    traffic.dump(START, asking, &[message]).dump(START + SECOND, asking, &[without]);
    traffic.dump(START + 2 * SECOND, asking, &[]).dump(START + 3 * SECOND, asking, &[]);
    let dir = dir_with("x.pcap", &traffic.pcap());
    dir.sockrec("import x.pcap -o x.db").fine();
    let path = dir.path("x.db");
    let samples = rows(&path, "SELECT bytes_sent FROM socket_samples ORDER BY snapshot_id");
    assert_eq!(samples, ["100", "-"]);
    assert_eq!(rows(&path, "SELECT evidence, bytes_sent FROM socket_ends"), ["absence 100"]);
}
