//! The file of a recording: how it is made, what a transaction leaves, what a crash leaves.

mod harness;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use sockrec::model::{Observation, TcpInfo, TcpState};
use sockrec::store::{APPLICATION_ID, INVARIANTS, Reader, SCHEMA_VERSION, StoreError, Writer};

use harness::{
    Churn, Dir, MadeUp, ask, assert_is_one_file, assert_recording_is_whole, observation, read_only,
    violations,
};

fn pragma(path: &Path, name: &str) -> i64 {
    ask(path, &format!("PRAGMA {name}")).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// An observation with a congestion window (in `conditions`) and a path MTU (in `settings`).
fn shared(port: u16, snd_cwnd: u32, pmtu_bytes: u32) -> Observation<'static> {
    let tcp =
        TcpInfo { snd_cwnd: Some(snd_cwnd), pmtu_bytes: Some(pmtu_bytes), ..observation(port).tcp };
    Observation { tcp, ..observation(port) }
}

#[test]
fn a_new_recording_is_private_marked_and_open_to_readers() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let made = MadeUp::begin(&path);
    for file in [&path, &dir.path("rec.db-wal"), &dir.path("rec.db-shm")] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(pragma(&path, "application_id"), i64::from(APPLICATION_ID));
    assert_eq!(pragma(&path, "application_id").to_be_bytes()[4..], *b"sock");
    assert_eq!(pragma(&path, "user_version"), SCHEMA_VERSION);
    assert_eq!(pragma(&path, "auto_vacuum"), 2);
    assert_eq!(pragma(&path, "page_size"), 4_096);
    let journal: String = read_only(&path)
        .unwrap()
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(journal, "wal");
    made.end();
    assert_is_one_file(&path);
    assert_eq!(mode(&path), 0o600);
    assert_recording_is_whole(&path);
}

#[test]
fn a_file_that_was_made_beforehand_is_filled_and_made_private() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    MadeUp::begin(&path).end();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(pragma(&path, "auto_vacuum"), 2);
    assert_recording_is_whole(&path);
}

/// Killed while it made the file, a recorder leaves a part of it and the journal that takes it back.
#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    MadeUp::begin(&path).end();
    let whole = fs::read(&path).unwrap();
    let cut_short = |path: &Path| {
        fs::write(path, &whole[..3 * 4_096]).unwrap();
        // The header of a rollback journal (sqlite.org/fileformat2, section 3) of a file that had
        // no page before.
        let mut journal = vec![0; 512];
        journal[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
        journal[20..24].copy_from_slice(&512_u32.to_be_bytes());
        journal[24..28].copy_from_slice(&4_096_u32.to_be_bytes());
        let mut name = path.as_os_str().to_owned();
        name.push("-journal");
        fs::write(name, journal).unwrap();
    };
    let read = dir.path("read.db");
    cut_short(&read);
    let error = Reader::open(&read).err().unwrap();
    assert!(matches!(error, StoreError::NotARecording { why: "it is empty", .. }), "{error:?}");

    cut_short(&path);
    let mut made = MadeUp::begin(&path);
    made.snapshot(&[observation(1)]).commit();
    made.end();
    assert_eq!(pragma(&path, "auto_vacuum"), 2);
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

/// Killed while it wrote without a write-ahead log (when it takes over a file, when it lets go of
/// one), a recorder leaves a journal with the pages as they were.
#[test]
fn a_change_that_was_cut_short_is_taken_back_by_the_next_reader() {
    let dir = Dir::new();
    let made = dir.path("made.db");
    let mut writer = MadeUp::begin(&made);
    writer.snapshot(&[observation(1)]).commit();
    writer.end();
    let dump = |path: &Path| {
        let reader = Reader::open(path).unwrap();
        reader.integer("SELECT sum(started_at_ns) + count(*) FROM snapshots", &[]).unwrap()
    };
    let before = dump(&made);

    let connection = Connection::open(&made).unwrap();
    connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    connection.execute_batch("UPDATE snapshots SET started_at_ns = 0").unwrap();
    let filler = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
         INSERT INTO boots (uuid) SELECT printf('%0500d', i) FROM n";
    connection.execute_batch(filler).unwrap();
    // The copies are what a crash at this moment would leave.
    let path = dir.path("rec.db");
    fs::copy(&made, &path).unwrap();
    fs::copy(dir.path("made.db-journal"), dir.path("rec.db-journal")).unwrap();
    drop(connection);

    assert_eq!(dump(&path), before);
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

#[test]
fn a_snapshot_that_is_not_committed_leaves_nothing() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.snapshot(&[shared(1, 10, 1_500)]).commit();
    let tables = ["snapshots", "sockets", "samples", "conditions", "settings", "groups"];
    let counts =
        || tables.map(|table| ask(&path, &format!("SELECT count(*) FROM {table}")).unwrap());
    let before = counts();

    let unfinished = made.snapshot(&[shared(1, 20, 9_000), shared(2, 30, 1_500)]);
    assert_eq!(counts(), before, "a reader sees what is not committed");
    drop(unfinished);
    assert_eq!(counts(), before);

    // What the lost snapshot had stored to be shared has to be stored again.
    made.snapshot(&[shared(1, 20, 9_000), shared(2, 30, 1_500)]).commit();
    made.end();
    assert_recording_is_whole(&path);
    let values = "SELECT group_concat(snd_cwnd || '/' || pmtu_bytes, ' ') FROM
         (SELECT * FROM socket_samples ORDER BY snapshot_id, socket_id)";
    let read: String = read_only(&path).unwrap().query_row(values, [], |row| row.get(0)).unwrap();
    assert_eq!(read, "10/1500 20/9000 30/1500");
}

#[test]
fn a_keyframe_that_is_not_committed_leaves_no_group() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    drop(made.snapshot(&[shared(1, 10, 1_500)]));
    made.snapshot(&[shared(1, 10, 1_500)]).commit();
    made.end();
    assert_eq!(ask(&path, "SELECT count(*) FROM groups").unwrap(), 1);
    assert_recording_is_whole(&path);
}

#[test]
fn equal_values_are_stored_once_a_group() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    for _ in 0..2 {
        let mut made = MadeUp::begin(&path);
        made.snapshot(&[shared(1, 10, 1_500), shared(2, 10, 1_500)]).commit();
        made.snapshot(&[shared(1, 11, 1_500), shared(2, 10, 1_500)]).commit();
        made.end();
    }
    let groups = |table: &str| {
        let sql = format!(
            "SELECT group_concat(n, ' ') FROM (SELECT count(*) AS n FROM {table} GROUP BY group_id)"
        );
        read_only(&path).unwrap().query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(groups("conditions"), "2 2");
    assert_eq!(groups("settings"), "1 1");
    assert_recording_is_whole(&path);
}

#[test]
fn of_a_socket_that_a_snapshot_shows_twice_the_later_row_counts() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let first = made.start.next_snapshot;
    let mut unfinished = made.snapshot(&[shared(1, 10, 1_500)]);
    let row = |state, cwnd| sockrec::model::SampleRow {
        snapshot: first,
        socket: sockrec::model::SocketId(1),
        previous: None,
        observation: Observation { state, ..shared(1, cwnd, 1_500) },
        times: sockrec::model::ActivityTimes::default(),
    };
    unfinished.tick.samples([row(TcpState::CLOSE_WAIT, 20)]).unwrap();
    unfinished.commit();
    made.end();
    let found = ask(&path, "SELECT snd_cwnd * 1000 + count(*) FROM socket_samples").unwrap();
    assert_eq!(found, 20_001);
    assert_recording_is_whole(&path);
}

/// More rows than one statement takes, and some that are left over.
#[test]
fn of_many_sockets_each_has_the_row_that_came_last() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let with_rtt = |port: u16, rtt_us| {
        let tcp = TcpInfo { rtt_us: Some(rtt_us), ..observation(port).tcp };
        Observation { tcp, ..observation(port) }
    };
    let sockets = 1..=300_u16;
    let once: Vec<_> = sockets.clone().map(|port| with_rtt(port, 7)).collect();
    let first = made.start.next_snapshot;
    let mut unfinished = made.snapshot(&once);
    // Each again, and of some once more at once.
    let again = sockets.flat_map(|port| {
        let rtt_us = 1_000 + u32::from(port);
        let twice = (port % 3 == 0).then_some((port, 8));
        twice.into_iter().chain([(port, rtt_us)])
    });
    let row = |(port, rtt_us)| sockrec::model::SampleRow {
        snapshot: first,
        socket: sockrec::model::SocketId(i64::from(port)),
        previous: None,
        observation: with_rtt(port, rtt_us),
        times: sockrec::model::ActivityTimes::default(),
    };
    unfinished.tick.samples(again.map(row)).unwrap();
    unfinished.commit();
    made.end();
    let rows = "SELECT count(*) FROM samples WHERE rtt_us = 1000 + socket_id";
    assert_eq!(ask(&path, rows).unwrap(), 300);
    assert_eq!(ask(&path, "SELECT count(*) FROM samples").unwrap(), 300);
    assert_recording_is_whole(&path);
}

#[test]
fn a_group_tells_the_worst_of_each_socket_and_nothing_of_what_is_unknown() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 3;
    let known = |rtt_us, rwnd_limited_us, snd_wnd_bytes| {
        let tcp = TcpInfo {
            rtt_us,
            rwnd_limited_us,
            snd_wnd_bytes: Some(snd_wnd_bytes),
            ..TcpInfo::default()
        };
        Observation { tcp, ..observation(1) }
    };
    let unknown = || Observation { tcp: TcpInfo::default(), ..observation(2) };
    for seen in [known(Some(30), Some(5), 1), known(None, None, 0), known(Some(20), Some(9), 0)] {
        made.snapshot(&[seen, unknown()]).commit();
    }
    // The next group begins anew.
    made.snapshot(&[known(Some(1), Some(1), 1), unknown()]).commit();
    made.end();
    let told = harness::run(dir.command_of([
        "query",
        "sql",
        "SELECT group_id, socket_id, first_snapshot_id AS first, last_snapshot_id AS last, samples,
             min_rtt_us, max_rtt_us, rwnd_limited_us, zero_window_samples, total_retrans
         FROM group_sockets ORDER BY group_id, socket_id",
        "-f",
        "rec.db",
        "--format",
        "csv",
    ]));
    let expected = "group_id,socket_id,first,last,samples,min_rtt_us,max_rtt_us,rwnd_limited_us,\
                    zero_window_samples,total_retrans\n\
                    1,1,1,3,3,20,30,9,2,\n\
                    1,2,1,3,3,,,,,\n\
                    2,1,4,4,1,1,1,1,0,\n\
                    2,2,4,4,1,,,,,\n";
    assert_eq!(told.fine().stdout(), expected);
    assert_recording_is_whole(&path);
}

#[test]
fn numbers_of_64_bits_keep_them_all() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let tcp = TcpInfo { bytes_acked: Some(u64::MAX), rtt_us: Some(u32::MAX), ..TcpInfo::default() };
    let extreme =
        Observation { cookie: u64::MAX, cgroup_id: Some(1 << 63), tcp, ..observation(u16::MAX) };
    made.snapshot(&[extreme]).commit();
    made.end();
    let shown = dir.sockrec(
        "query samples -f rec.db --format csv --columns cookie,cgroup_id,rtt_us,local_port",
    );
    let expected = "cookie,cgroup_id,rtt_us,local_port\n\
                    18446744073709551615,9223372036854775808,4294967295,65535\n";
    assert_eq!(shown.fine().stdout(), expected);
}

#[test]
fn a_capture_that_nobody_ended_is_ended_as_lost_with_its_last_snapshot() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.snapshot(&[observation(1)]).commit();
    made.snapshot(&[shared(1, 10, 1_500)]).commit();
    drop(made.snapshot(&[shared(1, 20, 1_500)]));
    drop(made); // as a crash would: no end
    assert_eq!(ask(&path, "SELECT count(*) FROM captures WHERE end_reason IS NULL").unwrap(), 1);
    drop(MadeUp::begin(&path)); // without any snapshot
    MadeUp::begin(&path).end();
    assert_recording_is_whole(&path);
    let ends = "SELECT group_concat(end_reason || ' ' ||
             ((ended_at_ns - started_at_ns) / 1000000000) || ' ' ||
             coalesce(ended_boottime_ns / 1000000000, '-'), ', ') FROM captures";
    let ends: String = read_only(&path).unwrap().query_row(ends, [], |row| row.get(0)).unwrap();
    assert_eq!(ends, "lost 2 2, lost 0 -, count 3600 3600");
    assert_eq!(ask(&path, "SELECT sum(samples) FROM group_sockets").unwrap(), 2);
}

#[test]
fn two_writers_do_not_come_together() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let made = MadeUp::begin(&path);
    fs::hard_link(&path, dir.path("link.db")).unwrap();
    std::os::unix::fs::symlink("rec.db", dir.path("symlink.db")).unwrap();
    for name in ["rec.db", "link.db", "symlink.db"] {
        let error = Writer::open(&dir.path(name)).err().unwrap();
        assert!(matches!(error, StoreError::AlreadyRecording { .. }), "{name}: {error:?}");
    }
    assert!(sockrec::store::is_being_recorded(&path));
    made.end();
    assert!(!sockrec::store::is_being_recorded(&path));
    MadeUp::begin(&path).end();
    assert_recording_is_whole(&path);
}

#[test]
fn a_reader_cannot_write() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    MadeUp::begin(&path).end();
    let before = dir.contents();
    let reader = Reader::open(&path).unwrap();
    for sql in [
        "DELETE FROM captures",
        "DROP TABLE samples",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = WAL",
        "ATTACH 'other.db' AS other",
    ] {
        let _ = reader.integer(sql, &[]);
    }
    drop(reader);
    assert_eq!(dir.contents(), before);
}

/// SQLite takes some names for something else than a file of that name.
#[test]
fn a_recording_stands_under_the_very_name_that_was_given() {
    let names: [&[u8]; 10] = [
        b":memory:",
        b"file:x.db",
        b"file::memory:?cache=shared",
        b"what?mode=memory&x=%41#.db",
        b"%2e%2e%2fx.db",
        b" blanks\tand\nlines ",
        b"-f",
        b"'quoted\"`",
        "\u{e9}t\u{e9} \u{202e}\u{1f9e6}".as_bytes(),
        b"not \xff\xfe utf-8",
    ];
    for name in names.map(OsStr::from_bytes) {
        let dir = Dir::new();
        let mut output = OsString::from("--output=");
        output.push(name);
        let args = [OsStr::new("record"), OsStr::new("-qc1"), &output];
        let ran = harness::run(dir.command_of(args));
        assert_eq!(ran.told(), "exit 0\n", "{}", name.display());
        assert_eq!(dir.names(), [name.to_string_lossy()]);
        assert_eq!(mode(&dir.path(name)), 0o600);
        let mut file = OsString::from("--file=");
        file.push(name);
        let args =
            [OsStr::new("query"), OsStr::new("snapshots"), &file, OsStr::new("--format=csv")];
        let shown = harness::run(dir.command_of(args)).fine();
        assert_eq!(shown.stdout().lines().count(), 2, "{}", name.display());
        assert_eq!(dir.names(), [name.to_string_lossy()]);
    }
}

/// The rules by which recordings are judged find what they are for.
#[test]
fn every_rule_finds_what_breaks_it() {
    const BROKEN: &[(&str, &str)] = &[
        ("references", "DELETE FROM snapshots WHERE snapshot_id = 3"),
        ("snapshot-numbers", "DELETE FROM snapshots WHERE snapshot_id = 3"),
        ("snapshot-numbers", "UPDATE snapshots SET group_id = 9 WHERE snapshot_id = 1"),
        ("group-keyframes", "UPDATE snapshots SET is_keyframe = NOT is_keyframe"),
        ("group-keyframes", "UPDATE groups SET first_snapshot_id = first_snapshot_id + 1"),
        ("group-ends", "UPDATE groups SET last_snapshot_id = first_snapshot_id"),
        (
            "open-captures",
            "UPDATE captures SET ended_at_ns = NULL, end_reason = NULL WHERE capture_id = 1",
        ),
        ("open-captures", "UPDATE groups SET last_snapshot_id = NULL"),
        ("dropped-spans", "UPDATE snapshots SET group_id = NULL WHERE snapshot_id = 2"),
        ("steady-clocks", "UPDATE snapshots SET started_boottime_ns = 0 WHERE snapshot_id = 3"),
        ("sample-chains", "UPDATE samples SET previous_snapshot_id = NULL"),
        ("sample-chains", "DELETE FROM samples WHERE snapshot_id = 2"),
        ("first-samples", "UPDATE sockets SET first_snapshot_id = first_snapshot_id + 1"),
        ("shared-values", "DELETE FROM conditions WHERE condition_id = 1"),
        ("shared-values", "UPDATE settings SET group_id = group_id + 100"),
        ("group-summaries", "UPDATE group_sockets SET samples = samples + 1"),
        ("group-summaries", "DELETE FROM group_sockets WHERE socket_id = 1"),
        ("thinned", "UPDATE snapshots SET is_thinned = 1"),
        ("thinned", "UPDATE snapshots SET is_thinned = 2 WHERE snapshot_id = 2"),
        ("socket-ends", "UPDATE socket_ends SET samples = samples + 1"),
        ("socket-ends", "UPDATE socket_ends SET state = 99"),
        ("socket-ends", "UPDATE socket_ends SET last_snapshot_id = 0"),
        ("state-changes", "DELETE FROM state_changes"),
        ("state-changes", "UPDATE state_changes SET from_state = 99"),
        (
            "held-samples",
            "INSERT OR IGNORE INTO held_samples SELECT snapshot_id, socket_id, snapshot_id FROM samples",
        ),
        ("keyframes", "UPDATE snapshots SET is_keyframe = 1"),
        ("sockets-seen", "UPDATE snapshots SET sockets_seen = sockets_seen + 1"),
        ("sockets-seen", "DELETE FROM missing_sockets"),
        ("remains", "UPDATE remains SET first_snapshot_id = 0"),
        ("remains", "UPDATE remains SET samples = 0"),
        ("peers", "UPDATE sockets SET peer_socket_id = 1"),
        ("only-events", "UPDATE sockets SET first_snapshot_id = NULL"),
        ("scopes", "UPDATE capture_scopes SET first_snapshot_id = first_snapshot_id + 1"),
        ("scopes", "UPDATE capture_scopes SET last_snapshot_id = 1"),
        ("counts", "UPDATE snapshots SET samples = samples + 1"),
        ("counts", "UPDATE captures SET missed_ticks = -1"),
        ("end-evidence", "UPDATE socket_ends SET evidence = ''"),
        ("end-evidence", "UPDATE socket_ends SET closed_before_snapshot_id = NULL"),
        ("owners", "UPDATE socket_owners SET last_snapshot_id = first_snapshot_id - 1"),
        ("processes", "UPDATE processes SET boot_id = boot_id + 1"),
        ("sqlite", "UPDATE sqlite_schema SET rootpage = rootpage + 1 WHERE name = 'markers'"),
        ("schema", "CREATE TABLE other (a)"),
    ];
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let churn = Churn::start();
    let mut recorder = dir.start("record -q -i 20ms --no-events -o rec.db");
    recorder.until_snapshots(&path, 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // In TIME-WAIT after this.
    drop(client);
    drop(listener.accept().unwrap());
    recorder.until("sockets have come, changed and gone", || {
        let sql = "SELECT (SELECT count(*) FROM socket_ends) > 9 AND
             (SELECT count(*) FROM state_changes) > 9 AND
             (SELECT count(*) FROM remains) > 0 AND
             (SELECT count(*) FROM socket_owners) > 0";
        (ask(&path, sql).ok()? == 1).then_some(())
    });
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
    dir.record("rec.db");
    drop(churn);
    assert_recording_is_whole(&path);
    let whole = fs::read(&path).unwrap();
    for (rule, sql) in BROKEN {
        fs::write(&path, &whole).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA writable_schema = ON").unwrap();
        let changed = connection.execute(sql, []).unwrap();
        drop(connection);
        let found = violations(&path);
        assert!(changed > 0 || sql.starts_with("CREATE"), "{sql} changes nothing");
        let is_named = found.iter().any(|text| text.starts_with(&format!("{rule}: not so")));
        assert!(is_named, "{sql}: {found:#?}");
    }
    for invariant in INVARIANTS {
        let is_tried = BROKEN.iter().any(|(rule, _)| *rule == invariant.name);
        assert!(is_tried, "nothing breaks `{}`", invariant.name);
    }
}
