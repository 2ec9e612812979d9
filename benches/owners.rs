//! What it costs to find owners.
//!
//! ```text
//! cargo bench --bench owners -- [SOCKETS] [PROCESSES]
//! ```
//!
//! Children hold UDP sockets, as many each. A search runs on this thread until it has found all of
//! them, then with nothing new, then with one new socket at a time. CPU is that of the search's
//! thread. Then two recorders run side by side on the same sockets, with and without owners; CPU is
//! that of all their threads.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sockrec::kernel::ProcDir;
use sockrec::model::{OwnerChange, ProcessId, SnapshotId, SocketId};
use sockrec::record::{Budget, OwnerSearch, SocketNews};
use sockrec::store::FormerOwners;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than any process is left alone.
const ROUND_NS: i64 = 10_000_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["hold", count] => hold(count.parse()?),
        [] => measure(20_000, 500),
        [sockets, processes] => measure(sockets.parse()?, processes.parse()?),
        _ => Err("give the number of sockets and of processes, or nothing".into()),
    }
}

/// Opens sockets, prints their inodes, and holds them until stdin is closed.
fn hold(count: usize) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        println!("{}", inode(&socket)?);
        sockets.push(socket);
    }
    println!();
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

fn inode(socket: &UdpSocket) -> Result<u32> {
    Ok(u32::try_from(rustix::fs::fstat(socket)?.st_ino)?)
}

/// A child that holds sockets until it is dropped.
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    inodes: Vec<u32>,
}

impl Holder {
    fn start(sockets: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hold", &sockets.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let lines: Vec<String> = lines
            .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
            .collect::<std::io::Result<_>>()?;
        let inodes =
            lines.iter().map(|line| line.parse()).collect::<std::result::Result<_, _>>()?;
        Ok(Self { stdin: child.stdin.take(), child, inodes })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

struct Bench {
    search: OwnerSearch,
    proc: ProcDir,
    now_ns: i64,
    snapshot: SnapshotId,
    found: usize,
}

impl Bench {
    /// Tells of new sockets and searches until all is found; prints what that took.
    fn round(&mut self, what: &str, inodes: &[u32]) {
        self.now_ns += ROUND_NS;
        self.snapshot = self.snapshot.next();
        let wanted = inodes.iter().map(|&inode| (SocketId(i64::from(inode)), inode)).collect();
        let (began, cpu_ns) = (Instant::now(), self.proc.cpu_ns());
        self.search.hear(self.snapshot, SocketNews { wanted, gone: Vec::new() });
        let mut passes = 0;
        let mut longest_ns = 0;
        let before = self.found;
        loop {
            let cpu_ns = self.proc.cpu_ns();
            let changes = self.search.pass(&mut self.proc, self.now_ns, Budget::PASS);
            longest_ns = longest_ns.max(self.proc.cpu_ns() - cpu_ns);
            self.found += changes.iter().filter(|c| matches!(c, OwnerChange::Held(_))).count();
            passes += 1;
            if self.search.is_settled() {
                break;
            }
        }
        let ms = |ns: u64| ns as f64 / 1e6;
        println!(
            "{what:<40}  {:>8.2}  {:>8.2}  {passes:>6}  {:>8.2}  {:>7}",
            ms(self.proc.cpu_ns() - cpu_ns),
            began.elapsed().as_secs_f64() * 1e3,
            ms(longest_ns),
            self.found - before
        );
    }
}

fn measure(sockets: usize, processes: usize) -> Result<()> {
    let holders: Vec<Holder> =
        (0..processes).map(|_| Holder::start(sockets / processes.max(1))).collect::<Result<_>>()?;
    let inodes: Vec<u32> = holders.iter().flat_map(|h| h.inodes.iter().copied()).collect();
    println!("{} sockets in {processes} processes", inodes.len());
    println!(
        "{:<40}  {:>8}  {:>8}  {:>6}  {:>8}  {:>7}",
        "", "CPU ms", "wall ms", "passes", "longest", "found"
    );
    let mut bench = Bench {
        search: OwnerSearch::new(ProcessId(1), SnapshotId(1), FormerOwners::default()),
        proc: ProcDir::open()?,
        now_ns: 0,
        snapshot: SnapshotId(0),
        found: 0,
    };
    bench.round("first, everything is read", &inodes);
    for _ in 0..2 {
        bench.round("nothing new, 10 s later", &[]);
    }
    for _ in 0..2 {
        let holder = Holder::start(1)?;
        bench.round("one socket of a new process", &holder.inodes);
    }
    bench.now_ns += 6 * ROUND_NS;
    bench.round("a minute later, owners are read again", &[]);
    bench.round("one socket without an owner", &[1]);
    for _ in 0..8 {
        bench.round("… still without one, 10 s later", &[]);
    }
    record_side_by_side()
}

/// A recorder of one snapshot a second.
struct Recorder(Child);

impl Recorder {
    fn start(file: &Path, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockrec"));
        command.args(["record", "-q", "--interval", "1s", "-o"]).arg(file).args(options);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }

    /// CPU of all its threads, and of the one that looks for owners.
    fn cpu_ms(&self) -> Result<[f64; 2]> {
        let mut used = [0.0; 2];
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let task = task?.path();
            let stat = std::fs::read_to_string(task.join("schedstat"))?;
            let ms = stat.split(' ').next().unwrap_or("0").parse::<f64>()? / 1e6;
            used[0] += ms;
            if std::fs::read_to_string(task.join("comm"))?.trim() == "owners" {
                used[1] += ms;
            }
        }
        Ok(used)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// CPU a second of two recorders at the same time, while this goes on for so long.
fn compare(
    what: &str,
    recorders: &[Recorder; 2],
    seconds: u32,
    mut each_second: impl FnMut() -> Result<()>,
) -> Result<()> {
    let before = [recorders[0].cpu_ms()?, recorders[1].cpu_ms()?];
    let began = Instant::now();
    for second in 1..=seconds {
        each_second()?;
        let end = began + Duration::from_secs(second.into());
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }
    let a_second = |at: usize, which: usize| -> Result<f64> {
        Ok((recorders[at].cpu_ms()?[which] - before[at][which]) / f64::from(seconds))
    };
    let (with, without, thread) = (a_second(0, 0)?, a_second(1, 0)?, a_second(0, 1)?);
    println!("{what:<40}  {with:>8.2}  {without:>8.2}  {thread:>14.2}");
    Ok(())
}

fn record_side_by_side() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (one, other) = (directory.path().join("with.db"), directory.path().join("without.db"));
    println!();
    println!(
        "{:<40}  {:>8}  {:>8}  {:>14}",
        "recorders, CPU ms a second", "with", "without", "owners' thread"
    );
    let recorders = [Recorder::start(&one, &[])?, Recorder::start(&other, &["--no-owners"])?];
    compare("the first 15 s, everything is new", &recorders, 15, || Ok(()))?;
    compare("30 s, nothing new", &recorders, 30, || Ok(()))?;
    let mut holders = Vec::new();
    compare("15 s, a process with a socket a second", &recorders, 15, || {
        holders.push(Holder::start(1)?);
        Ok(())
    })
}
