//! Destroy events: what the kernel says of a socket when it frees it (`SKNLGRP_*` of
//! `include/uapi/linux/sock_diag.h`).
//!
//! They are read all the time, by a thread of its own: one event takes about 1,280 bytes of the
//! socket's receive buffer, and what does not fit is lost (measured).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::{DiagError, SystemClock};
use crate::model::{Clocks, Family, Nanos, Protocol};
use crate::wire::netlink::{FrameKind, frame_at};

/// Asked for; without CAP_NET_ADMIN the kernel gives `net.core.rmem_max` at most.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;
/// An event of today's kernels has 376 bytes.
const DATAGRAM_LEN: usize = 8 * 1024;
/// So much is kept until the next tick; what comes beyond it is counted as lost.
const KEPT_BYTES: usize = 48 * 1024 * 1024;
/// Between two system calls of the reader.
const STEP_NS: Nanos = 1_000_000;
/// While nothing comes the reader looks so often: it then knows that it was not stopped.
const SIGN_OF_LIFE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// One that slept for longer was stopped (SIGSTOP, a frozen cgroup), or hardly ran.
const SLEEP_MAX_NS: Nanos = 150_000_000;

/// A netlink socket that has joined the destroy groups; it stays in its network namespace.
pub struct EventSocket(Socket);

impl EventSocket {
    /// Joins the groups of these families and protocols. There are none for raw sockets and MPTCP,
    /// whose subflows are TCP.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub fn open(dumps: &[(Family, Protocol)]) -> Result<Self, DiagError> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(DiagError::Open)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(DiagError::Open)?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            // Capped without a word.
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        for &(family, protocol) in dumps {
            if let Some(group) = destroy_group(family, protocol) {
                socket.add_membership(group).map_err(DiagError::Open)?;
            }
        }
        socket.set_non_blocking(true).map_err(DiagError::Open)?;
        Ok(Self(socket))
    }

    /// Bytes that its receive buffer may hold.
    pub fn receive_buffer(&self) -> Option<usize> {
        sockopt::socket_recv_buffer_size(&self.0).ok()
    }
}

/// `SKNLGRP_INET_TCP_DESTROY` and so on.
fn destroy_group(family: Family, protocol: Protocol) -> Option<u32> {
    match (protocol, family) {
        (Protocol::Tcp, Family::Inet) => Some(1),
        (Protocol::Udp, Family::Inet) => Some(2),
        (Protocol::Tcp, Family::Inet6) => Some(3),
        (Protocol::Udp, Family::Inet6) => Some(4),
        (Protocol::Raw | Protocol::Mptcp, _) => None,
    }
}

/// When an event came.
#[derive(Clone, Debug)]
pub struct EventStamp {
    payload: Range<usize>,
    /// When it was read.
    pub received: Clocks,
    /// It was not sent before this moment of `CLOCK_BOOTTIME`.
    pub sent_after_ns: Nanos,
}

/// A span in which events were lost, see [`crate::model::EventLoss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSpan {
    /// None was lost before.
    pub from: Clocks,
    /// None of this span was lost after.
    pub to: Clocks,
    /// How many, where that is known.
    pub count: Option<u64>,
}

/// Events in the order in which they came.
#[derive(Debug, Default)]
pub struct EventBatch {
    bytes: Vec<u8>,
    stamps: Vec<EventStamp>,
    /// Spans in which some are missing.
    pub losses: Vec<LostSpan>,
    /// What was sent before this moment of `CLOCK_MONOTONIC` has been read. `None` if nothing tells.
    pub read_until_ns: Option<Nanos>,
}

impl EventBatch {
    /// Adds an event by the payload of its message.
    pub fn push(&mut self, payload: &[u8], received: Clocks, sent_after_ns: Nanos) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let payload = start..self.bytes.len();
        self.stamps.push(EventStamp { payload, received, sent_after_ns });
    }

    /// Hands out each event with its payload, which may be written into.
    pub fn each(&mut self, mut each: impl FnMut(&mut [u8], &EventStamp)) {
        for stamp in &self.stamps {
            each(&mut self.bytes[stamp.payload.clone()], stamp);
        }
    }

    /// Empty again, with the memory kept unless it was much.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES / 16);
        self.stamps.clear();
        self.stamps.shrink_to(KEPT_BYTES / 16 / 256);
        self.losses.clear();
        self.read_until_ns = None;
    }
}

/// What the reader has read and nobody taken yet.
#[derive(Debug)]
struct Inbox {
    batch: EventBatch,
    /// The queue was empty then.
    empty_at: Clocks,
    /// Since when events may have been lost, while the queue is not known to be empty again.
    losing_since: Option<Clocks>,
    /// Events that were not kept since then.
    dropped: Option<(Clocks, u64)>,
}

/// Reads events until it is dropped.
pub struct EventReader {
    inbox: Arc<Mutex<Inbox>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl EventReader {
    /// Starts the thread that reads.
    ///
    /// # Errors
    /// When there is no thread or descriptor to be had.
    pub fn start(socket: EventSocket) -> io::Result<Self> {
        let inbox = Arc::new(Mutex::new(Inbox {
            batch: EventBatch::default(),
            empty_at: SystemClock.now(),
            losing_since: None,
            dropped: None,
        }));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (thread_inbox, thread_stop) = (Arc::clone(&inbox), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("sockrec-events".to_owned())
            .spawn(move || read_all(&socket.0, &thread_inbox, thread_stop.as_fd()))?;
        Ok(Self { inbox, stop, thread: Some(thread) })
    }

    /// Takes what was read since the last time, in exchange for an empty batch.
    pub fn take(&self, batch: &mut EventBatch) {
        let mut inbox = lock(&self.inbox);
        let now = SystemClock.now();
        if let Some(from) = inbox.losing_since {
            inbox.batch.losses.push(LostSpan { from, to: now, count: None });
            inbox.losing_since = Some(now);
        }
        if let Some((from, count)) = inbox.dropped.take() {
            inbox.batch.losses.push(LostSpan { from, to: now, count: Some(count) });
        }
        batch.clear();
        std::mem::swap(&mut inbox.batch, batch);
        batch.read_until_ns = Some(inbox.empty_at.monotonic_ns);
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: the thread ends with the process at the latest.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A reader that died has left a whole batch behind.
fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_all(socket: &Socket, inbox: &Mutex<Inbox>, stop: BorrowedFd<'_>) {
    let mut delay = RunDelay::of_this_thread();
    let mut buffer = vec![0; DATAGRAM_LEN];
    loop {
        let mut ready =
            [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        let asleep = SystemClock.now();
        match poll(&mut ready, Some(&SIGN_OF_LIFE)) {
            Ok(0) => {
                lock(inbox).empty_at = asleep;
                delay.since_last();
                continue;
            }
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return lose(inbox),
        }
        let woken = SystemClock.now();
        let empty_at_ns = lock(inbox).empty_at.boottime_ns;
        let delay_ns = delay.since_last().unwrap_or(Nanos::MAX);
        // The first event has woken this thread; it did not run at once. Who slept for too long was
        // stopped, or starved, and does not know when it came.
        let slept_ns = woken.boottime_ns - asleep.boottime_ns;
        let sent_after_ns = if slept_ns > SLEEP_MAX_NS {
            empty_at_ns
        } else {
            empty_at_ns.max(woken.boottime_ns.saturating_sub(delay_ns).saturating_sub(STEP_NS))
        };
        if drain(socket, inbox, woken, sent_after_ns, &mut buffer).is_err() {
            return;
        }
    }
}

/// Since the queue was last empty events may have been lost.
fn lose(inbox: &Mutex<Inbox>) {
    let mut inbox = lock(inbox);
    let from = inbox.empty_at;
    inbox.losing_since.get_or_insert(from);
}

/// Reads until the queue is empty.
fn drain(
    socket: &Socket,
    inbox: &Mutex<Inbox>,
    woken: Clocks,
    sent_after_ns: Nanos,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut before = woken;
    loop {
        let mut free = &mut *buffer;
        let result = socket.recv(&mut free, 0);
        match result {
            Ok(len) => {
                let received = SystemClock.now();
                let mut inbox = lock(inbox);
                take_datagram(&mut inbox, &buffer[..len], received, sent_after_ns);
                before = received;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut inbox = lock(inbox);
                if let Some(from) = inbox.losing_since.take() {
                    // Until the queue is empty the kernel drops what comes.
                    inbox.batch.losses.push(LostSpan { from, to: SystemClock.now(), count: None });
                }
                inbox.empty_at = before;
                return Ok(());
            }
            // Said once for all that was lost since the queue was last empty.
            Err(e) if e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => lose(inbox),
            Err(e) => {
                lose(inbox);
                return Err(e);
            }
        }
    }
}

fn take_datagram(inbox: &mut Inbox, datagram: &[u8], received: Clocks, sent_after_ns: Nanos) {
    let mut offset = 0;
    while let Ok(Some(frame)) = frame_at(datagram, offset) {
        offset = frame.next;
        if frame.kind != FrameKind::Payload(SOCK_DIAG_BY_FAMILY) {
            continue;
        }
        if inbox.batch.bytes.len() < KEPT_BYTES {
            inbox.batch.push(&datagram[frame.payload], received, sent_after_ns);
        } else {
            inbox.dropped.get_or_insert((received, 0)).1 += 1;
        }
    }
}

/// How long this thread was ready to run and did not (`/proc/PID/schedstat`, second field).
struct RunDelay {
    file: Option<File>,
    last_ns: Nanos,
}

impl RunDelay {
    fn of_this_thread() -> Self {
        let mut delay = Self { file: File::open("/proc/thread-self/schedstat").ok(), last_ns: 0 };
        delay.since_last();
        delay
    }

    /// `None` where the kernel does not count it (`CONFIG_SCHED_INFO`).
    fn since_last(&mut self) -> Option<Nanos> {
        let mut text = [0; 96];
        let len = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        let total_ns: Nanos = text.split_whitespace().nth(1)?.parse().ok()?;
        let delay_ns = total_ns - self.last_ns;
        self.last_ns = total_ns;
        Some(delay_ns)
    }
}
