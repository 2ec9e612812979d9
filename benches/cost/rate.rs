//! 100 snapshots a second of 1,000 sockets.

use std::process::Stdio;

use sockrec::model::Value;
use sockrec::store::{Reader, StoreError};

use super::herd::Herds;
use super::measure::{Result, Target, quantile};
use super::record_command;

const SOCKETS: u32 = 1_000;
const INTERVAL_MS: u32 = 10;

pub fn measure(seconds: u32) -> Result<()> {
    let _herds = Herds::open(SOCKETS)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rate.db");
    let mut command = record_command(&file, INTERVAL_MS);
    let status =
        command.arg("--duration").arg(format!("{seconds}s")).stdout(Stdio::null()).status()?;
    // 3: done, with ticks missed.
    if !matches!(status.code(), Some(0 | 3)) {
        return Err(format!("the recorder ended with {status}").into());
    }
    let reader = Reader::open(&file)?;
    let missed = reader.integer("SELECT sum(missed_ticks) FROM snapshots", &[])?.unwrap_or(0);
    let mut starts_ns = Vec::new();
    reader.run::<StoreError>(
        "SELECT started_monotonic_ns FROM snapshots ORDER BY snapshot_id",
        &[],
        |row| {
            starts_ns.extend(row.iter().filter_map(|value| match value {
                Value::Integer(ns) => Some(*ns),
                _ => None,
            }));
            Ok(())
        },
    )?;
    // The first is due at once, and tells where the grid lies, give or take its own delay.
    let interval_ns = i64::from(INTERVAL_MS) * 1_000_000;
    let slack_ns = interval_ns / 10;
    let first = starts_ns.first().copied().unwrap_or(0);
    let late_ns = |ns: &i64| (ns - first + slack_ns).rem_euclid(interval_ns) - slack_ns;
    let mut late_ms: Vec<f64> = starts_ns.iter().map(|ns| late_ns(ns) as f64 / 1e6).collect();
    late_ms.sort_by(f64::total_cmp);
    println!("{SOCKETS} sockets, a snapshot every {INTERVAL_MS} ms, for {seconds} s");
    println!("{:<28} {:>8}", "snapshots", starts_ns.len());
    let line = |what: &str, figure: f64, target: Target| {
        println!("{what:<28} {figure:>8.2}  {}", target.beside(figure));
    };
    println!("{:<28} {missed:>8}  {}", "missed ticks", Target::AtMost(0.0).beside(missed as f64));
    println!("{:<28} {:>8.2}", "late by, ms: median", quantile(&late_ms, 0.5));
    line("late by, ms: 99 %", quantile(&late_ms, 0.99), Target::AtMost(2.0));
    println!("{:<28} {:>8.2}", "late by, ms: most", quantile(&late_ms, 1.0));
    Ok(())
}
