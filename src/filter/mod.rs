//! The filter language of `ss`, with the columns of the answers beside it: text to one typed tree,
//! and from the tree to what evaluates it.
//!
//! Every evaluation follows SQL's logic of three values: a condition on what is not known is neither
//! true nor false, nor is its negation. docs/FILTER.md is the manual.

mod bytecode;
mod contradiction;
mod error;
mod fields;
mod host;
mod lexer;
mod nearest;
mod parser;
mod pattern;
mod predicate;
mod quantity;
mod services;
mod sql;
mod states;
mod tree;

pub use bytecode::{KernelFilter, Narrowed};
pub use error::{FilterError, Span};
pub use fields::{Field, Operand, UNIT_ENDINGS, Vocabulary};
pub use host::Prefix;
pub use nearest::nearest;
pub use pattern::Pattern;
pub use predicate::{Names, Told};
pub use services::Services;
pub use sql::{ANSWER, Answer, PREFIX_FUNCTION, SqlCondition};
pub use states::{STATE_NAMES, states_named};
pub use tree::{Comparison, Condition, Device, Filter, Side};
