//! `--anonymize`: nothing that was recorded of who it was is in what comes out, and the rest is.

use std::fs;

use insta::assert_snapshot;
use rusqlite::Connection;

use crate::harness::{Dir, MadeUp, assert_recording_is_whole, observation};

/// What must not come out, in whatever form.
const SECRETS: [&str; 17] = [
    "198.51.100",
    "secretcomm",
    "secretexe",
    "secretargs",
    "secretuser",
    "secretcgroup",
    "secretunit",
    "secretcontainer",
    "secrethost",
    "secretmarker",
    "secretns",
    "secretfilter",
    "48879001",
    "48879002",
    "48879003",
    "48879004",
    "secretmessage",
];

fn recorded() -> Dir {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("rec.db"));
    for _ in 0..3 {
        made.snapshot(&[observation(1), observation(2), observation(3)]).commit();
    }
    made.end();
    let sql = "UPDATE sockets SET local_address = '198.51.100.7', inode = 48879001, cookie = 48879002,
                   uid = 48879003, remote_address = '::ffff:198.51.100.' || socket_id,
                   generation = socket_id WHERE socket_id < 3;
               UPDATE captures SET host_name = 'secrethost', options = '{\"files\":[\"secretargs\"]}';
               UPDATE namespaces SET name = 'secretns';
               UPDATE scopes SET filter = 'secretfilter';
               INSERT INTO processes (process_id, boot_id, pid, started_ticks, comm, exe, command_line,
                   uid, user, cgroup, unit, container)
               VALUES (1, 1, 48879004, 1, 'secretcomm', 'secretexe', 'secretargs', 48879003,
                   'secretuser', 'secretcgroup', 'secretunit', 'secretcontainer');
               INSERT INTO socket_owners VALUES (1, 1, 1, NULL), (2, 1, 1, 2);
               INSERT INTO markers (name, is_span, started_at_ns) VALUES ('secretmarker', 0, 1700000001000000000);
               INSERT INTO noted_exceptions (snapshot_id, kind, scope_id, message)
               VALUES (2, 'dump_interrupted', 1, 'secretmessage');
               INSERT INTO cgroups VALUES (1, 77, 'secretcgroup', 'secretunit', 'secretcontainer');";
    Connection::open(dir.path("rec.db")).unwrap().execute_batch(sql).unwrap();
    assert_recording_is_whole(&dir.path("rec.db"));
    fs::write(dir.path("key"), "a key of this test\n").unwrap();
    fs::write(dir.path("other"), "another key of this test").unwrap();
    dir
}

#[track_caller]
fn assert_tells_nothing(bytes: &[u8]) {
    for secret in SECRETS {
        let is_told = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_told, "{secret} in {}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn an_export_tells_no_name_and_all_the_rest() {
    let dir = recorded();
    for what in [
        "connections",
        "samples",
        "samples --dense 1s --rates",
        "sockets",
        "owners",
        "processes",
        "snapshots",
        "markers",
    ] {
        for format in ["csv", "json", "jsonl"] {
            let line = format!("export {what} -f rec.db --format {format}");
            let plain = dir.sockrec(&line).fine().stdout();
            let told = SECRETS.iter().any(|secret| plain.contains(secret));
            assert!(told, "{what} tells nothing anyway");
            let hidden = dir.sockrec(&format!("{line} --anonymize-key key")).fine().stdout();
            assert_tells_nothing(hidden.as_bytes());
            assert_eq!(hidden.lines().count(), plain.lines().count());
            assert_eq!(dir.sockrec(&format!("{line} --anonymize-key key")).stdout(), hidden);
            assert_ne!(dir.sockrec(&format!("{line} --anonymize-key other")).stdout(), hidden);
        }
    }
    let columns = "socket_id,local_port,remote_port,state,rtt_us,samples,first_seen_at";
    let line = format!("export connections -f rec.db --columns {columns}");
    let plain = dir.sockrec(&line).fine().stdout();
    assert_eq!(dir.sockrec(&format!("{line} --anonymize-key key")).fine().stdout(), plain);
}

#[test]
fn names_of_one_key_fit_together_in_exports_and_extracts() {
    let dir = recorded();
    dir.sockrec("extract -f rec.db --anonymize-key key -o part.db").fine();
    let path = dir.path("part.db");
    assert_recording_is_whole(&path);
    assert_tells_nothing(&fs::read(&path).unwrap());
    for line in [
        "export connections --columns socket_id,cookie,inode,uid,host_name,local_address,remote_address,comm,pid,owners,user,unit,container",
        "export sockets --columns socket_id,netns,netns_cookie,boot,cgroup_id,mark",
        "export processes --columns boot,host_name,pid,comm,process_uid,user,unit,container",
        "export markers --columns marker",
        "export samples --columns snapshot_id,socket_id,cookie,remote_address,state,rtt_us",
    ] {
        let of_extract = dir.sockrec(&format!("{line} -f part.db")).fine().stdout();
        let of_export =
            dir.sockrec(&format!("{line} -f rec.db --anonymize-key key")).fine().stdout();
        assert_eq!(of_extract, of_export, "{line}");
    }
    // Ends of one network are of one network, and the same end is the same.
    let sql = "SELECT count(DISTINCT local_address), count(DISTINCT remote_address),
                   min(remote_address LIKE '::ffff:' || rtrim(local_address, '0123456789') || '%')
               FROM sockets WHERE socket_id < 3";
    let found = dir.command_of(["query", "sql", sql, "-f", "part.db", "--format", "csv"]);
    assert_eq!(crate::harness::run(found).fine().stdout().lines().nth(1), Some("1,2,1"));
}

#[test]
fn a_key_that_can_be_guessed_or_an_order_that_tells_is_refused() {
    let dir = recorded();
    fs::write(dir.path("short"), "fifteen bytes..\n").unwrap();
    let told = [
        "export sockets -f rec.db --anonymize-key short",
        "extract -f rec.db -o part.db --anonymize-key none",
        "export sockets -f rec.db --anonymize --sort remote_address",
    ]
    .map(|line| dir.sockrec(line).told());
    assert!(!dir.path("part.db").exists());
    assert_snapshot!(told.join("\n"), @"
    exit 2
    error: the key `short` has 15 bytes, and 16 is the least

    hint: make one with `head -c 32 /dev/urandom > short`

    exit 1
    error: could not read the key `none`
      caused by: No such file or directory (os error 2)

    exit 2
    error: sorted by `remote_address` the rows would tell of what is hidden

    hint: sort what was written, by the names that stand there
    ");
    let ran = dir.sockrec("export sockets -f rec.db --anonymize").fine();
    assert_tells_nothing(&ran.stdout);
    assert_snapshot!(ran.stderr, @"
    note: the names are of a random key that is not kept: no other file will have the same; `--anonymize-key FILE` gives the same names again
    note: only `secretfilter` was recorded: of other sockets nothing is known
    ");
    assert_ne!(dir.sockrec("export sockets -f rec.db --anonymize").stdout(), ran.stdout());
}
