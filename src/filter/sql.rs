//! The tree as a condition on the rows of an answer. Values are parameters, never text of the query.

use super::error::{FilterError, Span};
use super::fields::{Field, Operand};
use super::pattern::Pattern;
use super::tree::{Comparison, Condition, Device, Filter, Side};
use crate::model::{Column, OwnedValue, States, TcpState};

/// Name of the SQL function that tells whether an address begins with a prefix; NULL of NULL.
pub const PREFIX_FUNCTION: &str = "in_prefix";
/// What the names of its parameters begin with.
const PARAMETER: &str = ":filter_";
/// SQLite takes 32,766 parameters; an answer has some of its own.
const MOST_PARAMETERS: usize = 32_000;
/// What the condition calls the answer that it chooses from.
pub const ANSWER: &str = "answer";

/// An answer whose rows are chosen from.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// Its columns, each with its name in the query.
    pub columns: &'a [(String, Column)],
    /// Where each row is a socket that processes hold: which of the rows `o` of `socket_owners`
    /// count, as a condition behind `AND`.
    pub holders: Option<&'static str>,
}

/// A condition and the named parameters in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlCondition {
    /// The condition.
    pub text: String,
    /// Names, with their colon, and values.
    pub parameters: Vec<(String, OwnedValue)>,
}

impl SqlCondition {
    /// The same with other names of parameters, to stand beside another condition.
    #[must_use]
    pub fn renamed(self, stem: &str) -> Self {
        let new = |text: &str| text.replace(PARAMETER, &format!(":{stem}_"));
        let text = new(&self.text); // which holds no text of the user
        Self { text, parameters: self.parameters.into_iter().map(|(n, v)| (new(&n), v)).collect() }
    }
}

impl Filter {
    /// The condition that chooses the rows of an answer for which this is true.
    ///
    /// # Errors
    /// When the answer lacks a column that is asked for, or recordings do.
    pub fn to_sql(&self, answer: Answer<'_>) -> Result<SqlCondition, FilterError> {
        let mut writer = Writer { answer, parameters: Vec::new() };
        let text = writer.filter(self)?;
        if writer.parameters.len() > MOST_PARAMETERS {
            let message = format!("a filter of more than {MOST_PARAMETERS} values is too long");
            return Err(FilterError::new(0..0, message)
                .hint("say it by ranges or prefixes, or ask several times"));
        }
        Ok(SqlCondition { text, parameters: writer.parameters })
    }
}

struct Writer<'a> {
    answer: Answer<'a>,
    parameters: Vec<(String, OwnedValue)>,
}

impl Writer<'_> {
    fn filter(&mut self, filter: &Filter) -> Result<String, FilterError> {
        match filter {
            Filter::And(filters) => self.joined(filters, " AND "),
            Filter::Or(filters) => self.joined(filters, " OR "),
            Filter::Not(inner) => Ok(format!("(NOT {})", self.filter(inner)?)),
            Filter::Is(condition, span) => self.condition(condition, span),
        }
    }

    /// Joined two by two: SQLite bounds the depth of an expression.
    fn joined(&mut self, filters: &[Filter], joint: &str) -> Result<String, FilterError> {
        match filters {
            [only] => self.filter(only),
            _ => {
                let (left, right) = filters.split_at(filters.len() / 2);
                let (left, right) = (self.joined(left, joint)?, self.joined(right, joint)?);
                Ok(format!("({left}{joint}{right})"))
            }
        }
    }

    fn condition(&mut self, condition: &Condition, span: &Span) -> Result<String, FilterError> {
        match condition {
            Condition::State(states) => self.state(*states, span),
            Condition::Host { side, prefix, port } => {
                let mut parts = Vec::new();
                if let Some(prefix) = prefix {
                    let column = self.column(address_column(*side), span)?;
                    let value = self.bind(OwnedValue::Text(prefix.to_string()));
                    parts.push(format!("{PREFIX_FUNCTION}({column}, {value})"));
                }
                if let Some(port) = port {
                    parts.push(self.compared(
                        port_column(*side),
                        Comparison::Equal,
                        OwnedValue::Integer((*port).into()),
                        span,
                    )?);
                }
                Ok(if parts.is_empty() { "1".to_owned() } else { parts.join(" AND ") })
            }
            Condition::Port { side, comparison, port } => {
                let port = OwnedValue::Integer((*port).into());
                self.compared(port_column(*side), *comparison, port, span)
            }
            Condition::Device(Device::Index(index)) => {
                let column = self.column("interface", span)?;
                let value = self.bind(OwnedValue::Integer((*index).into()));
                Ok(format!("coalesce({column}, 0) = {value}")) // NULL: bound to none
            }
            Condition::Device(Device::Name(name)) => Err(FilterError::new(
                span.clone(),
                format!("a recording knows devices by number, not by the name `{name}`"),
            )
            .hint("`ip link` on the recorded machine tells the number: `dev = 2`")),
            Condition::Mark { mark, mask } => {
                let column = self.column("mark", span)?;
                let mark = self.bind(OwnedValue::Integer((*mark).into()));
                let mask = self.bind(OwnedValue::Integer((*mask).into()));
                Ok(format!("({column} & {mask}) = {mark}"))
            }
            Condition::Cgroup { path, .. } => {
                let column = self.column("cgroup", span)?;
                Ok(self.like(&column, path))
            }
            Condition::Autobound => Err(FilterError::new(
                span.clone(),
                "only the kernel knows which ports it chose: `autobound` is for `record` alone",
            )),
            Condition::Field { field, comparison, operand } => {
                self.field(*field, *comparison, operand, span)
            }
        }
        .map(|text| format!("({text})"))
    }

    fn state(&mut self, states: States, span: &Span) -> Result<String, FilterError> {
        let column = self.column("state", span)?;
        if states == States::ALL {
            return Ok("1".to_owned());
        }
        let named = TcpState::NAMED.iter().map(|(state, _)| *state);
        let all_named = named.fold(States::NONE, |all, state| all.union(States::only(state)));
        // States of later kernels have a number for a name.
        let has_others = states.without(all_named) != States::NONE;
        let names: Vec<_> = TcpState::NAMED
            .iter()
            .filter(|(state, _)| states.shows(*state) != has_others)
            .map(|(_, name)| self.bind(OwnedValue::Text((*name).to_owned())))
            .collect();
        let sign = if has_others { "NOT IN" } else { "IN" };
        Ok(format!("{column} {sign} ({})", names.join(", ")))
    }

    fn field(
        &mut self,
        field: Field,
        comparison: Comparison,
        operand: &Operand,
        span: &Span,
    ) -> Result<String, FilterError> {
        let value = match operand {
            Operand::Integer(n) => OwnedValue::Integer(*n),
            Operand::Real(n) => OwnedValue::Real(*n),
            Operand::Text(pattern) => return self.text(field, pattern, span),
        };
        match field {
            Field::Between { least, most, .. } => {
                let shown = |column| {
                    let missing = |e: FilterError| FilterError {
                        message: format!("this answer does not tell `{}`", field.name()),
                        ..e
                    };
                    self.column(column, span).map_err(missing)
                };
                let (least, most) = (shown(least)?, shown(most)?);
                let value = self.bind(value);
                Ok(between(&least, &most, comparison, &value))
            }
            Field::Column { name, .. } => match self.answer.holders {
                Some(holders) if field.may_have_several() => {
                    let value = self.bind(value);
                    let condition = format!("w.{name} {} {value}", comparison.sign());
                    self.held_by_one(&condition, holders, name, span)
                }
                _ => self.compared(name, comparison, value, span),
            },
        }
    }

    fn text(
        &mut self,
        field: Field,
        pattern: &Pattern,
        span: &Span,
    ) -> Result<String, FilterError> {
        let name = field.name();
        match self.answer.holders {
            Some(holders) if field.may_have_several() => {
                let condition = self.like(&format!("w.{name}"), pattern);
                self.held_by_one(&condition, holders, name, span)
            }
            _ => {
                let column = self.column(name, span)?;
                Ok(self.like(&column, pattern))
            }
        }
    }

    /// Whether one of the processes that hold the socket is so; unknown where none is known.
    fn held_by_one(
        &self,
        condition: &str,
        holders: &str,
        name: &str,
        span: &Span,
    ) -> Result<String, FilterError> {
        let shown = self.column(name, span)?;
        Ok(format!(
            "CASE WHEN {shown} IS NOT NULL THEN EXISTS (
                SELECT 1 FROM socket_owners AS o
                JOIN processes AS w ON w.process_id = o.process_id
                WHERE o.socket_id = {ANSWER}.socket_id AND {holders} AND {condition}
            ) END"
        ))
    }

    fn like(&mut self, column: &str, pattern: &Pattern) -> String {
        match pattern.text() {
            Some(text) => format!("{column} = {}", self.bind(OwnedValue::Text(text))),
            None => format!("{column} GLOB {}", self.bind(OwnedValue::Text(pattern.glob()))),
        }
    }

    fn compared(
        &mut self,
        column: &str,
        comparison: Comparison,
        value: OwnedValue,
        span: &Span,
    ) -> Result<String, FilterError> {
        let column = self.column(column, span)?;
        Ok(format!("{column} {} {}", comparison.sign(), self.bind(value)))
    }

    fn column(&self, name: &str, span: &Span) -> Result<String, FilterError> {
        let found = self.answer.columns.iter().find(|(_, column)| column.name == name);
        match found {
            Some((sql_name, _)) => Ok(format!("{ANSWER}.\"{sql_name}\"")),
            None => {
                Err(FilterError::new(span.clone(), format!("this answer has no column `{name}`"))
                    .hint(self.columns_instead_of(name)))
            }
        }
    }

    fn columns_instead_of(&self, name: &str) -> String {
        let names = self.answer.columns.iter().map(|(_, column)| column.name);
        let like: Vec<_> = names
            .filter(|own| own.contains(name) || (own.len() > 3 && name.contains(own)))
            .map(|own| format!("`{own}`"))
            .collect();
        if like.is_empty() || like.len() > 5 {
            return "`--columns help` lists those that it has".to_owned();
        }
        format!("it has {}; `--columns help` lists all", like.join(", "))
    }

    fn bind(&mut self, value: OwnedValue) -> String {
        let name = format!("{PARAMETER}{}", self.parameters.len());
        self.parameters.push((name.clone(), value));
        name
    }
}

fn address_column(side: Side) -> &'static str {
    if side == Side::Local { "local_address" } else { "remote_address" }
}

fn port_column(side: Side) -> &'static str {
    if side == Side::Local { "local_port" } else { "remote_port" }
}

/// Whether what lies between two values compares so: unknown where that depends on where it lies.
fn between(least: &str, most: &str, comparison: Comparison, value: &str) -> String {
    let (is_true, is_false) = match comparison {
        Comparison::Equal => (
            format!("{least} = {value} AND {most} = {value}"),
            format!("{least} > {value} OR {most} < {value}"),
        ),
        Comparison::Less | Comparison::LessOrEqual => {
            let opposite = if comparison == Comparison::Less { ">=" } else { ">" };
            let sign = comparison.sign();
            (format!("{most} {sign} {value}"), format!("{least} {opposite} {value}"))
        }
        Comparison::Greater | Comparison::GreaterOrEqual => {
            let opposite = if comparison == Comparison::Greater { "<=" } else { "<" };
            let sign = comparison.sign();
            (format!("{least} {sign} {value}"), format!("{most} {opposite} {value}"))
        }
    };
    format!("CASE WHEN {is_true} THEN 1 WHEN {is_false} THEN 0 END")
}
