//! Recordings that keep within a limit, and those that are pruned.

use std::fs::{self, File};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use sockrec::model::{
    Cgroup, Observation, OwnerChange, Ownership, Process, ProcessFacts, ProcessId, ProcessKey,
    TcpInfo,
};
use sockrec::store::{Alive, Capacity, LOG_BYTES};

use crate::harness::{
    Churn, Dir, MadeUp, Random, Running, ask, assert_is_one_file, assert_recording_is_whole,
    observation, read_only,
};

/// Forty sockets whose counters change all the time.
fn busy(round: u64) -> Vec<Observation<'static>> {
    (0..40)
        .map(|n| {
            let tcp = TcpInfo { bytes_sent: Some(round * 1_000 + n), ..observation(1).tcp };
            Observation { tcp, ..observation(u16::try_from(1_000 + n).unwrap()) }
        })
        .collect()
}

#[test]
fn a_recording_with_its_log_stays_within_its_limit() {
    const MAX: u64 = LOG_BYTES + 2 * 1024 * 1024;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 50;
    made.writer.set_capacity(Capacity { max_bytes: Some(MAX), ..Capacity::NONE });
    let mut largest = 0;
    for round in 0..4_000 {
        made.snapshot(&busy(round)).commit();
        let (now, start) = (made.now(), made.start);
        assert!(made.writer.keep_within_limits(&start, now, 40, || true).unwrap());
        largest = largest.max(made.writer.on_disk().bytes);
    }
    assert!(largest <= MAX, "{largest} of {MAX} bytes");
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!((200..2_000).contains(&held), "{held} snapshots are held");
    // Of dropped snapshots only those are left that something rests on.
    let left = ask(&path, "SELECT count(*) FROM snapshots").unwrap() - held;
    assert!(left < held, "{left} beside {held}");
    made.end();
    assert_recording_is_whole(&path);
}

#[test]
fn a_reader_that_keeps_the_log_does_not_make_it_drop_everything() {
    const MAX: u64 = LOG_BYTES + 1024 * 1024;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 20;
    made.writer.set_capacity(Capacity { max_bytes: Some(MAX), ..Capacity::NONE });
    let record = |made: &mut MadeUp, rounds: std::ops::Range<u64>| {
        for round in rounds {
            made.snapshot(&busy(round)).commit();
            let (now, start) = (made.now(), made.start);
            assert!(made.writer.keep_within_limits(&start, now, 40, || true).unwrap());
        }
    };
    record(&mut made, 0..500);
    let reader = read_only(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM samples").unwrap();
    record(&mut made, 500..2_500);
    assert!(
        made.writer.on_disk().bytes > MAX,
        "the log is not kept: {}",
        made.writer.on_disk().bytes
    );
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!(held > 100, "{held} snapshots are held");
    drop(reader);
    record(&mut made, 2_500..2_600);
    assert!(made.writer.on_disk().bytes <= MAX, "{}", made.writer.on_disk().bytes);
    made.end();
    assert_recording_is_whole(&path);
}

#[test]
fn the_real_recorder_keeps_to_an_age_and_survives_kills_while_it_drops() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut random = Random::new(5);
    let _churn = Churn::start();
    for _ in 0..6 {
        let recorder = dir.start("record -q -i 2ms --max-age 1s -o rec.db");
        thread::sleep(Duration::from_micros(2_000_000 + random.below(400_000)));
        recorder.kill();
        assert_recording_is_whole(&path);
    }
    // What is left is for `prune`, however long it took to look at it.
    dir.sockrec("record -q -i 5ms -c 20 --max-age 1h -o rec.db").recorded();
    assert_recording_is_whole(&path);
    let dropped = ask(&path, "SELECT sum(snapshots) FROM dropped_spans").unwrap();
    let held = ask(&path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!(dropped > held, "{dropped} dropped, {held} held");
    let coverage = dir.sockrec("query coverage -f rec.db").fine();
    assert!(coverage.stdout().contains("dropped"), "{}", coverage.stdout());

    let within = "SELECT min(ended_at_ns) FROM dropped_spans";
    let within = ask(&path, within).unwrap();
    let (s, ns) = (within / 1_000_000_000, within % 1_000_000_000);
    let gone = dir.sockrec(&format!("query at @{s}.{ns:09} -f rec.db"));
    assert!(gone.stderr.contains("was dropped to keep within a limit"), "{}", gone.stderr);

    let sockets = ask(&path, "SELECT count(*) FROM sockets").unwrap();
    let told = dir.sockrec("prune -f rec.db --max-age 1ms --dry-run");
    assert!(told.stderr.contains("would go"), "{}", told.stderr);
    assert_eq!(ask(&path, "SELECT count(*) FROM held_snapshots").unwrap(), held);
    let pruned = dir.sockrec("prune -f rec.db --max-age 1ms");
    assert!(pruned.stderr.contains("dropped"), "{}", pruned.stderr);
    assert_recording_is_whole(&path);
    assert!(ask(&path, "SELECT count(*) FROM sockets").unwrap() < sockets);
    assert_eq!(ask(&path, "SELECT count(*) FROM groups").unwrap(), 1);

    // What is left can be taken from and put together with others.
    dir.sockrec("extract -f rec.db -o part.db").fine();
    assert_recording_is_whole(&dir.path("part.db"));
    dir.sockrec("salvage rec.db -o saved.db");
    assert_recording_is_whole(&dir.path("saved.db"));
    let held = "SELECT count(*) FROM held_snapshots";
    assert_eq!(ask(&dir.path("saved.db"), held).unwrap(), ask(&path, held).unwrap());
    dir.record("other.db");
    dir.sockrec("merge rec.db other.db -o both.db").fine();
    let both = dir.path("both.db");
    assert_recording_is_whole(&both);
    assert_eq!(ask(&both, "SELECT count(*) FROM snapshots WHERE group_id IS NULL").unwrap(), 0);
    assert_is_one_file(&both);
}

/// SQLite cannot take a snapshot away from its reader: the limit is exceeded, and that is said.
#[test]
fn a_reader_because_of_which_the_limit_is_exceeded_is_told_of() {
    let dir = Dir::new();
    let path = dir.record("rec.db");
    // Room that nothing uses is what goes first, and what a reader keeps all the same.
    let connection = Connection::open(&path).unwrap();
    let filler = "CREATE TABLE filler (bytes BLOB);
        WITH n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n WHERE n < 80)
            INSERT INTO filler SELECT zeroblob(1000000) FROM n;
        DROP TABLE filler";
    connection.execute_batch(filler).unwrap();
    drop(connection);
    fs::write(dir.path("limits"), "max-size = none\n").unwrap();
    let mut command = dir.command("record -q -i 10ms -o rec.db --limits limits");
    command.stderr(File::create(dir.path("told")).unwrap());
    let mut recorder = Running::spawn(command);
    recorder.until_snapshots(&path, 5);
    let reader = read_only(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM snapshots").unwrap();
    fs::write(dir.path("limits"), "max-size = 32M\n").unwrap();
    recorder.signal(Signal::HUP);
    let told = || fs::read_to_string(dir.path("told")).unwrap();
    let mut until_told = |what: &str| recorder.until(what, || told().contains(what).then_some(()));
    until_told(
        "more than its limit: its last group of snapshots alone is as large, or a reader keeps",
    );
    let largest = fs::metadata(&path).unwrap().len();
    assert!(largest > 64 << 20, "{largest} bytes");
    drop(reader);
    until_told("the recording is within its limit again: ");
    recorder.signal(Signal::TERM);
    assert!(matches!(recorder.finish().code(), Some(0 | 3)), "{}", told());
    assert_eq!(told().matches("more than its limit").count(), 1, "{}", told());
    let left = fs::metadata(&path).unwrap().len();
    assert!(left <= 32 << 20, "{left} bytes");
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
}

#[test]
fn a_recording_is_pruned_while_it_is_recorded() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let _churn = Churn::start();
    let mut recorder = dir.start("record -q -i 2ms --max-size none -o rec.db");
    for _ in 0..4 {
        let after = ask(&path, "SELECT coalesce(max(snapshot_id), 0) FROM snapshots").unwrap_or(0);
        let sql = "SELECT coalesce(max(snapshot_id), 0) FROM snapshots";
        recorder.until("snapshots", || (ask(&path, sql).ok()? > after + 300).then_some(()));
        let pruned = dir.sockrec("prune -f rec.db --max-age 100ms");
        // The last group may be older than that, or one whose keyframe leans on it.
        assert!(matches!(pruned.code(), Some(0 | 3)), "{}", pruned.told());
        assert_recording_is_whole(&path);
    }
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
    assert_recording_is_whole(&path);
    assert_is_one_file(&path);
}

fn process(id: ProcessId, pid: u32) -> OwnerChange {
    let key = ProcessKey { pid, started_ticks: 1 };
    OwnerChange::Process(Box::new(Process { id, key, facts: ProcessFacts::default() }))
}

/// One process and one cgroup are there.
struct One;

impl Alive for One {
    fn process(&mut self, key: ProcessKey) -> bool {
        key.pid == 10
    }

    fn cgroup(&mut self, id: u64, path: &str) -> bool {
        id == 1 && path == "/1"
    }
}

#[test]
fn processes_and_cgroups_that_nothing_points_at_go_once_they_are_over() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 5;
    let first = made.start.next_process;
    let (start, running, over, holding) = (made.start, first, first.next(), first.next().next());
    made.writer.set_capacity(Capacity { max_age_ns: Some(1_000_000_000), ..Capacity::NONE });
    made.writer.ask_alive(Box::new(One));
    made.snapshot(&[observation(1)]).commit();
    let cgroup = |id: u64| {
        OwnerChange::Cgroup(id, Cgroup { path: format!("/{id}"), unit: None, container: None })
    };
    let ownership =
        Ownership { socket: start.next_socket, process: holding, since: start.next_snapshot };
    let changes = [
        process(running, 10),
        process(over, 11),
        process(holding, 12),
        OwnerChange::Held(ownership),
        cgroup(1),
        cgroup(2),
    ];
    made.writer.owner_changes(&start, &changes).unwrap();
    // Three minutes are recent.
    for _ in 0..400 {
        made.snapshot(&[observation(1)]).commit();
        let now = made.now();
        made.writer.keep_within_limits(&start, now, 1, || false).unwrap();
    }
    // What is on its way when its process is dropped stays unknown.
    let late = Ownership { process: over, ..ownership };
    made.writer.owner_changes(&start, &[OwnerChange::Held(late)]).unwrap();
    made.end();
    assert_recording_is_whole(&path);
    let pids = "SELECT group_concat(pid, ' ') FROM (SELECT pid FROM processes ORDER BY pid)";
    let text = |sql| read_only(&path).unwrap().query_row(sql, [], |r| r.get::<_, String>(0));
    assert_eq!(text(pids).unwrap(), "10 12");
    assert_eq!(text("SELECT group_concat(path) FROM cgroups").unwrap(), "/1");
    assert_eq!(ask(&path, "SELECT count(*) FROM socket_owners").unwrap(), 1);
}
