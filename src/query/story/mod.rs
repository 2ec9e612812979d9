//! The story of one socket: what is known of it from its opening to its end, and what is not.

mod rows;
mod samples;
mod traffic;

pub use rows::{Row, Rows};
pub use samples::StateSpan;
pub use traffic::{Interval, Limits, thinned};

use samples::{Bounds, Sample};

use super::question::Question;
use super::recording::{QueryError, Recording};
use super::selection::{Selection, SocketFilter};
use crate::model::{Column, HOLDERS_MAX, OwnedValue, Value};
use crate::query::column;
use crate::store::Parameter;

/// A moment on both clocks: UTC to be shown, boot time to be reckoned with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// UTC nanoseconds.
    pub utc_ns: i64,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boottime_ns: i64,
}

impl Moment {
    /// Nanoseconds from an earlier moment to this one, as far as a number goes: a file may say anything.
    pub(super) fn since(self, earlier: Self) -> i64 {
        self.boottime_ns.saturating_sub(earlier.boottime_ns)
    }
}

/// Where owners were looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnersSought {
    /// Nowhere.
    Nowhere,
    /// At the processes of the recorder's own user: it might not look at others.
    OwnProcesses,
    /// At every process, as far as is known.
    Everywhere,
}

/// What is known of one socket.
#[derive(Debug)]
pub struct Story {
    /// Its row in the answer `connections`.
    pub connection: Rows,
    /// Who held it from when to when, as in `export owners`.
    pub owners: Rows,
    /// Where the captures that recorded it looked for them.
    pub owners_sought: OwnersSought,
    /// The states that it was seen in, in order; those of what was left of it last.
    pub states: Vec<StateSpan>,
    /// What went through between its rows, in order.
    pub traffic: Vec<Interval>,
    /// What limited its sending, `None` where nothing tells.
    pub limits: Option<Limits>,
    /// The gaps that its life may overlap, as in `info`.
    pub gaps: Rows,
    /// The moments and spans in its life that the user named, as in `query markers`.
    pub markers: Rows,
}

/// Columns of [`Story::state_rows`].
pub const STATE_COLUMNS: &[&str] = &[
    "state",
    "is_remains",
    "entered_after",
    "seen_from",
    "seen_to",
    "in_state_min_ns",
    "in_state_max_ns",
];
/// Columns of [`Story::traffic_rows`].
pub const TRAFFIC_COLUMNS: &[&str] = &[
    "from",
    "to",
    "sent_delta_bytes",
    "received_delta_bytes",
    "retrans_delta",
    "sent_bytes_per_s",
    "received_bytes_per_s",
    "rtt_us",
    "snd_cwnd",
];
/// Columns of [`Story::limit_rows`].
pub const LIMIT_COLUMNS: &[&str] = &[
    "observed_ns",
    "busy_share",
    "application_share",
    "network_share",
    "rwnd_limited_share",
    "sndbuf_limited_share",
];
/// Columns of [`Story::event_rows`].
pub const EVENT_COLUMNS: &[&str] = &[
    "not_before",
    "at",
    "kind",
    "detail",
    "sent_delta_bytes",
    "received_delta_bytes",
    "retrans_delta",
    "rtt_us",
    "snd_cwnd",
];

impl Recording {
    /// The story of a socket, `None` if there is none of this number.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn story(&self, socket_id: i64) -> Result<Option<Story>, QueryError> {
        let connection = self.rows_of(Question::Connections, socket_id)?;
        let Some(row) = connection.iter().next() else { return Ok(None) };
        let of_socket: &[Parameter<'_>] = &[(":socket_id", Value::Integer(socket_id))];

        let mut bounds = Bounds::default();
        let sql = include_str!("../../../queries/story_bounds.sql");
        let closed_before = row.integer("closed_before");
        let closed: &[Parameter<'_>] = &[
            (":socket_id", Value::Integer(socket_id)),
            (":closed_before_ns", closed_before.map_or(Value::Null, Value::Integer)),
        ];
        self.run(sql, closed, |values| bounds = Bounds::read(values))?;

        let mut states = samples::States::default();
        let mut traffic = traffic::Traffic::default();
        let sql = include_str!("../../../queries/story_samples.sql");
        self.run(sql, of_socket, |values| {
            let sample = Sample::read(values);
            traffic.add(&sample);
            states.add(sample);
        })?;
        let told_by = [bounds.closed_before, bounds.destroyed];
        if let Some(from) = bounds.socket_seen
            && row.integer("destroyed_at").is_some()
            && told_by.iter().any(Option::is_some)
            && !has_wiped_counters(&row)
        {
            traffic.end(from, told_by, &row);
        } else if let Some(last_seen) = bounds.last_seen {
            traffic.hold(last_seen);
        }

        let from_ns = ["opened_after", "opened_before"].iter().find_map(|name| row.integer(name));
        let to_ns = closed_before.or_else(|| row.integer("last_seen_at"));
        let span: &[Parameter<'_>] = &[
            (":socket_id", Value::Integer(socket_id)),
            (":from_ns", Value::Integer(from_ns.unwrap_or(i64::MIN))),
            (":to_ns", Value::Integer(to_ns.unwrap_or(i64::MAX))),
        ];
        let mut gaps = Rows::new(self.columns(Question::Gaps, &Selection::default())?);
        let sql = include_str!("../../../queries/gaps_of_socket.sql");
        self.run(sql, span, |values| gaps.push(values))?;

        let in_life = Selection { from_ns, to_ns, ..Selection::default() };
        let markers = self.rows(Question::Markers, &in_life)?;
        let owners = self.rows_of(Question::Owners, socket_id)?;
        let mut owners_sought = OwnersSought::Everywhere;
        let sql = include_str!("../../../queries/owners_sought.sql");
        self.run(sql, of_socket, |values| match values {
            [Value::Integer(0)] => owners_sought = OwnersSought::Nowhere,
            [Value::Integer(1)] => owners_sought = OwnersSought::OwnProcesses,
            _ => {}
        })?;
        let states = states.finish(&bounds);
        let (traffic, limits) = traffic.finish();
        Ok(Some(Story {
            connection,
            owners,
            owners_sought,
            states,
            traffic,
            limits,
            gaps,
            markers,
        }))
    }

    fn rows_of(&self, question: Question, socket_id: i64) -> Result<Rows, QueryError> {
        let sockets = SocketFilter { socket_id: Some(socket_id), ..SocketFilter::default() };
        self.rows(question, &Selection { sockets, ..Selection::default() })
    }

    fn rows(&self, question: Question, selection: &Selection) -> Result<Rows, QueryError> {
        let mut rows = Rows::new(self.columns(question, selection)?);
        self.answer(question, selection, |values| {
            rows.push(values);
            Ok(())
        })?;
        Ok(rows)
    }
}

impl Story {
    /// The states as rows of [`STATE_COLUMNS`].
    pub fn state_rows(&self) -> Rows {
        let mut rows = Rows::new(columns(STATE_COLUMNS));
        for span in &self.states {
            rows.push_cells(vec![
                OwnedValue::Text(span.state.clone()),
                OwnedValue::Integer(span.is_remains.into()),
                utc(span.entered_after),
                OwnedValue::Integer(span.seen_from.utc_ns),
                OwnedValue::Integer(span.seen_to.utc_ns),
                OwnedValue::Integer(span.min_ns),
                span.max_ns.into(),
            ]);
        }
        rows
    }

    /// What went through as rows of [`TRAFFIC_COLUMNS`].
    pub fn traffic_rows(intervals: &[Interval]) -> Rows {
        let mut rows = Rows::new(columns(TRAFFIC_COLUMNS));
        for interval in intervals {
            rows.push_cells(vec![
                OwnedValue::Integer(interval.from.utc_ns),
                OwnedValue::Integer(interval.to.utc_ns),
                interval.sent.into(),
                interval.received.into(),
                interval.retransmitted.into(),
                interval.per_s(interval.sent).into(),
                interval.per_s(interval.received).into(),
                interval.rtt_us.into(),
                interval.snd_cwnd.into(),
            ]);
        }
        rows
    }

    /// What limited it as rows of [`LIMIT_COLUMNS`]: one, or none where nothing tells.
    pub fn limit_rows(&self) -> Rows {
        let mut rows = Rows::new(columns(LIMIT_COLUMNS));
        if let Some(limits) = &self.limits {
            rows.push_cells(vec![
                limits.observed_ns.into(),
                limits.busy_share().into(),
                limits.busy_share().map(|share| 1.0 - share).into(),
                limits.of_busy(limits.network_us()).into(),
                limits.of_busy(limits.rwnd_limited_us).into(),
                limits.of_busy(limits.sndbuf_limited_us).into(),
            ]);
        }
        rows
    }

    /// Everything that happened as rows of [`EVENT_COLUMNS`], by the time at which it had.
    pub fn event_rows(&self) -> Rows {
        let mut events: Vec<Event<'_>> = Vec::new();
        let mut event = |not_before: Option<i64>, at: Option<i64>, kind, detail: String| {
            let (detail, interval) = (Some(detail), None);
            events.push(Event { not_before, at, kind, detail, interval });
        };
        let row = self.connection.iter().next();
        let integer = |name| row.and_then(|row| row.integer(name));
        let text = |name| row.and_then(|row| row.text(name)).unwrap_or("not known");
        let opened = text("opened_evidence").to_owned();
        event(integer("opened_after"), integer("opened_before"), "opened", opened);
        for row in self.owners.iter() {
            event(None, row.integer("held_from"), "held", row.process());
            if let Some(to) = row.integer("held_to") {
                event(Some(to), None, "released", row.process());
            }
        }
        for span in &self.states {
            let after = span.entered_after.map(|m| m.utc_ns);
            event(after, Some(span.seen_from.utc_ns), "state", span.state.clone());
        }
        for row in self.gaps.iter() {
            let kind = row.text("kind").unwrap_or_default().to_owned();
            event(row.integer("from"), row.integer("to"), "gap", kind);
        }
        for row in self.markers.iter() {
            let name = row.text("marker").unwrap_or_default();
            event(None, row.integer("started_at"), "marker", name.to_owned());
            if let Some(at) = row.integer("ended_at") {
                event(None, Some(at), "marker", format!("{name}:end"));
            }
        }
        if let Some(before) = integer("closed_before") {
            let detail = format!("{} ({})", text("ending"), text("closed_evidence"));
            event(integer("closed_after"), Some(before), "closed", detail);
        }
        if let Some(at) = integer("destroyed_at") {
            event(None, Some(at), "destroyed", "the kernel freed the socket".to_owned());
        }
        events.extend(self.traffic.iter().map(|interval| Event {
            not_before: Some(interval.from.utc_ns),
            at: Some(interval.to.utc_ns),
            kind: "traffic",
            detail: None,
            interval: Some(interval),
        }));
        // What closed it comes behind what is known of the time before.
        let is_end = |event: &Event<'_>| ["closed", "destroyed"].contains(&event.kind);
        events.sort_by_key(|event| (event.at.or(event.not_before), is_end(event)));
        let mut rows = Rows::new(columns(EVENT_COLUMNS));
        for Event { not_before, at, kind, detail, interval } in events {
            let number = |of: fn(&Interval) -> Option<i64>| interval.and_then(of).into();
            rows.push_cells(vec![
                not_before.into(),
                at.into(),
                OwnedValue::Text(kind.to_owned()),
                detail.map_or(OwnedValue::Null, OwnedValue::Text),
                number(|i| i.sent),
                number(|i| i.received),
                number(|i| i.retransmitted),
                number(|i| i.rtt_us),
                number(|i| i.snd_cwnd),
            ]);
        }
        rows
    }

    /// What a reader may look for and nothing tells, in words.
    pub fn not_known(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        let Some(row) = self.connection.iter().next() else { return missing };
        let is_null = |name| row.integer(name).is_none() && row.text(name).is_none();
        let is_connection =
            row.text("protocol") == Some("tcp") && row.text("state") != Some("LISTEN");
        let is_over = !is_null("closed_before");
        let has_owners = !self.owners.is_empty();
        let unknown_holder = match self.owners_sought {
            OwnersSought::Nowhere => "which process held it, which was not looked for",
            OwnersSought::OwnProcesses => {
                "which process held it: the recorder might look at those of its own user only"
            }
            OwnersSought::Everywhere => "which process held it",
        };
        let facts = [
            (is_null("opened_after"), "since when it was there"),
            (is_connection && is_null("direction"), "who opened it"),
            (!has_owners, unknown_holder),
            (
                self.owners.iter().count() >= HOLDERS_MAX,
                "whether still others held it: 64 holders at a time are recorded",
            ),
            (is_connection && is_null("bytes_sent"), "what went through it"),
            (
                !is_null("bytes_sent") && has_wiped_counters(&row),
                "what went through it after it was last seen: the kernel wiped its counters",
            ),
            (
                !is_null("bytes_sent") && is_over && is_null("destroyed_at"),
                "what went through it after it was last seen",
            ),
            (is_connection && is_over && is_null("ending"), "how it ended"),
            (
                matches!(row.text("closed_evidence"), Some("recording_end" | "extract_end")),
                "what became of it",
            ),
            (row.text("closed_evidence") == Some("left_scope"), "whether it lives on"),
            (is_over && is_null("destroyed_at"), "when the kernel freed its socket"),
            (
                row.integer("addresses_inferred") == Some(1),
                "its addresses, but for the other end's",
            ),
        ];
        missing
            .extend(facts.into_iter().filter_map(|(is_missing, what)| is_missing.then_some(what)));
        missing
    }
}

/// Whether the counters of the row are those of the end, or of a socket that is there.
pub fn has_final_counters(row: &Row<'_>) -> bool {
    let is_over = row.integer("closed_before").is_some();
    !has_wiped_counters(row) && (row.integer("destroyed_at").is_some() || !is_over)
}

/// Whether the destroy event told no counters: those of the row are the last that a dump showed.
fn has_wiped_counters(row: &Row<'_>) -> bool {
    row.text("ending_evidence") == Some("disconnected")
}

/// Something that happened between two moments.
struct Event<'s> {
    not_before: Option<i64>,
    at: Option<i64>,
    kind: &'static str,
    detail: Option<String>,
    interval: Option<&'s Interval>,
}

fn columns(names: &[&str]) -> Vec<Column> {
    names.iter().filter_map(|name| column(name).copied()).collect()
}

fn utc(moment: Option<Moment>) -> OwnedValue {
    moment.map(|m| m.utc_ns).into()
}
