//! Two spans, or two recordings, held against each other.

use serde_json::{Map, Value as Json, json};

use super::question::{By, Question};
use super::recording::{QueryError, Recording};
use super::selection::Selection;
use crate::model::Value;

/// What is told of a service that was used, beside what it is put together by.
const USED: &[&str] = &[
    "protocol",
    "direction",
    "local_port",
    "remote_address",
    "remote_port",
    "comm",
    "connections",
    "endings_reset",
    "endings_timed_out",
    "endings_not_established",
    "sent_delta_bytes",
    "received_delta_bytes",
    "retrans_share",
    "max_rtt_us",
];

/// What is told of a listener.
const LISTENED: &[&str] =
    &["protocol", "local_address", "local_port", "comm", "max_backlog", "drops_delta"];

impl Recording {
    /// The services of a span as JSON, for [`Question::Compare`]: an object a listener, and one a
    /// service that was used, by which program.
    fn services(&self, chosen: &Selection) -> Result<Json, QueryError> {
        let mut services = Vec::new();
        let questions = [
            (Question::Listeners { snapshot_id: None }, LISTENED),
            (Question::Totals(By::Service), USED),
        ];
        for (question, names) in questions {
            let columns = names.iter().map(|name| (*name).to_owned()).collect();
            let selection = Selection { columns, ..chosen.clone() };
            if names == LISTENED
                && matches!(self.choice(question, &selection), Err(QueryError::Filter(_)))
            {
                continue; // what it asks for no listener has
            }
            self.answer(question, &selection, |row| {
                let mut service: Map<String, Json> =
                    names.iter().zip(row).map(|(n, v)| ((*n).to_owned(), json_of(v))).collect();
                let role = match service.remove("direction") {
                    Some(direction) => direction,
                    None => json!("listener"),
                };
                service.insert("role".to_owned(), role);
                services.push(Json::Object(service));
                Ok(())
            })?;
        }
        Ok(services.into())
    }

    /// Answers [`Question::Compare`]: what a span of this recording and one of another, or of this one
    /// too, differ in. `shown` chooses among the columns and rows of the answer.
    ///
    /// # Errors
    /// As of [`Recording::answer`].
    pub fn compare(
        &self,
        before: &Selection,
        other: &Self,
        after: &Selection,
        shown: &Selection,
        each: impl FnMut(&[Value<'_>]) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        let (before, after) =
            (self.services(before)?.to_string(), other.services(after)?.to_string());
        let sides = [(":before", Value::Text(&before)), (":after", Value::Text(&after))];
        self.answer_with(Question::Compare, shown, &sides, each)
    }
}

fn json_of(value: &Value<'_>) -> Json {
    match *value {
        Value::Integer(n) => n.into(),
        Value::Real(n) => n.into(),
        Value::Text(text) => text.into(),
        Value::Null | Value::Bytes(_) => Json::Null,
    }
}
