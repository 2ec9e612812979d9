//! FILTER in every question and export, and what a recording with a filter says of itself.

use insta::assert_snapshot;
use rusqlite::Connection;

use crate::harness::{Dir, Ran};
use crate::socket::FakeSocket;
use crate::world::{SECOND, World};

const ROWS: &[&str] = &[
    "query connections",
    "query at 2026-11-21T12:00:01.5Z",
    "query samples",
    "query snapshots",
    "query coverage",
    "query listeners",
    "query states",
    "query churn",
    "query peers",
    "query ports",
    "query processes",
    "query cgroups",
    "query users",
    "query slow",
    "query leaks",
    "query diff 2026-11-21T12:00:00.5Z 2026-11-21T12:00:01.5Z",
    "export connections",
    "export samples",
    "export sockets",
    "export owners",
    "export processes",
    "export snapshots",
];

fn asked(world: &World, line: &str) -> Ran {
    // FILTER stands at the end.
    let (question, filter) = line.split_once(" | ").unwrap_or((line, ""));
    let file = world.path();
    Dir::new().sockrec(&format!("{question} -f '{}' {filter}", file.display()))
}

/// The first column of the rows.
#[track_caller]
fn ids(world: &World, line: &str) -> String {
    let (question, filter) = line.split_once(" | ").unwrap();
    let ran =
        asked(world, &format!("{question} --format csv --columns socket_id | {filter}")).fine();
    ran.stdout().lines().skip(1).collect::<Vec<_>>().join(" ")
}

/// Three connections: to port 80 and 443 here, and to 443 afar; and a listener.
fn mixed() -> World {
    let world = mix();
    world.record();
    world
}

fn mix() -> World {
    let a = FakeSocket::established(1, 1_001, 80).sent(10);
    let b = FakeSocket::established(2, 1_002, 443).sent(2_000_000);
    let again = b.retransmitted(2);
    let c = FakeSocket::established(3, 1_003, 443).to_afar();
    let d = FakeSocket::listener(4, 8_080, 3, 128);
    let mut world = World::with_events();
    world.shows(&[&a, &b, &c, &d]).shows(&[&a, &b, &c, &d]).shows(&[&again, &c, &d]);
    world.shows(&[&again, &d]);
    world
}

#[test]
fn rows_are_chosen_in_every_answer_about_sockets() {
    let world = mixed();
    for question in [
        "query connections",
        "query at 2026-11-21T12:00:00.5Z",
        "query samples",
        "export sockets",
        "export connections",
    ] {
        let ids = |filter: &str| ids(&world, &format!("{question} | {filter}"));
        let unique = |filter: &str| {
            let mut all: Vec<_> = ids(filter).split(' ').map(str::to_owned).collect();
            all.sort_unstable();
            all.dedup();
            all.join(" ")
        };
        assert_eq!(unique("dport = :443"), "2 3", "{question}");
        assert_eq!(unique("'dport = :443 and not dst 127.0.0.0/8'"), "3", "{question}");
        assert_eq!(unique("'( sport = :1001 or sport = :8080 )'"), "1 4", "{question}");
        assert_eq!(unique("protocol = tcp and cookie = 3"), "3", "{question}");
        assert_eq!(unique("remote_port '>=' 443 and family = inet"), "2 3", "{question}");
        assert_eq!(unique("socket_id != 2"), "1 3 4", "{question}");
    }
}

#[test]
fn options_mean_what_they_mean_to_ss() {
    let world = mixed();
    let at = |options: &str| ids(&world, &format!("query at 2026-11-21T12:00:00.5Z {options} | "));
    assert_eq!(at("-l"), "4");
    assert_eq!(at("-tl"), "4");
    assert_eq!(at("-ul"), "");
    assert_eq!(at("-tal").split(' ').count(), 4);
    assert_eq!(at("-6l"), "");
    assert_eq!(ids(&world, "query at 2026-11-21T12:00:00.5Z -l | sport = :8080"), "4");
    let shown = asked(&world, "query at 2026-11-21T12:00:00.5Z -tlp").fine().stdout();
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.lines().all(|line| line.contains("Process") || line.contains("LISTEN")));
}

#[test]
fn columns_are_compared_by_their_names() {
    let world = mixed();
    let connections = |filter: &str| ids(&world, &format!("query connections | {filter}"));
    assert_eq!(connections("'bytes_sent >= 1MB'"), "2");
    assert_eq!(connections("'total_retrans > 0'"), "2");
    assert_eq!(connections("'rtt > 100us and not rtt > 1ms'"), "1 2 3");
    assert_eq!(connections("rtt_us = 250"), "1 2 3");
    assert_eq!(connections("state listening"), "4");
    assert_eq!(ids(&world, "query samples | socket_id = 1"), "1");
    assert_eq!(ids(&world, "query samples | socket_id = 2 and 'total_retrans > 0'"), "2");
    assert_eq!(ids(&world, "query samples | socket_id = 1 and dport = :443"), "");
    assert_eq!(connections("direction = inbound"), "");
    // It was seen for 2 s; the others are there yet, nobody knows for how long.
    assert_eq!(connections("'duration < 4s'"), "");
    assert_eq!(connections("'duration >= 900ms'"), "1 2 3 4");
    assert_eq!(connections("closed_evidence = absence"), "1");
    // At the latest when recording began, nobody knows how long before.
    assert_eq!(connections("'opened < 2026-11-21T12:00:00.5Z'"), "1 2 3 4");
    assert_eq!(connections("'opened > 2026-11-21T11:00:00Z'"), "");
    let at = "query at 2026-11-21T12:00:01.5Z";
    assert_eq!(ids(&world, &format!("{at} | 'backlog > 2 and backlog_limit = 128'")), "4");
    assert_eq!(ids(&world, &format!("{at} | 'retrans > 0'")), "");
}

/// Of the id of a container tables show the first digits, as `docker ps` does.
#[test]
fn a_namespace_is_chosen_by_what_a_table_shows_of_it() {
    let world = mixed();
    let id = format!("427c52e57bd3{}", "0f".repeat(26));
    let sql = format!(
        "INSERT INTO namespaces (boot_id, netns_cookie, inode, name) VALUES (1, 7, 7, '{id}');
         UPDATE sockets SET netns_id = last_insert_rowid() WHERE socket_id = 3;"
    );
    Connection::open(world.path()).unwrap().execute_batch(&sql).unwrap();
    let table = asked(&world, "query connections | socket_id = 3").fine().stdout();
    let shown = table.split_whitespace().find(|word| id.starts_with(word) && word.len() > 5);
    assert_eq!(shown, Some(&id[..12]), "{table}");
    let chosen = |filter: &str| ids(&world, &format!("query connections | {filter}"));
    assert_eq!(chosen(&format!("netns = {}", &id[..12])), "3");
    assert_eq!(chosen(&format!("netns != {}", &id[..12])), "1 2 4");
    assert_eq!(chosen(&format!("netns = {id}")), "3");
    assert_eq!(chosen(&format!("netns = {}", &id[..11])), "", "fewer digits are a name");
    assert_eq!(chosen("netns = 427c52e57bd4"), "");
}

#[test]
fn a_name_means_the_column_of_the_answer_before_that_of_others() {
    let world = mixed();
    // How long a connection was in it; `states` counts them.
    assert_eq!(ids(&world, "query connections | 'time_wait > 1min'"), "");
}

#[test]
fn what_follows_a_comparison_is_one_value_as_the_shell_left_it() {
    let world = mixed();
    let opened = |time: &str| ids(&world, &format!("query connections | opened < '{time}'"));
    assert_eq!(opened("2026-11-23 12:00:05"), "1 2 3 4");
    assert_eq!(opened("2026-11-19 12:00:05"), "");
    assert_eq!(ids(&world, "query connections | 'sport = :1001' or 'sport = :1002'"), "1 2");
}

#[test]
fn a_filter_of_too_many_values_is_refused_in_few_words() {
    let ports: Vec<_> = (0..32_001).map(|n| format!("sport=:{n}")).collect();
    let ran = asked(&mixed(), &format!("query connections | {}", ports.join(" | ")));
    assert_eq!(ran.code(), Some(2));
    let told = ran.told();
    assert!(told.contains("more than 32000 values") && told.len() < 1_000, "{}", told.len());
}

#[test]
fn other_answers_are_chosen_from_by_their_own_columns() {
    let world = mixed();
    let rows = |line: &str| asked(&world, line).fine().stdout().lines().count() - 1;
    assert_eq!(rows("query snapshots --format csv | 'snapshot_id > 2'"), 2);
    assert_eq!(rows("query snapshots --format csv | is_keyframe"), 1);
    assert_eq!(rows("query coverage --format csv | kind = recorded"), 1);
    assert_eq!(rows("export processes --format csv | comm = nginx"), 0);
}

#[test]
fn what_an_answer_cannot_be_asked_is_told() {
    let world = mixed();
    let refused = |line: &str| {
        let ran = asked(&world, line);
        assert_eq!(ran.code(), Some(2), "{line}: {}", ran.told());
        ran.told()
    };
    assert_snapshot!(refused("query connections | 'retrans > 0'"), @"
    exit 2
    error: this answer has no column `retrans`
      retrans > 0
      ^^^^^^^^^^^

    hint: it has `bytes_retrans`, `total_retrans`; `--columns help` lists all
    ");
    assert_snapshot!(refused("export sockets | state established"), @"
    exit 2
    error: this answer has no column `state`
      state established
      ^^^^^^^^^^^^^^^^^

    hint: `--columns help` lists those that it has
    ");
    assert_snapshot!(refused("query connections | autobound"), @"
    exit 2
    error: only the kernel knows which ports it chose: `autobound` is for `record` alone
      autobound
      ^^^^^^^^^
    ");
    assert_snapshot!(refused("query connections | dev = eth0"), @"
    exit 2
    error: a recording knows devices by number, not by the name `eth0`
      dev = eth0
      ^^^^^^^^^^

    hint: `ip link` on the recorded machine tells the number: `dev = 2`
    ");
    assert_snapshot!(refused("query snapshots | dport = :80"), @"
    exit 2
    error: this answer has no column `remote_port`
      dport = :80
      ^^^^^^^^^^^

    hint: `--columns help` lists those that it has
    ");
    assert_snapshot!(refused("query connections --state listening | state established"), @"
    exit 2
    error: the filter and the states that are asked for exclude each other
    ");
    assert_snapshot!(refused("query connections -4 | dst ::1"), @"
    exit 2
    error: the filter never holds for sockets of IPv4

    hint: leave out `-4`, or the IPv6 address
    ");
    assert_snapshot!(refused("query connections | dport = :443 and dport = :80"), @"
    exit 2
    error: this filter is never true: `dport = :443` and `dport = :80` exclude each other
      dport = :443 and dport = :80
                       ^^^^^^^^^^^

    hint: did you mean `or`?
    ");
    assert_snapshot!(refused("query connections | 'sport > :65535'"), @"
    exit 2
    error: this filter is never true: `sport > :65535` never holds
      sport > :65535
      ^^^^^^^^^^^^^^
    ");
    assert_snapshot!(refused("query at 10m ago"), @"
    exit 2
    error: a time with blanks in it is one word on the command line: `10m ago`

    hint: put it into quotes: `sockrec query at '10m ago'`
    ");
}

#[test]
fn a_filter_by_what_was_not_looked_for_is_told() {
    let world = World { options: r#"{"owners":false,"has_net_admin":false}"#, ..mix() };
    world.record();
    let nobody = "warning: neither processes nor cgroups were looked for";
    for line in [
        "query connections | comm = nginx",
        "query at 2026-11-21T12:00:01.5Z | not pid = 7",
        "query peers | cgroup = /a",
        "export sockets | user = root and dport = :443",
    ] {
        let told = asked(&world, line).told();
        assert!(told.contains(nobody), "{line}: {told}");
    }
    let marks = asked(&world, "query connections | fwmark = 1").told();
    assert!(marks.contains("warning: without CAP_NET_ADMIN the kernel told no marks"), "{marks}");
    let fine = asked(&world, "query connections | dport = :443").told();
    assert!(!fine.contains("warning"), "{fine}");
    // No rule holds of sockets that nobody knows.
    let ran = asked(&world, "assert no-gaps no-resets | -- comm = nginx");
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
}

fn of_port_443() -> World {
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 443));
    let mut world = World { filter: Some("dport = :443"), ..World::with_events() };
    world.shows(&[&a, &b]).shows(&[&a, &b]);
    world.record();
    world
}

#[test]
fn every_answer_of_a_filtered_recording_says_what_was_left_out() {
    let world = of_port_443();
    let note = "note: only `dport = :443` was recorded: of other sockets nothing is known";
    for &line in ROWS.iter().chain(&["query connection 1", "assert no-resets"]) {
        let ran = asked(&world, line);
        assert!(matches!(ran.code(), Some(0 | 3)), "{line}: {}", ran.told());
        assert_eq!(ran.told().matches(note).count(), 1, "{line}: {}", ran.told());
    }
    // Above all an empty one.
    let empty = asked(&world, "query connections --format csv | dport = :80").fine();
    assert!(empty.told().contains(note), "{}", empty.told());
    let held = asked(&world, "assert no-resets").told();
    assert!(held.contains("the rule holds for what was recorded"), "{held}");
    let info = asked(&world, "info").fine().stdout();
    assert!(info.contains("tcp/inet  dport = :443"), "{info}");
    let coverage = asked(&world, "query coverage --format csv --columns kind,message").fine();
    assert_snapshot!(coverage.stdout(), @"
    kind,message
    recorded,only dport = :443
    ");
}

#[test]
fn of_another_time_a_filter_says_nothing() {
    let mut world = of_port_443();
    world.filter = None;
    world.goes_on_after(60 * SECOND).shows(&[]).shows(&[]);
    world.record();
    let told = |line: &str| asked(&world, line).told().contains("was recorded:");
    assert!(told("query at 2026-11-21T12:00:01.5Z"));
    assert!(!told("query at 2026-11-21T12:01:02.5Z"));
    assert!(told("query connections --to 2026-11-21T12:00:30Z"));
    assert!(!told("query connections --from 2026-11-21T12:00:30Z"));
    let both = asked(&world, "query connections").told();
    assert!(both.contains("in 1 of 2 captures only `dport = :443` was recorded:"), "{both}");
}

#[test]
fn an_extract_holds_what_the_filter_chose_and_says_so() {
    let world = mixed();
    let dir = Dir::new();
    let file = world.path();
    let taken =
        |filter: &str| dir.sockrec(&format!("extract -f '{}' -o part.db {filter}", file.display()));
    let ran = taken("dport = :443 and 'total_retrans > 0'").fine();
    assert!(ran.stderr.contains(" snapshots, 1 socket and "), "{}", ran.told());
    let ran = dir.sockrec("query connections -f part.db --format csv --columns socket_id").fine();
    assert_snapshot!(ran.told(), @"
    exit 0
    stdout:
    socket_id
    2
    stderr:
    note: only `dport = :443 and total_retrans > 0` was taken over: of other sockets nothing is known
    ");
    let refused = taken("'rtt > 5'");
    assert_eq!(refused.code(), Some(2), "{}", refused.told());
    assert_eq!(taken("'retrans > 0'").code(), Some(2));
}

/// What a ticket gets is not what else went on since the last keyframe.
#[test]
fn an_extract_of_a_span_holds_no_socket_that_had_gone_before() {
    let (long, early) =
        (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_002, 80));
    let mut world = World::default();
    for tick in 0..30 {
        let is_early = tick < 10;
        world.shows(&[&long, &early][..1 + usize::from(is_early)]);
    }
    world.record();
    let dir = Dir::new();
    let file = world.path();
    let ports = |options: &str| {
        let span = "--from 2026-11-21T12:00:20.5Z --to 2026-11-21T12:00:25.5Z";
        let to = if options.is_empty() { "part.db" } else { "mergeable.db" };
        let line = format!("extract -f '{}' {span} {options} -o {to}", file.display());
        dir.sockrec(&line).fine();
        dir.sockrec(&format!("query connections -f {to} --format csv --columns local_port")).told()
    };
    assert_snapshot!(ports(""), @"
    exit 0
    stdout:
    local_port
    1001
    stderr:
    note: only `what was there from 2026-11-21T12:00:20.500Z on` was taken over: of other sockets nothing is known
    ");
    assert_snapshot!(ports("--mergeable"), @"
    exit 0
    stdout:
    local_port
    1001
    1002
    stderr:
    ");
    let refused = dir.sockrec("merge part.db mergeable.db -o both.db");
    assert_eq!(refused.code(), Some(1), "{}", refused.told());
}

#[test]
fn rules_are_held_to_the_chosen_sockets() {
    let world = mixed();
    let code = |line: &str| asked(&world, line).code();
    assert_eq!(code("assert retransmit-ratio-below=1%"), Some(1));
    assert_eq!(code("assert retransmit-ratio-below=1% | -- dport = :80"), Some(0));
    assert_eq!(code("assert retransmit-ratio-below=1% | -- 'total_retrans > 1'"), Some(1));
    let none = asked(&world, "assert no-resets | -- dport = :9").told();
    assert!(none.contains("no socket of the recording matches"), "{none}");
    assert_eq!(code("assert no-resets | -- dport = :x"), Some(2));
}
