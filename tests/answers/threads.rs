//! A listing that several threads read is the one that one thread reads.

use std::fs;
use std::num::NonZeroUsize;

use rusqlite::Connection;
use sockrec::query::{QueryError, Question, Recording, Selection};

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::World;

/// In each of so many ticks so many new sockets, each of which is there for three.
fn many(ticks: u64, new: u64) -> World {
    let mut world = World::default();
    for tick in 0..ticks {
        let of_tick = |born: u64| {
            (0..new).map(move |n| {
                let cookie = born * new + n + 1;
                let port = u16::try_from(1_024 + cookie % 50_000).unwrap();
                let remote = if n % 5 == 0 { 443 } else { 80 };
                let socket = FakeSocket::established(cookie, port, remote);
                let socket = socket.sent(u64::from(n % 3 == 0) * (tick - born) * 1_000);
                if n % 7 == 0 && tick == born + 2 { socket.time_wait() } else { socket }
            })
        };
        let shows: Vec<_> = (tick.saturating_sub(2)..=tick).flat_map(of_tick).collect();
        world.shows(&shows.iter().collect::<Vec<_>>());
    }
    world.record();
    world
}

fn assert_same(world: &World, questions: &[&str]) {
    let dir = Dir::new();
    let file = world.path();
    for question in questions {
        let answer = |threads| {
            let line = format!("{question} --threads {threads} -f '{}'", file.display());
            let ran = dir.sockrec(&line);
            (ran.code(), ran.stdout(), ran.told())
        };
        let alone = answer(1);
        assert_eq!(alone.0, Some(0), "{question}: {}", alone.2);
        for threads in [2, 3, 7] {
            assert!(answer(threads) == alone, "{question} on {threads} threads");
        }
    }
}

#[test]
fn a_listing_is_the_same_on_any_number_of_threads() {
    let world = many(12, 100);
    assert_same(
        &world,
        &[
            "query connections",
            "query connections --format csv",
            "query connections --format json",
            "query connections --format jsonl dport = :443",
            "query connections --format csv --columns bytes_sent,comm",
            "query connections --format json 'rtt > 10s'",
            "query connections --format csv --state time-wait",
            "query connections --sort bytes_sent:desc",
            "query connections --format csv --limit 700",
            "query samples --format csv",
            "query samples --format json bytes_sent '>' 500",
            "export sockets --format jsonl",
            "export samples --format csv --columns taken_at,rtt_us",
            "export samples --format csv --dense 1s",
            "export snapshots --format csv",
        ],
    );
    fs::write(world.directory.path().join("key"), "a key of this test").unwrap();
    let key = world.directory.path().join("key");
    let key = format!("export connections --format csv --anonymize-key '{}'", key.display());
    assert_same(&world, &[&key]);
}

/// A recording may come from anyone.
#[test]
fn numbers_below_zero_are_read_by_somebody() {
    let world = many(6, 200);
    let file = Connection::open(world.path()).unwrap();
    file.execute_batch(
        "PRAGMA foreign_keys = OFF; UPDATE sockets SET socket_id = socket_id - 2000;",
    )
    .unwrap();
    drop(file);
    assert_same(&world, &["query connections --format csv", "export sockets --format csv"]);
    let rows = world.answer(Question::Sockets, &["socket_id"]);
    assert_eq!(rows.first().map(String::as_str), Some("socket_id=-1999"));
    assert_eq!(rows.len(), 1_200);
}

/// Those of this process, in which only one test starts any.
fn threads_that_read() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "sockrec-read").count()
}

/// There are more rows than may wait, so that each is still there when the first row is handed over.
#[test]
fn so_many_threads_read_as_were_asked_for() {
    let world = many(300, 3);
    for (threads, reading) in [(1, 0), (2, 2), (3, 3)] {
        let recording = Recording::open(&world.path()).unwrap();
        let recording = recording.on_threads(NonZeroUsize::new(threads));
        let mut most = 0;
        let rows = recording.answer(Question::Samples, &Selection::default(), |_| {
            most = most.max(threads_that_read());
            Ok::<_, QueryError>(())
        });
        assert!(rows.unwrap() > 200);
        assert_eq!(most, reading);
    }
}
