//! What a recording says of lifetimes, held against what really happened: sockets that are opened,
//! used and closed in every way there is, each step written down by who does it.
//!
//! `cargo test --release --test lifetimes -- --ignored --nocapture` prints how many ends are
//! recorded out of those that were made, by rate and by who records.

#[path = "../common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;

mod checker;
mod checker_tests;
mod crowd;
mod events;
mod kinds;
mod namespace;
mod rates;
mod recording;
mod scene;
mod subflows;
mod truth;

use std::hint;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use checker::{Verdict, check};
use common::Differences;
use common::sockets::Route;
use events::{Event, Events};
use kinds::{QUICK, Script, slow};
use namespace::{Surroundings, in_own_namespace};
use rates::{Rate, Workers};
use recording::{Rig, Row, User};
use scene::{Pair, Scene};
use truth::{End, LastWord, Log, Span};

/// Beside each other they would only measure how busy the machine is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The generator's own account against the kernel's last word on each socket, without a recorder.
#[test]
fn what_the_generator_says_is_what_the_kernel_does() {
    let _alone = alone();
    in_own_namespace("the generator", |_| {
        let routes = Route::available();
        let slow = slow();
        thread::scope(|scope| {
            for &route in &routes {
                for &script in &slow {
                    scope.spawn(move || play_before_the_kernel(script, route));
                }
            }
        });
        for &route in &routes {
            for &script in QUICK {
                play_before_the_kernel(script, route);
            }
        }
    });
}

fn play_before_the_kernel(script: Script, route: Route) {
    let events = Events::listen();
    let scene = Scene::on(route, true, &|| {});
    let mut ends = script(&scene);
    ends.retain(|end| end.last_word != LastWord::None);
    let cookies: Vec<u64> = ends.iter().filter_map(|end| end.cookie).collect();
    let told = events.until_gone(&cookies);
    for end in ends {
        let event = told.iter().find(|event| Some(event.cookie) == end.cookie);
        compare_with_last_word(&end, event.expect("it was waited for"));
    }
}

fn compare_with_last_word(end: &End, event: &Event) {
    println!("{end:?}\n    {event:?}");
    let d = &mut Differences::of(format!("{end:?}, by {event:?}"));
    let Event { tuple, tcp, .. } = event;
    d.equal("local port", end.local.port(), tuple.local.port);
    d.equal("remote address", end.remote.ip(), tuple.remote.address);
    let let_go = end.let_go.expect("there is no event before");
    d.holds("it comes after the close", event.read_at.boottime_ns >= let_go.from.boottime_ns);
    match end.last_word {
        LastWord::Full => {
            d.equal("local address", end.local.ip(), tuple.local.address);
            d.equal("remote port", end.remote.port(), tuple.remote.port);
        }
        LastWord::Wiped | LastWord::None => {
            // It stays where the socket, or the listener that it came from, was bound to it.
            let local = tuple.local.address;
            d.holds("the local address", local.is_unspecified() || local == end.local.ip());
            d.equal("remote port", 0, tuple.remote.port);
            d.equal("bytes_sent", Some(0), tcp.bytes_sent);
            d.equal("bytes_received", Some(0), tcp.bytes_received);
        }
    }
    if end.last_word == LastWord::Full && end.was_established() {
        let sent = tcp.bytes_sent.zip(tcp.bytes_retrans).map(|(sent, again)| sent - again);
        d.equal("bytes_sent", Some(end.sent), sent);
        let received = tcp.bytes_received.expect("tcp_info is there");
        d.holds("bytes_received are those that were sent", end.may_have_received(received));
    }
}

#[test]
fn every_kind_of_lifetime_is_recorded_as_it_was() {
    let _alone = alone();
    // Asked elsewhere: the sockets that it is asked with are freed some while later.
    let routes = Route::available();
    let verdict = in_own_namespace("every kind of lifetime", |surroundings| {
        let recorded = record_every_kind(&routes, "--interval 100ms");
        recorded.check(surroundings)
    });
    println!("known after {}", verdict.delays());
    verdict.assert_true();
    verdict.assert_none_missed();
    verdict.assert_known_by_events();
}

/// Of the quick scripts: most make one connection.
const SCRIPTS_PER_SECOND: u32 = 100;
const ROUNDS: u32 = 6;

/// As between hosts: what the other end did nothing but this one tells.
#[test]
fn each_end_is_told_truly_where_the_other_is_not_recorded() {
    let _alone = alone();
    if !Route::available().contains(&Route::Mapped) {
        return; // that was said
    }
    // Clients of AF_INET, servers of AF_INET6.
    for option in ["-4", "-6"] {
        let verdict = in_own_namespace("one end of every kind of lifetime", |surroundings| {
            let options = format!("--interval 100ms {option}");
            let mut recorded = record_every_kind(&[Route::Mapped], &options);
            recorded.log.keep(|end| end.local.is_ipv4() == (option == "-4"));
            recorded.check(surroundings)
        });
        println!("{option}: known after {}", verdict.delays());
        verdict.assert_nothing_wrong();
        verdict.assert_none_missed();
        verdict.assert_known_by_events();
    }
}

/// What happened, and what was recorded of it.
struct Recorded {
    log: Log,
    rows: Vec<Row>,
    ended: Span,
}

impl Recorded {
    fn check(&self, surroundings: Surroundings) -> Verdict {
        check(&self.log, &self.rows, surroundings, self.ended)
    }
}

fn record_every_kind(routes: &[Route], options: &str) -> Recorded {
    let rig = Rig::new();
    let until_seen = || rig.until_seen();
    let scene = |&route: &Route| Scene::on(route, false, &until_seen);
    let mut quick: Vec<Scene<'_>> = routes.iter().map(scene).collect();
    let slow: Vec<(Script, Scene<'_>)> = slow()
        .into_iter()
        .flat_map(|script| routes.iter().map(move |route| (script, scene(route))))
        .collect();
    let open = |scenes: &[Scene<'_>], kind| -> Vec<Pair> {
        scenes.iter().map(|scene| scene.open(kind)).collect()
    };
    let mut leaving = open(&quick, "open before the recording");
    let mut staying = open(&quick, "open before the recording and after");
    let recorder = rig.start(User::Own, options);

    let mut log = Log::default();
    thread::scope(|scope| {
        let play = |(script, scene): (Script, Scene<'_>)| (script(&scene), scene.leave());
        let slow: Vec<_> = slow.into_iter().map(|slow| scope.spawn(move || play(slow))).collect();
        play_by_turns(&mut quick, &mut log);
        for script in slow {
            let (ends, listening) = script.join().expect("the script can be played");
            log.add(ends);
            log.add(vec![listening]);
        }
    });
    for pair in &mut leaving {
        pair.part();
    }
    staying.extend(open(&quick, "opened during the recording, closed after it"));
    until_seen();
    let (rows, ended) = Span::of(|| recorder.stop());

    for pair in leaving.into_iter().chain(staying) {
        log.add(pair.ends());
    }
    log.add(quick.into_iter().map(Scene::stay).collect());
    Recorded { log, rows, ended }
}

/// Plays every quick script on every scene, at a steady rate.
fn play_by_turns(scenes: &mut [Scene<'_>], log: &mut Log) {
    let began = Instant::now();
    let mut played = 0;
    for round in 0..ROUNDS {
        for scene in &mut *scenes {
            scene.asks_cookies = round % 2 == 1;
            for script in QUICK {
                let due = began + Duration::from_secs(1) * played / SCRIPTS_PER_SECOND;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                log.add(script(scene));
                played += 1;
            }
        }
    }
}

const HUNDRED: Rate = rate("100/s", Some(100), 5);
const THOUSAND: Rate = rate("1,000/s", Some(1_000), 3);
const BRISK: Rate = rate("3,000/s", Some(3_000), 3);
const FULL_SPEED: Rate = rate("full speed", None, 3);

const fn rate(name: &'static str, per_second: Option<u32>, seconds: u64) -> Rate {
    Rate { name, per_second, lasts: Duration::from_secs(seconds), asks_cookies: false }
}

#[test]
fn connections_between_two_snapshots_are_recorded() {
    let _alone = alone();
    for &user in User::all() {
        for rate in [HUNDRED, THOUSAND, BRISK, FULL_SPEED] {
            let verdict = record_rate(user, rate);
            println!("{}", line(user, rate, &verdict));
            verdict.assert_true();
            // The socket of a privileged recorder holds the events of some seconds.
            if user == User::Own && rate.per_second.is_some() {
                verdict.assert_none_missed();
            }
        }
    }
}

/// Where events are read late, or lost, less is known, and nothing is made up.
#[test]
fn a_recorder_that_hardly_runs_tells_nothing_wrong() {
    tells_nothing_wrong("a starved recorder", 19, 4);
}

/// The threads of the generator alone keep the kernel's own from telling for a second.
#[test]
fn where_the_kernel_tells_late_nothing_is_told_wrong() {
    tells_nothing_wrong("a kernel that is late", 0, 0);
}

fn tells_nothing_wrong(what: &str, nice: i32, busy_threads: usize) {
    let _alone = alone();
    let verdict = in_own_namespace(what, |surroundings| {
        let rig = Rig::new();
        let workers = Workers::prepare();
        let recorder = rig.start_nice(User::Ordinary, "--interval 1s", nice);
        let rate = Rate { asks_cookies: true, ..FULL_SPEED };
        let log = beside_busy_threads(busy_threads, || workers.run(rate));
        rig.until_seen();
        let (mut rows, ended) = Span::of(|| recorder.stop());
        // What was told late need not be known, though nothing was lost.
        for row in &mut rows {
            row.gaps.get_or_insert_with(|| "late".to_owned());
        }
        check(&log, &rows, surroundings, ended)
    });
    println!("{}", line(User::Ordinary, FULL_SPEED, &verdict));
    verdict.assert_nothing_wrong();
}

fn beside_busy_threads<T>(count: usize, act: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    hint::spin_loop()
                }
            });
        }
        let done = panic::catch_unwind(AssertUnwindSafe(act));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

#[test]
#[ignore = "prints a table and asserts nothing that the other tests do not"]
fn ends_recorded_by_rate_and_user() {
    let _alone = alone();
    for &user in User::all() {
        for rate in [HUNDRED, THOUSAND, FULL_SPEED] {
            println!("{}", line(user, rate, &record_rate(user, rate)));
        }
    }
}

fn record_rate(user: User, rate: Rate) -> Verdict {
    in_own_namespace(rate.name, |surroundings| {
        let rig = Rig::new();
        let workers = Workers::prepare();
        let recorder = rig.start(user, "--interval 1s");
        let log = workers.run(rate);
        rig.until_seen();
        let (rows, ended) = Span::of(|| recorder.stop());
        check(&log, &rows, surroundings, ended)
    })
}

fn line(user: User, rate: Rate, verdict: &Verdict) -> String {
    let Verdict { made, recorded, .. } = verdict;
    let per_second = *made as f64 / 2.0 / rate.lasts.as_secs_f64();
    let lost = if verdict.says_lost { ", says that some were lost" } else { "" };
    format!(
        "{:<12} {:<10} ({per_second:>6.0}/s): {recorded:>6} of {made:>6} ends recorded, {:.2} %{lost}; known after {}",
        user.name(),
        rate.name,
        *recorded as f64 * 100.0 / *made as f64,
        verdict.delays(),
    )
}
