//! How long questions take, asked of a day that never was.
//!
//! ```text
//! cargo bench --bench queries                  makes the day, asks, and throws it away
//! cargo bench --bench queries -- FILE [WORDS]  makes it if FILE is not there, keeps it, and asks the
//!                                              questions whose names contain one of the words
//! cargo bench --bench queries -- ended [FILE]  the same with a million ended connections
//! cargo bench --bench queries -- growth        questions after one to ten recorded days
//! ```
//!
//! What is recorded is described in `day.rs`. The recorder itself records it, from made-up kernel
//! messages, which takes a minute or two and 1.2 GB of disk.

#![allow(dead_code, reason = "the made-up machines of the tests can do more than is used here")]

#[path = "../measure/mod.rs"]
mod measure;
#[path = "../../tests/simulated/socket.rs"]
mod socket;
#[path = "../../tests/simulated/world.rs"]
mod world;

mod commands;
mod day;
mod growth;
mod questions;

use std::path::{Path, PathBuf};

use day::{DAY, Load};
use measure::Result;
use world::{SECOND, START_UTC};

/// The middle of the day.
const NOON: i64 = START_UTC + 12 * 3_600 * SECOND;

/// A hundred connections a tick, all of which are over after three.
const MILLION: Load = Load {
    name: "a million connections",
    ticks: 10_000,
    interval_ns: 60 * SECOND,
    staying: 100,
    opened_per_mille: 100_000,
    is_brief: true,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"growth", _)) => growth::measure(),
        Some((&"ended", rest)) => with(&MILLION, rest.first().copied(), commands::of_a_million),
        kept => with(&DAY, kept.map(|(file, _)| *file), |path| {
            let words = words.get(1..).unwrap_or_default();
            commands::of_the_day(path, words)?;
            questions::ask(path, words)
        }),
    }
}

/// Records this load unless it was kept, and asks.
fn with(load: &Load, kept: Option<&str>, ask: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = kept.map_or_else(|| directory.path().join("made-up.db"), PathBuf::from);
    if !path.exists() {
        load.record(&path)?;
    }
    ask(&path)
}
