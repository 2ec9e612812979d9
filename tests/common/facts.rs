//! What a socket says of itself through its descriptor, by ways that do not pass sock_diag.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt;
use sockrec::kernel::SystemClock;
use sockrec::model::{Endpoint, Family, Protocol, TcpState, Timer, Tuple};

const SOL_MPTCP: i32 = 284;
const MPTCP_INFO: i32 = 1;

/// `CLOCK_MONOTONIC` in milliseconds.
pub fn now_ms() -> i64 {
    SystemClock.now().monotonic_ms()
}

/// The user that this process makes sockets as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What stays known of a socket when its descriptor is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub family: Family,
    pub protocol: Protocol,
    /// `SO_COOKIE`. Asking for it made it, so that TIME_WAIT inherits it.
    pub cookie: u64,
    pub local: SocketAddr,
    /// Unspecified address and port 0 when not connected.
    pub remote: SocketAddr,
}

impl Identity {
    /// The tuple that a dump must show.
    pub fn tuple(&self, interface: u32) -> Tuple {
        let endpoint = |a: SocketAddr| Endpoint { address: a.ip(), port: a.port() };
        Tuple { local: endpoint(self.local), remote: endpoint(self.remote), interface }
    }
}

/// `struct tcp_info` or another `INET_DIAG_INFO` as getsockopt() gives it, and when.
#[derive(Clone, Debug)]
pub struct Info {
    pub bytes: Vec<u8>,
    /// `CLOCK_MONOTONIC` in milliseconds before and after the call.
    pub between_ms: (i64, i64),
}

/// What every descriptor of a socket can be asked.
pub trait Facts: AsFd {
    fn identity(&self) -> Identity {
        Identity {
            family: self.family(),
            protocol: self.protocol(),
            cookie: self.cookie(),
            local: self.local(),
            remote: self.remote(),
        }
    }

    /// `SO_DOMAIN`
    fn family(&self) -> Family {
        let domain = sockopt::socket_domain(self).expect("SO_DOMAIN").as_raw();
        u8::try_from(domain).ok().and_then(Family::from_number).expect("an inet socket")
    }

    /// `SO_PROTOCOL`
    fn protocol(&self) -> Protocol {
        let number = self.int_option(libc::SOL_SOCKET, libc::SO_PROTOCOL).expect("SO_PROTOCOL");
        u16::try_from(number).ok().and_then(Protocol::from_number).expect("a known protocol")
    }

    /// `SO_COOKIE`
    fn cookie(&self) -> u64 {
        sockopt::socket_cookie(self).expect("SO_COOKIE")
    }

    /// `getsockname()`
    fn local(&self) -> SocketAddr {
        let address = rustix::net::getsockname(self).expect("getsockname");
        SocketAddr::try_from(address).expect("an inet address")
    }

    /// `getpeername()`; unspecified when there is no peer.
    fn remote(&self) -> SocketAddr {
        match rustix::net::getpeername(self) {
            Ok(Some(address)) => SocketAddr::try_from(address).expect("an inet address"),
            Ok(None) | Err(_) => SocketAddr::new(
                match self.family() {
                    Family::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    Family::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                },
                0,
            ),
        }
    }

    /// Inode of the socket's file, by fstat().
    fn inode(&self) -> u32 {
        let inode = rustix::fs::fstat(self).expect("fstat").st_ino;
        u32::try_from(inode).expect("sockets' inodes have 32 bits")
    }

    /// Owner of the socket's file, by fstat().
    fn uid(&self) -> u32 {
        rustix::fs::fstat(self).expect("fstat").st_uid
    }

    /// `FIONREAD`: unread bytes; of UDP those of the first datagram only.
    fn unread(&self) -> u32 {
        self.int_ioctl(libc::FIONREAD)
    }

    /// `SIOCOUTQ`: bytes that were written and not acknowledged.
    fn unacknowledged(&self) -> u32 {
        self.int_ioctl(libc::TIOCOUTQ)
    }

    /// `SO_MEMINFO`: the nine words of `SK_MEMINFO_*`, more on later kernels.
    fn memory(&self) -> Vec<u32> {
        let bytes = self.raw_option(libc::SOL_SOCKET, libc::SO_MEMINFO).expect("SO_MEMINFO");
        bytes.chunks_exact(4).map(|w| u32::from_ne_bytes(w.try_into().expect("4 bytes"))).collect()
    }

    /// `SO_RCVBUF`
    fn receive_buffer(&self) -> u32 {
        self.u32_option(libc::SOL_SOCKET, libc::SO_RCVBUF)
    }

    /// `SO_SNDBUF`
    fn send_buffer(&self) -> u32 {
        self.u32_option(libc::SOL_SOCKET, libc::SO_SNDBUF)
    }

    /// `SO_PRIORITY`
    fn priority(&self) -> u32 {
        self.u32_option(libc::SOL_SOCKET, libc::SO_PRIORITY)
    }

    /// `SO_MARK`
    fn mark(&self) -> u32 {
        self.u32_option(libc::SOL_SOCKET, libc::SO_MARK)
    }

    /// `SO_BINDTOIFINDEX`: index of the device that it is bound to, 0 for none.
    fn interface(&self) -> u32 {
        self.u32_option(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)
    }

    /// `IP_TOS`
    fn tos(&self) -> u8 {
        u8::try_from(self.u32_option(libc::IPPROTO_IP, libc::IP_TOS)).expect("IP_TOS has 8 bits")
    }

    /// `IPV6_TCLASS`, `None` for IPv4.
    fn tclass(&self) -> Option<u8> {
        (self.family() == Family::Inet6).then(|| {
            let tclass = self.u32_option(libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
            u8::try_from(tclass).expect("IPV6_TCLASS has 8 bits")
        })
    }

    /// `IPV6_V6ONLY`, `None` for IPv4.
    fn v6only(&self) -> Option<bool> {
        (self.family() == Family::Inet6)
            .then(|| self.u32_option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) != 0)
    }

    /// `TCP_CONGESTION`, `None` for other protocols.
    fn congestion_control(&self) -> Option<String> {
        sockopt::tcp_congestion(self).ok()
    }

    /// `TCP_CC_INFO`: what the congestion control reports, empty for nothing.
    fn congestion_info(&self) -> Vec<u8> {
        self.raw_option(libc::IPPROTO_TCP, libc::TCP_CC_INFO).unwrap_or_default()
    }

    /// `TCP_INFO`, empty for other protocols.
    fn tcp_info(&self) -> Info {
        self.info(libc::IPPROTO_TCP, libc::TCP_INFO)
    }

    /// `MPTCP_INFO`
    fn mptcp_info(&self) -> Info {
        self.info(SOL_MPTCP, MPTCP_INFO)
    }

    /// The state that `TCP_INFO` begins with.
    fn tcp_state(&self) -> Option<TcpState> {
        self.tcp_info().bytes.first().copied().map(TcpState)
    }

    /// Whether the receiving side is shut down and whether both are, by poll().
    fn hung_up(&self) -> (bool, bool) {
        let mut polled = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::RDHUP)];
        poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
        let happened = polled[0].revents();
        (happened.contains(PollFlags::RDHUP), happened.contains(PollFlags::HUP))
    }

    fn info(&self, level: i32, option: i32) -> Info {
        let before = now_ms();
        let bytes = self.raw_option(level, option).unwrap_or_default();
        Info { bytes, between_ms: (before, now_ms()) }
    }

    fn u32_option(&self, level: i32, option: i32) -> u32 {
        let value = self.int_option(level, option);
        value.unwrap_or_else(|e| panic!("option {option} of level {level}: {e}")).cast_unsigned()
    }

    fn int_option(&self, level: i32, option: i32) -> io::Result<i32> {
        let bytes = self.raw_option(level, option)?;
        let bytes = bytes.first_chunk().ok_or_else(|| io::Error::other("shorter than an int"))?;
        Ok(i32::from_ne_bytes(*bytes))
    }

    fn set_int_option(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        let len = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `value`.
        let result = unsafe {
            libc::setsockopt(
                self.as_fd().as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                len,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// A socket option in as many bytes as the kernel has of it.
    fn raw_option(&self, level: i32, option: i32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0u8; 4096];
        let mut len = bytes.len() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel writes at most `len` bytes to `bytes`.
        let result = unsafe {
            libc::getsockopt(
                self.as_fd().as_raw_fd(),
                level,
                option,
                bytes.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    fn int_ioctl(&self, request: libc::c_ulong) -> u32 {
        let mut value = MaybeUninit::<libc::c_int>::uninit();
        // SAFETY: both requests write one int; it is only read when the call succeeded.
        let value = unsafe {
            let result =
                libc::ioctl(self.as_fd().as_raw_fd(), request as libc::Ioctl, value.as_mut_ptr());
            assert_eq!(result, 0, "ioctl {request:#x}: {}", io::Error::last_os_error());
            value.assume_init()
        };
        u32::try_from(value).expect("a length")
    }
}

impl<T: AsFd> Facts for T {}

/// State and timer of a TCP connection by `/proc/net/tcp` and `tcp6`: for those that have no
/// descriptor to ask.
pub fn proc_entry(identity: &Identity) -> Option<(TcpState, Timer)> {
    let path = match identity.family {
        Family::Inet => "/proc/thread-self/net/tcp",
        Family::Inet6 => "/proc/thread-self/net/tcp6",
    };
    let key = proc_key(identity);
    let table = fs::read_to_string(path).expect("the kernel has its table of connections");
    table.lines().find_map(|line| {
        // sl: local remote state tx_queue:rx_queue timer:when …
        let (_, rest) = line.split_once(": ")?;
        let mut columns = rest.strip_prefix(&key)?.split_whitespace();
        let state = u8::from_str_radix(columns.next()?, 16).ok()?;
        let (timer, _) = columns.nth(1)?.split_once(':')?;
        Some((TcpState(state), Timer(u8::from_str_radix(timer, 16).ok()?)))
    })
}

/// Both ends as `/proc/net/tcp` writes them: addresses as native words in hexadecimal.
fn proc_key(identity: &Identity) -> String {
    let end = |a: SocketAddr| {
        let octets = match a.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = octets.chunks_exact(4).map(|w| w.try_into().expect("4 bytes"));
        let address: String = words.map(|w| format!("{:08X}", u32::from_ne_bytes(w))).collect();
        format!("{address}:{:04X}", a.port())
    };
    format!("{} {}", end(identity.local), end(identity.remote))
}
