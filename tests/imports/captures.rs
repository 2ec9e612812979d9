//! Files as others write them: what netlink sockets exchange, and the formats of captures.

use sockrec::model::{Family, Protocol, States};
use sockrec::wire::request;

pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const MULTI: u16 = 2;
pub const DUMP_INTR: u16 = 0x10;
pub const NETLINK_SOCK_DIAG: u16 = 4;
pub const LINKTYPE_NETLINK: u32 = 253;

/// One netlink message with its padding.
pub fn message(kind: u16, flags: u16, sequence: u32, port: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend([sequence.to_ne_bytes(), port.to_ne_bytes()].concat());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The end of a dump with this status.
pub fn done(sequence: u32, port: u32, status: i32) -> Vec<u8> {
    message(NLMSG_DONE, MULTI, sequence, port, &status.to_ne_bytes())
}

/// What programs and the kernel said to each other, each datagram with its UTC nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Traffic(pub Vec<(i64, Vec<u8>)>);

/// A dump as a program asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    pub family: Family,
    pub protocol: Protocol,
    pub states: States,
    pub sequence: u32,
    pub port: u32,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            family: Family::Inet,
            protocol: Protocol::Tcp,
            states: States::ALL,
            sequence: 123_456,
            port: 4_242,
        }
    }
}

impl Asking {
    pub fn request(&self) -> Vec<u8> {
        request::dump(self.family, self.protocol, self.states, self.sequence)
    }

    /// A message of the answer.
    pub fn answer(&self, payload: &[u8]) -> Vec<u8> {
        message(SOCK_DIAG_BY_FAMILY, MULTI, self.sequence, self.port, payload)
    }

    pub fn done(&self) -> Vec<u8> {
        done(self.sequence, self.port, 0)
    }
}

impl Traffic {
    pub fn say(&mut self, at_ns: i64, datagram: Vec<u8>) -> &mut Self {
        self.0.push((at_ns, datagram));
        self
    }

    /// A dump from its request to its end, each part a microsecond after the one before.
    pub fn dump(&mut self, at_ns: i64, asking: Asking, payloads: &[Vec<u8>]) -> &mut Self {
        self.say(at_ns, asking.request());
        let answers: Vec<u8> = payloads.iter().flat_map(|payload| asking.answer(payload)).collect();
        if !answers.is_empty() {
            self.say(at_ns + 1_000, answers);
        }
        self.say(at_ns + 2_000, asking.done())
    }

    /// A destroy event.
    pub fn event(&mut self, at_ns: i64, payload: &[u8]) -> &mut Self {
        self.say(at_ns, message(SOCK_DIAG_BY_FAMILY, 0, 0, 0, payload))
    }

    /// As tcpdump writes it on this machine.
    pub fn pcap(&self) -> Vec<u8> {
        let mut file = Pcap { is_big: cfg!(target_endian = "big"), ..Pcap::default() }.begin();
        for (at_ns, datagram) in &self.0 {
            file.packet(*at_ns, &cooked(NETLINK_SOCK_DIAG, datagram));
        }
        file.bytes
    }

    /// As dumpcap writes it.
    pub fn pcapng(&self) -> Vec<u8> {
        let mut file = Pcapng::begin(false, 9);
        for (at_ns, datagram) in &self.0 {
            file.packet(*at_ns, &cooked(NETLINK_SOCK_DIAG, datagram));
        }
        file.bytes
    }
}

/// A datagram behind the header that nlmon puts before it.
pub fn cooked(protocol: u16, datagram: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 4, 0x03, 0x38]; // PACKET_OUTGOING, ARPHRD_NETLINK
    packet.extend([0; 10]);
    packet.extend(protocol.to_be_bytes());
    packet.extend(datagram);
    packet
}

/// A pcap file.
pub struct Pcap {
    pub is_big: bool,
    pub is_nano: bool,
    pub link_type: u32,
    pub bytes: Vec<u8>,
}

impl Default for Pcap {
    fn default() -> Self {
        Self { is_big: false, is_nano: true, link_type: LINKTYPE_NETLINK, bytes: Vec::new() }
    }
}

impl Pcap {
    pub fn begin(mut self) -> Self {
        let magic = if self.is_nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let version = if self.is_big { 0x0002_0004 } else { 0x0004_0002 };
        self.words(&[magic, version, 0, 0, 262_144, self.link_type]);
        self
    }

    pub fn packet(&mut self, at_ns: i64, bytes: &[u8]) {
        self.packet_of(at_ns, bytes, bytes.len());
    }

    /// A packet that had so many bytes.
    pub fn packet_of(&mut self, at_ns: i64, bytes: &[u8], original: usize) {
        let fraction = at_ns % 1_000_000_000 / if self.is_nano { 1 } else { 1_000 };
        let words = [at_ns / 1_000_000_000, fraction, len(bytes), original.try_into().unwrap()];
        self.words(&words.map(|word| u32::try_from(word).unwrap()));
        self.bytes.extend(bytes);
    }

    fn words(&mut self, words: &[u32]) {
        let order = if self.is_big { u32::to_be_bytes } else { u32::to_le_bytes };
        self.bytes.extend(words.iter().flat_map(|&word| order(word)));
    }
}

fn len(bytes: &[u8]) -> i64 {
    bytes.len().try_into().unwrap()
}

/// A pcapng file of one section, whose first interface is nlmon.
pub struct Pcapng {
    is_big: bool,
    /// Decimal digits of the unit of its times.
    digits: u8,
    pub bytes: Vec<u8>,
}

impl Pcapng {
    pub fn begin(is_big: bool, digits: u8) -> Self {
        let mut file = Self { is_big, digits, bytes: Vec::new() };
        file.section();
        file
    }

    /// Another section, with an interface of its own.
    pub fn section(&mut self) {
        let version = if self.is_big { 0x0001_0000 } else { 0x0000_0001 };
        self.block(0x0a0d_0d0a, &self.words(&[0x1a2b_3c4d, version, u32::MAX, u32::MAX]));
        self.interface(LINKTYPE_NETLINK);
    }

    pub fn interface(&mut self, link_type: u32) {
        let link_type = if self.is_big { link_type << 16 } else { link_type };
        let option = if self.is_big { 0x0009_0001 } else { 0x0001_0009 };
        let mut body = self.words(&[link_type, 0, option]);
        body.extend([self.digits, 0, 0, 0, 0, 0, 0, 0]);
        self.block(1, &body);
    }

    pub fn packet(&mut self, at_ns: i64, bytes: &[u8]) {
        self.packet_on(0, at_ns, bytes);
    }

    pub fn packet_on(&mut self, interface: u32, at_ns: i64, bytes: &[u8]) {
        let units = at_ns.cast_unsigned() / 10u64.pow(9 - u32::from(self.digits));
        let (high, low) = ((units >> 32) as u32, units as u32);
        let len = u32::try_from(bytes.len()).unwrap();
        let mut body = self.words(&[interface, high, low, len, len]);
        body.extend(bytes);
        self.block(6, &body);
    }

    /// What the capture says of itself at its end: so many packets were lost.
    pub fn lost(&mut self, packets: u32) {
        let option = if self.is_big { 0x0005_0008 } else { 0x0008_0005 };
        let halves = if self.is_big { [0, packets] } else { [packets, 0] };
        let body = self.words(&[0, 0, 0, option, halves[0], halves[1], 0]);
        self.block(5, &body);
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let len = u32::try_from(padded + 12).unwrap();
        self.bytes.extend(self.words(&[kind, len]));
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(self.words(&[len]));
    }

    fn words(&self, words: &[u32]) -> Vec<u8> {
        let order = if self.is_big { u32::to_be_bytes } else { u32::to_le_bytes };
        words.iter().flat_map(|&word| order(word)).collect()
    }
}

/// What an older kernel would have said of a socket: `tcp_info` up to this length, and without the
/// attributes that it did not know.
pub fn of_older_kernel(payload: &[u8], info_len: usize, unknown: &[u16]) -> Vec<u8> {
    const HEADER_LEN: usize = 72;
    const INET_DIAG_INFO: u16 = 2;
    let mut older = payload[..HEADER_LEN].to_vec();
    let mut rest = &payload[HEADER_LEN..];
    while rest.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let kept = if kind == INET_DIAG_INFO { len.min(4 + info_len) } else { len };
        if !unknown.contains(&kind) {
            older.extend(u16::try_from(kept).unwrap().to_ne_bytes());
            older.extend(&rest[2..kept]);
            older.resize(older.len().next_multiple_of(4), 0);
        }
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
    }
    older
}
