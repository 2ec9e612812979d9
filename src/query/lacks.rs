//! What a recording lacks, told beside the answers that would need it.

use super::recording::Recording;
use super::selection::Selection;
use crate::model::Value;
use crate::store::StoreError;

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

/// Captures of a span by what they could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureLimits {
    /// All captures.
    pub captures: i64,
    /// Those that looked for no owners.
    pub without_owners: i64,
    /// Those that could see the processes of one user only.
    pub of_one_user: i64,
    /// Those that the kernel told no marks.
    pub without_marks: i64,
    /// Those that listened to no destroy events.
    pub without_events: i64,
}

impl Recording {
    /// By what the captures that looked in this span, on this host, chose a part of the sockets: what they left
    /// out no answer can know.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn filters(&self, selection: &Selection) -> Result<Vec<RecordedFilter>, StoreError> {
        let mut filters = Vec::new();
        self.run(
            include_str!("../../queries/recorded_filters.sql"),
            &selection.span_and_host(),
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
            },
        )?;
        Ok(filters)
    }

    /// What the captures that looked in this span, on this host, could not tell.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn capture_limits(&self, selection: &Selection) -> Result<CaptureLimits, StoreError> {
        let mut found = CaptureLimits::default();
        self.run(
            include_str!("../../queries/capture_limits.sql"),
            &selection.span_and_host(),
            |row| {
                if let [
                    Value::Integer(captures),
                    Value::Integer(without_owners),
                    Value::Integer(of_one_user),
                    Value::Integer(without_marks),
                    Value::Integer(without_events),
                ] = *row
                {
                    found = CaptureLimits {
                        captures,
                        without_owners,
                        of_one_user,
                        without_marks,
                        without_events,
                    };
                }
            },
        )?;
        Ok(found)
    }

    /// To steps of which lengths samples of a span, on this host, were thinned, in nanoseconds.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn thinned_in(&self, selection: &Selection) -> Result<Vec<i64>, StoreError> {
        let mut steps = Vec::new();
        self.run(
            include_str!("../../queries/thinned_in_span.sql"),
            &selection.span_and_host(),
            |row| {
                if let [Value::Integer(every_ns)] = *row {
                    steps.push(every_ns);
                }
            },
        )?;
        Ok(steps)
    }

    /// The kinds of gaps of a span, on this host, each with how often: what no answer about it can know.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn gaps_in(&self, selection: &Selection) -> Result<Vec<(String, i64)>, StoreError> {
        let mut gaps = Vec::new();
        self.run(
            include_str!("../../queries/gaps_in_span.sql"),
            &selection.span_and_host(),
            |row| {
                if let [Value::Text(kind), Value::Integer(times)] = *row {
                    gaps.push((kind.to_owned(), times));
                }
            },
        )?;
        Ok(gaps)
    }
}
