//! What makes files out of recordings or of others, or tells of a recording as a whole.

use std::path::PathBuf;

use clap::Args;

use super::answer::{AnonymizeArgs, DEFAULT_FILE, FileArgs, LastFileArgs, SelectArgs, ThreadArgs};
use crate::cli::moment::parse_duration;
use crate::cli::paths::recording;
use crate::render::{Format, TimeFormat};

/// Write a recording out as a data set
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec export connections -o connections.csv
  sockrec export samples -f night.db --from 03:00 --to 04:00 -o samples.jsonl
  sockrec export snapshots --format csv | head
  sockrec export connections --anonymize -o shared.csv")]
pub(in crate::cli) struct ExportArgs {
    /// connections, samples, sockets, owners, processes, snapshots or markers
    #[arg(value_name = "WHAT", value_parser = ["connections", "samples", "sockets", "owners", "processes", "snapshots", "markers"])]
    pub(in crate::cli) what: String,
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    /// File to write, stdout if none or `-`; its ending chooses the format
    #[arg(short, long, value_name = "OUT")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// csv, json or jsonl
    #[arg(long, value_name = "FORMAT")]
    pub(in crate::cli) format: Option<Format>,
    /// Columns in the order wanted; `help` lists them, `all` is every one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(in crate::cli) columns: Vec<String>,
    /// Of samples: a row a socket and step of time, with the values that held then; none where it was not
    /// seen
    #[arg(long, value_name = "STEP", value_parser = parse_duration)]
    pub(in crate::cli) dense: Option<i64>,
    /// Beside the values how much each counter grew a second, from step to step
    #[arg(long, requires = "dense")]
    pub(in crate::cli) rates: bool,
    /// Times as rfc3339 (UTC) or unix-ns
    #[arg(long, value_name = "FORM", default_value = "rfc3339")]
    pub(in crate::cli) time_format: TimeFormat,
    #[command(flatten)]
    pub(in crate::cli) anonymize: AnonymizeArgs,
    #[command(flatten)]
    pub(in crate::cli) threads: ThreadArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
    /// Only these rows, in the language of `ss`: `state established and dport = :443`, or by any
    /// column of the answer: `rtt > 100ms` (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
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
pub(in crate::cli) struct ExtractArgs {
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
    /// Also who had gone between those snapshots and the span, so that parts of one recording can be
    /// merged again
    #[arg(long)]
    pub(in crate::cli) mergeable: bool,
    #[command(flatten)]
    pub(in crate::cli) anonymize: AnonymizeArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
    /// Only these sockets, by any column of `query connections`, in the language of `ss`
    /// (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
}

/// Copy a recording, also one that is being recorded
///
/// The copy is one whole file, as the recording was at one moment, without what was deleted from it.
#[derive(Args, Debug)]
pub(in crate::cli) struct CopyArgs {
    #[command(flatten)]
    pub(in crate::cli) file: LastFileArgs,
    /// File to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
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
pub(in crate::cli) struct MergeArgs {
    /// Recordings to take from
    #[arg(value_name = "FILE", required = true, value_parser = recording())]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
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
pub(in crate::cli) struct ImportArgs {
    /// Raw netlink, pcap or pcapng; taken in the order of their times
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Recording to add to
    #[arg(short, long, value_name = "RECORDING", default_value = DEFAULT_FILE, value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
    /// When raw netlink was written; otherwise the last change of its file
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) at: Option<String>,
    /// Name of the machine that it is from
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) host: Option<String>,
    /// Release of its kernel
    #[arg(long, value_name = "RELEASE")]
    pub(in crate::cli) kernel: Option<String>,
    /// A name for its boot: imports with the same one belong together, and their sockets with the
    /// same cookie are the same
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) boot_id: Option<String>,
    /// No summary
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
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
pub(in crate::cli) struct CheckArgs {
    #[command(flatten)]
    pub(in crate::cli) file: LastFileArgs,
    /// table or json
    #[arg(long, value_name = "FORMAT")]
    pub(in crate::cli) format: Option<Format>,
}

/// Copy what can still be read of a damaged recording into a new one that is whole
///
/// The damaged file and its log are only read. What was lost is said, by table and by span of time.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec salvage broken.db -o saved.db

Exit codes: 0 nothing was lost, 1 failed, 2 wrong use, 3 saved with losses.")]
pub(in crate::cli) struct SalvageArgs {
    #[command(flatten)]
    pub(in crate::cli) file: LastFileArgs,
    /// Recording to make; nothing is written over
    #[arg(short, long, value_name = "OUT", value_parser = recording())]
    pub(in crate::cli) output: PathBuf,
}

/// What a recording holds: captures, span, snapshots, sockets, bytes a table, gaps
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec info night.db
  sockrec info --live                         how it goes: lag, gaps, growth, days that fit
  sockrec info --live --format json | jq .lag_ns

Exit codes: 0 fine, 1 failed, 2 wrong use; of `--live` also 3: nobody records, or snapshots are overdue.")]
pub(in crate::cli) struct InfoArgs {
    #[command(flatten)]
    pub(in crate::cli) file: LastFileArgs,
    /// How recording goes: lag, missed ticks, lost events, size, growth, days that fit
    #[arg(long)]
    pub(in crate::cli) live: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT")]
    pub(in crate::cli) format: Option<Format>,
    /// UTC, not local time
    #[arg(long)]
    pub(in crate::cli) utc: bool,
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
pub(in crate::cli) struct MarkArgs {
    /// What it is called
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    /// Not now but at this time
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) at: Option<String>,
    /// A span of this name begins
    #[arg(long, conflicts_with = "end")]
    pub(in crate::cli) start: bool,
    /// The last span of this name ends
    #[arg(long)]
    pub(in crate::cli) end: bool,
}

/// Write what a shell needs to complete commands and options
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec completions bash > /etc/bash_completion.d/sockrec
  sockrec completions zsh > ~/.zfunc/_sockrec
  sockrec completions fish > ~/.config/fish/completions/sockrec.fish")]
pub(in crate::cli) struct CompletionArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(in crate::cli) shell: clap_complete::Shell,
}

/// Write the man pages, one a command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sockrec man ~/.local/share/man/man1
  man sockrec-record")]
pub(in crate::cli) struct ManArgs {
    /// Directory to write them into
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
}
