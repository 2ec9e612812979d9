//! Recordings that were made to deceive: with another schema, with values that cannot be, with damage
//! anywhere. They are refused or read safely, whatever they are asked.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use rusqlite::Connection;

use crate::harness::{Churn, Dir, MadeUp, Random, assert_recording_is_whole, observation};

/// Everything that opens a recording, with its name in place of `REC`.
const READERS: &[&str] = &[
    "query connections -f REC --columns all",
    "query connections -f REC --format csv",
    "query connection 1 -f REC",
    "query connection 2 -f REC --format json",
    "query at now -f REC -i -p",
    "query at 03:12 -f REC --format json",
    "query samples -f REC --columns all",
    "query samples -f REC --socket 1 --format csv",
    "query snapshots -f REC",
    "query coverage -f REC",
    "query markers -f REC",
    "query listeners -f REC",
    "query states -f REC",
    "query states -f REC --format json",
    "query peers -f REC",
    "query ports -f REC",
    "query processes -f REC",
    "query cgroups -f REC",
    "query users -f REC",
    "query churn -f REC",
    "query slow -f REC",
    "query leaks -f REC",
    "query diff @0 now -f REC",
    "query compare -f REC --with REC",
    "query schema -f REC",
    "query sql SELECT*FROM(socket_samples) -f REC",
    "export connections -f REC --format jsonl",
    "export samples -f REC --dense 1h --rates",
    "export owners -f REC",
    "export processes -f REC",
    "info -f REC",
    "info -f REC --format json",
    "assert -f REC no-resets no-gaps backlog-never-full no-close-wait-longer-than=1s",
    "check REC",
    "check REC --format json",
    "copy -f REC -o made.db",
    "extract -f REC -o made.db",
    "extract -f REC --from @0 --to now -t -o made.db",
    "merge REC other.db -o made.db",
];

const WRITERS: &[&str] = &[
    "mark -f REC here",
    "prune -f REC --thin 50ms --after 1ms --dry-run",
    "prune -f REC --thin 50ms --after 1ms",
    "prune -f REC --max-age 1ms",
    "record -q -c 1 -o REC",
];

fn made_up(path: &Path) {
    let mut made = MadeUp::begin(path);
    for _ in 0..3 {
        made.snapshot(&[observation(1), observation(2)]).commit();
    }
    made.end();
}

/// Each command that opens a recording says the same, and none touches it.
#[track_caller]
fn refused(sql: &str) -> String {
    let dir = Dir::new();
    made_up(&dir.path("rec.db"));
    made_up(&dir.path("other.db"));
    Connection::open(dir.path("rec.db")).unwrap().execute_batch(sql).unwrap();
    let before = dir.contents();
    let mut told = Vec::new();
    for line in READERS.iter().chain(WRITERS).filter(|line| !line.starts_with("check")) {
        let ran = dir.sockrec(&line.replace("REC", "rec.db"));
        assert_eq!(dir.contents(), before, "{line}");
        assert_eq!(ran.code(), Some(1), "{line}: {}", ran.told());
        told.extend(ran.stderr.find("error: ").map(|at| ran.stderr[at..].to_owned()));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:#?}");
    let checked = dir.sockrec("check rec.db");
    assert_eq!(checked.code(), Some(1));
    assert!(checked.stdout().contains("violated   schema"), "{}", checked.told());
    told.remove(0)
}

#[test]
fn a_schema_of_someone_else_is_refused_by_everything() {
    let told = [
        "CREATE TRIGGER evil AFTER INSERT ON snapshots BEGIN DELETE FROM samples; END",
        "CREATE VIRTUAL TABLE evil USING fts5(a)",
        "CREATE TABLE evil (a, b AS (a || a))",
        "ALTER TABLE samples ADD COLUMN evil INTEGER AS (rtt_us * 2)",
        "CREATE INDEX evil ON samples (rtt_us)",
        "DROP VIEW socket_samples; CREATE VIEW socket_samples AS WITH RECURSIVE n AS (SELECT 1 AS a
             UNION ALL SELECT a + 1 FROM n) SELECT * FROM n",
        "DROP VIEW gaps; CREATE TABLE gaps (a)",
        "DROP INDEX snapshots_by_end",
    ]
    .map(refused);
    assert_snapshot!(told.join("\n"), @"
    error: `rec.db` holds the trigger `evil`, which is of no recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` holds the table `evil`, which is of no recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` holds the table `evil`, which is of no recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` has another table `samples` than a recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` holds the index `evil`, which is of no recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` has another view `socket_samples` than a recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` has another table `gaps` than a recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    error: `rec.db` lacks the index `snapshots_by_end`

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more
    ");
}

#[test]
fn statistics_for_the_planner_are_nothing_to_be_afraid_of() {
    let dir = Dir::new();
    made_up(&dir.path("rec.db"));
    Connection::open(dir.path("rec.db")).unwrap().execute_batch("ANALYZE").unwrap();
    dir.sockrec("query connections -f rec.db").fine();
    dir.sockrec("check rec.db").fine();
}

#[test]
fn a_chain_of_rows_that_bites_its_tail_has_an_end() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    let mut listener = observation(1);
    (listener.state.0, listener.tuple.remote.port) = (10, 0);
    made.snapshot(&[listener.clone(), observation(2)]).commit();
    made.snapshot(&[listener, observation(2)]).commit();
    made.end();
    let sql = "UPDATE samples SET previous_snapshot_id = 2, condition_id = NULL;
               DELETE FROM socket_ends";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    for line in ["samples --socket 1", "connection 1", "listeners", "connections", "at now"] {
        dir.sockrec(&format!("query {line} -f rec.db"));
    }
}

/// Sockets that came, changed and went, with owners and a marker.
fn recorded(dir: &Dir) -> Vec<u8> {
    let churn = Churn::start();
    let mut recorder = dir.start("record -q -i 20ms -o rec.db");
    recorder.until_snapshots(&dir.path("rec.db"), 5);
    dir.sockrec("mark -f rec.db phase --start").fine();
    recorder.until_snapshots(&dir.path("rec.db"), 15);
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
    drop(churn);
    fs::read(dir.path("rec.db")).unwrap()
}

/// No panic, no hanging (both fail in the harness), and an end that was meant.
fn ask_everything(dir: &Dir, what: &str) {
    println!("{what}");
    for line in READERS.iter().chain(&["salvage REC -o made.db"]).chain(WRITERS) {
        let _ = fs::remove_file(dir.path("made.db"));
        println!("{line}"); // the last one is that which hangs
        let ran = dir.sockrec(&line.replace("REC", "rec.db"));
        assert!(matches!(ran.code(), Some(0..=3)), "{what}: {line}: {}", ran.told());
    }
    for ending in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(dir.path(format!("rec.db{ending}")));
    }
}

/// How often the tests below try, times what the environment asks for.
fn cases(usual: u64) -> u64 {
    usual * std::env::var("HOSTILE_TIMES").map_or(1, |text| text.parse().unwrap())
}

#[test]
fn damage_anywhere_neither_panics_nor_hangs() {
    let dir = Dir::new();
    let whole = recorded(&dir);
    made_up(&dir.path("other.db"));
    for seed in 1..=cases(3) {
        let mut random = Random::new(seed * 7_919);
        let mut damaged = whole.clone();
        for _ in 0..=random.below(40) {
            let at = random.below(damaged.len() as u64) as usize;
            damaged[at] = random.below(256) as u8;
        }
        fs::write(dir.path("rec.db"), &damaged).unwrap();
        ask_everything(&dir, &format!("seed {seed}"));
    }
}

/// Loses or mixes up whole pages of a file, as a failing disk or a copy that was cut off does.
fn damage_pages(bytes: &mut Vec<u8>, random: &mut Random) -> &'static str {
    const PAGE: usize = 4_096;
    let pages = (bytes.len() / PAGE).max(1) as u64;
    let kind = random.below(5);
    if kind == 4 {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        return "cut off";
    }
    for _ in 0..=random.below(4) {
        let place = |page: u64| page as usize * PAGE..(page as usize * PAGE + PAGE);
        let page = place(random.below(pages));
        let other = place(random.below(pages));
        if page.end > bytes.len() || other.end > bytes.len() {
            continue;
        }
        match kind {
            0 => bytes[page].fill(0),
            1 => bytes[page].fill_with(|| random.below(256) as u8),
            2 => bytes.copy_within(other, page.start),
            _ => bytes[page].iter_mut().for_each(|byte| *byte = !*byte),
        }
    }
    ["zeroes", "noise", "a page twice", "flipped"][kind as usize]
}

/// The file with its log, if that is there.
fn with_log(dir: &Dir) -> [Option<Vec<u8>>; 2] {
    ["rec.db", "rec.db-wal"].map(|name| fs::read(dir.path(name)).ok())
}

#[test]
fn lost_pages_of_a_file_or_its_log_end_in_an_answer_or_an_error_and_change_nothing() {
    let dir = Dir::new();
    let whole = recorded(&dir);
    // Killed while it went on: the last snapshots are in the log alone.
    let mut recorder = dir.start("record -q -i 10ms -o rec.db");
    recorder.until_snapshots(&dir.path("rec.db"), 40);
    recorder.kill();
    let [Some(killed), Some(log)] = with_log(&dir) else { panic!("no log: {:?}", dir.names()) };
    for seed in 1..=cases(20) {
        let mut random = Random::new(seed * 15_485_863);
        let mut what = Vec::new();
        for name in dir.names() {
            fs::remove_file(dir.path(name)).unwrap();
        }
        let in_log = seed % 3 == 0;
        let mut file = if in_log { killed.clone() } else { whole.clone() };
        if in_log {
            let mut log = log.clone();
            what.push(damage_pages(&mut log, &mut random));
            fs::write(dir.path("rec.db-wal"), log).unwrap();
        }
        if !in_log || random.below(2) == 0 {
            what.push(damage_pages(&mut file, &mut random));
        }
        fs::write(dir.path("rec.db"), file).unwrap();
        let before = with_log(&dir);
        for line in [
            "check rec.db",
            "query connections -f rec.db",
            "query at now -f rec.db",
            "prune -f rec.db --thin 50ms --after 1ms --dry-run",
            "salvage rec.db -o made.db",
        ] {
            println!("seed {seed}, {what:?}, log {in_log}: {line}");
            let ran = dir.sockrec(line);
            assert!(matches!(ran.code(), Some(0..=3)), "{line}: {}", ran.told());
            let after = with_log(&dir);
            assert!(after == before, "{line} changed the file; {}", ran.told());
        }
        if dir.path("made.db").exists() {
            assert_recording_is_whole(&dir.path("made.db"));
        }
    }
}

/// What `STRICT` and `NOT NULL` forbid only holds for who writes through them.
#[test]
fn impossible_values_neither_panic_nor_hang() {
    const VALUES: [&str; 12] = [
        "-9223372036854775808",
        "9223372036854775807",
        "-1",
        "0",
        "1",
        "4294967296",
        "NULL",
        "1e308",
        "'x'",
        "char(27) || '[31m' || char(10) || char(0)",
        "x'ff00'",
        "zeroblob(9000)",
    ];
    let dir = Dir::new();
    let whole = recorded(&dir);
    made_up(&dir.path("other.db"));
    let path = dir.path("rec.db");
    for seed in 1..=cases(3) {
        fs::write(&path, &whole).unwrap();
        let mut random = Random::new(seed * 104_729);
        let sql: Vec<_> = (0..=random.below(6))
            .map(|_| {
                let value = VALUES[random.below(VALUES.len() as u64) as usize];
                change(&path, &mut random, value)
            })
            .collect();
        let sql = sql.join(";\n");
        with_loose_schema(&path, &sql);
        ask_everything(&dir, &format!("seed {seed}: {sql}"));
    }
}

/// Sets one column of some table, in one row of it or in all.
fn change(path: &Path, random: &mut Random, value: &str) -> String {
    let connection = Connection::open(path).unwrap();
    let columns: Vec<(String, String)> = connection
        .prepare(
            "SELECT t.name, c.name FROM pragma_table_list AS t, pragma_table_info(t.name) AS c
             WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (table, column) = &columns[random.below(columns.len() as u64) as usize];
    let rows = ["", " WHERE abs(random()) % 4 = 0"][random.below(2) as usize];
    format!("UPDATE OR IGNORE {table} SET {column} = {value}{rows}")
}

/// What no clock shows: each time of snapshots, in the last one and in all, as early and as late as a
/// number can be.
#[test]
fn impossible_times_end_in_an_answer_or_an_error() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path);
    let whole = fs::read(&path).unwrap();
    let questions: Vec<_> = READERS
        .iter()
        .filter(|line| {
            ["query", "export", "info", "assert"].iter().any(|word| line.starts_with(word))
        })
        .copied()
        .chain(["info -f REC --live", "query connection 1 -f REC --columns all"])
        .collect();
    let of_clocks = ["at", "monotonic", "boottime"];
    for column in of_clocks.iter().flat_map(|c| ["started", "ended"].map(|w| format!("{w}_{c}_ns")))
    {
        for value in ["-9223372036854775808", "9223372036854775807"] {
            for rows in ["", " WHERE snapshot_id = (SELECT max(snapshot_id) FROM snapshots)"] {
                let sql = format!("UPDATE snapshots SET {column} = {value}{rows}");
                fs::write(&path, &whole).unwrap();
                Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
                for line in &questions {
                    println!("{sql}: {line}"); // the last one is that which hangs
                    let ran = dir.sockrec(&line.replace("REC", "rec.db"));
                    assert!(matches!(ran.code(), Some(0..=3)), "{sql}: {line}: {}", ran.told());
                }
                // The steady clocks cannot go back, and a look takes no time only where none passed.
                let checked = dir.sockrec("check rec.db");
                let is_impossible = match column.as_str() {
                    "started_at_ns" | "ended_at_ns" => false, // UTC may be set to anything
                    _ if column.starts_with("ended") == value.starts_with('-') => true,
                    _ => rows.is_empty(),
                };
                let is_told = checked.stdout().contains("violated   steady-clocks");
                assert!(is_told || !is_impossible, "{sql}: {}", checked.told());
            }
        }
    }
}

#[test]
fn a_value_that_is_far_too_long_is_shown_or_refused() {
    let dir = Dir::new();
    made_up(&dir.path("rec.db"));
    made_up(&dir.path("other.db"));
    let path = dir.path("rec.db");
    with_loose_schema(&path, "UPDATE sockets SET remote_address = zeroblob(2000000)");
    ask_everything(&dir, "2 MB");
    with_loose_schema(
        &path,
        "UPDATE sockets SET remote_address = zeroblob(300000000)
        WHERE socket_id = 1",
    );
    let ran = dir.sockrec("query connections -f rec.db");
    assert_snapshot!(ran.told(), @"
    exit 1
    error: could not read `rec.db`
      caused by: Error code 18: string or blob too big
    ");
}

#[test]
fn rows_that_are_numbered_to_the_end_are_read_and_not_added_to() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path);
    made_up(&dir.path("other.db"));
    let whole = fs::read(&path).unwrap();
    let number_last = |name: &str, number: i64| {
        let sql = format!(
            "PRAGMA foreign_keys = OFF; UPDATE {name}s SET {name}_id = {number}
             WHERE {name}_id = (SELECT max({name}_id) FROM {name}s)"
        );
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
    };
    const NAMES: [&str; 4] = ["socket", "snapshot", "group", "capture"];
    for number in [i64::MIN, i64::MAX] {
        fs::write(&path, &whole).unwrap();
        NAMES.iter().for_each(|name| number_last(name, number));
        ask_everything(&dir, &format!("numbered {number}"));
    }
    let _ = fs::remove_file(dir.path("made.db"));
    for name in NAMES {
        for number in [i64::MAX - 1, i64::MAX] {
            for line in ["record -q -c 1 -o rec.db", "merge rec.db other.db -o made.db"] {
                fs::write(&path, &whole).unwrap();
                number_last(name, number);
                let ran = dir.sockrec(line);
                let what = format!("{name} {number}: {line}: {}", ran.told());
                assert_eq!(ran.code(), Some(1), "{what}");
                let error = "error: `rec.db` has rows with numbers that no recorder comes to";
                assert!(ran.stderr.contains(error), "{what}");
                assert!(!dir.path("made.db").exists(), "{what}");
            }
        }
    }
}

#[test]
fn a_long_value_makes_its_own_line_long_and_no_other() {
    const LONG: usize = 1_000_000;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&path);
    let sql = format!(
        "UPDATE sockets SET local_address = printf('%.*c', {LONG}, '1') WHERE socket_id = 1"
    );
    Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
    for line in [
        "query connections -f rec.db",
        "query connections -f rec.db --columns local_address,local_port",
        "query at now -f rec.db",
        "query at now -f rec.db -i -p",
    ] {
        let ran = dir.sockrec(line);
        assert!(matches!(ran.code(), Some(0 | 3)), "{line}: {}", ran.stderr);
        let shown = ran.stdout();
        let long = shown.lines().filter(|line| line.len() > LONG).count();
        let longest_other = shown.lines().map(str::len).filter(|&len| len <= LONG).max();
        assert_eq!(long, 1, "{line}");
        assert!(longest_other.is_some_and(|len| len < 1_000), "{line}: {longest_other:?}");
    }
}

fn with_loose_schema(path: &Path, sql: &str) {
    let edit = |sql: &str| {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
        connection.execute_batch(sql).unwrap();
    };
    edit("CREATE TABLE kept AS SELECT name AS object, sql AS statement FROM sqlite_schema;
          UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(sql,
              'STRICT, WITHOUT', 'WITHOUT'), ') STRICT', ')'), ' NOT NULL', ''), 'CHECK ((', 'CHECK (1 OR ('),
              'CHECK (recording_id', 'CHECK (1 OR recording_id') WHERE type = 'table' AND name <> 'kept'");
    for sql in sql.split(";\n") {
        // What no key takes is left out.
        let _ = Connection::open(path).unwrap().execute_batch(sql);
    }
    edit(
        "UPDATE sqlite_schema SET sql = (SELECT statement FROM kept WHERE object = name)
          WHERE name IN (SELECT object FROM kept);",
    );
    edit("DROP TABLE kept");
}
