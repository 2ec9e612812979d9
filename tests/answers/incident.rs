//! The questions of an incident, asked of machines on which everything that happened is known.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use insta::assert_snapshot;
use sockrec::model::TcpState;
use sockrec::query::{By, Question, Recording, Selection};
use sockrec::render::{Exporter, Options, Sheet, SheetTable, Zone};

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
    let columns = "--columns from,snapshots,sockets,estab_sockets,listen_sockets,fin_wait_2_sockets,\
         time_wait_sockets,close_wait_sockets,gaps";
    assert_snapshot!(told(&in_states(), &format!("states --bucket 2s {columns}")), @"
    exit 3
    stdout:
    from,snapshots,sockets,estab_sockets,listen_sockets,fin_wait_2_sockets,time_wait_sockets,close_wait_sockets,gaps
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
    let columns = "--columns sockets,estab_sockets,fin_wait_2_sockets,time_wait_sockets";
    assert_snapshot!(asked(&in_states(), &format!("states {span} {columns}")), @"
    sockets,estab_sockets,fin_wait_2_sockets,time_wait_sockets
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
    let b = FakeSocket::established(2, 1_002, 80).to_afar().opened_at(1_500);
    let c = FakeSocket::established(3, 1_003, 443).opened_at(7_500);
    let c = FakeSocket { rtt_us: 90_000, ..c };
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
    // 9,000 of the first (what it sent before counts not) and 5,100 of the second,
    // which may have sent more after it was last seen.
    assert_snapshot!(asked(&world, &format!("peers {columns}")), @"
    remote_address,connections,openings,endings,sent_delta_bytes,retrans_delta,max_rtt_us,counted
    198.51.100.7,2,1,1,14100,9,250,1
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
fn what_was_seen_only_after_a_span_is_not_told_of_it() {
    // The third may have been opened before the end of the span, and was first seen after it.
    let span = "--from 2026-11-21T12:00:02Z --to 2026-11-21T12:00:07.5Z";
    let columns = "--columns remote_address,connections,sent_delta_bytes,max_rtt_us";
    assert_snapshot!(asked(&traffic(), &format!("peers {span} {columns}")), @"
    remote_address,connections,sent_delta_bytes,max_rtt_us
    198.51.100.7,2,11100,250
    127.0.0.2,1,,
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
    let states =
        told(&in_states(), "states --bucket 1m --columns sockets,estab_sockets sport = :1001");
    assert!(states.contains("\nsockets,estab_sockets\n1,1\n"), "{states}");
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

/// Two captures, each a group of its own; in the second one it is faster than in the first.
#[test]
fn what_groups_tell_of_a_connection_is_put_together() {
    let a = FakeSocket::established(1, 1_001, 80);
    let closed = FakeSocket { snd_wnd: 0, rtt_us: 9_000, ..a.sent(10) };
    let mut world = World::default();
    world.shows(&[&a]).shows(&[&closed]).shows(&[&closed.sent(10)]).shows(&[&a.sent(30)]);
    world.record();
    world.goes_on_after(6 * SECOND).ends(&[&a.sent(40)], complete);
    world.shows(&[&FakeSocket { snd_wnd: 0, rtt_us: 3_000, ..a.sent(50) }]).shows(&[&a.sent(60)]);
    world.record();
    let columns = "max_rtt_us,zero_window_samples,sent_delta_bytes";
    let of = |span: &str| told(&world, &format!("slow {span} --columns {columns}"));
    assert_snapshot!(of(""), @"
    exit 3
    stdout:
    max_rtt_us,zero_window_samples,sent_delta_bytes
    9000,3,60
    stderr:
    warning: gaps in this span: not_recording (1); `sockrec query coverage` tells when
    ");
    // Of the second one alone.
    assert_snapshot!(of("--from 2026-11-21T12:00:08Z"), @"
    exit 3
    stdout:
    max_rtt_us,zero_window_samples,sent_delta_bytes
    3000,1,20
    stderr:
    warning: gaps in this span: not_recording (1); `sockrec query coverage` tells when
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
                   time_wait_sockets,local_ports,used_share";
    assert_snapshot!(asked(&leaking(), &format!("leaks --columns {columns}")), @"
    kind,state,sockets,socket_id,in_state_min_ns,remote_address,remote_port,time_wait_sockets,local_ports,used_share
    half_closed,CLOSE-WAIT,2,1,88999000000,,,,,
    local_ports,,5,,,198.51.100.7,443,1,20,0.25
    ");
    let longer = asked(&leaking(), "leaks --longer 80s --columns kind,sockets");
    assert_eq!(longer, "kind,sockets\nhalf_closed,1\nlocal_ports,5\n");
    let earlier = "leaks --to 2026-11-21T12:00:30Z --columns kind,sockets,time_wait_sockets";
    assert_eq!(asked(&leaking(), earlier), "kind,sockets,time_wait_sockets\nlocal_ports,5,0\n");
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
    let counts = shown("states --live -t --format json --columns estab_sockets,listen_sockets");
    let counts: serde_json::Value = serde_json::from_str(&counts).unwrap();
    assert!(
        counts[0]["estab_sockets"].as_u64() >= Some(4)
            && counts[0]["listen_sockets"].as_u64() >= Some(1)
    );
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

/// What a person sees.
fn table(world: &World, question: &str) -> String {
    let line = format!("query {question} --utc -f '{}'", world.path().display());
    Dir::new().sockrec(&line).told()
}

#[test]
fn every_question_has_a_table_that_is_narrow() {
    let at = ["2026-11-21T12:00:00.5Z", "2026-11-21T12:00:09Z"];
    let diff = format!("diff {} {}", at[0], at[1]);
    let compare = format!("compare --before {}..{} --after {}..{}", at[0], at[1], at[0], at[1]);
    let questions = [
        "listeners",
        "states",
        "churn",
        "peers",
        "ports",
        "processes",
        "cgroups",
        "users",
        "slow",
        "leaks",
        &diff,
        &compare,
    ];
    for question in questions {
        for world in [traffic(), listening(), leaking()] {
            let text = table(&world, question);
            assert!(text.starts_with("exit 0") || text.starts_with("exit 3"), "{question}: {text}");
            let shown = text.lines().take_while(|line| !line.starts_with("stderr"));
            let widest = shown.map(str::len).max();
            assert!(widest <= Some(145), "{question}: {text}");
        }
    }
}

/// On a terminal of this width.
fn on_terminal(world: &World, question: Question, sheet: Sheet, width: usize) -> String {
    let written = Rc::new(RefCell::new(Vec::new()));
    let options = Options { zone: Zone::Utc, width: Some(width), ..Options::default() };
    let recording = Recording::open(&world.path()).unwrap();
    let columns = sheet.columns().iter().map(|name| (*name).to_owned()).collect();
    let selection = Selection { columns, ..Selection::default() };
    let mut table = SheetTable::new(Box::new(Sunk(written.clone())), &options, sheet, false);
    table.begin(&recording.columns(question, &selection).unwrap()).unwrap();
    recording.answer(question, &selection, |row| Ok(table.row(row)?)).unwrap();
    table.finish().unwrap();
    String::from_utf8(written.take()).unwrap()
}

struct Sunk(Rc<RefCell<Vec<u8>>>);

impl Write for Sunk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn where_room_is_short_columns_that_say_nothing_go_first() {
    let peers = Question::Totals(By::Peer);
    assert_snapshot!(on_terminal(&traffic(), peers, Sheet::PEERS, 80), @"
    PEER          CONNS  OPENED  ENDED    SENT  RETR  RETR%  MAX RTT
    198.51.100.7      2       1      1  14.1kB     9  69.2%    250us
    127.0.0.2         1       1      0     100     0     0%   90.0ms
    0 or none in every row: reset, timeout, failed, recv
    ");
    let listeners = Question::Listeners { snapshot_id: None };
    assert_snapshot!(on_terminal(&listening(), listeners, Sheet::LISTENERS, 70), @"
    LOCAL           NOW  LIMIT  MAX  MAX AT (UTC)  >HALF   FULL
    127.0.0.2:8081    0      4    4      12:00:02  42.8%  28.5%
    127.0.0.2:9000    -    128    0      12:00:00     0%     0%
    not known in every row: drops, process
    ");
    let leaks = Question::Leaks { longer_ns: 60 * SECOND };
    assert_snapshot!(on_terminal(&leaking(), leaks, Sheet::LEAKS, 80), @"
    KIND         SOCKETS  USED  TIME-W  STATE         FOR  REMOTE            ID
    half_closed        2     -       -  CLOSE-WAIT  1m28s  -                  1
    local_ports        5   25%       1  -               -  198.51.100.7:443   -
    not known in every row: before, process
    ");
    // With room for all nothing is left out.
    let wide = on_terminal(&traffic(), peers, Sheet::PEERS, 120);
    assert!(wide.contains("TIMEOUT") && !wide.contains("every row"), "{wide}");
}

#[test]
fn two_spans_differ_in_services_and_how_they_were_used() {
    let spans = "--before 2026-11-21T12:00:00Z..2026-11-21T12:00:04.5Z \
                 --after 2026-11-21T12:00:06.5Z..2026-11-21T12:00:09.5Z";
    let columns = "--columns change,role,local_port,remote_address,remote_port,connections_before,\
                   connections,sent_before_bytes,sent_delta_bytes,max_rtt_us";
    assert_snapshot!(told(&traffic(), &format!("compare {spans} {columns}")), @"
    exit 0
    stdout:
    change,role,local_port,remote_address,remote_port,connections_before,connections,sent_before_bytes,sent_delta_bytes,max_rtt_us
    new,outbound,,127.0.0.2,443,,1,,100,90000
    changed,outbound,,198.51.100.7,80,2,2,9100,3000,250
    stderr:
    note: before: 2026-11-21 12:00:00.000 Z to 2026-11-21 12:00:04.500 Z (4.500s)
    note: after: 2026-11-21 12:00:06.500 Z to 2026-11-21 12:00:09.001 Z (2.501s)
    ");
    assert_snapshot!(table(&traffic(), &format!("compare {spans} dport = :443")), @"
    exit 0
    stdout:
    CHANGE  ROLE  NET  SERVICE        PROCESS  CONNS  FAILED  RETR%  MAX RTT  BACKLOG  DROPS  SENT  RECV
    new     out   tcp  127.0.0.2:443  -            1       0     0%   90.0ms        -      -   100     0
    stderr:
    note: before: 2026-11-21 12:00:00.000 Z to 2026-11-21 12:00:04.500 Z (4.500s)
    note: after: 2026-11-21 12:00:06.500 Z to 2026-11-21 12:00:09.001 Z (2.501s)
    ");
    // Two recordings, and what is listened on.
    let (before, after) = (traffic(), listening());
    let with = format!("compare --with '{}'", after.path().display());
    let columns =
        "--columns change,role,local_port,remote_port,max_backlog --sort change,local_port";
    assert_snapshot!(told(&before, &format!("{with} {columns}")), @"
    exit 3
    stdout:
    change,role,local_port,remote_port,max_backlog
    gone,outbound,,443,
    gone,outbound,,80,
    new,listener,8081,,4
    new,listener,9000,,0
    stderr:
    note: before: 2026-11-21 12:00:00.000 Z to 2026-11-21 12:00:09.001 Z (9.001s)
    note: after: 2026-11-21 12:00:00.000 Z to 2026-11-21 12:00:07.001 Z (7.001s)
    warning: gaps in this span: dump_failed (1); `sockrec query coverage` tells when
    ");
    let same = told(&before, &format!("compare --with '{}'", before.path().display()));
    assert!(same.starts_with("exit 0") && same.contains("no service differs"), "{same}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let world = traffic();
    let error = |words: &str| {
        let text = told(&world, &format!("compare {words}"));
        assert!(text.starts_with("exit 2"), "{text}");
        text
    };
    assert!(error("").contains("--with B.db"));
    assert!(error("--before 12:00..12:01").contains("two things are needed"));
    assert!(error("--before x --after y").contains("`x` is no time"));
    assert!(error("--with x.db --from 12:00").contains("takes two spans"));
}

/// Recorded by someone who did not ask whose the sockets are.
#[test]
fn a_recording_without_owners_says_so_where_they_are_asked_for() {
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = Dir::new();
    let recorded = dir.sockrec("record -q --no-owners --no-events --interval 100ms --count 2 -t");
    assert!(matches!(recorded.code(), Some(0 | 3)), "ticks may be missed: {}", recorded.told());
    let lacking = "neither processes nor cgroups were looked for";
    for question in ["processes", "cgroups", "leaks", "connections comm = nginx", "at now pid = 1"]
    {
        let text = dir.sockrec(&format!("query {question}")).told();
        assert!(text.starts_with("exit 3") && text.contains(lacking), "{question}: {text}");
    }
    let exported = dir.sockrec("export owners").told();
    assert!(exported.starts_with("exit 3") && exported.contains(lacking), "{exported}");
    for question in ["peers", "users", "connections state listening"] {
        let text = dir.sockrec(&format!("query {question}")).told();
        assert!(!text.contains(lacking), "{question}: {text}");
    }
}
