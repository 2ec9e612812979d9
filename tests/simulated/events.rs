//! What the recorder makes of destroy events, together with dumps and without them.

use std::net::Ipv4Addr;

use sockrec::model::{Protocol, States, TcpState};
use sockrec::query::Question;

use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{SECOND, START_UTC, World, complete, failed, interrupted};

/// Rows of `connections`; moments in milliseconds since the start.
pub fn lives(world: &World, columns: &[&str]) -> Vec<String> {
    let rows = world.answer(Question::Connections, columns);
    rows.iter().map(|row| row.split(' ').map(since_start).collect::<Vec<_>>().join(" ")).collect()
}

fn since_start(cell: &str) -> String {
    let (column, value) = cell.split_once('=').unwrap();
    let is_moment = ["_after", "_before", "_at"].iter().any(|end| column.ends_with(end));
    match value.parse::<i64>() {
        Ok(ns) if is_moment => format!("{column}={}", (ns - START_UTC) as f64 / 1e6),
        _ => cell.to_owned(),
    }
}

const OPENING: &[&str] = &["opened_after", "opened_before", "opened_evidence"];
pub const CLOSING: &[&str] =
    &["closed_after", "closed_before", "closed_evidence", "destroyed_at", "samples"];

pub fn a() -> FakeSocket {
    FakeSocket::established(1, 1_001, 80)
}

/// A recording in which nothing is there but what is told before the third tick, at 1,700 ms.
pub fn told_at_1700(events: &[FakeEvent]) -> World {
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(events).shows(&[]);
    world.record();
    world
}

#[test]
fn a_connection_that_only_its_event_tells_of_was_opened_after_a_dump_that_lacked_it() {
    let world = told_at_1700(&[a().opened_at(1_400).destroyed()]);
    assert_eq!(
        lives(&world, OPENING),
        ["opened_after=1000 opened_before=1450 opened_evidence=event"]
    );
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1379 closed_before=1700 closed_evidence=destroy_event destroyed_at=1700 \
          samples=0"]
    );
    let columns = ["state", "first_seen_at", "last_seen_at", "bytes_sent", "segs_out", "rtt_us"];
    assert_eq!(
        lives(&world, &columns),
        ["state=- first_seen_at=- last_seen_at=- bytes_sent=100 segs_out=3 rtt_us=250"]
    );
    assert_eq!(world.sql("SELECT events FROM snapshots"), ["0", "0", "1"]);
}

#[test]
fn a_socket_that_was_kept_after_its_connection_was_not_opened_after_the_last_dump() {
    // Active for the last time before the second dump, which lacked it: it may have been reset.
    let world = told_at_1700(&[a().opened_at(900).destroyed()]);
    assert_eq!(
        lives(&world, &["opened_after", "opened_before", "closed_after"]),
        ["opened_after=0 opened_before=950 closed_after=879"]
    );
    let world = told_at_1700(&[a().destroyed()]);
    assert_eq!(
        lives(&world, &["opened_after", "closed_after", "closed_before"]),
        ["opened_after=- closed_after=- closed_before=1700"]
    );
}

#[test]
fn the_event_of_a_known_socket_ends_it_with_its_final_counters() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).tells(&[a.sent(900).opened_at(1_500).destroyed()]);
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1479 closed_before=1700 closed_evidence=destroy_event destroyed_at=1700 \
          samples=1"]
    );
    assert_eq!(
        lives(&world, &["state", "inode", "uid", "bytes_sent", "segs_out"]),
        ["state=ESTAB inode=11001 uid=1000 bytes_sent=1000 segs_out=4"]
    );
    assert!(world.sql("SELECT * FROM missing_sockets").is_empty());
}

#[test]
fn an_event_read_while_its_dump_went_on_ends_what_the_dump_still_showed() {
    let a = a().opened_at(500);
    let mut world = World::with_events();
    world.shows(&[]).tells_while_dumping(&[a.sent(900).destroyed()]).shows(&[&a]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1000 closed_before=1001 closed_evidence=destroy_event destroyed_at=1001 \
          samples=1"]
    );
    assert_eq!(
        lives(&world, OPENING),
        ["opened_after=0 opened_before=550 opened_evidence=snapshot"]
    );
}

#[test]
fn a_dump_that_still_shows_a_destroyed_socket_changes_nothing() {
    let (known, unknown) = (a(), FakeSocket::established(2, 1_002, 80).opened_at(1_400));
    let mut world = World::with_events();
    world.shows(&[&known]).shows(&[&known]);
    world.tells(&[known.destroyed(), unknown.destroyed()]);
    world.shows(&[&known.sent(1), &unknown.sent(1)]).shows(&[]).shows(&[]);
    let (summary, _) = world.record();
    assert_eq!(summary.progress.sockets, 0);
    assert_eq!(
        lives(&world, &["cookie", "generation", "closed_evidence", "bytes_sent", "samples"]),
        [
            "cookie=1 generation=0 closed_evidence=destroy_event bytes_sent=100 samples=1",
            "cookie=2 generation=0 closed_evidence=destroy_event bytes_sent=100 samples=0",
        ]
    );
}

#[test]
fn sockets_that_were_never_bound_are_counted_only() {
    let unbound = FakeSocket {
        local_address: Ipv4Addr::UNSPECIFIED,
        local_port: 0,
        remote_address: Ipv4Addr::UNSPECIFIED,
        remote_port: 0,
        ..a()
    };
    let world = told_at_1700(&[unbound.destroyed(), a().opened_at(1_400).destroyed()]);
    assert_eq!(lives(&world, &["cookie"]), ["cookie=1"]);
    assert_eq!(world.sql("SELECT events, events_unbound FROM snapshots"), ["0 0", "0 0", "2 1"]);
}

#[test]
fn each_connection_of_a_tuple_that_is_used_again_has_its_row() {
    let a = a();
    let second = FakeSocket { cookie: 2, ..a.opened_at(1_200) };
    let third = FakeSocket { cookie: 3, ..a.opened_at(1_500) };
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]);
    world.tells(&[
        a.opened_at(1_100).destroyed().ago(850),
        second.destroyed().ago(600),
        third.destroyed().ago(300),
    ]);
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(
            &world,
            &["cookie", "opened_after", "opened_before", "closed_after", "closed_before"]
        ),
        [
            "cookie=1 opened_after=- opened_before=-5450 closed_after=1079 closed_before=1150",
            "cookie=2 opened_after=1000 opened_before=1250 closed_after=1179 closed_before=1400",
            "cookie=3 opened_after=1000 opened_before=1550 closed_after=1479 closed_before=1700",
        ]
    );
}

#[test]
fn a_cookie_with_other_addresses_in_its_event_is_another_generation() {
    let a = a();
    let again = FakeSocket { remote_port: 81, ..a.opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).tells(&[again.destroyed()]).shows(&[]);
    world.record();
    let columns = [
        "generation",
        "remote_port",
        "opened_after",
        "closed_before",
        "closed_evidence",
        "destroyed_at",
    ];
    assert_eq!(
        lives(&world, &columns),
        [
            "generation=0 remote_port=80 opened_after=- closed_before=2001 \
             closed_evidence=replaced destroyed_at=-",
            "generation=1 remote_port=81 opened_after=1000 closed_before=1700 \
             closed_evidence=destroy_event destroyed_at=1700",
        ]
    );
}

/// Of one that sent nothing, the count of delivered segments tells a SYN from a FIN.
#[test]
fn both_ends_name_each_other_whoever_is_told_of_first() {
    let columns = ["cookie", "peer_socket_id", "direction", "ending"];
    // In one tick by events alone.
    let a = a().opened_at(1_400);
    let (one, other) = (a.fin_acked().fin_received(), a.peer(2).fin_acked().fin_received());
    let world = told_at_1700(&[one.destroyed(), other.destroyed()]);
    let told = [
        "cookie=1 peer_socket_id=2 direction=outbound ending=orderly",
        "cookie=2 peer_socket_id=1 direction=inbound ending=orderly",
    ];
    assert_eq!(lives(&world, &columns), told);
    // One by a dump, the other by its event a tick later.
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&a]).tells(&[other.destroyed(), one.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(lives(&world, &columns), told);
}

#[test]
fn an_event_ends_a_socket_also_while_dumps_fail() {
    let (a, b) = (a(), FakeSocket::established(2, 1_002, 80));
    for end in [failed, interrupted] {
        let mut world = World::with_events();
        world.shows(&[&a, &b]).ends(&[], end);
        world.tells(&[a.opened_at(1_500).destroyed()]).ends(&[], end);
        // Nothing but the first dump shows that it was not there before.
        world.tells(&[FakeSocket { cookie: 3, ..a.opened_at(2_500) }.destroyed()]);
        world.ends(&[], end).shows(&[&b]);
        world.record();
        let columns =
            ["cookie", "opened_after", "closed_after", "closed_before", "closed_evidence"];
        assert_eq!(
            lives(&world, &columns),
            [
                "cookie=1 opened_after=- closed_after=1479 closed_before=1700 \
                 closed_evidence=destroy_event",
                "cookie=2 opened_after=- closed_after=4000 closed_before=- \
                 closed_evidence=recording_end",
                "cookie=3 opened_after=0 closed_after=2479 closed_before=2700 \
                 closed_evidence=destroy_event",
            ]
        );
    }
}

#[test]
fn events_of_new_sockets_beyond_the_bound_are_counted() {
    let events: Vec<_> = (0..10)
        .map(|i| FakeSocket::established(10 + i, 2_000 + i as u16, 80).opened_at(1_400).destroyed())
        .collect();
    let mut world = World { max_new_sockets: 3, ..World::with_events() };
    world.shows(&[]).shows(&[]).tells(&events).shows(&[]);
    let (summary, _) = world.record();
    // The bound holds for each second since the tick before began.
    let lives = lives(&world, &["gaps"]);
    assert_eq!(lives, ["gaps=sockets_not_stored"; 3]);
    assert_eq!(
        world.sql("SELECT snapshot_id, kind, count FROM exceptions"),
        ["3 sockets_not_stored 7"]
    );
    assert_eq!(summary.progress.not_stored, 7);
}

#[test]
fn events_bring_new_sockets_only_of_the_states_that_are_recorded() {
    let a = a().fin_received();
    let unseen = FakeSocket { cookie: 2, ..a.opened_at(1_400) };
    let told = |state| {
        let mut world = World { states: States::only(state), ..World::with_events() };
        let shown: &[&FakeSocket] = if state == TcpState::ESTABLISHED { &[&a] } else { &[] };
        world.shows(shown).shows(shown);
        let refused = FakeSocket { cookie: 3, ..a.clone() }.refused();
        world.tells(&[a.destroyed(), unseen.destroyed(), refused]).shows(&[]);
        world.record();
        let counted = world.sql("SELECT events, events_unchosen FROM snapshots");
        (lives(&world, &["cookie", "opened_after", "destroyed_at"]), counted)
    };
    // Whoever was answered was established once.
    assert_eq!(
        told(TcpState::ESTABLISHED),
        (
            vec![
                "cookie=1 opened_after=- destroyed_at=1700".to_owned(),
                "cookie=2 opened_after=- destroyed_at=1700".to_owned()
            ],
            vec!["0 0".to_owned(), "0 0".to_owned(), "3 1".to_owned()]
        )
    );
    let (rows, counted) = told(TcpState::SYN_SENT);
    assert_eq!((rows.len(), counted[2].as_str()), (0, "3 3"));
}

#[test]
fn a_connection_that_nobody_answered_any_longer_has_timed_out() {
    let a = a().to_afar();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a.retransmitted(3)]);
    world.tells(&[a.retransmitted(5).destroyed()]).shows(&[]);
    world.record();
    let columns = ["ending", "ending_evidence", "total_retrans"];
    assert_eq!(
        lives(&world, &columns),
        ["ending=timed_out ending_evidence=retransmits total_retrans=5"]
    );
    // A segment came: that may have been a reset.
    let reset = FakeSocket { segs_in: a.segs_in + 1, ..a.retransmitted(5) };
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a.retransmitted(3)]).tells(&[reset.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(lives(&world, &columns), ["ending=- ending_evidence=- total_retrans=5"]);
}

#[test]
fn a_request_that_went_without_an_event_was_never_established() {
    let request = a().peer(2).request();
    let columns = ["direction", "ending", "ending_evidence", "closed_evidence"];
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&request]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &columns),
        ["direction=inbound ending=- ending_evidence=request_vanished \
          closed_evidence=absence"]
    );
    // Its event may have been among the lost.
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&request]).loses_events(None).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &columns),
        ["direction=inbound ending=- ending_evidence=- closed_evidence=absence"]
    );
}

#[test]
fn a_request_that_became_a_connection_is_one_with_it() {
    let server = a().peer(2);
    let mut world = World::with_events();
    let last_words = server.fin_acked().opened_at(1_650).destroyed();
    world.shows(&[]).shows(&[&server.request()]).tells(&[last_words]);
    world.shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "state", "direction", "ending", "bytes_received"]),
        ["cookie=2 state=SYN-RECV direction=inbound ending=- bytes_received=100"]
    );
}

#[test]
fn an_event_of_udp_ends_its_socket_and_tells_of_no_connection() {
    let (known, unknown) = (a(), FakeSocket::established(2, 1_002, 80));
    let server = FakeSocket {
        remote_address: Ipv4Addr::UNSPECIFIED,
        remote_port: 0,
        ..FakeSocket::established(3, 53, 0).in_state(TcpState::CLOSE)
    };
    let mut world = World { protocol: Protocol::Udp, ..World::with_events() };
    world.shows(&[&known, &server]).shows(&[&known, &server]);
    world.tells(&[known.destroyed(), unknown.destroyed(), server.destroyed()]).shows(&[]);
    world.record();
    let columns =
        ["cookie", "opened_after", "closed_after", "closed_before", "direction", "ending"];
    assert_eq!(
        lives(&world, &columns),
        [
            "cookie=1 opened_after=- closed_after=1000 closed_before=1700 direction=- ending=-",
            "cookie=3 opened_after=- closed_after=1000 closed_before=1700 direction=- ending=-",
            "cookie=2 opened_after=1000 closed_after=1000 closed_before=1700 direction=- ending=-",
        ]
    );
    assert_eq!(world.sql("SELECT DISTINCT wqueue FROM samples"), ["0"]);
}

#[test]
fn events_before_the_first_dump_rest_on_nothing_that_was_seen() {
    let a = a().opened_at(-200);
    let mut world = World::with_events();
    world.tells(&[a.destroyed().ago(0)]).ends(&[], complete).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["opened_after", "opened_before", "closed_after", "closed_before"]),
        ["opened_after=- opened_before=-150 closed_after=- closed_before=0"]
    );
}

#[test]
fn a_connection_whose_other_end_was_aborted_is_over_though_its_socket_is_held() {
    let (a, b) = (a(), a().peer(2));
    let mut world = World::with_events();
    world.shows(&[&a, &b]).shows(&[&a, &b]).tells(&[a.aborted()]);
    world.shows(&[]).shows(&[]).shows(&[]).shows(&[]);
    world.record();
    let columns = ["cookie", "closed_after", "closed_before", "closed_evidence", "destroyed_at"];
    assert_eq!(
        lives(&world, &columns),
        [
            "cookie=1 closed_after=1000 closed_before=1700 closed_evidence=destroy_event \
             destroyed_at=1700",
            "cookie=2 closed_after=1000 closed_before=1700 closed_evidence=peer_destroy_event \
             destroyed_at=-",
        ]
    );
}

#[test]
fn the_event_of_a_connection_is_not_that_of_the_bound_socket_it_was() {
    let bound = FakeSocket {
        remote_address: Ipv4Addr::UNSPECIFIED,
        remote_port: 0,
        ..a().in_state(TcpState::CLOSE)
    };
    let later = a().opened_at(1_400);
    let columns = ["generation", "remote_address", "ending", "closed_evidence", "destroyed_at"];
    let of_bound = "generation=0 remote_address=0.0.0.0 ending=-";
    for (event, ending) in [(later.aborted(), "reset"), (later.refused(), "not_established")] {
        let mut world = World::with_events();
        world.shows(&[&bound]).shows(&[&bound]).tells(&[event]).shows(&[]);
        world.record();
        assert_eq!(
            lives(&world, &columns),
            [
                format!("{of_bound} closed_evidence=replaced destroyed_at=-"),
                format!(
                    "generation=1 remote_address=127.0.0.2 ending={ending} \
                     closed_evidence=destroy_event destroyed_at=1700"
                ),
            ]
        );
    }
    // Long after it was over, in the same capture and in the next.
    for in_next in [false, true] {
        let mut world = World::with_events();
        world.shows(&[&bound]).shows(&[]).shows(&[]).shows(&[]);
        if in_next {
            world.record();
            world.goes_on_after(SECOND);
        }
        world.tells(&[a().opened_at(1_400).destroyed()]).shows(&[]);
        world.record();
        assert_eq!(
            lives(&world, &["remote_port", "closed_evidence"]),
            [
                "remote_port=0 closed_evidence=absence",
                "remote_port=80 closed_evidence=destroy_event"
            ]
        );
    }
}

#[test]
fn what_only_its_event_tells_of_was_not_bound_when_a_dump_lacked_it() {
    let listener = FakeSocket::listener(9, 80, 0, 16);
    for (release, opened_after) in [("6.18.0-rc1", "1000"), ("6.1.0", "-"), ("odd", "-")] {
        let mut world = World { kernel_release: Some(release), ..World::with_events() };
        world.shows(&[]).shows(&[]).tells(&[listener.destroyed()]).shows(&[]);
        world.record();
        let row = format!("cookie=9 opened_after={opened_after} destroyed_at=1700");
        assert_eq!(lives(&world, &["cookie", "opened_after", "destroyed_at"]), [row]);
    }
}

#[test]
fn a_request_and_its_socket_are_one_connection_though_their_cookies_differ() {
    let request = a().peer(2).request();
    let socket = a().peer(3);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&request]).shows(&[&socket]).shows(&[&socket]);
    world.tells(&[socket.fin_acked().destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "direction_evidence", "opened_before", "closed_evidence"]),
        ["cookie=3 direction_evidence=syn_recv opened_before=1001 closed_evidence=destroy_event"]
    );
}

/// Only its request was seen, and then what is left of it.
#[test]
fn what_is_left_of_a_socket_is_so_of_its_request_though_all_three_cookies_differ() {
    let request = a().peer(2).request();
    let socket = a().peer(3).opened_at(1_001).fin_acked().fin_received();
    let time_wait = FakeSocket { cookie: 7, ..socket.time_wait_since(1_010) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&request]).tells(&[socket.destroyed().ago(980)]);
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    assert_eq!(
        lives(&world, &["direction_evidence", "ending_evidence", "closed_evidence"]),
        ["direction_evidence=syn_recv ending_evidence=time_wait closed_evidence=destroy_event"]
    );
}

#[test]
fn a_request_that_nobody_answered_is_not_the_connection_that_came_later() {
    let request = a().peer(2).request();
    let later = a().opened_at(1_500).peer(3).fin_acked();
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&request]).tells(&[later.destroyed()]);
    world.shows(&[]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "closed_evidence", "ending", "destroyed_at"]),
        [
            "cookie=2 closed_evidence=absence ending=- destroyed_at=-",
            "cookie=3 closed_evidence=destroy_event ending=- destroyed_at=1700",
        ]
    );
}

#[test]
fn a_connection_that_was_refused_has_no_other_end() {
    let refused = a().opened_at(1_380).connecting();
    let next = a().opened_at(1_400).peer(2);
    for events in [
        [refused.destroyed(), next.destroyed()],
        [next.destroyed(), refused.destroyed()],
        [refused.refused(), next.destroyed()],
    ] {
        let world = told_at_1700(&events);
        assert_eq!(
            lives(&world, &["peer_socket_id", "addresses_inferred"]),
            ["peer_socket_id=- addresses_inferred=0"; 2]
        );
    }
}

#[test]
fn the_ends_of_two_connections_are_told_apart_by_what_one_sent_and_the_other_received() {
    let first = a().opened_at(1_390);
    let next = a().opened_at(1_400).sent(900).peer(2);
    let world = told_at_1700(&[first.destroyed(), next.destroyed()]);
    assert_eq!(lives(&world, &["peer_socket_id"]), ["peer_socket_id=-"; 2]);
    let next = a().opened_at(1_450).peer(2);
    let world = told_at_1700(&[first.destroyed(), next.destroyed()]);
    assert_eq!(lives(&world, &["peer_socket_id"]), ["peer_socket_id=-"; 2]);
}
