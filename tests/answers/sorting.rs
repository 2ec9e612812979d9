//! `--sort`, `--limit` and the span of time.

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::World;

/// Connections 1 to 4, which sent 150, 100, an unknown number of and 300 bytes.
fn four() -> World {
    let a = FakeSocket::established(1, 1_001, 80).sent(50);
    let b = FakeSocket::established(2, 1_002, 80);
    let c = FakeSocket::established(3, 1_003, 80).time_wait();
    let d = FakeSocket::established(u64::MAX, 1_004, 80).sent(200);
    let mut world = World::default();
    world.shows(&[&a, &b, &c, &d]);
    world.record();
    world
}

/// Numbers of the connections that are shown.
fn shown(world: &World, options: &str) -> String {
    let file = world.path();
    let line = format!(
        "query connections --format csv --columns socket_id {options} -f '{}'",
        file.display()
    );
    let text = Dir::new().sockrec(&line).fine().stdout();
    text.lines().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn rows_are_sorted_by_any_column_unknown_values_last() {
    let world = four();
    assert_eq!(shown(&world, ""), "1 2 3 4");
    assert_eq!(shown(&world, "--sort bytes_sent"), "2 1 4 3");
    assert_eq!(shown(&world, "--sort bytes_sent:desc"), "4 1 2 3");
    assert_eq!(shown(&world, "--sort opened_before,local_port:desc"), "4 2 1 3");
    assert_eq!(shown(&world, "--sort opened_before --sort local_port:desc"), "4 2 1 3");
    assert_eq!(shown(&world, "--sort protocol"), "1 2 3 4", "equal rows stay in order");
    assert_eq!(shown(&world, "--sort cookie:desc"), "4 3 2 1", "cookies are unsigned");
    assert_eq!(shown(&world, "--sort -bytes_sent"), "4 1 2 3", "as of ps");
    let by_rtt = shown(&world, "--sort rtt_us:desc,local_port:desc");
    assert_eq!(shown(&world, "--sort rtt:desc,-local_port"), by_rtt, "the unit may be left out");
}

#[test]
fn the_limit_is_taken_after_sorting() {
    assert_eq!(shown(&four(), "--sort bytes_sent:desc --limit 2"), "4 1");
}

/// A connection that may have lived in the span is shown, one that cannot have is not.
#[test]
fn a_span_chooses_by_what_may_have_been_alive_in_it() {
    let (long, early) =
        (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let late = FakeSocket::established(3, 1_003, 80);
    let mut world = World::default();
    // One all the time, one up to second 10, one from second 20 on.
    for tick in 0..40 {
        let mut shows = vec![&long];
        shows.extend((tick <= 10).then_some(&early));
        shows.extend((tick >= 20).then_some(&late));
        world.shows(&shows);
    }
    world.record();
    let span = |from: &str, to: &str| {
        shown(&world, &format!("--from 2026-11-21T12:00:{from}Z --to 2026-11-21T12:00:{to}Z"))
    };
    assert_eq!(span("00", "39"), "1 2 3");
    assert_eq!(span("10.5", "10.9"), "1 2", "closed by the next complete dump but one");
    assert_eq!(span("13", "18.9"), "1");
    assert_eq!(span("19.5", "19.6"), "1 3", "opened after the dump that lacked it");
    assert_eq!(span("30", "35"), "1 3");
}
