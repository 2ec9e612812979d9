//! What one end of a connection tells of the other, and what is told late.

use std::net::Ipv4Addr;

use sockrec::model::TcpState;

use crate::events::{a, lives, told_at_1700};
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{Jump, SECOND, START_MONOTONIC, World, failed};

/// What somebody closed first may have been reset; its TIME-WAIT tells that it was not.
#[test]
fn a_fin_that_was_acknowledged_tells_nothing_alone() {
    let columns = ["ending", "ending_evidence"];
    let far = a().to_afar().opened_at(1_650).fin_acked();
    let bytes_acked = far.bytes_sent + 2;
    let far = FakeSocket { bytes_acked, bytes_received: 9, data_segs_in: 1, ..far };
    let told = |world: &World| lives(world, &columns);
    assert_eq!(told(&told_at_1700(&[far.destroyed()])), ["ending=- ending_evidence=fin_acked"]);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[far.destroyed()]);
    let time_wait = FakeSocket { cookie: 7, ..far.time_wait_since(1_650) };
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    assert_eq!(told(&world), ["ending=orderly ending_evidence=time_wait"]);
}

/// A client that shares its port with a listener, connected to another that no dump showed.
#[test]
fn a_listener_tells_nothing_where_the_other_end_may_have_been_one() {
    let shared = FakeSocket::listener(9, 1_001, 0, 16);
    let shared = FakeSocket { local_address: Ipv4Addr::UNSPECIFIED, ..shared };
    let brief = FakeSocket::listener(8, 80, 0, 16);
    let client = a().opened_at(1_650);
    let columns = ["cookie", "direction"];
    for (events, expected) in [
        (vec![client.destroyed()], "inbound"),
        (vec![client.destroyed(), brief.destroyed()], "-"),
        (vec![brief.destroyed(), client.peer(2).aborted(), client.destroyed()], "-"),
    ] {
        let mut world = World::with_events();
        world.shows(&[&shared]).shows(&[&shared]).tells(&events).shows(&[&shared]);
        world.record();
        let rows = lives(&world, &columns);
        let client = rows.iter().find(|row| row.starts_with("cookie=1 ")).unwrap();
        assert_eq!(client, &format!("cookie=1 direction={expected}"));
    }
}

#[test]
fn a_cookie_that_was_gone_for_a_while_is_another_generation() {
    let before = a();
    let after = FakeSocket { remote_port: 81, ..a().opened_at(3_400) };
    let columns = ["generation", "remote_port", "closed_evidence", "destroyed_at"];
    let expected = [
        "generation=0 remote_port=80 closed_evidence=absence destroyed_at=-",
        "generation=1 remote_port=81 closed_evidence=destroy_event destroyed_at=4700",
    ];
    let mut world = World::with_events();
    world.shows(&[&before]).shows(&[&before]).shows(&[]).shows(&[]).shows(&[&after]);
    world.tells(&[after.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(lives(&world, &columns), expected, "seen again");
    let mut world = World::with_events();
    world.shows(&[&before]).shows(&[&before]).shows(&[]).shows(&[]).shows(&[]);
    world.tells(&[after.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(lives(&world, &columns), expected, "by its event alone");
}

#[test]
fn ends_of_an_earlier_capture_tell_of_each_other_before_they_are_seen_again() {
    let (a, b) = (a(), a().peer(2));
    let mut world = World::with_events();
    world.shows(&[&a, &b]).shows(&[&a, &b]);
    world.record();
    world.goes_on_after(2 * SECOND);
    world.tells(&[b.destroyed().ago(0), a.fin_acked().opened_at(3_950).destroyed().ago(0)]);
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "ending", "ending_evidence"]),
        [
            "cookie=1 ending=reset ending_evidence=peer",
            "cookie=2 ending=reset ending_evidence=fin_not_acked",
        ]
    );
}

#[test]
fn who_ended_is_remembered_as_long_as_its_other_end_is_there() {
    let (a, b) = (a(), a().peer(2));
    let half_closed = b.in_state(TcpState::CLOSE_WAIT);
    let closed = a.time_wait();
    let mut world = World::default();
    world.shows(&[&a, &b]).shows(&[&a, &b]).shows(&[&closed, &half_closed]);
    for _ in 0..8 {
        world.shows(&[&half_closed]);
    }
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "closed_evidence", "ending_evidence"]),
        [
            "cookie=1 closed_evidence=time_wait ending_evidence=time_wait",
            "cookie=2 closed_evidence=absence ending_evidence=both_fins",
        ]
    );
}

/// The opener sent data: that it was reset its counters only tell where a listener tells who opened.
#[test]
fn who_lets_go_after_an_abort_completes_what_was_told_by_half() {
    let told = |listeners: &[&FakeSocket]| {
        let client = a().opened_at(1_400);
        let mut world = World::with_events();
        world.shows(listeners).shows(listeners).tells(&[client.peer(2).aborted()]);
        world.shows(listeners).shows(listeners);
        world.tells(&[client.destroyed()]).shows(listeners);
        world.record();
        let columns = &["cookie", "local_port", "remote_port", "ending_evidence"];
        lives(&world, columns).into_iter().filter(|row| !row.starts_with("cookie=9")).collect()
    };
    let listener = FakeSocket::listener(9, 80, 0, 128);
    let rows: Vec<String> = told(&[&listener]);
    assert_eq!(
        rows,
        [
            "cookie=2 local_port=80 remote_port=1001 ending_evidence=disconnected",
            "cookie=1 local_port=1001 remote_port=80 ending_evidence=fin_not_acked",
        ]
    );
    let rows: Vec<String> = told(&[]);
    assert_eq!(
        rows,
        [
            "cookie=2 local_port=80 remote_port=- ending_evidence=disconnected",
            "cookie=1 local_port=1001 remote_port=80 ending_evidence=-",
        ]
    );
}

#[test]
fn the_timer_of_a_time_wait_tells_more_than_a_late_event() {
    let a = a().opened_at(1_400).fin_acked();
    let time_wait = FakeSocket { cookie: 7, ..a.time_wait_since(1_450) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]);
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_before", "closed_evidence", "destroyed_at"]),
        ["closed_before=1470 closed_evidence=time_wait destroyed_at=1700"]
    );
}

#[test]
fn a_late_event_that_tells_who_opened_a_connection_tells_the_other_end_too() {
    let a = FakeSocket { wqueue: 1, ..a() };
    let b = FakeSocket { wqueue: 1, ..a.peer(2) };
    let last_words = FakeSocket { wqueue: 0, bytes_acked: a.bytes_sent + 2, ..a.clone() };
    let mut world = World::with_events();
    world.shows(&[&a, &b]).shows(&[&a, &b]).shows(&[&b]).shows(&[&b]).shows(&[&b]);
    world.tells(&[last_words.destroyed()]).shows(&[&b]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "direction", "direction_evidence"]),
        [
            "cookie=1 direction=outbound direction_evidence=syn_counted",
            "cookie=2 direction=inbound direction_evidence=peer",
        ]
    );
}

/// Dumps that went on while much came and went had lacked it twice.
#[test]
fn what_is_left_of_a_connection_that_was_missed_is_one_with_it() {
    let a = a();
    let hour_ms = 3_601_000;
    let time_wait = a.time_wait_since(hour_ms + 5_900);
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).shows(&[]).shows(&[]);
    world.jumps(Jump { late_ns: hour_ms * 1_000_000, ..Jump::default() }); // time for a keyframe
    world.shows(&[]).shows(&[&time_wait]).shows(&[&time_wait]);
    world.tells(&[a.fin_acked().opened_at(hour_ms + 5_890).destroyed()]).shows(&[&time_wait]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "closed_evidence", "ending_evidence", "samples"]),
        ["cookie=1 closed_evidence=time_wait ending_evidence=time_wait samples=2"]
    );
    crate::harness::assert_recording_is_whole(&world.path());
}

/// The event of the one that closed is read late, on a busy machine.
#[test]
fn who_goes_on_half_closed_is_the_other_end_of_who_is_there() {
    let a = a().opened_at(1_650);
    let half = FakeSocket { cookie: 7, ..a.time_wait_since(1_650) }.in_state(TcpState::FIN_WAIT2);
    let b = a.peer(2).fin_received().in_state(TcpState::CLOSE_WAIT);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&half, &b]);
    world.tells(&[a.fin_acked().destroyed().ago(900).unread_for(900)]);
    world.shows(&[&half, &b]).shows(&[&half, &b]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "peer_socket_id"]),
        ["cookie=1 peer_socket_id=2", "cookie=2 peer_socket_id=1"]
    );
}

/// The events of two connections in a row with the same ports that sent so much, read after the TIME-WAIT of the
/// second was seen under this cookie.
fn told_after_time_wait(cookie: u64, sent: [u64; 2]) -> Vec<String> {
    let a = a().opened_at(1_650);
    let time_wait = FakeSocket { cookie, ..a.time_wait_since(1_650) };
    let told = |socket: FakeSocket, cookie| {
        FakeSocket { cookie, ..socket }
            .fin_acked()
            .fin_received()
            .destroyed()
            .ago(10)
            .unread_for(330)
    };
    let ends = |bytes, cookie| {
        let client = FakeSocket { bytes_sent: bytes, bytes_acked: bytes + 1, ..a.clone() };
        let server = FakeSocket { bytes_received: bytes, data_segs_in: 1, ..a.peer(2) };
        [told(client, cookie), told(server, cookie + 1)]
    };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&time_wait]);
    let ([client, server], [next_client, next_server]) = (ends(sent[0], 1), ends(sent[1], 3));
    world.tells(&[client, server, next_client, next_server]);
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    crate::harness::assert_recording_is_whole(&world.path());
    let mut rows = lives(&world, &["socket_id", "cookie", "peer_socket_id", "ending"]);
    rows.sort();
    rows
}

#[test]
fn of_two_connections_in_a_row_with_the_same_ports_each_has_its_ends() {
    let told = [
        "socket_id=1 cookie=3 peer_socket_id=4 ending=orderly",
        "socket_id=2 cookie=1 peer_socket_id=3 ending=orderly",
        "socket_id=3 cookie=2 peer_socket_id=2 ending=orderly",
        "socket_id=4 cookie=4 peer_socket_id=1 ending=orderly",
    ];
    assert_eq!(told_after_time_wait(7, [50, 70]), told);
    // A program has asked for the cookie of the socket, and its mini-socket has it too.
    assert_eq!(told_after_time_wait(3, [50, 70]), told);
}

/// Their events were unread for longer than they were there: an end of one looks like that of the other.
#[test]
fn of_two_in_a_row_that_sent_nothing_no_end_is_told_as_the_other_end() {
    let told = [
        "socket_id=1 cookie=3 peer_socket_id=- ending=orderly",
        "socket_id=2 cookie=1 peer_socket_id=- ending=orderly",
        "socket_id=3 cookie=2 peer_socket_id=- ending=-",
        "socket_id=4 cookie=4 peer_socket_id=- ending=-",
    ];
    assert_eq!(told_after_time_wait(3, [0, 0]), told);
}

/// Both ends closed, and a program holds the socket: a bound one is shown beside its TIME-WAIT.
#[test]
fn a_bound_socket_that_is_held_is_one_with_its_time_wait() {
    let a = a().opened_at(1_400).fin_acked();
    let held = a.in_state(TcpState::CLOSE);
    let time_wait = FakeSocket { cookie: 7, ..a.time_wait_since(1_450) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]);
    for _ in 0..9 {
        world.shows(&[&held, &time_wait]);
    }
    world.tells(&[a.destroyed()]).shows(&[&time_wait]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "closed_before", "ending_evidence", "destroyed_at"]),
        ["cookie=1 closed_before=1470 ending_evidence=time_wait destroyed_at=10700"]
    );
}

/// The reader of events stands still while the other end closes.
#[test]
fn a_time_wait_that_began_after_the_last_event_that_was_read_waits_for_the_next_one() {
    let a = a().opened_at(1_400).fin_acked();
    let bytes_acked = a.bytes_sent + 2;
    let a = FakeSocket { bytes_acked, ..a };
    let last_ack_recv_at_ms = START_MONOTONIC / 1_000_000 + 1_850;
    let b = FakeSocket { last_ack_recv_at_ms, ..a.peer(2).fin_received().fin_acked() };
    let time_wait = FakeSocket { cookie: 7, ..a.time_wait_since(1_850) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]).shows(&[&time_wait]);
    world.tells(&[b.destroyed().unread_for(600)]).shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    let rows = lives(&world, &["cookie", "closed_before", "ending_evidence"]);
    assert_eq!(rows[0], "cookie=1 closed_before=1870 ending_evidence=time_wait");
    assert_eq!(rows.len(), 2, "{rows:?}");
}

#[test]
fn what_goes_on_without_its_socket_was_there_until_its_last_sighting_in_fin_wait_2() {
    let a = a().opened_at(1_650).fin_acked();
    let half = FakeSocket { cookie: 7, ..a.time_wait_since(1_650) }.in_state(TcpState::FIN_WAIT2);
    let over = FakeSocket { cookie: 7, ..a.time_wait_since(5_500) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]);
    world.shows(&[&half]).shows(&[&half]).shows(&[&half]).shows(&[]).shows(&[&over]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_after", "closed_before", "closed_evidence"]),
        ["closed_after=4000 closed_before=5520 closed_evidence=time_wait"]
    );
}

#[test]
fn what_goes_on_without_its_socket_was_last_alive_in_fin_wait_2() {
    let a = a().opened_at(1_650).fin_acked();
    let left = FakeSocket { cookie: 7, ..a.time_wait_since(1_650) }.in_state(TcpState::FIN_WAIT2);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]).shows(&[&left]).shows(&[&left]);
    world.record();
    assert_eq!(
        lives(&world, &["state", "closed_before", "ending"]),
        ["state=FIN-WAIT-2 closed_before=- ending=-"]
    );
}

/// Who closed first is half-closed until the other end closes: so late its TIME-WAIT may begin.
#[test]
fn who_was_half_closed_is_seen_in_time_wait_first_by_the_next_capture() {
    let a = a().opened_at(1_100);
    let b = a.peer(2);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]);
    world.tells(&[b.fin_acked().destroyed()]).ends(&[], failed);
    world.tells(&[a.fin_acked().fin_received().destroyed()]).ends(&[], failed);
    world.record();
    world.goes_on_after(SECOND);
    let rest = FakeSocket { cookie: 9, ..b.time_wait_since(2_600) };
    world.shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["socket_id", "cookie", "ending_evidence", "closed_before"]),
        [
            "socket_id=1 cookie=2 ending_evidence=time_wait closed_before=2620",
            "socket_id=2 cookie=1 ending_evidence=both_fins closed_before=2700",
        ]
    );
}

/// Its event tells that it was the other end of one that had died before, and how that had ended.
#[test]
fn who_turns_out_to_be_the_other_end_tells_how_both_ended() {
    let a = FakeSocket { bytes_received: 50, data_segs_in: 1, ..a().opened_at(1_400) };
    let b = FakeSocket { bytes_sent: 50, bytes_acked: 50, ..a.peer(2) };
    let rest = FakeSocket { cookie: 9, ..b.time_wait_since(1_500) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&rest]);
    let last = a.fin_acked().fin_received().destroyed();
    world.tells(&[last.unread_for(1_100)]).shows(&[&rest]);
    let late = b.fin_acked().fin_received().destroyed();
    world.tells(&[late.unread_for(2_100)]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "peer_socket_id", "ending", "ending_evidence"]),
        [
            "cookie=2 peer_socket_id=2 ending=orderly ending_evidence=time_wait",
            "cookie=1 peer_socket_id=1 ending=orderly ending_evidence=both_fins",
        ]
    );
}

/// It came after a request that nobody answered, and that the capture before saw last.
#[test]
fn a_time_wait_is_left_of_the_last_one_of_its_addresses_before_the_capture() {
    let a = a().to_afar().opened_at(1_100);
    let request = FakeSocket { cookie: 9, ..a.peer(9).peer(9) }.request();
    let mut world = World::with_events();
    world.shows(&[&request]).shows(&[&request]);
    world.tells(&[a.fin_acked().fin_received().destroyed()]).ends(&[], failed);
    world.record();
    world.goes_on_after(SECOND);
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_500) };
    world.shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["socket_id", "cookie", "ending_evidence"]),
        [
            "socket_id=1 cookie=9 ending_evidence=-",
            "socket_id=2 cookie=1 ending_evidence=time_wait",
        ]
    );
}

/// Whoever probes a port and closes at once may be answered by what is reset.
#[test]
fn what_was_half_closed_and_left_nothing_is_over_once_two_dumps_have_shown_that() {
    let probe = FakeSocket { bytes_acked: 102, ..a().to_afar().opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[probe.destroyed().looked_up_after(None)]);
    world.shows(&[]).ends(&[], failed).shows(&[]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_after", "closed_before", "closed_evidence", "destroyed_at"]),
        ["closed_after=1379 closed_before=5001 closed_evidence=absence destroyed_at=1700"]
    );
    crate::harness::assert_recording_is_whole(&world.path());
}

/// The next capture shows that nothing is left of it.
#[test]
fn what_was_half_closed_as_recording_stopped_is_over_in_the_next_capture() {
    let probe = FakeSocket { bytes_acked: 102, ..a().to_afar().opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[probe.destroyed().looked_up_after(None)]).shows(&[]);
    world.record();
    let columns = ["closed_before", "closed_evidence"];
    assert_eq!(lives(&world, &columns), ["closed_before=- closed_evidence=recording_end"]);
    world.goes_on_after(SECOND);
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(lives(&world, &columns), ["closed_before=5001 closed_evidence=absence"]);
    crate::harness::assert_recording_is_whole(&world.path());
}

/// The kernel disconnects subflows of MPTCP also when they are over.
#[test]
fn where_mptcp_is_used_a_wiped_event_alone_is_no_abort() {
    let told = |is_subflow| {
        let listener = FakeSocket { is_subflow, ..FakeSocket::listener(9, 80, 0, 16) };
        let mut world = World::with_events();
        world.shows(&[&listener]).shows(&[&listener]);
        world.tells(&[a().to_afar().opened_at(1_400).aborted()]).shows(&[&listener]);
        world.record();
        lives(&world, &["cookie", "ending", "ending_evidence"])[1].clone()
    };
    assert_eq!(told(false), "cookie=1 ending=reset ending_evidence=disconnected");
    assert_eq!(told(true), "cookie=1 ending=- ending_evidence=-");
}

/// What was reset is in no dump, however long its socket is held.
#[test]
fn who_is_held_after_a_reset_is_the_other_end_of_who_reset_it() {
    let a = a().opened_at(1_400);
    let b = FakeSocket { rqueue: 100, ..a.peer(2) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[b.destroyed()]);
    for _ in 0..12 {
        world.shows(&[]);
    }
    world.tells(&[a.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "peer_socket_id", "ending"]),
        ["cookie=2 peer_socket_id=2 ending=reset", "cookie=1 peer_socket_id=1 ending=reset"]
    );
}

/// The kernel sends events from each processor on its own, and a snapshot may be taken between any of them.
#[test]
fn ends_are_paired_though_the_events_of_another_connection_came_between() {
    let sent = |bytes: u64, at_ms: i64| FakeSocket {
        bytes_sent: bytes,
        bytes_acked: bytes + 2,
        ..a().opened_at(at_ms)
    };
    let (first, second) = (sent(100, 1_980), sent(40, 1_990));
    let told = |socket: &FakeSocket, cookie| FakeSocket { cookie, ..socket.clone() }.destroyed();
    let (one, other) = (first.fin_received(), first.peer(2).fin_received().fin_acked());
    let (next, its_other) = (second.fin_received(), second.peer(4).fin_received().fin_acked());
    let events = [told(&other, 2), told(&next, 3), told(&its_other, 4), told(&one, 1)];
    for before in 0..=events.len() {
        let of_snapshot = |events: &[FakeEvent], ago_ms: i64| -> Vec<FakeEvent> {
            events.iter().map(|event| event.ago(ago_ms)).collect()
        };
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&of_snapshot(&events[..before], 5)).shows(&[]);
        world.tells(&of_snapshot(&events[before..], 995)).shows(&[]);
        world.record();
        let mut rows = lives(&world, &["cookie", "peer_socket_id", "ending"]);
        rows.sort();
        assert_eq!(
            rows,
            [
                "cookie=1 peer_socket_id=1 ending=orderly",
                "cookie=2 peer_socket_id=4 ending=orderly",
                "cookie=3 peer_socket_id=3 ending=orderly",
                "cookie=4 peer_socket_id=2 ending=orderly",
            ],
            "{before} of them before the snapshot"
        );
    }
}

/// It was reset from afar between two dumps, and a program held its socket.
#[test]
fn who_is_held_after_a_reset_from_afar_was_over_by_the_dumps_that_lacked_it() {
    let a = a().to_afar().opened_at(1_400);
    let mut world = World::with_events();
    for _ in 0..8 {
        world.shows(&[]);
    }
    world.tells(&[a.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_after", "closed_before", "closed_evidence", "destroyed_at"]),
        ["closed_after=1379 closed_before=4001 closed_evidence=absence destroyed_at=7700"]
    );
    crate::harness::assert_recording_is_whole(&world.path());
}

/// It may have begun after dumps that were made while its event was unread.
#[test]
fn an_event_that_was_unread_for_long_is_of_no_connection_that_dumps_lacked() {
    let a = a().to_afar().opened_at(4_500);
    let mut world = World::with_events();
    for _ in 0..6 {
        world.shows(&[]);
    }
    world.tells(&[a.destroyed().unread_for(5_000)]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_before", "closed_evidence", "destroyed_at"]),
        ["closed_before=5700 closed_evidence=destroy_event destroyed_at=5700"]
    );
}

/// What the host drops as it is sent is counted as sent each time, and never as sent again.
#[test]
fn more_that_was_sent_than_acknowledged_is_no_reset_if_nothing_waits() {
    let told = |wqueue| {
        let a = a().opened_at(1_400);
        let a = FakeSocket { bytes_sent: 110, bytes_acked: 102, wqueue, ..a };
        let listener = FakeSocket::listener(9, 80, 0, 128);
        let mut world = World::with_events();
        world.shows(&[&listener]).shows(&[&listener]).tells(&[a.destroyed()]).shows(&[&listener]);
        world.record();
        lives(&world, &["cookie", "ending"])[1].clone()
    };
    assert_eq!(told(8), "cookie=1 ending=reset");
    assert_eq!(told(0), "cookie=1 ending=-");
}
