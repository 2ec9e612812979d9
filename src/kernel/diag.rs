//! A `NETLINK_SOCK_DIAG` socket and the dumps that it makes.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::io::Errno;

use crate::filter::Narrowed;
use crate::kernel::SystemClock;
use crate::model::{Endpoint, Family, MadeAt, Protocol, States, Tuple};
use crate::wire::inet_diag::Message;
use crate::wire::netlink::{FrameKind, frame_at};
use crate::wire::request;

/// The kernel never sends a larger datagram of a dump (measured; see docs/ARCHITECTURE.md).
const DATAGRAM_LEN: usize = 32 * 1024;
/// So long a dump may say nothing before it counts as failed.
const SILENCE_S: i64 = 10;

/// Why no dump can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The socket cannot be had.
    #[error("could not open a sock_diag netlink socket")]
    Open(#[source] io::Error),
}

/// How a dump ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpEnd {
    /// Whole: what it did not show was not there, but for what changed while it ran.
    Complete,
    /// Whole, and the kernel says that the world changed meanwhile: it proves no absence.
    Interrupted,
    /// The kernel does not have this family or protocol.
    Unsupported,
    /// It broke off. Proves nothing about what it did not show.
    Failed {
        /// The kernel's error number, where one was given.
        errno: Option<i32>,
        /// What went wrong.
        message: String,
    },
    /// Nobody asked for it: proves nothing.
    NotAsked,
    /// Others asked for less, as this says: what it did not show may be there. Only in an import.
    Partial(String),
}

/// A netlink socket for dumps; it stays in the network namespace that it was made in.
pub struct DiagSocket {
    socket: Socket,
    /// Made when a dump needs it, or lent.
    buffer: Box<[u8]>,
    sequence: u32,
    clock: SystemClock,
}

impl DiagSocket {
    /// Opens one in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no sock_diag, or forbids netlink sockets.
    pub fn open() -> Result<Self, DiagError> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(DiagError::Open)?;
        socket.bind_auto().map_err(DiagError::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(DiagError::Open)?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(std::time::Duration::from_secs(SILENCE_S.unsigned_abs())),
        )
        .map_err(|e| DiagError::Open(e.into()))?;
        Ok(Self { socket, buffer: Box::default(), sequence: 0, clock: SystemClock })
    }

    /// Dumps the sockets of one family and protocol. `each` gets the payload of every message,
    /// which it may write into, and when the kernel made it.
    pub fn dump(
        &mut self,
        family: Family,
        protocol: Protocol,
        states: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        self.dump_narrowed(family, protocol, states, &Narrowed::default(), each)
    }

    /// The same of those sockets that the kernel's filter passes. One connection of TCP is looked up
    /// without walking all of them, as long as it is there.
    pub fn dump_narrowed(
        &mut self,
        family: Family,
        protocol: Protocol,
        states: States,
        narrowed: &Narrowed,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let exact = narrowed.exact.as_ref().filter(|_| protocol == Protocol::Tcp);
        if exact.is_some_and(|tuple| self.look_up(family, tuple, states, each)) {
            return DumpEnd::Complete;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let bytecode = &narrowed.bytecode;
        let request = request::filtered_dump(family, protocol, states, bytecode, self.sequence);
        let after_ms = self.clock.monotonic_ms();
        if let Err(e) = self.socket.send(&request, 0) {
            return failed(&e);
        }
        // The kernel makes the first datagram as it is asked, and each other one as that before it is read.
        let mut next_made_at = MadeAt { after_ms, by_ms: self.clock.monotonic_ms() };
        let mut interrupted = false;
        loop {
            let after_ms = self.clock.monotonic_ms();
            let len = match self.receive() {
                Ok(len) => len,
                Err(e) => return failed(&e),
            };
            let made_at = next_made_at;
            next_made_at = MadeAt { after_ms, by_ms: self.clock.monotonic_ms() };
            let datagram = &mut self.buffer[..len];
            let mut offset = 0;
            loop {
                let frame = match frame_at(datagram, offset) {
                    Ok(None) => break,
                    Ok(Some(frame)) => frame,
                    Err(e) => return DumpEnd::Failed { errno: None, message: e.to_string() },
                };
                offset = frame.next;
                if frame.sequence != self.sequence {
                    continue; // the rest of an earlier dump that was given up
                }
                interrupted |= frame.interrupted;
                match frame.kind {
                    FrameKind::Payload(SOCK_DIAG_BY_FAMILY) => {
                        each(&mut datagram[frame.payload], made_at);
                    }
                    FrameKind::Done(code) | FrameKind::Error(code) if code < 0 => {
                        return refused(-code);
                    }
                    FrameKind::Done(_) if interrupted => return DumpEnd::Interrupted,
                    FrameKind::Done(_) => return DumpEnd::Complete,
                    FrameKind::Overrun => return refused(Errno::NOBUFS.raw_os_error()),
                    FrameKind::Payload(_) | FrameKind::Noop | FrameKind::Error(_) => {}
                }
            }
        }
    }

    /// Looks up one TCP connection and hands it over if it is of this family and in these states.
    /// Whether it was found, in whatever family or state: then no other has its addresses and ports. If
    /// not that proves nothing: it may be bound to a device, and a listener may answer in its place.
    fn look_up(
        &mut self,
        family: Family,
        tuple: &Tuple,
        states: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> bool {
        if family == Family::Inet && !tuple.local.address.is_ipv4() {
            return false;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let request = request::look_up(family, tuple, self.sequence);
        let after_ms = self.clock.monotonic_ms();
        if self.socket.send(&request, 0).is_err() {
            return false;
        }
        let made_at = MadeAt { after_ms, by_ms: self.clock.monotonic_ms() };
        loop {
            let Ok(len) = self.receive() else { return false };
            let datagram = &mut self.buffer[..len];
            let frame = match frame_at(datagram, 0) {
                Ok(Some(frame)) if frame.sequence == self.sequence => frame,
                Ok(_) => continue, // the rest of an earlier dump that was given up
                Err(_) => return false,
            };
            let payload = &mut datagram[frame.payload];
            let Ok(message) = Message::parse(payload) else { return false };
            if frame.kind != FrameKind::Payload(SOCK_DIAG_BY_FAMILY) || !is_at(&message, tuple) {
                return false;
            }
            if message.family() == family && states.shows(message.state()) {
                each(payload, made_at);
            }
            return true;
        }
    }

    /// Whether the kernel takes these operations: older ones do not know all.
    ///
    /// # Errors
    /// When it does not say, or a privilege is missing (`EPERM`).
    pub fn takes(&mut self, bytecode: &[u8]) -> io::Result<bool> {
        if bytecode.is_empty() {
            return Ok(true);
        }
        let (family, protocol) = (Family::Inet, Protocol::Tcp);
        // No socket is in no state: the operations are looked at, and nothing else.
        let narrowed = Narrowed { bytecode: bytecode.to_owned(), exact: None };
        match self.dump_narrowed(family, protocol, States::NONE, &narrowed, &mut |_, _| ()) {
            DumpEnd::Unsupported => Ok(false),
            DumpEnd::Failed { errno: Some(errno), .. } => Err(io::Error::from_raw_os_error(errno)),
            DumpEnd::Failed { message, .. } => Err(io::Error::other(message)),
            _ => Ok(true),
        }
    }

    /// `SO_NETNS_COOKIE` of the namespace that it stays in, `None` before Linux 5.14.
    pub fn netns_cookie(&self) -> Option<u64> {
        let mut cookie = 0u64;
        let mut len = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel writes at most `len` bytes to `cookie`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some(cookie)
    }

    /// Exchanges what dumps are read into: of many sockets one makes its dumps at a time.
    pub fn exchange_buffer(&mut self, buffer: &mut Box<[u8]>) {
        std::mem::swap(&mut self.buffer, buffer);
    }

    fn receive(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; DATAGRAM_LEN].into_boxed_slice();
        }
        loop {
            let mut free = &mut self.buffer[..];
            match self.socket.recv(&mut free, libc::MSG_TRUNC) {
                Ok(len) if len > DATAGRAM_LEN => {
                    return Err(io::Error::other(format!(
                        "datagram of {len} bytes is larger than the buffer"
                    )));
                }
                Ok(len) => return Ok(len),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("the kernel said nothing for {SILENCE_S} s"),
                    ));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether a socket has these addresses and ports, whatever its family, and is bound to this device.
fn is_at(message: &Message<'_>, tuple: &Tuple) -> bool {
    let canonical = |tuple: &Tuple| {
        let end = |end: Endpoint| (end.address.to_canonical(), end.port);
        (end(tuple.local), end(tuple.remote), tuple.interface)
    };
    canonical(&message.tuple()) == canonical(tuple)
}

fn failed(error: &io::Error) -> DumpEnd {
    DumpEnd::Failed { errno: error.raw_os_error(), message: error.to_string() }
}

fn refused(errno: i32) -> DumpEnd {
    // ENOENT: no handler for this family or protocol; EINVAL and EOPNOTSUPP: an older kernel that
    // does not know how to be asked for it.
    let unsupported = [Errno::NOENT, Errno::INVAL, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT];
    if unsupported.iter().any(|e| e.raw_os_error() == errno) {
        return DumpEnd::Unsupported;
    }
    failed(&io::Error::from_raw_os_error(errno))
}
