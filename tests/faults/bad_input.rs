//! Files that are no recording, or no longer one.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use rusqlite::Connection;
use sockrec::model::Observation;
use sockrec::store::{APPLICATION_ID, Reader, SCHEMA_VERSION, StoreError, Writer};

use crate::harness::{Dir, MadeUp, ask, observation};

/// Everything that reads a recording.
const READERS: [&str; 10] = [
    "query connections -f",
    "query at now -f",
    "query samples -f",
    "query samples --socket 1 -f",
    "query snapshots -f",
    "query coverage -f",
    "query connection 1 -f",
    "export owners -f",
    "export sockets -f",
    "info -f",
];

/// What every reader says to a file that it refuses, which is the same.
#[track_caller]
fn reading(dir: &Dir, name: &str) -> String {
    let before = dir.contents();
    let mut told = READERS.map(|reader| dir.sockrec(&format!("{reader} {name}")).told());
    let texts = told.join("\n");
    assert_eq!(dir.contents(), before, "a refused file was touched, or has got company");
    told.sort();
    assert_eq!(told[0], told[READERS.len() - 1], "{texts}");
    told[0].clone()
}

/// What a recorder says to a file that it refuses.
#[track_caller]
fn recording(dir: &Dir, name: &str) -> String {
    let before = dir.contents();
    let told = dir.sockrec(&format!("record -c 1 -o {name}")).told();
    assert_eq!(dir.contents(), before, "a refused file was touched, or has got company");
    told
}

/// Both, where they say the same.
#[track_caller]
fn refused(dir: &Dir, name: &str) -> String {
    let told = reading(dir, name);
    assert_eq!(recording(dir, name), told);
    told
}

fn made_up(dir: &Dir, name: &str) {
    let mut made = MadeUp::begin(&dir.path(name));
    made.snapshot(&[observation(1), observation(2)]).commit();
    made.end();
}

/// A recording whose samples take many pages.
fn large(path: &Path) {
    let mut made = MadeUp::begin(path);
    for n in 0..40 {
        let row = |port| {
            let mut row = observation(port);
            row.tcp.bytes_sent = Some(n << 40);
            row.tcp.snd_cwnd = u32::try_from(n).ok();
            row
        };
        made.snapshot(&(1..40).map(row).collect::<Vec<Observation<'_>>>()).commit();
    }
    made.end();
}

#[test]
fn no_file() {
    let dir = Dir::new();
    assert_snapshot!(reading(&dir, "rec.db"), @"
    exit 1
    error: there is no recording `rec.db`

    hint: record one with `sockrec record -o rec.db`, or name another with `-f FILE`
    ");
    assert_snapshot!(reading(&dir, "missing/rec.db"), @"
    exit 1
    error: there is no recording `missing/rec.db`

    hint: record one with `sockrec record -o missing/rec.db`, or name another with `-f FILE`
    ");
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = Dir::new();
    assert_snapshot!(recording(&dir, "missing/rec.db"), @"
    exit 1
    error: could not create `missing/rec.db`: the directory `missing` does not exist

    hint: create it with `mkdir -p missing`
    ");
}

#[test]
fn a_directory() {
    let dir = Dir::new();
    fs::create_dir(dir.path("sub")).unwrap();
    let reader = dir.sockrec("info -f sub").told();
    assert_eq!(dir.sockrec("record -o sub").told(), reader);
    assert_eq!(fs::read_dir(dir.path("sub")).unwrap().count(), 0);
    assert_snapshot!(reader, @"
    exit 1
    error: `sub` is not a sockrec recording: it is a directory

    hint: it was left untouched; choose another file name
    ");
}

#[test]
fn a_named_pipe_that_nobody_writes_to() {
    let dir = Dir::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path("pipe"), mode).unwrap();
    let told = dir.sockrec("info -f pipe").told();
    assert_eq!(dir.sockrec("record -o pipe").told(), told);
    assert_snapshot!(told, @"
    exit 1
    error: `pipe` is not a sockrec recording: it is no regular file

    hint: it was left untouched; choose another file name
    ");
}

#[test]
fn something_else_than_sqlite() {
    let dir = Dir::new();
    fs::write(dir.path("notes.txt"), "minutes of the meeting\n".repeat(400)).unwrap();
    assert_snapshot!(refused(&dir, "notes.txt"), @"
    exit 1
    error: `notes.txt` is not a sockrec recording: it is no SQLite file

    hint: it was left untouched; choose another file name
    ");
    fs::write(dir.path("short"), "x").unwrap();
    assert_snapshot!(refused(&dir, "short"), @"
    exit 1
    error: `short` is not a sockrec recording: it is too short for an SQLite file

    hint: it was left untouched; choose another file name
    ");
}

#[test]
fn the_database_of_another_application() {
    let dir = Dir::new();
    for (name, mode) in [("delete.db", "DELETE"), ("wal.db", "WAL")] {
        let other = Connection::open(dir.path(name)).unwrap();
        other.pragma_update(None, "journal_mode", mode).unwrap();
        let sql = "PRAGMA application_id = 252006674; CREATE TABLE samples (a); INSERT INTO samples VALUES (1)";
        other.execute_batch(sql).unwrap();
    }
    let told = refused(&dir, "delete.db");
    assert_eq!(refused(&dir, "wal.db"), told.replace("delete.db", "wal.db"));
    assert_snapshot!(told, @"
    exit 1
    error: `delete.db` is not a sockrec recording: it is an SQLite file of another application

    hint: it was left untouched; choose another file name
    ");
}

#[test]
fn a_recording_of_a_later_version() {
    let dir = Dir::new();
    made_up(&dir, "rec.db");
    let sql = "PRAGMA user_version = 999; DROP TABLE samples";
    Connection::open(dir.path("rec.db")).unwrap().execute_batch(sql).unwrap();
    let told = refused(&dir, "rec.db").replace(&format!("({SCHEMA_VERSION})"), "(SUPPORTED)");
    assert_snapshot!(told, @"
    exit 1
    error: could not open `rec.db`: schema version 999 is newer than this sockrec supports (SUPPORTED)

    hint: upgrade sockrec, or read the file with the version that wrote it
    ");
}

/// The file's own header is that of this version still.
#[test]
fn a_later_version_that_stands_in_the_log_alone() {
    let dir = Dir::new();
    made_up(&dir, "made.db");
    let later = Connection::open(dir.path("made.db")).unwrap();
    later.pragma_update(None, "journal_mode", "WAL").unwrap();
    later.pragma_update(None, "user_version", 999).unwrap();
    for end in ["", "-wal"] {
        fs::copy(dir.path(format!("made.db{end}")), dir.path(format!("rec.db{end}"))).unwrap();
    }
    let files = || ["rec.db", "rec.db-wal"].map(|name| fs::read(dir.path(name)).unwrap());
    let before = files();
    let mut told: Vec<_> =
        READERS.iter().map(|reader| dir.sockrec(&format!("{reader} rec.db")).told()).collect();
    told.push(dir.sockrec("record -c 1 -o rec.db").told());
    assert!(files() == before, "the log was folded into a file that was refused");
    told.dedup();
    assert_eq!(told.len(), 1, "{}", told.join("\n"));
    let told = told[0].replace(&format!("({SCHEMA_VERSION})"), "(SUPPORTED)");
    assert_snapshot!(told, @"
    exit 1
    error: could not open `rec.db`: schema version 999 is newer than this sockrec supports (SUPPORTED)

    hint: upgrade sockrec, or read the file with the version that wrote it
    ");
}

#[test]
fn an_empty_file_is_no_answer_and_a_fine_beginning() {
    let dir = Dir::new();
    fs::write(dir.path("rec.db"), "").unwrap();
    assert_snapshot!(reading(&dir, "rec.db"), @"
    exit 1
    error: `rec.db` is not a sockrec recording: it is empty

    hint: it was left untouched; choose another file name
    ");
    dir.record("rec.db");
    assert!(Reader::open(&dir.path("rec.db")).is_ok());
}

#[test]
fn a_recording_without_a_snapshot_has_empty_answers() {
    let dir = Dir::new();
    MadeUp::begin(&dir.path("rec.db")).end();
    let told = |line: &str| dir.sockrec(line).told();
    assert_snapshot!(told("query connections -f rec.db --format csv --columns socket_id"), @"
    exit 0
    stdout:
    socket_id
    stderr:
    note: the recording holds no snapshot yet
    ");
    assert_snapshot!(told("query at now -f rec.db --format json"), @"
    exit 3
    stdout:
    []
    stderr:
    note: the recording holds no snapshot yet
    ");
    assert_snapshot!(told("export samples -f rec.db --format jsonl"), @"
    exit 0
    note: the recording holds no snapshot yet
    ");
    assert!(dir.sockrec("info -f rec.db").fine().stdout().contains("no snapshot yet"));
}

#[test]
fn a_table_or_view_that_was_dropped() {
    let dir = Dir::new();
    let told = ["TABLE held_samples", "TABLE states", "VIEW socket_samples"].map(|dropped| {
        made_up(&dir, "rec.db");
        let connection = Connection::open(dir.path("rec.db")).unwrap();
        connection.execute_batch(&format!("DROP {dropped}")).unwrap();
        drop(connection);
        let told = refused(&dir, "rec.db");
        fs::remove_file(dir.path("rec.db")).unwrap();
        told
    });
    assert_snapshot!(told.join("\n"), @"
    exit 1
    error: `rec.db` lacks the table `held_samples`

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    exit 1
    error: `rec.db` lacks the table `states`

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more

    exit 1
    error: `rec.db` lacks the view `socket_samples`

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more
    ");
}

#[test]
fn a_column_that_was_dropped() {
    let dir = Dir::new();
    made_up(&dir, "rec.db");
    let sql = "DROP VIEW socket_samples; ALTER TABLE samples DROP COLUMN rtt_us;
               CREATE VIEW socket_samples AS SELECT 1";
    Connection::open(dir.path("rec.db")).unwrap().execute_batch(sql).unwrap();
    assert_snapshot!(dir.sockrec("query connections -f rec.db").told(), @"
    exit 1
    error: `rec.db` has another table `samples` than a recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more
    ");
}

/// Junk in one page after the other: an error, or the same answer because the page did not matter.
#[test]
fn a_damaged_page_gives_an_error_or_changes_nothing() {
    const PAGE: usize = 4_096;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    let whole = fs::read(&path).unwrap();
    let questions = [
        "query samples --format csv -f rec.db",
        "query connections --format csv -f rec.db",
        "export snapshots -f rec.db",
    ];
    let answers = questions.map(|question| dir.sockrec(question).fine().stdout);
    let mut refused = [0; 3];
    let pages = whole.len() / PAGE;
    for page in (1..pages).step_by(pages / 24) {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        for (question, (answer, refused)) in questions.iter().zip(answers.iter().zip(&mut refused))
        {
            let ran = dir.sockrec(question);
            if ran.code() == Some(0) {
                assert!(ran.stdout == *answer, "page {page}: {question} gives something else");
                continue;
            }
            *refused += 1;
            assert_eq!(ran.code(), Some(1), "page {page}: {}", ran.told());
            // Where the page is of the schema, another schema is what it looks like.
            let is_told = ["`rec.db` is damaged", "`rec.db` has another "]
                .iter()
                .any(|text| ran.stderr.contains(&format!("error: {text}")));
            assert!(is_told, "{}", ran.stderr);
        }
        // A recorder may not notice what it does not touch, but nothing else may happen to it.
        let ran = dir.sockrec("record -q -c 1 -o rec.db");
        assert!(matches!(ran.code(), Some(0 | 1 | 3)), "page {page}: {}", ran.told());
        for end in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(dir.path(format!("rec.db{end}")));
        }
    }
    assert!(refused[0] > 8, "most pages are of samples: {refused:?}");
}

#[test]
fn a_damaged_page_is_named_with_a_way_to_rescue_the_rest() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    let sql = "SELECT pageno FROM dbstat WHERE name = 'samples' AND pagetype = 'leaf'
               ORDER BY pageno DESC";
    let page = usize::try_from(ask(&path, sql).unwrap()).unwrap();
    let mut damaged = fs::read(&path).unwrap();
    damaged[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    fs::write(&path, damaged).unwrap();
    let before = dir.contents();
    let ran = dir.sockrec("query samples --format csv -f rec.db");
    assert_eq!(dir.contents(), before);
    assert_eq!(ran.code(), Some(1));
    assert_snapshot!(ran.stderr, @"
    error: `rec.db` is damaged
      caused by: Error code 11: database disk image is malformed

    hint: copy what can still be read with `sockrec salvage rec.db -o saved.db`
    ");
}

/// Not when the next snapshot is due, which may be in hours.
#[test]
fn a_recording_that_cannot_be_gone_on_with_is_told_of_at_once() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    made_up(&dir, "rec.db");
    // Nothing is read from here, but every new socket writes to it.
    let root = ask(&path, "SELECT rootpage FROM sqlite_schema WHERE name = 'settings'").unwrap();
    let page = usize::try_from(root).unwrap();
    let mut damaged = fs::read(&path).unwrap();
    damaged[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    fs::write(&path, damaged).unwrap();
    let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = dir.sockrec("record -q -i 10h -o rec.db");
    assert_snapshot!(ran.told(), @"
    exit 1
    error: `rec.db` is damaged
      caused by: Error code 11: database disk image is malformed

    hint: copy what can still be read with `sockrec salvage rec.db -o saved.db`
    ");
}

#[test]
fn a_file_that_was_cut_off() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    large(&path);
    let whole = fs::read(&path).unwrap();
    for len in [1, 99, 100, 1_000, 4_096, 4_097, whole.len() / 2, whole.len() - 4_096] {
        fs::write(&path, &whole[..len]).unwrap();
        let ran = dir.sockrec("query samples -f rec.db");
        assert_eq!(ran.code(), Some(1), "{len} bytes: {}", ran.told());
        let is_named = ran.stderr.contains("is damaged") || ran.stderr.contains("too short");
        assert!(is_named, "{len} bytes: {}", ran.told());
        let error = Writer::open(&path).err().unwrap();
        let is_refused =
            matches!(error, StoreError::Damaged { .. } | StoreError::NotARecording { .. });
        assert!(is_refused, "{len} bytes: {error:?}");
        assert!(fs::read(&path).unwrap() == whole[..len], "{len} bytes: it was changed");
        assert_eq!(dir.names(), ["rec.db"]);
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_snapshot!(refused(&dir, "rec.db"), @"
    exit 1
    error: `rec.db` is damaged
      caused by: Error code 11: database disk image is malformed

    hint: copy what can still be read with `sockrec salvage rec.db -o saved.db`
    ");
}

#[test]
fn a_mark_without_a_schema() {
    let dir = Dir::new();
    let connection = Connection::open(dir.path("rec.db")).unwrap();
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.execute_batch("CREATE TABLE other (a)").unwrap();
    drop(connection);
    assert_snapshot!(reading(&dir, "rec.db"), @"
    exit 1
    error: `rec.db` is not a sockrec recording: it is empty

    hint: it was left untouched; choose another file name
    ");
}

#[test]
fn a_name_cannot_act_on_the_terminal() {
    let dir = Dir::new();
    let ran = crate::harness::run(dir.command_of(["info", "-f", "\x1b[31m\u{202e}\n"]));
    assert_snapshot!(ran.told(), @r"
    exit 1
    error: there is no recording `\x1b[31m\u{202e}
    `

    hint: record one with `sockrec record -o \x1b[31m\u{202e}
    `, or name another with `-f FILE`
    ");
}
