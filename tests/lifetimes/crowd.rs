//! A crowd of connections over few 4-tuples, each used again as soon as the kernel permits, while some of those
//! that used it before are held though they are over. Every end is known by its cookie.
//!
//! `cargo test --release --test lifetimes -- --ignored --nocapture crowd` plays what takes long. From the
//! environment: `SOCKREC_CROWD_SEED`, `SOCKREC_CROWD_SECONDS`, `SOCKREC_CROWD_REST_MS` (see [`Scenario`]);
//! `SOCKREC_CROWD_BIN`, a program to be held against the truth instead of the one that was built;
//! `SOCKREC_CROWD_KEEP`, a directory for recordings and truths.

mod gathering;
mod meeting;
mod tuples;

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::checker::{Verdict, check};
use crate::common::sockets::Route;
use crate::harness::{Random, assert_recording_is_whole};
use crate::namespace::{Surroundings, in_own_namespace};
use crate::recording::{Recorder, Rig, Row, User};
use crate::truth::{Direction, Ending, Log, Span};
use crate::{alone, beside_busy_threads};
use gathering::{Crowd, FIRST_CLIENT_PORT};
use meeting::both;
use tuples::Tuple;

/// What the recorder has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// It is stopped (SIGSTOP) for a second or two, again and again.
    Stops,
    /// It is ended and started on the same file, again and again.
    Restarts,
}

/// A crowd and its surroundings.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    trouble: Trouble,
    user: User,
    nice: i32,
    busy_threads: usize,
    threads: usize,
    /// Connections; `None`: as many as go.
    per_second: Option<u32>,
    seconds: u64,
    client_ports: u16,
    /// From the end of one connection to the next in its tuple, at least.
    rest: Duration,
    /// So many of a hundred connections end in a way that is hard to tell.
    hard_percent: u64,
    /// So many of a hundred ends are held at each step …
    held_percent: u64,
    /// … for up to so long.
    held_at_most: Duration,
}

const MODERATE: Scenario = Scenario {
    name: "plain",
    trouble: Trouble::Nothing,
    user: User::Own,
    nice: 0,
    busy_threads: 0,
    threads: 48,
    per_second: Some(300),
    seconds: 4,
    client_ports: 8,
    rest: Duration::ZERO,
    hard_percent: 6,
    held_percent: 25,
    held_at_most: Duration::from_millis(1_500),
};

/// What happens in less than 100 ms the kernel's clocks and the order of its events hardly tell apart.
const REST: Duration = Duration::from_millis(150);
const RESTED: Scenario = Scenario { name: "rested", client_ports: 20, rest: REST, ..MODERATE };

#[test]
fn a_crowd_whose_tuples_have_some_rest_is_told_truly() {
    let verdict = play(Scenario { hard_percent: 0, held_percent: 0, ..RESTED });
    verdict.assert_nothing_wrong();
    verdict.assert_none_missed();
}

#[test]
#[ignore = "of those that are held, or end in hard ways, not all are told truly"]
fn a_crowd_that_holds_its_sockets_is_told_truly() {
    let verdict = play(Scenario { name: "held", ..RESTED });
    verdict.assert_nothing_wrong();
    verdict.assert_none_missed();
}

#[test]
#[ignore = "what a 4-tuple is used for within 100 ms is not always told apart"]
fn a_crowd_over_few_tuples_is_told_truly() {
    let verdict = play(MODERATE);
    verdict.assert_nothing_wrong();
    verdict.assert_none_missed();
}

#[test]
#[ignore = "takes long"]
fn a_brisk_crowd_is_told_truly() {
    play(Scenario {
        name: "brisk",
        per_second: Some(1_500),
        seconds: 10,
        client_ports: 20,
        threads: 160,
        ..MODERATE
    })
    .assert_nothing_wrong();
}

#[test]
#[ignore = "takes long"]
fn a_crowd_beside_a_recorder_that_is_stopped_is_told_truly() {
    play(Scenario { name: "stops", trouble: Trouble::Stops, seconds: 12, ..MODERATE })
        .assert_nothing_wrong();
}

#[test]
#[ignore = "takes long"]
fn a_crowd_beside_a_recorder_that_is_started_again_is_told_truly() {
    play(Scenario { name: "restarts", trouble: Trouble::Restarts, seconds: 12, ..MODERATE })
        .assert_nothing_wrong();
}

#[test]
#[ignore = "takes long"]
fn a_crowd_of_which_the_kernel_is_late_to_tell_is_told_truly() {
    let late = Scenario { name: "late", user: User::Ordinary, held_percent: 5, ..MODERATE };
    play(Scenario { per_second: None, seconds: 8, client_ports: 20, ..late })
        .assert_nothing_wrong();
}

#[test]
#[ignore = "takes long"]
fn a_crowd_beside_a_starved_recorder_is_told_truly() {
    let starved = Scenario { name: "starved", user: User::Ordinary, nice: 19, ..MODERATE };
    play(Scenario {
        busy_threads: 4,
        per_second: Some(1_000),
        seconds: 10,
        client_ports: 20,
        threads: 120,
        ..starved
    })
    .assert_nothing_wrong();
}

/// Who waits for its FIN to be acknowledged is freed by a RST, and told of, before the one that aborts is.
#[test]
fn who_is_freed_before_the_other_end_that_aborts_is_given_no_earlier_half() {
    again_and_again("one aborted, one closed and aborted", |crowd, log| {
        let [mut held, mut server] = crowd.open(quiet(0), "aborted and held", log).unwrap();
        let ended = server.abort();
        held.await_error(ErrorKind::ConnectionReset);
        held.ended(Ending::Reset, ended);
        server.ended(Ending::Reset, ended);

        let [mut client, mut aborting] = crowd.open(quiet(1), "closed, aborted", log).unwrap();
        client.close();
        aborting.await_fin();
        let ended = aborting.abort();
        client.ended(Ending::Reset, ended);
        aborting.ended(Ending::Reset, ended);
        log.add(both(client, aborting));

        held.close();
        log.add(both(held, server));
    });
}

/// An end that is shut down answers data with a RST. It tells in full, and as long as it is held nothing.
#[test]
fn who_wrote_to_an_end_that_is_shut_down_and_held_is_given_no_half() {
    again_and_again("one shut down, one aborted", |crowd, log| {
        let [mut writer, mut held] = crowd.open(quiet(0), "written to, shut down", log).unwrap();
        held.socket().shutdown(Shutdown::Both).expect("it is connected");
        writer.await_fin();
        let [began, seen] = writer.write_to_nobody(200);
        writer.close();

        let [mut waiting, mut aborting] = crowd.open(quiet(1), "aborted", log).unwrap();
        let aborted = aborting.abort();
        waiting.await_error(ErrorKind::ConnectionReset);
        for side in [&mut waiting, &mut aborting] {
            side.ended(Ending::Reset, aborted);
        }
        waiting.close();
        log.add(both(waiting, aborting));

        held.close();
        for side in [&mut writer, &mut held] {
            side.ended(Ending::Reset, began.until(seen));
        }
        log.add(both(writer, held));
    });
}

/// A tuple of the first door.
fn quiet(n: u16) -> Tuple {
    Tuple { client: (Ipv4Addr::LOCALHOST, FIRST_CLIENT_PORT + n).into(), door: 0 }
}

/// Plays it some times, each as if the others were not.
fn again_and_again(what: &str, play: fn(&Crowd, &mut Log)) {
    let _alone = alone();
    in_own_namespace(what, |around| {
        if around == Surroundings::Shared {
            return; // that was said
        }
        let crowd = Crowd::gather(MODERATE, &[Route::V4], 0);
        let rig = Rig::new();
        let recorder = rig.start(User::Own, "--interval 1s");
        let mut log = Log::default();
        for _ in 0..20 {
            play(&crowd, &mut log);
            thread::sleep(REST);
        }
        crowd.leave(&mut log);
        rig.until_seen();
        let (mut rows, ended) = Span::of(|| recorder.stop());
        lessen(&mut rows);
        let verdict = check(&log, &rows, around, ended);
        println!("{} wrong: {}", verdict.times_wrong(), verdict.wrong_by_kind());
        verdict.assert_nothing_wrong();
    });
}

/// Whose 4-tuple was used again at once need not be told apart from the next: not all need be known.
fn lessen(rows: &mut [Row]) {
    for row in rows {
        row.gaps.get_or_insert_with(|| "used again".to_owned());
    }
}

fn play(scenario: Scenario) -> Verdict {
    let _alone = alone();
    let seed = number_of("SOCKREC_CROWD_SEED").unwrap_or(1);
    let seconds = number_of("SOCKREC_CROWD_SECONDS").unwrap_or(scenario.seconds);
    let rest = number_of("SOCKREC_CROWD_REST_MS").map_or(scenario.rest, Duration::from_millis);
    let scenario = Scenario { seconds, rest, ..scenario };
    println!("SOCKREC_CROWD_SEED={seed} {scenario:?}");
    // Asked elsewhere: the sockets that it is asked with are freed some while later.
    let routes = Route::available();
    in_own_namespace("a crowd", |around| {
        if around == Surroundings::Shared {
            return Verdict::default(); // its ports may be used by others; that was said
        }
        let rig =
            env::var_os("SOCKREC_CROWD_BIN").map_or_else(Rig::new, |bin| Rig::with(bin.into()));
        let (log, mut rows, ended) = record(scenario, &routes, seed, &rig);
        keep(&rig, &log, &format!("{}-{seed}", scenario.name));
        lessen(&mut rows);
        let verdict = check(&log, &rows, around, ended);
        println!("{}", line(scenario, seed, &verdict));
        assert_recording_is_whole(&rig.file());
        verdict
    })
}

fn number_of(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

fn line(scenario: Scenario, seed: u64, verdict: &Verdict) -> String {
    let of_established = |known: usize| known as f64 * 100.0 / verdict.established.max(1) as f64;
    format!(
        "crowd {:<8} seed {seed:>3}: {:>5.0} connections/s, {:>6} of {:>6} ends recorded, {} wrong ({}); known \
         of {}: other end {:.2} %, direction {:.2} %, ending {:.2} %{}",
        scenario.name,
        verdict.made as f64 / 2.0 / scenario.seconds as f64,
        verdict.recorded,
        verdict.made,
        verdict.times_wrong(),
        verdict.wrong_by_kind(),
        verdict.established,
        of_established(verdict.paired),
        of_established(verdict.directed),
        of_established(verdict.ending_known),
        if verdict.says_lost { ", says that some were lost" } else { "" },
    )
}

/// Copies the recording, and writes the truth beside it, an end a line.
fn keep(rig: &Rig, log: &Log, name: &str) {
    let Some(directory) = env::var_os("SOCKREC_CROWD_KEEP") else { return };
    let path = |ending: &str| Path::new(&directory).join(format!("{name}.{ending}"));
    fs::copy(rig.file(), path("db")).expect("it can be copied");
    let mut truth = io::BufWriter::new(fs::File::create(path("truth.jsonl")).expect("a file"));
    for end in &log.ends {
        let span = |span: Span| [span.from.utc_ns, span.to.utc_ns];
        let peer = end.peer.and_then(|peer| log.ends[peer].cookie);
        let told = serde_json::json!({
            "kind": end.kind,
            "cookie": end.cookie,
            "peer": peer,
            "local": end.local,
            "remote": end.remote,
            "direction": end.direction.map(Direction::name),
            "opened": span(end.opened),
            "closed": end.closed.map(span),
            "is_seen_over": end.is_seen_over,
            "let_go": end.let_go.map(span),
            "sent": end.sent,
            "received": end.received,
            "has_peer_fin": end.has_peer_fin,
            "ending": end.ending.map(|ending| ending.names()),
            "last_word": format!("{:?}", end.last_word),
            "is_elusive": end.is_elusive,
        });
        writeln!(truth, "{told}").expect("it can be written");
    }
}

fn record(scenario: Scenario, routes: &[Route], seed: u64, rig: &Rig) -> (Log, Vec<Row>, Span) {
    let crowd = Crowd::gather(scenario, routes, seed);
    let start = || rig.start_nice(scenario.user, "--interval 1s", scenario.nice);
    let recorder = start();
    let (log, recorder) = thread::scope(|scope| {
        let crowd = scope.spawn(|| beside_busy_threads(scenario.busy_threads, || crowd.run()));
        let random = &mut Random::new(seed);
        let mut recorder = recorder;
        while !crowd.is_finished() {
            recorder = trouble(scenario.trouble, recorder, random, &start);
        }
        (crowd.join().expect("the crowd knows what it does"), recorder)
    });
    rig.until_seen();
    let (rows, ended) = Span::of(|| recorder.stop());
    (log, rows, ended)
}

/// Makes trouble once, after a while.
fn trouble<'a>(
    trouble: Trouble,
    recorder: Recorder<'a>,
    random: &mut Random,
    start: &dyn Fn() -> Recorder<'a>,
) -> Recorder<'a> {
    let mut pause = |least_ms, most_ms| {
        thread::sleep(Duration::from_millis(least_ms + random.below(most_ms - least_ms)));
    };
    match trouble {
        Trouble::Nothing => pause(50, 100),
        Trouble::Stops => {
            pause(300, 1_500);
            recorder.signal(Signal::STOP);
            pause(1_000, 2_500);
            recorder.signal(Signal::CONT);
        }
        Trouble::Restarts => {
            pause(1_800, 2_200);
            recorder.end();
            return start();
        }
    }
    recorder
}
