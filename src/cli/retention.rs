//! How much a recording may hold: sizes on the command line, the default, what is said of it.

use std::path::Path;

use super::args::RecordArgs;
use super::message::{note, usage};
use super::moment::parse_duration;
use crate::kernel::{CgroupWalk, ProcDir};
use crate::model::ProcessKey;
use crate::render::human::{bytes, exact};
use crate::store::{Alive, AllAlive, Capacity, LOG_BYTES, Room, SMALLEST_BYTES, ThinRule, room};

/// By default a recording takes so much of the room at its start: what is free and what it has.
const SHARE_OF_ROOM: u64 = 4;
/// Larger than a snapshot that shows tens of thousands of new sockets.
const SLACK_BYTES: u64 = 4 * LOG_BYTES;

/// `--max-size` of `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeLimit {
    None,
    Bytes(u64),
}

/// Reads a size such as `2G`, `500M` or `1.5GiB`: powers of 1,024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "" => return Err(format!("it has no unit, write `{number}M`")),
        _ => return Err("write it as in `500M` or `2G`".to_owned()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_read = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let (Ok(whole), Ok(part), true) =
        (whole.parse::<u64>(), format!("{part:0<3}").parse::<u64>(), is_read)
    else {
        return Err("write it as in `500M` or `2G`".to_owned());
    };
    let size = whole
        .checked_mul(1_000)
        .and_then(|thousandths| thousandths.checked_add(part))
        .and_then(|thousandths| thousandths.checked_mul(1 << power))
        .ok_or("it is too large")?;
    match size / 1_000 {
        size if size < SMALLEST_BYTES => Err(format!(
            "the smallest is {}M: the log alone may take {}M",
            SMALLEST_BYTES >> 20,
            LOG_BYTES >> 20
        )),
        size => Ok(size),
    }
}

/// The same, or `none`.
pub(super) fn parse_size_limit(text: &str) -> Result<SizeLimit, String> {
    if text.trim() == "none" { Ok(SizeLimit::None) } else { parse_size(text).map(SizeLimit::Bytes) }
}

/// `--max-age` of `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgeLimit {
    None,
    Ns(i64),
}

/// Reads `14d` or `none`.
pub(super) fn parse_age_limit(text: &str) -> Result<AgeLimit, String> {
    if text.trim() == "none" { Ok(AgeLimit::None) } else { parse_duration(text).map(AgeLimit::Ns) }
}

/// Pairs of `--thin` and `--after`, the finest first. The steps of a coarser one are whole multiples of a
/// finer one's: what is left of these is there to be left again.
pub(super) fn thin_rules(every: &[i64], after: &[i64]) -> anyhow::Result<Vec<ThinRule>> {
    if every.len() != after.len() {
        return Err(usage(
            "each `--thin` goes with one `--after`",
            Some(
                "`--thin 10s --after 1d --thin 1m --after 7d`: finer while young, coarser when old",
            ),
        ));
    }
    let pairs = every.iter().zip(after);
    ordered(pairs.map(|(&every_ns, &after_ns)| ThinRule { every_ns, after_ns }).collect())
        .map_err(|text| usage(text, None))
}

/// The same of pairs, wherever they come from.
pub(super) fn ordered(mut rules: Vec<ThinRule>) -> Result<Vec<ThinRule>, String> {
    rules.sort_by_key(|rule| rule.after_ns);
    for pair in rules.windows(2) {
        let [fine, coarse] = pair else { continue };
        if coarse.after_ns == fine.after_ns {
            return Err(format!("samples are thinned twice after {}", exact(fine.after_ns)));
        }
        if coarse.every_ns <= fine.every_ns || coarse.every_ns % fine.every_ns != 0 {
            return Err(format!(
                "what was thinned to {} cannot be thinned to {} after {}: the longer the age the longer \
                 the steps, and these are whole multiples of the shorter ones",
                exact(fine.every_ns),
                exact(coarse.every_ns),
                exact(coarse.after_ns)
            ));
        }
    }
    Ok(rules)
}

/// Reads `10s after 1d`.
pub(super) fn parse_thin(text: &str) -> Result<ThinRule, String> {
    let (every, after) = text.split_once("after").ok_or("write it as in `10s after 1d`")?;
    Ok(ThinRule {
        every_ns: parse_duration(every.trim())?,
        after_ns: parse_duration(after.trim())?,
    })
}

/// What was asked for, or the default for a recording here.
pub(super) fn capacity(
    path: &Path,
    max_size: Option<SizeLimit>,
    max_age: Option<AgeLimit>,
    thin: Vec<ThinRule>,
) -> Capacity {
    let max_bytes = match max_size {
        Some(SizeLimit::Bytes(bytes)) => Some(bytes),
        Some(SizeLimit::None) => None,
        None => room(path).map(default_size),
    };
    let max_age_ns = match max_age {
        Some(AgeLimit::Ns(ns)) => Some(ns),
        Some(AgeLimit::None) | None => None,
    };
    Capacity { max_bytes, max_age_ns, thin }
}

/// What it has it keeps: a recorder that is just started drops nothing.
fn default_size(room: Room) -> u64 {
    let share = (room.free_bytes + room.used_bytes) / SHARE_OF_ROOM;
    share.max(room.used_bytes + LOG_BYTES).max(SMALLEST_BYTES)
}

/// What a recorder of this machine may come back to.
pub(super) fn alive() -> Box<dyn Alive> {
    match ProcDir::open() {
        Ok(processes) => Box::new(Here { processes, cgroups: CgroupWalk::new() }),
        Err(_) => Box::new(AllAlive),
    }
}

struct Here {
    processes: ProcDir,
    cgroups: CgroupWalk,
}

impl Alive for Here {
    fn process(&mut self, key: ProcessKey) -> bool {
        self.processes.is_there(key)
    }

    fn cgroup(&mut self, id: u64, path: &str) -> bool {
        self.cgroups.is_there(id, path)
    }
}

/// Says the default, and a limit that needs more room than there is.
pub(super) fn explain(args: &RecordArgs, capacity: &Capacity, was_asked_for: bool) {
    let Some(max) = capacity.max_bytes else { return };
    let size = bytes(max.cast_signed());
    let there = room(&args.output).map(|room| room.free_bytes + room.used_bytes);
    if !was_asked_for {
        note(&format!(
            "keeps to {size}, a quarter of the room on this disk: then the oldest snapshots go \
             (`--max-size`)"
        ));
    } else if let Some(there) = there.filter(|there| *there < max) {
        let there = bytes(there.cast_signed());
        note(&format!(
            "the limit of {size} (`max-size`) is beyond what this disk has room for: {there}"
        ));
    }
}

/// Whether a recording is beyond its limit by more than it may be.
pub(super) struct Excess {
    max_bytes: Option<u64>,
    is_told: bool,
}

impl Excess {
    pub(super) fn of(capacity: &Capacity) -> Self {
        Self { max_bytes: capacity.max_bytes, is_told: false }
    }

    pub(super) fn set_capacity(&mut self, capacity: &Capacity) {
        self.max_bytes = capacity.max_bytes;
    }

    /// What there is to say when it begins and when it is over.
    pub(super) fn news(&mut self, file_bytes: u64) -> Option<String> {
        let max = self.max_bytes?;
        let size = bytes(file_bytes.cast_signed());
        if !self.is_told && file_bytes > max.saturating_add(SLACK_BYTES) {
            self.is_told = true;
            return Some(format!(
                "the recording has {size}, more than its limit: its last group of snapshots alone is \
                 as large, or a reader keeps its log from being folded in"
            ));
        }
        if self.is_told && file_bytes <= max {
            self.is_told = false;
            return Some(format!("the recording is within its limit again: {size}"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_are_large_enough() {
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("500MiB"), Ok(500 << 20));
        assert_eq!(parse_size("1.5g"), Ok(3 << 29));
        assert!(parse_size("2").unwrap_err().contains("2M"));
        assert!(parse_size("31M").unwrap_err().contains("smallest is 32M"));
        for text in ["", "G", "1.2.3G", "-1G", "2X", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size_limit("none"), Ok(SizeLimit::None));
        assert_eq!(parse_age_limit("1s"), Ok(AgeLimit::Ns(1_000_000_000)));
        assert_eq!(parse_age_limit("none"), Ok(AgeLimit::None));
    }

    #[test]
    fn an_excess_is_told_of_once_and_when_it_is_over() {
        let max = 64 << 20;
        let capacity = Capacity { max_bytes: Some(max), ..Capacity::NONE };
        let mut excess = Excess::of(&capacity);
        let mut news = |bytes| excess.news(bytes);
        assert_eq!(news(max + SLACK_BYTES), None);
        assert!(news(max + SLACK_BYTES + 1).unwrap().contains("more than its limit"));
        assert_eq!(news(2 * max), None);
        assert_eq!(news(max + 1), None);
        assert!(news(max).unwrap().contains("within its limit again"));
        assert_eq!(news(max), None);
        assert_eq!(Excess::of(&Capacity::NONE).news(u64::MAX), None);
    }

    #[test]
    fn by_default_a_quarter_of_the_room_is_taken_and_nothing_is_dropped_at_once() {
        let room = |free_bytes, used_bytes| default_size(Room { free_bytes, used_bytes });
        assert_eq!(room(70 << 30, 10 << 30), 20 << 30);
        assert_eq!(room(1 << 30, 10 << 30), (10 << 30) + LOG_BYTES);
        assert_eq!(room(0, 0), SMALLEST_BYTES);
    }
}
