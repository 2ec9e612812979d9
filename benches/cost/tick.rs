//! CPU a tick against the drained floor.

use std::process::Command;

use super::herd::{Herds, Traffic, Visitors};
use super::measure::{Result, Target, median};
use super::{ROUNDS, TICKS, cpu_a_tick, interval_ms, record_command};

pub fn measure(counts: &[u32]) -> Result<()> {
    println!("CPU a tick in ms, recorder / floor; median of {ROUNDS} rounds of {TICKS} ticks");
    println!("a quarter of the connections with keepalive timers, one in a hundred in TIME-WAIT");
    println!("with owners: while those of the first snapshot are looked for, which happens once");
    println!(
        "{:>8}  {:>12}  {:>7}  {:>9}  {:>11}  {:>6}  {:>12}  {:>11}  {:>6}",
        "sockets",
        "load",
        "floor",
        "no owners",
        "µs a socket",
        "ratio",
        "target",
        "with owners",
        "ratio"
    );
    for &count in counts {
        let herds = Herds::open(count)?;
        // 1.2 is meant from 20,000 sockets on: below that what each tick takes anyway counts for more.
        print(count, "idle", Target::AtMost(1.2))?;
        let mut herds = herds;
        let traffic = Traffic::start(interval_ms(count), move || herds.exchange(100));
        print(count, "all changed", Target::AtMost(3.0))?;
        drop(traffic);
    }
    Ok(())
}

fn print(count: u32, load: &str, target: Target) -> Result<()> {
    let interval_ms = interval_ms(count);
    let (mut floor, mut alone, mut with_owners) = (Vec::new(), Vec::new(), Vec::new());
    let directory = tempfile::tempdir()?;
    let visitors = Visitors::new()?;
    for round in 0..ROUNDS {
        // A TIME-WAIT lasts a minute: those of the round before go while the floor is measured.
        visitors.come_and_go(count / 100)?;
        floor.push(cpu_a_tick(&mut floor_command(interval_ms)?, interval_ms)?);
        let file = |name: &str| directory.path().join(format!("{round}{name}.db"));
        let mut command = record_command(&file("alone"), interval_ms);
        alone.push(cpu_a_tick(command.arg("--no-owners"), interval_ms)?);
        let mut command = record_command(&file("owners"), interval_ms);
        with_owners.push(cpu_a_tick(&mut command, interval_ms)?);
    }
    let (floor, alone, with_owners) = (median(floor), median(alone), median(with_owners));
    let (ratio, ratio_with_owners) = (alone / floor, with_owners / floor);
    println!(
        "{count:>8}  {load:>12}  {floor:>7.2}  {alone:>9.2}  {:>11.2}  {ratio:>6.2}  {:>12}  \
         {with_owners:>11.2}  {ratio_with_owners:>6.2}",
        alone * 1e3 / f64::from(count),
        target.beside(ratio)
    );
    Ok(())
}

fn floor_command(interval_ms: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(interval_ms.to_string());
    Ok(command)
}
