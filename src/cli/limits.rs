//! What bounds a recorder: options, the file of limits, defaults.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use rustix::fs::OFlags;

use super::args::RecordArgs;
use super::message::usage;
use super::retention::{
    AgeLimit, SizeLimit, capacity, ordered, parse_age_limit, parse_size_limit, parse_thin,
};
use crate::filter::nearest;
use crate::record::{CpuShare, Limits};
use crate::store::ThinRule;

/// Half a CPU: a recorder that has far more to do than was foreseen leaves ticks out before it takes
/// what it is to watch. Ten seconds' worth may be taken at once.
const MAX_CPU: CpuShare = CpuShare(0.5);
const MAX_NEW_SOCKETS: u64 = 100_000;

/// A limit of CPU time as it is typed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CpuLimit {
    None,
    Share(CpuShare),
}

/// Reads `5%`, `0.5%` or `none`.
pub(super) fn parse_cpu_limit(text: &str) -> Result<CpuLimit, String> {
    let text = text.trim();
    if text == "none" {
        return Ok(CpuLimit::None);
    }
    let Some(number) = text.strip_suffix('%') else {
        return Err("write it as in `5%`, of one CPU, or `none`".to_owned());
    };
    match f64::from_str(number.trim()) {
        Ok(percent) if (0.1..=100_000.0).contains(&percent) => {
            Ok(CpuLimit::Share(CpuShare(percent / 100.0)))
        }
        Ok(percent) if percent < 0.1 => Err("the least is 0.1%".to_owned()),
        _ => Err("write it as in `5%`, of one CPU, or `none`".to_owned()),
    }
}

/// Limits that a file sets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set {
    max_new_sockets: Option<u64>,
    max_cpu: Option<CpuLimit>,
    max_size: Option<SizeLimit>,
    max_age: Option<AgeLimit>,
    thin: Vec<ThinRule>,
}

/// The names that a file may set.
const NAMES: &[&str] = &["max-age", "max-cpu", "max-new-sockets", "max-size", "thin"];

/// Which time the file of limits is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// At the start: out of a pipe too, which can be read once.
    First,
    /// While it records, which is not to wait for anybody.
    Again,
}

/// What a recorder is to keep to.
pub(super) struct Given {
    pub(super) limits: Limits,
    /// Whether a size was asked for.
    pub(super) has_size: bool,
}

/// The limits that hold: options before the file, the file before the defaults.
pub(super) fn limits(args: &RecordArgs, reading: Reading) -> anyhow::Result<Given> {
    let file = args.limits.as_deref().map(|path| read(path, reading)).transpose()?;
    let file = file.unwrap_or_default();
    let thin = match args.thin.rules()? {
        rules if rules.is_empty() => file.thin,
        rules => rules,
    };
    let max_cpu = args.max_cpu.or(file.max_cpu).unwrap_or(CpuLimit::Share(MAX_CPU));
    let max_size = args.max_size.or(file.max_size);
    let limits = Limits {
        max_new_sockets: args.max_new_sockets.or(file.max_new_sockets).unwrap_or(MAX_NEW_SOCKETS),
        max_cpu: match max_cpu {
            CpuLimit::None => None,
            CpuLimit::Share(share) => Some(share),
        },
        capacity: capacity(&args.output, max_size, args.max_age.or(file.max_age), thin),
    };
    Ok(Given { limits, has_size: max_size.is_some() })
}

fn read(path: &Path, reading: Reading) -> anyhow::Result<Set> {
    let name = path.display();
    let context = || format!("could not read the limits in `{name}`");
    let mut file = open(path, reading).with_context(context)?;
    let kind = file.metadata().with_context(context)?.file_type();
    match reading {
        _ if kind.is_file() => {}
        Reading::First if kind.is_fifo() => {}
        Reading::First => {
            let text = format!("`{name}` is neither a regular file nor a pipe: it holds no limits");
            return Err(usage(text, Some("name a file of lines like `max-cpu = 5%`")));
        }
        Reading::Again => {
            anyhow::bail!("`{name}` is no regular file, and nothing else is read again");
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(context)?;
    parse(&text).map_err(|LineError { line, text, hint }| {
        usage(format!("line {line} of `{name}`: {text}"), hint.as_deref())
    })
}

/// Who waits for the writer of a pipe can be ended at the start, but not once signals are taken over.
fn open(path: &Path, reading: Reading) -> io::Result<File> {
    let flags = match reading {
        Reading::First => OFlags::empty(),
        Reading::Again => OFlags::NONBLOCK,
    };
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// What is wrong in which line.
#[derive(Debug, PartialEq)]
struct LineError {
    line: usize,
    text: String,
    hint: Option<String>,
}

/// Reads lines like `max-cpu = 5%`; what stands behind `#` is a comment.
fn parse(text: &str) -> Result<Set, LineError> {
    let mut set = Set::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let error = |text, hint| LineError { line: index + 1, text, hint };
        let Some((name, value)) = line.split_once('=') else {
            let hint = "write it as in `max-cpu = 5%`".to_owned();
            return Err(error(format!("`{line}` sets nothing"), Some(hint)));
        };
        let (name, value) = (name.trim(), value.trim());
        let result = match name {
            "max-cpu" => parse_cpu_limit(value).map(|limit| set.max_cpu = Some(limit)),
            "max-size" => parse_size_limit(value).map(|limit| set.max_size = Some(limit)),
            "max-age" => parse_age_limit(value).map(|limit| set.max_age = Some(limit)),
            "thin" => parse_thin(value)
                .and_then(|rule| ordered([&set.thin[..], &[rule]].concat()))
                .map(|rules| set.thin = rules),
            "max-new-sockets" => value
                .parse()
                .map(|max| set.max_new_sockets = Some(max))
                .map_err(|e: std::num::ParseIntError| e.to_string()),
            _ => {
                let hint = match nearest(name, NAMES.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("limits are {}", NAMES.join(", ")),
                };
                return Err(error(format!("there is no limit `{name}`"), Some(hint)));
            }
        };
        result
            .map_err(|why| error(format!("invalid value `{value}` for `{name}`: {why}"), None))?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_lines_with_comments() {
        let text = "# of this host\n\nmax-cpu = 2.5% # of one\n  max-new-sockets=7\n";
        let share = CpuLimit::Share(CpuShare(0.025));
        let set = Set { max_new_sockets: Some(7), max_cpu: Some(share), ..Set::default() };
        assert_eq!(parse(text), Ok(set));
        let (max_size, max_age) = (Some(SizeLimit::Bytes(2 << 30)), Some(AgeLimit::None));
        let set = Set { max_size, max_age, ..Set::default() };
        assert_eq!(parse("max-size = 2G\nmax-age = none"), Ok(set));
        assert_eq!(parse(""), Ok(Set::default()));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        let wrong = |text| {
            let e = parse(text).unwrap_err();
            format!("{}: {} ({})", e.line, e.text, e.hint.unwrap_or_default())
        };
        assert_eq!(wrong("\nmax-cpu"), "2: `max-cpu` sets nothing (write it as in `max-cpu = 5%`)");
        assert_eq!(wrong("max-cp = 5%"), "1: there is no limit `max-cp` (did you mean `max-cpu`?)");
        let text =
            "1: invalid value `5` for `max-cpu`: write it as in `5%`, of one CPU, or `none` ()";
        assert_eq!(wrong("max-cpu = 5"), text);
        assert!(wrong("max-new-sockets = -1").contains("invalid digit"));
    }

    #[test]
    fn a_share_is_of_one_cpu_in_percent() {
        assert_eq!(parse_cpu_limit("150%"), Ok(CpuLimit::Share(CpuShare(1.5))));
        assert_eq!(parse_cpu_limit("none"), Ok(CpuLimit::None));
        for text in ["0%", "-1%", "5", "%", "NaN%", "inf%", "1e9%", ""] {
            assert!(parse_cpu_limit(text).is_err(), "{text}");
        }
    }
}
