//! What can be chosen about the output, and the names by which it is chosen.

use std::fmt;
use std::str::FromStr;

use super::Zone;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for people; not a stable format.
    Table,
    /// RFC 4180 with a header line, ended by line feeds.
    Csv,
    /// An array of objects, one object a line.
    Json,
    /// One object a line.
    Jsonl,
}

impl Format {
    /// Every format, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::Table, Self::Csv, Self::Json, Self::Jsonl];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

/// How csv, json and jsonl write a moment; with [`UnixNs`](Self::UnixNs) tables follow too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339 in UTC with nine digits: `2026-11-21T13:03:07.123456789Z`. Tables show local time.
    #[default]
    Rfc3339,
    /// Nanoseconds since 1970 as a whole number.
    UnixNs,
}

impl TimeFormat {
    /// Every form, in the order in which help texts list them.
    pub const ALL: [Self; 2] = [Self::Rfc3339, Self::UnixNs];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::UnixNs => "unix-ns",
        }
    }
}

/// What can be chosen beside the format. `zone`, `width`, `exact` and `streams` concern tables alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How moments are written.
    pub times: TimeFormat,
    /// Whose clock a table shows.
    pub zone: Zone,
    /// The most that a line of a table may take, in terminal cells; `None` (a pipe) is no limit.
    pub width: Option<usize>,
    /// Tables shorten nothing: `12345` instead of `12.3ms`, moments to the nanosecond.
    pub exact: bool,
    /// Tables are written row by row as they come, with widths that mostly fit.
    pub streams: bool,
    /// Titles and what matters most are set off by colour.
    pub color: bool,
}

/// A name that is none of those offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}`, expected one of {expected}")]
pub struct UnknownName {
    what: &'static str,
    given: String,
    expected: String,
}

impl UnknownName {
    fn new<'a>(
        what: &'static str,
        given: &str,
        expected: impl Iterator<Item = &'a str>,
    ) -> UnknownName {
        let expected = expected.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        UnknownName { what, given: given.to_owned(), expected }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(given: &str) -> Result<Self, UnknownName> {
        let names = || Self::ALL.iter().map(|format| format.name());
        let found = Self::ALL.into_iter().find(|format| format.name() == given);
        found.ok_or_else(|| UnknownName::new("format", given, names()))
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TimeFormat {
    type Err = UnknownName;

    fn from_str(given: &str) -> Result<Self, UnknownName> {
        let names = || Self::ALL.iter().map(|format| format.name());
        let found = Self::ALL.into_iter().find(|format| format.name() == given);
        found.ok_or_else(|| UnknownName::new("time format", given, names()))
    }
}
