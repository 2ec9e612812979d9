//! `record` and `prune`: what is recorded, and how much of it is kept.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::answer::{DEFAULT_FILE, LastFileArgs};
use crate::cli::limits::{CpuLimit, parse_cpu_limit};
use crate::cli::metrics::{MetricsTarget, metrics_target};
use crate::cli::moment::{parse_duration, parse_interval};
use crate::cli::namespaces::parse_netns;
use crate::cli::paths::recording;
use crate::cli::retention::{
    AgeLimit, SizeLimit, parse_age_limit, parse_size, parse_size_limit, thin_rules,
};
use crate::cli::sockets::SocketArgs;
use crate::kernel::Netns;
use crate::render::Format;
use crate::store::ThinRule;

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
pub(in crate::cli) struct RecordArgs {
    /// File to record into
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE, value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
    /// Time between snapshots
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true, default_value = "1s", value_parser = parse_interval)]
    pub(in crate::cli) interval: i64,
    /// Stop after so long
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) duration: Option<i64>,
    /// Stop after so many snapshots
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) count: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) sockets: SocketArgs,
    /// Which network namespaces, may be repeated: `self`; a NAME of `ip netns`; a PATH; the one of the
    /// process PID; `all`: those under /run/netns and those that any process lives in, as they come and
    /// go. One that is called like a number is reached by its PATH [default: self]
    #[arg(long, value_name = "NETNS", value_parser = parse_netns, help_heading = "Options")]
    pub(in crate::cli) netns: Vec<Netns>,
    /// New sockets that one snapshot stores at most, but for the first: more are counted only
    /// [default: 100000]
    #[arg(long, value_name = "N", help_heading = "Options")]
    pub(in crate::cli) max_new_sockets: Option<u64>,
    /// CPU time that recording takes at most, as a share of one CPU: where more is needed, ticks are
    /// left out, and the recording says so; `none` for no limit [default: 50%]
    #[arg(long, value_name = "SHARE", value_parser = parse_cpu_limit, help_heading = "Options")]
    pub(in crate::cli) max_cpu: Option<CpuLimit>,
    /// The file with its log takes no more than this (`2G`, `500M`): the oldest snapshots go; `none`
    /// for no limit [default: a quarter of the room that there is]
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit, help_heading = "Options")]
    pub(in crate::cli) max_size: Option<SizeLimit>,
    /// Snapshots older than this go (`14d`); `none` for no limit [default: none]
    #[arg(long, value_name = "TIME", value_parser = parse_age_limit, help_heading = "Options")]
    pub(in crate::cli) max_age: Option<AgeLimit>,
    #[command(flatten)]
    pub(in crate::cli) thin: ThinArgs,
    /// File of limits, lines like `max-cpu = 5%`; read again at SIGHUP, which then does not end the
    /// recording. What is given as an option holds before it
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    pub(in crate::cli) limits: Option<PathBuf>,
    /// Started as root, go on as this user, with the capabilities that recording has a use for
    #[arg(long, value_name = "NAME", help_heading = "Options")]
    pub(in crate::cli) user: Option<String>,
    /// Tell how it goes as OpenMetrics text: in a FILE that is written anew each second at most, or, as
    /// `unix:PATH`, to whoever connects to that unix socket, over HTTP too
    #[arg(long, value_name = "FILE", help_heading = "Options", value_parser = metrics_target())]
    pub(in crate::cli) metrics: Option<MetricsTarget>,
    /// Write each connection on stdout as it ends, once a snapshot has stored it: as a table, csv or
    /// jsonl
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "table", value_parser = followed)]
    pub(in crate::cli) follow: Option<Format>,
    /// Do not listen to destroy events: connections shorter than the interval stay unseen, and ends
    /// are known to the interval only
    #[arg(long, help_heading = "Options")]
    pub(in crate::cli) no_events: bool,
    /// Do not look for the processes and cgroups that hold the sockets
    #[arg(long, help_heading = "Options")]
    pub(in crate::cli) no_owners: bool,
    /// No progress line and no summary
    #[arg(short, long, help_heading = "Options")]
    pub(in crate::cli) quiet: bool,
    /// Record only these sockets, in the language of `ss`: `dport = :443 and not dst 10.0.0.0/8`
    /// (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
    /// Record as long as this command runs
    #[arg(last = true, value_name = "COMMAND", num_args = 1..)]
    pub(in crate::cli) command: Vec<std::ffi::OsString>,
}

/// A format of `--follow`; some say `text` for a table.
fn followed(format: &str) -> Result<Format, <Format as std::str::FromStr>::Err> {
    if format == "text" { Ok(Format::Table) } else { format.parse() }
}

/// How old samples are thinned.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct ThinArgs {
    /// Of samples older than `--after` keep the values at every so many seconds (`10s`): what lies between
    /// goes, but for changes of state. With its `--after` repeatable, the longer the age the longer the steps
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Options")]
    thin: Vec<i64>,
    /// The age from which on samples are thinned (`1d`)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Options")]
    after: Vec<i64>,
}

impl ThinArgs {
    pub(in crate::cli) fn rules(&self) -> anyhow::Result<Vec<ThinRule>> {
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
  sockrec prune night.db --max-size 2G --dry-run
  sockrec prune --thin 10s --after 1d --thin 1m --after 7d

Exit codes: 0 fine, 1 failed, 2 wrong use, 3 it is still larger or older than asked.")]
#[command(group(
    ArgGroup::new("limit").required(true).multiple(true).args(["max_size", "max_age", "thin"])
))]
pub(in crate::cli) struct PruneArgs {
    #[command(flatten)]
    pub(in crate::cli) file: LastFileArgs,
    /// The file with its log is to take no more than this (`2G`, `500M`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(in crate::cli) max_size: Option<u64>,
    /// Snapshots older than this go (`14d`)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) max_age: Option<i64>,
    #[command(flatten)]
    pub(in crate::cli) thin: ThinArgs,
    /// Only say about how much would go
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}
