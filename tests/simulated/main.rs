//! What the recorder makes of dumps, failures and clocks that a real kernel gives only by chance.

#[path = "../harness/mod.rs"]
mod harness;

mod alone;
mod budget;
mod counters;
mod directions;
mod ends;
mod events;
mod extracts;
mod filters;
mod half_told;
mod keyframes;
mod late_events;
mod lifetimes;
mod look_ups;
mod machine;
mod merges;
mod mishaps;
mod namespaces;
mod openings;
mod restarts;
mod retention;
mod socket;
mod thinning;
mod time_waits;
mod used_again;
mod world;

use sockrec::model::{Family, Protocol, States, TcpState};
use sockrec::query::{Question, Recording};
use sockrec::record::{Event, RecordError};

use socket::FakeSocket;
use world::{Jump, SECOND, START_UTC, World, complete, failed, interrupted, unsupported};

const LIFE: &[&str] = &["cookie", "state", "closed_evidence", "samples"];

fn lives(world: &World) -> Vec<String> {
    world.answer(Question::Connections, LIFE)
}

fn at(world: &World, snapshot_id: i64) -> Vec<String> {
    world.answer(Question::At { snapshot_id }, &["cookie", "state", "bytes_sent"])
}

#[test]
fn a_failed_dump_never_closes_a_connection() {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    for end in [failed, interrupted] {
        let mut world = World::default();
        world.shows(&[&a, &b]).ends(&[&a], end).ends(&[], end).ends(&[], end).shows(&[&a, &b]);
        world.record();
        assert_eq!(
            lives(&world),
            [
                "cookie=1 state=ESTAB closed_evidence=recording_end samples=1",
                "cookie=2 state=ESTAB closed_evidence=recording_end samples=1",
            ]
        );
        assert!(world.sql("SELECT * FROM missing_sockets").is_empty());
        assert_eq!(world.sql("SELECT count(DISTINCT snapshot_id) FROM exceptions"), ["3"]);
    }
}

#[test]
fn a_failed_dump_is_shown_as_last_observed_with_a_note() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).ends(&[], failed).ends(&[], failed).shows(&[&a]);
    world.record();
    let observed = world
        .answer(Question::At { snapshot_id: 3 }, &["cookie", "state", "at", "last_observed_at"]);
    let (first, third) = (START_UTC + 1_000_000, START_UTC + 2 * SECOND + 1_000_000);
    assert_eq!(observed, [format!("cookie=1 state=ESTAB at={third} last_observed_at={first}")]);
    let recording = Recording::open(&world.path()).unwrap();
    let notes = recording.notes_at(third, 3).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("tcp/inet failed (Cannot allocate memory)"), "{notes:?}");
    assert!(recording.notes_at(first, 1).unwrap().is_empty());
}

#[test]
fn a_socket_that_vanished_while_dumps_failed_is_held_until_two_complete_ones_lack_it() {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let mut world = World::default();
    world.shows(&[&a, &b]).ends(&[], failed).shows(&[&a]).shows(&[&a]).shows(&[&a]);
    world.record();
    assert_eq!(at(&world, 2).len(), 2, "nobody knows: as last observed");
    assert_eq!(at(&world, 3), ["cookie=1 state=ESTAB bytes_sent=100"], "a complete dump lacked it");
    let ends = world.answer(
        Question::Connections,
        &["cookie", "closed_after", "closed_before", "closed_evidence"],
    );
    let (after, before) = (START_UTC, START_UTC + 3 * SECOND + 1_000_000);
    assert_eq!(
        ends[1],
        format!("cookie=2 closed_after={after} closed_before={before} closed_evidence=absence")
    );
}

#[test]
fn one_complete_dump_that_lacks_a_socket_closes_nothing() {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let mut world = World::default();
    world.shows(&[&a, &b]).shows(&[&a]).shows(&[&a, &b]).shows(&[&a]);
    world.record();
    assert_eq!(lives(&world)[1], "cookie=2 state=ESTAB closed_evidence=recording_end samples=1");
    assert_eq!(world.sql("SELECT snapshot_id, socket_id FROM missing_sockets"), ["2 2", "4 2"]);
    // The last dump lacked it: it was last seen in the third.
    let seen = world.answer(Question::Connections, &["cookie", "last_seen_at"]);
    assert_eq!(seen[0], format!("cookie=1 last_seen_at={}", START_UTC + 3 * SECOND + 1_000_000));
    assert_eq!(seen[1], format!("cookie=2 last_seen_at={}", START_UTC + 2 * SECOND + 1_000_000));
}

#[test]
fn openings_and_closings_are_bounded_by_the_dumps_that_lacked_them() {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let (a, b) = (a.opened_at(0), b.opened_at(1_000));
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&a, &b]).shows(&[&a, &b]).shows(&[&a]).shows(&[&a]);
    world.record();
    let columns = [
        "cookie",
        "opened_after",
        "opened_before",
        "opened_evidence",
        "closed_after",
        "closed_before",
        "duration_min_ns",
        "duration_max_ns",
    ];
    let start = |tick: i64| START_UTC + tick * SECOND;
    let end = |tick: i64| start(tick) + 1_000_000;
    assert_eq!(
        world.answer(Question::Connections, &columns),
        [
            format!(
                "cookie=1 opened_after=- opened_before={} opened_evidence=recording_start \
                 closed_after={} closed_before=- duration_min_ns={} duration_max_ns=-",
                end(0),
                start(4),
                4 * SECOND - 1_000_000,
            ),
            format!(
                "cookie=2 opened_after={} opened_before={} opened_evidence=snapshot \
                 closed_after={} closed_before={} duration_min_ns={} duration_max_ns={}",
                start(0),
                end(1),
                start(2),
                end(4),
                SECOND - 1_000_000,
                4 * SECOND + 1_000_000,
            ),
        ]
    );
}

#[test]
fn an_idle_socket_writes_nothing_though_its_relative_times_go_on() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    for tick in 0..50 {
        // The kernel's ticks and the moment of reading make the same moment wander.
        let wandering =
            FakeSocket { last_data_sent_at_ms: a.last_data_sent_at_ms + tick % 17, ..a.clone() };
        world.shows(&[&wandering]);
    }
    let (summary, _) = world.record();
    assert_eq!((summary.progress.snapshots, summary.progress.samples), (50, 1));
    let sent = world.answer(Question::At { snapshot_id: 50 }, &["last_data_sent_at"]);
    assert_eq!(sent, [format!("last_data_sent_at={}", START_UTC - 5 * SECOND)]);
}

#[test]
fn a_change_of_a_time_alone_is_a_change() {
    let a = FakeSocket::established(1, 1_001, 80);
    let later = FakeSocket { last_data_sent_at_ms: a.last_data_sent_at_ms + 4_000, ..a.clone() };
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&later]);
    assert_eq!(world.record().0.progress.samples, 2);
}

#[test]
fn a_socket_shown_twice_in_a_dump_counts_once_in_its_later_state() {
    let a = FakeSocket::established(1, 1_001, 80);
    let closing = a.in_state(TcpState::FIN_WAIT1);
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&a, &closing]).shows(&[&closing, &closing]);
    world.record();
    assert_eq!(at(&world, 2), ["cookie=1 state=FIN-WAIT-1 bytes_sent=100"]);
    assert_eq!(world.sql("SELECT sockets_seen FROM snapshots"), ["1", "1", "1"]);
    assert_eq!(
        lives(&world),
        ["cookie=1 state=FIN-WAIT-1 closed_evidence=recording_end samples=2"]
    );
}

#[test]
fn a_mini_socket_neither_wipes_the_owner_nor_the_counters() {
    let a = FakeSocket::established(1, 1_001, 80).sent(900);
    let rest = a.time_wait();
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&rest]);
    for _ in 0..2 {
        world.shows(&[&rest]);
    }
    let columns = ["state", "inode", "uid", "bytes_sent", "segs_out", "rtt_us"];
    let expected = "state=ESTAB inode=11001 uid=1000 bytes_sent=1000 segs_out=4 rtt_us=250";
    world.record();
    assert_eq!(world.answer(Question::Connections, &columns), [expected], "still there");
    world.shows(&[]).shows(&[]);
    std::fs::remove_file(world.path()).unwrap();
    world.record();
    assert_eq!(world.answer(Question::Connections, &columns), [expected], "gone");
    // What the kernel did not tell in TIME-WAIT is not made up in the sample.
    let samples = world.answer(Question::Samples, &["state", "bytes_sent", "rqueue_bytes"]);
    assert_eq!(samples[1], "state=TIME-WAIT bytes_sent=- rqueue_bytes=-");
    assert_eq!(world.sql("SELECT from_state, to_state FROM state_changes"), ["1 6"]);
}

#[test]
fn a_cookie_with_another_tuple_is_another_generation() {
    let a = FakeSocket::established(1, 1_001, 80);
    let again = FakeSocket { remote_port: 81, ..a.clone() };
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&again]);
    world.record();
    let rows = world
        .answer(Question::Connections, &["cookie", "generation", "remote_port", "closed_evidence"]);
    assert_eq!(
        rows,
        [
            "cookie=1 generation=0 remote_port=80 closed_evidence=replaced",
            "cookie=1 generation=1 remote_port=81 closed_evidence=recording_end",
        ]
    );
}

#[test]
fn a_socket_caught_on_its_way_out_changes_nothing() {
    let a = FakeSocket::established(1, 1_001, 80).sent(900);
    let wiped = FakeSocket { remote_port: 0, bytes_sent: 0, segs_out: 0, ..a.clone() };
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&wiped.in_state(TcpState::CLOSE)]).shows(&[]);
    world.record();
    let columns = ["remote_port", "state", "bytes_sent", "closed_evidence", "samples"];
    assert_eq!(
        world.answer(Question::Connections, &columns),
        ["remote_port=80 state=ESTAB bytes_sent=1000 closed_evidence=absence samples=1"]
    );
}

#[test]
fn a_socket_whose_port_is_free_already_is_what_it_was() {
    let a = FakeSocket::established(1, 1_001, 80);
    let going = FakeSocket { local_port: 0, ..a.in_state(TcpState::LAST_ACK) };
    for seen_before in [true, false] {
        let mut world = World::with_events();
        match seen_before {
            true => world.shows(&[&a]).shows(&[&a]),
            false => world.shows(&[]).shows(&[]),
        };
        world.shows(&[&going]).tells(&[a.destroyed()]).shows(&[]);
        world.record();
        let columns = ["cookie", "generation", "local_port"];
        let rows = world.answer(Question::Connections, &columns);
        assert_eq!(rows, ["cookie=1 generation=0 local_port=1001"]);
    }
}

#[test]
fn a_socket_that_is_first_seen_on_its_way_out_is_one_when_it_stays() {
    let wiped = FakeSocket::established(1, 1_001, 80).wiped().in_state(TcpState::CLOSE);
    let mut world = World::default();
    world.shows(&[]).shows(&[&wiped, &wiped]).shows(&[]).shows(&[]);
    world.record();
    assert_eq!(world.answer(Question::Connections, &["cookie"]), [""; 0], "it tells nothing");
    world.goes_on_after(SECOND).shows(&[&wiped]).shows(&[&wiped]).shows(&[&wiped]);
    world.record();
    // The last dump before may have shown it too, and waited.
    assert_eq!(
        world.answer(Question::Connections, &["state", "remote_port", "opened_after", "samples"]),
        ["state=UNCONN remote_port=0 opened_after=- samples=1"]
    );
    let mut world = World::default();
    world.shows(&[]).shows(&[&wiped]);
    world.record();
    world.goes_on_after(SECOND).shows(&[&wiped]).shows(&[&wiped]);
    world.record();
    assert_eq!(world.answer(Question::Connections, &["opened_after"]), ["opened_after=-"]);
}

#[test]
fn a_socket_that_stays_closed_is_told_so() {
    let a = FakeSocket::established(1, 1_001, 80);
    let bound = FakeSocket { remote_port: 0, ..a.in_state(TcpState::CLOSE) };
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&bound]).shows(&[&bound]);
    world.record();
    assert_eq!(
        world.answer(Question::Connections, &["remote_port", "state", "closed_evidence"]),
        [
            "remote_port=80 state=ESTAB closed_evidence=replaced",
            "remote_port=0 state=UNCONN closed_evidence=recording_end",
        ]
    );
}

#[test]
fn connections_of_mptcp_are_told_apart_though_they_share_their_listeners_cookie() {
    let listener = FakeSocket::listener(7, 8_081, 0, 16);
    let (a, b) =
        (FakeSocket::established(7, 8_081, 1_001), FakeSocket::established(7, 8_081, 1_002));
    let mut world = World { protocol: Protocol::Mptcp, ..World::default() };
    world.shows(&[&listener, &a, &b]).shows(&[&listener, &b, &a]).shows(&[&listener, &b]);
    world.shows(&[&listener, &b]);
    let (summary, _) = world.record();
    assert_eq!(summary.progress.sockets, 2);
    assert_eq!(
        world.answer(Question::Connections, &["remote_port", "generation", "closed_evidence"]),
        [
            "remote_port=0 generation=0 closed_evidence=recording_end",
            "remote_port=1001 generation=0 closed_evidence=absence",
            "remote_port=1002 generation=0 closed_evidence=recording_end",
        ]
    );
}

#[test]
fn a_listener_has_a_backlog_and_no_queues() {
    let mut world = World::default();
    world.shows(&[&FakeSocket::listener(1, 8_081, 3, 128)]);
    world.record();
    let columns = ["state", "backlog", "backlog_limit", "rqueue_bytes", "wqueue_bytes", "rtt_us"];
    assert_eq!(
        world.answer(Question::At { snapshot_id: 1 }, &columns),
        ["state=LISTEN backlog=3 backlog_limit=128 rqueue_bytes=- wqueue_bytes=- rtt_us=-"]
    );
}

#[test]
fn a_late_tick_counts_those_it_missed_and_keeps_to_the_grid() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).jumps(Jump { late_ns: 2 * SECOND + SECOND / 2, ..Jump::default() });
    world.shows(&[&a]).shows(&[&a]);
    let (summary, _) = world.record();
    assert_eq!(summary.progress.missed_ticks, 2);
    let rows = world.answer(Question::Snapshots, &["started_at", "missed_ticks"]);
    let expected = [(0, 0), (3_500, 2), (4_000, 0)].map(|(ms, missed)| {
        format!("started_at={} missed_ticks={missed}", START_UTC + ms * 1_000_000)
    });
    assert_eq!(rows, expected);
}

#[test]
fn steps_of_the_clock_and_suspends_are_recorded_and_lengths_stay_true() {
    let a = FakeSocket::established(1, 1_001, 80).opened_at(0);
    let mut world = World::default();
    world.shows(&[&a]).jumps(Jump { utc_ns: -3_600 * SECOND, ..Jump::default() });
    world.shows(&[&a]).jumps(Jump { suspended_ns: 50 * SECOND, ..Jump::default() });
    world.shows(&[&a]);
    world.record();
    assert_eq!(
        world.sql("SELECT snapshot_id, kind, delta_ns FROM clock_changes"),
        [format!("2 step {}", -3_600 * SECOND), format!("3 suspend {}", 50 * SECOND)]
    );
    // Two ticks and the suspend, whatever UTC says.
    let lengths = world.answer(Question::Connections, &["duration_min_ns"]);
    assert_eq!(lengths, [format!("duration_min_ns={}", 52 * SECOND - 1_000_000)]);
}

#[test]
fn a_time_that_was_passed_twice_means_the_later_pass_and_says_so() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    for _ in 0..5 {
        world.shows(&[&a]);
    }
    world.jumps(Jump { utc_ns: -4 * SECOND, ..Jump::default() });
    for _ in 0..3 {
        world.shows(&[&a]);
    }
    world.record();
    // First pass: 0 1 2 3 4; second pass: 1 2 3.
    let recording = Recording::open(&world.path()).unwrap();
    let at = |s: f64| {
        let ns = START_UTC + (s * 1e9) as i64;
        let id = recording.snapshot_at(ns).unwrap();
        (id, id.map_or(0, |id| recording.notes_at(ns, id).unwrap().len()))
    };
    assert_eq!(at(-1.0), (None, 0));
    assert_eq!(at(0.5), (Some(1), 0));
    assert_eq!(at(2.5), (Some(7), 1));
    assert_eq!(at(9.0), (Some(8), 0));
}

#[test]
fn new_sockets_beyond_the_bound_are_counted_and_not_claimed_absent() {
    let sockets: Vec<_> =
        (0..10).map(|i| FakeSocket::established(i, 2_000 + i as u16, 80)).collect();
    let all: Vec<_> = sockets.iter().collect();
    let mut world = World { max_new_sockets: 3, ..World::default() };
    world.shows(&all[..1]).shows(&all[..6]).shows(&all[..6]);
    world.record();
    assert_eq!(
        world.sql("SELECT snapshot_id, kind, count FROM exceptions"),
        ["2 sockets_not_stored 2"]
    );
    let rows = world.answer(Question::Connections, &["cookie", "opened_after"]);
    assert_eq!(rows.len(), 6);
    // Those of the third tick were there in the second, though not stored.
    assert_eq!(rows[5], format!("cookie=5 opened_after={START_UTC}"));
}

#[test]
fn a_socket_that_leaves_the_recorded_states_has_not_closed() {
    let a = FakeSocket::established(1, 1_001, 80);
    let waiting = a.in_state(TcpState::CLOSE_WAIT);
    let states = States::only(TcpState::ESTABLISHED);
    let mut world = World { states, ..World::default() };
    world.shows(&[]).shows(&[&a]).shows(&[&waiting]).shows(&[&waiting]);
    world.record();
    let columns = ["opened_after", "opened_evidence", "closed_before", "closed_evidence"];
    assert_eq!(
        world.answer(Question::Connections, &columns),
        ["opened_after=- opened_evidence=- closed_before=- closed_evidence=left_scope"]
    );
}

#[test]
fn a_capture_of_which_the_kernel_has_nothing_ends_with_an_error() {
    let mut world = World::default();
    world.ends(&[], unsupported);
    let (result, events) = world.try_record();
    assert!(matches!(result, Err(RecordError::NothingSupported)));
    assert!(matches!(events[0], Event::Unsupported(..)));
    assert_eq!(world.answer(Question::Captures, &["end_reason"]), ["end_reason=error"]);
}

#[test]
fn each_failed_dump_is_told_as_it_happens() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).ends(&[], failed).ends(&[&a], complete);
    let (summary, events) = world.record();
    assert_eq!(summary.progress.failed_dumps, 1);
    let told = events.iter().filter(|e| matches!(e, Event::DumpFailed(..))).count();
    assert_eq!((told, events.len()), (1, 4));
}

#[test]
fn a_socket_that_becomes_one_of_another_family_is_counted_where_it_is() {
    // IPV6_ADDRFORM turns an IPv6 socket with IPv4 addresses into an IPv4 one, cookie and all.
    let a = FakeSocket::established(1, 1_001, 80);
    let b = FakeSocket { remote_port: 81, ..a.clone() };
    let mut world = World { families: vec![Family::Inet, Family::Inet6], ..World::default() };
    world.shows_in(Family::Inet6, &[&a]).shows_in(Family::Inet, &[&b]);
    world.shows_in(Family::Inet, &[]).shows_in(Family::Inet, &[]).shows_in(Family::Inet, &[]);
    let (summary, _) = world.record();
    assert_eq!(summary.progress.sockets, 0);
    assert_eq!(
        world.answer(Question::Connections, &["family", "generation", "closed_evidence"]),
        [
            "family=inet6 generation=0 closed_evidence=replaced",
            "family=inet generation=1 closed_evidence=absence",
        ]
    );
}

#[test]
fn gaps_are_told_with_their_kind_and_runs_of_equal_ones_are_one() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).ends(&[], failed).ends(&[], failed).ends(&[], failed).shows(&[&a]);
    world.jumps(Jump { late_ns: 2 * SECOND, ..Jump::default() }).shows(&[&a]);
    world.jumps(Jump { utc_ns: -SECOND, ..Jump::default() }).shows(&[&a]);
    world.record();
    world.goes_on_after(60 * SECOND).shows(&[&a]);
    world.record();
    assert_eq!(
        world.answer(Question::Gaps, &["kind", "snapshots", "count", "delta_ns", "message"]),
        [
            "kind=dump_failed snapshots=3 count=- delta_ns=- message=Cannot allocate memory",
            "kind=ticks_missed snapshots=- count=2 delta_ns=- message=-",
            "kind=clock_step snapshots=- count=- delta_ns=-1000000000 message=-",
            "kind=not_recording snapshots=- count=- delta_ns=- message=-",
        ]
    );
}
