//! What recording costs, as ratios within one run.
//!
//! ```text
//! cargo bench --bench cost -- tick [SOCKETS …]     CPU a tick against the drained floor
//! cargo bench --bench cost -- bytes [SECONDS]      bytes a sample in a mixed load
//! ```
//!
//! Run it in a network namespace of its own where that is allowed, so that only its own sockets are
//! in the dumps: `unshare --net sh -c 'ip link set lo up && cargo bench --bench cost'`.
//!
//! The floor is the same four dumps at the same cadence, drained and thrown away by a process of
//! its own. CPU is user and system time of all threads, from `/proc/PID/task/*/schedstat`. Both run
//! in turn on the same sockets, all on loopback.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockrec::kernel::DiagSocket;
use sockrec::model::{Family, Protocol, States, Value};
use sockrec::store::{Reader, StoreError};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 3;
const TICKS: u32 = 12;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &&str| text.parse::<u32>().ok();
    match words.split_first() {
        Some((&"herd", rest)) => keep_herd(rest.first().and_then(number).unwrap_or(2)),
        Some((&"floor", rest)) => floor(rest.first().and_then(number).unwrap_or(1_000)),
        Some((&"tick", [])) | None => tick(&[1_000, 20_000]),
        Some((&"tick", counts)) => tick(&counts.iter().filter_map(number).collect::<Vec<_>>()),
        Some((&"bytes", rest)) => bytes(rest.first().and_then(number).unwrap_or(60)),
        Some((other, _)) => Err(format!("`{other}` is neither `tick` nor `bytes`").into()),
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

fn tick(counts: &[u32]) -> Result<()> {
    println!("CPU a tick in ms, recorder / floor; median of {ROUNDS} rounds of {TICKS} ticks");
    println!("with owners: while those of the first snapshot are looked for, which happens once");
    println!(
        "{:>8}  {:>12}  {:>7}  {:>9}  {:>6}  {:>11}  {:>6}",
        "sockets", "load", "floor", "no owners", "ratio", "with owners", "ratio"
    );
    for &count in counts {
        // Long enough that no tick is missed: a dump of 100,000 sockets takes some 200 ms.
        let interval_ms = 250.max(count / 20);
        let herds = Herds::open(count)?;
        print_tick(count, "idle", interval_ms)?;
        let mut herds = herds;
        let traffic = Traffic::start(interval_ms, move || herds.exchange());
        print_tick(count, "all changed", interval_ms)?;
        drop(traffic);
    }
    Ok(())
}

fn print_tick(count: u32, load: &str, interval_ms: u32) -> Result<()> {
    let (mut floor, mut alone, mut with_owners) = (Vec::new(), Vec::new(), Vec::new());
    let directory = tempfile::tempdir()?;
    for round in 0..ROUNDS {
        floor.push(cpu_a_tick(&mut floor_command(interval_ms)?, interval_ms)?);
        let mut command =
            record_command(&directory.path().join(format!("{round}.db")), interval_ms);
        alone.push(cpu_a_tick(command.arg("--no-owners"), interval_ms)?);
        let mut command =
            record_command(&directory.path().join(format!("{round}o.db")), interval_ms);
        with_owners.push(cpu_a_tick(&mut command, interval_ms)?);
    }
    let (floor, alone, with_owners) = (median(floor), median(alone), median(with_owners));
    let (ratio, ratio_with_owners) = (alone / floor, with_owners / floor);
    println!(
        "{count:>8}  {load:>12}  {floor:>7.2}  {alone:>9.2}  {ratio:>6.2}  {with_owners:>11.2}  \
         {ratio_with_owners:>6.2}"
    );
    Ok(())
}

fn record_command(file: &Path, interval_ms: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockrec"));
    command.arg("record").arg("-q").arg("-o").arg(file).arg("--interval");
    command.arg(format!("{interval_ms}ms"));
    command
}

fn floor_command(interval_ms: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(interval_ms.to_string());
    Ok(command)
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

/// A child that does not outlive the measurement.
struct Running(Child);

impl Running {
    /// User and system time of all threads.
    fn cpu_ms(&self) -> Result<f64> {
        let mut total_ns = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total_ns += stat.split(' ').next().unwrap_or("0").parse::<f64>()?;
        }
        Ok(total_ns / 1e6)
    }

    fn stop(&mut self) -> Result<()> {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has ended already unless something failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Established connections on loopback, half of them IPv6; both ends are sockets of this process.
struct Herd {
    pairs: Vec<(TcpStream, TcpStream)>,
}

impl Herd {
    fn open(sockets: u32) -> Result<Self> {
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("[::1]:0")?];
        let mut pairs = Vec::new();
        for i in 0..sockets as usize / 2 {
            let listener = &listeners[i % 2];
            let client = TcpStream::connect(listener.local_addr()?)?;
            let (server, _) = listener.accept()?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            pairs.push((client, server));
        }
        Ok(Self { pairs })
    }
}

/// Herds in processes of their own, each small enough for a usual limit of descriptors.
struct Herds(Vec<(Running, ChildStdin, BufReader<ChildStdout>)>);

const SOCKETS_A_PROCESS: u32 = 800;

impl Herds {
    fn open(sockets: u32) -> Result<Self> {
        let mut herds = Self(Vec::new());
        let mut left = sockets;
        while left > 0 {
            let count = left.min(SOCKETS_A_PROCESS);
            left -= count;
            let mut child = Command::new(std::env::current_exe()?)
                .arg("herd")
                .arg(count.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let pipes = (child.stdin.take(), child.stdout.take());
            let (Some(stdin), Some(stdout)) = pipes else { return Err("no pipes".into()) };
            herds.0.push((Running(child), stdin, BufReader::new(stdout)));
        }
        herds.wait()?;
        Ok(herds)
    }

    /// Waits until every herd has said that it is done.
    fn wait(&mut self) -> Result<()> {
        for (_, _, stdout) in &mut self.0 {
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            if line != "done\n" {
                return Err("a herd died".into());
            }
        }
        Ok(())
    }

    /// A byte each way over every connection.
    fn exchange(&mut self) -> Result<()> {
        for (_, stdin, _) in &mut self.0 {
            stdin.write_all(b"\n")?;
        }
        self.wait()
    }
}

/// Opens a herd, and lets it exchange at every line of stdin.
fn keep_herd(sockets: u32) -> Result<()> {
    let herd = Herd::open(sockets)?;
    println!("done");
    for line in std::io::stdin().lines() {
        line?;
        for (client, server) in &herd.pairs {
            exchange(client, server, 1)?;
            exchange(server, client, 1)?;
        }
        println!("done");
    }
    Ok(())
}

/// Something that happens once an interval on a thread of its own.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(interval_ms: u32, mut round: impl FnMut() -> Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let interval = Duration::from_millis(interval_ms.into());
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                if let Err(e) = round() {
                    eprintln!("the traffic stopped: {e}");
                    return;
                }
                due += interval;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn exchange(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) -> std::io::Result<()> {
    let mut buffer = vec![7; bytes];
    from.write_all(&buffer)?;
    to.read_exact(&mut buffer)
}

/// 300 idle sockets, 200 with a request and an answer a second, 10 in bulk transfer, 20 new
/// connections a second.
fn bytes(seconds: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("bytes.db");
    let idle = Herd::open(300)?;
    let asking = Herd::open(200)?;
    let traffic = Traffic::start(1_000, move || {
        for (client, server) in &asking.pairs {
            exchange(client, server, 200)?;
            exchange(server, client, 2_000)?;
        }
        Ok(())
    });
    let stop = Arc::new(AtomicBool::new(false));
    let bulk = Herd::open(20)?;
    let mut threads = Vec::new();
    for (client, server) in bulk.pairs.into_iter().take(5) {
        for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let is_over = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                let block = vec![0; 64 * 1024];
                // Paced, so that ten streams leave the machine room for the recorder.
                while !is_over.load(Ordering::Relaxed) && from.write_all(&block).is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
                let _ = from.shutdown(std::net::Shutdown::Both);
            }));
            threads.push(thread::spawn(move || {
                let mut block = vec![0; 64 * 1024];
                while to.read(&mut block).is_ok_and(|n| n > 0) {}
            }));
        }
    }
    let is_over = Arc::clone(&stop);
    threads.push(thread::spawn(move || {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
        let Ok(address) = listener.local_addr() else { return };
        while !is_over.load(Ordering::Relaxed) {
            if let (Ok(client), Ok((server, _))) = (TcpStream::connect(address), listener.accept())
            {
                let _ = exchange(&client, &server, 200)
                    .and_then(|()| exchange(&server, &client, 2_000));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }));
    let status =
        record_command(&file, 1_000).arg("--duration").arg(format!("{seconds}s")).status()?;
    stop.store(true, Ordering::Relaxed);
    drop((idle, traffic));
    for thread in threads {
        let _ = thread.join();
    }
    if !status.success() {
        return Err(format!("the recorder ended with {status}").into());
    }
    report_bytes(&Reader::open(&file)?, seconds)
}

fn report_bytes(reader: &Reader, seconds: u32) -> Result<()> {
    let number = |sql: &str| -> std::result::Result<f64, StoreError> {
        Ok(reader.integer(sql, &[])?.unwrap_or(0) as f64)
    };
    let of = |table: &str| {
        number(&format!("SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name = '{table}'"))
    };
    let rows = number("SELECT count(*) FROM samples")?;
    let keyframe_rows = number(
        "SELECT count(*) FROM samples AS s JOIN snapshots AS n USING (snapshot_id)
         JOIN sockets AS k USING (socket_id)
         WHERE n.is_keyframe AND k.first_snapshot_id < s.snapshot_id",
    )?;
    let tcp_changed = number(
        "SELECT count(*) FROM samples AS s JOIN snapshots AS n USING (snapshot_id)
         WHERE s.rto_us IS NOT NULL AND s.previous_snapshot_id IS NOT NULL AND NOT n.is_keyframe",
    )?;
    let changed = rows - keyframe_rows;
    let (samples, conditions, settings) = (of("samples")?, of("conditions")?, of("settings")?);
    let all = samples + conditions + settings;
    println!("mixed load for {seconds} s: {rows} rows, {changed} first sights and changes");
    println!("({tcp_changed} changes of full TCP sockets), {keyframe_rows} repeats in keyframes");
    println!("{:<44} {:>9}", "bytes a row of samples", round(samples / rows));
    println!("{:<44} {:>9}", "bytes of shared values a row", round((conditions + settings) / rows));
    println!("{:<44} {:>9}", "bytes a row, all three tables", round(all / rows));
    println!("{:<44} {:>9}", "bytes a change, keyframes counted in", round(all / changed));
    let ends = number("SELECT count(*) FROM socket_ends")?;
    let sockets = number("SELECT count(*) FROM sockets")?;
    let a_socket = (of("sockets")? + of("group_sockets")?) / sockets;
    let an_end = (of("socket_ends")? + of("missing_sockets")? + of("state_changes")?) / ends;
    println!("{:<44} {:>9}", "bytes a connection beside its samples", round(a_socket + an_end));
    println!("\n{:<28} {:>10}", "table or index", "bytes");
    reader.run::<StoreError>(
        "SELECT name, sum(pgsize) FROM dbstat WHERE aggregate = 1 GROUP BY name ORDER BY 2 DESC
         LIMIT 12",
        &[],
        |row| {
            if let [Value::Text(name), Value::Integer(size)] = row {
                println!("{name:<28} {size:>10}");
            }
            Ok(())
        },
    )?;
    Ok(())
}

fn round(value: f64) -> String {
    format!("{value:.1}")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
