//! The typed tree, and its text.

use std::fmt;

use super::error::Span;
use super::fields::{Field, Operand};
use super::host::Prefix;
use super::pattern::Pattern;
use super::states;
use crate::model::States;

/// Which end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `src`, `sport`: this end.
    Local,
    /// `dst`, `dport`: the other end.
    Remote,
}

/// How two values are compared. `!=` is `not` and `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds between two values.
    pub fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// Its number, which stands in recordings.
    Index(u32),
    /// Its name, which means something on its machine only.
    Name(String),
}

/// One thing that is asked of a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// It is in one of these states.
    State(States),
    /// The address of one end begins so, and its port is this one; `None` for any.
    Host {
        /// Which end.
        side: Side,
        /// How its address begins.
        prefix: Option<Prefix>,
        /// Its port.
        port: Option<u16>,
    },
    /// The port of one end compares so.
    Port {
        /// Which end.
        side: Side,
        /// How.
        comparison: Comparison,
        /// With what.
        port: u16,
    },
    /// It is bound to this device.
    Device(Device),
    /// Its mark has these bits, of those in the mask.
    Mark {
        /// The bits, none outside of the mask.
        mark: u32,
        /// Which bits count.
        mask: u32,
    },
    /// It was made in this cgroup (v2), by its path.
    Cgroup {
        /// The path, perhaps with wildcards.
        path: Pattern,
        /// Its id on this machine, once it was looked up.
        id: Option<u64>,
    },
    /// The kernel chose its port.
    Autobound,
    /// A column of an answer compares so.
    Field {
        /// The column.
        field: Field,
        /// How.
        comparison: Comparison,
        /// With what.
        operand: Operand,
    },
}

/// A filter, see docs/FILTER.md.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of these hold.
    And(Vec<Filter>),
    /// One of these holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A condition, and where it stands in the text.
    Is(Condition, Span),
}

impl Filter {
    /// The same with `not` before conditions only. That changes nothing in the logic of three values.
    #[must_use]
    pub fn with_inner_negations(&self) -> Self {
        self.negated_if(false)
    }

    /// The opposite, with `not` before conditions only.
    pub(super) fn negated_if(&self, is_negated: bool) -> Self {
        let each = |filters: &[Self]| filters.iter().map(|f| f.negated_if(is_negated)).collect();
        match self {
            Self::Not(inner) => inner.negated_if(!is_negated),
            Self::And(filters) if is_negated => Self::Or(each(filters)),
            Self::Or(filters) if is_negated => Self::And(each(filters)),
            Self::And(filters) => Self::And(each(filters)),
            Self::Or(filters) => Self::Or(each(filters)),
            Self::Is(Condition::State(states), span) if is_negated => {
                Self::Is(Condition::State(States::ALL.without(*states)), span.clone())
            }
            Self::Is(..) if is_negated => Self::Not(Box::new(self.clone())),
            Self::Is(..) => self.clone(),
        }
    }

    /// Every condition in it, from left to right.
    pub fn conditions(&self) -> Vec<(&Condition, &Span)> {
        match self {
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().flat_map(Self::conditions).collect()
            }
            Self::Not(inner) => inner.conditions(),
            Self::Is(condition, span) => vec![(condition, span)],
        }
    }

    /// Whether it asks for one of these columns.
    pub fn asks_for(&self, columns: &[&str]) -> bool {
        self.conditions().iter().any(|(condition, _)| match condition {
            Condition::Mark { .. } => columns.contains(&"mark"),
            Condition::Cgroup { .. } => columns.contains(&"cgroup"),
            Condition::Field { field, .. } => columns.contains(&field.name()),
            _ => false,
        })
    }

    /// The number that a column has wherever the filter holds, if it names one.
    pub fn only_value_of(&self, column: &str) -> Option<i64> {
        match self {
            Self::And(filters) => filters.iter().find_map(|f| f.only_value_of(column)),
            Self::Is(
                Condition::Field {
                    field,
                    comparison: Comparison::Equal,
                    operand: Operand::Integer(value),
                },
                _,
            ) if field.name() == column => Some(*value),
            _ => None,
        }
    }

    /// All of these; one alone is itself.
    pub(super) fn all(mut filters: Vec<Self>) -> Self {
        match filters.pop() {
            Some(only) if filters.is_empty() => only,
            last => {
                filters.extend(last);
                Self::And(filters)
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filters, word) = match self {
            Self::Is(condition, _) => return condition.fmt(f),
            Self::Not(inner) => {
                f.write_str("not ")?;
                return inner.fmt_within(f);
            }
            Self::And(filters) => (filters, " and "),
            Self::Or(filters) => (filters, " or "),
        };
        for (n, filter) in filters.iter().enumerate() {
            if n > 0 {
                f.write_str(word)?;
            }
            filter.fmt_within(f)?;
        }
        Ok(())
    }
}

impl Filter {
    fn fmt_within(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(_) | Self::Or(_) => write!(f, "( {self} )"),
            Self::Not(_) | Self::Is(..) => fmt::Display::fmt(self, f),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(states) => f.write_str(&states::text(*states)),
            Self::Host { side, prefix, port } => {
                f.write_str(if *side == Side::Local { "src " } else { "dst " })?;
                match prefix {
                    Some(prefix) => prefix.fmt(f)?,
                    None => f.write_str("*")?,
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Port { side, comparison, port } => {
                let name = if *side == Side::Local { "sport" } else { "dport" };
                write!(f, "{name} {} :{port}", comparison.sign())
            }
            Self::Device(Device::Index(index)) => write!(f, "dev = {index}"),
            Self::Device(Device::Name(name)) => write!(f, "dev = {}", Pattern::exactly(name)),
            Self::Mark { mark, mask } => write!(f, "fwmark = {mark:#x}/{mask:#x}"),
            Self::Cgroup { path, .. } => write!(f, "cgroup = {path}"),
            Self::Autobound => f.write_str("autobound"),
            Self::Field { field, comparison, operand } => {
                write!(f, "{} {} {}", field.name(), comparison.sign(), field.text_of(operand))
            }
        }
    }
}
