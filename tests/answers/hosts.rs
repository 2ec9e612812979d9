//! Recordings of several hosts: which row is of which, and what is said beside the answer.

use insta::assert_snapshot;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::{World, failed};

/// Two hosts, of which only `noisy` has gaps.
fn two_hosts() -> Dir {
    let dir = Dir::new();
    let world = |host, boot_uuid, port| {
        let a = FakeSocket::established(1, port, 80);
        let mut world = World { host, boot_uuid, ..World::default() };
        world.shows(&[&a]);
        (world, a)
    };
    let (mut quiet, a) = world("quiet", "00000000-0000-4000-8000-000000000001", 1_001);
    quiet.shows(&[&a, &FakeSocket::listener(2, 80, 0, 128)]).record();
    let (mut noisy, b) = world("noisy", "00000000-0000-4000-8000-000000000002", 1_002);
    noisy.ends(&[], failed).shows(&[&b.sent(7)]).record();
    // Recordings that began at once stand in the order of their UUIDs.
    for (world, uuid) in [(&quiet, "a"), (&noisy, "b")] {
        let file = rusqlite::Connection::open(world.path()).unwrap();
        file.execute("UPDATE recording SET uuid = ?1", [uuid]).unwrap();
    }
    let paths = [quiet.path(), noisy.path()].map(|path| path.display().to_string());
    let merge = dir.command_of(["merge", &paths[0], &paths[1], "-o", "both.db"]);
    crate::harness::run(merge).fine();
    dir
}

fn told(dir: &Dir, line: &str) -> String {
    dir.sockrec(&format!("{line} -f both.db")).told()
}

#[test]
fn a_row_names_its_host_where_there_are_several() {
    let dir = two_hosts();
    assert_snapshot!(told(&dir, "query connections --utc"), @"
    exit 0
    stdout:
    ID  HOST   NET  LOCAL           REMOTE        DIR  PROCESS  OPENED (UTC)  DURATION  END     SENT  RECEIVED  RETR
     1  quiet  tcp  127.0.0.1:1001  127.0.0.2:80  out  -           <11:59:54     >6.4s  ESTAB    100         0     0
     2  quiet  tcp  127.0.0.2:80    0.0.0.0:*     -    -            12:00:01      >0ms  LISTEN     -         -     -
     3  noisy  tcp  127.0.0.1:1002  127.0.0.2:80  out  -           <11:59:54     >7.4s  ESTAB    107         0     0
    stderr:
    ");
    assert_snapshot!(told(&dir, "query connections --utc --host quiet"), @"
    exit 0
    stdout:
    ID  NET  LOCAL           REMOTE        DIR  PROCESS  OPENED (UTC)  DURATION  END     SENT  RECEIVED  RETR
     1  tcp  127.0.0.1:1001  127.0.0.2:80  out  -           <11:59:54     >6.4s  ESTAB    100         0     0
     2  tcp  127.0.0.2:80    0.0.0.0:*     -    -            12:00:01      >0ms  LISTEN     -         -     -
    stderr:
    ");
    assert_snapshot!(told(&dir, "query at 2026-11-21T12:00:09Z --utc -n 1"), @"
    exit 3
    stdout:
    Host   Netid  State  Recv-Q  Send-Q  Local Address:Port  Peer Address:Port
    noisy  tcp    ESTAB       0       0  127.0.0.1:1002      127.0.0.2:80
    stderr:
    note: noisy: snapshot 5, ended at 2026-11-21 12:00:02.001 Z
    warning: noisy: nothing was recorded from then to 2026-11-21 12:00:09.000 Z: the answer is 6.999s old
    note: quiet: snapshot 2, ended at 2026-11-21 12:00:01.001 Z
    warning: quiet: nothing was recorded from then to 2026-11-21 12:00:09.000 Z: the answer is 7.999s old
    ");
    assert_snapshot!(told(&dir, "query samples --utc -n 1 --columns host_name,local_port"), @"
    exit 0
    stdout:
    HOST_NAME  LOCAL_PORT
    quiet            1001
    stderr:
    ");
    let times = "2026-11-21T12:00:00.5Z 2026-11-21T12:00:09Z";
    assert_snapshot!(told(&dir, &format!("query diff {times} --utc")), @"
    exit 3
    stdout:
    HOST   CHANGE   ID  NET  STATE   LOCAL           REMOTE        PROCESS  SENT  RECV  RETR  BACKLOG
    quiet  new       2  tcp  LISTEN  127.0.0.2:80    0.0.0.0:*     -           -     -     -        0
    noisy  changed   3  tcp  ESTAB   127.0.0.1:1002  127.0.0.2:80  -           7     0     0        -
    stderr:
    warning: noisy: nothing was recorded from 2026-11-21 12:00:02.001 Z to 2026-11-21 12:00:09.000 Z: what was there before is shown
    warning: quiet: nothing was recorded from 2026-11-21 12:00:01.001 Z to 2026-11-21 12:00:09.000 Z: what was there before is shown
    warning: gaps in this span: dump_failed (1); `sockrec query coverage` tells when
    ");
}

/// What went wrong on one host says nothing of another.
#[test]
fn gaps_of_another_host_are_not_those_of_this_one() {
    let dir = two_hosts();
    assert_snapshot!(told(&dir, "query churn --utc --host quiet"), @"
    exit 0
    stdout:
    FROM (UTC)  SNAPS  OPENED  OUT  IN  ENDED  ORDERLY  RESET  TIMEOUT  FAILED  GAPS
      12:00:00      1       0    0   0      0        0      0        0       0  none
      12:00:01      1       0    0   0      0        0      0        0       0  none
    stderr:
    ");
    assert_snapshot!(told(&dir, "query churn --utc --host noisy"), @"
    exit 3
    stdout:
    FROM (UTC)  SNAPS  OPENED  OUT  IN  ENDED  ORDERLY  RESET  TIMEOUT  FAILED  GAPS
      12:00:00      1       0    0   0      0        0      0        0       0  none
      12:00:01      1       0    0   0      0        0      0        0       0  dump_failed
      12:00:02      1       0    0   0      0        0      0        0       0  none
    stderr:
    warning: gaps in this span: dump_failed (1); `sockrec query coverage` tells when
    ");
}

/// Before anything else is said.
#[test]
fn what_is_of_one_machine_is_asked_of_one() {
    let dir = two_hosts();
    assert_snapshot!(told(&dir, "query listeners --at 2026-11-21T12:00:09Z"), @"
    exit 2
    error: this is asked of one machine, and the recording is of noisy, quiet

    hint: choose one: `--host noisy`
    ");
    assert_snapshot!(told(&dir, "query leaks --host loud"), @"
    exit 2
    error: nothing was recorded on a host named `loud`

    hint: recorded were: noisy, quiet
    ");
    assert_snapshot!(told(&dir, "query at now --host loud"), @"
    exit 2
    error: nothing was recorded on a host named `loud`

    hint: recorded were: noisy, quiet
    ");
}
