//! `struct inet_diag_msg` and its attributes (`include/uapi/linux/inet_diag.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use netlink_packet_sock_diag::constants::{
    INET_DIAG_BBRINFO, INET_DIAG_CLASS_ID, INET_DIAG_CONG, INET_DIAG_DCTCPINFO, INET_DIAG_INFO,
    INET_DIAG_MARK, INET_DIAG_MD5SIG, INET_DIAG_MEMINFO, INET_DIAG_PAD, INET_DIAG_PROTOCOL,
    INET_DIAG_SHUTDOWN, INET_DIAG_SKMEMINFO, INET_DIAG_SKV6ONLY, INET_DIAG_TCLASS, INET_DIAG_TOS,
    INET_DIAG_VEGASINFO,
};

use super::WireError;
use super::attributes::{self, Attributes, attribute_at};
use super::fields::u32_at;
use super::{mptcp, sock_diag, tcp};
use crate::model::{
    ActivityTimes, Endpoint, Family, MptcpInfo, Observation, Protocol, SocketMemory, SocketUpdate,
    TcpInfo, TcpState, Timer, Tuple,
};

// Newer than the constants of netlink-packet-sock-diag.
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_DIAG_CGROUP_ID: u16 = 21;
const INET_DIAG_SOCKOPT: u16 = 22;
const INET_ULP_INFO_NAME: u16 = 1;

/// Length of `struct tcp_diag_md5sig`, and where its key begins.
const MD5SIG_LEN: usize = 100;
const MD5SIG_KEY_OFFSET: usize = 20;

pub(crate) const HEADER_LEN: usize = 72;
/// Where ports and addresses of both ends are.
pub(crate) const ENDPOINTS: Range<usize> = 4..40;
const EXPIRES_OFFSET: usize = 52;
/// Above it the kernel's unsigned subtraction wrapped: the timer is overdue.
const OVERDUE: u32 = 1 << 31;

/// One message of a dump or event, in the bytes that it came in.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    family: Family,
    header: &'a [u8; HEADER_LEN],
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the payload of a `SOCK_DIAG_BY_FAMILY` message.
    ///
    /// # Errors
    /// When it is shorter than its header, or of a family not known here.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let Some((header, attributes)) = payload.split_first_chunk() else {
            return Err(WireError::TooShort { needed: HEADER_LEN, got: payload.len() });
        };
        let family = Family::from_number(header[0]).ok_or(WireError::UnknownFamily(header[0]))?;
        Ok(Self { family, header, attributes })
    }

    /// `idiag_family`
    pub fn family(&self) -> Family {
        self.family
    }

    /// `idiag_state`
    pub fn state(&self) -> TcpState {
        TcpState(self.header[1])
    }

    /// `idiag_cookie`
    pub fn cookie(&self) -> u64 {
        u64::from(self.u32(44)) | u64::from(self.u32(48)) << 32
    }

    /// `idiag_sport`, `idiag_src`, `idiag_dport`, `idiag_dst`, `idiag_if`
    pub fn tuple(&self) -> Tuple {
        Tuple {
            local: Endpoint { address: self.address(8), port: self.port(4) },
            remote: Endpoint { address: self.address(24), port: self.port(6) },
            interface: self.u32(40),
        }
    }

    /// `idiag_sport` and `idiag_dport`.
    pub fn ports(&self) -> (u16, u16) {
        (self.port(4), self.port(6))
    }

    /// `INET_DIAG_PROTOCOL`, which destroy events have.
    pub fn protocol(&self) -> Option<Protocol> {
        let (_, value, _) =
            Attributes::new(self.attributes).find(|(kind, ..)| *kind == INET_DIAG_PROTOCOL)?;
        Protocol::from_number(u16::from(*value.first()?))
    }

    /// Whether a destroy event tells only half of the tuple: after an abort by this end or a refused
    /// connect the local address (unless bound to one), the remote port and the counters are wiped.
    pub fn is_half_wiped(&self) -> bool {
        let remote = self.tuple().remote;
        remote.port == 0 && !remote.address.is_unspecified()
    }

    /// The bytes of both ends as they came: equal if and only if ports and addresses are. The device
    /// may change under a socket that stays the same.
    pub fn endpoint_bytes(&self) -> &'a [u8] {
        &self.header[ENDPOINTS]
    }

    /// Whether this is a mini-socket, of which the kernel keeps neither owner nor counters:
    /// TIME_WAIT, a FIN_WAIT2 that was orphaned for long, or a connection request. A SYN_RECV
    /// with `tcp_info` is a full socket (TCP Fast Open).
    pub fn is_mini(&self) -> bool {
        match self.state() {
            TcpState::TIME_WAIT | TcpState::NEW_SYN_RECV => true,
            TcpState::FIN_WAIT2 => Timer(self.header[2]) == Timer::TIMEWAIT,
            TcpState::SYN_RECV => !self.has_info(),
            _ => false,
        }
    }

    /// Whether it tells counters and the like (`INET_DIAG_INFO`), which must be asked for.
    pub fn has_info(&self) -> bool {
        Attributes::new(self.attributes).any(|(kind, ..)| kind == INET_DIAG_INFO)
    }

    /// Inode of the socket's file and its owner, as far as the kernel tells.
    fn file(&self) -> (Option<u32>, Option<u32>) {
        if self.is_mini() {
            return (None, None);
        }
        let inode = Some(self.u32(68)).filter(|&inode| inode != 0);
        // Before Linux 6.17 every socket without a file was said to be root's.
        let uid = Some(self.u32(64)).filter(|&uid| uid != 0 || inode.is_some());
        (inode, uid)
    }

    /// Decodes just what a socket's row keeps up to date.
    pub fn owner(&self) -> SocketUpdate {
        let (inode, uid) = self.file();
        let mut owner = SocketUpdate {
            inode,
            uid,
            interface: Some(self.u32(40)).filter(|&index| index != 0),
            ..SocketUpdate::default()
        };
        for (kind, value, _) in Attributes::new(self.attributes) {
            match kind {
                INET_DIAG_MARK => owner.mark = owner.mark.or(exact(value).map(u32::from_ne_bytes)),
                INET_DIAG_CGROUP_ID => {
                    owner.cgroup_id = owner.cgroup_id.or(exact(value).map(u64::from_ne_bytes));
                }
                _ => {}
            }
        }
        owner
    }

    /// Decodes everything but the relative times.
    pub fn observe(&self, protocol: Protocol) -> Observation<'a> {
        let state = self.state();
        let is_mini = self.is_mini();
        let full = |offset| (!is_mini).then(|| self.u32(offset));
        let (inode, uid) = self.file();
        let mut o = Observation {
            family: self.family,
            state,
            is_mini,
            timer: Timer(self.header[2]),
            timer_retransmits: self.header[3],
            tuple: self.tuple(),
            cookie: self.cookie(),
            rqueue: full(56),
            wqueue: full(60),
            uid,
            inode,
            tcp: TcpInfo::default(),
            mptcp: MptcpInfo::default(),
            memory: SocketMemory::default(),
            congestion_control: None,
            congestion: None,
            tos: None,
            tclass: None,
            class_id: None,
            shutdown: None,
            v6only: None,
            socket_options: None,
            mark: None,
            cgroup_id: None,
            ulp: None,
            ulp_info: &[],
            info_tail: &[],
            unknown_attributes: Vec::new(),
        };
        let mut attributes = Attributes::new(self.attributes);
        let mut taken = 0u64;
        for (kind, value, whole) in attributes.by_ref() {
            // No kernel sends two of a kind; if one did, the first holds and the others are kept.
            let bit = 1u64.checked_shl(u32::from(kind)).unwrap_or(0);
            if taken & bit == 0 && o.take_attribute(kind, value, protocol) {
                taken |= bit;
            } else {
                o.keep_attribute(kind, whole);
            }
        }
        o.unknown_attributes.extend_from_slice(attributes.rest());
        o
    }

    fn u32(&self, offset: usize) -> u32 {
        u32_at(self.header, offset).unwrap_or_default()
    }

    fn port(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.header[offset], self.header[offset + 1]])
    }

    fn address(&self, offset: usize) -> IpAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.header[offset..offset + 16]);
        match self.family {
            Family::Inet => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
            Family::Inet6 => IpAddr::V6(Ipv6Addr::from(bytes)),
        }
    }
}

impl<'a> Observation<'a> {
    /// Takes over one attribute; false if it is not known or not of a length that can be read.
    fn take_attribute(&mut self, kind: u16, value: &'a [u8], protocol: Protocol) -> bool {
        match kind {
            INET_DIAG_INFO if protocol == Protocol::Mptcp => {
                (self.mptcp, self.tcp, self.info_tail) = mptcp::mptcp_info(value, self.state);
                true
            }
            INET_DIAG_INFO => {
                (self.tcp, self.info_tail) = tcp::tcp_info(value, self.state);
                true
            }
            INET_DIAG_SKMEMINFO => {
                self.memory = sock_diag::sk_meminfo(value);
                value.len() <= sock_diag::SK_MEMINFO_LEN && value.len().is_multiple_of(4)
            }
            INET_DIAG_MEMINFO => {
                if self.memory.rmem_alloc_bytes.is_none() {
                    self.memory = sock_diag::meminfo(value);
                }
                value.len() == sock_diag::MEMINFO_LEN
            }
            INET_DIAG_CONG => set(&mut self.congestion_control, text(value)),
            // What a longer structure begins with is read, and all of it is kept.
            INET_DIAG_VEGASINFO => {
                set(&mut self.congestion, tcp::vegas_info(value))
                    && value.len() == tcp::VEGAS_INFO_LEN
            }
            INET_DIAG_DCTCPINFO => {
                set(&mut self.congestion, tcp::dctcp_info(value))
                    && value.len() == tcp::DCTCP_INFO_LEN
            }
            INET_DIAG_BBRINFO => {
                set(&mut self.congestion, tcp::bbr_info(value)) && value.len() == tcp::BBR_INFO_LEN
            }
            INET_DIAG_TOS => set(&mut self.tos, exact(value).map(u8::from_ne_bytes)),
            INET_DIAG_TCLASS => set(&mut self.tclass, exact(value).map(u8::from_ne_bytes)),
            INET_DIAG_CLASS_ID => set(&mut self.class_id, exact(value).map(u32::from_ne_bytes)),
            INET_DIAG_SHUTDOWN => set(&mut self.shutdown, exact(value).map(u8::from_ne_bytes)),
            INET_DIAG_SKV6ONLY => set(&mut self.v6only, exact(value).map(|[b]: [u8; 1]| b != 0)),
            INET_DIAG_SOCKOPT => {
                set(&mut self.socket_options, exact(value).map(u16::from_le_bytes))
            }
            INET_DIAG_MARK => set(&mut self.mark, exact(value).map(u32::from_ne_bytes)),
            INET_DIAG_CGROUP_ID => set(&mut self.cgroup_id, exact(value).map(u64::from_ne_bytes)),
            INET_DIAG_ULP_INFO => {
                self.ulp_info = value;
                self.ulp = Attributes::new(value)
                    .find(|(kind, ..)| *kind == INET_ULP_INFO_NAME)
                    .and_then(|(_, name, _)| text(name));
                true
            }
            // The protocol was asked for by name; padding holds nothing.
            INET_DIAG_PROTOCOL | INET_DIAG_PAD => true,
            _ => false,
        }
    }

    /// Keeps an attribute as it came, but for the keys of TCP MD5 (RFC 2385), which the kernel
    /// sends to whoever has CAP_NET_ADMIN: a recording is no place for secrets.
    fn keep_attribute(&mut self, kind: u16, whole: &[u8]) {
        let value_start = self.unknown_attributes.len() + attributes::HEADER_LEN;
        self.unknown_attributes.extend_from_slice(whole);
        if kind == INET_DIAG_MD5SIG {
            for entry in self.unknown_attributes[value_start..].chunks_mut(MD5SIG_LEN) {
                if let Some(key) = entry.get_mut(MD5SIG_KEY_OFFSET..) {
                    key.fill(0);
                }
            }
        }
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let known = value.is_some();
    if known {
        *field = value;
    }
    known
}

fn exact<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

/// A C string of at least one character.
fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok().filter(|s| !s.is_empty())
}

/// `INITIAL_JIFFIES` (`include/linux/jiffies.h`).
const JIFFIES_BEFORE_WRAP_MS: i64 = 300_000;
/// The kernel's ticks are counted up late.
const UNSET_TOLERANCE_MS: i64 = 1_000;

/// The kernel's "so many milliseconds ago" and "in so many milliseconds" of one message, `None`
/// where the kernel does not tell or counts from something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelativeTimes {
    expires_ms: Option<u32>,
    last_data_sent_ms: Option<u32>,
    last_data_recv_ms: Option<u32>,
    last_ack_recv_ms: Option<u32>,
    handshake_ms: Option<u32>,
    sent_or_handshake_ms: Option<u32>,
    received_or_handshake_ms: Option<u32>,
}

impl RelativeTimes {
    /// So many milliseconds ago data was sent for the last time, or the connection was established.
    /// Survives when a socket is disconnected.
    pub fn sent_or_handshake_ms(self) -> Option<u32> {
        self.sent_or_handshake_ms
    }

    /// So many milliseconds ago data came for the last time, or the connection was established.
    pub fn received_or_handshake_ms(self) -> Option<u32> {
        self.received_or_handshake_ms
    }

    /// In so many milliseconds the timer fires.
    pub fn expires_ms(self) -> Option<u32> {
        self.expires_ms
    }

    /// So many milliseconds ago the connection was active for the last time.
    pub fn active_ms(self) -> Option<u32> {
        let moments = [self.last_data_sent_ms, self.last_data_recv_ms, self.last_ack_recv_ms];
        moments.into_iter().flatten().min()
    }

    /// So many milliseconds ago it was established. `None` once data has come.
    pub fn handshake_ms(self) -> Option<u32> {
        self.handshake_ms
    }

    /// So many milliseconds ago, or earlier, it was established.
    pub fn established_ms(self) -> Option<u32> {
        let moments = [self.last_data_sent_ms, self.last_data_recv_ms, self.last_ack_recv_ms];
        moments.into_iter().flatten().chain(self.handshake_ms).max()
    }

    /// The same but for a handshake that was none: after a simultaneous open the kernel counts what came from
    /// the beginning of its ticks (`INITIAL_JIFFIES`, 300 s after which they wrap), until data come. Given
    /// between which moments of `CLOCK_MONOTONIC` it made the message.
    #[must_use]
    pub fn without_unset(self, (after_ms, by_ms): (i64, i64)) -> Self {
        let begun_ms = (after_ms - UNSET_TOLERANCE_MS - JIFFIES_BEFORE_WRAP_MS) as u32;
        let is_unset = |ago_ms: u32| {
            let since_ms = ago_ms.wrapping_sub(begun_ms);
            i64::from(since_ms) <= by_ms - after_ms + 2 * UNSET_TOLERANCE_MS
        };
        if !self.handshake_ms.is_some_and(is_unset) {
            return self;
        }
        Self { handshake_ms: None, received_or_handshake_ms: None, ..self }
    }

    /// Whether both ends dialled, for sure: until data go, what went is counted from the handshake, and what
    /// came, as [`Self::without_unset`] knows, from long before.
    pub fn is_opened_by_both(self, made_at_ms: (i64, i64)) -> bool {
        let handshakes = self.handshake_ms.zip(self.sent_or_handshake_ms);
        let is_unset = self.without_unset(made_at_ms).handshake_ms.is_none();
        let is_apart = handshakes.is_some_and(|(came_ms, went_ms)| {
            i64::from(came_ms.wrapping_sub(went_ms)) > 3 * UNSET_TOLERANCE_MS
        });
        is_unset && is_apart && self.last_data_sent_ms.is_none()
    }

    /// The same moments on `CLOCK_MONOTONIC`, given when the kernel made the message.
    pub fn absolute(self, made_at_ms: i64) -> ActivityTimes {
        let ago = |ms: Option<u32>| ms.map(|ms| made_at_ms - i64::from(ms));
        ActivityTimes {
            timer_expires_at_ms: self.expires_ms.map(|ms| made_at_ms + i64::from(ms)),
            last_data_sent_at_ms: ago(self.last_data_sent_ms),
            last_data_recv_at_ms: ago(self.last_data_recv_ms),
            last_ack_recv_at_ms: ago(self.last_ack_recv_ms),
        }
    }
}

/// Takes the relative times out of a message and zeroes them in place, so that the messages of an
/// idle socket are the same bytes in every dump.
///
/// Of a listener and a mini-socket there are none but the timer; before any data or segment came
/// or went the kernel's `last_*` count from the handshake or from boot: `None`.
pub fn take_relative_times(payload: &mut [u8], protocol: Protocol) -> RelativeTimes {
    let Some((header, attributes)) = payload.split_first_chunk_mut::<HEADER_LEN>() else {
        return RelativeTimes::default();
    };
    let state = TcpState(header[1]);
    let mut times = RelativeTimes {
        expires_ms: take_u32(header, EXPIRES_OFFSET)
            .filter(|_| Timer(header[2]) != Timer::OFF)
            .map(|ms| if ms < OVERDUE { ms } else { 0 }),
        ..RelativeTimes::default()
    };
    let mut offset = 0;
    while let Some(a) = attribute_at(attributes, offset) {
        if a.kind == INET_DIAG_INFO {
            let info = &mut attributes[a.value_start..a.value_end];
            let layout = if protocol == Protocol::Mptcp { &MPTCP_LAYOUT } else { &TCP_LAYOUT };
            layout.take(info, state, &mut times);
            break; // of two of a kind the first holds
        }
        offset = a.next;
    }
    times
}

/// Where a structure of `INET_DIAG_INFO` keeps its relative times, and the counters that tell
/// whether there is such a moment at all.
struct InfoLayout {
    last_data_sent: usize,
    last_data_recv: usize,
    last_ack_recv: usize,
    sent: Range<usize>,
    received: Range<usize>,
    segments_in: Range<usize>,
    /// Any of these not zero: a segment came that was more than a refusal. A disconnected socket
    /// keeps the last two.
    heard: &'static [(usize, usize)],
}

const TCP_LAYOUT: InfoLayout = InfoLayout {
    last_data_sent: 44,
    last_data_recv: 52,
    last_ack_recv: 56,
    sent: 156..160,     // tcpi_data_segs_out
    received: 152..156, // tcpi_data_segs_in
    segments_in: 140..144,
    // tcpi_rtt, tcpi_bytes_received, tcpi_snd_wnd
    heard: &[(68, 72), (128, 136), (228, 232)],
};

const MPTCP_LAYOUT: InfoLayout = InfoLayout {
    last_data_sent: 84,
    last_data_recv: 88,
    last_ack_recv: 92,
    sent: 56..64,        // mptcpi_bytes_sent
    received: 64..72,    // mptcpi_bytes_received
    segments_in: 64..72, // it counts none
    heard: &[(72, 80)],  // mptcpi_bytes_acked
};

impl InfoLayout {
    fn take(&self, info: &mut [u8], state: TcpState, times: &mut RelativeTimes) {
        let is_zero = |counter: &Range<usize>| {
            info.get(counter.clone()).is_some_and(|bytes| bytes.iter().all(|&b| b == 0))
        };
        let nothing_sent = is_zero(&self.sent);
        let nothing_received = is_zero(&self.received);
        let unheard = |&(start, end): &(usize, usize)| {
            info.get(start..end).is_none_or(|bytes| bytes.iter().all(|&b| b == 0))
        };
        let no_segment = self.heard.iter().all(unheard) || state == TcpState::SYN_SENT;
        let is_connected = !no_segment && !is_zero(&self.segments_in);
        let sent = take_u32(info, self.last_data_sent);
        let received = take_u32(info, self.last_data_recv);
        let acked = take_u32(info, self.last_ack_recv);
        if state == TcpState::LISTEN {
            return;
        }
        times.last_data_sent_ms = sent.filter(|_| !nothing_sent);
        times.last_data_recv_ms = received.filter(|_| !nothing_received);
        times.last_ack_recv_ms = acked.filter(|_| !no_segment);
        times.sent_or_handshake_ms = sent.filter(|_| !no_segment);
        times.received_or_handshake_ms = received.filter(|_| is_connected);
        // Until data come the kernel counts from the handshake, but of a disconnected socket.
        times.handshake_ms = received.filter(|_| nothing_received && is_connected);
    }
}

fn take_u32(bytes: &mut [u8], offset: usize) -> Option<u32> {
    let value = u32_at(bytes, offset)?;
    bytes[offset..offset + 4].fill(0);
    Some(value)
}
