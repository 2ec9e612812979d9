//! What recording costs, as ratios within one run.
//!
//! ```text
//! cargo bench --bench cost -- tick [SOCKETS …]     CPU a tick against the drained floor
//! cargo bench --bench cost -- ss [SOCKETS …]       the same against `ss -tinmeaO` into a file
//! cargo bench --bench cost -- mixed [SECONDS]      bytes and CPU of a mixed load, against `ss` too
//! cargo bench --bench cost -- memory [SOCKETS …]   memory of a recorder of idle sockets
//! cargo bench --bench cost -- rate [SECONDS]       100 snapshots a second: missed ticks and jitter
//! cargo bench --bench cost -- budget [SECONDS]     CPU and bytes a day by sockets and interval
//! ```
//!
//! Run it in a network namespace of its own where that is allowed, so that only its own sockets are
//! in the dumps: `unshare --net sh -c 'ip link set lo up && cargo bench --bench cost'`. 50,000 sockets
//! take `ulimit -n 65536`, if that is allowed.
//!
//! The floor is the same four dumps at the same cadence, drained and thrown away by a process of
//! its own. CPU is user and system time of all threads, from `/proc/PID/task/*/schedstat`. What is
//! compared runs in turn, or at once, on the same sockets, all on loopback.

#[path = "../measure/mod.rs"]
mod measure;

mod budget;
mod herd;
mod mixed;
mod rate;
mod ss;
mod tick;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sockrec::kernel::DiagSocket;
use sockrec::model::{Family, Protocol, States};

use herd::Herds;
use measure::{Result, Running, Target};

const ROUNDS: usize = 3;
const TICKS: u32 = 12;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (&what, rest) = words.split_first().unwrap_or((&"tick", &[]));
    let numbers: Vec<u32> =
        rest.iter().map(|word| word.parse()).collect::<std::result::Result<_, _>>()?;
    let one = |default| numbers.first().copied().unwrap_or(default);
    let some =
        |default: &[u32]| if numbers.is_empty() { default.to_vec() } else { numbers.clone() };
    match what {
        "herd" => herd::keep_herd(one(2)),
        "floor" => floor(one(1_000)),
        "tick" => tick::measure(&some(&[1_000, 20_000])),
        "ss" => ss::measure(&some(&[1_000, 20_000])),
        "mixed" => mixed::measure(one(60)),
        "memory" => memory(&some(&[1_000, 50_000])),
        "rate" => rate::measure(one(60)),
        "budget" => budget::measure(one(60)),
        other => {
            let known = "`tick`, `ss`, `mixed`, `memory`, `rate` and `budget`";
            Err(format!("`{other}` is none of {known}").into())
        }
    }
}

/// Dumps at a cadence and throws everything away, until killed.
fn floor(interval_ms: u32) -> Result<()> {
    let mut socket = DiagSocket::open()?;
    let interval = Duration::from_millis(interval_ms.into());
    let mut due = Instant::now();
    loop {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in Family::ALL {
                socket.dump(family, protocol, States::ALL, &mut |_, _| {});
            }
        }
        due += interval;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Of a recorder at an interval of a second, after half a minute.
fn memory(counts: &[u32]) -> Result<()> {
    println!("anonymous memory in MB after 30 s, and the most that was resident");
    println!(
        "{:>8}  {:>9}  {:>5}  {:>11}  {:>5}  target",
        "sockets", "no owners", "most", "with owners", "most"
    );
    for &count in counts {
        let _herds = Herds::open(count)?;
        let directory = tempfile::tempdir()?;
        let mut figures = Vec::new();
        for options in [&["--no-owners"][..], &[]] {
            let file = directory.path().join(format!("{}.db", figures.len()));
            let mut command = record_command(&file, 1_000);
            let mut child = Running(command.args(options).stdout(Stdio::null()).spawn()?);
            thread::sleep(Duration::from_secs(30));
            figures.extend([child.memory_mb("RssAnon")?, child.memory_mb("VmHWM")?]);
            child.stop()?;
        }
        let target = Target::AtMost((40.0 + f64::from(count) * 700.0 / 1e6).round());
        println!(
            "{count:>8}  {:>9.0}  {:>5.0}  {:>11.0}  {:>5.0}  {}",
            figures[0],
            figures[1],
            figures[2],
            figures[3],
            target.beside(figures[3])
        );
    }
    Ok(())
}

fn record_command(file: &Path, interval_ms: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockrec"));
    command.arg("record").arg("-q").arg("-o").arg(file).arg("--interval");
    command.arg(format!("{interval_ms}ms"));
    command
}

/// Long enough that no tick is missed: a dump of 100,000 sockets takes some 200 ms.
fn interval_ms(sockets: u32) -> u32 {
    250.max(sockets / 20)
}

/// Milliseconds of CPU that a command takes a tick, after its first ticks (the first of a recorder
/// stores every socket).
fn cpu_a_tick(command: &mut Command, interval_ms: u32) -> Result<f64> {
    let interval = Duration::from_millis(interval_ms.into());
    let mut child = Running(command.stdout(Stdio::null()).spawn()?);
    // Between two ticks, when both threads are at rest.
    thread::sleep(interval * 3 + interval / 2);
    let before = child.cpu_ms()?;
    thread::sleep(interval * TICKS);
    let after = child.cpu_ms()?;
    child.stop()?;
    Ok((after - before) / f64::from(TICKS))
}
