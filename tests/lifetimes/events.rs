//! The kernel's destroy events, read by a socket of the test's own.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use sockrec::kernel::SystemClock;
use sockrec::model::{Clocks, Protocol, TcpInfo, TcpState, Tuple};
use sockrec::wire::inet_diag::Message;
use sockrec::wire::netlink::{FrameKind, frame_at};

use crate::common::wait::DEADLINE;

/// `enum sknetlink_groups`: TCP and UDP over IPv4, then over IPv6.
const GROUPS: [u32; 4] = [1, 2, 3, 4];

/// That a socket is no more.
#[derive(Debug)]
#[expect(dead_code, reason = "some of it only stands in messages")]
pub(crate) struct Event {
    pub(crate) cookie: u64,
    pub(crate) tuple: Tuple,
    pub(crate) state: TcpState,
    /// All `None` but of TCP.
    pub(crate) tcp: TcpInfo,
    pub(crate) rqueue: Option<u32>,
    pub(crate) wqueue: Option<u32>,
    pub(crate) read_at: Clocks,
}

/// Gets every event of this thread's network namespace.
pub(crate) struct Events(Socket);

impl Events {
    pub(crate) fn listen() -> Self {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).expect("sock_diag is there");
        socket.bind(&SocketAddr::new(0, 0)).expect("bind");
        for group in GROUPS {
            socket.add_membership(group).expect("anybody may join");
        }
        // More than the default where the host allows it.
        socket.set_rx_buf_sz(4 * 1024 * 1024i32).expect("SO_RCVBUF");
        let often = Duration::from_millis(50);
        set_socket_timeout(&socket, Timeout::Recv, Some(often)).expect("SO_RCVTIMEO");
        Self(socket)
    }

    /// Reads until all of these sockets are gone. Gives everything that was read.
    #[track_caller]
    pub(crate) fn until_gone(&self, cookies: &[u64]) -> Vec<Event> {
        let began = Instant::now();
        let mut events: Vec<Event> = Vec::new();
        loop {
            let mut waited_for =
                cookies.iter().filter(|cookie| events.iter().all(|e| e.cookie != **cookie));
            if waited_for.next().is_none() {
                return events;
            }
            assert!(began.elapsed() < DEADLINE, "no event of some of {cookies:?} in {events:#?}");
            match self.0.recv_from_full() {
                Ok((datagram, _)) => events.extend(events_in(&datagram)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => panic!("events cannot be read: {e}"),
            }
        }
    }
}

fn events_in(datagram: &[u8]) -> Vec<Event> {
    let read_at = SystemClock.now();
    let mut events = Vec::new();
    let mut offset = 0;
    while let Some(frame) = frame_at(datagram, offset).expect("the kernel's messages are whole") {
        offset = frame.next;
        assert!(matches!(frame.kind, FrameKind::Payload(20)), "{frame:?}");
        let message = Message::parse(&datagram[frame.payload]).expect("a socket");
        let told = message.observe(Protocol::Tcp);
        events.push(Event {
            cookie: message.cookie(),
            tuple: message.tuple(),
            state: message.state(),
            rqueue: told.rqueue,
            wqueue: told.wqueue,
            tcp: told.tcp,
            read_at,
        });
    }
    events
}
