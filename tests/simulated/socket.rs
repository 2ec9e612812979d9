//! Sockets made up for the recorder, as inet_diag tells of them in dumps and in destroy events.

use std::net::Ipv4Addr;

use sockrec::model::{Family, Protocol, TcpState, Timer};

use crate::world::START_MONOTONIC;

const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CONG: u16 = 4;
const INET_DIAG_PROTOCOL: u16 = 10;
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;

/// Until when timers run that tell nothing: far off.
const TIMER_END_MS: i64 = START_MONOTONIC / 1_000_000 + 600_000_000;

/// An IPv4 socket as inet_diag would tell of it.
#[derive(Clone, Debug)]
pub struct FakeSocket {
    pub cookie: u64,
    pub state: TcpState,
    /// Of a mini-socket the kernel keeps neither owner nor counters.
    pub is_mini: bool,
    pub local_address: Ipv4Addr,
    pub local_port: u16,
    pub remote_address: Ipv4Addr,
    pub remote_port: u16,
    pub inode: u32,
    pub uid: u32,
    pub rqueue: u32,
    pub wqueue: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub data_segs_out: u32,
    pub data_segs_in: u32,
    /// Segments; 0 stands for what is not told.
    pub delivered: u32,
    pub retransmits: u8,
    pub total_retrans: u32,
    pub rtt_us: u32,
    pub min_rtt_us: u32,
    pub snd_wnd: u32,
    /// Milliseconds of CLOCK_MONOTONIC, like the next two.
    pub last_data_sent_at_ms: i64,
    /// Until data come the moment of the handshake.
    pub last_data_recv_at_ms: i64,
    pub last_ack_recv_at_ms: i64,
    /// Of a mini-socket: until when its timer runs.
    pub timer_ends_at_ms: i64,
    /// A subflow of MPTCP.
    pub is_subflow: bool,
    /// `TCPI_OPT_*`.
    pub options: u8,
}

impl FakeSocket {
    /// The end that opened a connection within this host.
    pub fn established(cookie: u64, local_port: u16, remote_port: u16) -> Self {
        Self {
            cookie,
            state: TcpState::ESTABLISHED,
            is_mini: false,
            local_address: Ipv4Addr::new(127, 0, 0, 1),
            local_port,
            remote_address: Ipv4Addr::new(127, 0, 0, 2),
            remote_port,
            inode: 10_000 + u32::from(local_port),
            uid: 1_000,
            rqueue: 0,
            wqueue: 0,
            bytes_sent: 100,
            bytes_retrans: 0,
            bytes_acked: 101,
            bytes_received: 0,
            segs_out: 3,
            segs_in: 3,
            data_segs_out: 3,
            data_segs_in: 0,
            delivered: 0,
            retransmits: 0,
            total_retrans: 0,
            rtt_us: 250,
            min_rtt_us: 200,
            snd_wnd: 65_536,
            last_data_sent_at_ms: START_MONOTONIC / 1_000_000 - 5_000,
            last_data_recv_at_ms: START_MONOTONIC / 1_000_000 - 5_500,
            last_ack_recv_at_ms: START_MONOTONIC / 1_000_000 - 5_000,
            timer_ends_at_ms: TIMER_END_MS,
            is_subflow: false,
            options: 0,
        }
    }

    pub fn listener(cookie: u64, local_port: u16, backlog: u32, limit: u32) -> Self {
        Self {
            state: TcpState::LISTEN,
            local_address: Ipv4Addr::new(127, 0, 0, 2),
            remote_address: Ipv4Addr::UNSPECIFIED,
            rqueue: backlog,
            wqueue: limit,
            ..Self::established(cookie, local_port, 0)
        }
    }

    /// The other end of the connection, which received what this one has sent.
    pub fn peer(&self, cookie: u64) -> Self {
        Self {
            cookie,
            local_address: self.remote_address,
            local_port: self.remote_port,
            remote_address: self.local_address,
            remote_port: self.local_port,
            inode: 10_000 + u32::from(self.remote_port),
            bytes_sent: 0,
            bytes_acked: 0,
            bytes_received: self.bytes_sent,
            segs_out: self.segs_in,
            segs_in: self.segs_out,
            data_segs_out: 0,
            data_segs_in: 1,
            ..self.clone()
        }
    }

    /// The same with another machine at the other end.
    pub fn to_afar(&self) -> Self {
        Self {
            local_address: Ipv4Addr::new(192, 0, 2, 1),
            remote_address: Ipv4Addr::new(198, 51, 100, 7),
            ..self.clone()
        }
    }

    /// The same, opened and active for the last time so many milliseconds after the start.
    pub fn opened_at(&self, ms: i64) -> Self {
        let at_ms = START_MONOTONIC / 1_000_000 + ms;
        Self {
            last_data_sent_at_ms: at_ms,
            last_data_recv_at_ms: at_ms,
            last_ack_recv_at_ms: at_ms,
            ..self.clone()
        }
    }

    pub fn in_state(&self, state: TcpState) -> Self {
        Self { state, ..self.clone() }
    }

    /// One that has sent its SYN and got nothing yet.
    pub fn connecting(&self) -> Self {
        Self {
            bytes_sent: 0,
            bytes_acked: 0,
            segs_out: 1,
            segs_in: 0,
            data_segs_out: 0,
            rtt_us: 0,
            min_rtt_us: u32::MAX,
            snd_wnd: 0,
            wqueue: 1,
            ..self.in_state(TcpState::SYN_SENT)
        }
    }

    /// The mini-socket that it was before its handshake was over.
    pub fn request(&self) -> Self {
        Self { is_mini: true, inode: 0, uid: 0, ..self.in_state(TcpState::SYN_RECV) }
    }

    /// The mini-socket that is left of it.
    pub fn time_wait(&self) -> Self {
        Self { is_mini: true, inode: 0, uid: 0, ..self.in_state(TcpState::TIME_WAIT) }
    }

    /// The mini-socket that is left of it since so many milliseconds after the start.
    pub fn time_wait_since(&self, ms: i64) -> Self {
        Self { timer_ends_at_ms: START_MONOTONIC / 1_000_000 + ms + 60_000, ..self.time_wait() }
    }

    pub fn sent(&self, bytes: u64) -> Self {
        Self {
            bytes_sent: self.bytes_sent + bytes,
            bytes_acked: self.bytes_acked + bytes,
            segs_out: self.segs_out + 1,
            data_segs_out: self.data_segs_out + 1,
            ..self.clone()
        }
    }

    /// The same after so many more retransmissions that nobody answered.
    pub fn retransmitted(&self, times: u8) -> Self {
        Self {
            wqueue: 1,
            retransmits: self.retransmits + times,
            total_retrans: self.total_retrans + u32::from(times),
            segs_out: self.segs_out + u32::from(times),
            ..self.clone()
        }
    }

    /// The same after its FIN was acknowledged.
    pub fn fin_acked(&self) -> Self {
        Self { bytes_acked: self.bytes_acked + 1, ..self.clone() }
    }

    /// The same after the other end's FIN has come.
    pub fn fin_received(&self) -> Self {
        Self { bytes_received: self.bytes_received + 1, ..self.clone() }
    }

    /// What the kernel tells when it frees the socket.
    pub fn destroyed(&self) -> FakeEvent {
        let socket = self.clone();
        FakeEvent { socket, is_wiped: false, ago_ms: 300, unread_ms: 0, look_up_ns: Some(0) }
    }

    /// Both ends.
    pub fn tuple(&self) -> (Ipv4Addr, u16, Ipv4Addr, u16) {
        (self.local_address, self.local_port, self.remote_address, self.remote_port)
    }

    /// What the kernel tells after this end has aborted the connection (`SO_LINGER` 0): half of the
    /// tuple and the counters are gone.
    pub fn aborted(&self) -> FakeEvent {
        FakeEvent { is_wiped: true, ..self.destroyed() }
    }

    /// What the kernel tells after a refused connect.
    pub fn refused(&self) -> FakeEvent {
        self.connecting().aborted()
    }

    /// The payload of its `SOCK_DIAG_BY_FAMILY` message when asked at this moment.
    pub fn message(&self, family: Family, now_ms: i64) -> Vec<u8> {
        let mut m = self.header(family);
        m[1] = self.state.0;
        if self.is_mini {
            let is_request = self.state == TcpState::SYN_RECV;
            m[2] = if is_request { Timer::ON.0 } else { Timer::TIMEWAIT.0 };
            put(&mut m, 52, u32::try_from(self.timer_ends_at_ms - now_ms).unwrap());
            return m;
        }
        attribute(&mut m, INET_DIAG_INFO, &self.info(self.state, now_ms));
        attribute(&mut m, INET_DIAG_CONG, b"cubic\0");
        if self.is_subflow {
            let mut name = Vec::new();
            attribute(&mut name, INET_ULP_INFO_NAME, b"mptcp\0");
            attribute(&mut m, INET_DIAG_ULP_INFO, &name);
        }
        m
    }

    fn header(&self, family: Family) -> Vec<u8> {
        let mut m = vec![0; 72];
        m[0] = family.number();
        m[4..6].copy_from_slice(&self.local_port.to_be_bytes());
        m[6..8].copy_from_slice(&self.remote_port.to_be_bytes());
        m[8..12].copy_from_slice(&self.local_address.octets());
        m[24..28].copy_from_slice(&self.remote_address.octets());
        m[44..52].copy_from_slice(&self.cookie.to_ne_bytes());
        let words = [(56, self.rqueue), (60, self.wqueue), (64, self.uid), (68, self.inode)];
        for (offset, value) in words {
            put(&mut m, offset, value);
        }
        m
    }

    /// `struct tcp_info` of Linux 6.18.
    fn info(&self, state: TcpState, now_ms: i64) -> Vec<u8> {
        let ago = |at_ms: i64| u32::try_from((now_ms - at_ms).max(0)).unwrap();
        let mut info = vec![0; 280];
        (info[0], info[2], info[5]) = (state.0, self.retransmits, self.options);
        let words = [
            (8, 204_000),
            (44, ago(self.last_data_sent_at_ms)),
            (52, ago(self.last_data_recv_at_ms)),
            (56, ago(self.last_ack_recv_at_ms)),
            (68, self.rtt_us),
            (72, 50),
            (100, self.total_retrans),
            (136, self.segs_out),
            (140, self.segs_in),
            (148, self.min_rtt_us),
            (152, self.data_segs_in),
            (156, self.data_segs_out),
            (192, self.delivered),
            (228, self.snd_wnd),
        ];
        for (offset, value) in words {
            put(&mut info, offset, value);
        }
        let words = [
            (120, self.bytes_acked),
            (128, self.bytes_received),
            (200, self.bytes_sent),
            (208, self.bytes_retrans),
        ];
        for (offset, value) in words {
            info[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        }
        info
    }

    /// What a disconnected socket still has.
    pub fn wiped(&self) -> Self {
        Self {
            local_address: Ipv4Addr::UNSPECIFIED,
            remote_port: 0,
            bytes_sent: 0,
            bytes_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            segs_out: 0,
            segs_in: 0,
            data_segs_out: 0,
            data_segs_in: 0,
            retransmits: 0,
            total_retrans: 0,
            rtt_us: 0,
            ..self.clone()
        }
    }
}

/// The kernel's word that it freed a socket.
#[derive(Clone, Debug)]
pub struct FakeEvent {
    socket: FakeSocket,
    is_wiped: bool,
    /// So long before the recorder took it it was read.
    pub ago_ms: i64,
    /// So long before it was read it was sent.
    pub unread_ms: i64,
    /// So long after it was read it is known what is left of its connection, if that is looked up.
    pub look_up_ns: Option<i64>,
}

impl FakeEvent {
    pub fn socket(&self) -> &FakeSocket {
        &self.socket
    }

    /// The same, read so long before the recorder takes it.
    pub fn ago(&self, ms: i64) -> Self {
        Self { ago_ms: ms, ..self.clone() }
    }

    /// The same, read so long after it was sent.
    pub fn unread_for(&self, ms: i64) -> Self {
        Self { unread_ms: ms, ..self.clone() }
    }

    /// The same, where a look-up of what is left of its connection takes so long, or there is none.
    pub fn looked_up_after(&self, ns: Option<i64>) -> Self {
        Self { look_up_ns: ns, ..self.clone() }
    }

    /// The payload of its `SOCK_DIAG_BY_FAMILY` message, sent at this moment.
    pub fn message(&self, protocol: Protocol, family: Family, now_ms: i64) -> Vec<u8> {
        let is_tcp = protocol == Protocol::Tcp;
        let socket = if self.is_wiped { self.socket.wiped() } else { self.socket.clone() };
        // Neither UDP nor a wiped socket has an honest one.
        let wqueue = if is_tcp && !self.is_wiped { socket.wqueue } else { u32::MAX };
        let state = if is_tcp { TcpState::CLOSE } else { socket.state };
        let mut m = FakeSocket { inode: 0, uid: 0, wqueue, ..socket.clone() }.header(family);
        m[1] = state.0;
        let number = u8::try_from(protocol.number()).unwrap();
        attribute(&mut m, INET_DIAG_PROTOCOL, &[number]);
        if is_tcp {
            attribute(&mut m, INET_DIAG_INFO, &socket.info(state, now_ms));
        }
        m
    }
}

fn put(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap();
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}
