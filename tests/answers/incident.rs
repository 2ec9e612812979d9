//! The questions of an incident, asked of machines on which everything that happened is known.

use insta::assert_snapshot;
use sockrec::model::TcpState;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::{SECOND, World, complete, failed};

fn asked(world: &World, question: &str) -> String {
    let line = format!("query {question} --utc --format csv -f '{}'", world.path().display());
    Dir::new().sockrec(&line).fine().stdout()
}

/// What is told on stderr, and the exit code.
fn told(world: &World, question: &str) -> String {
    let line = format!("query {question} --utc --format csv -f '{}'", world.path().display());
    Dir::new().sockrec(&line).told()
}

/// A listener whose queue grows, is full for two of eight snapshots and empties; another one that
/// is never used and goes; a dump that fails.
fn listening() -> World {
    let busy = |backlog| FakeSocket::listener(1, 8_081, backlog, 4);
    let idle = FakeSocket::listener(2, 9_000, 0, 128);
    let mut world = World::default();
    for backlog in [0, 3, 4] {
        world.shows(&[&busy(backlog), &idle]);
    }
    world.ends(&[], failed).shows(&[&busy(4)]);
    for backlog in [1, 0, 0] {
        world.shows(&[&busy(backlog)]);
    }
    world.record();
    world
}

const BACKLOG: &str = "--columns local_port,backlog,backlog_limit,max_backlog,max_backlog_at,\
                       above_half_share,at_limit_share,snapshots";

#[test]
fn the_longest_backlog_and_how_often_it_was_full_are_told() {
    let world = listening();
    let all = format!("listeners {BACKLOG}");
    // Seven complete dumps showed the first one, of which three were above half and two full.
    assert_snapshot!(told(&world, &all), @"
    exit 3
    stdout:
    local_port,backlog,backlog_limit,max_backlog,max_backlog_at,above_half_share,at_limit_share,snapshots
    8081,0,4,4,2026-11-21T12:00:02.001000000Z,0.42857142857142855,0.2857142857142857,7
    9000,,128,0,2026-11-21T12:00:00.001000000Z,0.0,0.0,3
    stderr:
    warning: gaps in this span: dump_failed (1); `sockrec query coverage` tells when
    ");
}

#[test]
fn a_backlog_is_told_as_it_was_at_a_time() {
    let world = listening();
    let at = |second: &str| {
        let time = format!("2026-11-21T12:00:{second}Z");
        let text = told(&world, &format!("listeners --at {time} --columns local_port,backlog"));
        let rows: Vec<_> =
            text.lines().filter(|l| l.contains(',') && !l.contains("port")).collect();
        rows.join(" ")
    };
    assert_eq!(at("00.5"), "8081,0 9000,0");
    assert_eq!(at("01.5"), "8081,3 9000,0");
    assert_eq!(at("07.5"), "8081,0", "who had gone by then is not shown");
}

#[test]
fn a_span_has_its_own_longest_backlog() {
    let span = "--from 2026-11-21T12:00:05Z --to 2026-11-21T12:00:07Z";
    assert_snapshot!(asked(&listening(), &format!("listeners {span} {BACKLOG}")), @"
    local_port,backlog,backlog_limit,max_backlog,max_backlog_at,above_half_share,at_limit_share,snapshots
    8081,0,4,1,2026-11-21T12:00:05.001000000Z,0.0,0.0,2
    ");
}

/// 1 lives on all the time; 2 is opened, half closed and goes through TIME-WAIT; 3 is there at first;
/// then a minute in which nobody looks.
fn in_states() -> World {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let c = FakeSocket::listener(3, 80, 0, 128);
    let half = b.in_state(TcpState::FIN_WAIT2);
    let left = half.time_wait();
    let mut world = World::default();
    world.shows(&[&a, &c]).shows(&[&a, &b, &c]).shows(&[&a, &half]).shows(&[&a, &left]);
    world.shows(&[&a, &left]).shows(&[&a]).shows(&[&a]).shows(&[&a]);
    world.record();
    world.goes_on_after(6 * SECOND).ends(&[&a], complete).shows(&[&a]);
    world.record();
    world
}

#[test]
fn states_are_counted_as_the_snapshots_showed_them() {
    let columns =
        "--columns from,snapshots,sockets,estab,listen,fin_wait_2,time_wait,close_wait,gaps";
    assert_snapshot!(told(&in_states(), &format!("states --bucket 2s {columns}")), @"
    exit 3
    stdout:
    from,snapshots,sockets,estab,listen,fin_wait_2,time_wait,close_wait,gaps
    2026-11-21T12:00:00.000000000Z,2,3,2,1,0,0,0,
    2026-11-21T12:00:02.000000000Z,2,2,1,0,1,1,0,
    2026-11-21T12:00:04.000000000Z,2,2,1,0,0,1,0,
    2026-11-21T12:00:06.000000000Z,2,1,1,0,0,0,0,not_recording
    2026-11-21T12:00:08.000000000Z,0,,,,,,,not_recording
    2026-11-21T12:00:10.000000000Z,0,,,,,,,not_recording
    2026-11-21T12:00:12.000000000Z,0,,,,,,,not_recording
    2026-11-21T12:00:14.000000000Z,2,1,1,0,0,0,0,not_recording
    stderr:
    warning: gaps in this span: not_recording (1); `sockrec query coverage` tells when
    ");
}

#[test]
fn a_span_in_the_middle_begins_with_what_was_there() {
    let span = "--from 2026-11-21T12:00:02Z --to 2026-11-21T12:00:04.5Z --bucket 1s";
    let columns = "--columns sockets,estab,fin_wait_2,time_wait";
    assert_snapshot!(asked(&in_states(), &format!("states {span} {columns}")), @"
    sockets,estab,fin_wait_2,time_wait
    2,1,1,0
    2,1,0,1
    2,1,0,1
    ");
    let one = asked(&in_states(), &format!("states --socket 1 {span} {columns}"));
    assert_eq!(one.lines().nth(1), Some("1,1,0,0"), "{one}");
}

/// Four connections over ten snapshots. 1 was there when recording began and sends 1,000 a second,
/// retransmitting once each; 2 is opened to the same peer, sends 5,000 and ends; 3 comes from afar.
fn traffic() -> World {
    let mut a = FakeSocket::established(1, 1_001, 80).to_afar();
    let b = FakeSocket::established(2, 1_002, 80).to_afar();
    let c = FakeSocket { rtt_us: 90_000, ..FakeSocket::established(3, 1_003, 443) };
    let mut world = World::default();
    for tick in 0..10 {
        let b = b.sent(if tick > 3 { 5_000 } else { 0 });
        let mut shows = vec![&a];
        shows.extend((2..6).contains(&tick).then_some(&b));
        shows.extend((tick >= 8).then_some(&c));
        world.shows(&shows);
        a = a.sent(1_000);
        a.total_retrans += 1;
    }
    world.record();
    world
}

const TOTALS: &str =
    "connections,openings,endings,sent_delta_bytes,retrans_delta,max_rtt_us,counted";

#[test]
fn peers_are_told_with_what_went_through_in_the_recording() {
    let world = traffic();
    let columns = format!("--columns remote_address,{TOTALS}");
    // 9,000 of the first (what it sent before counts not) and 5,100 of the second.
    assert_snapshot!(asked(&world, &format!("peers {columns}")), @"
    remote_address,connections,openings,endings,sent_delta_bytes,retrans_delta,max_rtt_us,counted
    198.51.100.7,2,1,1,14100,9,250,2
    127.0.0.2,1,1,0,100,0,90000,1
    ");
    let sorted = asked(&world, &format!("peers {columns} --sort max_rtt_us:desc -n 1"));
    assert_eq!(sorted.lines().nth(1), Some("127.0.0.2,1,1,0,100,0,90000,1"));
}

#[test]
fn a_span_counts_only_what_went_through_in_it() {
    let span = "--from 2026-11-21T12:00:04.5Z --to 2026-11-21T12:00:06.5Z";
    let columns = format!("--columns local_port,remote_port,{TOTALS}");
    // From the snapshot before the span to the last within it: 2 s of the first; the second had sent
    // all by then, and is not known to be gone before the second dump that lacks it.
    assert_snapshot!(asked(&traffic(), &format!("ports {span} {columns}")), @"
    local_port,remote_port,connections,openings,endings,sent_delta_bytes,retrans_delta,max_rtt_us,counted
    ,80,2,0,0,2000,2,250,2
    ");
}

#[test]
fn connections_can_be_chosen_before_they_are_put_together() {
    let of_one = asked(&traffic(), "users --socket 2 --columns uid,connections,sent_delta_bytes");
    assert_eq!(of_one, "uid,connections,sent_delta_bytes\n1000,1,5100\n");
}

#[test]
fn a_filter_chooses_connections_and_what_was_put_together() {
    let world = traffic();
    let columns = "--columns remote_address,connections,sent_delta_bytes";
    let of = |filter: &str| {
        let text = asked(&world, &format!("peers {columns} {filter}"));
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("dport = :443"), ["127.0.0.2,1,100"]);
    assert_eq!(of("bytes_sent '>=' 5000 and dst 198.51.100.0/24"), ["198.51.100.7,2,14100"]);
    // What only the sums have is asked of them.
    assert_eq!(of("connections '>' 1"), ["198.51.100.7,2,14100"]);
    assert_eq!(of("dport = :80 and sent_delta '<' 1kB"), [""; 0]);
    let mixed = told(&world, "peers connections '>' 1 or dport = :443");
    assert!(mixed.starts_with("exit 2") && mixed.contains("no column `connections`"), "{mixed}");
    let gone =
        "diff 2026-11-21T12:00:05.5Z 2026-11-21T12:00:07.5Z change = gone --columns socket_id";
    assert_eq!(asked(&world, gone), "socket_id\n2\n");
    let states = told(&in_states(), "states --bucket 1m --columns sockets,estab sport = :1001");
    assert!(states.contains("\nsockets,estab\n1,1\n"), "{states}");
    let busy = told(&listening(), "listeners --columns local_port at_limit_share '>' 0.1");
    assert!(busy.contains("\nlocal_port\n8081\n"), "{busy}");
}

#[test]
fn openings_and_endings_are_counted_where_they_are_known_by() {
    let columns =
        "--columns from,snapshots,openings,openings_outbound,endings,endings_orderly,gaps";
    assert_snapshot!(asked(&traffic(), &format!("churn --bucket 5s {columns}")), @"
    from,snapshots,openings,openings_outbound,endings,endings_orderly,gaps
    2026-11-21T12:00:00.000000000Z,5,1,1,0,0,
    2026-11-21T12:00:05.000000000Z,5,1,1,1,0,
    ");
}

/// The other end of the first closes its window twice.
#[test]
fn the_slowest_comes_first_with_its_reasons() {
    let mut a = FakeSocket::established(1, 1_001, 80);
    let b = FakeSocket { rtt_us: 7_000, ..FakeSocket::established(2, 1_002, 80) };
    let mut world = World::default();
    for window in [100, 0, 0, 100, 0, 100] {
        a = FakeSocket { snd_wnd: window, ..a.sent(10) };
        a.total_retrans += 1;
        world.shows(&[&a, &b]);
    }
    world.record();
    let columns = "socket_id,max_rtt_us,retrans_delta,retrans_share,zero_window_samples";
    assert_snapshot!(asked(&world, &format!("slow --columns {columns}")), @"
    socket_id,max_rtt_us,retrans_delta,retrans_share,zero_window_samples
    2,7000,0,,0
    1,250,5,1.0,3
    ");
}

#[test]
fn an_empty_span_says_what_was_recorded_when() {
    let span = "--from 2026-11-21T11:00:00Z --to 2026-11-21T11:30:00Z";
    for question in ["peers", "churn", "states", "listeners", "slow"] {
        let text = told(&traffic(), &format!("{question} {span}"));
        assert!(
            text.contains("nothing was recorded then: the recording goes from 2026-11-21 12:00"),
            "{question}: {text}"
        );
    }
}

/// Two half-closed for a minute and more, one of them for less than 80 s; five that go to one port of
/// another machine out of a range of twenty, one in TIME-WAIT.
fn leaking() -> World {
    let a = FakeSocket::established(1, 2_001, 80).in_state(TcpState::CLOSE_WAIT);
    let b = FakeSocket::established(2, 2_002, 80);
    let out = |n: u16| FakeSocket::established(10 + u64::from(n), 1_000 + n, 443).to_afar();
    let mut world = World::default();
    for tick in 0..90 {
        let b = if tick < 20 { b.clone() } else { b.in_state(TcpState::CLOSE_WAIT) };
        let left = out(4).time_wait();
        let fifth = if tick < 80 { out(4) } else { left };
        world.shows(&[&a, &b, &out(0), &out(1), &out(2), &out(3), &fifth]);
    }
    world.record();
    world
}

#[test]
fn what_stays_half_closed_and_ports_that_run_out_are_found() {
    let columns = "kind,state,sockets,socket_id,in_state_min_ns,remote_address,remote_port,\
                   time_wait,local_ports,used_share";
    assert_snapshot!(asked(&leaking(), &format!("leaks --columns {columns}")), @"
    kind,state,sockets,socket_id,in_state_min_ns,remote_address,remote_port,time_wait,local_ports,used_share
    half_closed,CLOSE-WAIT,2,1,88999000000,,,,,
    local_ports,,5,,,198.51.100.7,443,1,20,0.25
    ");
    let longer = asked(&leaking(), "leaks --longer 80s --columns kind,sockets");
    assert_eq!(longer, "kind,sockets\nhalf_closed,1\nlocal_ports,5\n");
    let earlier = "leaks --to 2026-11-21T12:00:30Z --columns kind,sockets,time_wait";
    assert_eq!(asked(&leaking(), earlier), "kind,sockets,time_wait\nlocal_ports,5,0\n");
}

#[test]
fn two_moments_differ_in_what_is_new_gone_and_changed() {
    let moments = "diff 2026-11-21T12:00:00.5Z 2026-11-21T12:00:09Z";
    let columns = "change,socket_id,state_before,state,sent_delta_bytes,retrans_delta";
    assert_snapshot!(asked(&traffic(), &format!("{moments} --columns {columns}")), @"
    change,socket_id,state_before,state,sent_delta_bytes,retrans_delta
    new,3,,ESTAB,,
    changed,1,ESTAB,ESTAB,8000,8
    ");
    let moments = "diff 2026-11-21T12:00:05.5Z 2026-11-21T12:00:07.5Z";
    let gone =
        asked(&traffic(), &format!("{moments} --columns change,socket_id,state_before,state"));
    assert_eq!(gone, "change,socket_id,state_before,state\ngone,2,ESTAB,\nchanged,1,ESTAB,ESTAB\n");
    let still = "diff 2026-11-21T12:00:05.2Z 2026-11-21T12:00:05.5Z";
    assert!(told(&traffic(), still).starts_with("exit 0"));
    let swapped = told(&traffic(), "diff 2026-11-21T12:00:09Z 2026-11-21T12:00:05Z");
    assert!(swapped.starts_with("exit 2") && swapped.contains("swap"), "{swapped}");
    let before_all = told(&traffic(), "diff 2026-11-21T11:00:00Z 2026-11-21T12:00:05Z");
    assert!(before_all.contains("nothing had been recorded by"), "{before_all}");
}

/// One that the kernel of this machine has, with two connections that nobody accepts.
#[test]
fn the_kernel_can_be_asked_instead_of_a_recording() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
    let dir = Dir::new();
    let shown = |question: &str| dir.sockrec(&format!("query {question}")).fine().stdout();
    let backlogs =
        shown("listeners --live -4 --format csv --columns local_port,backlog,max_backlog");
    let expected = format!("{},2,2", address.port());
    assert!(backlogs.lines().any(|line| line == expected), "{backlogs}");
    let counts = shown("states --live -t --format json --columns estab,listen");
    let counts: serde_json::Value = serde_json::from_str(&counts).unwrap();
    assert!(counts[0]["estab"].as_u64() >= Some(4) && counts[0]["listen"].as_u64() >= Some(1));
    let sockets = shown("at --live -4 -t --format csv --columns local_port,state");
    assert!(sockets.contains(&format!("\n{},LISTEN\n", address.port())), "{sockets}");
    let port = address.port();
    let one = shown(&format!(
        "listeners --live --format csv --columns local_port,backlog sport = :{port}"
    ));
    assert_eq!(one, format!("local_port,backlog\n{port},2\n"));
    let two = format!("at --live --format csv --columns state dport = :{port} and rtt '<' 1h");
    assert_eq!(shown(&two), "state\nESTAB\nESTAB\n");
    assert_eq!(dir.names(), [""; 0], "nothing is left behind");
    drop(clients);
}

#[test]
fn buckets_too_many_and_states_that_make_no_sense_are_refused() {
    let world = traffic();
    let error = told(&world, "churn --bucket 1ns");
    assert!(error.starts_with("exit 2") && error.contains("more than 1000000"), "{error}");
    let error = told(&world, "states --state established");
    assert!(error.starts_with("exit 2") && error.contains("every state"), "{error}");
    let error = told(&world, "listeners --state established");
    assert!(error.starts_with("exit 2") && error.contains("LISTEN"), "{error}");
}
