//! A recording that is asked.

use std::collections::HashSet;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::choice::{Choice, statement};
use super::columns::column_of_sql;
use super::parallel;
use super::question::Question;
use super::rules::RuleTexts;
use super::selection::{Selection, SortKey};
use crate::filter::{FilterError, UNIT_ENDINGS, nearest};
use crate::model::{Column, Kind, Value};
use crate::store::{Parameter, Reader, StoreError};

/// Why a question gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The recording cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An answer has no such column.
    #[error("there is no column `{name}` in this answer")]
    UnknownColumn {
        /// What was asked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// The filter cannot be asked of this answer.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Nothing was recorded on a host of this name.
    #[error("nothing was recorded on a host named `{name}`")]
    UnknownHost {
        /// What was asked for.
        name: String,
        /// Those that were recorded.
        hosts: Vec<String>,
    },
    /// The question is of one machine, the recording of several.
    #[error("this is asked of one machine, and the recording is of {}", hosts.join(", "))]
    SeveralHosts {
        /// Those that were recorded.
        hosts: Vec<String>,
    },
    /// A column that this program does not know: the query file and the list of columns disagree.
    #[error("the column `{0}` has no description")]
    UndescribedColumn(String),
    /// The answer could not be written out.
    #[error("could not write the answer")]
    Output(#[from] io::Error),
    /// There are as many threads as there may be.
    #[error("could not start a thread to read with")]
    Thread(#[source] io::Error),
}

/// A recording opened for questions.
pub struct Recording {
    pub(super) reader: Reader,
    /// The most that rows are read on; without it as many as pay.
    threads: Option<NonZeroUsize>,
}

impl Recording {
    /// Opens one.
    ///
    /// # Errors
    /// See [`Reader::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { reader: Reader::open(path)?, threads: None })
    }

    /// Reads long answers on so many threads and no more, however long they are.
    #[must_use]
    pub fn on_threads(self, threads: Option<NonZeroUsize>) -> Self {
        Self { threads, ..self }
    }

    /// From here on whatever is asked of it on one thread fails once the flag is raised.
    ///
    /// # Errors
    /// When SQLite does not take it.
    pub fn stopped_by(self, flag: &Arc<AtomicBool>) -> Result<Self, StoreError> {
        Ok(Self { reader: self.reader.stopped_by(flag)?, ..self })
    }

    /// Whether a recorder wrote to it when it was opened.
    pub fn is_being_recorded(&self) -> bool {
        self.reader.is_being_recorded()
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The columns of an answer, as selected.
    ///
    /// # Errors
    /// When a selected column does not exist.
    pub fn columns(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Vec<Column>, QueryError> {
        let selected = self.selected(question, selection)?;
        Ok(selected.into_iter().map(|(_, column)| column).collect())
    }

    /// The selected columns, each with its name in the query.
    pub(super) fn selected(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Vec<(String, Column)>, QueryError> {
        let all = self.described(question, selection)?;
        for key in &selection.sort {
            find(&all, &key.column)?;
        }
        self.choice(question, selection)?;
        if selection.columns.is_empty() {
            return Ok(all);
        }
        selection.columns.iter().map(|wanted| find(&all, wanted).cloned()).collect()
    }

    /// Every column of an answer, each with its name in the query.
    pub(super) fn described(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Vec<(String, Column)>, QueryError> {
        self.reader
            .column_names(&statement(question, selection, "*", &Choice::default()))?
            .into_iter()
            .map(|name| match column_of_sql(&name) {
                Some(column) => Ok((name, *column)),
                None => Err(QueryError::UndescribedColumn(name)),
            })
            .collect()
    }

    /// The `ORDER BY` of a selection, empty where the question's own order stands.
    fn order(&self, question: Question, selection: &Selection) -> Result<String, QueryError> {
        if selection.sort.is_empty() {
            return Ok(String::new());
        }
        let all = self.described(question, selection)?;
        let mut terms = Vec::new();
        for SortKey { column, is_descending } in &selection.sort {
            let (name, column) = find(&all, column)?;
            let direction = if *is_descending { "DESC" } else { "ASC" };
            if column.kind == Kind::Identifier {
                // The upper half of the unsigned numbers is stored as negative.
                terms.push(format!("\"{name}\" < 0 {direction}"));
            }
            // What is not known comes last either way.
            terms.push(format!("\"{name}\" {direction} NULLS LAST"));
        }
        // Equal rows come in the usual order.
        let usual = ["snapshot_id", "socket_id"].into_iter();
        terms.extend(usual.filter(|name| find(&all, name).is_ok()).map(str::to_owned));
        Ok(format!(" ORDER BY {}", terms.join(", ")))
    }

    /// Answers a question row by row; gives the number of rows.
    ///
    /// # Errors
    /// When the recording cannot be read, or the first error of `each`.
    pub fn answer(
        &self,
        question: Question,
        selection: &Selection,
        each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        self.answer_with(question, selection, &[], each)
    }

    /// The same with parameters that the question itself does not know.
    pub(super) fn answer_with(
        &self,
        question: Question,
        selection: &Selection,
        given: &[Parameter<'_>],
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        self.check_host(question, selection)?;
        let selected = self.selected(question, selection)?;
        let mut choice = self.choice(question, selection)?;
        let mut names: Vec<_> = selected.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let shared = self.shared(question, selection)?;
        if let Some((key, _)) = shared {
            choice.add_text(key.condition());
            names.push(key.column.to_owned());
        }
        let mut sql = statement(question, selection, &names.join(", "), &choice);
        sql.push_str(&self.order(question, selection)?);
        if selection.limit.is_some() {
            sql.push_str(" LIMIT :limit");
        }
        let mut parameters: Vec<_> =
            choice.parameters.iter().map(|(name, value)| (name.as_str(), value.value())).collect();
        let (from_ns, to_ns) =
            (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
        let host = selection.host.as_deref();
        let (first, last) = self.snapshots_in((from_ns, to_ns), host)?;
        let is_rule = matches!(question, Question::Broken(_));
        let asks_for_netns =
            selection.filter.as_ref().is_some_and(|filter| filter.asks_for(&["netns"]));
        parameters.extend([
            (":from_ns", Value::Integer(from_ns)),
            (":to_ns", Value::Integer(to_ns)),
            (":first_snapshot_id", Value::Integer(first)),
            (":last_snapshot_id", Value::Integer(last)),
            (":host", host.map_or(Value::Null, Value::Text)),
            (":limit", selection.limit.map_or(Value::Null, |n| Value::Integer(n.cast_signed()))),
            // Rules ask for what has ended only.
            (":is_ended", Value::Integer((selection.ended.is_some() || is_rule).into())),
            (":socket_id", selection.sockets.socket_id.map_or(Value::Null, Value::Integer)),
            (":by_netns", Value::Integer(asks_for_netns.into())),
            (":without_owners", Value::Integer((!question.asks_for_owners(selection)).into())),
        ]);
        parameters.extend(question.parameters());
        let looks = self.looks_of(question, host)?;
        parameters.extend(looks.iter().map(|(name, ids)| (*name, Value::Text(ids))));
        parameters.extend_from_slice(given);
        let texts;
        if let Question::Broken(assertion) = question {
            texts = RuleTexts::of(assertion, self.chosen_sockets(selection)?);
            parameters.extend(texts.parameters(assertion));
        }
        if let Some(sql) = question.sql_of_seen() {
            self.reader.add_up(&sql, &parameters)?;
        }
        let mut rows = 0;
        let counted = |row: &[Value<'_>]| {
            rows += 1;
            each(row)
        };
        match shared {
            Some((key, threads)) => {
                let asked = parallel::Asked { sql: &sql, parameters: &parameters, key };
                parallel::run(&asked, self.reader.alike(threads)?, counted)?;
            }
            None => self.reader.run(&sql, &parameters, counted)?,
        }
        Ok(rows)
    }

    /// By what the rows of an answer are shared among how many threads, where more than one pays: to open
    /// the recording once more and to prepare the question takes as long as some thousand rows do.
    fn shared(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Option<(parallel::Key, usize)>, StoreError> {
        const ROWS_THAT_PAY: u64 = 10_000;
        let is_whole = selection.sort.is_empty()
            && selection.limit.is_none()
            && selection.ended.is_none()
            && selection.sockets.socket_id.is_none();
        let Some(key) = question.key().filter(|_| is_whole) else { return Ok(None) };
        let threads = match self.threads {
            Some(threads) => threads.get(),
            // It finds a few as a rule, and each thread has to look through all.
            None if selection.filter.is_some() => 1,
            None => {
                let pay = self.expected_rows(question)?.unwrap_or(0) / ROWS_THAT_PAY;
                parallel::usual_threads().min(usize::try_from(pay).unwrap_or(usize::MAX))
            }
        };
        Ok((threads > 1).then_some((key, threads)))
    }

    /// Runs SQL that someone typed, row by row with the names of its columns; gives the names.
    ///
    /// # Errors
    /// When it is no query, writes or fails, or the first error of `each`.
    pub fn sql(
        &self,
        sql: &str,
        each: impl FnMut(&[String], &[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<Vec<String>, QueryError> {
        self.reader.run_typed(sql, each)
    }

    /// The snapshots that a question about moments is about, as JSON.
    fn looks_of(
        &self,
        question: Question,
        host: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, StoreError> {
        let ids = |utc_ns| -> Result<String, StoreError> {
            let looks = self.looks_at(utc_ns, host)?;
            Ok(format!("{:?}", looks.iter().map(|look| look.snapshot_id).collect::<Vec<_>>()))
        };
        Ok(match question {
            Question::AtTime { utc_ns } => vec![(":snapshot_ids", ids(utc_ns)?)],
            Question::Diff { before_ns, after_ns } => vec![
                (":before_snapshot_ids", ids(before_ns)?),
                (":after_snapshot_ids", ids(after_ns)?),
            ],
            _ => Vec::new(),
        })
    }

    /// The numbers of the sockets that a rule is held to, as JSON; `None` for all.
    fn chosen_sockets(&self, selection: &Selection) -> Result<Option<String>, QueryError> {
        if selection.is_open() && selection.host.is_none() {
            return Ok(None);
        }
        let columns = vec!["socket_id".to_owned()];
        let chosen = Selection { columns, ..selection.of_sockets() };
        let mut ids = Vec::new();
        self.answer(chosen.question_of_sockets(), &chosen, |row| {
            ids.extend(row.iter().filter_map(|value| match value {
                Value::Integer(id) => Some(id.to_string()),
                _ => None,
            }));
            Ok(())
        })?;
        Ok(Some(format!("[{}]", ids.join(","))))
    }

    /// Runs a query of the library's own, whose rows need no description.
    pub(super) fn run(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&[Value<'_>]),
    ) -> Result<(), StoreError> {
        self.reader.run(sql, parameters, |row| {
            each(row);
            Ok(())
        })
    }

    /// The first and last snapshot that ended in this span of UTC; none: 0 and -1.
    fn snapshots_in(
        &self,
        (from_ns, to_ns): (i64, i64),
        host: Option<&str>,
    ) -> Result<(i64, i64), StoreError> {
        let mut found = (0, -1);
        // Of all the first and the last are found without a look at those between.
        let sql = if (from_ns, to_ns, host) == (i64::MIN, i64::MAX, None) {
            "SELECT (SELECT min(snapshot_id) FROM held_snapshots),
                 (SELECT max(snapshot_id) FROM held_snapshots)"
        } else {
            "SELECT min(snapshot_id), max(snapshot_id) FROM held_snapshots
             WHERE ended_at_ns BETWEEN :from_ns AND :to_ns AND (:host IS NULL OR capture_id IN (
                 SELECT capture_id FROM captures WHERE host_name = :host))"
        };
        self.reader.run(
            sql,
            &[
                (":from_ns", Value::Integer(from_ns)),
                (":to_ns", Value::Integer(to_ns)),
                (":host", host.map_or(Value::Null, Value::Text)),
            ],
            |row| {
                if let [Value::Integer(first), Value::Integer(last)] = row {
                    found = (*first, *last);
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(found)
    }

    /// Refuses a host that was not recorded, and to take several machines for one.
    ///
    /// # Errors
    /// That, or when the recording cannot be read.
    pub fn check_host(&self, question: Question, selection: &Selection) -> Result<(), QueryError> {
        let hosts = self.hosts()?;
        match &selection.host {
            Some(name) if !hosts.contains(name) => {
                Err(QueryError::UnknownHost { name: name.clone(), hosts })
            }
            None if hosts.len() > 1 && question.is_of_one_machine() => {
                Err(QueryError::SeveralHosts { hosts })
            }
            _ => Ok(()),
        }
    }

    /// The sockets that have ended, or may have, and of which those who recorded may not have told that:
    /// they were freed and their connection went on when recording ended, or they ended in the last
    /// snapshot of a recorder that was killed.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn untold_ends(&self) -> Result<HashSet<i64>, StoreError> {
        let candidates =
            self.sockets_of(include_str!("../../queries/half_closed_candidates.sql"))?;
        let mut untold = self.half_closed(&candidates, true)?;
        untold.extend(self.sockets_of(include_str!("../../queries/last_ends.sql"))?);
        Ok(untold)
    }

    fn sockets_of(&self, sql: &str) -> Result<Vec<i64>, StoreError> {
        let mut sockets = Vec::new();
        self.reader.run(sql, &[], |row| {
            if let [Value::Integer(socket)] = row {
                sockets.push(*socket);
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(sockets)
    }

    /// Of these sockets those whose connection goes on in FIN-WAIT-2, or may do so, as the next dump
    /// shows unless there was the last one.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn half_closed(&self, sockets: &[i64], is_last: bool) -> Result<HashSet<i64>, StoreError> {
        let ids: Vec<_> = sockets.iter().map(i64::to_string).collect();
        let ids = format!("[{}]", ids.join(","));
        let mut half_closed = HashSet::new();
        let sql = include_str!("../../queries/half_closed.sql");
        let parameters =
            [(":socket_ids", Value::Text(&ids)), (":is_last", Value::Integer(is_last.into()))];
        self.reader.run(sql, &parameters, |row| {
            if let [Value::Integer(socket)] = row {
                half_closed.insert(*socket);
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(half_closed)
    }
}

/// The column of this name; an ending that is a unit may be left out.
fn find<'a>(all: &'a [(String, Column)], wanted: &str) -> Result<&'a (String, Column), QueryError> {
    let named = |wanted: &str| all.iter().find(|(_, column)| column.name == wanted);
    let with_unit = || UNIT_ENDINGS.iter().find_map(|unit| named(&format!("{wanted}{unit}")));
    named(wanted).or_else(with_unit).ok_or_else(|| QueryError::UnknownColumn {
        name: wanted.to_owned(),
        nearest: nearest(wanted, all.iter().map(|(_, column)| column.name)).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_columns_share_a_name() {
        let names: std::collections::HashSet<_> =
            super::super::COLUMNS.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), super::super::COLUMNS.len());
    }
}
