//! Rules that a recording can be held to, each a file of `queries/`.
//!
//! A rule gives the rows that break it, and those of which it is not known: what the kernel did not
//! tell, and what of the span was not looked at and could hide a breach.

use crate::filter::nearest;
use crate::model::Value;
use crate::store::Parameter;

/// What may be broken, and how that shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What its limit is.
    pub limit: LimitKind,
    /// What holds, in one line.
    pub about: &'static str,
    /// What its values and its limit are counted in in its rows, `None` where it counts nothing.
    pub unit: Option<&'static str>,
    /// What could hide a breach.
    pub(super) hidden_by: &'static [Kinds],
    /// A capture that did not ask for these states hides breaches too (`idiag_states`).
    pub(super) needed_states: u32,
    pub(super) sql: &'static str,
}

/// What the limit of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// It has none.
    None,
    /// A length of time, in nanoseconds.
    Duration,
    /// A share, in millionths.
    Share,
    /// A number.
    Count,
}

/// A rule with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The rule.
    pub rule: &'static Rule,
    /// Its limit in the unit of its [`LimitKind`], 0 if it has none.
    pub limit: i64,
}

/// The query of a rule: its file with those that it reads, and that which finishes its rows.
macro_rules! rule_sql {
    ($file:literal) => {
        concat!(
            "WITH connections AS (\n",
            include_str!("../../queries/connections.sql"),
            "\n), blind AS MATERIALIZED (\n",
            include_str!("../../queries/blind_spots.sql"),
            "\n), found AS MATERIALIZED (\n",
            include_str!(concat!("../../queries/", $file)),
            "\n) SELECT * FROM (\n",
            include_str!("../../queries/rule_rows.sql"),
            "\n)"
        )
    };
}

/// Kinds of `blind_spots.sql`.
type Kinds = &'static [&'static str];

/// Nobody looked, or not at all that there is.
const NOT_LOOKED: Kinds = &[
    "nothing_recorded",
    "before_recording",
    "after_recording",
    "not_recording",
    "dropped",
    "states_not_asked",
    "not_asked",
    "netns_refused",
    "sockets_not_stored",
];
/// A dump shows less than there is.
const DUMP_LACKS: Kinds =
    &["partly_asked", "dump_failed", "dump_interrupted", "messages_unreadable"];
/// Between two dumps there should have been others.
const NO_TICK: Kinds = &["ticks_missed", "ticks_left_out"];

/// No dump, or none of everything: what was seen in dumps only may have been otherwise.
const NO_DUMP: &[Kinds] = &[NOT_LOOKED, DUMP_LACKS, NO_TICK];
/// As above, and what dumps showed and was thinned out since.
const NO_VALUE: &[Kinds] = &[NOT_LOOKED, DUMP_LACKS, NO_TICK, &["thinned"]];
/// What the kernel counts goes on between dumps: a later one shows it.
const NO_COUNT: &[Kinds] = &[NOT_LOOKED, DUMP_LACKS];
/// What destroy events tell, dumps or not.
const NO_EVENTS: &[Kinds] = &[NOT_LOOKED, &["events_lost", "no_events"]];

const ESTABLISHED: u32 = 1 << 1;
const SYN_SENT: u32 = 1 << 2;
const CLOSE_WAIT: u32 = 1 << 8;
const LISTEN: u32 = 1 << 10;

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        name: "no-close-wait-longer-than",
        limit: LimitKind::Duration,
        about: "no socket is in CLOSE-WAIT for longer: its program closes what the other end has closed",
        unit: Some("s"),
        hidden_by: NO_DUMP,
        needed_states: CLOSE_WAIT,
        sql: rule_sql!("rule_close_wait.sql"),
    },
    Rule {
        name: "retransmit-ratio-below",
        limit: LimitKind::Share,
        about: "of the data segments that all connections send together fewer are retransmitted",
        unit: Some("%"),
        hidden_by: NO_EVENTS,
        needed_states: ESTABLISHED,
        sql: rule_sql!("rule_retransmits.sql"),
    },
    Rule {
        name: "backlog-never-full",
        limit: LimitKind::None,
        about: "no snapshot shows an accept queue with more connections than its limit",
        unit: Some("connections"),
        hidden_by: NO_VALUE,
        needed_states: LISTEN,
        sql: rule_sql!("rule_backlog.sql"),
    },
    Rule {
        name: "no-listen-drops",
        limit: LimitKind::None,
        about: "no listener drops a connection request; the kernel counts them between snapshots too",
        unit: Some("drops"),
        hidden_by: NO_COUNT,
        needed_states: LISTEN,
        sql: rule_sql!("rule_listen_drops.sql"),
    },
    Rule {
        name: "no-resets",
        limit: LimitKind::None,
        about: "no connection ends by a reset or an abort",
        unit: None,
        hidden_by: NO_EVENTS,
        needed_states: ESTABLISHED,
        sql: rule_sql!("rule_resets.sql"),
    },
    Rule {
        name: "no-failed-connects",
        limit: LimitKind::None,
        about: "no connection that this host opens is refused or stays without an answer",
        unit: None,
        hidden_by: NO_EVENTS,
        needed_states: SYN_SENT,
        sql: rule_sql!("rule_failed_connects.sql"),
    },
    Rule {
        name: "connections-below",
        limit: LimitKind::Count,
        about: "every snapshot shows fewer TCP connections, TIME-WAIT aside; within this host both ends count",
        unit: Some("connections"),
        hidden_by: NO_DUMP,
        needed_states: ESTABLISHED,
        sql: rule_sql!("rule_connections.sql"),
    },
    Rule {
        name: "no-gaps",
        limit: LimitKind::None,
        about: "no dump failed, no tick was missed, no event was lost, in all of the span",
        unit: Some("s"),
        hidden_by: &[],
        needed_states: 0,
        sql: rule_sql!("rule_gaps.sql"),
    },
];

impl Rule {
    /// The rule of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
    }

    /// The name of a rule that a misspelt one most likely meant.
    pub fn nearest_name(wanted: &str) -> Option<String> {
        nearest(wanted, RULES.iter().map(|rule| rule.name)).map(str::to_owned)
    }
}

impl Assertion {
    /// A gap that is shorter hides no breach.
    pub(super) fn shortest_gap_ns(&self) -> i64 {
        if self.rule.limit == LimitKind::Duration { self.limit } else { 0 }
    }
}

/// What a rule's query is given beside the span.
pub(super) struct RuleTexts {
    hidden_by: String,
    socket_ids: Option<String>,
}

impl RuleTexts {
    pub(super) fn of(assertion: Assertion, socket_ids: Option<String>) -> Self {
        let kinds = assertion.rule.hidden_by.iter().copied().flatten();
        let kinds: Vec<_> = kinds.map(|kind| format!("\"{kind}\"")).collect();
        Self { hidden_by: format!("[{}]", kinds.join(",")), socket_ids }
    }

    pub(super) fn parameters(&self, assertion: Assertion) -> [Parameter<'_>; 7] {
        let rule = assertion.rule;
        [
            (":rule", Value::Text(rule.name)),
            (":unit", rule.unit.map_or(Value::Null, Value::Text)),
            (":allowed", Value::Integer(assertion.limit)),
            (":hidden_by", Value::Text(&self.hidden_by)),
            (":shortest_ns", Value::Integer(assertion.shortest_gap_ns())),
            (":needed_states", Value::Integer(rule.needed_states.into())),
            (":socket_ids", self.socket_ids.as_deref().map_or(Value::Null, Value::Text)),
        ]
    }
}
