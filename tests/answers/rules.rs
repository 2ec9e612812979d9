//! `assert`: rules that hold, are broken, or of which nobody can know.

use insta::assert_snapshot;
use sockrec::model::{Protocol, States, TcpState};

use crate::harness::{Dir, Ran};
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, World, failed, interrupted};

/// What a rule's rows show, without the ends of sockets.
const COLUMNS: &str =
    "--format csv --columns rule,verdict,value,limit,value_unit,from,to,message,socket_id";

fn held_to(world: &World, line: &str) -> Ran {
    let file = world.path();
    Dir::new().sockrec(&format!("assert {line} {COLUMNS} -f '{}'", file.display()))
}

#[track_caller]
fn holds(world: &World, line: &str) {
    let ran = held_to(world, line);
    assert_eq!(ran.code(), Some(0), "{line}: {}", ran.told());
    assert_eq!(ran.stdout().lines().count(), 1, "{line}: {}", ran.told());
}

/// The rows of a broken rule, or of one of which it is not known.
#[track_caller]
fn rows(world: &World, line: &str, code: i32) -> String {
    let ran = held_to(world, line);
    assert_eq!(ran.code(), Some(code), "{line}: {}", ran.told());
    ran.stdout().lines().skip(1).collect::<Vec<_>>().join("\n").replace("2026-11-21T12:", "")
}

fn at(second: &str) -> String {
    format!("2026-11-21T12:00:{second}Z")
}

/// Connection 1 is in CLOSE-WAIT from second 2 to second 11, and gone by 12.
fn close_wait() -> World {
    let a = FakeSocket::established(1, 1_001, 80).fin_received();
    let mut world = World::default();
    world.shows(&[]).shows(&[&a]);
    for _ in 2..=11 {
        world.shows(&[&a.in_state(TcpState::CLOSE_WAIT)]);
    }
    world.shows(&[]).shows(&[]).shows(&[]);
    world
}

#[test]
fn a_close_wait_breaks_its_rule_by_the_least_that_it_can_have_lasted() {
    let world = close_wait();
    world.record();
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=8s", 1), @"no-close-wait-longer-than,broken,8.999,8.0,s,00:02.000000000Z,00:11.001000000Z,so long at least,1");
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=9s", 3), @r#"no-close-wait-longer-than,not_known,8.999,9.0,s,00:02.000000000Z,00:11.001000000Z,"so long at least, and 12.001 s at most",1"#);
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=11s", 3), @r#"no-close-wait-longer-than,not_known,8.999,11.0,s,00:02.000000000Z,00:11.001000000Z,"so long at least, and 12.001 s at most",1"#);
    // Two dumps lacked it before that proved anything.
    holds(&world, "no-close-wait-longer-than=12.001s");
}

#[test]
fn a_close_wait_counts_as_old_as_it_was_in_the_span() {
    let world = close_wait();
    world.record();
    let to = format!("--to {}", at("07.5"));
    assert_snapshot!(rows(&world, &format!("no-close-wait-longer-than=4s {to}"), 1), @"no-close-wait-longer-than,broken,4.999,4.0,s,00:02.000000000Z,00:07.001000000Z,so long at least,1");
    holds(&world, &format!("no-close-wait-longer-than=6.001s {to}"));
    // It had begun before the span, and was older in it than the span is long.
    let span = format!("--from {} --to {}", at("10.5"), at("11.5"));
    assert_snapshot!(rows(&world, &format!("no-close-wait-longer-than=8s {span}"), 1), @"no-close-wait-longer-than,broken,8.999,8.0,s,00:02.000000000Z,00:11.001000000Z,so long at least,1");
    holds(&world, &format!("no-close-wait-longer-than=1s --from {}", at("12.5")));
    holds(&world, &format!("no-close-wait-longer-than=1.5s --to {}", at("02.5")));
}

#[test]
fn a_failed_dump_shortens_no_close_wait() {
    let a = FakeSocket::established(1, 1_001, 80).fin_received();
    let waiting = a.in_state(TcpState::CLOSE_WAIT);
    let mut world = World::default();
    world.shows(&[]).shows(&[&a]).shows(&[&waiting]);
    for _ in 3..=8 {
        world.ends(&[], failed);
    }
    world.shows(&[&waiting]).shows(&[]).shows(&[]);
    world.record();
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=6s", 1), @"
    no-close-wait-longer-than,broken,6.999,6.0,s,00:02.000000000Z,00:09.001000000Z,so long at least,1
    no-close-wait-longer-than,not_known,,,s,00:02.000000000Z,00:09.001000000Z,dump_failed,
    ");
    // Nobody looked from 2 to 9: a socket that came and went would not have been seen.
    holds(&world, "no-close-wait-longer-than=20s");
}

/// Dumps failed before it was seen in the state and before it was seen out of it: by the least it was
/// there from 5 to 7, by the most from 1 to 11.
#[test]
fn around_failed_dumps_a_close_wait_may_have_been_longer() {
    let a = FakeSocket::established(1, 1_001, 80).fin_received();
    let waiting = a.in_state(TcpState::CLOSE_WAIT);
    let mut world = World::default();
    world.shows(&[]).shows(&[&a]);
    (2..=4).for_each(|_| _ = world.ends(&[], failed));
    world.shows(&[&waiting]).shows(&[&waiting]).shows(&[&waiting.sent(10)]);
    (8..=10).for_each(|_| _ = world.ends(&[], failed));
    world.shows(&[&a.in_state(TcpState::LAST_ACK)]).shows(&[]).shows(&[]);
    world.record();
    let told = rows(&world, "no-close-wait-longer-than=1.5s", 1);
    assert_snapshot!(told.lines().next().unwrap(), @"no-close-wait-longer-than,broken,1.999,1.5,s,00:05.000000000Z,00:07.001000000Z,so long at least,1");
    let told = rows(&world, "no-close-wait-longer-than=9s", 3);
    assert_snapshot!(told.lines().next().unwrap(), @r#"no-close-wait-longer-than,not_known,1.999,9.0,s,00:05.000000000Z,00:07.001000000Z,"so long at least, and 10.001 s at most",1"#);
    holds(&world, "no-close-wait-longer-than=10.1s");
}

#[test]
fn how_long_a_close_wait_had_been_there_when_recording_began_is_not_known() {
    let waiting = FakeSocket::established(1, 1_001, 80).in_state(TcpState::CLOSE_WAIT);
    let mut world = World::default();
    world.shows(&[&waiting]).shows(&[&waiting]).shows(&[&waiting]);
    world.record();
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=60s", 3), @"no-close-wait-longer-than,not_known,1.999,60.0,s,00:00.000000000Z,00:02.001000000Z,since when it was in CLOSE-WAIT is not known,1");
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=1s", 1), @"no-close-wait-longer-than,broken,1.999,1.0,s,00:00.000000000Z,00:02.001000000Z,so long at least,1");
}

#[test]
fn retransmissions_are_held_against_the_data_segments_of_the_span() {
    let a = FakeSocket::established(1, 1_001, 80);
    // What was retransmitted before recording began does not count.
    let old = FakeSocket { data_segs_out: 500, total_retrans: 400, ..a.clone() };
    let old = FakeSocket { cookie: 2, local_port: 1_002, ..old };
    let (first, second) = (
        FakeSocket { data_segs_out: 90, ..a.clone() },
        FakeSocket { data_segs_out: 180, total_retrans: 2, ..a },
    );
    let more = FakeSocket { data_segs_out: 520, ..old.clone() };
    let mut world = World::with_events();
    world.shows(&[&old]).shows(&[&old, &first]).shows(&[&old, &second]);
    world.shows(&[&more, &second]).shows(&[&more, &second]);
    world.tells(&[second.fin_acked().fin_received().destroyed()]).shows(&[&more]);
    world.record();
    assert_snapshot!(rows(&world, "retransmit-ratio-below=1%", 1), @r#"retransmit-ratio-below,broken,1.0,1.0,%,00:00.000000000Z,00:05.001000000Z,"retransmitted: 2, data segments: 200, connections: 2","#);
    holds(&world, "retransmit-ratio-below=1.0001%");
    holds(&world, &format!("retransmit-ratio-below=1% --to {}", at("01.5")));
    holds(&world, &format!("retransmit-ratio-below=1% --from {}", at("02.5")));
    assert_snapshot!(rows(&world, "retransmit-ratio-below=2% --cookie 1 --from @1795262402", 1), @r#"retransmit-ratio-below,broken,2.2222222222222223,2.0,%,00:02.000000000Z,00:05.001000000Z,"retransmitted: 2, data segments: 90, connections: 1","#);
    holds(&world, "retransmit-ratio-below=1% --cookie 2");
}

#[test]
fn a_connection_whose_counters_nobody_told_may_have_retransmitted() {
    let a = FakeSocket::established(1, 1_001, 80).to_afar();
    let mut world = World::with_events();
    world.shows(&[]).tells(&[a.aborted()]).shows(&[]);
    world.record();
    assert_snapshot!(rows(&world, "retransmit-ratio-below=1%", 3), @r#"retransmit-ratio-below,not_known,,1.0,%,00:00.000000000Z,00:01.001000000Z,"retransmitted: 0, data segments: 0, connections: 0, without known counters: 1","#);
}

#[test]
fn a_backlog_is_full_beyond_its_limit() {
    let listener = |backlog| FakeSocket::listener(1, 8_081, backlog, 2);
    let mut world = World::default();
    for backlog in [0, 2, 3, 3, 3, 1, 3, 0] {
        world.shows(&[&listener(backlog)]);
    }
    world.record();
    assert_snapshot!(rows(&world, "backlog-never-full", 1), @"backlog-never-full,broken,3,2,connections,00:02.001000000Z,00:06.001000000Z,snapshots: 4,1");
    holds(&world, &format!("backlog-never-full --to {}", at("01.5")));
    holds(&world, &format!("backlog-never-full --from {}", at("06.5")));
    // It was full before the span began, and nothing changed in it.
    let span = format!("backlog-never-full --from {} --to {}", at("02.5"), at("04.5"));
    assert_snapshot!(rows(&world, &span, 1), @"backlog-never-full,broken,3,2,connections,00:03.001000000Z,00:04.001000000Z,snapshots: 2,1");
    holds(&world, "backlog-never-full --cookie 2");
    assert_snapshot!(rows(&world, "no-listen-drops", 3), @"no-listen-drops,not_known,,0,drops,00:00.000000000Z,00:07.001000000Z,the kernel did not tell them,1");
}

#[test]
fn a_reset_breaks_its_rule_and_an_unexplained_end_may_have() {
    let (a, b) = (
        FakeSocket::established(1, 1_001, 80).to_afar(),
        FakeSocket::established(2, 1_002, 80).to_afar(),
    );
    let mut world = World::with_events();
    world.shows(&[&a, &b]).shows(&[&a, &b]);
    world.tells(&[a.destroyed()]).shows(&[&b]).shows(&[]).shows(&[]);
    world.record();
    assert_snapshot!(rows(&world, "no-resets", 1), @r#"
    no-resets,broken,,,,00:01.000000000Z,00:01.700000000Z,fin_not_acked,1
    no-resets,not_known,,,,00:02.000000000Z,00:04.001000000Z,"it ended, and how is not known",2
    "#);
    assert_snapshot!(rows(&world, &format!("no-resets --from {}", at("02.5")), 3), @r#"no-resets,not_known,,,,00:02.000000000Z,00:04.001000000Z,"it ended, and how is not known",2"#);
    holds(&world, "no-resets --cookie 3");
}

#[test]
fn a_connect_that_failed() {
    let a = FakeSocket::established(1, 1_001, 80).to_afar().opened_at(1_500);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[]).tells(&[a.refused()]).shows(&[]).shows(&[]);
    world.record();
    assert_snapshot!(rows(&world, "no-failed-connects", 1), @"no-failed-connects,broken,,,,,00:01.700000000Z,nothing_received,1");
    holds(&world, &format!("no-failed-connects --from {}", at("02.5")));
    holds(&world, &format!("no-failed-connects --to {}", at("01.5")));
}

#[test]
fn without_destroy_events_nobody_knows_of_short_connections() {
    let mut world = World::default();
    world.shows(&[]).shows(&[]);
    world.record();
    for rule in ["no-resets", "no-failed-connects", "retransmit-ratio-below=1%"] {
        let told = rows(&world, rule, 3);
        assert!(told.ends_with("00:00.000000000Z,00:01.001000000Z,no_events,"), "{told}");
    }
    holds(&world, "backlog-never-full connections-below=1 no-gaps no-close-wait-longer-than=1s");
}

#[test]
fn connections_are_counted_snapshot_by_snapshot() {
    let sockets: Vec<_> =
        (1..=3).map(|n| FakeSocket::established(n, 1_000 + n as u16, 80)).collect();
    let [a, b, c] = &sockets[..] else { unreachable!() };
    let listener = FakeSocket::listener(9, 80, 0, 16);
    let gone = a.time_wait();
    let mut world = World::default();
    world.shows(&[&listener, a]).shows(&[&listener, a, b]).shows(&[&listener, a, b, c]);
    world
        .shows(&[&listener, b, c, &gone])
        .shows(&[&listener, c, &gone])
        .shows(&[&listener, c, &gone]);
    world.record();
    assert_snapshot!(rows(&world, "connections-below=3", 1), @"connections-below,broken,3,3,connections,00:02.000000000Z,00:02.001000000Z,snapshots: 1,");
    assert_snapshot!(rows(&world, "connections-below=2", 1), @"connections-below,broken,3,2,connections,00:01.000000000Z,00:03.001000000Z,snapshots: 3,");
    holds(&world, "connections-below=4");
    holds(&world, &format!("connections-below=2 --from {}", at("04.5")));
    holds(&world, "connections-below=2 --cookie 1");
}

#[test]
fn gaps_break_their_rule_and_hide_what_breaks_others() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).ends(&[], failed).ends(&[], interrupted).shows(&[&a]).shows(&[&a]);
    world.shows(&[&a]).record();
    world.goes_on_after(60 * SECOND).shows(&[&a]);
    world.record();
    assert_snapshot!(rows(&world, "no-gaps", 1), @r#"
    no-gaps,broken,60.999,0,s,00:05.001000000Z,01:06.000000000Z,not_recording,
    no-gaps,broken,2.001,0,s,00:00.000000000Z,00:02.001000000Z,"dump_failed tcp/inet, Cannot allocate memory",
    no-gaps,broken,2.001,0,s,00:01.000000000Z,00:03.001000000Z,dump_interrupted tcp/inet,
    "#);
    assert_snapshot!(rows(&world, "backlog-never-full", 3), @"
    backlog-never-full,not_known,,,connections,00:00.000000000Z,00:02.001000000Z,dump_failed,
    backlog-never-full,not_known,,,connections,00:01.000000000Z,00:03.001000000Z,dump_interrupted,
    backlog-never-full,not_known,,,connections,00:05.001000000Z,01:06.000000000Z,not_recording,
    ");
    holds(&world, &format!("no-gaps backlog-never-full --from {} --to {}", at("03.5"), at("04.5")));
    // Only the minute without a recorder is long enough.
    assert_snapshot!(rows(&world, "no-close-wait-longer-than=30s", 3), @"no-close-wait-longer-than,not_known,,,s,00:05.001000000Z,01:06.000000000Z,not_recording,");
    holds(&world, "no-close-wait-longer-than=2m");
}

#[test]
fn what_was_not_recorded_at_all_is_not_known() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World { states: States::only(TcpState::ESTABLISHED), ..World::with_events() };
    world.shows(&[&a]).shows(&[&a]);
    world.record();
    assert_snapshot!(rows(&world, "backlog-never-full", 3), @"backlog-never-full,not_known,,,connections,00:00.000000000Z,00:01.001000000Z,states_not_asked,");
    holds(&world, "connections-below=2");
    // Before, after, and neither.
    let span = |from, to| format!("no-gaps --from {from} --to {to}");
    let (early, late) = ("2026-11-21T11:00:00Z", "2026-11-21T13:00:00Z");
    assert_snapshot!(rows(&world, &span(early, late), 1), @"
    no-gaps,broken,3600.0,0,s,2026-11-21T11:00:00.000000000Z,00:00.000000000Z,before_recording,
    no-gaps,broken,3598.999,0,s,00:01.001000000Z,2026-11-21T13:00:00.000000000Z,after_recording,
    ");
    let outside = format!("connections-below=2 --from {late} --to 2026-11-21T14:00:00Z");
    assert_snapshot!(rows(&world, &outside, 3), @"connections-below,not_known,,,connections,2026-11-21T13:00:00.000000000Z,2026-11-21T14:00:00.000000000Z,nothing_recorded,");
}

#[test]
fn several_rules_are_told_in_one_answer() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&a]);
    world.record();
    let told = |line: &str| {
        Dir::new().sockrec(&format!("assert {line} -f '{}'", world.path().display())).told()
    };
    assert_snapshot!(told("connections-below=1 no-gaps no-resets --utc"), @"
    exit 1
    stdout:
    RULE               VERDICT    VALUE  LIMIT  VALUE_UNIT   FROM                       TO                         MESSAGE       SOCKET_ID  LOCAL_ADDRESS  LOCAL_PORT  REMOTE_ADDRESS  REMOTE_PORT  OWNERS
    connections-below  broken         1      1  connections  2026-11-21 12:00:00.000 Z  2026-11-21 12:00:01.001 Z  snapshots: 2          -  -                       -  -                         -  -
    no-resets          not_known      -      -  -            2026-11-21 12:00:00.000 Z  2026-11-21 12:00:01.001 Z  no_events             -  -                       -  -                         -  -
    stderr:
    warning: not known to hold: no-resets (1 of 3 rules)
    broken: connections-below (1 of 3 rules)
    ");
    assert_snapshot!(told("no-gaps no-resets --format jsonl --columns rule,message"), @r#"
    exit 3
    stdout:
    {"rule":"no-resets","message":"no_events"}
    stderr:
    warning: not known to hold: no-resets (1 of 2 rules)
    "#);
    assert_snapshot!(told("no-gaps backlog-never-full"), @"
    exit 0
    note: all 2 rules hold
    ");
    let few = told("connections-below=1 no-resets --limit 0");
    assert_eq!(few.lines().next(), Some("exit 1"), "what is not shown counts: {few}");
    assert_snapshot!(told("no-resets --cookie 77 --format csv --columns rule"), @"
    exit 3
    stdout:
    rule
    no-resets
    stderr:
    note: no socket of the recording matches
    warning: not known to hold: no-resets
    ");
    assert_snapshot!(told("no-gaps --format json"), @"
    exit 0
    stdout:
    []
    stderr:
    note: the rule holds
    ");
    assert_snapshot!(told("--list"), @"
    exit 0
    stdout:
    no-close-wait-longer-than=60s  no socket is in CLOSE-WAIT for longer: its program closes what the other end has closed
    retransmit-ratio-below=1%      of the data segments that all connections send together fewer are retransmitted
    backlog-never-full             no snapshot shows an accept queue with more connections than its limit
    no-listen-drops                no listener drops a connection request; the kernel counts them between snapshots too
    no-resets                      no connection ends by a reset or an abort
    no-failed-connects             no connection that this host opens is refused or stays without an answer
    connections-below=500          every snapshot shows fewer TCP connections, TIME-WAIT aside; within this host both ends count
    no-gaps                        no dump failed, no tick was missed, no event was lost, in all of the span
    stderr:
    ");
}

/// A dump of UDP that fails hides no TCP socket, and a missed tick nothing that the kernel counts.
#[test]
fn a_gap_hides_only_what_it_can_hide() {
    let a = FakeSocket::established(1, 1_001, 80);
    let mut world = World { protocol: Protocol::Udp, ..World::default() };
    world.shows(&[]).ends(&[], failed).shows(&[]);
    world.record();
    let mut world = World { protocol: Protocol::Tcp, ..world };
    world.goes_on_after(0).shows(&[&a]);
    world.jumps(Jump { late_ns: 2 * SECOND, ..Jump::default() }).shows(&[&a]).shows(&[&a]);
    world.record();
    let told = rows(&world, "no-gaps", 1);
    for gap in ["dump_failed udp/inet, Cannot allocate memory", "ticks_missed: 2"] {
        assert!(told.contains(gap), "{told}");
    }
    let (of_backlogs, of_drops) =
        (rows(&world, "backlog-never-full", 3), rows(&world, "no-listen-drops", 3));
    let kinds = |told: &str, kind| told.contains(kind);
    assert!(kinds(&of_backlogs, "ticks_missed") && !kinds(&of_backlogs, "dump_failed"));
    assert!(kinds(&of_drops, "not_recording") && !kinds(&of_drops, "ticks_missed"));
}
