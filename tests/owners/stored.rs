//! What a recording keeps of owners.

use std::path::Path;

use sockrec::model::{
    Cgroup, OwnerChange, Ownership, Process, ProcessFacts, ProcessId, ProcessKey, SnapshotId,
    SocketId,
};

use crate::harness::{Dir, MadeUp, ask, assert_recording_is_whole, observation, read_only};

fn process(id: ProcessId, pid: u32, comm: &str) -> OwnerChange {
    let id64 = "0123456789abcdef".repeat(4);
    let text = |text: &str| Some(text.to_owned());
    OwnerChange::Process(Box::new(Process {
        id,
        key: ProcessKey { pid, started_ticks: u64::from(pid) * 100 },
        facts: ProcessFacts {
            started_at_ns: Some(1_700_000_000_000_000_000),
            comm: text(comm),
            exe: text("/usr/sbin/nginx"),
            command_line: None,
            uid: Some(0),
            user: text("root"),
            cgroup: Some(Cgroup {
                path: format!("/system.slice/docker-{id64}.scope"),
                unit: Some(format!("docker-{id64}.scope")),
                container: Some(id64),
            }),
        },
    }))
}

fn held(socket: SocketId, process: ProcessId, since: SnapshotId) -> Ownership {
    Ownership { socket, process, since }
}

/// All rows of `socket_owners`, as text.
fn owners(path: &Path) -> String {
    let sql = "SELECT group_concat(socket_id || '/' || process_id || ' ' || first_snapshot_id || '-'
         || coalesce(last_snapshot_id, ''), ', ') FROM (SELECT * FROM socket_owners ORDER BY 1, 2, 3)";
    read_only(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn an_owner_is_kept_after_the_process_is_gone() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let (start, first) = (made.start, made.start.next_process);
    let (one, two, second) = (SocketId(1), SocketId(2), first.next());
    made.snapshot(&[observation(1), observation(2)]).commit();

    let snapshot = |n| SnapshotId(start.next_snapshot.0 - 1 + n);
    let mut unfinished = made.snapshot(&[observation(1), observation(2)]);
    for change in [
        process(first, 10, "nginx"),
        process(second, 11, "worker"),
        OwnerChange::Held(held(one, first, snapshot(1))),
        OwnerChange::Held(held(one, second, snapshot(1))),
        OwnerChange::Held(held(two, second, snapshot(1))),
        OwnerChange::Cgroup(u64::MAX, Cgroup { path: "/".into(), unit: None, container: None }),
    ] {
        unfinished.tick.owner_change(&start, &change).unwrap();
    }
    unfinished.commit();
    let mut unfinished = made.snapshot(&[observation(1), observation(2)]);
    let ownership = held(one, first, snapshot(1));
    for change in [
        OwnerChange::Released { ownership, last: snapshot(2) },
        // Let go of and taken again while no snapshot was taken.
        OwnerChange::Released { ownership: held(two, second, snapshot(1)), last: snapshot(1) },
        OwnerChange::Held(held(two, second, snapshot(1))),
        process(second, 11, "renamed"),
    ] {
        unfinished.tick.owner_change(&start, &change).unwrap();
    }
    unfinished.commit();
    made.writer.owner_changes(&start, &[OwnerChange::Held(held(one, first, snapshot(3)))]).unwrap();
    made.end();

    assert_recording_is_whole(&path);
    assert_eq!(owners(&path), "1/1 1-2, 1/1 3-, 1/2 1-, 2/2 1-");
    let names = "SELECT group_concat(pid || ' ' || comm || ' ' || user || ' '
         || (command_line IS NULL) || ' ' || substr(container, 1, 4), ', ') FROM processes";
    let names: String = read_only(&path).unwrap().query_row(names, [], |row| row.get(0)).unwrap();
    assert_eq!(names, "10 nginx root 1 0123, 11 renamed root 1 0123");
    assert_eq!(ask(&path, "SELECT cgroup_id FROM cgroups WHERE path = '/'").unwrap(), -1);
}

#[test]
fn a_later_capture_is_told_what_an_earlier_one_left() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let start = made.start;
    made.snapshot(&[observation(1), observation(2)]).commit();
    let (process_id, since) = (start.next_process, start.next_snapshot);
    let (open, let_go) =
        (held(SocketId(1), process_id, since), held(SocketId(2), process_id, since));
    let changes = [
        process(process_id, 10, "nginx"),
        OwnerChange::Held(open),
        OwnerChange::Held(let_go),
        OwnerChange::Released { ownership: let_go, last: since },
        OwnerChange::Cgroup(5, Cgroup { path: "/a".into(), unit: None, container: None }),
    ];
    made.writer.owner_changes(&start, &changes).unwrap();
    made.end();

    let later = MadeUp::begin(&path);
    assert_eq!(later.start.next_process, process_id.next());
    let sockets = later.writer.former_sockets(&[later.start.netns]).unwrap();
    assert_eq!(sockets.len(), 2);
    let former = later.writer.former_owners(&later.start, &sockets).unwrap();
    assert_eq!(former.processes, [(process_id, ProcessKey { pid: 10, started_ticks: 1_000 })]);
    assert_eq!(former.ownerships, [open]);
    assert_eq!(former.cgroups, [5]);
}
