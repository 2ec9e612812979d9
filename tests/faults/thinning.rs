//! Recordings of which old samples are thinned, and what they say of it; kills while something goes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;
use sockrec::model::{Observation, TcpInfo};
use sockrec::store::{Capacity, ThinRule};

use crate::harness::{
    Churn, Dir, MadeUp, Random, ask, assert_is_one_file, assert_recording_is_whole, observation,
    violations,
};

const SECOND: i64 = 1_000_000_000;

/// Sockets whose counters change all the time.
fn busy(round: u64, sockets: u16) -> Vec<Observation<'static>> {
    (0..sockets)
        .map(|n| {
            let tcp = TcpInfo {
                bytes_sent: Some(round * 1_000 + u64::from(n)),
                snd_cwnd: Some(u32::try_from(round).unwrap()),
                ..observation(1).tcp
            };
            Observation { tcp, ..observation(1_000 + n) }
        })
        .collect()
}

/// A recording of busy sockets, a snapshot a second from 22:13:21 on.
fn made_up(path: &Path, rounds: u64, group_len: i64, sockets: u16) {
    let mut made = MadeUp::begin(path);
    made.group_len = group_len;
    for round in 0..rounds {
        made.snapshot(&busy(round, sockets)).commit();
    }
    made.end();
}

#[test]
fn what_was_thinned_says_so_wherever_it_matters() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path, 120, 60, 2);
    let before = fs::read(&path).unwrap();
    assert_snapshot!(dir.sockrec("prune -f rec.db --thin 10s --after 1d --dry-run").told(), @"
    exit 0
    note: 212 samples would be thinned out
    ");
    assert!(fs::read(&path).unwrap() == before, "a dry run changes nothing");
    assert_snapshot!(dir.sockrec("prune -f rec.db --thin 10s --after 1d").told(), @"
    exit 0
    note: thinned 212 samples out; `rec.db` has 216 KiB
    ");
    assert_snapshot!(dir.sockrec("prune -f rec.db --thin 10s --after 1d").told(), @"
    exit 0
    note: nothing of `rec.db` is beyond the limits that could go
    ");
    assert_recording_is_whole(&path);
    assert_is_one_file(&path);

    let at = |time: &str| {
        let columns = "local_port,bytes_sent,at";
        dir.sockrec(&format!("query at '2023-11-14 22:13:{time}' -f rec.db --columns {columns}"))
            .told()
    };
    assert_snapshot!(at("50"), @"
    exit 0
    stdout:
    LOCAL_PORT  BYTES_SENT  AT
          1000      29.0kB  2023-11-14 22:13:50.000 +00:00
          1001      29.0kB  2023-11-14 22:13:50.000 +00:00
    stderr:
    note: snapshot 30, ended at 2023-11-14 22:13:50.000 +00:00
    ");
    assert_snapshot!(at("47"), @"
    exit 3
    stdout:
    LOCAL_PORT  BYTES_SENT  AT
          1000      19.0kB  2023-11-14 22:13:47.000 +00:00
          1001      19.0kB  2023-11-14 22:13:47.000 +00:00
    stderr:
    note: snapshot 27, ended at 2023-11-14 22:13:47.000 +00:00
    warning: samples were thinned to 10s here: sockets and their states are those of this snapshot, other values may be as old as 2023-11-14 22:13:40.000 +00:00
    ");
    let diff = "query diff '2023-11-14 22:13:47' '2023-11-14 22:14:07' -f rec.db \
        --columns local_port,sent_delta_bytes";
    assert_snapshot!(dir.sockrec(diff).told(), @"
    exit 3
    stdout:
    LOCAL_PORT  SENT_DELTA_BYTES
          1000            20.0kB
          1001            20.0kB
    stderr:
    warning: samples were thinned to 10s here: sockets and their states are those of this snapshot, other values may be as old as 2023-11-14 22:13:40.000 +00:00
    warning: samples were thinned to 10s here: sockets and their states are those of this snapshot, other values may be as old as 2023-11-14 22:14:00.000 +00:00
    ");
    let coverage = "query coverage -f rec.db --utc --columns from,to,kind,snapshots,count,delta_ns";
    assert_snapshot!(dir.sockrec(coverage).told(), @"
    exit 0
    stdout:
    FROM                       TO                         KIND      SNAPSHOTS  COUNT  DELTA_NS
    2023-11-14 22:13:21.000 Z  2023-11-14 22:15:20.000 Z  recorded        120      -         -
    2023-11-14 22:13:21.000 Z  2023-11-14 22:15:20.000 Z  thinned         120    212   10.000s
    stderr:
    ");
    // Of what lies between two steps nothing is made up.
    let dense = "export samples -f rec.db --dense 5s --rates --format csv \
        --columns local_port,bytes_sent --from '2023-11-14 22:13:35' --to '2023-11-14 22:14:05' \
        sport = :1000";
    assert_snapshot!(dir.sockrec(dense).told(), @"
    exit 3
    stdout:
    at,local_port,bytes_sent,bytes_sent_per_s,bytes_acked_per_s,bytes_received_per_s,bytes_retrans_per_s,segs_out_per_s,segs_in_per_s,data_segs_out_per_s,data_segs_in_per_s,delivered_per_s,total_retrans_per_s,total_rto_per_s,sk_drops_per_s
    2023-11-14T22:13:40.000000000Z,1000,19000,,,,,,,,,,,,
    2023-11-14T22:13:50.000000000Z,1000,29000,,,,,,,,,,,,
    2023-11-14T22:14:00.000000000Z,1000,39000,,,,,,,,,,,,
    stderr:
    warning: samples of this span were thinned to 10s: what values were between is not known
    ");
    let dense = dense.replace("5s", "10s");
    assert_snapshot!(dir.sockrec(&dense).stdout(), @"
    at,local_port,bytes_sent,bytes_sent_per_s,bytes_acked_per_s,bytes_received_per_s,bytes_retrans_per_s,segs_out_per_s,segs_in_per_s,data_segs_out_per_s,data_segs_in_per_s,delivered_per_s,total_retrans_per_s,total_rto_per_s,sk_drops_per_s
    2023-11-14T22:13:40.000000000Z,1000,19000,,,,,,,,,,,,
    2023-11-14T22:13:50.000000000Z,1000,29000,1000.0,,,,,,,,,,,
    2023-11-14T22:14:00.000000000Z,1000,39000,1000.0,,,,,,,,,,,
    ");
    assert_snapshot!(dir.sockrec("query connections -f rec.db --columns local_port,samples").told(), @"
    exit 0
    stdout:
    LOCAL_PORT  SAMPLES
          1000      120
          1001      120
    stderr:
    ");
    assert_snapshot!(dir.sockrec("query connection 1 -f rec.db --utc").told(), @"
    exit 0
    stdout:
    connection 1: tcp 127.0.0.1:1000 -- 127.0.0.1:443
      namespace net:[4026531840], cookie 1000, inode 71000, uid 1000

    Owners
      none was found

    Opening
      before 2023-11-14 22:13:21.000 Z
        recording_start: it was there when recording began

    States
      STATE  SEEN_FROM                  SEEN_TO                    IN_STATE_MIN_NS  IN_STATE_MAX_NS
      ESTAB  2023-11-14 22:13:21.000 Z  2023-11-14 22:15:20.000 Z            1m59s                -

    Traffic
      in all: 119kB sent, - received
      FROM                       TO                         SENT_BYTES_PER_S  RECEIVED_BYTES_PER_S  RETRANS_DELTA  RTT_US  SND_CWND
      2023-11-14 22:13:21.000 Z  2023-11-14 22:13:30.000 Z              1000                     -              -  1.23ms         9
      2023-11-14 22:13:30.000 Z  2023-11-14 22:13:40.000 Z              1000                     -              -  1.23ms        19
      2023-11-14 22:13:40.000 Z  2023-11-14 22:13:50.000 Z              1000                     -              -  1.23ms        29
      2023-11-14 22:13:50.000 Z  2023-11-14 22:14:00.000 Z              1000                     -              -  1.23ms        39
      2023-11-14 22:14:00.000 Z  2023-11-14 22:14:10.000 Z              1000                     -              -  1.23ms        49
      2023-11-14 22:14:10.000 Z  2023-11-14 22:14:20.000 Z              1000                     -              -  1.23ms        59
      2023-11-14 22:14:20.000 Z  2023-11-14 22:14:21.000 Z              1000                     -              -  1.23ms        60
      2023-11-14 22:14:21.000 Z  2023-11-14 22:14:30.000 Z              1000                     -              -  1.23ms        69
      2023-11-14 22:14:30.000 Z  2023-11-14 22:14:40.000 Z              1000                     -              -  1.23ms        79
      2023-11-14 22:14:40.000 Z  2023-11-14 22:14:50.000 Z              1000                     -              -  1.23ms        89
      2023-11-14 22:14:50.000 Z  2023-11-14 22:15:00.000 Z              1000                     -              -  1.23ms        99
      2023-11-14 22:15:00.000 Z  2023-11-14 22:15:10.000 Z              1000                     -              -  1.23ms       109
      2023-11-14 22:15:10.000 Z  2023-11-14 22:15:20.000 Z              1000                     -              -  1.23ms       119

    Ending
      none is known: last seen at 2023-11-14 22:15:20.000 Z in ESTAB
        recording_end: nobody looked any longer
      lasted 1m59s at least

    Gaps that its life may overlap
      KIND     FROM                       TO                         COUNT  MESSAGE
      thinned  2023-11-14 22:13:21.000 Z  2023-11-14 22:15:20.000 Z    212  -

    Not known
      since when it was there; who opened it; which process held it; what became of it
    stderr:
    ");
    assert_snapshot!(dir.sockrec("query slow -f rec.db --columns local_port,max_rtt_us").told(), @"
    exit 3
    stdout:
    LOCAL_PORT  MAX_RTT_US
          1000      1.23ms
          1001      1.23ms
    stderr:
    note: the 20 slowest; `-n` shows more or fewer
    warning: samples of this span were thinned to 10s: what values were between is not known
    ");
    let rules = "assert -f rec.db backlog-never-full no-gaps connections-below=3 \
        --columns rule,verdict,message";
    assert_snapshot!(dir.sockrec(rules).told(), @"
    exit 3
    stdout:
    RULE                VERDICT    MESSAGE
    backlog-never-full  not_known  thinned
    stderr:
    warning: not known to hold: backlog-never-full (1 of 3 rules)
    ");

    // It can be taken from, put together with others and saved like any other.
    dir.sockrec("extract -f rec.db -o part.db --from '2023-11-14 22:13:47'").fine();
    dir.record("other.db");
    dir.sockrec("merge rec.db other.db -o both.db").fine();
    assert_snapshot!(dir.sockrec("salvage rec.db -o saved.db").told(), @"
    exit 0
    note: `saved.db` holds 1 capture, 120 snapshots, 2 sockets and 28 samples in 216 KiB
    ");
    for name in ["part.db", "both.db", "saved.db"] {
        assert_recording_is_whole(&dir.path(name));
        let thinned = "SELECT count(*) FROM gaps WHERE kind = 'thinned' AND delta_ns = 10000000000";
        assert_eq!(ask(&dir.path(name), thinned).unwrap(), 1, "{name}");
    }
    let rows = "SELECT count(*) FROM samples";
    assert_eq!(ask(&dir.path("saved.db"), rows).unwrap(), ask(&path, rows).unwrap());
}

/// What a thinned group sums up is more than its rows say, and never less.
#[test]
fn the_check_of_a_thinned_recording_is_as_strict_as_it_can_be() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path, 120, 60, 2);
    dir.sockrec("prune -f rec.db --thin 10s --after 1d").fine();
    let whole = fs::read(&path).unwrap();
    for (rule, sql) in [
        ("group-summaries", "UPDATE group_sockets SET max_rtt_us = 1"),
        ("group-summaries", "UPDATE group_sockets SET samples = 2"),
        ("group-summaries", "DELETE FROM group_sockets WHERE socket_id = 1"),
        ("group-summaries", "DELETE FROM samples WHERE snapshot_id = 120"),
        ("sample-chains", "DELETE FROM samples WHERE snapshot_id = 30"),
        ("counts", "DELETE FROM samples WHERE snapshot_id = 30"),
        ("thinned", "UPDATE groups SET thinned_to_ns = NULL"),
        ("thinned", "UPDATE snapshots SET is_thinned = 1 WHERE is_keyframe"),
    ] {
        fs::write(&path, &whole).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
        drop(connection);
        let found = violations(&path);
        assert!(found.iter().any(|text| text.starts_with(rule)), "{sql}: {found:#?}");
    }
}

#[test]
fn pairs_that_make_no_sense_are_refused() {
    let dir = Dir::new();
    let told = |line: &str| dir.sockrec(line).told();
    assert_snapshot!(told("record --thin 10s"), @"
    exit 2
    error: each `--thin` goes with one `--after`

    hint: `--thin 10s --after 1d --thin 1m --after 7d`: finer while young, coarser when old
    ");
    assert_snapshot!(told("prune --thin 10s --after 1d --thin 15s --after 7d"), @"
    exit 2
    error: what was thinned to 10s cannot be thinned to 15s after 7d: the longer the age the longer the steps, and these are whole multiples of the shorter ones
    ");
    assert_snapshot!(told("prune --thin 10s --after 1d --thin 20s --after 1d"), @"
    exit 2
    error: samples are thinned twice after 1d
    ");
    assert_snapshot!(told("prune --thin 0s --after 1d"), @"
    exit 2
    error: invalid value '0s' for '--thin <TIME>': it must be above 0

    For more information, try '--help'.
    ");
    fs::write(dir.path("limits"), "thin = 10s after 1d\nthin = 5s after 2d\n").unwrap();
    assert_snapshot!(told("record --limits limits"), @"
    exit 2
    error: line 2 of `limits`: invalid value `5s after 2d` for `thin`: what was thinned to 10s cannot be thinned to 5s after 2d: the longer the age the longer the steps, and these are whole multiples of the shorter ones
    ");
    fs::write(dir.path("limits"), "thin = 10s\n").unwrap();
    assert_snapshot!(told("record --limits limits"), @"
    exit 2
    error: line 1 of `limits`: invalid value `10s` for `thin`: write it as in `10s after 1d`
    ");
    assert_eq!(dir.names(), ["limits"]);
}

/// Steps that a writer does between snapshots, as the recorder has it.
#[test]
fn thinning_goes_on_in_small_steps_and_keeps_up() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 30;
    let rule =
        |every_s, after_s| ThinRule { every_ns: every_s * SECOND, after_ns: after_s * SECOND };
    let thin = vec![rule(10, 60), rule(30, 300)];
    made.writer.set_capacity(Capacity { thin, ..Capacity::NONE });
    for round in 0..600 {
        made.snapshot(&busy(round, 100)).commit();
        let (now, start) = (made.now(), made.start);
        // Someone waits: no more is done than has to be.
        assert!(made.writer.keep_within_limits(&start, now, 100, || true).unwrap());
    }
    made.end();
    assert_recording_is_whole(&path);
    let groups = |every_s: i64| {
        let sql = format!("SELECT count(*) FROM groups WHERE thinned_to_ns = {}", every_s * SECOND);
        ask(&path, &sql).unwrap()
    };
    assert!(groups(30) >= 8 && groups(10) >= 6, "{} {}", groups(30), groups(10));
    let unfinished =
        "SELECT count(*) FROM groups WHERE thinned_to_ns > 0 AND thinned_samples IS NULL";
    assert!(ask(&path, unfinished).unwrap() <= 1);
}

fn kills() -> u64 {
    std::env::var("SOCKREC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(25)
}

/// Kills it at random again and again, and lets it come to its end at last. Where it was faster
/// than the kill, it begins anew with what was there, and the next kill comes earlier.
fn killed_while(dir: &Dir, line: &str, seed: u64) {
    let path = dir.path("rec.db");
    let unswept = fs::read(&path).unwrap();
    let mut random = Random::new(seed);
    let mut longest_us = 40_000;
    let mut killed = 0;
    while killed < kills() {
        let pruning = dir.start(line);
        thread::sleep(Duration::from_micros(random.below(longest_us)));
        let was_hit = pruning.kill().code().is_none();
        assert_recording_is_whole(&path);
        if was_hit {
            killed += 1;
        } else {
            fs::write(&path, &unswept).unwrap();
            longest_us = (longest_us - longest_us / 8).max(1_000);
        }
    }
    dir.sockrec(line);
    assert_recording_is_whole(&path);
}

#[test]
fn a_kill_at_any_moment_of_dropping_and_thinning_leaves_it_whole() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path, 1_500, 60, 40);
    let ends =
        |path: &Path| ask(path, "SELECT count(*) * 1000000 + sum(snapshot_id) FROM snapshots");
    let before = ends(&path).unwrap();
    killed_while(&dir, "prune -f rec.db --thin 10s --after 1d", 1);
    assert_eq!(ends(&path).unwrap(), before, "thinning drops no snapshot");
    // In the end it comes to what it comes to when nobody kills it.
    made_up(&dir.path("calm.db"), 1_500, 60, 40);
    dir.sockrec("prune -f calm.db --thin 10s --after 1d").fine();
    let rows = "SELECT count(*) * 1000000 + sum(snapshot_id) FROM samples";
    assert_eq!(ask(&path, rows).unwrap(), ask(&dir.path("calm.db"), rows).unwrap());
    let gone = "SELECT sum(thinned_samples) FROM groups";
    assert_eq!(ask(&path, gone).unwrap(), ask(&dir.path("calm.db"), gone).unwrap());

    fs::remove_file(&path).unwrap();
    made_up(&path, 1_500, 60, 40);
    killed_while(&dir, "prune -f rec.db --max-age 1d", 2);
    assert_eq!(ask(&path, "SELECT count(*) FROM groups").unwrap(), 1);
    assert_eq!(ask(&path, "SELECT count(*) FROM samples WHERE snapshot_id <= 1400").unwrap(), 0);
}

#[test]
fn the_real_recorder_thins_what_it_recorded_and_survives_kills() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut random = Random::new(7);
    let _churn = Churn::start();
    for _ in 0..4 {
        let line = "record -q -i 2ms --thin 50ms --after 200ms --max-age 20s -o rec.db";
        let recorder = dir.start(line);
        thread::sleep(Duration::from_micros(1_000_000 + random.below(400_000)));
        recorder.kill();
        assert_recording_is_whole(&path);
    }
    dir.sockrec("record -q -i 5ms -c 200 --thin 50ms --after 200ms -o rec.db").recorded();
    assert_recording_is_whole(&path);
    let thinned = "SELECT sum(thinned_samples) FROM groups WHERE thinned_to_ns = 50000000";
    assert!(ask(&path, thinned).unwrap() > 0);
}
