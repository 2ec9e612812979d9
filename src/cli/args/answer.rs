//! What every answer takes: which rows, and how they are written.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use crate::cli::output::{parse_limit, parse_sort_key, parse_threads};
use crate::cli::paths::recording;
use crate::cli::sockets::SocketArgs;
use crate::query::SortKey;
use crate::render::{Format, TimeFormat};

/// What is recorded into, and asked, where nobody says otherwise.
pub(super) const DEFAULT_FILE: &str = "sockrec.db";

/// The recording that a command is about; it is used as its path.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct FileArgs {
    /// The recording
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE, value_parser = recording())]
    file: PathBuf,
}

impl Deref for FileArgs {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.file
    }
}

/// The same where nothing else stands at the end: there it needs no `-f`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct LastFileArgs {
    /// The recording [default: sockrec.db]
    #[arg(value_name = "FILE", value_parser = recording(), conflicts_with = "file")]
    last: Option<PathBuf>,
    /// The same, as where something else stands at the end
    #[arg(short, long, value_name = "FILE", value_parser = recording())]
    file: Option<PathBuf>,
}

impl Deref for LastFileArgs {
    type Target = Path;

    fn deref(&self) -> &Path {
        let given = self.last.as_deref().or(self.file.as_deref());
        given.unwrap_or(Path::new(DEFAULT_FILE))
    }
}

/// What every question takes.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct CommonArgs {
    #[command(flatten)]
    pub(in crate::cli) file: FileArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
    /// Only these rows, in the language of `ss`: `state established and dport = :443`, or by any
    /// column of the answer: `rtt > 100ms` (docs/FILTER.md)
    #[arg(value_name = "FILTER")]
    pub(in crate::cli) filter: Vec<String>,
}

/// How a recording is read.
#[derive(Args, Clone, Copy, Debug)]
pub(in crate::cli) struct ThreadArgs {
    /// Read on so many threads [default: where it pays one a processor, 4 at most]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(in crate::cli) threads: Option<NonZeroUsize>,
}

/// Which rows.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct SelectArgs {
    /// From this time on; the name of a marker is a time too, as everywhere
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) from: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) to: Option<String>,
    /// Sort by these columns, greatest first with `:desc` behind the name (or `-` before it); unknown
    /// values come last
    #[arg(long, value_name = "COLUMN[:desc]", value_delimiter = ',', allow_hyphen_values = true, value_parser = parse_sort_key)]
    pub(in crate::cli) sort: Vec<SortKey>,
    /// At most so many rows, after sorting
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = parse_limit)]
    pub(in crate::cli) limit: Option<u64>,
    /// Only what was recorded on the host of this name, where a recording is of several
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) host: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) sockets: SocketArgs,
    /// Only the socket of this number (`socket_id` of any answer)
    #[arg(long, value_name = "ID", help_heading = "Sockets")]
    pub(in crate::cli) socket: Option<i64>,
    /// Only sockets with this cookie
    #[arg(long, value_name = "COOKIE", help_heading = "Sockets")]
    pub(in crate::cli) cookie: Option<u64>,
    /// Only sockets that had this inode
    #[arg(long, value_name = "INODE", help_heading = "Sockets")]
    pub(in crate::cli) inode: Option<u32>,
}

/// How rows are written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(in crate::cli) struct OutputArgs {
    /// table, csv, json or jsonl
    #[arg(long, value_name = "FORMAT")]
    pub(in crate::cli) format: Option<Format>,
    /// Columns in the order wanted; `help` lists them, `all` is every one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(in crate::cli) columns: Vec<String>,
    /// Times as rfc3339 (UTC) or unix-ns
    #[arg(long, value_name = "FORM", default_value = "rfc3339")]
    pub(in crate::cli) time_format: TimeFormat,
    /// UTC in tables, not local time
    #[arg(long, action = ArgAction::SetTrue)]
    pub(in crate::cli) utc: bool,
    /// Exact numbers in tables, nothing shortened
    #[arg(long)]
    pub(in crate::cli) exact: bool,
}

/// Without names.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct AnonymizeArgs {
    /// Addresses, with their prefixes kept, and names of hosts, users and programs become others; command
    /// lines and the like are left out (docs/OPERATIONS.md)
    #[arg(long)]
    pub(in crate::cli) anonymize: bool,
    /// The same with the key in this file: the same key gives the same names
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) anonymize_key: Option<PathBuf>,
}
