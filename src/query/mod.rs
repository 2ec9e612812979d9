//! Questions to a recording, each answered by a file of `queries/`.
//!
//! An answer is a stream of rows with named columns; what it cannot know is NULL. What may have
//! been missed is told beside it ([`Recording::notes_at`], [`Recording::span`], [`Recording::scopes`]).

mod at;
mod choice;
mod columns;
mod compare;
mod dense;
mod extract;
mod facts;
mod lacks;
mod markers;
mod parallel;
mod question;
mod recording;
mod rules;
mod schema;
mod selection;
mod status;
mod story;

pub use at::{Look, Thinned};
pub use columns::{COLUMNS, column};
pub use dense::Dense;
pub use facts::Span;
pub use lacks::{CaptureLimits, RecordedFilter};
pub use markers::NamedMarker;
pub use question::{By, OWNER_COLUMNS, Question};
pub use recording::{QueryError, Recording};
pub use rules::{Assertion, LimitKind, RULES, Rule};
pub use schema::{SCHEMA_COLUMNS, SchemaColumn};
pub use selection::{Selection, SocketFilter, SortKey};
pub use status::Status;
pub use story::{
    EVENT_COLUMNS, Interval, LIMIT_COLUMNS, Limits, Moment, OwnersSought, Row, Rows, STATE_COLUMNS,
    StateSpan, Story, TRAFFIC_COLUMNS, has_final_counters, thinned,
};
