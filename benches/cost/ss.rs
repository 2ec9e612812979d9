//! What a user would run instead: `ss -tinmeaO` once an interval into a file, or into `gzip -1`.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::herd::{Herds, Traffic};
use super::measure::{Result, Running, Target, median};
use super::{ROUNDS, TICKS, cpu_a_tick, interval_ms, record_command};

/// Writes what `ss` says into a file, again and again.
pub struct Loop {
    out: Stdout,
    pub cpu_ms: f64,
}

enum Stdout {
    File(File),
    Gzip(Running),
}

impl Loop {
    pub fn into_file(file: &Path) -> Result<Self> {
        Ok(Self { out: Stdout::File(File::create(file)?), cpu_ms: 0.0 })
    }

    /// One gzip for all of it.
    pub fn into_gzip(file: &Path) -> Result<Self> {
        let mut command = Command::new("gzip");
        command.arg("-1").stdin(Stdio::piped()).stdout(File::create(file)?);
        Ok(Self { out: Stdout::Gzip(Running(command.spawn()?)), cpu_ms: 0.0 })
    }

    pub fn tick(&mut self) -> Result<()> {
        let stdout: Stdio = match &self.out {
            Stdout::File(file) => file.try_clone()?.into(),
            Stdout::Gzip(Running(Child { stdin: Some(pipe), .. })) => {
                std::os::fd::AsFd::as_fd(pipe).try_clone_to_owned()?.into()
            }
            Stdout::Gzip(_) => return Err("gzip has no stdin".into()),
        };
        let ss = Command::new("ss").arg("-tinmeaO").stdout(stdout).spawn()?;
        let (cpu_ms, status) = Running(ss).finish()?;
        self.cpu_ms += cpu_ms;
        if status.success() { Ok(()) } else { Err(format!("ss ended with {status}").into()) }
    }

    /// CPU of all children.
    pub fn finish(self) -> Result<f64> {
        match self.out {
            Stdout::File(_) => Ok(self.cpu_ms),
            Stdout::Gzip(mut gzip) => {
                drop(gzip.0.stdin.take());
                Ok(self.cpu_ms + gzip.finish()?.0)
            }
        }
    }
}

fn run(mut ss: Loop, interval_ms: u32) -> Result<f64> {
    let interval = Duration::from_millis(interval_ms.into());
    let mut due = Instant::now();
    for _ in 0..TICKS {
        ss.tick()?;
        due += interval;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(ss.finish()? / f64::from(TICKS))
}

pub fn measure(counts: &[u32]) -> Result<()> {
    println!("CPU a tick in ms, `ss` / recorder; median of {ROUNDS} rounds of {TICKS} ticks");
    println!(
        "{:>8}  {:>12}  {:>9}  {:>11}  {:>8}  {:>7}  {:>12}  {:>12}  {:>6}",
        "sockets",
        "load",
        "no owners",
        "with owners",
        "ss",
        "ratio",
        "target",
        "ss | gzip -1",
        "ratio"
    );
    for &count in counts {
        let herds = Herds::open(count)?;
        print(count, "idle", Target::AtLeast(4.0))?;
        let mut herds = herds;
        let traffic = Traffic::start(interval_ms(count), move || herds.exchange(100));
        print(count, "all changed", Target::AtLeast(2.0))?;
        drop(traffic);
    }
    Ok(())
}

fn print(count: u32, load: &str, target: Target) -> Result<()> {
    let interval_ms = interval_ms(count);
    let directory = tempfile::tempdir()?;
    let file = |name: String| directory.path().join(name);
    let [mut alone, mut with_owners, mut plain, mut gzipped] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let mut command = record_command(&file(format!("{round}.db")), interval_ms);
        alone.push(cpu_a_tick(command.arg("--no-owners"), interval_ms)?);
        let mut command = record_command(&file(format!("{round}o.db")), interval_ms);
        with_owners.push(cpu_a_tick(&mut command, interval_ms)?);
        plain.push(run(Loop::into_file(&file("ss.txt".to_owned()))?, interval_ms)?);
        gzipped.push(run(Loop::into_gzip(&file("ss.txt.gz".to_owned()))?, interval_ms)?);
    }
    let (alone, with_owners) = (median(alone), median(with_owners));
    let (plain, gzipped) = (median(plain), median(gzipped));
    println!(
        "{count:>8}  {load:>12}  {alone:>9.2}  {with_owners:>11.2}  {plain:>8.1}  {:>7.1}  {:>12}  \
         {gzipped:>12.1}  {:>6.1}",
        plain / alone,
        target.beside(plain / alone),
        gzipped / alone
    );
    Ok(())
}
