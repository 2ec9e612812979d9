//! One socket asked for alone, which is answered in a way of its own.

use sockrec::query::{Question, Recording, Selection, SocketFilter};

use crate::events::a;
use crate::socket::FakeSocket;
use crate::world::{SECOND, World, text};

/// All columns of every row.
fn rows(world: &World, socket_id: Option<i64>) -> Vec<Vec<String>> {
    let sockets = SocketFilter { socket_id, ..SocketFilter::default() };
    let selection = Selection { sockets, ..Selection::default() };
    let mut rows = Vec::new();
    let recording = Recording::open(&world.path()).unwrap();
    recording
        .answer(Question::Connections, &selection, |row| {
            rows.push(row.iter().map(text).collect());
            Ok(())
        })
        .unwrap();
    rows
}

/// Half an hour passes from one look to the next: every other one begins a group.
#[test]
fn a_socket_asked_for_alone_is_told_as_in_the_list_of_all() {
    let mut world = World { interval_ns: 1_800 * SECOND, ..World::with_events() };
    let (idle, busy) =
        (FakeSocket::established(2, 1_002, 80), FakeSocket::established(3, 1_003, 80));
    let brief = a().fin_acked().fin_received().opened_at(1_650);
    world.shows(&[&idle, &busy, &a()]);
    for bytes in 1..4 {
        world.shows(&[&idle, &busy.sent(bytes), &a()]);
    }
    world.tells(&[brief.destroyed()]).shows(&[&idle, &busy.sent(9)]);
    world.record();
    world.goes_on_after(SECOND).shows(&[&idle, &busy.sent(10)]).shows(&[&idle, &busy.sent(11)]);
    world.record();

    let groups = world.sql("SELECT count(*) FROM groups");
    assert!(groups[0].parse::<u32>().unwrap() > 3, "{groups:?}");
    let all = rows(&world, None);
    assert_eq!(all.len(), 3);
    for (number, row) in (1..).zip(&all) {
        assert_eq!(rows(&world, Some(number)), std::slice::from_ref(row));
    }
}
