//! Events that are read late, are lost, or come in a later capture.

use sockrec::model::{States, TcpState};
use sockrec::query::Question;

use crate::events::{CLOSING, a, lives, told_at_1700};
use crate::harness::assert_recording_is_whole;
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{Jump, SECOND, START_UTC, World};

#[test]
fn the_late_event_of_a_reset_connection_tells_more_of_the_end_that_is_known() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]).shows(&[]).shows(&[]).shows(&[]);
    world.tells(&[a.sent(900).opened_at(1_500).destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1479 closed_before=3001 closed_evidence=absence destroyed_at=4700 \
          samples=1"]
    );
    assert_eq!(
        lives(&world, &["bytes_sent", "ending", "ending_evidence"]),
        ["bytes_sent=1000 ending=reset ending_evidence=fin_not_acked"]
    );
}

#[test]
fn a_keyframe_need_not_hold_what_two_dumps_lacked_though_its_event_comes_later() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[]).shows(&[]);
    world.jumps.insert(2, Jump { late_ns: 3_601 * SECOND, ..Jump::default() });
    world.tells(&[a.sent(900).opened_at(1_500).destroyed()]).shows(&[]);
    world.record();
    assert_eq!(world.sql("SELECT snapshot_id FROM snapshots WHERE is_keyframe"), ["1", "3"]);
    assert_eq!(
        world.sql("SELECT closed_before_snapshot_id, destroyed_snapshot_id FROM socket_ends"),
        ["3 4"]
    );
    assert_recording_is_whole(&world.path());
}

#[test]
fn a_late_event_may_come_in_a_later_capture() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[]).shows(&[]);
    world.record();
    world.goes_on_after(2 * SECOND);
    world.shows(&[]).tells(&[a.sent(900).opened_at(500).destroyed()]).shows(&[]);
    world.record();
    // By what it says the connection was active before the second capture began: not used.
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=0 closed_before=2001 closed_evidence=absence destroyed_at=5700 samples=1"]
    );
    assert_eq!(
        lives(&world, &["bytes_sent", "ending", "ending_evidence"]),
        ["bytes_sent=1000 ending=reset ending_evidence=fin_not_acked"]
    );
}

#[test]
fn the_event_of_a_socket_of_an_earlier_capture_ends_it() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[&a]);
    world.record();
    world.goes_on_after(2 * SECOND);
    world.tells(&[a.sent(900).opened_at(4_100).destroyed().ago(0)]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, CLOSING),
        ["closed_after=1000 closed_before=4000 closed_evidence=destroy_event destroyed_at=4000 \
          samples=1"]
    );
    assert_eq!(lives(&world, &["state", "bytes_sent"]), ["state=ESTAB bytes_sent=1000"]);
}

#[test]
fn a_socket_that_left_the_recorded_states_is_ended_by_its_late_event() {
    let a = a();
    let states = States::only(TcpState::ESTABLISHED);
    let left = |last: FakeEvent| {
        let mut world = World { states, ..World::with_events() };
        world.shows(&[&a]).shows(&[]).shows(&[]).tells(&[last]).shows(&[]);
        world.record();
        lives(&world, CLOSING)
    };
    assert_eq!(
        left(a.fin_acked().fin_received().destroyed()),
        ["closed_after=0 closed_before=2700 closed_evidence=destroy_event destroyed_at=2700 \
          samples=1"]
    );
    // Half-closed: the other end had not even sent its FIN.
    assert_eq!(
        left(a.fin_acked().destroyed().looked_up_after(None)),
        ["closed_after=0 closed_before=- closed_evidence=left_scope destroyed_at=2700 samples=1"]
    );
}

#[test]
fn how_long_an_event_was_unread_widens_what_it_says() {
    let event = a().opened_at(1_400).destroyed().unread_for(200);
    let world = told_at_1700(&[event]);
    assert_eq!(
        lives(&world, &["opened_after", "opened_before", "closed_after", "closed_before"]),
        ["opened_after=1000 opened_before=1650 closed_after=1379 closed_before=1700"]
    );
}

#[test]
fn lost_events_are_told_of_with_those_who_lived_then() {
    let (early, late) = (a(), FakeSocket::established(2, 1_002, 80));
    // Reset, it is in no dump, and its event comes when its descriptor is closed.
    let held = FakeSocket::established(3, 1_003, 80);
    let mut world = World::with_events();
    world.shows(&[&early, &held]).tells(&[early.destroyed()]).shows(&[]).shows(&[]).shows(&[]);
    world.loses_events(Some(7)).shows(&[&late]).loses_events(None).shows(&[&late]).shows(&[&late]);
    let (summary, _) = world.record();
    assert_eq!(summary.progress.event_losses, 2);
    assert_eq!(
        lives(&world, &["cookie", "gaps"]),
        ["cookie=1 gaps=-", "cookie=3 gaps=events_lost", "cookie=2 gaps=events_lost"]
    );
    let gaps = world.answer(Question::Gaps, &["from", "to", "kind", "count"]);
    let at = |ms: i64| START_UTC + ms * 1_000_000;
    assert_eq!(
        gaps,
        [
            format!("from={} to={} kind=events_lost count=7", at(3_001), at(4_000)),
            format!("from={} to={} kind=events_lost count=-", at(4_001), at(5_000)),
        ]
    );
}

#[test]
fn losses_are_told_of_whatever_was_done_to_the_clock() {
    let a = a().opened_at(500);
    for utc_ns in [3_600 * SECOND, -3_600 * SECOND] {
        let mut world = World::with_events();
        world.shows(&[]).shows(&[&a]).jumps(Jump { utc_ns, ..Jump::default() });
        world.loses_events(None).shows(&[&a]).shows(&[]).shows(&[]).shows(&[]);
        world.jumps(Jump { utc_ns: -utc_ns, ..Jump::default() }).loses_events(None);
        world.shows(&[]).shows(&[]).shows(&[&FakeSocket { cookie: 2, ..a.opened_at(7_500) }]);
        world.record();
        assert_eq!(
            lives(&world, &["cookie", "gaps"]),
            ["cookie=1 gaps=events_lost", "cookie=2 gaps=-"]
        );
    }
}

#[test]
fn a_suspend_between_activity_and_event_widens_when_the_connection_ended() {
    let a = a().opened_at(-400);
    let mut world = World::with_events();
    world.shows(&[&a]).jumps(Jump { suspended_ns: 60 * SECOND, ..Jump::default() });
    // By the kernel's ticks, which stood still, it was active 600 ms before.
    world.tells(&[a.opened_at(100).destroyed()]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["closed_after", "closed_before", "destroyed_at"]),
        ["closed_after=79 closed_before=60700 destroyed_at=60700"]
    );
    assert_eq!(lives(&world, &["duration_min_ns"]), [format!("duration_min_ns={}", 429_000_000)]);
}

#[test]
fn the_clock_may_be_set_back_before_an_event() {
    let a = a().opened_at(500);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&a]).jumps(Jump { utc_ns: -3_600 * SECOND, ..Jump::default() });
    world.tells(&[a.sent(900).opened_at(1_600).destroyed()]).shows(&[]);
    world.record();
    // 1,579 ms and 1,700 ms after the start by steady time.
    assert_eq!(
        lives(&world, &["closed_after", "closed_before"]),
        ["closed_after=-3598421 closed_before=-3598300"]
    );
    assert_eq!(
        lives(&world, &["duration_min_ns", "duration_max_ns"]),
        [format!("duration_min_ns={} duration_max_ns={}", 1_029_000_000, 1_700_000_000)]
    );
}
