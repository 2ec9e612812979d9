//! The checker itself: it takes a recording that is right, and finds every single thing that is not.

use sockrec::kernel::SystemClock;
use sockrec::model::{Clocks, Protocol};

use crate::checker::{Verdict, check};
use crate::namespace::Surroundings;
use crate::recording::Row;
use crate::truth::{Direction, End, Ending, LastWord, Log, Span};

const SECOND_NS: i64 = 1_000_000_000;

/// A span of a millisecond, so many seconds after a beginning.
fn at(seconds: i64) -> Span {
    let clocks =
        |ns: i64| Clocks { utc_ns: 1_000 * SECOND_NS + ns, monotonic_ns: ns, boottime_ns: ns };
    Span { from: clocks(seconds * SECOND_NS), to: clocks(seconds * SECOND_NS + 1_000_000) }
}

/// Both ends of a connection, and the rows that a recorder may make of them.
fn recorded() -> (Log, Vec<Row>) {
    let addresses = ["127.0.0.1:4000".parse().unwrap(), "127.0.0.1:80".parse().unwrap()];
    let end = |[local, remote]: [_; 2], direction, peer| End {
        let_go: Some(at(20)),
        closed: Some(at(20)),
        sent: 100,
        received: 100,
        has_peer_fin: Some(true),
        ending: Some(Ending::Orderly),
        last_word: LastWord::Full,
        peer: Some(peer),
        ..End::opened("made up", Protocol::Tcp, [local, remote], Some(direction), at(10))
    };
    let [client, server] = addresses;
    let ends = vec![
        end([client, server], Direction::Outbound, 1),
        end([server, client], Direction::Inbound, 0),
    ];
    let rows = ends.iter().zip([(1, 2), (2, 1)]).map(|(end, (id, peer))| row_of(end, id, peer));
    (Log { ends: ends.clone() }, rows.collect())
}

fn row_of(end: &End, socket_id: i64, peer: i64) -> Row {
    let utc = |seconds| at(seconds).to.utc_ns;
    let row = serde_json::json!({
        "socket_id": socket_id,
        "cookie": "7",
        "protocol": "tcp",
        "local_address": end.local.ip(),
        "local_port": end.local.port(),
        "remote_address": end.remote.ip(),
        "remote_port": end.remote.port(),
        "addresses_inferred": false,
        "state": "ESTAB",
        "opened_after": utc(9),
        "opened_before": utc(11),
        "opened_evidence": "snapshot",
        "closed_after": utc(19),
        "closed_before": utc(21),
        "closed_evidence": "destroy_event",
        "destroyed_at": utc(21),
        "direction": end.direction.map(Direction::name),
        "direction_evidence": null,
        "ending": "orderly",
        "ending_evidence": null,
        "peer_socket_id": peer,
        "time_wait_min_ns": 0,
        "time_wait_max_ns": SECOND_NS,
        "duration_min_ns": 8 * SECOND_NS,
        "duration_max_ns": 12 * SECOND_NS,
        "bytes_sent": 100,
        "bytes_retrans": 0,
        "bytes_received": 101,
        "gaps": null,
    });
    serde_json::from_value(row).unwrap()
}

fn verdict(log: &Log, rows: &[Row]) -> Verdict {
    let ended = Span { from: at(30).from, to: SystemClock.now() };
    check(log, rows, Surroundings::Own, ended)
}

#[test]
fn what_is_right_is_let_pass() {
    let (log, rows) = recorded();
    let verdict = verdict(&log, &rows);
    verdict.assert_true();
    verdict.assert_none_missed();
    assert_eq!((verdict.made, verdict.recorded), (2, 2));
}

#[test]
fn each_thing_that_is_wrong_is_found() {
    type Change = fn(&mut Row);
    let changes: [(&str, Change); 16] = [
        ("opened too late", |row| row.opened_after = Some(at(15).from.utc_ns)),
        ("opened too early", |row| row.opened_before = Some(at(9).from.utc_ns)),
        ("closed too late", |row| row.closed_after = Some(at(25).from.utc_ns)),
        ("closed too early", |row| row.closed_before = Some(at(19).from.utc_ns)),
        ("destroyed too early", |row| row.destroyed_at = Some(at(19).from.utc_ns)),
        ("too long", |row| row.duration_min_ns = Some(15 * SECOND_NS)),
        ("too short", |row| row.duration_max_ns = Some(5 * SECOND_NS)),
        ("TIME-WAIT lived", |row| row.state = Some("TIME-WAIT".to_owned())),
        ("direction turned", |row| row.direction = Some("inbound".to_owned())),
        ("wrong ending", |row| row.ending = Some("reset".to_owned())),
        ("ending unknown", |row| row.ending = None),
        ("peer unknown", |row| row.peer_socket_id = None),
        ("peer is somebody else", |row| row.peer_socket_id = Some(77)),
        ("bytes sent", |row| row.bytes_sent = Some(99)),
        ("FIN not counted", |row| row.bytes_received = Some(100)),
        ("bytes unknown", |row| row.bytes_received = None),
    ];
    for (what, change) in changes {
        let (log, mut rows) = recorded();
        change(&mut rows[0]);
        assert!(!verdict(&log, &rows).is_true(), "{what} is not found");
    }
}

#[test]
fn what_is_missing_and_what_is_too_much_is_found() {
    let (log, rows) = recorded();
    let one_less = verdict(&log, &rows[..1]);
    assert_eq!((one_less.made, one_less.recorded), (2, 1));
    let second = Row { socket_id: 3, ..rows[0].clone() };
    let one_more = [rows.clone(), vec![second.clone()]].concat();
    assert!(!verdict(&log, &one_more).is_true());
    let of_nothing = Row { local_port: Some(1), ..second };
    assert!(!verdict(&log, &[rows, vec![of_nothing]].concat()).is_true());
}

#[test]
fn an_end_whose_addresses_were_wiped_is_recognised() {
    let (mut log, mut rows) = recorded();
    log.ends[0].last_word = LastWord::Wiped;
    for end in &mut log.ends {
        end.ending = Some(Ending::Reset);
    }
    (rows[0].local_address, rows[0].remote_port) = (None, None);
    (rows[0].bytes_sent, rows[0].bytes_received, rows[0].peer_socket_id) = (None, None, None);
    for row in &mut rows {
        (row.ending, row.time_wait_max_ns) = (Some("reset".to_owned()), None);
    }
    rows[0].ending = None;
    let verdict = verdict(&log, &rows);
    verdict.assert_true();
    verdict.assert_none_missed();
}

/// Of a tuple that was used again the row of a later end must not be taken for an earlier one.
#[test]
fn a_tuple_that_was_used_again_is_told_apart() {
    let (mut log, mut rows) = recorded();
    let (later_log, later_rows) = recorded();
    for end in &mut log.ends {
        (end.opened, end.closed, end.let_go) = (at(1), Some(at(2)), Some(at(2)));
        end.ending = Some(Ending::Reset);
    }
    log.ends[0].last_word = LastWord::Wiped;
    for row in &mut rows {
        row.opened_after = None;
        row.opened_before = Some(at(3).to.utc_ns);
        (row.closed_after, row.closed_before) = (None, row.opened_before);
        row.destroyed_at = row.opened_before;
        (row.duration_min_ns, row.time_wait_max_ns) = (None, None);
        row.ending = Some("reset".to_owned());
    }
    (rows[0].local_address, rows[0].remote_port, rows[0].peer_socket_id) = (None, None, None);
    (rows[0].bytes_sent, rows[0].bytes_received) = (None, None);
    rows[1].peer_socket_id = None;
    for row in later_rows {
        let peer_socket_id = row.peer_socket_id.map(|id| id + 2);
        rows.push(Row { socket_id: row.socket_id + 2, peer_socket_id, ..row });
    }
    // The later ones know no lower bound, so that by time alone they fit both.
    for row in &mut rows[2..] {
        (row.opened_after, row.closed_after) = (None, None);
        row.duration_min_ns = None;
    }
    log.add(later_log.ends);
    let verdict = verdict(&log, &rows);
    verdict.assert_true();
    assert_eq!((verdict.made, verdict.recorded), (4, 4));
}
