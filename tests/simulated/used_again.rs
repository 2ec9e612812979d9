//! Addresses and ports, and sockets, that others use next.

use sockrec::model::{Family, TcpState};

use crate::events::{a, lives, told_at_1700};
use crate::half_told::{many_ago, pairs};
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{Jump, SECOND, World};

const WHO: &[&str] = &["cookie", "generation", "remote_port", "ending_evidence"];

/// Dumps lacked it, and then show what is left of the connection that its socket made next.
#[test]
fn a_time_wait_with_other_addresses_is_left_of_the_next_connection_of_its_socket() {
    let a = a();
    let next = FakeSocket { remote_port: 81, ..a.clone() }.time_wait_since(2_900);
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[]).shows(&[]).shows(&[&next]).shows(&[&next]);
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=1 generation=0 remote_port=80 ending_evidence=-",
            "cookie=1 generation=1 remote_port=81 ending_evidence=time_wait",
        ]
    );
    crate::harness::assert_recording_is_whole(&world.path());
}

/// The machine slept between the snapshot before and the event: the clock of timers did not go on.
#[test]
fn a_time_wait_that_began_after_the_last_capture_is_left_of_nobody_that_it_saw() {
    let first = a().to_afar().opened_at(1_400);
    let bytes_acked = first.bytes_sent + 2;
    let first = FakeSocket { bytes_acked, bytes_received: 1, data_segs_in: 0, ..first };
    let second = FakeSocket { cookie: 7, ..first.time_wait_since(6_000) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[first.destroyed()]);
    world.jumps(Jump { suspended_ns: 30 * SECOND, ..Jump::default() }).shows(&[]);
    world.record();
    world.goes_on_after(5 * SECOND).listens_to_events = false;
    world.shows(&[&second]).shows(&[&second]);
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=1 generation=0 remote_port=80 ending_evidence=both_fins",
            "cookie=7 generation=0 remote_port=80 ending_evidence=time_wait",
        ]
    );
}

/// Its event does not tell whether the other end had closed, and nobody was asked what was left of it.
#[test]
fn a_time_wait_that_began_after_dumps_had_lacked_any_is_left_of_another_connection() {
    let first = a().to_afar().opened_at(1_400);
    let bytes_acked = first.bytes_sent + 2;
    let first = FakeSocket { bytes_acked, bytes_received: 2, data_segs_in: 1, ..first };
    let second = FakeSocket { cookie: 7, ..first.time_wait_since(4_500) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[first.destroyed().looked_up_after(None)]);
    world.shows(&[]).shows(&[]).shows(&[]);
    world.record();
    world.goes_on_after(SECOND / 10).listens_to_events = false;
    world.shows(&[&second]).shows(&[&second]);
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=1 generation=0 remote_port=80 ending_evidence=fin_acked",
            "cookie=7 generation=0 remote_port=80 ending_evidence=time_wait",
        ]
    );
}

/// The ends of two connections with the same addresses and ports, of each the end that is told of: whether they
/// are told as the ends of one.
fn are_one(client: &FakeSocket, server: &FakeSocket) -> bool {
    let listener = FakeSocket::listener(9, 80, 0, 128);
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]).tells(&[client.destroyed(), server.destroyed()]);
    world.shows(&[&listener]).shows(&[&listener]);
    world.record();
    !pairs(&world).is_empty()
}

#[test]
fn who_has_not_received_what_was_acknowledged_is_not_the_other_end() {
    let client = a().opened_at(1_400);
    let server = client.peer(2).fin_acked();
    let client = client.fin_received();
    assert!(are_one(&client, &server));
    assert!(!are_one(&client, &FakeSocket { bytes_received: 60, ..server.clone() }));
    // It had closed before more came, or left it unread.
    let client = FakeSocket { bytes_acked: 61, ..client };
    assert!(are_one(&client, &FakeSocket { bytes_received: 60, ..server }));
}

#[test]
fn whose_fin_did_not_come_although_it_was_acknowledged_is_not_the_other_end() {
    let client = a().opened_at(1_400);
    let server = client.peer(2).fin_acked();
    // Reset, it kept its socket to its end, and would have counted the FIN.
    assert!(are_one(&client.fin_received(), &server));
    assert!(!are_one(&client, &server));
}

#[test]
fn of_two_that_closed_before_the_other_neither_is_the_other_end() {
    let client = a().opened_at(1_400).fin_acked();
    let server = client.peer(2).fin_acked();
    let second = FakeSocket { bytes_received: server.bytes_received + 1, ..server.clone() };
    assert!(are_one(&client, &second));
    assert!(!are_one(&client, &server));
}

/// Both connections send the same, and the order in which their events come tells little: others may be held.
#[test]
fn nobody_is_paired_by_the_order_in_which_events_come() {
    let told = |many: Vec<FakeEvent>, unread_ms, order: [u64; 4]| {
        let client = a().opened_at(1_400).fin_acked().fin_received();
        let server = client.peer(0).fin_received().fin_acked();
        let server = FakeSocket { bytes_received: client.bytes_sent + 1, ..server };
        let mut events = many;
        events.iter_mut().for_each(|event| *event = event.unread_for(unread_ms));
        events.extend(order.map(|cookie| {
            let end = if cookie % 2 == 1 { &client } else { &server };
            FakeSocket { cookie, ..end.clone() }.destroyed().ago(10).unread_for(unread_ms)
        }));
        pairs(&told_at_1700(&events))
    };
    assert!(told(Vec::new(), 330, [1, 2, 3, 4]).is_empty());
    assert!(told(Vec::new(), 0, [1, 2, 3, 4]).is_empty());
    assert!(told(many_ago(20), 330, [1, 4, 3, 2]).is_empty());
}

/// Of two connections within some milliseconds three ends have told; the first is held.
#[test]
fn nobody_is_paired_whom_more_than_one_may_be_the_other_end_of() {
    let client = a().opened_at(1_400).fin_acked().fin_received();
    let server = client.peer(4).fin_acked();
    let server = FakeSocket { bytes_received: client.bytes_sent + 1, ..server };
    let first = client.destroyed().ago(60);
    let second = FakeSocket { cookie: 3, ..client.clone() }.destroyed().ago(40);
    let alone = told_at_1700(&[first.clone(), server.destroyed().ago(50)]);
    assert_eq!(pairs(&alone), ["1 4", "4 1"]);
    let events = [first, server.destroyed().ago(50), second];
    assert!(pairs(&told_at_1700(&events)).is_empty());
}

/// It may have been aborted, and the one that seems to be its other end be that of another connection, which is held.
#[test]
fn where_others_had_the_tuple_nobody_is_paired_whose_other_end_may_be_told_by_half() {
    let client = a().opened_at(1_400).fin_acked().fin_received();
    let server = client.peer(2).fin_acked();
    let server = FakeSocket { bytes_received: client.bytes_sent + 1, ..server };
    let aborted = FakeSocket { remote_port: 1_009, ..client.peer(7) }.aborted().ago(50);
    let told = |others: &[FakeEvent]| {
        let ends = [client.destroyed().ago(50), server.destroyed().ago(50)];
        let mut events = others.to_vec();
        events.extend(ends);
        pairs(&told_at_1700(&events)).into_iter().filter(|pair| pair.contains('1')).count()
    };
    let before = FakeSocket { cookie: 5, ..client.sent(200) }.destroyed().ago(60);
    assert_eq!(told(std::slice::from_ref(&aborted)), 2);
    assert_eq!(told(std::slice::from_ref(&before)), 2);
    assert_eq!(told(&[before, aborted]), 0);
}

/// Where events were lost the TIME-WAIT may be of the next connection, of which nothing else tells.
#[test]
fn where_events_were_lost_a_time_wait_tells_nothing_of_who_may_have_been_reset() {
    let told = |is_lossy: bool| {
        let client = a().opened_at(1_640);
        let time_wait = FakeSocket { cookie: 7, ..client.time_wait_since(1_650) };
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).shows(&[&time_wait]);
        if is_lossy {
            world.loses_events(None);
        }
        world.tells(&[client.destroyed().ago(20).unread_for(330)]).shows(&[&time_wait]);
        world.record();
        let mut rows = lives(&world, &["cookie", "ending"]);
        rows.sort();
        rows
    };
    assert_eq!(told(false), ["cookie=1 ending=orderly"]);
    assert_eq!(told(true), ["cookie=1 ending=-", "cookie=7 ending=orderly"]);
}

/// A connection that ended before is read late, and the next one at once.
#[test]
fn who_was_read_late_is_not_the_other_end_of_who_comes_next() {
    let client = a().opened_at(1_400).fin_acked().fin_received();
    let server = FakeSocket { bytes_received: client.bytes_sent + 1, ..client.peer(0).fin_acked() };
    let of = |end: &FakeSocket, cookie| FakeSocket { cookie, ..end.clone() };
    let mut events: Vec<_> = many_ago(20).iter().map(|event| event.unread_for(1_000)).collect();
    events.push(of(&client, 1).destroyed().ago(20).unread_for(1_000));
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&events).shows(&[]);
    world.tells(&[
        of(&client.opened_at(2_300), 3).destroyed(),
        of(&server.opened_at(2_300), 4).destroyed(),
    ]);
    world.shows(&[]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(pairs(&world), ["3 4", "4 3"]);
}

/// Its own mini-socket is known by its cookie; another with its addresses and ports has one of its own.
#[test]
fn a_connection_leaves_but_one_time_wait() {
    for cookies in [[1, 9], [9, 1]] {
        let a = a().opened_at(1_600).fin_acked().fin_received();
        let [first, second] =
            cookies.map(|cookie| FakeSocket { cookie, ..a.time_wait_since(1_620) });
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&[a.destroyed().ago(20)]).shows(&[&first]);
        world.shows(&[&second]).shows(&[&second]).shows(&[]).shows(&[]);
        world.record();
        crate::harness::assert_recording_is_whole(&world.path());
    }
}

/// A dump showed the TIME-WAIT of one whose socket is held, and the next connection with its addresses and ports is the
/// first that tells of its end.
#[test]
fn a_time_wait_that_a_dump_had_shown_is_not_left_of_who_was_active_later() {
    let held = a().opened_at(1_900).fin_acked().fin_received();
    let time_wait = FakeSocket { cookie: 7, ..held.time_wait_since(1_950) };
    let next = FakeSocket { cookie: 3, ..held.opened_at(2_050) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&time_wait]).tells(&[next.destroyed().ago(640)]);
    world.shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=7 generation=0 remote_port=80 ending_evidence=time_wait",
            "cookie=3 generation=0 remote_port=80 ending_evidence=both_fins",
        ]
    );
}

/// It went on half-closed until the other end was reset, which is held and tells nothing.
#[test]
fn a_time_wait_that_began_later_is_not_left_of_who_may_have_been_reset() {
    let first = a().opened_at(1_400).fin_acked();
    let first = FakeSocket { bytes_received: 50, data_segs_in: 1, ..first };
    let time_wait = FakeSocket { cookie: 7, ..first.time_wait_since(1_800) };
    let mut world = World::with_events();
    world.families.push(Family::Inet6);
    let before = FakeSocket { cookie: 3, ..first.opened_at(1_100) };
    world.shows(&[]).shows(&[]).tells(&[before.destroyed().ago(600), first.destroyed()]);
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=3 generation=0 remote_port=80 ending_evidence=fin_acked",
            "cookie=1 generation=0 remote_port=80 ending_evidence=fin_acked",
            "cookie=7 generation=0 remote_port=80 ending_evidence=time_wait",
        ]
    );
}

/// By its cookie it is that of the second, whose event comes later: the socket was held.
#[test]
fn a_time_wait_that_was_taken_for_that_of_the_connection_before_stays_so_after_a_restart() {
    let first = a().opened_at(1_640).fin_acked().fin_received();
    let second = FakeSocket { cookie: 7, ..first.opened_at(1_650) };
    let time_wait = second.time_wait_since(1_660);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[first.destroyed().ago(350)]).shows(&[&time_wait]);
    world.tells(&[second.destroyed()]).shows(&[&time_wait]);
    world.record();
    world.goes_on_after(SECOND / 10);
    for _ in 0..4 {
        world.shows(&[&time_wait]);
    }
    world.record();
    assert_eq!(
        lives(&world, WHO),
        [
            "cookie=1 generation=0 remote_port=80 ending_evidence=time_wait",
            "cookie=7 generation=0 remote_port=80 ending_evidence=both_fins",
        ]
    );
    crate::harness::assert_recording_is_whole(&world.path());
}

/// A socket that was bound, and is held, as dumps show it, and the event of one that had its addresses and ports next.
#[test]
fn who_is_closed_and_held_is_not_told_of_by_the_event_of_another() {
    let held = a().opened_at(1_400).in_state(TcpState::CLOSE);
    let next = FakeSocket { cookie: 3, ..a().opened_at(3_000).fin_acked().fin_received() };
    let server = FakeSocket { bytes_received: 101, ..next.peer(4).fin_acked() };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&held]).shows(&[&held]);
    world.tells(&[server.destroyed().ago(700), next.destroyed().ago(700)]).shows(&[&held]);
    world.shows(&[&held]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "peer_socket_id", "closed_evidence"]),
        [
            "cookie=1 peer_socket_id=- closed_evidence=closed",
            "cookie=4 peer_socket_id=3 closed_evidence=destroy_event",
            "cookie=3 peer_socket_id=2 closed_evidence=destroy_event",
        ]
    );
}

/// One that has closed after its other end, which is held, and then another with its addresses and ports of which one end
/// has closed.
#[test]
fn who_is_half_closed_is_not_one_whose_other_end_was_over_before() {
    let client = FakeSocket { bytes_received: 2, data_segs_in: 1, ..a().opened_at(1_400) };
    let client = FakeSocket { bytes_acked: client.bytes_sent + 2, ..client };
    let server = FakeSocket { bytes_sent: 1, bytes_acked: 2, ..client.peer(2) };
    let server = FakeSocket { bytes_received: client.bytes_sent + 1, ..server };
    let of_server = FakeSocket { cookie: 7, ..server.time_wait_since(1_400) };
    let next = FakeSocket { cookie: 3, ..client.opened_at(3_880) };
    let half = next.time_wait_since(3_900);
    let half = FakeSocket { cookie: 8, state: TcpState::FIN_WAIT2, ..half };
    let next_server = client.opened_at(3_880).peer(4).in_state(TcpState::CLOSE_WAIT);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[client.destroyed().looked_up_after(None)]);
    world.shows(&[&of_server]);
    world.shows(&[&of_server]).tells(&[server.destroyed().ago(110)]).shows(&[&half, &next_server]);
    world.shows(&[&half, &next_server]);
    world.record();
    let columns = ["cookie", "peer_socket_id", "closed_before", "closed_evidence"];
    assert_eq!(
        lives(&world, &columns),
        [
            "cookie=1 peer_socket_id=2 closed_before=2001 closed_evidence=peer_dump",
            "cookie=2 peer_socket_id=1 closed_before=1420 closed_evidence=time_wait",
            "cookie=8 peer_socket_id=4 closed_before=- closed_evidence=recording_end",
            "cookie=4 peer_socket_id=3 closed_before=- closed_evidence=recording_end",
        ]
    );
}

/// One that was reset and held for long. Its event does not tell that it was not orderly, and the look-up finds what
/// another has left that has had its addresses and ports meanwhile.
#[test]
fn a_time_wait_that_began_while_a_socket_was_silent_and_held_is_left_of_another() {
    let held = a().to_afar().opened_at(300);
    let held = FakeSocket { bytes_sent: 0, bytes_acked: 1, bytes_received: 0, ..held };
    let held = FakeSocket { data_segs_out: 0, data_segs_in: 0, ..held };
    let rest = FakeSocket { cookie: 7, ..held.time_wait_since(600) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&rest]).shows(&[&rest]).shows(&[&rest]);
    world.tells(&[held.destroyed()]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "ending", "destroyed_at"]),
        ["cookie=7 ending=orderly destroyed_at=-", "cookie=1 ending=- destroyed_at=3700"]
    );
}

/// Of the next connection nothing was read yet.
#[test]
fn a_fin_wait_2_that_began_after_a_socket_was_freed_is_left_of_another() {
    let first = FakeSocket { bytes_received: 2, data_segs_in: 1, ..a().to_afar().opened_at(1_400) };
    let first = FakeSocket { bytes_acked: first.bytes_sent + 2, ..first };
    let half = first.time_wait_since(2_980);
    let half = FakeSocket { cookie: 8, state: TcpState::FIN_WAIT2, ..half };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[first.destroyed().looked_up_after(None)]).shows(&[]);
    world.shows(&[&half]).shows(&[&half]);
    world.record();
    assert_eq!(lives(&world, &["cookie"]), ["cookie=1", "cookie=8"]);
}

/// An ephemeral port is used again after a second, and what others left of theirs has gone by then.
#[test]
fn a_time_wait_is_left_of_who_was_read_late_though_others_had_its_tuple_a_second_ago() {
    let first = a().opened_at(2_600).fin_acked().fin_received();
    let time_wait = FakeSocket { cookie: 7, ..first.time_wait_since(2_610) };
    let before = FakeSocket { cookie: 3, ..first.opened_at(1_100) };
    let mut world = World::with_events();
    world.families.push(Family::Inet6);
    world.shows(&[]).tells(&[before.destroyed().ago(890)]).shows(&[]);
    world.tells(&[first.destroyed().ago(10).unread_for(330)]);
    world.shows(&[&time_wait]).shows(&[&time_wait]);
    world.record();
    assert_eq!(lives(&world, &["cookie"]), ["cookie=3", "cookie=1"]);
}

/// Of the one before a dump had shown nothing any more as the capture ended, and it is never seen again.
#[test]
fn who_is_not_seen_again_after_a_restart_keeps_nobody_from_the_other_end() {
    let before = a();
    let next = FakeSocket { cookie: 3, ..a().opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&before]).shows(&[&next]);
    world.record();
    world.goes_on_after(SECOND / 10);
    let server = next.peer(4);
    for _ in 0..3 {
        world.shows(&[&next, &server]);
    }
    world.record();
    crate::harness::assert_recording_is_whole(&world.path());
    let mut paired = pairs(&world);
    paired.retain(|pair| pair.contains('3'));
    assert_eq!(paired.len(), 2, "{:?}", pairs(&world));
}
