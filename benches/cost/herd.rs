//! Real connections on loopback, and what happens on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_keepalive;

use crate::measure::{Result, Running};

/// Established connections on loopback, half of them IPv6, a quarter with keepalive timers; both ends
/// are sockets of this process.
pub struct Herd {
    pub pairs: Vec<(TcpStream, TcpStream)>,
}

impl Herd {
    pub fn open(sockets: u32) -> Result<Self> {
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("[::1]:0")?];
        let mut pairs = Vec::new();
        for i in 0..sockets as usize / 2 {
            let listener = &listeners[i % 2];
            let client = TcpStream::connect(listener.local_addr()?)?;
            let (server, _) = listener.accept()?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            set_socket_keepalive(&client, i % 4 < 2)?;
            pairs.push((client, server));
        }
        Ok(Self { pairs })
    }
}

/// Herds in processes of their own, each small enough for a usual limit of descriptors.
pub struct Herds(Vec<(Running, ChildStdin, BufReader<ChildStdout>)>);

const SOCKETS_A_PROCESS: u32 = 800;

impl Herds {
    pub fn open(sockets: u32) -> Result<Self> {
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

    /// A byte each way over this share of the connections, over others than the time before.
    pub fn exchange(&mut self, percent: usize) -> Result<()> {
        for (_, stdin, _) in &mut self.0 {
            writeln!(stdin, "{percent}")?;
        }
        self.wait()
    }
}

/// Opens a herd, and lets it exchange at every line of stdin.
pub fn keep_herd(sockets: u32) -> Result<()> {
    let herd = Herd::open(sockets)?;
    let mut turn = herd.pairs.iter().cycle();
    println!("done");
    for line in std::io::stdin().lines() {
        let percent: usize = line?.parse()?;
        for (client, server) in turn.by_ref().take(herd.pairs.len() * percent / 100) {
            exchange(client, server, 1)?;
            exchange(server, client, 1)?;
        }
        println!("done");
    }
    Ok(())
}

pub fn exchange(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) -> std::io::Result<()> {
    let mut buffer = vec![7; bytes];
    from.write_all(&buffer)?;
    to.read_exact(&mut buffer)
}

/// Connections that ask, are answered and are closed by the client, which leaves a TIME-WAIT each.
pub struct Visitors(TcpListener);

impl Visitors {
    pub fn new() -> Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0")?))
    }

    pub fn come_and_go(&self, count: u32) -> Result<()> {
        for _ in 0..count {
            let client = TcpStream::connect(self.0.local_addr()?)?;
            let (server, _) = self.0.accept()?;
            exchange(&client, &server, 200)?;
            exchange(&server, &client, 2_000)?;
            drop(client);
        }
        Ok(())
    }
}

/// Something that happens once an interval on a thread of its own.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    pub fn start(interval_ms: u32, mut round: impl FnMut() -> Result<()> + Send + 'static) -> Self {
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

/// 300 idle sockets, 200 with a request and an answer a second, 10 in bulk transfer, 20 new
/// connections a second.
pub struct MixedLoad {
    _idle: Herd,
    _asking: Traffic,
    _opening: Traffic,
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl MixedLoad {
    pub fn start() -> Result<Self> {
        let asking = Herd::open(200)?;
        let asking = Traffic::start(1_000, move || {
            for (client, server) in &asking.pairs {
                exchange(client, server, 200)?;
                exchange(server, client, 2_000)?;
            }
            Ok(())
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (client, server) in Herd::open(10)?.pairs {
            for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
                threads.extend(stream(from, to, &is_over));
            }
        }
        let visitors = Visitors::new()?;
        let opening = Traffic::start(50, move || visitors.come_and_go(1));
        Ok(Self { _idle: Herd::open(300)?, _asking: asking, _opening: opening, is_over, threads })
    }
}

impl Drop for MixedLoad {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Bulk from one end to the other until it is over.
fn stream(
    mut from: TcpStream,
    mut to: TcpStream,
    is_over: &Arc<AtomicBool>,
) -> [thread::JoinHandle<()>; 2] {
    let is_over = Arc::clone(is_over);
    let sender = thread::spawn(move || {
        let block = vec![0; 64 * 1024];
        // Paced, so that ten streams leave the machine room for the recorder.
        while !is_over.load(Ordering::Relaxed) && from.write_all(&block).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
    });
    let receiver = thread::spawn(move || {
        let mut block = vec![0; 64 * 1024];
        while to.read(&mut block).is_ok_and(|n| n > 0) {}
    });
    [sender, receiver]
}
