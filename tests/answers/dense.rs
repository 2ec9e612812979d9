//! `export samples --dense` and `--rates`.

use insta::assert_snapshot;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, World, complete, failed};

fn export(world: &World, options: &str) -> String {
    let file = world.path();
    let line = format!("export samples -f '{}' {options}", file.display());
    Dir::new()
        .sockrec(&line)
        .fine()
        .stdout()
        .replace("2026-11-21T12:", "")
        .replace("000000000Z", "Z")
}

/// One that sends 100 bytes in the third second and 50 in the fifth; another is there for a while.
fn two() -> World {
    let long = FakeSocket::established(1, 1_001, 80);
    let short = FakeSocket::established(2, 1_002, 80);
    let mut world = World::default();
    for tick in 0..8 {
        let long = long.sent(match tick {
            0..3 => 0,
            3..5 => 100,
            _ => 150,
        });
        let mut shows = vec![&long];
        shows.extend((2..=4).contains(&tick).then_some(&short));
        world.shows(&shows);
    }
    world.record();
    world
}

#[test]
fn a_socket_has_a_row_at_each_step_that_it_was_seen() {
    assert_snapshot!(export(&two(), "--dense 2s --columns socket_id,bytes_sent,taken_at"), @r"
    at,socket_id,bytes_sent,taken_at
    00:02.Z,1,100,00:00.001000000Z
    00:04.Z,1,200,00:03.001000000Z
    00:04.Z,2,100,00:02.001000000Z
    00:06.Z,1,250,00:05.001000000Z
    00:08.Z,1,250,00:05.001000000Z
    ");
}

#[test]
fn counters_grow_from_step_to_step() {
    let rows = export(&two(), "--dense 1s --rates --columns socket_id --socket 1");
    let rates: Vec<_> =
        rows.lines().map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
    assert_snapshot!(rates.join("\n"), @r"
    at,socket_id,bytes_sent_per_s
    00:01.Z,1,
    00:02.Z,1,0.0
    00:03.Z,1,0.0
    00:04.Z,1,100.0
    00:05.Z,1,0.0
    00:06.Z,1,50.0
    00:07.Z,1,0.0
    00:08.Z,1,0.0
    ");
}

#[test]
fn where_nobody_looked_there_is_no_row() {
    let socket = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    for tick in 0..8 {
        if tick == 5 {
            world.jumps(Jump { late_ns: 5 * SECOND, ..Jump::default() });
        }
        world.ends(&[&socket.sent(tick)], if tick == 2 { failed } else { complete });
    }
    world.record();
    let rows = export(&world, "--dense 1s --rates --columns bytes_sent");
    let rows: Vec<_> =
        rows.lines().map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
    assert_snapshot!(rows.join("\n"), @r"
    at,bytes_sent,bytes_sent_per_s
    00:01.Z,100,
    00:02.Z,101,1.0
    00:04.Z,103,
    00:05.Z,104,1.0
    00:11.Z,105,
    00:12.Z,106,1.0
    00:13.Z,107,1.0
    ");
}

#[test]
fn a_span_begins_with_what_held_and_a_filter_is_asked_of_what_holds() {
    let world = two();
    let span = "--dense 1s --columns socket_id,bytes_sent --from 2026-11-21T12:00:04Z --to 2026-11-21T12:00:07Z";
    assert_snapshot!(export(&world, span), @r"
    at,socket_id,bytes_sent
    00:04.Z,1,200
    00:04.Z,2,100
    00:05.Z,1,200
    00:05.Z,2,100
    00:06.Z,1,250
    00:07.Z,1,250
    ");
    assert_snapshot!(export(&world, &format!("{span} 'bytes_sent = 100'")), @r"
    at,socket_id,bytes_sent
    00:04.Z,2,100
    00:05.Z,2,100
    ");
}

#[test]
fn what_does_not_go_with_even_steps_is_refused() {
    let world = two();
    let refused = |line: &str| {
        let ran = Dir::new().sockrec(&format!("export {line} -f '{}'", world.path().display()));
        assert_eq!(ran.code(), Some(2), "{ran:?}");
        ran.stderr.lines().next().unwrap_or_default().to_owned()
    };
    assert_snapshot!(refused("connections --dense 1s"), @"error: `--dense` goes with `samples`, not with `connections`");
    assert_snapshot!(refused("samples --dense 1s --sort at"), @"error: rows of even steps come in the order of time: `--sort` does not go with `--dense`");
    assert_snapshot!(refused("samples --dense 0s"), @"error: invalid value '0s' for '--dense <STEP>': it must be above 0");
    assert_snapshot!(refused("samples --rates"), @"error: the following required arguments were not provided:");
}

/// Another way to ask for the same.
#[test]
fn at_each_step_holds_what_query_at_shows() {
    let world = two();
    let dense = export(&world, "--dense 1s --columns socket_id,state,bytes_sent");
    for second in 1..=8 {
        let at = format!("00:0{second}.Z,");
        let mut steps: Vec<_> = dense.lines().filter_map(|line| line.strip_prefix(&at)).collect();
        let line = format!(
            "query at 2026-11-21T12:00:0{second}Z -f '{}' --format csv --columns socket_id,state,bytes_sent",
            world.path().display()
        );
        let ran = Dir::new().sockrec(&line).fine();
        let text = ran.stdout();
        let mut shown: Vec<_> = text.lines().skip(1).collect();
        steps.sort_unstable();
        shown.sort_unstable();
        assert_eq!(steps, shown, "at {second}");
    }
}
