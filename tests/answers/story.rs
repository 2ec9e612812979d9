//! `query connection`: all that is known of one.

use insta::assert_snapshot;
use serde_json::Value;
use sockrec::model::TcpState;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::{World, failed};

/// Connection 1 is opened after the first dump, sends at two rates with a rest between, retransmits
/// nothing, is half closed, goes into TIME-WAIT and is gone; a dump fails meanwhile.
fn world() -> World {
    let a = FakeSocket::established(1, 1_001, 80).opened_at(500);
    let mut world = World::default();
    let mut now = a.clone();
    world.shows(&[]).shows(&[&now]);
    for _ in 0..3 {
        now = now.sent(1_000);
        world.shows(&[&now]);
    }
    for _ in 0..10 {
        world.shows(&[&now]);
    }
    now = now.sent(50_000);
    world.shows(&[&now]).ends(&[], failed);
    now = now.in_state(TcpState::FIN_WAIT2);
    world.shows(&[&now]).shows(&[&now]);
    let left = now.time_wait();
    world.shows(&[&left]).shows(&[&left]).shows(&[]).shows(&[]);
    world.record();
    world
}

fn told(world: &World, options: &str) -> String {
    let line = format!("query connection 1 --utc {options} -f '{}'", world.path().display());
    Dir::new().sockrec(&line).fine().stdout()
}

#[test]
fn a_story_is_told_from_the_opening_to_the_end() {
    assert_snapshot!(told(&world(), ""), @"
    connection 1: tcp 127.0.0.1:1001 -> 127.0.0.2:80
      namespace net:[4026531833], cookie 1, inode 11001, uid 1000

    Owners
      none was found

    Opening
      between 2026-11-21 12:00:00.000 Z and 2026-11-21 12:00:00.550 Z
        snapshot: a complete dump lacked it before, the next one showed it
      outbound
        syn_counted: the acknowledged bytes count a SYN of this end

    States
      STATE       SEEN_FROM                  SEEN_TO                    IN_STATE_MIN_NS  IN_STATE_MAX_NS
      ESTAB       2026-11-21 12:00:01.001 Z  2026-11-21 12:00:15.001 Z          14.000s          17.001s
      FIN-WAIT-2  2026-11-21 12:00:17.001 Z  2026-11-21 12:00:18.001 Z           1.000s           4.000s
      TIME-WAIT   2026-11-21 12:00:19.001 Z  2026-11-21 12:00:20.001 Z           1.000s           4.000s
      the last after the end of its life: what the kernel keeps of a connection

    Traffic
      until it was last seen: 53.1kB sent, 0 received
      retransmitted: nothing
      FROM                       TO                         SENT_BYTES_PER_S  RECEIVED_BYTES_PER_S  RETRANS_DELTA  RTT_US  SND_CWND
      2026-11-21 12:00:01.001 Z  2026-11-21 12:00:02.001 Z              1000                     0              0   250us         0
      2026-11-21 12:00:02.001 Z  2026-11-21 12:00:03.001 Z              1000                     0              0   250us         0
      2026-11-21 12:00:03.001 Z  2026-11-21 12:00:04.001 Z              1000                     0              0   250us         0
      2026-11-21 12:00:04.001 Z  2026-11-21 12:00:14.001 Z                 0                     0              0   250us         0
      2026-11-21 12:00:14.001 Z  2026-11-21 12:00:15.001 Z            50.0kB                     0              0   250us         0
      2026-11-21 12:00:15.001 Z  2026-11-21 12:00:17.001 Z                 0                     0              0   250us         0

    What limited its sending
      data outstanding for 0.0% of 16.000s; in the rest (100.0%) the application gave nothing to send

    Ending
      between 2026-11-21 12:00:18.000 Z and 2026-11-21 12:00:19.001 Z
        time_wait: a dump showed it in TIME-WAIT
      orderly
        time_wait: a dump showed it in TIME-WAIT
      lasted 17.450s to 19.001s
      TIME-WAIT after that for 999ms to 4.001s

    Gaps that its life may overlap
      KIND         FROM                       TO                         COUNT  MESSAGE
      dump_failed  2026-11-21 12:00:16.000 Z  2026-11-21 12:00:16.001 Z      -  Cannot allocate memory

    Not known
      which process held it; what went through it after it was last seen; when the kernel freed its socket
    ");
}

#[test]
fn owners_that_were_not_looked_for_are_told_from_those_not_found() {
    let world = world();
    let tell = |options: &str| {
        let file = rusqlite::Connection::open(world.path()).unwrap();
        file.execute("UPDATE captures SET options = ?1", [options]).unwrap();
        drop(file);
        told(&world, "")
    };
    let story = tell(r#"{"owners": false}"#);
    assert!(story.contains("Owners\n  not looked for\n"), "{story}");
    assert!(story.contains("which process held it, which was not looked for;"), "{story}");
    let story = tell(r#"{"owners": true, "sees_every_process": false}"#);
    assert!(story.contains("it might not look at others\n"), "{story}");
    assert!(story.contains("those of its own user only;"), "{story}");
    let seen = r#"{"owners": true, "sees_every_process": true}"#;
    for options in [seen, r#"{"owners": true}"#, "{}", "no JSON"] {
        let story = tell(options);
        assert!(story.contains("Owners\n  none was found\n"), "{story}");
        assert!(story.contains("which process held it;"), "{story}");
    }
}

#[test]
fn what_happened_is_a_row_each() {
    assert_snapshot!(told(&world(), "--format csv"), @"
    not_before,at,kind,detail,sent_delta_bytes,received_delta_bytes,retrans_delta,rtt_us,snd_cwnd
    2026-11-21T12:00:00.000000000Z,2026-11-21T12:00:00.550000000Z,opened,snapshot,,,,,
    2026-11-21T12:00:00.000000000Z,2026-11-21T12:00:01.001000000Z,state,ESTAB,,,,,
    2026-11-21T12:00:01.001000000Z,2026-11-21T12:00:02.001000000Z,traffic,,1000,0,0,250,0
    2026-11-21T12:00:02.001000000Z,2026-11-21T12:00:03.001000000Z,traffic,,1000,0,0,250,0
    2026-11-21T12:00:03.001000000Z,2026-11-21T12:00:04.001000000Z,traffic,,1000,0,0,250,0
    2026-11-21T12:00:04.001000000Z,2026-11-21T12:00:14.001000000Z,traffic,,0,0,0,250,0
    2026-11-21T12:00:14.001000000Z,2026-11-21T12:00:15.001000000Z,traffic,,50000,0,0,250,0
    2026-11-21T12:00:16.000000000Z,2026-11-21T12:00:16.001000000Z,gap,dump_failed,,,,,
    2026-11-21T12:00:15.001000000Z,2026-11-21T12:00:17.001000000Z,state,FIN-WAIT-2,,,,,
    2026-11-21T12:00:15.001000000Z,2026-11-21T12:00:17.001000000Z,traffic,,0,0,0,250,0
    2026-11-21T12:00:18.001000000Z,2026-11-21T12:00:19.001000000Z,state,TIME-WAIT,,,,,
    2026-11-21T12:00:18.000000000Z,2026-11-21T12:00:19.001000000Z,closed,orderly (time_wait),,,,,
    ");
}

#[test]
fn the_object_has_the_same_parts() {
    let world = world();
    let story: Value = serde_json::from_str(&told(&world, "--format json")).unwrap();
    let names: Vec<_> = story.as_object().unwrap().keys().map(String::as_str).collect();
    let parts =
        ["connection", "gaps", "limits", "markers", "not_known", "owners", "states", "traffic"];
    assert_eq!(names, parts);
    assert_eq!(story["connection"]["cookie"], "1");
    let states: Vec<_> = story["states"].as_array().unwrap().iter().map(|s| &s["state"]).collect();
    assert_eq!(states, ["ESTAB", "FIN-WAIT-2", "TIME-WAIT"]);
    assert_eq!(story["gaps"][0]["kind"], "dump_failed");
    let sent: i64 = story["traffic"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|interval| interval["sent_delta_bytes"].as_i64())
        .sum();
    assert_eq!(sent, 53_000);
}

#[test]
fn a_listener_has_a_story_too() {
    let listener = FakeSocket::listener(1, 8_081, 3, 16);
    let mut world = World::default();
    world.shows(&[&listener]).shows(&[&listener]);
    world.record();
    assert_snapshot!(told(&world, ""), @"
    connection 1: tcp 127.0.0.2:8081 -- 0.0.0.0:*
      namespace net:[4026531833], cookie 1, inode 18081, uid 1000

    Owners
      none was found

    Opening
      before 2026-11-21 12:00:00.001 Z
        recording_start: it was there when recording began

    States
      STATE   SEEN_FROM                  SEEN_TO                    IN_STATE_MIN_NS  IN_STATE_MAX_NS
      LISTEN  2026-11-21 12:00:00.001 Z  2026-11-21 12:00:01.001 Z           1.000s                -

    Traffic
      no counters are known

    Ending
      none is known: last seen at 2026-11-21 12:00:01.001 Z in LISTEN
        recording_end: nobody looked any longer
      lasted 999ms at least

    Not known
      since when it was there; which process held it; what became of it
    ");
}

#[test]
fn many_rows_make_a_bounded_number_of_lines() {
    let mut now = FakeSocket::established(1, 1_001, 80);
    let mut world = World::default();
    for _ in 0..300 {
        now = now.sent(100);
        world.shows(&[&now]);
    }
    world.record();
    let text = told(&world, "");
    assert!(text.contains("299 intervals in 20 lines"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("  2026-")).count(), 20, "{text}");
    assert_eq!(told(&world, "--format jsonl").matches("\"traffic\"").count(), 299);
}

/// Connection 1 is seen open once; no dump shows anything for a while, then its TIME-WAIT, whose timer tells
/// since when, and again nothing.
fn closed_unseen() -> World {
    let a = FakeSocket::established(1, 1_001, 80);
    let a = FakeSocket { total_retrans: 1, data_segs_out: 4, ..a };
    let left = a.time_wait_since(1_300);
    let mut world = World::default();
    world.shows(&[]).shows(&[&a]).ends(&[], failed).shows(&[&left]).ends(&[], failed);
    world.shows(&[&left]).shows(&[]).shows(&[]);
    world.record();
    world
}

#[test]
fn no_state_is_told_to_have_lasted_longer_than_the_connection() {
    let story: Value = serde_json::from_str(&told(&closed_unseen(), "--format json")).unwrap();
    let state = &story["states"][0];
    assert_eq!(state["state"], "ESTAB");
    assert_eq!(state["in_state_max_ns"], story["connection"]["duration_max_ns"], "{story}");
    // The timer is not exact.
    assert_eq!(state["in_state_max_ns"], 1_320_000_000, "{story}");
}

#[test]
fn a_gap_in_what_was_left_of_a_connection_is_none_in_its_life() {
    let story: Value = serde_json::from_str(&told(&closed_unseen(), "--format json")).unwrap();
    let gaps: Vec<_> = story["gaps"].as_array().unwrap().iter().map(|gap| &gap["from"]).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
    assert!(told(&world(), "").contains("Gaps that its life may overlap"));
}

#[test]
fn one_segment_is_one() {
    let story = told(&closed_unseen(), "");
    assert!(story.contains("retransmitted: 1 segment, 25.0% of the data segments"), "{story}");
}

/// It is closed with much to send, and goes on without its socket for seconds.
#[test]
fn what_a_socket_sent_last_was_sent_before_it_was_freed() {
    let a = FakeSocket::established(1, 1_001, 80).to_afar();
    let closed = FakeSocket { bytes_received: 0, data_segs_in: 0, ..a.sent(3_000_000).fin_acked() };
    let rest = a.time_wait_since(2_690).in_state(TcpState::FIN_WAIT2);
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&a]).shows(&[&a]).tells(&[closed.destroyed()]);
    world.shows(&[&rest]).shows(&[&rest]).shows(&[&rest]).shows(&[]).shows(&[]);
    world.record();
    let story: Value = serde_json::from_str(&told(&world, "--format json")).unwrap();
    let last = story["traffic"].as_array().unwrap().last().unwrap();
    let (from, to) = (last["from"].as_str().unwrap(), last["to"].as_str().unwrap());
    assert_eq!(last["sent_delta_bytes"], 3_000_000);
    assert_eq!((from, to), ("2026-11-21T12:00:02.001000000Z", "2026-11-21T12:00:02.700000000Z"));
}
