//! Snapshots that write every socket, and what was so at each.

use sockrec::query::Question;

use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, START_UTC, World, failed};
use crate::{at, lives};

#[test]
fn a_keyframe_holds_what_its_own_dump_did_not_show() {
    // Enough sockets that change for a second keyframe, which falls on a failed dump.
    let sockets: Vec<_> =
        (0..400).map(|i| FakeSocket::established(i, 2_000 + i as u16, 80)).collect();
    let mut world = World::default();
    for tick in 0..13 {
        let changed: Vec<_> = sockets.iter().map(|s| s.sent(tick)).collect();
        world.shows(&changed.iter().collect::<Vec<_>>());
    }
    world.ends(&[&sockets[0].sent(12)], failed);
    world.shows(&sockets.iter().map(|s| s.sent(12)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    world.record();
    let keyframes = world.sql("SELECT snapshot_id FROM snapshots WHERE is_keyframe");
    let keyframe: i64 = keyframes[1].parse().unwrap();
    assert!(keyframe <= 14, "{keyframes:?}");
    let rows = |id: i64| {
        world.answer(Question::At { snapshot_id: id }, &["cookie", "bytes_sent", "rtt_us"])
    };
    assert_eq!(rows(13), rows(14));
    assert_eq!(rows(14).len(), 400);
}

#[test]
fn a_keyframe_whose_dump_fails_repeats_every_socket_as_last_observed() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]);
    // An hour later at the latest comes a keyframe.
    world.jumps(Jump { late_ns: 3_601 * SECOND, ..Jump::default() });
    world.ends(&[], failed).shows(&[&a]);
    world.record();
    assert_eq!(world.sql("SELECT snapshot_id FROM snapshots WHERE is_keyframe"), ["1", "2"]);
    assert_eq!(
        world.sql("SELECT snapshot_id, socket_id, observed_snapshot_id FROM held_samples"),
        ["2 1 1"]
    );
    assert_eq!(at(&world, 2), ["cookie=1 state=ESTAB bytes_sent=100"]);
    let first = START_UTC + 1_000_000;
    let observed =
        world.answer(Question::At { snapshot_id: 2 }, &["last_observed_at", "observed_at"]);
    assert_eq!(observed, [format!("last_observed_at={first} observed_at={first}")]);
    assert_eq!(lives(&world), ["cookie=1 state=ESTAB closed_evidence=recording_end samples=2"]);
}

#[test]
fn the_state_at_every_snapshot_is_what_was_shown_then() {
    // Sockets come, change and go; across several keyframes the state at each snapshot is exact.
    let mut world = World::default();
    let mut shown: Vec<Vec<FakeSocket>> = Vec::new();
    for tick in 0..120_u64 {
        let sockets: Vec<_> = (0..60_u64)
            .filter(|i| (tick / 7 + i) % 5 != 0)
            .map(|i| {
                let generation = (tick / 7 + i) / 5;
                FakeSocket::established(i + 100 * generation, 3_000 + i as u16, 80)
                    .sent(tick / (1 + i % 3))
            })
            .collect();
        if tick % 40 == 20 {
            world.jumps(Jump { late_ns: 3_601 * SECOND, ..Jump::default() }); // time for a keyframe
        }
        world.shows(&sockets.iter().collect::<Vec<_>>());
        shown.push(sockets);
    }
    world.record();
    let keyframes = world.sql("SELECT count(*) FROM snapshots WHERE is_keyframe");
    assert_eq!(keyframes, ["4"]);
    for (tick, sockets) in shown.iter().enumerate() {
        let mut expected: Vec<_> = sockets
            .iter()
            .map(|s| format!("cookie={} state=ESTAB bytes_sent={}", s.cookie, s.bytes_sent))
            .collect();
        let mut rows = at(&world, tick as i64 + 1);
        expected.sort();
        rows.sort();
        assert_eq!(rows, expected, "tick {tick}");
    }
}
