//! Filters that are never true: most likely a slip, and an empty answer would not tell.

use super::error::{FilterError, Span};
use super::fields::{Field, Operand};
use super::host::Prefix;
use super::pattern::Pattern;
use super::tree::{Comparison, Condition, Device, Filter, Side};
use crate::model::States;

/// Beyond so many conditions that must all hold nothing is claimed: each is held against each.
const MOST: usize = 500;

/// A condition or its opposite.
#[derive(Clone, Copy)]
struct Literal<'f> {
    condition: &'f Condition,
    span: &'f Span,
    is_negated: bool,
}

/// Refuses a filter that is never true.
///
/// # Errors
/// When conditions that must all hold exclude each other.
pub(super) fn check(filter: &Filter, text: &str) -> Result<(), FilterError> {
    let filter = filter.with_inner_negations();
    let Some((last, first)) = conflict(&[], &filter) else { return Ok(()) };
    let shown = |literal: Literal<'_>| &text[literal.span.clone()];
    let message = match first {
        Some(first) => {
            let not = |literal: Literal<'_>| if literal.is_negated { "not " } else { "" };
            format!(
                "this filter is never true: `{}{}` and `{}{}` exclude each other",
                not(first),
                shown(first),
                not(last),
                shown(last)
            )
        }
        None if last.is_negated => {
            format!("this filter is never true: `{}` always holds", shown(last))
        }
        None => format!("this filter is never true: `{}` never holds", shown(last)),
    };
    let error = FilterError::new(last.span.clone(), message);
    Err(if first.is_some() { error.hint("did you mean `or`?") } else { error })
}

/// A condition that cannot hold beside the known ones, and the one that it clashes with, if it is
/// possible by itself.
fn conflict<'f>(
    known: &[Literal<'f>],
    filter: &'f Filter,
) -> Option<(Literal<'f>, Option<Literal<'f>>)> {
    let mut literals = known.to_vec();
    let mut choices = Vec::new();
    let mut ahead = vec![filter];
    while let Some(part) = ahead.pop() {
        let (inner, is_negated) = match part {
            Filter::Not(inner) => (&**inner, true),
            _ => (part, false),
        };
        match inner {
            Filter::And(filters) => ahead.extend(filters.iter().rev()),
            Filter::Or(filters) => choices.push(filters),
            Filter::Not(_) => {}
            Filter::Is(condition, span) => {
                let literal = Literal { condition, span, is_negated };
                if literal.is_impossible() {
                    return Some((literal, None));
                }
                if let Some(other) = literals.iter().find(|other| other.excludes(&literal)) {
                    return Some((literal, Some(*other)));
                }
                literals.push(literal);
            }
        }
        if literals.len() > MOST {
            return None;
        }
    }
    choices.into_iter().find_map(|branches| {
        let mut first = None;
        for branch in branches {
            let found = conflict(&literals, branch)?;
            first = first.or(Some(found));
        }
        first
    })
}

impl Literal<'_> {
    fn is_impossible(&self) -> bool {
        match (self.condition, self.is_negated) {
            (Condition::State(states), _) => *states == States::NONE,
            (Condition::Host { prefix: None, port: None, .. }, true) => true,
            (Condition::Port { .. }, _) => match self.port() {
                Some((_, Comparison::Less, port)) => port == 0,
                Some((_, Comparison::Greater, port)) => port == u16::MAX,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether both cannot hold.
    fn excludes(&self, other: &Self) -> bool {
        if self.condition == other.condition {
            return self.is_negated != other.is_negated;
        }
        self.clashes_in_ports(other)
            || self.rules_out_port_of(other)
            || other.rules_out_port_of(self)
            || self.clashes_in_addresses(other)
            || self.clashes_in_values(other)
    }

    /// What it says of a port, where that is one comparison.
    fn port(&self) -> Option<(Side, Comparison, u16)> {
        match self.condition {
            Condition::Port { side, comparison, port } => {
                Some((*side, comparison_if(*comparison, self.is_negated)?, *port))
            }
            Condition::Host { side, port: Some(port), .. } if !self.is_negated => {
                Some((*side, Comparison::Equal, *port))
            }
            _ => None,
        }
    }

    fn clashes_in_ports(&self, other: &Self) -> bool {
        let (Some((side, a, x)), Some((other_side, b, y))) = (self.port(), other.port()) else {
            return false;
        };
        side == other_side && no_number_is(a, x, b, y)
    }

    /// The port that it rules out.
    fn other_port(&self) -> Option<(Side, u16)> {
        match self.condition {
            Condition::Port { side, comparison: Comparison::Equal, port } if self.is_negated => {
                Some((*side, *port))
            }
            _ => None,
        }
    }

    fn rules_out_port_of(&self, other: &Self) -> bool {
        self.other_port().zip(other.port()).is_some_and(|((side, port), (of, comparison, own))| {
            (side, port, Comparison::Equal) == (of, own, comparison)
        })
    }

    fn prefix(&self) -> Option<(Side, Prefix)> {
        match self.condition {
            Condition::Host { side, prefix: Some(prefix), .. } if !self.is_negated => {
                Some((*side, *prefix))
            }
            _ => None,
        }
    }

    fn clashes_in_addresses(&self, other: &Self) -> bool {
        let (Some((side, a)), Some((other_side, b))) = (self.prefix(), other.prefix()) else {
            return false;
        };
        side == other_side && a.excludes(b)
    }

    fn clashes_in_values(&self, other: &Self) -> bool {
        let are_positive = !self.is_negated && !other.is_negated;
        match (self.condition, other.condition) {
            (Condition::State(a), Condition::State(b)) => a.intersection(*b) == States::NONE,
            (Condition::Device(Device::Index(a)), Condition::Device(Device::Index(b))) => {
                are_positive && a != b
            }
            (Condition::Mark { mark: a, mask }, Condition::Mark { mark: b, mask: other_mask }) => {
                are_positive && (a ^ b) & mask & other_mask != 0
            }
            (Condition::Cgroup { path: a, .. }, Condition::Cgroup { path: b, .. }) => {
                are_positive && texts_clash(a, b)
            }
            (
                Condition::Field { field, comparison, operand },
                Condition::Field { field: other_field, comparison: b, operand: y },
            ) if field == other_field => {
                let a = comparison_if(*comparison, self.is_negated);
                let b = comparison_if(*b, other.is_negated);
                a.zip(b).is_some_and(|(a, b)| fields_clash(*field, (a, operand), (b, y)))
            }
            _ => false,
        }
    }
}

/// The comparison, or its opposite; `None` for unequal.
fn comparison_if(comparison: Comparison, is_negated: bool) -> Option<Comparison> {
    Some(match (comparison, is_negated) {
        (comparison, false) => comparison,
        (Comparison::Equal, true) => return None,
        (Comparison::Less, true) => Comparison::GreaterOrEqual,
        (Comparison::LessOrEqual, true) => Comparison::Greater,
        (Comparison::Greater, true) => Comparison::LessOrEqual,
        (Comparison::GreaterOrEqual, true) => Comparison::Less,
    })
}

fn fields_clash(
    field: Field,
    (a, x): (Comparison, &Operand),
    (b, y): (Comparison, &Operand),
) -> bool {
    match (x, y) {
        _ if field.may_have_several() => false,
        (Operand::Integer(x), Operand::Integer(y)) => no_number_is(a, *x, b, *y),
        (Operand::Real(x), Operand::Real(y)) => clashes(a, x, b, y),
        (Operand::Text(x), Operand::Text(y)) => texts_clash(x, y),
        _ => false,
    }
}

/// Whether no whole number can compare so with both.
fn no_number_is(a: Comparison, x: impl Into<i128>, b: Comparison, y: impl Into<i128>) -> bool {
    let range = |comparison, number| match comparison {
        Comparison::Equal => (number, number),
        Comparison::Less => (i128::MIN, number - 1),
        Comparison::LessOrEqual => (i128::MIN, number),
        Comparison::Greater => (number + 1, i128::MAX),
        Comparison::GreaterOrEqual => (number, i128::MAX),
    };
    let (a, b) = (range(a, x.into()), range(b, y.into()));
    a.0.max(b.0) > a.1.min(b.1)
}

/// Whether no value can compare so with both.
fn clashes<T: PartialOrd>(a: Comparison, x: &T, b: Comparison, y: &T) -> bool {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    match (a, b) {
        (Equal, b) => !b.holds(x, y),
        (a, Equal) => !a.holds(y, x),
        (Less | LessOrEqual, Less | LessOrEqual) => false,
        (Greater | GreaterOrEqual, Greater | GreaterOrEqual) => false,
        (LessOrEqual, GreaterOrEqual) => x < y,
        (GreaterOrEqual, LessOrEqual) => x > y,
        (Less | LessOrEqual, _) => x <= y,
        (Greater | GreaterOrEqual, _) => x >= y,
    }
}

fn texts_clash(a: &Pattern, b: &Pattern) -> bool {
    match (a.text(), b.text()) {
        (Some(a), _) => !b.matches(&a),
        (_, Some(b)) => !a.matches(&b),
        (None, None) => false,
    }
}
