//! Text that would like to be something else: terminal commands, fields, lines, SQL.

use insta::assert_snapshot;
use rusqlite::Connection;
use serde_json::Value;
use sockrec::model::Observation;

use crate::harness::{Dir, MadeUp, assert_recording_is_whole, observation};

/// What whoever runs the recorded machine might have put there.
const TEXTS: [&str; 12] = [
    "\x1b[31mred\x1b]0;title\x07",
    "comma, \"quote\" and 'quote'",
    "two\nlines\r\nand\ttabs",
    "'; DROP TABLE samples; --",
    "=HYPERLINK(\"http://example.com\")",
    "right\u{202e}tfel\u{2066}",
    "\u{9b}31m \u{7f}",
    "nul\0byte",
    "  blanks  ",
    "null",
    "back\\slash \\x1b",
    "\u{e9}t\u{e9} \u{6f22}\u{5b57} \u{1f9e6}",
];

/// A socket for each text, which stands in both text columns.
fn hostile() -> Dir {
    let dir = Dir::new();
    let path = dir.path("sockrec.db");
    let mut made = MadeUp::begin(&path);
    let row = |(text, port)| Observation {
        congestion_control: Some(text),
        ulp: Some(text),
        ..observation(port)
    };
    let rows: Vec<_> = TEXTS.into_iter().zip(1..).map(row).collect();
    made.snapshot(&rows).commit();
    made.end();
    assert_recording_is_whole(&path);
    dir
}

const QUERY: &str = "query samples --columns local_port,congestion_control,ulp";

#[test]
fn csv_keeps_every_character() {
    let text = hostile().sockrec(&format!("{QUERY} --format csv")).fine().stdout;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    for (row, (text, port)) in rows.iter().zip(TEXTS.iter().zip(1..)) {
        assert_eq!(row.iter().collect::<Vec<_>>(), [&port.to_string(), *text, *text]);
    }
    assert_eq!(rows.len(), TEXTS.len());
}

#[test]
fn json_keeps_every_character_and_each_line_is_an_object() {
    let dir = hostile();
    let expected = |port: i32, text: &str| serde_json::json!({"local_port": port, "congestion_control": text, "ulp": text});
    let expected: Vec<_> = TEXTS.iter().zip(1..).map(|(text, port)| expected(port, text)).collect();
    let text = dir.sockrec(&format!("{QUERY} --format json")).fine().stdout();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), expected);
    let text = dir.sockrec(&format!("{QUERY} --format jsonl")).fine().stdout();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, expected);
    for c in text.chars().filter(|&c| c != '\n') {
        assert!(c >= ' ', "{c:?}");
    }
}

#[track_caller]
fn assert_is_harmless(text: &str) {
    for c in text.chars().filter(|&c| c != '\n') {
        assert!(!c.is_control() && !('\u{202a}'..='\u{2069}').contains(&c), "{c:?} in\n{text}");
    }
}

#[test]
fn tables_show_it_without_obeying_it() {
    let dir = hostile();
    let text = dir.sockrec(QUERY).fine().stdout();
    assert_is_harmless(&text);
    let text: Vec<_> = text.lines().map(str::trim_end).collect();
    assert_snapshot!(text.join("\n"), @r#"
    LOCAL_PORT  CONGESTION_CONTROL                ULP
             1  \x1b[31mred\x1b]0;title\x07       \x1b[31mred\x1b]0;title\x07
             2  comma, "quote" and 'quote'        comma, "quote" and 'quote'
             3  two\nlines\r\nand\ttabs           two\nlines\r\nand\ttabs
             4  '; DROP TABLE samples; --         '; DROP TABLE samples; --
             5  =HYPERLINK("http://example.com")  =HYPERLINK("http://example.com")
             6  right\u{202e}tfel\u{2066}         right\u{202e}tfel\u{2066}
             7  \u{9b}31m \x7f                    \u{9b}31m \x7f
             8  nul\x00byte                       nul\x00byte
             9    blanks                            blanks
            10  null                              null
            11  back\slash \x1b                   back\slash \x1b
            12  été 漢字 🧦                       été 漢字 🧦
    "#);
    let text = dir.sockrec("query at 2023-11-14T22:13:21Z --info").fine().stdout();
    assert_is_harmless(&text);
    assert_eq!(text.lines().count(), 1 + 2 * TEXTS.len());
    assert!(text.contains(r" \x1b[31mred\x1b]0;title\x07"), "{text}");
}

/// A recording may come from anyone, with any text in any of its tables.
#[test]
fn a_recording_that_was_made_to_deceive() {
    let dir = hostile();
    let sql = "UPDATE states SET name = 'E' || char(27) || '[31m' || char(10);
               UPDATE protocols SET name = 'p' || char(27) || '[2J';
               UPDATE families SET name = 'f' || char(27);
               UPDATE sockets SET local_address = 'a' || char(27) || '[H', remote_address = char(10);
               UPDATE captures SET host_name = char(27) || 'c', end_reason = char(8238);
               UPDATE namespaces SET name = char(155);
               INSERT INTO processes (process_id, boot_id, pid, started_ticks, comm, command_line)
               VALUES (1, 1, 7, 1, 'c' || char(27) || '[5m', char(10) || char(8238));
               INSERT INTO socket_owners VALUES (1, 1, 1, NULL);
               INSERT INTO noted_exceptions (snapshot_id, kind, scope_id, message)
               VALUES (1, 'dump_failed', 1, char(27) || '[31m'), (1, char(27), 1, NULL)";
    Connection::open(dir.path("sockrec.db")).unwrap().execute_batch(sql).unwrap();
    for line in [
        "query connections",
        "query connections --columns all",
        "query samples --columns all",
        "query snapshots",
        "query coverage",
        "query connection 1",
        "query at 2023-11-14T22:13:21Z",
        "query at 2023-11-14T22:13:21Z --info",
        "info",
    ] {
        let ran = dir.sockrec(line);
        assert!(matches!(ran.code(), Some(0 | 3)), "{line}: {}", ran.told());
        assert_is_harmless(&ran.stdout());
        assert_is_harmless(&ran.stderr);
        assert!(
            ran.told().contains("\\x1b") || line == "query snapshots",
            "{line}: {}",
            ran.told()
        );
    }
    let text = dir.sockrec("info --format json").fine().stdout();
    let info: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(info["captures"][0]["host_name"], "\x1bc");
}

/// The schema of a recording is input too: a view must not run what only a query may.
#[test]
fn a_view_that_calls_functions_is_not_obeyed() {
    let dir = hostile();
    let connection = Connection::open(dir.path("sockrec.db")).unwrap();
    let view = "SELECT sql FROM sqlite_schema WHERE name = 'socket_samples'";
    let view: String = connection.query_row(view, [], |row| row.get(0)).unwrap();
    let bent = view.replace("s.snapshot_id,", "load_extension('./evil') AS snapshot_id,");
    assert_ne!(view, bent);
    connection.execute_batch(&format!("DROP VIEW socket_samples; {bent}")).unwrap();
    drop(connection);
    let ran = dir.sockrec("query samples --format csv");
    assert_eq!(ran.code(), Some(1), "{}", ran.told());
    assert_snapshot!(ran.stderr, @"
    error: `sockrec.db` has another view `socket_samples` than a recording

    hint: the file was damaged, changed by something else than sockrec, or made to deceive; `sockrec check` tells more
    ");
}
