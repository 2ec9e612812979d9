//! Captures that record a part of the sockets: what lies beyond it they prove nothing about.

use sockrec::model::TcpState;
use sockrec::query::Question;

use crate::lives;
use crate::socket::FakeSocket;
use crate::world::{SECOND, World};

const OPENING: &[&str] = &["cookie", "opened_after", "closed_evidence"];

fn to_port(cookie: u64, remote_port: u16) -> FakeSocket {
    FakeSocket::established(cookie, 1_000 + u16::try_from(cookie).unwrap(), remote_port)
}

fn filtered(filter: &'static str) -> World {
    World { filter: Some(filter), ..World::with_events() }
}

#[test]
fn only_what_the_filter_holds_for_is_recorded() {
    let (a, b) = (to_port(1, 80), to_port(2, 443));
    let mut world = filtered("dport = :443");
    world.shows(&[&a, &b]).shows(&[&a, &b]);
    world.record();
    assert_eq!(lives(&world), ["cookie=2 state=ESTAB closed_evidence=recording_end samples=1"]);
    assert_eq!(world.sql("SELECT DISTINCT filter FROM scopes"), ["dport = :443"]);
}

#[test]
fn what_is_not_known_to_match_is_left_out_as_the_kernel_does() {
    let world = |filter| {
        let mut world = filtered(filter);
        world.shows(&[&to_port(1, 80)]);
        world.record();
        lives(&world).len()
    };
    // The dumps of this world tell no mark.
    assert_eq!(world("fwmark = 1"), 0);
    assert_eq!(world("fwmark != 1"), 0);
    assert_eq!(world("fwmark = 1 or dport = :80"), 1);
}

#[test]
fn by_addresses_and_ports_absence_is_the_end() {
    let a = to_port(1, 443);
    let mut world = filtered("dport = :443 and not dst 10.0.0.0/8");
    world.shows(&[&a]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=ESTAB closed_evidence=absence samples=1"]);
}

#[test]
fn a_socket_that_leaves_the_filter_has_not_closed() {
    let a = to_port(1, 443);
    let mut world = filtered("state established and dport = :443");
    world.shows(&[&a]);
    for _ in 0..3 {
        world.shows(&[&a.in_state(TcpState::CLOSE_WAIT)]);
    }
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=ESTAB closed_evidence=left_scope samples=1"]);
    let ended = world.answer(Question::Connections, &["closed_before", "duration_max_ns"]);
    assert_eq!(ended, ["closed_before=- duration_max_ns=-"]);
}

#[test]
fn a_socket_that_enters_the_filter_was_not_opened_then() {
    let a = to_port(1, 443);
    let mut world = filtered("state close-wait");
    world.shows(&[&a]).shows(&[&a]).shows(&[&a.in_state(TcpState::CLOSE_WAIT)]);
    world.record();
    assert_eq!(
        world.answer(Question::Connections, OPENING),
        ["cookie=1 opened_after=- closed_evidence=recording_end"]
    );
}

#[test]
fn events_pass_through_the_filter() {
    let (a, b, c) = (to_port(1, 80), to_port(2, 443), to_port(3, 443));
    let mut world = filtered("dport = :443");
    world.shows(&[&a, &c]).shows(&[&a, &c]);
    world.tells(&[a.destroyed(), b.opened_at(1_400).destroyed(), c.destroyed()]).shows(&[]);
    world.record();
    let shown = world.answer(Question::Connections, &["cookie", "closed_evidence", "samples"]);
    assert_eq!(
        shown,
        [
            "cookie=3 closed_evidence=destroy_event samples=1",
            "cookie=2 closed_evidence=destroy_event samples=0"
        ]
    );
}

#[test]
fn a_half_wiped_event_is_recorded_unless_it_is_known_not_to_match() {
    let aborted = || [to_port(1, 80).opened_at(1_400).aborted()];
    let recorded = |filter| {
        let mut world = filtered(filter);
        world.shows(&[]).shows(&[]).tells(&aborted()).shows(&[]);
        world.record();
        world.answer(Question::Connections, &["local_port", "remote_port"])
    };
    assert_eq!(recorded("dport = :443"), ["local_port=1001 remote_port=-"]);
    assert_eq!(recorded("sport = :1001"), ["local_port=1001 remote_port=-"]);
    assert!(recorded("sport = :1002").is_empty());
    assert!(recorded("dport = :443 and dst 10.0.0.0/8").is_empty());
}

#[test]
fn what_only_its_event_tells_of_was_perhaps_never_in_a_filter_by_state() {
    let (a, b) = (to_port(1, 443), to_port(2, 443));
    let mut world = filtered("state established and dport = :443");
    world.shows(&[&a]).shows(&[&a]);
    world.tells(&[a.destroyed(), b.opened_at(1_400).destroyed()]).shows(&[]);
    world.record();
    assert_eq!(lives(&world), ["cookie=1 state=ESTAB closed_evidence=destroy_event samples=1"]);
}

#[test]
fn of_what_a_wider_capture_left_open_only_its_part_is_ended() {
    let (a, b) = (to_port(1, 80), to_port(2, 443));
    let mut world = World::with_events();
    world.shows(&[&a, &b]);
    world.record();
    world.filter = Some("dport = :443");
    world.goes_on_after(SECOND).shows(&[]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world),
        [
            "cookie=1 state=ESTAB closed_evidence=recording_end samples=1",
            "cookie=2 state=ESTAB closed_evidence=absence samples=1",
        ]
    );
}

#[test]
fn what_a_filtered_capture_lacked_a_wider_one_did_not_see_open() {
    let a = to_port(1, 80);
    let mut world = filtered("dport = :443");
    world.shows(&[&a]);
    world.record();
    world.filter = None;
    world.goes_on_after(SECOND).shows(&[&a]).shows(&[&a]);
    world.record();
    assert_eq!(
        world.answer(Question::Connections, OPENING),
        ["cookie=1 opened_after=- closed_evidence=recording_end"]
    );
}
