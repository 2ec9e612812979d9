//! `query coverage`: what was looked at, and what was not.

use insta::assert_snapshot;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, World, complete, failed};

/// Two captures: dumps that failed, ticks that were missed, a minute in which nobody recorded.
fn with_gaps() -> World {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).ends(&[], failed).ends(&[], failed).shows(&[&a]);
    world.jumps(Jump { late_ns: 2 * SECOND, ..Jump::default() }).shows(&[&a]);
    world.record();
    world.goes_on_after(60 * SECOND).ends(&[&a], complete);
    world.record();
    world
}

fn coverage(world: &World, options: &str) -> String {
    let file = world.path();
    let line = format!("query coverage --utc {options} -f '{}'", file.display());
    Dir::new().sockrec(&line).fine().stdout()
}

#[test]
fn gaps_stand_between_what_was_recorded() {
    assert_snapshot!(coverage(&with_gaps(), ""), @"
    KIND           PROTOCOL  FAMILY  FROM                       TO                         SNAPSHOTS  COUNT  COMPLETE_SNAPSHOTS  DELTA_NS  MESSAGE
    recorded       tcp       inet    2026-11-21 12:00:00.000 Z  2026-11-21 12:00:06.001 Z          5      -                   3         -  without destroy events
    dump_failed    tcp       inet    2026-11-21 12:00:01.000 Z  2026-11-21 12:00:02.001 Z          2      -                   -         -  Cannot allocate memory
    ticks_missed   -         -       2026-11-21 12:00:03.000 Z  2026-11-21 12:00:06.001 Z          -      2                   -         -  -
    not_recording  -         -       2026-11-21 12:00:06.001 Z  2026-11-21 12:01:05.000 Z          -      -                   -         -  -
    recorded       tcp       inet    2026-11-21 12:01:05.000 Z  2026-11-21 12:01:05.001 Z          1      -                   1         -  without destroy events
    ");
}

#[test]
fn only_what_overlaps_the_span_is_told() {
    let shown = "--format csv --columns kind,from,snapshots,complete_snapshots,count";
    let span = "--from 2026-11-21T12:00:30Z --to 2026-11-21T12:00:40Z";
    assert_snapshot!(coverage(&with_gaps(), &format!("{shown} {span}")), @"
    kind,from,snapshots,complete_snapshots,count
    not_recording,2026-11-21T12:00:06.001000000Z,,,
    ");
    assert_snapshot!(coverage(&with_gaps(), shown), @"
    kind,from,snapshots,complete_snapshots,count
    recorded,2026-11-21T12:00:00.000000000Z,5,3,
    dump_failed,2026-11-21T12:00:01.000000000Z,2,,
    ticks_missed,2026-11-21T12:00:03.000000000Z,,,2
    not_recording,2026-11-21T12:00:06.001000000Z,,,
    recorded,2026-11-21T12:01:05.000000000Z,1,1,
    ");
}

#[test]
fn one_is_not_told_of_as_several() {
    let mut world = World::default();
    world.shows(&[&FakeSocket::established(1, 1_001, 80)]);
    world.record();
    let info = Dir::new().sockrec(&format!("info '{}'", world.path().display())).fine().stdout();
    assert!(info.contains("\n1 snapshot from ") && info.contains("\n1 socket\n"), "{info}");
}
