//! The samples of a snapshot, and the values that they share with others of their group.

use rusqlite::CachedStatement;

use super::StoreError;
use super::columns::{
    CONDITIONS, SAMPLE_TIMES, SAMPLES, SETTING_BYTES, SETTING_TEXTS, SETTINGS, Source,
};
use super::tick::{Done, TickWriter};
use crate::model::{Observation, SampleRow};

/// The statements whose columns come from [`super::columns`].
pub(super) struct RowSql {
    sample: String,
    condition: String,
    setting: String,
}

impl RowSql {
    pub(super) fn new() -> Self {
        let names = |sources: &[Source]| sources.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let mut sample =
            vec!["snapshot_id", "socket_id", "previous_snapshot_id", "condition_id", "setting_id"];
        sample.extend(names(SAMPLES));
        sample.extend(SAMPLE_TIMES.iter().map(|(name, _)| *name));
        let mut condition = vec!["group_id", "condition_id"];
        condition.extend(names(CONDITIONS));
        let mut setting = vec!["group_id", "setting_id"];
        setting.extend(names(SETTINGS));
        setting.extend(SETTING_TEXTS.iter().map(|(name, _)| *name));
        setting.extend(SETTING_BYTES.iter().map(|(name, _)| *name));
        Self {
            sample: insert("samples", &sample),
            condition: insert("conditions", &condition),
            setting: insert("settings", &setting),
        }
    }
}

/// REPLACE: a dump may show a socket twice, and then its later state counts.
fn insert(table: &str, columns: &[&str]) -> String {
    let places = vec!["?"; columns.len()].join(", ");
    format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({places})", columns.join(", "))
}

impl TickWriter<'_> {
    /// Adds a sample, and the values it shares with others where they are new in this group.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sample(&mut self, row: &SampleRow<'_>) -> Done {
        let observation = &row.observation;
        let condition = self.condition(observation)?;
        let setting = self.setting(observation)?;
        let mut insert = self.bind(&self.sql.sample)?;
        insert.integer(row.snapshot.0);
        insert.integer(row.socket.0);
        insert.maybe(row.previous.map(|s| s.0));
        insert.maybe(condition);
        insert.maybe(setting);
        for (_, source) in SAMPLES {
            insert.maybe(source(observation));
        }
        for (_, source) in SAMPLE_TIMES {
            insert.maybe(source(&row.times));
        }
        insert.execute().map_err(|e| self.error(e))
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

    fn bind(&self, sql: &str) -> Result<Binding<'_>, StoreError> {
        let statement = self.transaction.prepare_cached(sql).map_err(|e| self.error(e))?;
        Ok(Binding { statement, next: 1, failed: None })
    }
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
#[derive(Hash)]
struct Integers<const N: usize> {
    known: u128,
    values: [i64; N],
}

impl<const N: usize> Integers<N> {
    const FITS: () = assert!(N <= 128, "one bit of `known` a value");

    fn of(observation: &Observation<'_>, sources: &[Source]) -> Self {
        let () = Self::FITS;
        let mut integers = Self { known: 0, values: [0; N] };
        for (i, (slot, (_, source))) in integers.values.iter_mut().zip(sources).enumerate() {
            if let Some(value) = source(observation) {
                *slot = value;
                integers.known |= 1 << i;
            }
        }
        integers
    }

    fn is_empty(&self) -> bool {
        self.known == 0
    }

    fn iter(&self) -> impl Iterator<Item = Option<i64>> {
        self.values.iter().enumerate().map(|(i, v)| (self.known & (1 << i) != 0).then_some(*v))
    }
}
