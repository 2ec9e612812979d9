//! The mini-socket in TIME-WAIT that a connection leaves is one with it.

use crate::events::{CLOSING, a, lives};
use crate::socket::FakeSocket;
use crate::world::{SECOND, World, failed};

const TIME_WAIT: &[&str] =
    &["cookie", "state", "closed_evidence", "ending_evidence", "time_wait_min_ns", "samples"];

#[test]
fn a_time_wait_goes_on_as_its_connection_by_its_cookie() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).tells(&[a.fin_acked().destroyed()]);
    world.shows(&[&a.time_wait()]).shows(&[&a.time_wait()]).shows(&[]).shows(&[]);
    world.record();
    let time_wait_ns = SECOND - 1_000_000;
    assert_eq!(
        lives(&world, TIME_WAIT),
        [format!(
            "cookie=1 state=ESTAB closed_evidence=destroy_event ending_evidence=time_wait \
             time_wait_min_ns={time_wait_ns} samples=2"
        )]
    );
    assert_eq!(world.sql("SELECT cookie FROM remains"), ["-"]);
}

#[test]
fn a_time_wait_with_a_cookie_of_its_own_goes_on_as_the_connection_of_its_addresses() {
    let a = a().opened_at(1_400);
    let rest = FakeSocket { cookie: 2, ..a.time_wait() };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.fin_acked().destroyed()]);
    world.shows(&[&rest]).shows(&[&rest]).shows(&[]).shows(&[]);
    world.record();
    let time_wait_ns = SECOND - 1_000_000;
    assert_eq!(
        lives(&world, TIME_WAIT),
        [format!(
            "cookie=1 state=- closed_evidence=destroy_event ending_evidence=time_wait \
             time_wait_min_ns={time_wait_ns} samples=1"
        )]
    );
    assert_eq!(world.sql("SELECT cookie FROM remains"), ["2"]);
}

#[test]
fn a_time_wait_with_a_cookie_of_its_own_goes_on_in_the_next_capture() {
    let a = a().opened_at(1_400);
    let rest = FakeSocket { cookie: 2, ..a.time_wait() };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.fin_acked().destroyed()]).shows(&[&rest]);
    world.record();
    world.goes_on_after(SECOND).shows(&[&rest]).shows(&[&rest]).shows(&[]).shows(&[]);
    world.record();
    let time_wait_ns = 3 * SECOND - 1_000_000;
    assert_eq!(
        lives(&world, TIME_WAIT),
        [format!(
            "cookie=1 state=- closed_evidence=destroy_event ending_evidence=time_wait \
             time_wait_min_ns={time_wait_ns} samples=2"
        )]
    );
}

#[test]
fn a_time_wait_seen_before_its_event_is_read_is_one_with_it() {
    let a = a().opened_at(1_400);
    let rest = FakeSocket { cookie: 2, ..a.time_wait() };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells_while_dumping(&[a.fin_acked().destroyed()]);
    world.shows(&[&rest]).shows(&[&rest]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(
            &world,
            &["cookie", "ending_evidence", "bytes_sent", "opened_after", "closed_before"]
        ),
        ["cookie=1 ending_evidence=time_wait bytes_sent=100 opened_after=1000 closed_before=2001"]
    );
}

#[test]
fn the_timer_of_a_time_wait_tells_when_its_connection_was_over() {
    let a = a();
    let mut world = World::default();
    let rest = a.time_wait_since(1_200);
    world.shows(&[&a]).shows(&[&a]).ends(&[], failed).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1000 closed_before=1220 closed_evidence=time_wait destroyed_at=- samples=2"]
    );
    assert_eq!(lives(&world, &["duration_max_ns"]), ["duration_max_ns=-"]);
    // It came to it after the snapshot had begun.
    let mut world = World::default();
    world.shows(&[]).shows(&[&a]).shows(&[&a.time_wait_since(1_990)]);
    world.record();
    assert_eq!(lives(&world, &["closed_before"]), ["closed_before=2001"]);
}

#[test]
fn what_is_in_time_wait_when_recording_begins_was_opened_and_closed_before() {
    let mut world = World::default();
    let rest = a().time_wait_since(-20_000);
    world.shows(&[&rest]).shows(&[&rest]);
    world.record();
    let columns = ["opened_after", "opened_before", "closed_after", "closed_before"];
    assert_eq!(
        lives(&world, &columns),
        ["opened_after=- opened_before=-19980 closed_after=- closed_before=-19980"]
    );
    assert_eq!(
        lives(&world, &["duration_min_ns", "duration_max_ns"]),
        ["duration_min_ns=- duration_max_ns=-"]
    );
}

#[test]
fn what_a_connection_left_is_seen_first_by_the_next_capture() {
    for is_known in [false, true] {
        let mut world = World::with_events();
        let a = a().opened_at(-500);
        let shown: &[&FakeSocket] = if is_known { &[&a] } else { &[] };
        let freed = a.fin_acked().fin_received().destroyed();
        world.shows(shown).tells_while_dumping(&[freed]).shows(shown);
        world.record();
        world.goes_on_after(SECOND);
        let cookie = if is_known { a.cookie } else { 9 };
        let rest = FakeSocket { cookie, ..a.time_wait_since(1_001) };
        world.shows(&[&rest]).shows(&[&rest]);
        world.record();
        assert_eq!(
            lives(&world, &["socket_id", "cookie", "ending", "ending_evidence"]),
            ["socket_id=1 cookie=1 ending=orderly ending_evidence=time_wait"],
            "{is_known}"
        );
    }
}

/// The other end did not get our last acknowledgement and sent its FIN again.
#[test]
fn a_time_wait_whose_timer_was_started_anew_is_one_with_its_connection() {
    let a = a().to_afar().opened_at(1_400);
    let bytes_acked = a.bytes_sent + 2;
    let a = FakeSocket { bytes_acked, bytes_received: 1, data_segs_in: 0, ..a };
    let columns = ["cookie", "closed_before", "closed_evidence", "ending_evidence"];
    for again_ms in [1_900, 2_350] {
        let rest = FakeSocket { cookie: 7, ..a.time_wait_since(again_ms) };
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&[a.destroyed()]);
        if again_ms < 2_000 {
            world.shows(&[&rest]);
        } else {
            world.shows(&[]); // that dump missed it
        }
        world.shows(&[&rest]).shows(&[&rest]);
        world.record();
        assert_eq!(
            lives(&world, &columns),
            ["cookie=1 closed_before=1700 closed_evidence=destroy_event ending_evidence=both_fins"]
        );
        assert_eq!(world.sql("SELECT count(*) FROM remains"), ["1"]);
    }
    // It is started again and again.
    let again = |ms: i64| FakeSocket { cookie: 7, ..a.time_wait_since(ms) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]);
    world.shows(&[&again(1_900)]).shows(&[&again(2_700)]).shows(&[&again(2_700)]);
    world.record();
    assert_eq!(lives(&world, &["cookie"]), ["cookie=1"]);
    // One that was made since tells of itself, if a while later.
    let next = FakeSocket { cookie: 2, ..a.opened_at(1_800) };
    let rest = FakeSocket { cookie: 7, ..next.time_wait_since(1_900) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]).shows(&[&rest]);
    world.tells(&[next.destroyed().ago(900)]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "ending_evidence"]),
        ["cookie=1 ending_evidence=both_fins", "cookie=2 ending_evidence=time_wait"]
    );
    assert_eq!(world.sql("SELECT cookie FROM remains"), ["7"]);
}

/// Two dumps show it, but the events of that time are unread: one of them may tell whose it is.
#[test]
fn a_time_wait_is_not_left_of_an_earlier_one_before_the_events_since_it_began_are_read() {
    let a = a().to_afar().opened_at(1_400);
    let bytes_acked = a.bytes_sent + 2;
    let a = FakeSocket { bytes_acked, bytes_received: 1, data_segs_in: 0, ..a };
    let next = FakeSocket { cookie: 2, ..a.opened_at(3_200) };
    let rest = FakeSocket { cookie: 7, ..next.time_wait_since(3_200) };
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.destroyed()]).shows(&[]);
    world.shows(&[]).reads_no_events_for(900).shows(&[&rest]);
    world.reads_no_events_for(1_900).shows(&[&rest]);
    world.tells(&[next.destroyed().ago(10).unread_for(2_490)]).shows(&[&rest]).shows(&[&rest]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "ending_evidence"]),
        ["cookie=1 ending_evidence=both_fins", "cookie=2 ending_evidence=time_wait"]
    );
    assert_eq!(world.sql("SELECT cookie FROM remains"), ["7"]);
}
