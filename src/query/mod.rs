//! Questions to a recording, each answered by a file of `queries/`.
//!
//! An answer is a stream of rows with named columns; what it cannot know is NULL. What may have
//! been missed is told beside it ([`Recording::notes_at`], [`Recording::span`], [`Recording::scopes`]).

mod at;
mod columns;
mod extract;
mod markers;
mod recording;
mod rules;
mod selection;
mod story;

pub use columns::{COLUMNS, column};
pub use markers::NamedMarker;
pub use recording::{QueryError, Question, RecordedFilter, Recording, Span};
pub use rules::{Assertion, LimitKind, RULES, Rule};
pub use selection::{Selection, SocketFilter, SortKey};
pub use story::{
    EVENT_COLUMNS, Interval, LIMIT_COLUMNS, Limits, Moment, Row, Rows, STATE_COLUMNS, StateSpan,
    Story, TRAFFIC_COLUMNS, thinned,
};
