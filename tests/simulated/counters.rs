//! What the last counters of a connection rest on.

use crate::events::{a, lives};
use crate::socket::FakeSocket;
use crate::world::World;

const COUNTERS: &[&str] = &["cookie", "bytes_sent", "counters_evidence"];

/// An abort wipes the counters: what went after the last snapshot is not known.
#[test]
fn counters_are_those_of_the_event_or_of_the_last_snapshot() {
    let [a, b, c, d] =
        [1, 2, 3, 4].map(|n| FakeSocket { cookie: n, local_port: 1_000 + n as u16, ..a() });
    let unseen = FakeSocket { cookie: 5, local_port: 1_005, ..a.opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[&a, &b, &c, &d]).shows(&[&a, &b, &c, &d]);
    world.tells(&[a.sent(900).destroyed(), b.sent(900).aborted(), unseen.aborted()]);
    world.shows(&[&c, &d]).shows(&[&d]).shows(&[&d]);
    world.record();
    assert_eq!(
        lives(&world, COUNTERS),
        [
            "cookie=1 bytes_sent=1000 counters_evidence=destroy_event",
            "cookie=2 bytes_sent=100 counters_evidence=snapshot",
            "cookie=3 bytes_sent=100 counters_evidence=snapshot",
            "cookie=4 bytes_sent=100 counters_evidence=-",
            "cookie=5 bytes_sent=- counters_evidence=-",
        ]
    );
}

#[test]
fn an_event_that_is_read_late_has_the_final_ones() {
    let a = a();
    let mut world = World::with_events();
    world.shows(&[&a]).shows(&[]).shows(&[]).tells(&[a.sent(900).destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, COUNTERS),
        ["cookie=1 bytes_sent=1000 counters_evidence=destroy_event"]
    );
}
