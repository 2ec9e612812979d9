//! `query` and `assert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::answer::{CommonArgs, FileArgs, OutputArgs, SelectArgs, ThreadArgs};
use crate::cli::moment::parse_duration;
use crate::cli::paths::recording;

/// Ask a recording
#[derive(Args, Debug)]
pub(in crate::cli) struct QueryArgs {
    #[command(subcommand)]
    pub(in crate::cli) question: QuestionArgs,
}

/// A question whose answer may be very long.
#[derive(Args, Debug)]
pub(in crate::cli) struct ListingArgs {
    #[command(flatten)]
    pub(in crate::cli) threads: ThreadArgs,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum QuestionArgs {
    /// The lifetime of each socket: ends, opening and closing, bytes, retransmits, rtt
    #[command(after_help = "\
Examples:
  sockrec query connections -f night.db --from 03:00 --to 03:30
  sockrec query connections --sort total_retrans:desc,bytes_sent:desc -n 10
  sockrec query connections dport = :443 and not dst 10.0.0.0/8
  sockrec query connections 'comm = nginx and rtt > 100ms'
  sockrec query connections -t --state established --format json | jq .")]
    Connections(ListingArgs),
    /// All that is known of one connection, as a story
    #[command(after_help = "\
Examples:
  sockrec query connection 17
  sockrec query connection 17 --format json | jq .traffic")]
    Connection(ConnectionArgs),
    /// Every socket as it was at a time, as `ss -tuan` would have shown it
    #[command(after_help = "\
Examples:
  sockrec query at '10m ago'
  sockrec query at 03:12 -f night.db state established sport = :ssh
  sockrec query at '2026-11-21 03:12:30' --format csv
  sockrec query at --live sport = :443 and rtt '>' 100ms")]
    At {
        /// The moment: RFC 3339, `2026-11-21 14:03`, `14:03`, `10m ago`, `@UNIX`, `now`, or a marker
        #[arg(value_name = "TIME", required_unless_present = "live")]
        time: Option<String>,
        /// Ask the kernel, now, and no recording
        #[arg(long, conflicts_with = "file")]
        live: bool,
        /// Show the details of tcp_info below each socket
        #[arg(short = 'i', long)]
        info: bool,
        /// Show the processes that held each socket
        #[arg(short = 'p', long)]
        processes: bool,
        #[command(flatten)]
        common: Box<CommonArgs>,
    },
    /// The values of one socket, or all, over time: a row a change
    #[command(after_help = "\
Examples:
  sockrec query samples --socket 17
  sockrec query samples --inode 48213 --columns taken_at,state,rtt_us,snd_cwnd --format csv")]
    Samples(ListingArgs),
    /// When was looked, how much was seen, what went wrong
    Snapshots(CommonArgs),
    /// From when to when was what looked at, and the gaps: what no answer can know
    #[command(after_help = "\
Examples:
  sockrec query coverage -f night.db --from 03:00 --to 03:30
  sockrec query coverage --format json | jq '.[] | select(.kind | IN(\"recorded\", \"marker\") | not)'")]
    Coverage(CommonArgs),
    /// The moments and spans that `sockrec mark` named
    Markers(CommonArgs),
    /// The accept queue of each listening socket: now or at a time, at its longest, how often full
    #[command(after_help = "\
Examples:
  sockrec query listeners -f night.db --at 03:12
  sockrec query listeners --from 03:00 --to 03:30 --sort drops_delta:desc
  sockrec query listeners --live")]
    Listeners(ListenerArgs),
    /// How many sockets were in which state, over time
    #[command(after_help = "\
Examples:
  sockrec query states --from 03:00 --to 03:30 --bucket 10s
  sockrec query states -t --format csv
  sockrec query states --live")]
    States(StateArgs),
    /// Who was at the other end: connections, bytes, retransmits, failures by address
    #[command(after_help = "\
Examples:
  sockrec query peers --from 03:00 --to 03:30 -n 10
  sockrec query peers --sort retrans_share:desc --format csv")]
    Peers(CommonArgs),
    /// Which services: the same by the port that was connected to
    Ports(CommonArgs),
    /// Whose connections: the same by the process that held the socket first
    #[command(after_help = "\
Examples:
  sockrec query processes --from 03:10 --to 03:14 --sort openings:desc -n 10")]
    Processes(CommonArgs),
    /// The same by cgroup, with its unit and container
    Cgroups(CommonArgs),
    /// The same by user: that of the socket, and that of the process
    Users(CommonArgs),
    /// Openings and endings over time, by who opened and how it ended
    #[command(after_help = "\
Examples:
  sockrec query churn --from 03:00 --to 03:30 --bucket 1m")]
    Churn(ChurnArgs),
    /// The slowest connections: worst rtt, share of retransmits, zero windows, what limited them
    #[command(after_help = "\
Examples:
  sockrec query slow --from 03:00 --to 03:30
  sockrec query slow --sort retrans_share:desc -n 50")]
    Slow(CommonArgs),
    /// What does not come back: sockets half closed for long, processes whose sockets only grow, local
    /// ports that run out
    #[command(after_help = "\
Examples:
  sockrec query leaks --to 03:12
  sockrec query leaks --longer 10m --format json")]
    Leaks(LeakArgs),
    /// What is new, gone or changed between two moments
    #[command(after_help = "\
Examples:
  sockrec query diff 03:00 03:12 -t
  sockrec query diff '10m ago' now --format csv")]
    Diff(DiffArgs),
    /// What two marked spans, or two recordings, differ in: services that are new or gone, and how much
    /// and how well each was used
    #[command(after_help = "\
Examples:
  sockrec query compare --before run-1 --after run-2
  sockrec query compare --before '14:00..14:10' --after '15:00..15:10' dport = :5432
  sockrec query compare -f monday.db --with tuesday.db --format csv")]
    Compare(CompareArgs),
    /// Any question in SQL, with the functions in_prefix(), utc() and state_name(); nothing is changed
    #[command(after_help = "\
Examples:
  sockrec query sql \"SELECT remote_address, count(*) AS n FROM sockets GROUP BY 1 ORDER BY 2 DESC\"
  sockrec query sql \"SELECT utc(taken_at_ns), state, rtt_us FROM socket_samples
      WHERE in_prefix(remote_address, '10.0.0.0/8') ORDER BY rtt_us DESC LIMIT 10\"

`sockrec query schema` lists the tables and views.")]
    Sql(SqlArgs),
    /// The tables and views for `sql`: their columns and what they mean
    Schema(SchemaArgs),
}

/// Leaks, and from when on.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct LeakArgs {
    /// Half closed for at least so long (FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT)
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    pub(in crate::cli) longer: i64,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// Two moments.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct DiffArgs {
    /// The first moment, as for `at`
    #[arg(value_name = "T1")]
    pub(in crate::cli) before: String,
    /// The second one
    #[arg(value_name = "T2")]
    pub(in crate::cli) after: String,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// Two spans, perhaps of two recordings.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct CompareArgs {
    /// The first span: the name of a marked one, or `TIME..TIME`; else all of the recording
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) before: Option<String>,
    /// The second span, of the other recording where `--with` names one
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) after: Option<String>,
    /// Another recording, whose sockets are those after
    #[arg(long, value_name = "FILE", value_parser = recording())]
    pub(in crate::cli) with: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// SQL, and where to ask it.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct SqlArgs {
    /// The query, one statement
    #[arg(value_name = "SQL")]
    pub(in crate::cli) sql: String,
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Which recording's schema, and how.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct SchemaArgs {
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    /// The statements that make them instead
    #[arg(long, conflicts_with_all = ["format", "columns"])]
    pub(in crate::cli) create: bool,
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Listeners, and when.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct ListenerArgs {
    /// Show the backlog as it was at this time, of those who listened then
    #[arg(long, value_name = "TIME", conflicts_with = "live")]
    pub(in crate::cli) at: Option<String>,
    /// Ask the kernel, now, and no recording
    #[arg(long, conflicts_with_all = ["file", "from", "to"])]
    pub(in crate::cli) live: bool,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// States over time, and in which steps.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct StateArgs {
    /// Length of a bucket of time; by default one that gives at most 60
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) bucket: Option<i64>,
    /// Ask the kernel, now, and no recording
    #[arg(long, conflicts_with_all = ["file", "from", "to", "bucket"])]
    pub(in crate::cli) live: bool,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// Openings and endings over time, and in which steps.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct ChurnArgs {
    /// Length of a bucket of time; by default one that gives at most 60
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) bucket: Option<i64>,
    #[command(flatten)]
    pub(in crate::cli) common: CommonArgs,
}

/// Which connection, and how its story is written.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct ConnectionArgs {
    /// Its number (`socket_id` of any answer)
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    pub(in crate::cli) id: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}

/// Hold a recording to rules, as a test does
///
/// What breaks a rule is written on stdout, a row each, and what of the span was not looked at and
/// could hide a breach: that nothing was seen is not that nothing happened.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec assert no-resets no-gaps
  sockrec assert -f run.db no-close-wait-longer-than=60s retransmit-ratio-below=1%
  sockrec assert --from deploy --to deploy:end backlog-never-full connections-below=500
  sockrec assert no-resets no-gaps -- dport = :443 and not dst 10.0.0.0/8
  sockrec assert --list

Exit codes: 0 every rule holds, 1 one is broken (or the recording cannot be read), 2 wrong use, 3
none is seen broken, but of one it is not known.")]
pub(in crate::cli) struct AssertArgs {
    /// Rules, each with its limit if it has one
    #[arg(value_name = "RULE[=LIMIT]", required_unless_present = "list")]
    pub(in crate::cli) rules: Vec<String>,
    /// List the rules
    #[arg(long)]
    pub(in crate::cli) list: bool,
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
    /// Hold only these sockets to the rules: by any column of `query connections`, in the language of
    /// `ss` (docs/FILTER.md)
    #[arg(last = true, value_name = "FILTER", num_args = 1..)]
    pub(in crate::cli) filter: Vec<String>,
}
