//! Whether a recording is whole: that SQLite finds its file sound, that its schema is that of the format,
//! and that no table contradicts another.

mod invariants;

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::StoreError;
use super::reader::Reader;
use super::trust::{Difference, difference};
pub use invariants::{INVARIANTS, Invariant, Look};

/// Rows that are named of those that break an invariant.
const EXAMPLES: usize = 3;

/// Whether an invariant holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Violated {
        /// How often.
        count: u64,
        /// The first ones, and what ended the look.
        examples: Vec<Example>,
    },
    /// It could not be asked.
    NotKnown {
        /// What SQLite says.
        why: String,
    },
}

/// What breaks an invariant: names and values.
pub type Example = Vec<(String, Value)>;

/// What was found of one invariant.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub invariant: &'static Invariant,
    /// Whether it holds.
    pub verdict: Verdict,
}

/// What was found of a recording.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Whether a recorder wrote to it meanwhile.
    pub is_being_recorded: bool,
    /// One of each invariant, in their order.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether every invariant is known to hold.
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict == Verdict::Holds)
    }

    /// Whether the file itself is damaged.
    pub fn is_damaged(&self) -> bool {
        let is_of_file = |f: &&Finding| f.invariant.look == Look::Sqlite;
        let is_violated = |f: &Finding| matches!(f.verdict, Verdict::Violated { .. });
        self.findings.iter().find(is_of_file).is_some_and(is_violated)
    }

    /// How many are violated.
    pub fn violated(&self) -> usize {
        let is_violated = |f: &&Finding| matches!(f.verdict, Verdict::Violated { .. });
        self.findings.iter().filter(is_violated).count()
    }
}

/// Looks at every invariant, all of them at the same moment of a recording that is being written.
///
/// # Errors
/// When the file is no recording, is newer, or cannot be opened. One that is damaged is looked at as far
/// as it goes.
pub fn check(path: &Path) -> Result<Checked, StoreError> {
    let reader = match Reader::open_unchecked(path) {
        Ok(reader) => reader,
        Err(StoreError::Damaged { source, .. }) => {
            return Ok(Checked { is_being_recorded: false, findings: all_unknown(&source) });
        }
        Err(error) => return Err(error),
    };
    let connection = reader.connection();
    let is_being_recorded = reader.is_being_recorded();
    let begin = || -> rusqlite::Result<()> {
        // Views of this connection alone; the file is open for reading.
        connection.pragma_update(None, "query_only", false)?;
        show_what_is_held(connection)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.execute_batch("BEGIN")
    };
    match begin().map_err(|source| reader.error(source)) {
        Ok(()) => {}
        Err(StoreError::Damaged { source, .. }) => {
            return Ok(Checked { is_being_recorded, findings: all_unknown(&source) });
        }
        Err(error) => return Err(error),
    }
    let find = |invariant| Finding { invariant, verdict: verdict(connection, invariant) };
    Ok(Checked { is_being_recorded, findings: INVARIANTS.iter().map(find).collect() })
}

/// Has a connection show what is held in place of whole tables: of that the rules are.
pub(super) fn show_what_is_held(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("held.sql"))
}

/// SQLite cannot even open it.
fn all_unknown(source: &rusqlite::Error) -> Vec<Finding> {
    let why = source.to_string();
    let finding = |invariant: &'static Invariant| match invariant.look {
        Look::Sqlite => {
            let verdict = Verdict::Violated { count: 1, examples: vec![message(source)] };
            Finding { invariant, verdict }
        }
        _ => Finding { invariant, verdict: Verdict::NotKnown { why: why.clone() } },
    };
    INVARIANTS.iter().map(finding).collect()
}

fn verdict(connection: &Connection, invariant: &Invariant) -> Verdict {
    let found = match invariant.look {
        Look::Sqlite => sqlite_messages(connection),
        Look::Schema => schema_difference(connection),
        Look::Rows(sql) => rows(connection, sql),
    };
    match found {
        Ok((0, _)) => Verdict::Holds,
        Ok((count, examples)) => Verdict::Violated { count, examples },
        Err(e) => Verdict::NotKnown { why: e.to_string() },
    }
}

type Found = rusqlite::Result<(u64, Vec<Example>)>;

/// What SQLite says of the file: that is damaged too if SQLite comes to no end because of what it finds.
fn sqlite_messages(connection: &Connection) -> Found {
    const CHECK: &str = "SELECT integrity_check AS message FROM pragma_integrity_check";
    let mut told = (0, Vec::new());
    match add_rows(connection, CHECK, &mut told) {
        Ok(()) => {}
        Err(e) if is_of_damage(&e) => {
            told.0 += 1;
            told.1.truncate(EXAMPLES - 1);
            told.1.push(message(&e));
        }
        Err(e) => return Err(e),
    }
    let is_sound = matches!(
        told.1.first().map(Vec::as_slice),
        Some([(_, Value::String(message))]) if told.0 == 1 && message == "ok"
    );
    Ok(if is_sound { (0, Vec::new()) } else { told })
}

fn is_of_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn message(error: &rusqlite::Error) -> Example {
    vec![("message".to_owned(), Value::String(error.to_string()))]
}

fn schema_difference(connection: &Connection) -> Found {
    let example = |Difference { what, kind, name }| {
        let text = |name: &str, value: String| (name.to_owned(), Value::String(value));
        vec![text("difference", what.name().to_owned()), text("kind", kind), text("name", name)]
    };
    let found = difference(connection, "main")?;
    Ok((found.len() as u64, found.into_iter().take(EXAMPLES).map(example).collect()))
}

fn rows(connection: &Connection, sql: &str) -> Found {
    let mut found = (0, Vec::new());
    add_rows(connection, sql, &mut found)?;
    Ok(found)
}

/// Counts rows and keeps the first; those before an error too.
fn add_rows(
    connection: &Connection,
    sql: &str,
    (count, examples): &mut (u64, Vec<Example>),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        *count += 1;
        if examples.len() < EXAMPLES {
            let value = |(i, name): (usize, &String)| Ok((name.clone(), shown(row.get_ref(i)?)));
            examples.push(names.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()?);
        }
    }
    Ok(())
}

fn shown(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Where a rule joins without an index, a recording of thousands of rows takes for ever. Plans do not
    /// depend on what is in the tables.
    #[test]
    fn no_rule_reads_all_of_a_table_for_each_row_of_another() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/schema.sql")).unwrap();
        show_what_is_held(&connection).unwrap();
        let mut nested = Vec::new();
        for invariant in INVARIANTS {
            let Look::Rows(sql) = invariant.look else { continue };
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map([], |r| Ok((r.get("parent")?, r.get("detail")?))).unwrap();
            let mut loops = HashSet::new();
            for (parent, detail) in steps.map(rusqlite::Result::<(i64, String)>::unwrap) {
                let is_scan = detail.starts_with("SCAN ");
                let is_inner = (is_scan || detail.starts_with("SEARCH ")) && !loops.insert(parent);
                if is_scan && is_inner {
                    nested.push(format!("{}: {detail}", invariant.name));
                }
            }
        }
        // `floor` is one row.
        assert_eq!(nested, ["socket-ends: SCAN f", "remains: SCAN b"]);
    }
}
