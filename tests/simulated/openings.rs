//! By when a connection had been opened, as the times in its first row tell.

use sockrec::model::TcpState;
use sockrec::store::Before;

use crate::events::{a, lives};
use crate::extracts::{HOUR_NS, extract_to, rows};
use crate::merges::merged;
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, START_UTC, World};

const OPENING: &[&str] = &["opened_after", "opened_before", "opened_evidence"];

fn seen_at_2000(socket: &FakeSocket) -> World {
    let mut world = World::default();
    world.shows(&[]).shows(&[]).shows(&[socket]).shows(&[socket]);
    world.record();
    world
}

#[test]
fn a_connection_was_opened_before_what_its_first_row_tells_of() {
    let told = [
        (1_250, "1300"),
        (1_940, "1990"),
        // It cannot be told from one that was opened as the snapshot was taken.
        (1_960, "2001"),
        (2_000, "2001"),
    ];
    for (opened_ms, expected) in told {
        let world = seen_at_2000(&a().opened_at(opened_ms));
        assert_eq!(
            lives(&world, OPENING),
            [format!("opened_after=1000 opened_before={expected} opened_evidence=snapshot")]
        );
    }
}

#[test]
fn its_least_duration_counts_from_there() {
    let a = a().opened_at(1_250);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).shows(&[&a]).tells(&[a.sent(1).opened_at(2_600).destroyed()]);
    world.shows(&[]);
    world.record();
    let columns = ["opened_before", "closed_after", "duration_min_ns"];
    assert_eq!(
        lives(&world, &columns),
        ["opened_before=1300 closed_after=2579 duration_min_ns=1279000000"]
    );
}

#[test]
fn what_was_there_when_recording_began_may_have_been_so_for_long() {
    let mut world = World::default();
    world.shows(&[&a()]).shows(&[&a()]);
    world.record();
    assert_eq!(
        lives(&world, OPENING),
        ["opened_after=- opened_before=-5450 opened_evidence=recording_start"]
    );
}

/// The kernel's ticks stand still while the machine sleeps: it may have been there for longer.
#[test]
fn a_machine_that_slept_since_tells_less() {
    let mut world = World::default();
    let a = a().opened_at(1_250);
    world.shows(&[]).shows(&[]);
    world.jumps(Jump { suspended_ns: 30 * SECOND, ..Jump::default() });
    world.shows(&[&a]).shows(&[&a]);
    world.record();
    let rows = lives(&world, &["first_seen_at", "opened_before"]);
    assert_eq!(rows, ["first_seen_at=32001 opened_before=31300"]);
}

/// What is left of the connection before is in it until the handshake is done.
#[test]
fn a_socket_that_was_connected_before_tells_of_that_one() {
    let former = FakeSocket { bytes_received: 7, ..a() };
    let next = FakeSocket { remote_port: 81, ..former.clone() };
    for state in [TcpState::SYN_SENT, TcpState::SYN_RECV, TcpState::CLOSE] {
        let next = next.in_state(state);
        let mut world = World::default();
        world.shows(&[&former]).shows(&[&former]).shows(&[&next]).shows(&[&next]).shows(&[&next]);
        world.record();
        let rows = lives(&world, &["generation", "opened_after", "opened_before"]);
        let is_closed = state == TcpState::CLOSE; // that is waited for until a second dump shows it
        let seen = if is_closed { "3001" } else { "2001" };
        let expected = format!("generation=1 opened_after=1000 opened_before={seen}");
        assert_eq!(rows[1], expected, "{state:?}");
    }
}

#[test]
fn an_extract_and_a_merged_recording_tell_the_same_of_it() {
    let a = a().opened_at(1_250);
    let mut world = World::default();
    world.shows(&[]).shows(&[]);
    for _ in 0..4 {
        world.jumps(Jump { late_ns: HOUR_NS, ..Jump::default() }).shows(&[&a]).shows(&[&a]);
    }
    world.record();
    let whole = world.path();
    let opened = |path: &std::path::Path| {
        let rows = rows(path, sockrec::query::Question::Connections, (i64::MIN, i64::MAX));
        [rows[0]["opened_before"].clone(), rows[0]["opened_evidence"].clone()]
    };
    let expected = (START_UTC + 1_300_000_000).to_string();
    assert_eq!(opened(&whole), [expected.clone(), "snapshot".to_owned()]);
    let at = |name: &str| world.directory.path().join(name);
    let cut_ns = START_UTC + 2 * HOUR_NS + HOUR_NS / 2;
    let part = |span, name| extract_to(&whole, span, Before::Everyone, &at(name)).unwrap();
    let (early, late) = (part((i64::MIN, cut_ns), "early.db"), part((cut_ns, i64::MAX), "late.db"));
    assert_eq!(opened(&early), [expected.clone(), "snapshot".to_owned()]);
    assert_eq!(opened(&late), [expected.clone(), "extract_start".to_owned()]);
    for (parts, name) in [([&*early, &*late], "both.db"), ([&*late, &*early], "again.db")] {
        assert_eq!(
            opened(&merged(&parts, at(name))),
            [expected.clone(), "snapshot".to_owned()],
            "{name}"
        );
    }
}
