//! Connections that come, send and go, at random and in bursts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{Churn, Random};

const PAIRS: usize = 200;
/// Connections that are opened and closed at once, every few seconds.
const BURST: usize = 300;

/// It goes on until it is let go.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _churn: Churn,
}

impl Load {
    /// Begins it, in the network namespace of this thread.
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = [senders as fn(&AtomicBool), bursts]
            .map(|work| {
                let flag = Arc::clone(&is_over);
                thread::spawn(move || work(&flag))
            })
            .into();
        Self { is_over, threads, _churn: Churn::start() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking(), "the load failed");
        }
    }
}

fn pair(listener: &TcpListener, address: SocketAddr) -> (TcpStream, TcpStream) {
    let one = TcpStream::connect(address).unwrap();
    let (other, _) = listener.accept().unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

/// Connections that send now and then; some end and others begin.
fn senders(is_over: &AtomicBool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut random = Random::new(3);
    let mut pairs: Vec<_> = (0..PAIRS).map(|_| pair(&listener, address)).collect();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut bytes = [1; 8_192];
    while !is_over.load(Ordering::Relaxed) {
        for (one, other) in &mut pairs {
            if random.below(2) == 0 {
                continue;
            }
            let len = 1 + random.below(2_000) as usize;
            one.write_all(&bytes[..len]).unwrap();
            // Some is left unread.
            match other.read(&mut bytes) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
        }
        udp.send_to(&bytes[..100], udp.local_addr().unwrap()).unwrap();
        let gone = random.below(PAIRS as u64) as usize;
        pairs[gone] = pair(&listener, address);
        thread::sleep(Duration::from_millis(15));
    }
}

fn bursts(is_over: &AtomicBool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut random = Random::new(4);
    while !is_over.load(Ordering::Relaxed) {
        let pairs: Vec<_> = (0..BURST).map(|_| pair(&listener, address)).collect();
        thread::sleep(Duration::from_millis(random.below(500)));
        drop(pairs);
        thread::sleep(Duration::from_millis(1_000 + random.below(4_000)));
    }
}
