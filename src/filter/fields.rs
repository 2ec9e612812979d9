//! The columns of the answers as a filter names them, and the values that they take.

use super::error::{FilterError, Span};
use super::lexer::Word;
use super::nearest::nearest;
use super::pattern::Pattern;
use super::quantity::{Unit, has_unit};
use super::services::Services;
use super::tree::Comparison;
use crate::model::{Column, Family, Kind, Protocol, SHORT_ID_LEN};

/// What a filter's words can mean beside the language itself.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    /// Every column of every answer.
    pub columns: &'a [Column],
    /// Those of the answer whose rows are chosen: a name means them before others.
    pub answer: &'a [Column],
    /// Names of ports.
    pub services: &'a Services,
    /// Reads a time; gives UTC nanoseconds, or what is wrong with it.
    pub moment: &'a dyn Fn(&str) -> Result<i64, String>,
}

/// What a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A column.
    Column {
        /// Its name.
        name: &'static str,
        /// What its values are.
        kind: Kind,
    },
    /// What lies between two columns, both included.
    Between {
        /// The name that both have in common.
        name: &'static str,
        /// The column of the least that it can be.
        least: &'static str,
        /// The column of the most that it can be.
        most: &'static str,
        /// What the values of both are.
        kind: Kind,
    },
}

/// What a field is compared with, in the unit that the column is stored in.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A number; an identifier in the bits of an `i64`; 1 for true and 0 for false.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text, perhaps with wildcards.
    Text(Pattern),
}

/// What is known as an interval: its name and the columns of its ends.
const INTERVALS: &[(&str, &str, &str, Kind)] = &[
    ("duration", "duration_min_ns", "duration_max_ns", Kind::Duration),
    ("time_wait", "time_wait_min_ns", "time_wait_max_ns", Kind::Duration),
    ("in_state", "in_state_min_ns", "in_state_max_ns", Kind::Duration),
    ("opened", "opened_after", "opened_before", Kind::Time),
    ("closed", "closed_after", "closed_before", Kind::Time),
];

/// Endings of columns that may be left out, where a value is given if it has a unit.
pub const UNIT_ENDINGS: [&str; 5] = ["_us", "_ms", "_ns", "_bytes", "_bytes_per_s"];

/// What `direction` can be.
const DIRECTIONS: [&str; 2] = ["inbound", "outbound"];

/// What `ending` can be.
const ENDINGS: [&str; 4] = ["orderly", "reset", "timed_out", "not_established"];

impl Field {
    /// The field of this name, and whether its value needs a unit because the name has none.
    pub(super) fn find(name: &str, vocabulary: &Vocabulary<'_>) -> Option<(Self, bool)> {
        Self::among(name, vocabulary.answer).or_else(|| Self::among(name, vocabulary.columns))
    }

    fn among(name: &str, columns: &[Column]) -> Option<(Self, bool)> {
        let column = |name: &str| columns.iter().find(|column| column.name == name);
        if let Some(found) = column(name) {
            return Some((Self::Column { name: found.name, kind: found.kind }, false));
        }
        let interval = INTERVALS.iter().find(|known| known.0 == name && column(known.1).is_some());
        if let Some(&(name, least, most, kind)) = interval {
            return Some((Self::Between { name, least, most, kind }, kind == Kind::Duration));
        }
        let found = UNIT_ENDINGS.iter().find_map(|ending| column(&format!("{name}{ending}")))?;
        Some((Self::Column { name: found.name, kind: found.kind }, true))
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Column { name, .. } | Self::Between { name, .. } => name,
        }
    }

    /// What its values are.
    pub fn kind(self) -> Kind {
        match self {
            Self::Column { kind, .. } | Self::Between { kind, .. } => kind,
        }
    }

    fn unit(self) -> Unit {
        match (self.kind(), self) {
            (Kind::Duration, _) => Unit::Time(1),
            (_, Self::Column { name, .. }) => Unit::of_column(name),
            (_, Self::Between { .. }) => Unit::None,
        }
    }

    /// Whether its values have an order that means something.
    pub(super) fn is_ordered(self) -> bool {
        matches!(self.kind(), Kind::Integer | Kind::Real | Kind::Time | Kind::Duration)
    }

    /// Whether one socket can have several values: each process that holds it has its own.
    pub fn may_have_several(self) -> bool {
        matches!(self.name(), "pid" | "comm" | "exe" | "command_line" | "user")
    }

    /// Whether a value may be what people are shown of the id of a container, its first digits.
    fn may_be_start_of_id(self, text: Option<String>) -> bool {
        matches!(self.name(), "netns" | "container") && text.is_some_and(|text| is_short_id(&text))
    }

    /// Reads what it is compared with.
    pub(super) fn operand(
        self,
        word: &Word,
        comparison: Comparison,
        needs_unit: bool,
        vocabulary: &Vocabulary<'_>,
    ) -> Result<Operand, FilterError> {
        let text = word.text();
        let name = self.name();
        let error = |message: String| FilterError::new(word.span.clone(), message);
        if !self.is_ordered() && comparison != Comparison::Equal {
            return Err(error(format!("`{name}` is equal or not, there is no order in it"))
                .hint(format!("write `{name} = …` or `{name} != …`")));
        }
        match self.kind() {
            Kind::Integer | Kind::Duration => {
                let unit = self.unit();
                if needs_unit && !has_unit(&text) {
                    return Err(error(format!("`{name}` wants a unit: {text} of what?"))
                        .hint(unit.examples()));
                }
                let amount = unit.read(&text).map(Operand::Integer);
                amount.ok_or_else(|| {
                    error(format!("`{text}` is no value for `{name}`")).hint(unit.examples())
                })
            }
            Kind::Real => Unit::read_share(&text).map(Operand::Real).ok_or_else(|| {
                error(format!("`{text}` is no value for `{name}`")).hint(Unit::Share.examples())
            }),
            Kind::Identifier => {
                text.parse().map(|id: u64| Operand::Integer(id.cast_signed())).map_err(|_| {
                    error(format!("`{text}` is no value for `{name}`"))
                        .hint("give its decimal number")
                })
            }
            Kind::Boolean => truth(&text).map(Operand::Integer).ok_or_else(|| {
                error(format!("`{text}` is neither true nor false"))
                    .hint(format!("write `{name}` or `not {name}`"))
            }),
            Kind::Time => moment(&text, vocabulary).map(Operand::Integer).map_err(|message| {
                error(message)
                    .hint("write `'2026-11-21 14:03'` in quotes, `14:03`, `'10m ago'` or `@UNIX`")
            }),
            Kind::Text => {
                let pattern = word.pattern();
                self.check_text(&pattern, &word.span)?;
                let is_start = self.may_be_start_of_id(word.plain_text());
                Ok(Operand::Text(if is_start { pattern.with_any_end() } else { pattern }))
            }
            Kind::Bytes => Err(error(format!("`{name}` holds bytes, which are not compared"))),
        }
    }

    /// A text that the column never holds is most likely a slip.
    fn check_text(self, pattern: &Pattern, span: &Span) -> Result<(), FilterError> {
        let values: Vec<&str> = match self.name() {
            "protocol" => Protocol::ALL.iter().map(|p| p.name()).collect(),
            "family" => Family::ALL.iter().map(|f| f.name()).collect(),
            "direction" => DIRECTIONS.to_vec(),
            "ending" => ENDINGS.to_vec(),
            _ => return Ok(()),
        };
        if values.iter().any(|value| pattern.matches(value)) {
            return Ok(());
        }
        let text = pattern.to_string();
        let message = format!("`{}` is never `{text}`", self.name());
        let otherwise = format!("it is one of {}", values.join(", "));
        Err(FilterError::new(span.clone(), message)
            .did_you_mean(nearest(&text, values.iter().copied()), &otherwise))
    }

    /// Writes an operand as it can be read again.
    pub(super) fn text_of(self, operand: &Operand) -> String {
        match (operand, self.kind()) {
            (Operand::Text(pattern), _) => {
                let is_quoted = self.may_be_start_of_id(pattern.text());
                format!("{}{pattern}", if is_quoted { "\\" } else { "" })
            }
            (Operand::Real(number), _) => format!("{number:?}"),
            (Operand::Integer(n), Kind::Identifier) => n.cast_unsigned().to_string(),
            (Operand::Integer(n), Kind::Boolean) => (*n != 0).to_string(),
            (Operand::Integer(n), Kind::Time) => unix_text(*n),
            (Operand::Integer(n), Kind::Duration) => format!("{n}ns"),
            (Operand::Integer(n), _) => n.to_string(),
        }
    }
}

/// Every name that a field can have, without the ending that is a unit where it has one.
pub(super) fn names(columns: &[Column]) -> impl Iterator<Item = &str> {
    let column = |name: &str| columns.iter().any(|column| column.name == name);
    let intervals = INTERVALS.iter().filter(move |known| column(known.1)).map(|known| known.0);
    let stems = columns.iter().filter_map(|column| {
        UNIT_ENDINGS.iter().find_map(|ending| column.name.strip_suffix(ending))
    });
    columns.iter().map(|column| column.name).chain(intervals).chain(stems)
}

fn is_short_id(text: &str) -> bool {
    text.len() == SHORT_ID_LEN && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn truth(text: &str) -> Option<i64> {
    match text {
        "true" | "yes" | "1" => Some(1),
        "false" | "no" | "0" => Some(0),
        _ => None,
    }
}

fn moment(text: &str, vocabulary: &Vocabulary<'_>) -> Result<i64, String> {
    match text.strip_prefix('@') {
        Some(seconds) => {
            Unit::Time(1).read(&format!("{seconds}s")).ok_or_else(|| format!("`{text}` is no time"))
        }
        None => (vocabulary.moment)(text),
    }
}

fn unix_text(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("@{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
