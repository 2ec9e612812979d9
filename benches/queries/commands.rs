//! How long the program takes to answer, from its start to its end, against what is asked of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sockrec::render::ConnectionTable;
use sockrec::store::Reader;

use super::NOON;
use super::measure::{Result, Running, Target, median};
use super::world::SECOND;

const ROUNDS: usize = 5;

/// What most people export of samples.
pub const TWENTY: &str = "taken_at,socket_id,cookie,local_address,local_port,remote_address,\
     remote_port,state,rqueue_bytes,wqueue_bytes,bytes_sent,bytes_acked,bytes_received,rtt_us,\
     rttvar_us,min_rtt_us,snd_cwnd,total_retrans,pacing_rate_bytes_per_s,congestion_control";

/// One that lived all day is among those that the first snapshot showed.
const LIVED_ALL_DAY: &str = "SELECT min(k.socket_id) FROM sockets AS k
     LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
     WHERE k.first_snapshot_id = 1 AND k.remote_port > 0 AND e.socket_id IS NULL";

pub fn of_the_day(path: &Path, words: &[&str]) -> Result<()> {
    let id = Reader::open(path)?.integer(LIVED_ALL_DAY, &[])?.unwrap_or(0).to_string();
    let second = |ns: i64| format!("@{}", ns / SECOND);
    let (noon, later) = (second(NOON), second(NOON + 2 * 3_600 * SECOND));
    let within = |seconds| Some(Limit::Within(seconds));
    let a_second = |rows| Some(Limit::RowsASecond(rows));
    let two_hours = ["export", "samples", "--format", "csv", "--from", &noon, "--to", &later];
    let twenty = [&two_hours[..], &["--columns", TWENTY]].concat();
    let asked: [(&str, &[&str], Option<Limit>); 12] = [
        ("query at", &["query", "at", &noon], within(0.1)),
        ("query connections FILTER", &["query", "connections", "dst 198.51.0.7"], within(0.5)),
        ("query connection ID", &["query", "connection", &id], within(0.2)),
        ("query states, 1 min", &["query", "states", "--bucket", "1m"], within(1.0)),
        ("query peers", &["query", "peers"], within(1.0)),
        ("query slow", &["query", "slow"], within(1.0)),
        ("query churn, 1 min", &["query", "churn", "--bucket", "1m"], None),
        ("query processes", &["query", "processes"], None),
        ("query leaks", &["query", "leaks"], None),
        ("query connections", &["query", "connections", "--format", "csv"], None),
        ("export samples, all", &two_hours, a_second(150_000.0)),
        ("export samples, 20 columns", &twenty, a_second(500_000.0)),
    ];
    heading();
    for (name, arguments, limit) in asked {
        if words.is_empty() || words.iter().any(|word| name.contains(word)) {
            measure(path, name, arguments, limit, ROUNDS)?;
        }
    }
    Ok(())
}

pub fn of_a_million(path: &Path) -> Result<()> {
    let all = ["query", "connections", "--format", "csv"];
    let table = ConnectionTable::COLUMNS.join(",");
    let few = "socket_id,protocol,local_address,local_port,remote_address,remote_port,opened_before,\
         closed_before,ending,bytes_sent,bytes_received";
    let shown = [&all[..], &["--columns", &table]].concat();
    let few = [&all[..], &["--columns", few]].concat();
    let limit = Some(Limit::Within(3.0));
    heading();
    measure(path, "connections, all columns", &all, limit, 3)?;
    measure(path, "the columns of its table", &shown, limit, 3)?;
    measure(path, "11 columns", &few, limit, 3)
}

#[derive(Clone, Copy)]
enum Limit {
    /// Seconds.
    Within(f64),
    RowsASecond(f64),
}

fn heading() {
    println!("the program from its start to its end, its answer into /dev/null");
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>11}  target",
        "command", "lines", "median s", "CPU s", "lines a s"
    );
}

fn measure(
    path: &Path,
    name: &str,
    arguments: &[&str],
    limit: Option<Limit>,
    rounds: usize,
) -> Result<()> {
    let Timed { lines, seconds, cpu_seconds } = timed(path, arguments, rounds)?;
    let rate = lines as f64 / seconds;
    let target = match limit {
        Some(Limit::Within(limit)) => Target::AtMost(limit).beside(seconds),
        Some(Limit::RowsASecond(limit)) => Target::AtLeast(limit).beside(rate),
        None => String::new(),
    };
    println!("{name:<28} {lines:>9} {seconds:>9.3} {cpu_seconds:>9.3} {rate:>11.0}  {target}");
    Ok(())
}

/// What a command took, the median of some rounds.
pub struct Timed {
    pub lines: usize,
    pub seconds: f64,
    pub cpu_seconds: f64,
}

/// Runs the program so many times; once before that, which counts the lines.
pub fn timed(path: &Path, arguments: &[&str], rounds: usize) -> Result<Timed> {
    let command = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockrec"));
        command.args(arguments).arg("-f").arg(path).stdout(stdout).stderr(Stdio::null());
        command
    };
    let output = tempfile::NamedTempFile::new()?;
    if !command(output.reopen()?.into()).status()?.success() {
        return Err(format!("`sockrec {}` failed", arguments.join(" ")).into());
    }
    let lines = lines_of(output.path())?;
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut child = Running(command(Stdio::null()).spawn()?);
        cpu.push(child.finish()?.0 / 1e3);
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(Timed { lines, seconds: median(times), cpu_seconds: median(cpu) })
}

fn lines_of(path: &Path) -> Result<usize> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += block[..read].iter().filter(|&&byte| byte == b'\n').count();
    }
}
