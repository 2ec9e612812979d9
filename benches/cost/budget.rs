//! What a user wants to know before installing: CPU and bytes a day by sockets and interval.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::herd::{Herds, Traffic, Visitors};
use super::measure::{Result, Running};
use super::mixed::bytes_in_use;
use super::record_command;

/// Of the connections in a second.
const ACTIVE_PERCENT: usize = 15;
const LOADS: [(u32, u32); 5] =
    [(100, 1_000), (1_000, 1_000), (1_000, 10_000), (10_000, 1_000), (10_000, 10_000)];

pub fn measure(seconds: u32) -> Result<()> {
    println!(
        "{ACTIVE_PERCENT} % of the connections exchange a byte each way a second, and for every"
    );
    println!("1,000 sockets 2 connections a second come and go; {seconds} s, or 6 snapshots");
    println!("{:>8}  {:>8}  {:>8}  {:>8}", "sockets", "interval", "CPU", "MB a day");
    for (sockets, interval_ms) in LOADS {
        let mut herds = Herds::open(sockets)?;
        let visitors = Visitors::new()?;
        let mut due = 0;
        let traffic = Traffic::start(1_000, move || {
            due += sockets * 2;
            visitors.come_and_go(due / 1_000)?;
            due %= 1_000;
            herds.exchange(ACTIVE_PERCENT)
        });
        let directory = tempfile::tempdir()?;
        let begins =
            bytes_after(&directory.path().join("begins.db"), interval_ms, &["--count", "2"])?;
        let seconds = seconds.max(interval_ms * 6 / 1_000);
        let file = directory.path().join("budget.db");
        let mut child = Running(record_command(&file, interval_ms).stdout(Stdio::null()).spawn()?);
        let interval = Duration::from_millis(interval_ms.into());
        thread::sleep(interval + interval / 2);
        let before_ms = child.cpu_ms()?;
        thread::sleep(Duration::from_secs(seconds.into()));
        let cpu_ms = child.cpu_ms()? - before_ms;
        child.stop()?;
        drop(traffic);
        let grown = bytes_in_use(&file)? - begins;
        println!(
            "{sockets:>8}  {:>6} s  {:>6.1} %  {:>8.0}",
            interval_ms / 1_000,
            cpu_ms / 10.0 / f64::from(seconds),
            grown / f64::from(seconds) * 86_400.0 / 1e6
        );
    }
    Ok(())
}

fn bytes_after(file: &Path, interval_ms: u32, options: &[&str]) -> Result<f64> {
    let status = record_command(file, interval_ms).args(options).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("the recorder ended with {status}").into());
    }
    bytes_in_use(file)
}
