//! The samples of a snapshot, and the values that they share with others of their group.

use std::hash::{Hash, Hasher};

use rusqlite::{CachedStatement, ErrorCode};

use super::StoreError;
use super::columns::{
    CONDITIONS, SAMPLE_TIMES, SAMPLES, SETTING_BYTES, SETTING_TEXTS, SETTINGS, Source,
};
use super::tick::{Done, TickWriter};
use crate::model::{Observation, SampleRow};

/// Rows that one statement adds: SQLite finds the place of the first, and goes on from there.
const ROWS_AT_ONCE: usize = 64;

/// The statements whose columns come from [`super::columns`].
pub(super) struct RowSql {
    samples: String,
    sample: String,
    sample_again: String,
    condition: String,
    setting: String,
}

const SAMPLE_KEYS: [&str; 5] =
    ["snapshot_id", "socket_id", "previous_snapshot_id", "condition_id", "setting_id"];
const SAMPLE_COLUMNS: usize = SAMPLE_KEYS.len() + SAMPLES.len() + SAMPLE_TIMES.len();

impl RowSql {
    pub(super) fn new() -> Self {
        let names = |sources: &[Source]| sources.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let mut sample = SAMPLE_KEYS.to_vec();
        sample.extend(names(SAMPLES));
        sample.extend(SAMPLE_TIMES.iter().map(|(name, _)| *name));
        let mut condition = vec!["group_id", "condition_id"];
        condition.extend(names(CONDITIONS));
        let mut setting = vec!["group_id", "setting_id"];
        setting.extend(names(SETTINGS));
        setting.extend(SETTING_TEXTS.iter().map(|(name, _)| *name));
        setting.extend(SETTING_BYTES.iter().map(|(name, _)| *name));
        Self {
            samples: insert("samples", &sample, ROWS_AT_ONCE),
            sample: insert("samples", &sample, 1),
            sample_again: insert("samples", &sample, 1).replacen("FAIL", "REPLACE", 1),
            condition: insert("conditions", &condition, 1),
            setting: insert("settings", &setting, 1),
        }
    }
}

/// FAIL: what fails ends the tick, which undoes all. Otherwise SQLite would keep each page that a statement
/// changes as it was before, to undo that statement alone.
fn insert(table: &str, columns: &[&str], rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns.len()].join(","));
    let rows = vec![row; rows].join(",");
    format!("INSERT OR FAIL INTO {table} ({}) VALUES {rows}", columns.join(", "))
}

impl<'w> TickWriter<'w> {
    /// Adds samples, and the values they share with others where they are new in this group.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn samples<'o>(&mut self, rows: impl IntoIterator<Item = SampleRow<'o>>) -> Done {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut many = self.prepare(&self.sql.samples)?;
        let mut values = Vec::with_capacity(ROWS_AT_ONCE * SAMPLE_COLUMNS);
        for row in rows {
            let observation = &row.observation;
            let condition = self.condition(observation)?;
            let setting = self.setting(observation)?;
            let previous = row.previous.map(|s| s.0);
            values.extend([Some(row.snapshot.0), Some(row.socket.0), previous, condition, setting]);
            values.extend(SAMPLES.iter().map(|(_, source)| source(observation)));
            values.extend(SAMPLE_TIMES.iter().map(|(_, source)| source(&row.times)));
            if values.len() == ROWS_AT_ONCE * SAMPLE_COLUMNS {
                self.insert(&mut many, &values)?;
                values.clear();
            }
        }
        let mut one = self.prepare(&self.sql.sample)?;
        values.chunks(SAMPLE_COLUMNS).try_for_each(|row| self.insert(&mut one, row))
    }

    /// Adds rows by a statement that fails at the first that is there already: a dump may show a socket
    /// twice, and then its later state counts.
    fn insert(&mut self, statement: &mut CachedStatement<'_>, values: &[Option<i64>]) -> Done {
        match execute(statement, values) {
            Ok(rows) => {
                self.samples = self.samples.map(|samples| samples + rows as u64);
                Ok(())
            }
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.samples = None;
                let mut again = self.prepare(&self.sql.sample_again)?;
                let mut rows = values.chunks(SAMPLE_COLUMNS);
                rows.try_for_each(|row| execute(&mut again, row).map(|_| ()))
                    .map_err(|e| self.error(e))
            }
            Err(e) => Err(self.error(e)),
        }
    }

    fn condition(&mut self, observation: &Observation<'_>) -> Result<Option<i64>, StoreError> {
        let values = Integers::<{ CONDITIONS.len() }>::of(observation, CONDITIONS);
        if values.is_empty() {
            return Ok(None);
        }
        let (id, is_new) = self.conditions.id_of(&values);
        if is_new {
            let mut insert = self.bind(&self.sql.condition)?;
            insert.integer(self.group.0);
            insert.integer(id);
            for value in values.iter() {
                insert.maybe(value);
            }
            insert.execute().map_err(|e| self.error(e))?;
        }
        Ok(Some(id))
    }

    fn setting(&mut self, observation: &Observation<'_>) -> Result<Option<i64>, StoreError> {
        let integers = Integers::<{ SETTINGS.len() }>::of(observation, SETTINGS);
        let texts: [_; SETTING_TEXTS.len()] =
            std::array::from_fn(|i| SETTING_TEXTS[i].1(observation));
        let bytes: [_; SETTING_BYTES.len()] = std::array::from_fn(|i| {
            Some(SETTING_BYTES[i].1(observation)).filter(|b| !b.is_empty())
        });
        if integers.is_empty()
            && texts.iter().all(Option::is_none)
            && bytes.iter().all(Option::is_none)
        {
            return Ok(None);
        }
        let (id, is_new) = self.settings.id_of(&(&integers, texts, bytes));
        if is_new {
            let mut insert = self.bind(&self.sql.setting)?;
            insert.integer(self.group.0);
            insert.integer(id);
            for value in integers.iter() {
                insert.maybe(value);
            }
            for value in texts {
                insert.maybe(value);
            }
            for value in bytes {
                insert.maybe(value);
            }
            insert.execute().map_err(|e| self.error(e))?;
        }
        Ok(Some(id))
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'w>, StoreError> {
        self.transaction.0.prepare_cached(sql).map_err(|e| self.error(e))
    }

    fn bind(&self, sql: &str) -> Result<Binding<'w>, StoreError> {
        Ok(Binding { statement: self.prepare(sql)?, next: 1, failed: None })
    }
}

fn execute(statement: &mut CachedStatement<'_>, values: &[Option<i64>]) -> rusqlite::Result<usize> {
    for (i, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(i + 1, value)?;
    }
    statement.raw_execute()
}

/// Binds the parameters of a statement one after the other.
struct Binding<'c> {
    statement: CachedStatement<'c>,
    next: usize,
    failed: Option<rusqlite::Error>,
}

impl Binding<'_> {
    fn integer(&mut self, value: i64) {
        self.maybe(Some(value));
    }

    fn maybe(&mut self, value: Option<impl rusqlite::ToSql>) {
        if let Err(e) = self.statement.raw_bind_parameter(self.next, value) {
            self.failed.get_or_insert(e);
        }
        self.next += 1;
    }

    fn execute(mut self) -> rusqlite::Result<()> {
        match self.failed {
            Some(e) => Err(e),
            None => self.statement.raw_execute().map(|_| ()),
        }
    }
}

/// Values of a row that may be unknown, in a form that is hashed in one go.
struct Integers<const N: usize> {
    /// A bit for each value.
    known: u128,
    count: usize,
    /// Those that are known, one after the other; the rest is not hashed.
    values: [i64; N],
}

impl<const N: usize> Integers<N> {
    const FITS: () = assert!(N <= 128, "one bit of `known` a value");

    fn of(observation: &Observation<'_>, sources: &[Source]) -> Self {
        let () = Self::FITS;
        let mut integers = Self { known: 0, count: 0, values: [0; N] };
        for (i, (_, source)) in sources.iter().enumerate().take(N) {
            if let Some(value) = source(observation) {
                integers.values[integers.count] = value;
                integers.count += 1;
                integers.known |= 1 << i;
            }
        }
        integers
    }

    fn is_empty(&self) -> bool {
        self.known == 0
    }

    fn iter(&self) -> impl Iterator<Item = Option<i64>> {
        let mut values = self.values.iter();
        (0..N).map(move |i| if self.known & (1 << i) == 0 { None } else { values.next().copied() })
    }
}

impl<const N: usize> Hash for Integers<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.known.hash(state);
        self.values[..self.count].hash(state);
    }
}
