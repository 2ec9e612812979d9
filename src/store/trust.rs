//! What is not taken on trust of a file that may come from anyone: what its schema runs, and that its
//! tables are those of a recording.

use std::sync::OnceLock;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, Row};

/// Longest value, in bytes. The longest of our own are lists of sockets.
const LONGEST_VALUE: i32 = 256 << 20;

/// To be called before anything is read: nothing in a schema may run functions of ours or fire by
/// itself, and nothing may bend the file.
pub(super) fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE)?;
    // A page that lies about its cells is damage at once, and no file can be cut short under a map.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)
}

/// How a schema is not that of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) what: What,
    /// `table`, `view`, `index`, `trigger`.
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It belongs to the format and is not there.
    Missing,
    /// It belongs to the format and is another.
    Altered,
    /// It is there and does not belong to the format.
    Foreign,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Foreign => "foreign",
        }
    }
}

/// One row of `sqlite_schema`, without its page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

/// How the schema of a database differs from that of this version. Statistics for the query planner
/// may be there: they make answers slower or faster, never other ones.
pub(super) fn difference(
    connection: &Connection,
    database: &str,
) -> rusqlite::Result<Vec<Difference>> {
    let shipped = shipped()?;
    let found = objects(connection, database)?;
    let mut seen = vec![false; shipped.len()];
    let mut differences = Vec::new();
    for object in found {
        let known = shipped.iter().position(|known| known.name == object.name);
        let is_first = known.is_some_and(|at| !std::mem::replace(&mut seen[at], true));
        let what = match known {
            Some(at) if is_first && shipped[at] == object => continue,
            Some(_) => What::Altered,
            None if ["sqlite_stat1", "sqlite_stat4"].contains(&object.name.as_str()) => continue,
            None => What::Foreign,
        };
        differences.push(Difference { what, kind: object.kind, name: object.name });
    }
    for (object, _) in shipped.iter().zip(seen).filter(|(_, is_seen)| !is_seen) {
        let (kind, name) = (object.kind.clone(), object.name.clone());
        differences.push(Difference { what: What::Missing, kind, name });
    }
    // What belongs there and is not says most.
    differences.sort_by_key(|difference| difference.what != What::Missing);
    Ok(differences)
}

/// The schema of this version.
fn shipped() -> rusqlite::Result<&'static [Object]> {
    static SHIPPED: OnceLock<Vec<Object>> = OnceLock::new();
    if let Some(objects) = SHIPPED.get() {
        return Ok(objects);
    }
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(include_str!("../../migrations/schema.sql"))?;
    let objects = objects(&connection, "main")?;
    Ok(SHIPPED.get_or_init(|| objects))
}

fn objects(connection: &Connection, database: &str) -> rusqlite::Result<Vec<Object>> {
    let text = |row: &Row<'_>, i| -> rusqlite::Result<Option<String>> {
        let value = row.get_ref(i)?;
        Ok(value.as_bytes_or_null()?.map(|text| String::from_utf8_lossy(text).into_owned()))
    };
    let sql = format!("SELECT type, name, tbl_name, sql FROM {database}.sqlite_schema");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Object {
            kind: text(row, 0)?.unwrap_or_default(),
            name: text(row, 1)?.unwrap_or_default(),
            table: text(row, 2)?.unwrap_or_default(),
            sql: text(row, 3)?,
        })
    })?;
    rows.collect()
}
