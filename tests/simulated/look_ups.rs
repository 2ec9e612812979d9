//! What is left of a connection is looked up as its destroy event is read, where its counters do not tell.

use sockrec::model::{States, TcpState};

use crate::events::{a, lives};
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::World;

const CLOSING: &[&str] = &["closed_after", "closed_before", "closed_evidence", "destroyed_at"];
const TWO_MS: i64 = 2_000_000;

/// It sent a FIN that was acknowledged, and received data and perhaps a FIN.
fn of_both_fins_or_one() -> FakeSocket {
    let a = a().to_afar().opened_at(1_400);
    FakeSocket { bytes_acked: a.bytes_sent + 2, bytes_received: 9, data_segs_in: 1, ..a }
}

fn told(event: FakeEvent, shown: &[&FakeSocket]) -> World {
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[event]).shows(shown).shows(shown).shows(shown);
    world.record();
    crate::harness::assert_recording_is_whole(&world.path());
    world
}

#[test]
fn a_connection_of_which_nothing_is_left_was_over_by_the_look_up() {
    let event = of_both_fins_or_one().destroyed().looked_up_after(Some(TWO_MS));
    let world = told(event, &[]);
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1379 closed_before=1702 closed_evidence=look_up destroyed_at=1700"]
    );
    let columns = ["ending", "ending_evidence", "duration_max_ns"];
    assert_eq!(
        lives(&world, &columns),
        ["ending=- ending_evidence=fin_acked duration_max_ns=702000000"]
    );
}

#[test]
fn a_connection_that_is_left_half_closed_is_not_over() {
    let a = of_both_fins_or_one();
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_690) }.in_state(TcpState::FIN_WAIT2);
    let event = a.destroyed().looked_up_after(Some(TWO_MS));
    let world = told(event.clone(), &[&rest]);
    let columns = ["state", "closed_before", "closed_evidence", "ending_evidence", "destroyed_at"];
    assert_eq!(
        lives(&world, &columns),
        [
            "state=FIN-WAIT-2 closed_before=- closed_evidence=recording_end ending_evidence=half_closed \
          destroyed_at=1700"
        ]
    );
}

#[test]
fn a_connection_in_time_wait_was_over_by_the_look_up_at_the_latest() {
    let a = of_both_fins_or_one();
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_650) };
    let world = told(a.destroyed().looked_up_after(Some(TWO_MS)), &[&rest]);
    let columns = ["cookie", "closed_before", "closed_evidence", "ending"];
    let rows = lives(&world, &columns);
    assert_eq!(rows, ["cookie=1 closed_before=1670 closed_evidence=time_wait ending=orderly"]);
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_690) };
    let world = told(a.destroyed().looked_up_after(Some(TWO_MS)), &[&rest]);
    let rows = lives(&world, &columns);
    assert_eq!(rows, ["cookie=1 closed_before=1702 closed_evidence=look_up ending=orderly"]);
}

/// Neither is in a dump here.
#[test]
fn what_a_fin_of_this_end_left_tells_who_opened_and_how_it_ended() {
    let a = of_both_fins_or_one().opened_at(1_680);
    let accepted = FakeSocket { bytes_acked: a.bytes_sent + 1, data_segs_out: 1, ..a.clone() };
    for (socket, direction) in [(&a, "outbound"), (&accepted, "inbound")] {
        for (state, ending) in [
            (TcpState::TIME_WAIT, "ending=orderly ending_evidence=time_wait"),
            (TcpState::FIN_WAIT2, "ending=- ending_evidence=half_closed"),
        ] {
            let rest = FakeSocket { cookie: 7, ..socket.time_wait_since(1_690) }.in_state(state);
            let states = States::only(TcpState::ESTABLISHED);
            let mut world = World { states, ..World::with_events() };
            world.shows(&[]).shows(&[]).tells(&[socket.destroyed()]).shows(&[&rest]);
            world.record();
            let rows = lives(&world, &["direction", "ending", "ending_evidence"]);
            assert_eq!(rows, [format!("direction={direction} {ending}")]);
        }
    }
}

/// It had been reset long before, and others may have used its addresses and ports since.
#[test]
fn what_is_left_tells_nothing_of_a_socket_that_was_held() {
    let reset = of_both_fins_or_one();
    let reset = FakeSocket { bytes_acked: reset.bytes_sent + 1, data_segs_out: 1, ..reset };
    let rest = FakeSocket { cookie: 7, ..reset.time_wait_since(1_690) };
    let states = States::only(TcpState::ESTABLISHED);
    let mut world = World { states, ..World::with_events() };
    world.shows(&[]).shows(&[]).tells(&[reset.destroyed()]).shows(&[&rest]);
    world.record();
    assert_eq!(lives(&world, &["direction", "ending_evidence"]), ["direction=- ending_evidence=-"]);
}

#[test]
fn a_connection_that_was_not_looked_up_is_over_once_two_dumps_lack_it() {
    let world = told(of_both_fins_or_one().destroyed().looked_up_after(None), &[]);
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1379 closed_before=4001 closed_evidence=absence destroyed_at=1700"]
    );
}

/// What is there may have been made since by others: not where they told nothing, which they must have before
/// they could leave it.
#[test]
fn what_is_half_closed_long_after_is_its_own_unless_others_tell_of_the_same_addresses() {
    let a = of_both_fins_or_one();
    let a = FakeSocket { bytes_acked: a.bytes_sent + 1, data_segs_out: 1, ..a.opened_at(1_000) };
    let next = FakeSocket { cookie: 2, ..a.opened_at(1_650) };
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_690) }.in_state(TcpState::FIN_WAIT2);
    let rows = |events: &[FakeEvent], is_any_lost: bool| {
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(events);
        if is_any_lost {
            world.loses_events(None);
        }
        world.shows(&[&rest]).shows(&[&rest]);
        world.record();
        lives(&world, &["cookie", "ending_evidence"])
    };
    let late = a.destroyed().unread_for(1_200);
    assert_eq!(rows(std::slice::from_ref(&late), false), ["cookie=1 ending_evidence=half_closed"]);
    for (events, is_any_lost) in
        [(vec![late.clone(), next.destroyed().unread_for(1_200)], false), (vec![late], true)]
    {
        let rows = rows(&events, is_any_lost);
        assert!(rows.contains(&"cookie=1 ending_evidence=-".to_owned()), "{rows:?}");
    }
}

#[test]
fn counters_that_tell_need_no_look_up() {
    let both = of_both_fins_or_one();
    let peer_only = FakeSocket { bytes_received: 1, data_segs_in: 0, ..both.clone() };
    let neither = FakeSocket { bytes_acked: both.bytes_sent, ..both };
    for (socket, ending) in [(peer_only, "both_fins"), (neither, "fin_not_acked")] {
        let world = told(socket.destroyed().looked_up_after(None), &[]);
        assert_eq!(
            lives(&world, &["closed_before", "closed_evidence", "ending_evidence"]),
            [format!("closed_before=1700 closed_evidence=destroy_event ending_evidence={ending}")]
        );
    }
}

/// It had shut down a while before, and nothing else tells whether a SYN or a FIN of it was acknowledged.
#[test]
fn a_half_closed_one_that_a_dump_shows_before_its_event_is_read_is_one() {
    let a = of_both_fins_or_one();
    let a = FakeSocket { bytes_acked: a.bytes_sent + 1, data_segs_out: 1, ..a };
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_990) }.in_state(TcpState::FIN_WAIT2);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&rest]);
    world.tells_while_dumping(&[a.destroyed().unread_for(5)]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "state", "closed_before"]),
        ["cookie=1 state=FIN-WAIT-2 closed_before=-"]
    );
}

/// The reader of events stood still.
#[test]
fn a_half_closed_one_whose_event_was_unread_for_long_is_one_with_what_a_dump_showed_before() {
    let a = of_both_fins_or_one();
    let a = FakeSocket { bytes_acked: a.bytes_sent + 1, data_segs_out: 1, ..a.opened_at(600) };
    let rest = FakeSocket { cookie: 7, ..a.time_wait_since(1_900) }.in_state(TcpState::FIN_WAIT2);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&rest]);
    world.tells(&[a.destroyed().ago(10).unread_for(1_100)]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(lives(&world, &["cookie", "closed_before"]), ["cookie=1 closed_before=-"]);
}

/// It was reset by the other end, and what is looked up then is that of the next connection.
#[test]
fn what_another_connection_left_tells_nothing_of_who_was_reset() {
    let reset = of_both_fins_or_one().opened_at(1_600);
    let reset = FakeSocket { bytes_acked: reset.bytes_sent + 1, data_segs_out: 1, ..reset };
    let next = FakeSocket { cookie: 2, ..reset.opened_at(1_690) };
    let rest = FakeSocket { cookie: 7, ..next.time_wait_since(1_695) };
    let (first, second) = (reset.destroyed(), next.destroyed());
    let told = |events: &[FakeEvent]| {
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(events).shows(&[&rest]);
        world.record();
        lives(&world, &["cookie", "direction", "ending"])
    };
    assert_eq!(
        told(&[first.clone(), second.clone()]),
        ["cookie=1 direction=- ending=-", "cookie=2 direction=- ending=orderly"]
    );
    // A program held the first.
    assert_eq!(told(&[second, first])[1], "cookie=1 direction=- ending=-");
}
