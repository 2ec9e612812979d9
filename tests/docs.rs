//! The documents say what the code does: docs/FORMAT.md against the schema, docs/OUTPUT.md against
//! the answers, the header of every query.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes the generated part of docs/OUTPUT.md anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sockrec::model::{
    Capture, Clocks, EndReason, ExceptionKind, HostFacts, Kind, NamespaceFacts, Source, TcpState,
    Timer,
};
use sockrec::query::{
    Assertion, By, COLUMNS, Dense, EVENT_COLUMNS, LIMIT_COLUMNS, Question, RULES, Recording,
    SCHEMA_COLUMNS, STATE_COLUMNS, Selection, SocketFilter, TRAFFIC_COLUMNS, column,
};
use sockrec::render::{Judgement, judgement};
use sockrec::store::{APPLICATION_ID, INVARIANTS, SCHEMA_VERSION, Writer};

const FORMAT: &str = include_str!("../docs/FORMAT.md");
const OUTPUT_PATH: &str = "docs/OUTPUT.md";
const BEGIN: &str = "<!-- Written by `UPDATE_DOCS=1 cargo test --test docs` -->\n";
const END: &str = "<!-- End of what was written -->\n";

fn schema() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../migrations/schema.sql")).unwrap();
    connection
}

/// The columns of each table and view, sorted.
type Columns = BTreeMap<String, Vec<String>>;

fn columns_of(connection: &Connection) -> Columns {
    let mut columns = Columns::new();
    connection
        .prepare(
            "SELECT s.name, c.name FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
             WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .for_each(|row| {
            let (table, column): (String, String) = row.unwrap();
            columns.entry(table).or_default().push(column);
        });
    columns
}

/// The columns that a document names: under a heading that is nothing but a name in backticks, the
/// first cell of each line of a table.
fn columns_in(document: &str) -> Columns {
    let mut columns = Columns::new();
    let mut table = None;
    for line in document.lines() {
        if line.starts_with('#') {
            table = in_backticks(line.trim_start_matches('#').trim());
            if let Some(table) = table {
                columns.entry(table.to_owned()).or_default();
            }
        } else if let (Some(table), Some(cells)) = (table, line.strip_prefix('|'))
            && let Some(column) = cells.split('|').next().and_then(|c| in_backticks(c.trim()))
        {
            columns.entry(table.to_owned()).or_default().push(column.to_owned());
        }
    }
    columns.values_mut().for_each(|columns| columns.sort());
    columns
}

fn in_backticks(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`').filter(|name| !name.contains('`'))
}

#[test]
fn the_format_is_described_column_by_column() {
    let (real, described) = (columns_of(&schema()), columns_in(FORMAT));
    assert_eq!(
        real.keys().collect::<Vec<_>>(),
        described.keys().collect::<Vec<_>>(),
        "tables and views of the schema, and of docs/FORMAT.md"
    );
    for (table, columns) in &real {
        assert_eq!(columns, &described[table], "`{table}` in the schema, and in docs/FORMAT.md");
    }
}

#[test]
fn a_document_that_lacks_a_column_is_found_out() {
    let document =
        "### `a`\n\n| Column |\n|---|\n| `y` | 1 |\n| `x` | `z` |\n#### Of `b`\n| `no` |\n";
    let expected = BTreeMap::from([("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
    assert_eq!(columns_in(document), expected);
}

#[test]
fn the_format_names_the_numbers_and_words_of_the_code() {
    let mut texts = vec![
        format!("| `application_id` | {APPLICATION_ID},"),
        format!("| `user_version` | {SCHEMA_VERSION},"),
    ];
    let kinds = [
        ExceptionKind::DumpFailed,
        ExceptionKind::DumpInterrupted,
        ExceptionKind::DumpUnsupported,
        ExceptionKind::SocketsNotStored,
        ExceptionKind::TicksLeftOut,
        ExceptionKind::MessagesUnreadable,
        ExceptionKind::NotAsked,
        ExceptionKind::PartlyAsked,
    ];
    let reasons = [
        EndReason::Duration,
        EndReason::Count,
        EndReason::Signal,
        EndReason::Command,
        EndReason::Input,
        EndReason::Error,
        EndReason::Lost,
    ];
    texts.extend(kinds.map(|kind| format!("\n| `{}` |", kind.name())));
    texts.extend(reasons.map(|reason| format!("\n| `{}` |", reason.name())));
    for text in texts {
        assert!(FORMAT.contains(&text), "docs/FORMAT.md lacks {text:?}");
    }
}

#[test]
fn the_recording_names_states_and_timers_as_the_code_does() {
    let names = |sql: &str| -> Vec<(u8, String)> {
        let schema = schema();
        let mut statement = schema.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let states = TcpState::NAMED.map(|(state, name)| (state.0, name.to_owned()));
    assert_eq!(names("SELECT state, name FROM states ORDER BY state"), states);
    let timers = Timer::NAMED.map(|(timer, name)| (timer.0, name.to_owned()));
    assert_eq!(names("SELECT timer, name FROM timers ORDER BY timer"), timers);
}

#[test]
fn every_rule_of_the_format_is_told_as_the_check_tells_it() {
    let document = fs::read_to_string("docs/OPERATIONS.md").unwrap();
    let chapter = document.split("\n## ").find(|chapter| chapter.starts_with("Checking\n"));
    let lines = chapter.expect("the chapter is there").lines();
    let rows: Vec<_> = lines.filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> = INVARIANTS
        .iter()
        .map(|rule| format!("| `{}` | {} | {} |", rule.name, rule.must, rule.means))
        .collect();
    assert_eq!(rows, expected);
}

/// What `--anonymize` does to a column, the document tells.
#[test]
fn every_column_that_an_anonymized_export_changes_is_named() {
    let document = fs::read_to_string("docs/OPERATIONS.md").unwrap();
    let chapter = document.split("\n## ").find(|text| text.starts_with("Sharing a recording\n"));
    let chapter = chapter.expect("the chapter is there");
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(directory.path());
    let exports = [
        Question::Connections,
        Question::Samples,
        Question::Sockets,
        Question::Owners,
        Question::Processes,
        Question::Snapshots,
        Question::Markers,
    ];
    let mut changed = 0;
    for question in exports {
        for name in names(&recording, question, &Selection::default()) {
            let is_kept = judgement(column(name).unwrap()) == Judgement::Kept;
            assert_ne!(is_kept, chapter.contains(&format!("`{name}`")), "`{name}`");
            changed += usize::from(!is_kept);
        }
    }
    assert!(changed > 40, "{changed}");
}

#[test]
fn every_query_says_what_it_answers() {
    let mut queries = 0;
    for entry in fs::read_dir("queries").unwrap() {
        let path = entry.unwrap().path();
        let sql = fs::read_to_string(&path).unwrap();
        let header: Vec<_> = sql.lines().map_while(|line| line.strip_prefix("--")).collect();
        let says = |label: &str| header.iter().any(|line| line.contains(label));
        let answers = header.first().is_some_and(|line| {
            line.len() > 20 && !["Parameters:", "Order:", "Index:"].iter().any(|l| line.contains(l))
        });
        assert!(answers, "{}: the first line does not say what it answers", path.display());
        for label in ["Parameters: ", "Order: ", "Index: "] {
            assert!(says(label), "{}: the header lacks {label:?}", path.display());
        }
        // Every parameter is named in the header, and none that is not there.
        let body = sql.lines().skip(header.len()).collect::<Vec<_>>().join("\n");
        assert_eq!(parameters(&body), parameters(&header.join("\n")), "{}", path.display());
        queries += 1;
    }
    assert!(queries > 5, "the queries were not found");
}

/// The named parameters in a text (`:from_ns`), sorted.
fn parameters(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut found: Vec<_> = text
        .match_indices(':')
        .map(|(at, _)| &text[at + 1..])
        .map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A recording without a snapshot.
fn recording(directory: &Path) -> Recording {
    let path = directory.join("empty.db");
    let clocks = Clocks { utc_ns: 1, monotonic_ns: 1, boottime_ns: 1 };
    let capture = Capture {
        host: HostFacts {
            boot_uuid: "boot".to_owned(),
            host_name: None,
            machine_id_hash: None,
            kernel_release: None,
            architecture: None,
        },
        namespace: NamespaceFacts { cookie: None, inode: None, name: None, local_ports: None },
        options: "{}".to_owned(),
        source: Source::Live,
        interval_ns: Some(1),
        started: clocks,
    };
    let mut writer = Writer::open(&path).unwrap();
    let start = writer.begin_capture(&capture).unwrap();
    writer.end_capture(&start, EndReason::Count, clocks, 0).unwrap();
    Recording::open(&path).unwrap()
}

fn names(recording: &Recording, question: Question, selection: &Selection) -> Vec<&'static str> {
    recording.columns(question, selection).unwrap().iter().map(|column| column.name).collect()
}

#[test]
fn the_samples_of_one_socket_have_the_columns_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(directory.path());
    let sockets = SocketFilter { socket_id: Some(1), ..SocketFilter::default() };
    let of_one = Selection { sockets, ..Selection::default() };
    assert_eq!(
        names(&recording, Question::Samples, &of_one),
        names(&recording, Question::Samples, &Selection::default())
    );
}

#[test]
fn every_rule_is_described_and_has_the_columns_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(directory.path());
    let document = fs::read_to_string(OUTPUT_PATH).unwrap();
    let columns = |rule| {
        names(&recording, Question::Broken(Assertion { rule, limit: 1 }), &Selection::default())
    };
    for rule in RULES {
        assert_eq!(columns(rule), columns(&RULES[0]), "{}", rule.name);
        let line = document.lines().find(|line| line.starts_with(&format!("| `{}", rule.name)));
        assert!(line.is_some(), "{OUTPUT_PATH} does not describe `{}`", rule.name);
    }
}

#[test]
fn the_columns_of_every_answer_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let expected = generated(&recording(directory.path()));
    let document = fs::read_to_string(OUTPUT_PATH).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("docs/OUTPUT.md lacks the first mark");
    let (found, after) = rest.split_once(END).expect("docs/OUTPUT.md lacks the second mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(OUTPUT_PATH, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert!(
            found == expected,
            "the columns in docs/OUTPUT.md are out of date: UPDATE_DOCS=1 cargo test --test docs"
        );
    }
}

/// The generated part of docs/OUTPUT.md.
fn generated(recording: &Recording) -> String {
    let answers = [
        ("`query connections`, `export connections`", Question::Connections),
        ("`query at`", Question::At { snapshot_id: 0 }),
        ("`query samples`, `export samples`", Question::Samples),
        ("`export sockets`", Question::Sockets),
        ("`export owners`", Question::Owners),
        ("`export processes`", Question::Processes),
        ("`query snapshots`, `export snapshots`", Question::Snapshots),
        ("`info`: captures", Question::Captures),
        ("`info`: gaps", Question::Gaps),
        ("`info`: tables", Question::Tables),
        ("`query coverage`", Question::Coverage),
        ("`assert`", Question::Broken(Assertion { rule: &RULES[0], limit: 0 })),
        ("`query markers`, `export markers`, `info`: markers", Question::Markers),
        ("`query listeners`", Question::Listeners { snapshot_id: None }),
        ("`query states`", Question::States { bucket_ns: 1 }),
        ("`query peers`", Question::Totals(By::Peer)),
        ("`query ports`", Question::Totals(By::Port)),
        ("`query processes`", Question::Totals(By::Process)),
        ("`query cgroups`", Question::Totals(By::Cgroup)),
        ("`query users`", Question::Totals(By::User)),
        ("`query churn`", Question::Churn { bucket_ns: 1 }),
        ("`query slow`", Question::Slow),
        ("`query leaks`", Question::Leaks { longer_ns: 1 }),
        ("`query diff`", Question::Diff { before_ns: 0, after_ns: 0 }),
        ("`query compare`", Question::Compare),
    ];
    let mut text = String::from("\n### By answer\n");
    let mut used = Vec::new();
    let parts = [
        ("`query connection`: states", STATE_COLUMNS),
        ("`query connection`: traffic", TRAFFIC_COLUMNS),
        ("`query connection`: limits", LIMIT_COLUMNS),
        ("`query schema`", SCHEMA_COLUMNS),
        ("`query connection` as csv and jsonl", EVENT_COLUMNS),
    ];
    let dense = Dense { step_ns: 1, with_rates: true };
    let samples = names(recording, Question::Samples, &Selection::default());
    let even = recording.dense_columns(&Selection::default(), dense).unwrap();
    let added: Vec<_> =
        even.iter().map(|column| column.name).filter(|n| !samples.contains(n)).collect();
    let even = ("`export samples --dense --rates`: beside the columns of samples", added);
    let answers = answers
        .map(|(title, question)| (title, names(recording, question, &Selection::default())))
        .into_iter()
        .chain(parts.map(|(title, names)| (title, names.to_vec())))
        .chain([even]);
    for (title, names) in answers {
        write!(text, "\n**{title}** ({} columns)\n\n{}", names.len(), wrapped(&names)).unwrap();
        used.extend(names);
    }
    text.push_str("\n### By name\n\n| Column | Kind | What it is |\n|---|---|---|\n");
    for name in &used {
        assert!(column(name).is_some(), "the column `{name}` has no description");
    }
    for column in COLUMNS {
        assert!(used.contains(&column.name), "no answer has the column `{}`", column.name);
        let (kind, about) = (kind_name(column.kind), column.about.replace('|', "\\|"));
        writeln!(text, "| `{}` | {kind} | {about} |", column.name).unwrap();
    }
    text.push('\n');
    text
}

/// Names in backticks with commas between, in lines of bearable length.
fn wrapped(names: &[&str]) -> String {
    const WIDTH: usize = 130;
    let (mut text, mut width) = (String::new(), 0);
    for (i, name) in names.iter().enumerate() {
        let word = format!("`{name}`{}", if i + 1 < names.len() { "," } else { "\n" });
        if width > 0 {
            let fits = width + 1 + word.trim_end().len() <= WIDTH;
            text.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        width += word.len();
        text.push_str(&word);
    }
    text
}

/// A kind as docs/OUTPUT.md calls it under "Values".
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "integer",
        Kind::Identifier => "identifier",
        Kind::Time => "time",
        Kind::Duration => "duration",
        Kind::Real => "real",
        Kind::Text => "text",
        Kind::Boolean => "boolean",
        Kind::Bytes => "bytes",
    }
}

/// Every figure has the command that measures it.
#[test]
fn every_bench_that_a_document_names_is_there() {
    let mut named = 0;
    let documents = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    for document in documents.chain(["README.md".into()]) {
        // A line may end within a command.
        let text = fs::read_to_string(&document).unwrap().replace('\n', " ");
        for command in text.split("cargo bench --bench ").skip(1) {
            let command = command.split(['`', '\'']).next().unwrap_or(command);
            let mut words = command.split(' ');
            let name = words.next().unwrap();
            let bench = [format!("benches/{name}.rs"), format!("benches/{name}/main.rs")];
            let bench = bench.iter().find_map(|path| fs::read_to_string(path).ok());
            let bench = bench.unwrap_or_else(|| panic!("{}: no {name}", document.display()));
            let known = match words.nth(1) {
                Some(word) => format!("cargo bench --bench {name} -- {word}"),
                None => format!("cargo bench --bench {name}"),
            };
            assert!(bench.contains(&known), "{}: `{command}`", document.display());
            named += 1;
        }
    }
    assert!(named > 5, "the commands were not found");
}
