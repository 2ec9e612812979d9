//! Sockets that come, change and go.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// Connections on loopback that are opened, used and closed until it is let go.
pub(crate) struct Churn {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = thread::spawn(move || churn(&flag));
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the churn of sockets failed");
        }
    }
}

/// A ring of pairs: the oldest goes, a new one comes, every one carries some bytes.
fn churn(is_over: &AtomicBool) {
    const PAIRS: usize = 12;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut pairs: Vec<(TcpStream, TcpStream, UdpSocket)> = Vec::new();
    let mut round: usize = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut one = TcpStream::connect(address).unwrap();
        // Waits for accept() in one snapshot or another: no inode yet.
        thread::sleep(Duration::from_millis(1));
        let (mut other, _) = listener.accept().unwrap();
        // Ended by a reset, a connection leaves no TIME_WAIT behind; some do.
        if !round.is_multiple_of(8) {
            set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
        }
        one.write_all(b"question").unwrap();
        other.read_exact(&mut [0; 8]).unwrap();
        other.write_all(&[0; 4_000]).unwrap();
        pairs.push((one, other, UdpSocket::bind("127.0.0.1:0").unwrap()));
        for (one, other, udp) in &mut pairs {
            udp.send_to(b"datagram", udp.local_addr().unwrap()).unwrap();
            other.write_all(b"more").unwrap();
            let _ = one.write_all(b"more, unless it is half closed");
        }
        if let Some((one, ..)) = pairs.get(PAIRS / 2) {
            // Half closed, both ends are in other states than before; some are already.
            let _ = one.shutdown(Shutdown::Write);
        }
        if pairs.len() > PAIRS {
            drop(pairs.remove(round % PAIRS));
        }
        round += 1;
        thread::sleep(Duration::from_millis(2));
    }
}
