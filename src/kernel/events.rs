//! Destroy events: what the kernel says of a socket when it frees it (`SKNLGRP_*` of
//! `include/uapi/linux/sock_diag.h`).
//!
//! They are read all the time, by one thread for all namespaces: one event takes about 1,280 bytes of the
//! socket's receive buffer, and what does not fit is lost (measured).

mod batch;
mod run_delay;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::sockopt;

use batch::KEPT_BYTES;
pub use batch::{EventBatch, EventStamp, LostSpan};
use run_delay::RunDelay;

use super::{DiagError, SystemClock};
use crate::model::{Clocks, Family, Left, LookUp, Nanos, Place, Protocol, TcpState};
use crate::wire::inet_diag::Message;
use crate::wire::netlink::{Frame, FrameKind, frame_at};
use crate::wire::request;

/// Asked for; without CAP_NET_ADMIN the kernel gives `net.core.rmem_max` at most.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;
/// An event of today's kernels has 376 bytes.
const DATAGRAM_LEN: usize = 8 * 1024;
/// Between two system calls of the reader.
const STEP_NS: Nanos = 1_000_000;
/// While nothing comes the reader looks so often: it then knows that it was not stopped.
const SIGN_OF_LIFE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// One that slept for longer was stopped (SIGSTOP, a frozen cgroup), or hardly ran.
const SLEEP_MAX_NS: Nanos = 150_000_000;
/// One that was at work for longer between two sleeps may have been stopped there.
const BUSY_MAX_NS: Nanos = 50_000_000;
/// Look-ups in a row: who takes the events does not wait for more.
const LOOK_UPS_MAX: usize = 1_000;
/// Sockets that are told of at once; of more the next round tells.
const READY_MAX: usize = 64;
/// What is told of is no socket: reading is over.
const STOP: u64 = u64::MAX;
/// Who waits for all that was sent looks so often whether it has been read …
const AWAITED_TIMES: usize = 100;
/// … with so long between.
const AWAITED_FOR: Duration = Duration::from_millis(2);

/// A netlink socket that has joined the destroy groups; it stays in its network namespace.
pub struct EventSocket {
    socket: Socket,
    /// No event was sent to it before.
    opened: Clocks,
}

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
        let opened = SystemClock.now();
        for &(family, protocol) in dumps {
            if let Some(group) = destroy_group(family, protocol) {
                socket.add_membership(group).map_err(DiagError::Open)?;
            }
        }
        socket.set_non_blocking(true).map_err(DiagError::Open)?;
        Ok(Self { socket, opened })
    }

    /// Bytes that its receive buffer may hold.
    pub fn receive_buffer(&self) -> Option<usize> {
        sockopt::socket_recv_buffer_size(&self.socket).ok()
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

/// A socket with the namespace that it is in.
type EventSource = (Place, Arc<Socket>);

/// Whether the connection of an event may go on without its socket, so that it is to be looked up.
pub type IsInDoubt = Box<dyn Fn(&Message<'_>) -> bool + Send + Sync>;

/// What the reader and who adds sockets have in common.
struct Sources {
    is_in_doubt: IsInDoubt,
    inbox: Mutex<Inbox>,
    sockets: Mutex<Vec<EventSource>>,
    epoll: OwnedFd,
}

/// Reads events until it is dropped.
pub struct EventReader {
    sources: Arc<Sources>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl EventReader {
    /// Starts the thread that reads, at first those of the first namespace. A connection that is in
    /// doubt is looked up as its event is read.
    ///
    /// # Errors
    /// When there is no thread or descriptor to be had.
    pub fn start(socket: EventSocket, is_in_doubt: IsInDoubt) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let inbox = Mutex::new(Inbox {
            batch: EventBatch::default(),
            empty_at: socket.opened,
            losing_since: None,
            dropped: None,
        });
        let sources = Arc::new(Sources { is_in_doubt, inbox, sockets: Mutex::default(), epoll });
        let of_thread = Arc::clone(&sources);
        let thread = thread::Builder::new()
            .name("sockrec-events".to_owned())
            .spawn(move || of_thread.read_all())?;
        let reader = Self { sources, stop, thread: Some(thread) };
        reader.add(Place::FIRST, socket)?;
        Ok(reader)
    }

    /// Reads those of another namespace too.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn add(&self, place: Place, socket: EventSocket) -> io::Result<()> {
        let Sources { sockets, epoll, .. } = &*self.sources;
        let socket = Arc::new(socket.socket);
        if place != Place::FIRST {
            discard_all(&socket)?;
        }
        // The reader looks for it once something comes.
        lock(sockets).push((place, Arc::clone(&socket)));
        epoll::add(epoll, &*socket, EventData::new_u64(place.0.into()), EventFlags::IN)?;
        Ok(())
    }

    /// Reads those of a namespace no longer, and closes their socket.
    pub fn remove(&self, place: Place) {
        self.sources.remove(place);
    }

    /// Waits until what was sent before this moment of `CLOCK_MONOTONIC` has been read; not for long, as the thread may
    /// hardly run.
    pub fn await_all(&self, sent_before_ns: Nanos) {
        for _ in 0..AWAITED_TIMES {
            if lock(&self.sources.inbox).empty_at.monotonic_ns >= sent_before_ns {
                return;
            }
            thread::sleep(AWAITED_FOR);
        }
    }

    /// Takes what was read since the last time, in exchange for an empty batch.
    pub fn take(&self, batch: &mut EventBatch) {
        let mut inbox = lock(&self.sources.inbox);
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
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sources {
    fn remove(&self, place: Place) {
        let mut sockets = lock(&self.sockets);
        if let Some(index) = sockets.iter().position(|(of, _)| *of == place) {
            let (_, socket) = sockets.swap_remove(index);
            // It is closed now, or once the reader is done with it.
            let _ = epoll::delete(&self.epoll, &*socket);
        }
    }

    fn socket(&self, place: u64) -> Option<EventSource> {
        let sockets = lock(&self.sockets);
        sockets.iter().find(|(of, _)| u64::from(of.0) == place).cloned()
    }

    /// Reads until the queue is empty; says by when all that was sent before had been read.
    fn drain(
        &self,
        (place, socket): &EventSource,
        woken: Clocks,
        sent_after_ns: Nanos,
        buffer: &mut [u8],
    ) -> io::Result<Clocks> {
        let mut before = woken;
        // Nobody takes the events while look-ups of them are under way.
        let mut held = None;
        let (mut asked, mut unanswered) = (0_usize, 0_usize);
        loop {
            let mut free = &mut *buffer;
            let result = socket.recv(&mut free, 0);
            let received = SystemClock.now();
            let inbox: &mut MutexGuard<'_, Inbox> = held.get_or_insert_with(|| lock(&self.inbox));
            match result {
                Ok(len) => {
                    let mut offset = 0;
                    while let Ok(Some(frame)) = frame_at(&buffer[..len], offset) {
                        offset = frame.next;
                        let payload = &buffer[frame.payload.clone()];
                        if frame.sequence != 0 {
                            inbox.take_answer(&frame, payload, received);
                            unanswered = unanswered.saturating_sub(1);
                        } else if frame.kind == FrameKind::Payload(SOCK_DIAG_BY_FAMILY)
                            && let Some(number) =
                                inbox.take_event(*place, payload, received, sent_after_ns)
                            && asked < LOOK_UPS_MAX
                            && self.look_up(socket, payload, number)
                        {
                            asked += 1;
                            unanswered += 1;
                        }
                    }
                    before = received;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    inbox.end_loss();
                    return Ok(before);
                }
                // Said once for all that was lost since the queue was last empty.
                Err(e) if e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => inbox.lose(),
                Err(e) => {
                    inbox.lose();
                    return Err(e);
                }
            }
            if unanswered == 0 {
                (held, asked) = (None, 0);
            }
        }
    }

    /// Asks for what is left of the connection of an event, if that is in doubt: the kernel answers
    /// through the same queue, with the number of the event. Whether it was asked.
    fn look_up(&self, socket: &Socket, event: &[u8], number: usize) -> bool {
        let (Ok(message), Ok(number)) = (Message::parse(event), u32::try_from(number)) else {
            return false;
        };
        if !(self.is_in_doubt)(&message) {
            return false;
        }
        let request = request::look_up_state(message.family(), &message.tuple(), number);
        socket.send_to(&request, &SocketAddr::new(0, 0), 0).is_ok()
    }

    fn read_all(&self) {
        let inbox = &self.inbox;
        let mut delay = RunDelay::of_this_thread();
        let mut buffer = vec![0; DATAGRAM_LEN];
        let mut ready = Vec::with_capacity(READY_MAX);
        // Whether every queue was empty when the last round was over.
        let mut is_all_read = false;
        let mut woken = SystemClock.now();
        loop {
            let asleep = SystemClock.now();
            let was_busy = asleep.boottime_ns - woken.boottime_ns > BUSY_MAX_NS;
            let patience = if is_all_read { SIGN_OF_LIFE } else { Timespec::default() };
            ready.clear();
            let result = epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&patience));
            woken = SystemClock.now();
            match result {
                Ok(0) => {
                    lock(inbox).empty_at = asleep;
                    if is_all_read {
                        delay.since_last();
                    }
                    is_all_read = true;
                    continue;
                }
                Ok(_) => {}
                // So it ends after a stop too (signal(7)): what comes now may have come long ago.
                Err(Errno::INTR) => {
                    is_all_read = false;
                    continue;
                }
                Err(_) => return lose(inbox),
            }
            if ready.iter().any(|event| event.data.u64() == STOP) {
                return;
            }
            let empty_at_ns = lock(inbox).empty_at.boottime_ns;
            let delay_ns = delay.since_last().unwrap_or(Nanos::MAX);
            // The first event has woken this thread; it did not run at once. Who slept for too long was
            // stopped, or starved, and does not know when it came. Nor does who did not sleep: while
            // other queues were read it may have come at any time.
            let slept_ns = woken.boottime_ns - asleep.boottime_ns;
            let sent_after_ns = if !is_all_read || was_busy || slept_ns > SLEEP_MAX_NS {
                empty_at_ns
            } else {
                empty_at_ns.max(woken.boottime_ns.saturating_sub(delay_ns).saturating_sub(STEP_NS))
            };
            let is_only_one = lock(&self.sockets).len() == 1;
            let mut read_until = asleep;
            for event in &ready {
                let Some(source) = self.socket(event.data.u64()) else { continue };
                match self.drain(&source, woken, sent_after_ns, &mut buffer) {
                    Ok(empty_at) if is_only_one => read_until = empty_at,
                    Ok(_) => {}
                    Err(_) => self.remove(source.0),
                }
            }
            // Of the others nothing had come by then, unless more were ready than there was room for.
            if ready.len() < READY_MAX {
                lock(inbox).empty_at = read_until;
            }
            is_all_read = is_only_one;
        }
    }
}

/// When these came is not known, and no dump was made before them.
fn discard_all(socket: &Socket) -> io::Result<()> {
    let mut head = [0; 8];
    loop {
        match socket.recv(&mut &mut head[..], 0) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Since the queue was last empty events may have been lost.
fn lose(inbox: &Mutex<Inbox>) {
    lock(inbox).lose();
}

impl Inbox {
    /// Takes an event, and gives its number, if there is room for it.
    fn take_event(
        &mut self,
        place: Place,
        payload: &[u8],
        received: Clocks,
        sent_after_ns: Nanos,
    ) -> Option<usize> {
        if self.batch.bytes.len() >= KEPT_BYTES {
            self.dropped.get_or_insert((received, 0)).1 += 1;
            return None;
        }
        self.batch.push_of(place, payload, received, sent_after_ns);
        Some(self.batch.stamps.len())
    }

    fn lose(&mut self) {
        self.losing_since.get_or_insert(self.empty_at);
    }

    /// Until the queue is empty the kernel drops what comes.
    fn end_loss(&mut self) {
        if let Some(from) = self.losing_since.take() {
            self.batch.losses.push(LostSpan { from, to: SystemClock.now(), count: None });
        }
    }

    /// Takes the answer to a look-up, which has the number of its event.
    fn take_answer(&mut self, answer: &Frame, payload: &[u8], at: Clocks) {
        let event = self.batch.stamps.get_mut(answer.sequence as usize - 1);
        if let (Some(event), Some(left)) = (event, left_by(answer.kind, payload)) {
            event.look_up = Some(LookUp { at, left });
        }
    }
}

/// What is left of a connection whose socket is freed, by the answer to a look-up of it. `None` if that
/// tells nothing.
fn left_by(answer: FrameKind, payload: &[u8]) -> Option<Left> {
    match answer {
        FrameKind::Error(code) if code == -Errno::NOENT.raw_os_error() => Some(Left::Nothing),
        FrameKind::Payload(SOCK_DIAG_BY_FAMILY) => {
            let message = Message::parse(payload).ok()?;
            Some(match message.state() {
                TcpState::TIME_WAIT => Left::TimeWait,
                TcpState::FIN_WAIT2 if message.is_mini() => Left::FinWait2,
                // Another connection with its addresses and ports, or a listener in its place.
                _ => Left::Nothing,
            })
        }
        _ => None,
    }
}
