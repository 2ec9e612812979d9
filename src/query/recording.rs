//! A recording that is asked.

use std::path::Path;

use super::columns::column_of_sql;
use super::rules::{Assertion, RuleTexts};
use super::selection::{OwnedValue, Selection, SortKey, SpanColumns};
use crate::filter::{ANSWER, Answer, FilterError, SqlCondition, nearest};
use crate::model::{Column, Kind, Value};
use crate::store::{Parameter, Reader, StoreError};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The lifetime of each socket.
    Connections,
    /// Every socket as it was in this snapshot.
    At {
        /// The snapshot, see [`Recording::snapshot_at`].
        snapshot_id: i64,
    },
    /// The series of samples.
    Samples,
    /// When was looked.
    Snapshots,
    /// Who was seen.
    Sockets,
    /// Which process held which socket, from when to when.
    Owners,
    /// The processes that held sockets.
    Processes,
    /// Runs of the recorder.
    Captures,
    /// What each table holds.
    Tables,
    /// When was not looked, or not well.
    Gaps,
    /// What was looked at when, and what was not.
    Coverage,
    /// The moments and spans that the user named.
    Markers,
    /// What breaks a rule, or may have broken it unseen.
    Broken(Assertion),
}

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
    /// A column that this program does not know: the query file and the list of columns disagree.
    #[error("the column `{0}` has no description")]
    UndescribedColumn(String),
    /// The answer could not be written out.
    #[error("could not write the answer")]
    Output(#[from] std::io::Error),
}

/// From the first to the last snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of snapshots.
    pub snapshots: i64,
    /// Start of the first, UTC nanoseconds.
    pub from_ns: i64,
    /// End of the last, UTC nanoseconds.
    pub to_ns: i64,
}

/// By what captures chose a part of the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFilter {
    /// The filter; of an extract in words.
    pub filter: String,
    /// Whether it chose what an extract took over, not what was recorded.
    pub is_taken: bool,
    /// Captures of the span that chose by it.
    pub captures: i64,
    /// All captures of the span.
    pub captures_of_span: i64,
    /// The scopes that it was for (`tcp/inet,tcp/inet6`); `None` for all that they asked for.
    pub scopes: Option<String>,
}

/// A recording opened for questions.
pub struct Recording {
    pub(super) reader: Reader,
}

impl Recording {
    /// Opens one.
    ///
    /// # Errors
    /// See [`Reader::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { reader: Reader::open(path)? })
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
    fn selected(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Vec<(String, Column)>, QueryError> {
        let all = self.described(question, selection)?;
        for key in &selection.sort {
            find(&all, &key.column)?;
        }
        filter_condition(question, selection, &all)?;
        if selection.columns.is_empty() {
            return Ok(all);
        }
        selection.columns.iter().map(|wanted| find(&all, wanted).cloned()).collect()
    }

    /// Every column of an answer, each with its name in the query.
    fn described(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Vec<(String, Column)>, QueryError> {
        self.reader
            .column_names(question.sql(selection))?
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
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        let selected = self.selected(question, selection)?;
        let (mut conditions, mut owned) = if question.is_chosen_from() {
            selection.conditions(question.span_columns())
        } else {
            Default::default()
        };
        if selection.filter.is_some() {
            let all = self.described(question, selection)?;
            if let Some(filter) = filter_condition(question, selection, &all)? {
                conditions.push(filter.text);
                owned.extend(filter.parameters.into_iter().map(|(name, v)| (name, v.into())));
            }
        }
        let names: Vec<_> = selected.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let mut sql = format!(
            "SELECT {} FROM (\n{}\n) AS {ANSWER}",
            names.join(", "),
            question.sql(selection)
        );
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        sql.push_str(&self.order(question, selection)?);
        if selection.limit.is_some() {
            sql.push_str(" LIMIT :limit");
        }
        let mut parameters: Vec<_> = owned
            .iter()
            .map(|(name, value): &(String, OwnedValue)| value.as_parameter(name))
            .collect();
        let (from_ns, to_ns) =
            (selection.from_ns.unwrap_or(i64::MIN), selection.to_ns.unwrap_or(i64::MAX));
        let (first, last) = self.snapshots_in(from_ns, to_ns)?;
        let is_rule = matches!(question, Question::Broken(_));
        parameters.extend([
            (":from_ns", Value::Integer(from_ns)),
            (":to_ns", Value::Integer(to_ns)),
            (":first_snapshot_id", Value::Integer(first)),
            (":last_snapshot_id", Value::Integer(last)),
            (":limit", selection.limit.map_or(Value::Null, |n| Value::Integer(n.cast_signed()))),
            // Rules ask for what has ended only.
            (":is_ended", Value::Integer((selection.ended.is_some() || is_rule).into())),
            (":socket_id", selection.sockets.socket_id.map_or(Value::Null, Value::Integer)),
        ]);
        if let Question::At { snapshot_id } = question {
            parameters.push((":snapshot_id", Value::Integer(snapshot_id)));
        }
        let texts;
        if let Question::Broken(assertion) = question {
            texts = RuleTexts::of(assertion, self.chosen_sockets(selection)?);
            parameters.extend(texts.parameters(assertion));
        }
        let mut rows = 0;
        self.reader.run(&sql, &parameters, |row| {
            rows += 1;
            each(row)
        })?;
        Ok(rows)
    }

    /// The numbers of the sockets that a rule is held to, as JSON; `None` for all.
    fn chosen_sockets(&self, selection: &Selection) -> Result<Option<String>, QueryError> {
        if selection.is_open() {
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
    pub(super) fn snapshots_in(&self, from_ns: i64, to_ns: i64) -> Result<(i64, i64), StoreError> {
        let mut found = (0, -1);
        self.reader.run(
            "SELECT min(snapshot_id), max(snapshot_id) FROM snapshots
             WHERE ended_at_ns BETWEEN :from_ns AND :to_ns",
            &[(":from_ns", Value::Integer(from_ns)), (":to_ns", Value::Integer(to_ns))],
            |row| {
                if let [Value::Integer(first), Value::Integer(last)] = row {
                    found = (*first, *last);
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(found)
    }

    /// When a snapshot had ended, UTC nanoseconds.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn ended_at(&self, snapshot_id: i64) -> Result<Option<i64>, StoreError> {
        self.reader.integer(
            "SELECT ended_at_ns FROM snapshots WHERE snapshot_id = :id",
            &[(":id", Value::Integer(snapshot_id))],
        )
    }

    /// From when to when was recorded, `None` without a snapshot.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn span(&self) -> Result<Option<Span>, StoreError> {
        let mut span = None;
        self.reader.run(
            "SELECT count(*), min(started_at_ns), max(ended_at_ns) FROM snapshots",
            &[],
            |row| {
                if let [Value::Integer(n), Value::Integer(from), Value::Integer(to)] = row {
                    span = Some(Span { snapshots: *n, from_ns: *from, to_ns: *to });
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(span)
    }

    /// The interval of the capture that a snapshot belongs to, in nanoseconds.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn interval_at(&self, snapshot_id: i64) -> Result<Option<i64>, StoreError> {
        self.reader.integer(
            "SELECT c.interval_ns FROM snapshots AS n
             JOIN captures AS c ON c.capture_id = n.capture_id WHERE n.snapshot_id = :id",
            &[(":id", Value::Integer(snapshot_id))],
        )
    }

    /// The protocols and families that any capture looked at, as `tcp/inet`.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn scopes(&self) -> Result<Vec<String>, StoreError> {
        let mut scopes = Vec::new();
        self.reader.run(
            "SELECT DISTINCT p.name || '/' || f.name ||
                 CASE WHEN sc.states = 4294967295 THEN '' ELSE ' in some states' END
             FROM scopes AS sc
             JOIN protocols AS p ON p.protocol = sc.protocol
             JOIN families AS f ON f.family = sc.family ORDER BY sc.scope_id",
            &[],
            |row| {
                if let [Value::Text(name)] = row {
                    scopes.push((*name).to_owned());
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(scopes)
    }

    /// By what the captures that looked in this span of UTC chose a part of the sockets: what they left
    /// out no answer can know.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn filters(&self, from_ns: i64, to_ns: i64) -> Result<Vec<RecordedFilter>, StoreError> {
        let mut filters = Vec::new();
        self.reader.run(
            include_str!("../../queries/recorded_filters.sql"),
            &[(":from_ns", Value::Integer(from_ns)), (":to_ns", Value::Integer(to_ns))],
            |row| {
                if let [
                    Value::Text(filter),
                    Value::Integer(is_taken),
                    Value::Integer(captures),
                    Value::Integer(captures_of_span),
                    scopes,
                ] = row
                {
                    let scopes = match scopes {
                        Value::Text(scopes) => Some((*scopes).to_owned()),
                        _ => None,
                    };
                    filters.push(RecordedFilter {
                        filter: (*filter).to_owned(),
                        is_taken: *is_taken != 0,
                        captures: *captures,
                        captures_of_span: *captures_of_span,
                        scopes,
                    });
                }
                Ok::<_, StoreError>(())
            },
        )?;
        Ok(filters)
    }

    /// Sockets that were recorded, all captures together.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn socket_count(&self) -> Result<i64, StoreError> {
        Ok(self.reader.integer("SELECT count(*) FROM sockets", &[])?.unwrap_or(0))
    }

    /// How many rows an answer will have at most, where that is quickly known.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn expected_rows(&self, question: Question) -> Result<Option<u64>, StoreError> {
        let sql = match question {
            Question::Connections | Question::Sockets => "SELECT max(socket_id) FROM sockets",
            Question::Snapshots => "SELECT max(snapshot_id) FROM snapshots",
            Question::Samples => "SELECT sum(samples) FROM group_sockets",
            _ => return Ok(None),
        };
        Ok(self.reader.integer(sql, &[])?.and_then(|n| u64::try_from(n).ok()))
    }
}

impl Question {
    fn sql(self, selection: &Selection) -> &'static str {
        match self {
            Self::Connections => include_str!("../../queries/connections.sql"),
            Self::At { .. } => include_str!("../../queries/sockets_at.sql"),
            Self::Samples if selection.sockets.socket_id.is_some() => {
                include_str!("../../queries/samples_of_socket.sql")
            }
            Self::Samples => include_str!("../../queries/samples.sql"),
            Self::Snapshots => include_str!("../../queries/snapshots.sql"),
            Self::Sockets => include_str!("../../queries/sockets.sql"),
            Self::Owners => include_str!("../../queries/owners.sql"),
            Self::Processes => include_str!("../../queries/processes.sql"),
            Self::Captures => include_str!("../../queries/captures.sql"),
            Self::Tables => include_str!("../../queries/tables.sql"),
            Self::Gaps => include_str!("../../queries/gaps.sql"),
            Self::Coverage => include_str!("../../queries/coverage.sql"),
            Self::Markers => include_str!("../../queries/markers.sql"),
            Self::Broken(assertion) => assertion.rule.sql,
        }
    }

    /// Where a row stands in time, for answers that `--from` and `--to` choose from as a whole.
    fn span_columns(self) -> Option<SpanColumns> {
        match self {
            // Who is not known to have closed counts up to when it was last seen.
            Self::Connections => Some(SpanColumns {
                first: "coalesce(opened_after_ns, opened_before_ns)",
                last: "coalesce(closed_before_ns, last_seen_at_ns)",
            }),
            Self::Sockets => {
                Some(SpanColumns { first: "first_seen_at_ns", last: "last_seen_at_ns" })
            }
            // A span that was never ended may go on.
            Self::Markers => Some(SpanColumns {
                first: "started_at_ns",
                last: "CASE WHEN is_span THEN ended_at_ns ELSE started_at_ns END",
            }),
            Self::Owners | Self::Processes => {
                Some(SpanColumns { first: "held_from_ns", last: "held_to_ns" })
            }
            _ => None,
        }
    }

    /// Whether options that choose sockets, or times, choose from its rows.
    fn is_chosen_from(self) -> bool {
        self.is_about_sockets() || self.span_columns().is_some()
    }

    /// Which rows `o` of `socket_owners` count for a row of the answer, where it names the first
    /// process of several.
    fn holders(self) -> Option<&'static str> {
        match self {
            Self::Connections | Self::Sockets => Some("1"),
            Self::At { .. } => Some(
                "o.first_snapshot_id <= :snapshot_id
                 AND coalesce(o.last_snapshot_id, :snapshot_id) >= :snapshot_id",
            ),
            _ => None,
        }
    }

    fn is_about_sockets(self) -> bool {
        matches!(
            self,
            Self::Connections | Self::At { .. } | Self::Samples | Self::Sockets | Self::Owners
        )
    }
}

/// The condition of a selection's filter on the answer's own rows.
fn filter_condition(
    question: Question,
    selection: &Selection,
    columns: &[(String, Column)],
) -> Result<Option<SqlCondition>, QueryError> {
    let Some(filter) = &selection.filter else { return Ok(None) };
    if matches!(question, Question::Broken(_)) {
        return Ok(None); // it chooses the sockets that the rule is about
    }
    let condition = filter.to_sql(Answer { columns, holders: question.holders() });
    Ok(Some(condition.map_err(|error| error.within(&selection.filter_text))?))
}

/// The column of this name.
fn find<'a>(all: &'a [(String, Column)], wanted: &str) -> Result<&'a (String, Column), QueryError> {
    all.iter().find(|(_, column)| column.name == wanted).ok_or_else(|| QueryError::UnknownColumn {
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
