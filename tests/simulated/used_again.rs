//! Addresses and ports, and sockets, that others use next.

use crate::events::{a, lives};
use crate::socket::FakeSocket;
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
