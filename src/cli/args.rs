//! The command line as it is typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::limits::{CpuLimit, parse_cpu_limit};
use super::moment::{parse_duration, parse_interval};
use super::namespaces::parse_netns;
use super::output::{parse_limit, parse_sort_key};
use super::paths::{recording, rewritten_file};
use super::retention::{
    AgeLimit, SizeLimit, parse_age_limit, parse_size, parse_size_limit, thin_rules,
};
use super::sockets::SocketArgs;
use crate::kernel::Netns;
use crate::query::SortKey;
use crate::render::{Format, TimeFormat};
use crate::store::ThinRule;

/// A flight recorder for Linux sockets
///
/// Records what the kernel knows of every TCP and UDP socket, at a steady interval, into one SQLite
/// file; answers later who was connected to whom, when and how well.
#[derive(Debug, Parser)]
#[command(name = "sockrec", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Colour: on a terminal (`auto`, unless `NO_COLOR` is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Output",
        display_order = 900
    )]
    pub(super) color: clap::ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Record(RecordArgs),
    Query(QueryArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Info(InfoArgs),
    Extract(ExtractArgs),
    Check(CheckArgs),
    Salvage(SalvageArgs),
    Copy(CopyArgs),
    Merge(MergeArgs),
    Mark(MarkArgs),
    Prune(PruneArgs),
    Assert(AssertArgs),
    Completions(CompletionArgs),
    Man(ManArgs),
}

/// Record sockets into a file until Ctrl-C
///
/// Without options: all of TCP and UDP over IPv4 and IPv6, every state, once a second, into
/// `sockrec.db` here. A file that is there already is gone on with as a new capture.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sockrec record                              everything, once a second, until Ctrl-C
  sockrec record -o night.db --interval 10s   less often, into another file
  sockrec record -t --not-state time-wait     TCP without TIME-WAIT
  sockrec record dport = :443 or sport = :443  one service
  sockrec record -o run.db -- ./test.sh       as long as a command runs
  sockrec record --follow                     and show each connection as it ends
  sockrec record -q --follow=jsonl | jq .     the same for programs
  sockrec record --netns all                  every network namespace, started as root
  sockrec record --max-cpu 2% --user nobody   with less, started as root

Signals: INT, TERM and HUP end the recording; with `--limits`, HUP has the file read again.
docs/OPERATIONS.md tells how to run it as a service.

Exit codes: 0 fine, 1 failed, 2 wrong use, 3 done but with gaps; that of COMMAND if one was given
and failed.")]
pub(super) struct RecordArgs {
    /// File to record into
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) output: PathBuf,
    /// Time between snapshots
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true, default_value = "1s", value_parser = parse_interval)]
    pub(super) interval: i64,
    /// Stop after so long
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) duration: Option<i64>,
    /// Stop after so many snapshots
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) sockets: SocketArgs,
    /// Which network namespaces, may be repeated: `self`; a NAME of `ip netns`; a PATH; the one of the
    /// process PID; `all`: those under /run/netns and those that any process lives in, as they come and
    /// go. One that is called like a number is reached by its PATH [default: self]
    #[arg(long, value_name = "NETNS", value_parser = parse_netns, help_heading = "Options")]
    pub(super) netns: Vec<Netns>,
    /// New sockets that one snapshot stores at most, but for the first: more are counted only
    /// [default: 100000]
    #[arg(long, value_name = "N", help_heading = "Options")]
    pub(super) max_new_sockets: Option<u64>,
    /// CPU time that recording takes at most, as a share of one CPU: where more is needed, ticks are
    /// left out, and the recording says so; `none` for no limit [default: 50%]
    #[arg(long, value_name = "SHARE", value_parser = parse_cpu_limit, help_heading = "Options")]
    pub(super) max_cpu: Option<CpuLimit>,
    /// The file with its log takes no more than this (`2G`, `500M`): the oldest snapshots go; `none`
    /// for no limit [default: a quarter of the room that there is]
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit, help_heading = "Options")]
    pub(super) max_size: Option<SizeLimit>,
    /// Snapshots older than this go (`14d`); `none` for no limit [default: none]
    #[arg(long, value_name = "TIME", value_parser = parse_age_limit, help_heading = "Options")]
    pub(super) max_age: Option<AgeLimit>,
    #[command(flatten)]
    pub(super) thin: ThinArgs,
    /// File of limits, lines like `max-cpu = 5%`; read again at SIGHUP, which then does not end the
    /// recording. What is given as an option holds before it
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    pub(super) limits: Option<PathBuf>,
    /// Started as root, go on as this user, with the capabilities that recording has a use for
    #[arg(long, value_name = "NAME", help_heading = "Options")]
    pub(super) user: Option<String>,
    /// Keep a file with how it goes, as OpenMetrics text: written anew each second at most
    #[arg(long, value_name = "FILE", help_heading = "Options", value_parser = rewritten_file())]
    pub(super) metrics: Option<PathBuf>,
    /// Write each connection on stdout as it ends, once a snapshot has stored it: as a table, csv or
    /// jsonl
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "table")]
    pub(super) follow: Option<Format>,
    /// Do not listen to destroy events: connections shorter than the interval stay unseen, and ends
    /// are known to the interval only
    #[arg(long, help_heading = "Options")]
    pub(super) no_events: bool,
    /// Do not look for the processes and cgroups that hold the sockets
    #[arg(long, help_heading = "Options")]
    pub(super) no_owners: bool,
    /// No progress line and no summary
    #[arg(short, long, help_heading = "Options")]
    pub(super) quiet: bool,
    /// Record only these sockets, in the language of `ss`: `dport = :443 and not dst 10.0.0.0/8`
    /// (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
    /// Record as long as this command runs
    #[arg(last = true, value_name = "COMMAND", num_args = 1..)]
    pub(super) command: Vec<std::ffi::OsString>,
}

/// Ask a recording
#[derive(Args, Debug)]
pub(super) struct QueryArgs {
    #[command(subcommand)]
    pub(super) question: QuestionArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum QuestionArgs {
    /// The lifetime of each socket: ends, opening and closing, bytes, retransmits, rtt
    #[command(after_help = "\
Examples:
  sockrec query connections -f night.db --from 03:00 --to 03:30
  sockrec query connections --sort total_retrans:desc,bytes_sent:desc -n 10
  sockrec query connections dport = :443 and not dst 10.0.0.0/8
  sockrec query connections 'comm = nginx and rtt > 100ms'
  sockrec query connections -t --state established --format json | jq .")]
    Connections(CommonArgs),
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
    Samples(CommonArgs),
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
pub(super) struct LeakArgs {
    /// Half closed for at least so long (FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT)
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    pub(super) longer: i64,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Two moments.
#[derive(Args, Clone, Debug)]
pub(super) struct DiffArgs {
    /// The first moment, as for `at`
    #[arg(value_name = "T1")]
    pub(super) before: String,
    /// The second one
    #[arg(value_name = "T2")]
    pub(super) after: String,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Two spans, perhaps of two recordings.
#[derive(Args, Clone, Debug)]
pub(super) struct CompareArgs {
    /// The first span: the name of a marked one, or `TIME..TIME`; else all of the recording
    #[arg(long, value_name = "SPAN")]
    pub(super) before: Option<String>,
    /// The second span, of the other recording where `--with` names one
    #[arg(long, value_name = "SPAN")]
    pub(super) after: Option<String>,
    /// Another recording, whose sockets are those after
    #[arg(long, value_name = "FILE", value_parser = recording())]
    pub(super) with: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// SQL, and where to ask it.
#[derive(Args, Clone, Debug)]
pub(super) struct SqlArgs {
    /// The query, one statement
    #[arg(value_name = "SQL")]
    pub(super) sql: String,
    /// Recording to ask
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which recording's schema, and how.
#[derive(Args, Clone, Debug)]
pub(super) struct SchemaArgs {
    /// Recording to ask
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// The statements that make them instead
    #[arg(long, conflicts_with_all = ["format", "columns"])]
    pub(super) create: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Listeners, and when.
#[derive(Args, Clone, Debug)]
pub(super) struct ListenerArgs {
    /// Show the backlog as it was at this time, of those who listened then
    #[arg(long, value_name = "TIME", conflicts_with = "live")]
    pub(super) at: Option<String>,
    /// Ask the kernel, now, and no recording
    #[arg(long, conflicts_with_all = ["file", "from", "to"])]
    pub(super) live: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// States over time, and in which steps.
#[derive(Args, Clone, Debug)]
pub(super) struct StateArgs {
    /// Length of a bucket of time; by default one that gives at most 60
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) bucket: Option<i64>,
    /// Ask the kernel, now, and no recording
    #[arg(long, conflicts_with_all = ["file", "from", "to", "bucket"])]
    pub(super) live: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Openings and endings over time, and in which steps.
#[derive(Args, Clone, Debug)]
pub(super) struct ChurnArgs {
    /// Length of a bucket of time; by default one that gives at most 60
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) bucket: Option<i64>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Which connection, and how its story is written.
#[derive(Args, Clone, Debug)]
pub(super) struct ConnectionArgs {
    /// Its number (`socket_id` of any answer)
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    pub(super) id: Option<String>,
    /// Recording to ask
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// What every question takes.
#[derive(Args, Clone, Debug)]
pub(super) struct CommonArgs {
    /// Recording to ask
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Only these rows, in the language of `ss`: `state established and dport = :443`, or by any
    /// column of the answer: `rtt > 100ms` (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
}

/// Which rows.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct SelectArgs {
    /// From this time on; the name of a marker is a time too, as everywhere
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
    /// Sort by these columns, greatest first with `:desc` behind the name (or `-` before it); unknown
    /// values come last
    #[arg(long, value_name = "COLUMN[:desc]", value_delimiter = ',', allow_hyphen_values = true, value_parser = parse_sort_key)]
    pub(super) sort: Vec<SortKey>,
    /// At most so many rows, after sorting
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = parse_limit)]
    pub(super) limit: Option<u64>,
    /// Only what was recorded on the host of this name, where a recording is of several
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    #[command(flatten)]
    pub(super) sockets: SocketArgs,
    /// Only the socket of this number (`socket_id` of any answer)
    #[arg(long, value_name = "ID", help_heading = "Sockets")]
    pub(super) socket: Option<i64>,
    /// Only sockets with this cookie
    #[arg(long, value_name = "COOKIE", help_heading = "Sockets")]
    pub(super) cookie: Option<u64>,
    /// Only sockets that had this inode
    #[arg(long, value_name = "INODE", help_heading = "Sockets")]
    pub(super) inode: Option<u32>,
}

/// How rows are written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// table, csv, json or jsonl
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Columns in the order wanted; `help` lists them, `all` is every one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// Times as rfc3339 (UTC) or unix-ns
    #[arg(long, value_name = "FORM", default_value = "rfc3339")]
    pub(super) time_format: TimeFormat,
    /// UTC in tables, not local time
    #[arg(long, action = ArgAction::SetTrue)]
    pub(super) utc: bool,
    /// Exact numbers in tables, nothing shortened
    #[arg(long)]
    pub(super) exact: bool,
}

/// Write a recording out as a data set
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec export connections -o connections.csv
  sockrec export samples -f night.db --from 03:00 --to 04:00 -o samples.jsonl
  sockrec export snapshots --format csv | head
  sockrec export connections --anonymize -o shared.csv")]
pub(super) struct ExportArgs {
    /// connections, samples, sockets, owners, processes, snapshots or markers
    #[arg(value_name = "WHAT", value_parser = ["connections", "samples", "sockets", "owners", "processes", "snapshots", "markers"])]
    pub(super) what: String,
    /// Recording to read
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// File to write, stdout if none or `-`; its ending chooses the format
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,
    /// csv, json or jsonl
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Columns in the order wanted; `help` lists them, `all` is every one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// Of samples: a row a socket and step of time, with the values that held then; none where it was not
    /// seen
    #[arg(long, value_name = "STEP", value_parser = parse_duration)]
    pub(super) dense: Option<i64>,
    /// Beside the values how much each counter grew a second, from step to step
    #[arg(long, requires = "dense")]
    pub(super) rates: bool,
    /// Times as rfc3339 (UTC) or unix-ns
    #[arg(long, value_name = "FORM", default_value = "rfc3339")]
    pub(super) time_format: TimeFormat,
    #[command(flatten)]
    pub(super) anonymize: AnonymizeArgs,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// Only these rows, in the language of `ss`: `state established and dport = :443`, or by any
    /// column of the answer: `rtt > 100ms` (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
}

/// Without names.
#[derive(Args, Clone, Debug)]
pub(super) struct AnonymizeArgs {
    /// Addresses, with their prefixes kept, and names of hosts, users and programs become others; command
    /// lines and the like are left out (docs/OPERATIONS.md)
    #[arg(long)]
    pub(super) anonymize: bool,
    /// The same with the key in this file: the same key gives the same names
    #[arg(long, value_name = "FILE")]
    pub(super) anonymize_key: Option<PathBuf>,
}

/// Make a recording of its own out of a part of one
///
/// Holds the sockets that `query connections` shows with the same options, and answers every question
/// about the span as the whole recording does. What lies outside of the span is cut off and said to be.
/// The state at its start rests on snapshots before it (an hour at most, as a rule): they come with it, with
/// those sockets only that were still there.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec extract -f night.db --from 03:00 --to 03:30 -o ticket.db
  sockrec extract -o tls.db dport = :443 or sport = :443
  sockrec extract --socket 17 -o one.db
  sockrec extract --sort total_retrans:desc -n 20 -o worst.db
  sockrec extract --from 03:00 --to 04:00 --mergeable -o three.db
  sockrec extract --from 03:00 --to 03:30 --anonymize -o shared.db")]
pub(super) struct ExtractArgs {
    /// Recording to take from
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(super) output: PathBuf,
    /// Also who had gone between those snapshots and the span, so that parts of one recording can be
    /// merged again
    #[arg(long)]
    pub(super) mergeable: bool,
    #[command(flatten)]
    pub(super) anonymize: AnonymizeArgs,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// Only these sockets, by any column of `query connections`, in the language of `ss`
    /// (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
}

/// Check that a recording is whole: its file, its schema, and that no table contradicts another
///
/// Also one that is being recorded, as it is at one moment. Nothing is changed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec check night.db
  sockrec check night.db --format json | jq '.rules[] | select(.verdict != \"holds\")'

Exit codes: 0 it is whole, 1 it is not, 2 it could not be looked at.
docs/OPERATIONS.md tells what each rule means.")]
pub(super) struct CheckArgs {
    /// Recording to check
    #[arg(value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// table or json
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
}

/// Copy what can still be read of a damaged recording into a new one that is whole
///
/// The damaged file and its log are only read. What was lost is said, by table and by span of time.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec salvage broken.db -o saved.db

Exit codes: 0 nothing was lost, 1 failed, 2 wrong use, 3 saved with losses.")]
pub(super) struct SalvageArgs {
    /// Damaged recording
    #[arg(value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(super) output: PathBuf,
}

/// Copy a recording, also one that is being recorded
///
/// The copy is one whole file, as the recording was at one moment, without what was deleted from it.
#[derive(Args, Debug)]
pub(super) struct CopyArgs {
    /// Recording to copy
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// File to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(super) output: PathBuf,
}

/// Make one recording out of several: of other hosts, of other times, or parts of one
///
/// Each machine keeps its own line of time. Sockets become one only where boot, network namespace, cookie
/// and addresses are the same, and parts of one recording are put together again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec merge web1.db web2.db db1.db -o night.db
  sockrec merge monday.db tuesday.db -o week.db")]
pub(super) struct MergeArgs {
    /// Recordings to take from
    #[arg(value_name = "FILE", required = true, value_parser = recording())]
    pub(super) files: Vec<PathBuf>,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(super) output: PathBuf,
}

/// Record what others asked their kernels: files of `ss -D`, captures of an nlmon interface
///
/// Raw netlink as `ss -D FILE` writes it is one snapshot of TCP: it tells neither its time nor what
/// was asked for, so that no socket is taken to be closed because it is missing. A pcap or pcapng
/// file of an nlmon interface has every dump that programs made meanwhile, with its time and request,
/// and the destroy events that any listened to. All files together are one capture, of one machine
/// and one boot; a recording that is there already gets one more.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ss -tainmeO -D now.raw && sockrec import now.raw -o case.db
  sockrec import then.raw --at '2026-11-21 03:12' --host web1 --kernel 5.15.0 -o case.db

  ip link add nlmon0 type nlmon && ip link set nlmon0 up
  tcpdump -i nlmon0 -s 0 -w night.pcap
  sockrec import night.pcap -o case.db
  sockrec query connections -f case.db

Exit codes: 0 fine, 1 failed, 2 wrong use, 3 done but something was left out.")]
pub(super) struct ImportArgs {
    /// Raw netlink, pcap or pcapng; taken in the order of their times
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Recording to add to
    #[arg(short, long, value_name = "RECORDING", default_value = "sockrec.db", value_parser = recording())]
    pub(super) output: PathBuf,
    /// When raw netlink was written; otherwise the last change of its file
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// Name of the machine that it is from
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// Release of its kernel
    #[arg(long, value_name = "RELEASE")]
    pub(super) kernel: Option<String>,
    /// A name for its boot: imports with the same one belong together, and their sockets with the
    /// same cookie are the same
    #[arg(long, value_name = "ID")]
    pub(super) boot_id: Option<String>,
    /// No summary
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// What a recording holds: captures, span, snapshots, sockets, bytes a table, gaps
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec info -f night.db
  sockrec info --live                         how it goes: lag, gaps, growth, days that fit
  sockrec info --live --format json | jq .lag_ns

Exit codes: 0 fine, 1 failed, 2 wrong use; of `--live` also 3: nobody records, or snapshots are overdue.")]
pub(super) struct InfoArgs {
    /// Recording to describe
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// How recording goes: lag, missed ticks, lost events, size, growth, days that fit
    #[arg(long)]
    pub(super) live: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// UTC, not local time
    #[arg(long)]
    pub(super) utc: bool,
}

/// Write what a shell needs to complete commands and options
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec completions bash > /etc/bash_completion.d/sockrec
  sockrec completions zsh > ~/.zfunc/_sockrec
  sockrec completions fish > ~/.config/fish/completions/sockrec.fish")]
pub(super) struct CompletionArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

/// Write the man pages, one a command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec man ~/.local/share/man/man1
  man sockrec-record")]
pub(super) struct ManArgs {
    /// Directory to write them into
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// Name a moment or a span in a recording, while it is recorded or later
///
/// Wherever a time is asked for, the name stands for the moment or the start of the span, and NAME:end
/// for the end of the span. Of several with the same name the latest is meant.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec mark 'failover begins'              now
  sockrec mark --start deploy                 a span, from now on
  sockrec mark --end deploy                   to now
  sockrec mark -f night.db --at 03:12 crash   afterwards
  sockrec query connections --from deploy --to deploy:end
  sockrec query at 'failover begins'")]
pub(super) struct MarkArgs {
    /// What it is called
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Recording to mark
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// Not now but at this time
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// A span of this name begins
    #[arg(long, conflicts_with = "end")]
    pub(super) start: bool,
    /// The last span of this name ends
    #[arg(long)]
    pub(super) end: bool,
}

/// How old samples are thinned.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ThinArgs {
    /// Of samples older than `--after` keep the values at every so many seconds (`10s`): what lies between
    /// goes, but for changes of state. With its `--after` repeatable, the longer the age the longer the steps
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Options")]
    thin: Vec<i64>,
    /// The age from which on samples are thinned (`1d`)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Options")]
    after: Vec<i64>,
}

impl ThinArgs {
    pub(super) fn rules(&self) -> anyhow::Result<Vec<ThinRule>> {
        thin_rules(&self.thin, &self.after)
    }
}

/// Drop the oldest snapshots of a recording, or thin old ones, also while it is recorded
///
/// Groups of snapshots go, from keyframe to keyframe, and sockets and processes that nothing else tells
/// of. The state at any time that is still held stays exact; what was dropped is shown as a gap. The
/// last group stays. Thinning leaves every snapshot, opening, ending and change of state, and the values
/// at even steps of time.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec prune --max-age 14d
  sockrec prune -f night.db --max-size 2G --dry-run
  sockrec prune --thin 10s --after 1d --thin 1m --after 7d

Exit codes: 0 fine, 1 failed, 2 wrong use, 3 it is still larger or older than asked.")]
pub(super) struct PruneArgs {
    /// Recording to prune
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    /// The file with its log is to take no more than this (`2G`, `500M`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, required_unless_present_any = ["max_age", "thin"])]
    pub(super) max_size: Option<u64>,
    /// Snapshots older than this go (`14d`)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) max_age: Option<i64>,
    #[command(flatten)]
    pub(super) thin: ThinArgs,
    /// Only say about how much would go
    #[arg(long)]
    pub(super) dry_run: bool,
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
pub(super) struct AssertArgs {
    /// Rules, each with its limit if it has one
    #[arg(value_name = "RULE[=LIMIT]", required_unless_present = "list")]
    pub(super) rules: Vec<String>,
    /// List the rules
    #[arg(long)]
    pub(super) list: bool,
    /// Recording to judge
    #[arg(short, long, value_name = "FILE", default_value = "sockrec.db", value_parser = recording())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Hold only these sockets to the rules: by any column of `query connections`, in the language of
    /// `ss` (docs/FILTER.md)
    #[arg(last = true, value_name = "FILTER", num_args = 1..)]
    pub(super) filter: Vec<String>,
}
