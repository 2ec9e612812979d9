//! Which rows and columns of an answer are wanted.

use super::Question;
use crate::filter::Filter;
use crate::model::{Family, OwnedValue, Protocol, Value};
use crate::store::Parameter;

/// Sockets by what is the same in every answer about sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketFilter {
    /// Only these families, all if empty.
    pub families: Vec<Family>,
    /// Only these protocols, all if empty.
    pub protocols: Vec<Protocol>,
    /// Only these states, as `ss` spells them; all if empty.
    pub states: Vec<String>,
    /// Only what listens: of TCP and MPTCP nothing that is merely unconnected.
    pub is_listening: bool,
    /// Only this socket.
    pub socket_id: Option<i64>,
    /// Only sockets with this cookie.
    pub cookie: Option<u64>,
    /// Only sockets that had this inode.
    pub inode: Option<u32>,
}

impl SocketFilter {
    /// Whether every socket passes.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// A column that rows are to be sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Any column of the answer, also one that is not shown.
    pub column: String,
    /// Greatest first.
    pub is_descending: bool,
}

/// Rows and columns that are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of columns in the order wanted; all in their usual order if empty.
    pub columns: Vec<String>,
    /// Which sockets.
    pub sockets: SocketFilter,
    /// Only what was recorded on the host of this name.
    pub host: Option<String>,
    /// UTC nanoseconds, included.
    pub from_ns: Option<i64>,
    /// UTC nanoseconds, included.
    pub to_ns: Option<i64>,
    /// Which rows, of any answer.
    pub filter: Option<Filter>,
    /// The text that the filter was read from, for errors.
    pub filter_text: String,
    /// By what to sort, the first before the others; the question's own order if empty.
    pub sort: Vec<SortKey>,
    /// At most so many rows, after sorting.
    pub limit: Option<u64>,
    /// Of connections only these, which have ended, and of them only what was connected: what is open
    /// is not even looked for.
    pub ended: Option<Vec<i64>>,
}

impl Selection {
    /// The same choice of sockets, and nothing else.
    #[must_use]
    pub fn of_sockets(&self) -> Self {
        Self {
            sockets: self.sockets.clone(),
            host: self.host.clone(),
            filter: self.filter.clone(),
            filter_text: self.filter_text.clone(),
            ..Self::default()
        }
    }

    /// Whether every socket is chosen.
    pub fn is_open(&self) -> bool {
        self.sockets.is_open() && self.filter.is_none()
    }

    /// The answer that the sockets are chosen from: a filter may ask for what only their lives tell.
    pub fn question_of_sockets(&self) -> Question {
        if self.filter.is_some() { Question::Connections } else { Question::Sockets }
    }

    /// From when to when, and which host, as parameters.
    pub(super) fn span_and_host(&self) -> [Parameter<'_>; 3] {
        [
            (":from_ns", Value::Integer(self.from_ns.unwrap_or(i64::MIN))),
            (":to_ns", Value::Integer(self.to_ns.unwrap_or(i64::MAX))),
            (":host", self.host.as_deref().map_or(Value::Null, Value::Text)),
        ]
    }

    /// Conditions on the answer's rows, and the parameters that they name. Values are always
    /// parameters, never text of the query.
    pub(super) fn conditions(
        &self,
        span: Option<SpanColumns>,
    ) -> (Vec<String>, Vec<(String, OwnedValue)>) {
        let mut conditions = Vec::new();
        let mut parameters = Vec::new();
        let f = &self.sockets;
        let one_of = |column: &str, values: Vec<&str>, parameters: &mut Vec<_>| {
            let names: Vec<_> = (0..values.len()).map(|i| format!(":{column}_{i}")).collect();
            let condition = format!("{column} IN ({})", names.join(", "));
            let values = values.into_iter().map(|v| OwnedValue::Text(v.to_owned()));
            parameters.extend(names.into_iter().zip(values));
            condition
        };
        if !f.families.is_empty() {
            let names = f.families.iter().map(|v| v.name()).collect();
            conditions.push(one_of("family", names, &mut parameters));
        }
        if !f.protocols.is_empty() {
            let names = f.protocols.iter().map(|v| v.name()).collect();
            conditions.push(one_of("protocol", names, &mut parameters));
        }
        if !f.states.is_empty() {
            let names = f.states.iter().map(String::as_str).collect();
            conditions.push(one_of("state", names, &mut parameters));
        }
        if f.is_listening {
            conditions
                .push("(state IS NOT 'UNCONN' OR protocol NOT IN ('tcp', 'mptcp'))".to_owned());
        }
        let numbers = [
            ("socket_id", f.socket_id),
            ("cookie", f.cookie.map(u64::cast_signed)),
            ("inode", f.inode.map(i64::from)),
        ];
        for (column, number) in numbers {
            if let Some(number) = number {
                conditions.push(format!("{column} = :wanted_{column}"));
                parameters.push((format!(":wanted_{column}"), OwnedValue::Integer(number)));
            }
        }
        if let Some(ended) = &self.ended {
            let ids: Vec<_> = ended.iter().map(i64::to_string).collect();
            conditions.push("socket_id IN (SELECT value FROM json_each(:ended))".to_owned());
            conditions.push("remote_port IS NOT 0".to_owned());
            // What was in TIME-WAIT when recording began had ended before.
            conditions.push(
                "(opened_evidence IS NOT 'recording_start' OR last_seen_at_ns IS NOT NULL)"
                    .to_owned(),
            );
            parameters
                .push((":ended".to_owned(), OwnedValue::Text(format!("[{}]", ids.join(",")))));
        }
        if let Some(SpanColumns { first, last }) = span {
            // Whatever may have lived in the span is shown.
            if let Some(from_ns) = self.from_ns {
                conditions.push(format!("coalesce({last}, :from) >= :from"));
                parameters.push((":from".to_owned(), OwnedValue::Integer(from_ns)));
            }
            if let Some(to_ns) = self.to_ns {
                conditions.push(format!("{first} <= :to"));
                parameters.push((":to".to_owned(), OwnedValue::Integer(to_ns)));
            }
        }
        (conditions, parameters)
    }
}

/// Expressions of the first and last moment that a row may have been alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanColumns {
    pub(super) first: &'static str,
    pub(super) last: &'static str,
}
