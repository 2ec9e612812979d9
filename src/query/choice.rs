//! Which rows of an answer are wanted: options and FILTER as conditions of its query.

use super::question::Question;
use super::recording::{QueryError, Recording};
use super::selection::Selection;
use crate::filter::{ANSWER, Answer, Filter, SqlCondition};
use crate::model::{Column, OwnedValue};

/// Conditions, and the parameters that they name.
#[derive(Default)]
pub(super) struct Choice {
    /// On the rows that the question puts together.
    of_sources: Vec<String>,
    /// On its own rows.
    of_rows: Vec<String>,
    pub(super) parameters: Vec<(String, OwnedValue)>,
}

impl Choice {
    /// One more condition on the rows.
    pub(super) fn add_text(&mut self, condition: String) {
        self.of_rows.push(condition);
    }

    fn add(&mut self, condition: SqlCondition, is_of_sources: bool) {
        let conditions = if is_of_sources { &mut self.of_sources } else { &mut self.of_rows };
        conditions.push(condition.text);
        self.parameters.extend(condition.parameters);
    }
}

impl Recording {
    /// The columns that rows of an answer are chosen by, its own first.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn columns_to_choose_by(&self, question: Question) -> Result<Vec<Column>, QueryError> {
        let chosen = Selection::default();
        let rule = matches!(question, Question::Broken(_)).then_some(Question::Connections);
        let own = self.columns(rule.unwrap_or(question), &chosen)?;
        let source = question.gathers().map(|source| self.columns(source, &chosen)).transpose()?;
        Ok(own.into_iter().chain(source.into_iter().flatten()).collect())
    }

    /// The conditions of a selection. Sockets are chosen before they are put together; what a filter asks
    /// of the sums is asked after that.
    pub(super) fn choice(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<Choice, QueryError> {
        let mut choice = Choice::default();
        let source = question.gathers();
        let chosen_from = source.unwrap_or(question);
        if chosen_from.is_chosen_from() {
            let (conditions, parameters) = selection.conditions(chosen_from.span_columns());
            choice.parameters = parameters;
            match source {
                Some(_) => choice.of_sources = conditions,
                None => choice.of_rows = conditions,
            }
        }
        if let Some(host) = &selection.host {
            let columns = self.described(chosen_from, selection)?;
            if columns.iter().any(|(name, _)| name == "host_name") {
                let conditions = match source {
                    Some(_) => &mut choice.of_sources,
                    None => &mut choice.of_rows,
                };
                conditions.push("host_name = :host".to_owned());
                choice.parameters.push((":host".to_owned(), OwnedValue::Text(host.clone())));
            }
        }
        let Some(filter) = &selection.filter else { return Ok(choice) };
        if matches!(question, Question::Broken(_)) {
            return Ok(choice); // it chooses the sockets that the rule is about
        }
        let rows = self.described(question, selection)?;
        let Some(source) = source else {
            choice.add(condition(filter, question, &rows, selection)?, false);
            return Ok(choice);
        };
        let sources = self.described(source, &Selection::default())?;
        let (of_sources, of_rows) = parted(filter, |part| {
            condition(part, source, &sources, selection).is_ok()
                || condition(part, question, &rows, selection).is_err()
        });
        if let Some(filter) = of_sources {
            choice.add(condition(&filter, source, &sources, selection)?, true);
        }
        if let Some(filter) = of_rows {
            choice.add(condition(&filter, question, &rows, selection)?.renamed("sums"), false);
        }
        Ok(choice)
    }
}

impl Recording {
    /// Whether a row of a question's answer is wanted, as an expression, and the parameters that it names.
    pub(super) fn wanted(
        &self,
        question: Question,
        selection: &Selection,
    ) -> Result<(String, Vec<(String, OwnedValue)>), QueryError> {
        let choice = self.choice(question, selection)?;
        let conditions: Vec<_> = choice.of_rows.iter().map(|text| format!("({text})")).collect();
        let wanted = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        Ok((wanted, choice.parameters))
    }
}

/// What stands side by side with `and`, in two.
fn parted(filter: &Filter, is_first: impl Fn(&Filter) -> bool) -> (Option<Filter>, Option<Filter>) {
    let parts = match filter {
        Filter::And(parts) => parts.clone(),
        other => vec![other.clone()],
    };
    let (first, second): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_first);
    let joined = |parts: Vec<_>| (!parts.is_empty()).then_some(Filter::And(parts));
    (joined(first), joined(second))
}

fn condition(
    filter: &Filter,
    question: Question,
    columns: &[(String, Column)],
    selection: &Selection,
) -> Result<SqlCondition, QueryError> {
    let condition = filter.to_sql(Answer { columns, holders: question.holders() });
    Ok(condition.map_err(|error| error.within(&selection.filter_text))?)
}

/// A question's query for these columns.
pub(super) fn statement(
    question: Question,
    selection: &Selection,
    columns: &str,
    choice: &Choice,
) -> String {
    let chosen = |sql: &str, columns: &str, conditions: &[String]| {
        let mut statement = format!("SELECT {columns} FROM (\n{sql}\n) AS {ANSWER}");
        if !conditions.is_empty() {
            statement.push_str(" WHERE ");
            statement.push_str(&conditions.join(" AND "));
        }
        statement
    };
    let rows = chosen(&question.sql(selection), columns, &choice.of_rows);
    match question.gathers() {
        Some(source) => {
            let sources = source.sql(&Selection::default());
            format!("WITH chosen AS ({})\n{rows}", chosen(&sources, "*", &choice.of_sources))
        }
        None => rows,
    }
}
