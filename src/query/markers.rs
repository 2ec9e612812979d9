//! Markers by their names.

use super::recording::Recording;
use crate::filter::nearest;
use crate::model::Value;
use crate::store::StoreError;

/// The marker that a name means: of several the one that lies latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedMarker {
    /// The moment, or the start of the span, UTC nanoseconds.
    pub started_at_ns: i64,
    /// End of the span, UTC nanoseconds.
    pub ended_at_ns: Option<i64>,
    /// Whether it is a span, or a moment.
    pub is_span: bool,
    /// Markers of this name.
    pub count: i64,
}

impl Recording {
    /// The latest marker of this name.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn marker(&self, name: &str) -> Result<Option<NamedMarker>, StoreError> {
        let mut found = None;
        self.run(
            "SELECT started_at_ns, ended_at_ns, is_span, count(*) OVER () FROM markers
             WHERE name = :name ORDER BY started_at_ns DESC, marker_id DESC LIMIT 1",
            &[(":name", Value::Text(name))],
            |row| {
                if let [Value::Integer(start), end, Value::Integer(is_span), Value::Integer(n)] =
                    *row
                {
                    let ended_at_ns = if let Value::Integer(end) = end { Some(end) } else { None };
                    let (started_at_ns, is_span, count) = (start, is_span == 1, n);
                    found = Some(NamedMarker { started_at_ns, ended_at_ns, is_span, count });
                }
            },
        )?;
        Ok(found)
    }

    /// The marker's name that a misspelt one most likely meant.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn nearest_marker(&self, wanted: &str) -> Result<Option<String>, StoreError> {
        let mut names = Vec::new();
        self.run("SELECT DISTINCT name FROM markers", &[], |row| {
            if let [Value::Text(name)] = *row {
                names.push(name.to_owned());
            }
        })?;
        Ok(nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned))
    }
}
