//! Whose the sockets were: columns of `connections`, `at` and `sockets`, and exports of their own.

use insta::assert_snapshot;
use sockrec::model::{
    Cgroup, Observation, OwnerChange, Ownership, Process, ProcessFacts, ProcessId, ProcessKey,
    SnapshotId, SocketId,
};

use crate::harness::{Dir, MadeUp, observation};

fn process(id: ProcessId, pid: u32, comm: &str) -> OwnerChange {
    let text = |text: &str| Some(text.to_owned());
    let cgroup = Cgroup {
        path: format!("/system.slice/{comm}.service"),
        unit: Some(format!("{comm}.service")),
        container: None,
    };
    OwnerChange::Process(Box::new(Process {
        id,
        key: ProcessKey { pid, started_ticks: 100 },
        facts: ProcessFacts {
            started_at_ns: Some(1_700_000_000_000_000_000),
            comm: text(comm),
            exe: Some(format!("/usr/sbin/{comm}")),
            command_line: Some(format!("{comm} -d")),
            uid: Some(33),
            user: text("www-data"),
            cgroup: Some(cgroup),
        },
    }))
}

/// Socket 1 was held by nginx, and by a worker and nginx from the second snapshot to its end;
/// socket 2 by nobody that was found; socket 3 by the worker, from the second snapshot to the third.
fn recording() -> Dir {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    let start = made.start;
    let in_cgroup = Observation { cgroup_id: Some(7), ..observation(3) };
    let rows = [observation(1), observation(2), in_cgroup];
    for _ in 0..4 {
        made.snapshot(&rows).commit();
    }
    let (nginx, worker) = (start.next_process, start.next_process.next());
    let snapshot = |n| SnapshotId(start.next_snapshot.0 - 1 + n);
    let held = |socket, process, since| Ownership { socket: SocketId(socket), process, since };
    let let_go = held(3, worker, snapshot(2));
    let cgroup = Cgroup { path: "/made.slice".to_owned(), unit: None, container: None };
    made.writer
        .owner_changes(
            &start,
            &[
                process(nginx, 1_234, "nginx"),
                process(worker, 1_240, "worker"),
                OwnerChange::Held(held(1, worker, snapshot(2))),
                OwnerChange::Held(held(1, nginx, snapshot(1))),
                OwnerChange::Held(let_go),
                OwnerChange::Released { ownership: let_go, last: snapshot(3) },
                OwnerChange::Cgroup(7, cgroup),
            ],
        )
        .unwrap();
    made.end();
    dir
}

/// Socket 1 was held by nginx, let go of, and held by it again.
#[test]
fn who_held_a_socket_twice_is_one_owner() {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    let start = made.start;
    for _ in 0..4 {
        made.snapshot(&[observation(1)]).commit();
    }
    let nginx = start.next_process;
    let snapshot = |n| SnapshotId(start.next_snapshot.0 - 1 + n);
    let held = |since| Ownership { socket: SocketId(1), process: nginx, since };
    let changes = [
        process(nginx, 1_234, "nginx"),
        OwnerChange::Held(held(snapshot(1))),
        OwnerChange::Released { ownership: held(snapshot(1)), last: snapshot(2) },
        OwnerChange::Held(held(snapshot(4))),
    ];
    made.writer.owner_changes(&start, &changes).unwrap();
    made.end();
    let columns = "socket_id,pid,owners,owner_count";
    let rows = shown(&dir, &format!("query connections --format csv --columns {columns}"));
    assert_eq!(rows, format!("{columns}\n1,1234,nginx[1234],1\n"));
}

fn shown(dir: &Dir, line: &str) -> String {
    dir.sockrec(line).fine().stdout()
}

const COLUMNS: &str =
    "--columns socket_id,pid,comm,command_line,user,owners,owner_count,cgroup,unit --format csv";

/// What nobody asks for is not looked up.
#[test]
fn each_column_of_connections_is_alone_what_it_is_among_all() {
    let dir = recording();
    let all = shown(&dir, "query connections --format csv");
    let lines: Vec<Vec<&str>> = all.lines().map(fields).collect();
    assert!(lines[0].contains(&"owners"));
    for (i, name) in lines[0].iter().enumerate() {
        let columns = format!("query connections --format csv --columns socket_id,{name}");
        let alone = shown(&dir, &columns);
        let alone: Vec<&str> = alone.lines().map(|line| fields(line)[1]).collect();
        let among_all: Vec<&str> = lines.iter().map(|fields| fields[i]).collect();
        assert_eq!(alone, among_all, "{name}");
    }
}

/// What stands between the commas that are not quoted.
fn fields(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    line.split(|c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    })
    .collect()
}

#[test]
fn what_owners_tell_is_looked_up_to_choose_and_to_sort_by_too() {
    let dir = recording();
    let sockets = |line: &str| {
        let line = format!("query connections --format csv --columns socket_id {line}");
        shown(&dir, &line).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sockets("comm = worker"), ["1", "3"]);
    assert_eq!(sockets("unit = nginx.service"), ["1"]);
    assert_eq!(sockets("--sort owner_count:desc"), ["1", "3", "2"]);
    assert_eq!(sockets("--sort pid:desc"), ["3", "1", "2"]);
    let peers = |filter: &str| {
        shown(&dir, &format!("query peers --format csv --columns connections {filter}"))
    };
    assert_eq!(peers("comm = worker"), "connections\n2\n");
    assert_eq!(peers(""), "connections\n3\n");
}

#[test]
fn a_connection_tells_its_first_owner_and_names_all() {
    let dir = recording();
    assert_snapshot!(shown(&dir, &format!("query connections {COLUMNS}")), @r#"
    socket_id,pid,comm,command_line,user,owners,owner_count,cgroup,unit
    1,1234,nginx,nginx -d,www-data,"nginx[1234],worker[1240]",2,/system.slice/nginx.service,nginx.service
    2,,,,,,,,
    3,1240,worker,worker -d,www-data,worker[1240],1,/made.slice,worker.service
    "#);
    assert_eq!(
        shown(&dir, &format!("export sockets {COLUMNS}")),
        shown(&dir, &format!("query connections {COLUMNS}"))
    );
}

#[test]
fn the_table_says_how_many_more_held_it() {
    assert_snapshot!(shown(&recording(), "query connections --utc"), @"
    ID  NET  LOCAL        REMOTE         DIR  PROCESS        OPENED (UTC)  DURATION  END    SENT  RECEIVED  RETR
     1  tcp  127.0.0.1:1  127.0.0.1:443  -    nginx[1234]+1     <22:13:21     >3.0s  ESTAB     -         -     -
     2  tcp  127.0.0.1:2  127.0.0.1:443  -    -                 <22:13:21     >3.0s  ESTAB     -         -     -
     3  tcp  127.0.0.1:3  127.0.0.1:443  -    worker[1240]      <22:13:21     >3.0s  ESTAB     -         -     -
    ");
}

#[test]
fn at_a_time_only_those_count_that_held_it_then() {
    let dir = recording();
    let at = |second: u32| {
        let columns = "--columns socket_id,pid,owners --format csv";
        let ran = dir.sockrec(&format!("query at 2023-11-14T22:13:2{second}Z {columns}"));
        ran.stdout().lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(at(1), "1,1234,nginx[1234] 2,, 3,,");
    assert_eq!(at(2), "1,1234,\"nginx[1234],worker[1240]\" 2,, 3,1240,worker[1240]");
    assert_eq!(at(4), "1,1234,\"nginx[1234],worker[1240]\" 2,, 3,,");
}

#[test]
fn ownerships_and_processes_are_data_sets_of_their_own() {
    let dir = recording();
    let columns = "--columns socket_id,local_port,pid,comm,process_uid,held_from,held_to";
    assert_snapshot!(shown(&dir, &format!("export owners {columns}")), @"
    socket_id,local_port,pid,comm,process_uid,held_from,held_to
    1,1,1234,nginx,33,2023-11-14T22:13:21.000000000Z,
    1,1,1240,worker,33,2023-11-14T22:13:22.000000000Z,
    3,3,1240,worker,33,2023-11-14T22:13:22.000000000Z,2023-11-14T22:13:23.000000000Z
    ");
    let columns = "--columns process_id,pid,comm,user,unit,sockets_held,held_from,held_to";
    assert_snapshot!(shown(&dir, &format!("export processes {columns}")), @"
    process_id,pid,comm,user,unit,sockets_held,held_from,held_to
    1,1234,nginx,www-data,nginx.service,1,2023-11-14T22:13:21.000000000Z,
    2,1240,worker,www-data,worker.service,2,2023-11-14T22:13:22.000000000Z,
    ");
    let of_one = shown(&dir, "export owners --socket 3 --columns socket_id,comm");
    assert_eq!(of_one, "socket_id,comm\n3,worker\n");
    let late = "--from 2023-11-14T22:13:23.5Z --columns socket_id,comm";
    assert_eq!(
        shown(&dir, &format!("export owners {late}")),
        "socket_id,comm\n1,nginx\n1,worker\n"
    );
}

/// One process holds one socket more in every snapshot, another the same three all the time.
#[test]
fn a_process_whose_sockets_only_grow_is_told_of() {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    let start = made.start;
    let rows: Vec<_> = (1..=40).map(observation).collect();
    for held in 4..=40 {
        made.snapshot(&rows[..held]).commit();
    }
    let (grows, stays) = (start.next_process, start.next_process.next());
    let mut changes = vec![process(grows, 1_234, "leaky"), process(stays, 1_240, "steady")];
    for socket in 1..=40 {
        let process = if socket <= 3 { stays } else { grows };
        let since = SnapshotId(start.next_snapshot.0 + (socket - 4).max(0));
        changes.push(OwnerChange::Held(Ownership { socket: SocketId(socket), process, since }));
    }
    made.writer.owner_changes(&start, &changes).unwrap();
    made.end();
    let leaks =
        shown(&dir, "query leaks --format csv --columns kind,owners,sockets_before,sockets");
    assert_eq!(leaks, "kind,owners,sockets_before,sockets\nonly_grows,leaky[1234],5,37\n");
}
