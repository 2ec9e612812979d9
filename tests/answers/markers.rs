//! Markers: `mark`, their names as times, and the answers that show them.

use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::{Dir, Ran};
use crate::socket::FakeSocket;
use crate::world::World;

/// A connection over 20 s. A span `deploy` from second 5 to second 8, another from 12 to 15, a moment
/// `crash` at second 9, and a span `cleanup` from second 18 that was never ended.
fn world() -> World {
    let mut now = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    for _ in 0..20 {
        now = now.sent(1_000);
        world.shows(&[&now]);
    }
    world.record();
    for (name, second) in [
        ("--start deploy", 5),
        ("--end deploy", 8),
        ("crash", 9),
        ("--start deploy", 12),
        ("--end deploy", 15),
        ("--start cleanup", 18),
    ] {
        assert_eq!(mark(&world, &format!("{name} --at {}", at(second))).stderr, "");
    }
    world
}

fn at(second: u32) -> String {
    format!("2026-11-21T12:00:{second:02}.5Z")
}

fn mark(world: &World, line: &str) -> Ran {
    asked(world, &format!("mark {line}")).fine()
}

fn asked(world: &World, line: &str) -> Ran {
    Dir::new().sockrec(&format!("{line} -f '{}'", world.path().display()))
}

fn shown(world: &World, line: &str) -> String {
    asked(world, line).fine().stdout()
}

#[test]
fn markers_are_listed_in_the_order_of_time() {
    let world = world();
    assert_snapshot!(shown(&world, "query markers --utc"), @"
    MARKER_ID  MARKER   IS_SPAN  STARTED_AT                 ENDED_AT                   LENGTH_NS
            1  deploy   yes      2026-11-21 12:00:05.500 Z  2026-11-21 12:00:08.500 Z          -
            2  crash    no       2026-11-21 12:00:09.500 Z  -                                  -
            3  deploy   yes      2026-11-21 12:00:12.500 Z  2026-11-21 12:00:15.500 Z          -
            4  cleanup  yes      2026-11-21 12:00:18.500 Z  -                                  -
    ");
    let columns = "--columns marker,is_span,started_at,ended_at,length_ns,started_boottime_ns";
    assert_snapshot!(shown(&world, &format!("export markers {columns}")), @"
    marker,is_span,started_at,ended_at,length_ns,started_boottime_ns
    deploy,true,2026-11-21T12:00:05.500000000Z,2026-11-21T12:00:08.500000000Z,,
    crash,false,2026-11-21T12:00:09.500000000Z,,,
    deploy,true,2026-11-21T12:00:12.500000000Z,2026-11-21T12:00:15.500000000Z,,
    cleanup,true,2026-11-21T12:00:18.500000000Z,,,
    ");
    let span = "--from 2026-11-21T12:00:08.6Z --to 2026-11-21T12:00:13Z";
    assert_eq!(
        shown(&world, &format!("query markers --format csv --columns marker_id {span}")),
        "marker_id\n2\n3\n"
    );
}

/// Numbers of the snapshots that an answer is about.
fn snapshots(world: &World, span: &str) -> Vec<String> {
    let told = shown(world, &format!("query snapshots --format csv --columns snapshot_id {span}"));
    told.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_name_stands_where_a_time_does_and_of_several_means_the_latest() {
    let world = world();
    let between = |from: u32, to: u32| format!("--from {} --to {}", at(from), at(to));
    assert_eq!(
        snapshots(&world, "--from deploy --to deploy:end"),
        snapshots(&world, &between(12, 15))
    );
    assert_eq!(snapshots(&world, "--from deploy --to deploy:end"), ["14", "15", "16"]);
    assert_eq!(snapshots(&world, "--from crash --to deploy"), snapshots(&world, &between(9, 12)));
    let ran = asked(&world, "query at crash --format csv --columns at --utc").fine();
    assert_snapshot!(ran.told(), @"
    exit 0
    stdout:
    at
    2026-11-21T12:00:09.001000000Z
    stderr:
    note: snapshot 10, ended at 2026-11-21 12:00:09.001 Z
    ");
    let ran = asked(&world, "query at deploy --format csv --columns at --utc").fine();
    assert_snapshot!(ran.told(), @"
    exit 0
    stdout:
    at
    2026-11-21T12:00:12.001000000Z
    stderr:
    note: 2 markers are named `deploy`: the latest is meant, of 2026-11-21T12:00:12.500Z
    note: snapshot 13, ended at 2026-11-21 12:00:12.001 Z
    ");
}

#[test]
fn a_name_that_is_none_and_an_end_that_is_none_are_refused() {
    let world = world();
    assert_snapshot!(asked(&world, "query at deplyo").told(), @"
    exit 2
    error: `deplyo` is no time

    hint: did you mean the marker `deploy`? `sockrec query markers` lists them
    ");
    assert_snapshot!(asked(&world, "query samples --to crash:end").told(), @"
    exit 2
    error: the marker `crash` of 2026-11-21T12:00:09.500Z is a moment, it has no end

    hint: `sockrec mark --start NAME` begins a span, `--end` ends it
    ");
    assert_snapshot!(asked(&world, "query samples --to cleanup:end").told(), @"
    exit 2
    error: the end of the span `cleanup`, begun at 2026-11-21T12:00:18.500Z, was not marked

    hint: `sockrec mark --end NAME` ends it, with `--at TIME` also later
    ");
    assert_snapshot!(asked(&world, "query samples --from deploy:end --to crash").told(), @"
    exit 2
    note: 2 markers are named `deploy`: the latest is meant, of 2026-11-21T12:00:12.500Z
    error: the span ends before it starts: 2026-11-21T12:00:15.500Z is after 2026-11-21T12:00:09.500Z

    hint: swap `--from` and `--to`
    ");
}

#[test]
fn a_span_that_was_not_ended_stays_so_beside_the_next_one() {
    let world = world();
    let again = mark(&world, &format!("--start cleanup --at {}", at(19)));
    assert_snapshot!(again.told(), @"
    exit 0
    warning: the span `cleanup` of 2026-11-21 12:00:18.500 +00:00 was never ended; this is another one
    note: nothing is being recorded: the recording ends at 2026-11-21 12:00:19.001 +00:00
    ");
    mark(&world, "--end cleanup --at 2026-11-21T12:00:19.6Z");
    let columns = "--format csv --columns marker,started_at,ended_at --from 2026-11-21T12:00:17Z";
    assert_snapshot!(shown(&world, &format!("query markers {columns}")), @"
    marker,started_at,ended_at
    cleanup,2026-11-21T12:00:18.500000000Z,
    cleanup,2026-11-21T12:00:19.500000000Z,2026-11-21T12:00:19.600000000Z
    ");
}

#[test]
fn coverage_and_the_story_of_a_connection_show_them() {
    let world = world();
    let columns = "--format csv --columns kind,from,to,message";
    assert_snapshot!(shown(&world, &format!("query coverage {columns}")), @"
    kind,from,to,message
    recorded,2026-11-21T12:00:00.000000000Z,2026-11-21T12:00:19.001000000Z,without destroy events
    marker,2026-11-21T12:00:05.500000000Z,2026-11-21T12:00:08.500000000Z,deploy
    marker,2026-11-21T12:00:09.500000000Z,2026-11-21T12:00:09.500000000Z,crash
    marker,2026-11-21T12:00:12.500000000Z,2026-11-21T12:00:15.500000000Z,deploy
    marker,2026-11-21T12:00:18.500000000Z,,cleanup
    ");
    let story: Value =
        serde_json::from_str(&shown(&world, "query connection 1 --format json")).unwrap();
    let names: Vec<_> = story["markers"].as_array().unwrap().iter().map(|m| &m["marker"]).collect();
    assert_eq!(names, ["deploy", "crash", "deploy", "cleanup"]);
    let events = shown(&world, "query connection 1 --format csv");
    let marked: Vec<_> = events.lines().filter(|line| line.contains(",marker,")).collect();
    assert_snapshot!(marked.join("\n"), @"
    ,2026-11-21T12:00:05.500000000Z,marker,deploy,,,,,
    ,2026-11-21T12:00:08.500000000Z,marker,deploy:end,,,,,
    ,2026-11-21T12:00:09.500000000Z,marker,crash,,,,,
    ,2026-11-21T12:00:12.500000000Z,marker,deploy,,,,,
    ,2026-11-21T12:00:15.500000000Z,marker,deploy:end,,,,,
    ,2026-11-21T12:00:18.500000000Z,marker,cleanup,,,,,
    ");
    let text = shown(&world, "query connection 1 --utc");
    let part = text.split("Markers in its life\n").nth(1).unwrap();
    assert_snapshot!(part.split("\n\n").next().unwrap(), @"
    MARKER   STARTED_AT                 ENDED_AT
    deploy   2026-11-21 12:00:05.500 Z  2026-11-21 12:00:08.500 Z
    crash    2026-11-21 12:00:09.500 Z  -
    deploy   2026-11-21 12:00:12.500 Z  2026-11-21 12:00:15.500 Z
    cleanup  2026-11-21 12:00:18.500 Z  -
    ");
}

#[test]
fn a_marker_outside_of_the_life_of_a_connection_is_not_in_its_story() {
    let short = FakeSocket::established(2, 1_002, 80);
    let mut world = World::default();
    world.shows(&[]).shows(&[&short]).shows(&[&short]);
    for _ in 0..10 {
        world.shows(&[]);
    }
    world.record();
    mark(&world, &format!("within --at {}", at(1)));
    mark(&world, &format!("later --at {}", at(9)));
    let story: Value =
        serde_json::from_str(&shown(&world, "query connection 1 --format json")).unwrap();
    let names: Vec<_> = story["markers"].as_array().unwrap().iter().map(|m| &m["marker"]).collect();
    assert_eq!(names, ["within"]);
}
