//! Half-wiped events: of aborted and refused connections the kernel tells half.

use sockrec::model::TcpState;

use crate::events::{a, lives, told_at_1700};
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::World;

#[test]
fn a_half_wiped_event_overwrites_nothing() {
    let a = a().sent(900);
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).tells(&[a.aborted()]).shows(&[]);
    world.record();
    let columns = [
        "local_address",
        "remote_port",
        "addresses_inferred",
        "bytes_sent",
        "rtt_us",
        "segs_in",
        "ending_evidence",
        "destroyed_at",
    ];
    assert_eq!(
        lives(&world, &columns),
        ["local_address=127.0.0.1 remote_port=80 addresses_inferred=0 bytes_sent=1000 \
          rtt_us=250 segs_in=3 ending_evidence=disconnected destroyed_at=1700"]
    );
}

#[test]
fn of_a_socket_first_seen_on_its_way_out_its_event_tells() {
    let a = a().opened_at(1_400);
    let dying = a.wiped().in_state(TcpState::CLOSE);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells_while_dumping(&[a.aborted(), a.peer(2).destroyed()]);
    world.shows(&[&dying]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "local_address", "remote_port", "bytes_sent", "ending"]),
        [
            "cookie=1 local_address=127.0.0.1 remote_port=80 bytes_sent=- ending=reset",
            "cookie=2 local_address=127.0.0.2 remote_port=1001 bytes_sent=0 ending=reset",
        ]
    );
}

const TUPLE: &[&str] = &[
    "cookie",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "addresses_inferred",
    "peer_socket_id",
];

#[test]
fn a_half_wiped_event_alone_tells_half() {
    let a = a().opened_at(1_400);
    let world = told_at_1700(&[a.aborted()]);
    assert_eq!(
        lives(&world, TUPLE),
        ["cookie=1 local_address=- local_port=1001 remote_address=127.0.0.2 remote_port=- \
          addresses_inferred=0 peer_socket_id=-"]
    );
    assert_eq!(
        lives(&world, &["bytes_sent", "segs_out", "ending", "ending_evidence"]),
        ["bytes_sent=- segs_out=- ending=reset ending_evidence=disconnected"]
    );
    let world = told_at_1700(&[a.refused()]);
    assert_eq!(
        lives(&world, &["bytes_sent", "ending", "ending_evidence"]),
        ["bytes_sent=- ending=not_established ending_evidence=nothing_received"]
    );
}

#[test]
fn the_other_end_tells_what_a_half_wiped_event_does_not() {
    let a = a().opened_at(1_400);
    let world = told_at_1700(&[a.aborted(), a.peer(2).destroyed()]);
    assert_eq!(
        lives(&world, TUPLE),
        [
            "cookie=1 local_address=127.0.0.1 local_port=1001 remote_address=127.0.0.2 \
             remote_port=80 addresses_inferred=1 peer_socket_id=2",
            "cookie=2 local_address=127.0.0.2 local_port=80 remote_address=127.0.0.1 \
             remote_port=1001 addresses_inferred=0 peer_socket_id=1",
        ]
    );
    assert_eq!(
        lives(&world, &["direction", "ending_evidence"]),
        [
            "direction=outbound ending_evidence=disconnected",
            "direction=inbound ending_evidence=fin_not_acked"
        ]
    );
}

#[test]
fn of_two_half_wiped_events_that_fit_one_end_neither_is_taken() {
    let a = a().opened_at(1_400);
    let b = FakeSocket { cookie: 3, remote_port: 81, ..a.clone() };
    let world = told_at_1700(&[a.aborted(), b.aborted(), a.peer(2).destroyed()]);
    for (row, cookie) in [(0, 1), (1, 3)] {
        assert_eq!(
            lives(&world, TUPLE)[row],
            format!(
                "cookie={cookie} local_address=- local_port=1001 remote_address=127.0.0.2 \
                 remote_port=- addresses_inferred=0 peer_socket_id=-"
            )
        );
    }
}

#[test]
fn a_socket_that_was_disconnected_and_is_held_is_freed_as_what_it_is() {
    let a = a();
    let bound =
        FakeSocket { local_address: a.local_address, ..a.wiped().in_state(TcpState::CLOSE) };
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).shows(&[&bound]).shows(&[&bound]).shows(&[&bound]);
    world.tells(&[bound.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["generation", "remote_port", "opened_after", "closed_evidence"]),
        [
            "generation=0 remote_port=80 opened_after=- closed_evidence=replaced",
            // The third dump may have caught the connection on its way out.
            "generation=1 remote_port=0 opened_after=1000 closed_evidence=destroy_event",
        ]
    );
}

/// The other end was reset, and its event has not come yet.
#[test]
fn who_is_seen_alive_after_an_abort_is_not_its_other_end() {
    let told = |is_opened_after: bool| {
        let opened_ms = if is_opened_after { 1_980 } else { 1_300 };
        let (aborted, another) = (a().peer(2).opened_at(1_400), a().opened_at(opened_ms));
        let another = FakeSocket { cookie: 3, local_port: 1_003, ..another };
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&[aborted.aborted()]).shows(&[&another]);
        world.record();
        lives(&world, &["cookie", "remote_port", "peer_socket_id"])
    };
    for is_opened_after in [false, true] {
        assert_eq!(
            told(is_opened_after),
            ["cookie=2 remote_port=- peer_socket_id=-", "cookie=3 remote_port=80 peer_socket_id=-",]
        );
    }
}

/// It may have sent the RST itself, as it was closed, to an end that is held since.
#[test]
fn who_left_data_unread_is_not_taken_for_the_other_end_of_an_abort() {
    let a = a().opened_at(1_400);
    let told = |rqueue| {
        pairs(&told_at_1700(&[a.aborted(), FakeSocket { rqueue, ..a.peer(2) }.destroyed()]))
    };
    assert_eq!(told(0), ["1 2", "2 1"]);
    assert!(told(5).is_empty());
}

/// They are of two connections with the same addresses and ports, each aborted by the end that is not told of.
#[test]
fn two_ends_that_left_no_data_unread_and_were_reset_are_not_of_one_connection() {
    let told = |rqueue| {
        let a = a().opened_at(1_400);
        let one = FakeSocket { rqueue, ..a.clone() };
        pairs(&told_at_1700(&[one.destroyed(), a.peer(2).destroyed()]))
    };
    assert!(told(0).is_empty());
    assert_eq!(told(5), ["1 2", "2 1"]);
}

/// Many connections with others that end at once, so long before they are taken.
pub(crate) fn many_ago(ms: i64) -> Vec<FakeEvent> {
    let other = |n: u16| FakeSocket::established(u64::from(n), 20_000 + n, 443).to_afar();
    (1_000..1_600).map(|n| other(n).destroyed().ago(ms)).collect()
}

/// The cookies of those whose other end is known, each with that of the other end.
pub(crate) fn pairs(world: &World) -> Vec<String> {
    world.sql(
        "SELECT one.cookie || ' ' || other.cookie FROM sockets one
         JOIN sockets other ON other.socket_id = one.peer_socket_id ORDER BY one.cookie",
    )
}

/// Where many come they overtake each other: the first end that fits may be another's.
#[test]
fn among_many_events_an_end_told_by_half_is_not_given_to_the_first_that_fits() {
    let a = a().opened_at(1_080);
    // Closed with data unread: both of its ends are told in full.
    let c = FakeSocket { cookie: 3, remote_port: 81, rqueue: 5, ..a.clone() };
    let was_reset = FakeSocket { rqueue: 0, ..c.peer(4) };
    let mut events = many_ago(900);
    events.push(a.aborted().ago(890));
    events.push(was_reset.destroyed().ago(885));
    events.push(c.destroyed().ago(870));
    events.push(a.peer(2).destroyed().ago(860));
    assert_eq!(pairs(&told_at_1700(&events)), ["1 2", "2 1", "3 4", "4 3"]);
}

#[test]
fn among_many_events_an_end_told_by_half_is_completed_a_tick_later_as_well() {
    let told = |ago_ms: i64| {
        let a = a().opened_at(1_400);
        let mut events = many_ago(ago_ms);
        events.push(a.aborted().ago(ago_ms));
        events.push(a.peer(2).destroyed().ago(ago_ms));
        let mut world = World::with_events();
        let listener = FakeSocket::listener(9, 80, 0, 128);
        world.shows(&[&listener]).shows(&[&listener]).tells(&events);
        world.shows(&[&listener]).shows(&[&listener]);
        world.record();
        let columns = [TUPLE, &["direction", "ending", "opened_after"]];
        let mut rows = lives(&world, &columns.concat());
        rows.retain(|row| row.starts_with("cookie=1 ") || row.starts_with("cookie=2 "));
        rows
    };
    let in_its_tick = told(400);
    assert!(in_its_tick[0].contains("addresses_inferred=1 "), "{in_its_tick:#?}");
    assert!(in_its_tick[0].contains("direction=outbound "), "{in_its_tick:#?}");
    assert_eq!(told(20), in_its_tick);
}

/// Who is freed by a RST is told of before the socket that sent it.
#[test]
fn the_order_of_events_does_not_tell_which_of_two_halves_is_meant() {
    let told = |mut events: Vec<FakeEvent>| {
        let a = a().opened_at(1_080);
        let c = FakeSocket { cookie: 3, remote_port: 81, ..a.clone() };
        for (socket, ago_ms) in [(&a, 890), (&c, 880)] {
            events.push(socket.aborted().ago(ago_ms));
            events.push(socket.peer(socket.cookie + 1).destroyed().ago(ago_ms - 5));
        }
        pairs(&told_at_1700(&events))
    };
    assert!(told(Vec::new()).is_empty());
    assert!(told(many_ago(900)).is_empty());
}

/// Its FIN was acknowledged: the event of the end that closed too may still come.
#[test]
fn who_may_have_ended_orderly_is_the_other_end_of_an_abort_if_no_other_comes() {
    let told = |peer: &FakeSocket, late: &[FakeEvent]| {
        let listener = FakeSocket::listener(9, 80, 0, 128);
        let mut world = World::with_events();
        world.shows(&[&listener]).shows(&[&listener]);
        world.tells(&[peer.destroyed(), a().opened_at(1_400).aborted()]).shows(&[&listener]);
        world.tells(late);
        for _ in 0..4 {
            world.shows(&[&listener]);
        }
        world.record();
        pairs(&world)
    };
    let peer = a().opened_at(1_400).peer(2);
    assert_eq!(told(&peer, &[]), ["1 2", "2 1"]);
    let peer = peer.fin_acked();
    assert_eq!(told(&peer, &[]), ["1 2", "2 1"]);
    let right = FakeSocket { cookie: 3, ..a().opened_at(1_400).fin_acked().fin_received() };
    let peer = peer.fin_received();
    assert_eq!(told(&peer, &[right.destroyed().ago(1_300)]), ["2 3", "3 2"]);
}

/// It was reset by data that met an end which had closed: that end has told, and others had its addresses and ports
/// since.
#[test]
fn who_was_reset_by_an_end_that_has_told_is_not_the_other_end_of_an_abort() {
    let listener = FakeSocket::listener(9, 80, 0, 128);
    let client = FakeSocket { bytes_received: 50, data_segs_in: 1, ..a().opened_at(1_420) };
    let server = client.peer(2).fin_received();
    let server = FakeSocket { bytes_sent: 57, bytes_acked: 50, ..server };
    let aborted = FakeSocket { cookie: 3, remote_port: 81, ..a().opened_at(1_410) };
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]);
    world.tells(&[aborted.aborted(), client.fin_acked().destroyed(), server.destroyed()]);
    for _ in 0..4 {
        world.shows(&[&listener]);
    }
    world.record();
    assert!(!pairs(&world).iter().any(|pair| pair.contains('3')), "{:?}", pairs(&world));
}

/// An end that is shut down answers data with a RST, and may be held: it tells in full, and later.
#[test]
fn whose_data_was_never_acknowledged_is_not_the_other_end_of_an_abort() {
    let listener = FakeSocket::listener(9, 80, 0, 128);
    let told = |wqueue, bytes_acked| {
        let written_to = FakeSocket { wqueue, bytes_acked, ..a().opened_at(1_400) };
        let aborted = FakeSocket { cookie: 2, ..written_to.peer(2) };
        let mut world = World::with_events();
        world.shows(&[&listener]).shows(&[&listener]);
        world.tells(&[aborted.aborted(), written_to.destroyed()]);
        world.shows(&[&listener]).shows(&[&listener]);
        world.record();
        pairs(&world)
    };
    let client = a();
    assert_eq!(told(0, client.bytes_sent + 1), ["1 2", "2 1"]);
    assert_eq!(told(1, client.bytes_sent + 1), ["1 2", "2 1"], "its FIN waits");
    assert!(told(40, client.bytes_sent - 39).is_empty());
    assert!(told(1, client.bytes_sent).is_empty());
}
