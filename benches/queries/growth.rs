//! How long questions take after one to ten recorded days.

use std::path::Path;

use super::commands::{TWENTY, timed};
use super::day::{DAY, Load};
use super::measure::Result;
use super::world::{SECOND, START_UTC};

const DAYS: [u64; 5] = [1, 2, 4, 7, 10];
const SECONDS_A_DAY: u64 = 86_400;

/// Ten days that are looked at every 10 s: as many snapshots as the day has.
const TEN_DAYS: Load = Load { name: "ten days", interval_ns: 10 * SECOND, ..DAY };

pub fn measure() -> Result<()> {
    println!("1,000 sockets at a time, a snapshot every 10 s, 20,000 connections a day");
    println!("the program from its start to its end; `at` and the hour: median of 5");
    println!(
        "{:>5} {:>7} {:>7} {:>17} {:>12} {:>11} {:>10}",
        "days", "MB", "at, ms", "an hour of peers", "export, s", "s a day", "rows"
    );
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ten-days.db");
    let snapshots_a_day = TEN_DAYS.ticks / 10;
    let mut left = DAYS.iter().copied().peekable();
    TEN_DAYS.watched(&file, &mut |path, snapshots| match left
        .next_if(|days| snapshots >= days * snapshots_a_day)
    {
        Some(days) => row(path, days),
        None => Ok(()),
    })?;
    // The last snapshots are stored only after the last tick.
    left.try_for_each(|days| row(&file, days))
}

fn row(path: &Path, days: u64) -> Result<()> {
    let middle = START_UTC / SECOND + i64::try_from(days * SECONDS_A_DAY / 2)?;
    let (at, to) = (format!("@{middle}"), format!("@{}", middle + 3_600));
    let hour = timed(path, &["query", "peers", "--from", &at, "--to", &to], 5)?;
    let at = timed(path, &["query", "at", &at], 5)?;
    let export = timed(path, &["export", "samples", "--format", "csv", "--columns", TWENTY], 1)?;
    println!(
        "{days:>5} {:>7} {:>7.0} {:>14.0} ms {:>12.2} {:>11.2} {:>10}",
        std::fs::metadata(path)?.len() / 1_000_000,
        at.seconds * 1e3,
        hour.seconds * 1e3,
        export.seconds,
        export.seconds / days as f64,
        export.lines
    );
    Ok(())
}
