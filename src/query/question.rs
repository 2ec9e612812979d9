//! What can be asked, and by which file of `queries/` each question is answered.

use std::borrow::Cow;

use super::parallel::Key;
use super::rules::Assertion;
use super::selection::{Selection, SpanColumns};
use crate::model::{Nanos, Value};
use crate::store::Parameter;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The lifetime of each socket.
    Connections,
    /// Every socket as it was in this snapshot.
    At {
        /// The snapshot, see [`Recording::snapshot_at`](super::Recording::snapshot_at).
        snapshot_id: i64,
    },
    /// Every socket as it was at a moment, on each machine, see
    /// [`Recording::looks_at`](super::Recording::looks_at).
    AtTime {
        /// UTC nanoseconds.
        utc_ns: Nanos,
    },
    /// The series of samples.
    Samples,
    /// When was looked.
    Snapshots,
    /// Who was seen.
    Sockets,
    /// Which process held which socket, from when to when.
    Owners,
    /// The processes that held sockets.
    Processes,
    /// Runs of the recorder.
    Captures,
    /// What each table holds.
    Tables,
    /// When was not looked, or not well.
    Gaps,
    /// What was looked at when, and what was not.
    Coverage,
    /// The moments and spans that the user named.
    Markers,
    /// What breaks a rule, or may have broken it unseen.
    Broken(Assertion),
    /// The accept queue of each listening socket, at a moment and over the span.
    Listeners {
        /// The snapshot whose backlog is shown; the last of the span if none.
        snapshot_id: Option<i64>,
    },
    /// How many sockets were in which state, bucket by bucket.
    States {
        /// Length of a bucket.
        bucket_ns: Nanos,
    },
    /// How many connections were opened and ended, bucket by bucket.
    Churn {
        /// Length of a bucket.
        bucket_ns: Nanos,
    },
    /// Who had how many connections, bytes, retransmissions, failures.
    Totals(By),
    /// How well each connection did, the slowest first.
    Slow,
    /// What does not come back: half-closed sockets, processes that only get more, local ports.
    Leaks {
        /// How long half closed is long.
        longer_ns: Nanos,
    },
    /// What is new, gone and changed between two moments, on each machine.
    Diff {
        /// The earlier one, UTC nanoseconds.
        before_ns: Nanos,
        /// The later one, UTC nanoseconds.
        after_ns: Nanos,
    },
    /// What two spans or recordings differ in, see [`Recording::compare`](super::Recording::compare).
    Compare,
}

/// By what connections are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The address at the other end.
    Peer,
    /// The port that was connected to.
    Port,
    /// The process that held the socket first.
    Process,
    /// The cgroup of the socket, else of that process.
    Cgroup,
    /// The user that made the socket.
    User,
    /// What was connected to, and by which program.
    Service,
}

/// Columns that only processes and cgroups tell.
pub const OWNER_COLUMNS: &[&str] = &[
    "pid",
    "comm",
    "exe",
    "command_line",
    "user",
    "owners",
    "owner_count",
    "cgroup",
    "unit",
    "container",
];

impl Question {
    /// The text of the question's own file.
    fn file(self, selection: &Selection) -> &'static str {
        match self {
            Self::Connections => include_str!("../../queries/connections.sql"),
            Self::At { .. } | Self::AtTime { .. } => include_str!("../../queries/sockets_at.sql"),
            Self::Samples if selection.sockets.socket_id.is_some() => {
                include_str!("../../queries/samples_of_socket.sql")
            }
            Self::Samples => include_str!("../../queries/samples.sql"),
            Self::Snapshots => include_str!("../../queries/snapshots.sql"),
            Self::Sockets => include_str!("../../queries/sockets.sql"),
            Self::Owners => include_str!("../../queries/owners.sql"),
            Self::Processes => include_str!("../../queries/processes.sql"),
            Self::Captures => include_str!("../../queries/captures.sql"),
            Self::Tables => include_str!("../../queries/tables.sql"),
            Self::Gaps => include_str!("../../queries/gaps.sql"),
            Self::Coverage => include_str!("../../queries/coverage.sql"),
            Self::Markers => include_str!("../../queries/markers.sql"),
            Self::Broken(assertion) => assertion.rule.sql,
            Self::Listeners { .. } => include_str!("../../queries/listeners.sql"),
            Self::States { .. } => include_str!("../../queries/states.sql"),
            Self::Churn { .. } => include_str!("../../queries/churn.sql"),
            Self::Totals(_) => include_str!("../../queries/totals.sql"),
            Self::Slow => include_str!("../../queries/slow.sql"),
            Self::Diff { .. } => include_str!("../../queries/diff.sql"),
            Self::Compare => include_str!("../../queries/compare.sql"),
            Self::Leaks { .. } => include_str!("../../queries/leaks.sql"),
        }
    }

    /// Where a row stands in time, for answers that `--from` and `--to` choose from as a whole.
    pub(super) fn span_columns(self) -> Option<SpanColumns> {
        match self {
            // Who is not known to have closed counts up to when it was last seen.
            Self::Connections => Some(SpanColumns {
                first: "coalesce(opened_after_ns, opened_before_ns)",
                last: "coalesce(closed_before_ns, last_seen_at_ns)",
            }),
            Self::Sockets => {
                Some(SpanColumns { first: "first_seen_at_ns", last: "last_seen_at_ns" })
            }
            // A span that was never ended may go on.
            Self::Markers => Some(SpanColumns {
                first: "started_at_ns",
                last: "CASE WHEN is_span THEN ended_at_ns ELSE started_at_ns END",
            }),
            Self::Owners | Self::Processes => {
                Some(SpanColumns { first: "held_from_ns", last: "held_to_ns" })
            }
            _ => None,
        }
    }

    /// Whether options that choose sockets, or times, choose from its rows.
    pub(super) fn is_chosen_from(self) -> bool {
        self.is_about_sockets() || self.span_columns().is_some()
    }

    /// Which rows `o` of `socket_owners` count for a row of the answer, where it names the first
    /// process of several.
    pub(super) fn holders(self) -> Option<&'static str> {
        match self {
            Self::Connections | Self::Sockets | Self::Listeners { .. } => Some("1"),
            Self::At { .. } => Some(
                "o.first_snapshot_id <= :snapshot_id
                 AND coalesce(o.last_snapshot_id, :snapshot_id) >= :snapshot_id",
            ),
            // Of the machine whose snapshot had ended then.
            Self::AtTime { .. } => Some(
                "EXISTS (SELECT 1 FROM json_each(:snapshot_ids) AS t
                    JOIN snapshots AS n ON n.snapshot_id = t.value
                    WHERE n.ended_at_ns = at_ns AND o.first_snapshot_id <= n.snapshot_id
                        AND coalesce(o.last_snapshot_id, n.snapshot_id) >= n.snapshot_id)",
            ),
            _ => None,
        }
    }

    /// Whether anything is asked for that connections tell of their owners.
    pub(super) fn asks_for_owners(self, selection: &Selection) -> bool {
        let is_of_owners = |name: &String| OWNER_COLUMNS.contains(&name.as_str());
        let is_shown = match self {
            Self::Connections => {
                selection.columns.is_empty() || selection.columns.iter().any(is_of_owners)
            }
            Self::Churn { .. } | Self::Totals(By::Peer | By::Port) => false,
            _ => true,
        };
        is_shown
            || selection.sort.iter().any(|key| is_of_owners(&key.column))
            || selection.filter.as_ref().is_some_and(|filter| filter.asks_for(OWNER_COLUMNS))
    }

    /// What its rows are in order of, where each is worked out without the others.
    pub(super) fn key(self) -> Option<Key> {
        match self {
            Self::Connections | Self::Sockets => Some(Key { column: "socket_id", bits: 6 }),
            Self::Samples => Some(Key { column: "snapshot_id", bits: 0 }),
            _ => None,
        }
    }

    /// Whether it is asked of one machine: what it counts and measures is that of snapshots in a row.
    pub(super) fn is_of_one_machine(self) -> bool {
        matches!(
            self,
            Self::Broken(_)
                | Self::Listeners { .. }
                | Self::States { .. }
                | Self::Churn { .. }
                | Self::Totals(_)
                | Self::Slow
                | Self::Leaks { .. }
        )
    }

    /// Whether sockets are chosen among its rows.
    fn is_about_sockets(self) -> bool {
        matches!(
            self,
            Self::Connections
                | Self::At { .. }
                | Self::AtTime { .. }
                | Self::Samples
                | Self::Sockets
                | Self::Owners
                | Self::Listeners { .. }
                | Self::Diff { .. }
        )
    }

    /// The question whose rows this one puts together. Sockets are chosen among those: its file
    /// reads what is left as `chosen`.
    pub(super) fn gathers(self) -> Option<Self> {
        match self {
            Self::Churn { .. } | Self::Totals(_) | Self::Slow | Self::Leaks { .. } => {
                Some(Self::Connections)
            }
            Self::States { .. } => Some(Self::Sockets),
            _ => None,
        }
    }

    /// The query, without what it reads as `chosen`.
    pub(super) fn sql(self, selection: &Selection) -> Cow<'static, str> {
        let file = self.file(selection);
        match self {
            Self::Totals(by) => {
                let file = file.replace("{of}", by.sources()).replace("{by}", by.columns());
                with_traffic(&file.replace("{keys}", by.keys())).into()
            }
            Self::Slow => with_traffic(file).into(),
            Self::Diff { .. } => {
                let at = include_str!("../../queries/sockets_at.sql");
                let rows = |ids: &str| at.replace(":snapshot_ids", ids);
                let (before, after) = (rows(":before_snapshot_ids"), rows(":after_snapshot_ids"));
                format!("WITH rows_before AS MATERIALIZED (\n{before}\n), rows_after AS MATERIALIZED (\n{after}\n)\n{file}")
                    .into()
            }
            Self::At { .. } => file.replace(":snapshot_ids", "json_array(:snapshot_id)").into(),
            _ => file.into(),
        }
    }

    /// What is to be added up by socket before its query is run, which asks for it with `seen_of`.
    pub(super) fn sql_of_seen(self) -> Option<String> {
        let with_limits = match self {
            Self::Totals(_) => false,
            Self::Slow => true,
            _ => return None,
        };
        let mut sql = include_str!("../../queries/seen.sql").replace("{edges}", EDGES);
        if with_limits {
            sql.retain(|c| !matches!(c, '{' | '}'));
        } else {
            let always = sql.split('}').map(|part| part.split('{').next().unwrap_or(part));
            sql = always.collect();
        }
        Some(sql)
    }

    /// Parameters of its own.
    pub(super) fn parameters(self) -> Vec<Parameter<'static>> {
        match self {
            Self::At { snapshot_id } => vec![(":snapshot_id", Value::Integer(snapshot_id))],
            Self::Listeners { snapshot_id } => {
                vec![(":snapshot_id", snapshot_id.map_or(Value::Null, Value::Integer))]
            }
            Self::States { bucket_ns } | Self::Churn { bucket_ns } => {
                vec![(":bucket_ns", Value::Integer(bucket_ns))]
            }
            Self::Leaks { longer_ns } => vec![(":longer_ns", Value::Integer(longer_ns))],
            _ => Vec::new(),
        }
    }
}

const EDGES: &str = include_str!("../../queries/edges.sql");

/// A query that reads `traffic`.
fn with_traffic(sql: &str) -> String {
    let traffic = include_str!("../../queries/traffic.sql").replace("{edges}", EDGES);
    format!("WITH traffic AS (\n{traffic}\n)\n{sql}")
}

/// The port that was connected to, on which side it is. Of UDP it is told only that this end chose the
/// other one.
macro_rules! ports {
    () => {
        "CASE WHEN direction = 'inbound' THEN local_port END AS local_port,
         CASE WHEN direction = 'outbound' OR (direction IS NULL AND protocol = 'udp')
             THEN remote_port END AS remote_port"
    };
}

impl By {
    /// What its columns are put together from.
    const fn sources(self) -> &'static str {
        match self {
            // The peer of a dual-stack socket is a v4 one.
            Self::Peer => {
                "CASE WHEN remote_address LIKE '::ffff:%.%' THEN substr(remote_address, 8)
            ELSE remote_address END AS remote_address"
            }
            Self::Port => concat!("protocol, direction, ", ports!()),
            Self::Service => concat!(
                "protocol, direction, ",
                ports!(),
                ", CASE WHEN direction IS NOT 'inbound' THEN remote_address END AS remote_address, comm"
            ),
            Self::Process => "pid, comm, exe, command_line, user, cgroup, unit, container",
            Self::Cgroup => "cgroup, unit, container",
            Self::User => "uid",
        }
    }

    /// What is the same in all that is put together, as columns.
    const fn columns(self) -> &'static str {
        match self {
            Self::Peer => "remote_address",
            Self::Port => "protocol, direction, local_port, remote_port",
            Self::Service => "protocol, direction, local_port, remote_port, remote_address, comm",
            // Its sockets may be of other cgroups than the process itself.
            Self::Process => {
                "pid, comm, exe, command_line, user,
                 CASE WHEN pid > 0 AND min(cgroup) = max(cgroup) THEN min(cgroup) END AS cgroup,
                 CASE WHEN pid > 0 AND min(unit) = max(unit) THEN min(unit) END AS unit,
                 CASE WHEN pid > 0 AND min(container) = max(container) THEN min(container) END
                    AS container"
            }
            Self::Cgroup => "cgroup, unit, container",
            // What processes of that user are told to be called.
            Self::User => {
                "uid, (SELECT CASE WHEN min(w.user) = max(w.user) THEN min(w.user) END
                    FROM processes AS w WHERE w.uid = t.uid) AS user"
            }
        }
    }

    /// The places of those columns.
    const fn keys(self) -> &'static str {
        match self {
            Self::Peer => "1",
            Self::Port => "1, 2, 3, 4",
            Self::Service => "1, 2, 3, 4, 5, 6",
            Self::Process => "1, 2, 3, 4, 5",
            Self::Cgroup => "1, 2, 3",
            Self::User => "1",
        }
    }
}
