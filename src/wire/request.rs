//! Requests for dumps and look-ups: `struct inet_diag_req_v2` and its attributes, to bytes and back.

use std::net::IpAddr;

use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::constants::{IPPROTO_RAW, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};

use super::WireError;
use super::attributes::Attributes;
use super::fields::u32_at;
use crate::model::{Family, Protocol, States, Tuple};

/// `INET_DIAG_REQ_BYTECODE`: the kernel's own filter.
const REQ_BYTECODE: u16 = 1;
/// `INET_DIAG_REQ_PROTOCOL`: the protocol as u32, for those that do not fit the fixed part's u8.
const REQ_PROTOCOL: u16 = 3;

/// `InetRequest` with the attributes that it cannot carry itself.
#[derive(Debug)]
struct InetDiagRequest<'a> {
    fixed: InetRequest,
    protocol: Option<u32>,
    bytecode: &'a [u8],
}

impl NetlinkSerializable for InetDiagRequest<'_> {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        let bytecode = if self.bytecode.is_empty() { 0 } else { 4 + self.bytecode.len() };
        self.fixed.buffer_len() + self.protocol.map_or(0, |_| 8) + bytecode
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (fixed, mut attributes) = buffer.split_at_mut(self.fixed.buffer_len());
        self.fixed.emit(fixed);
        if let Some(protocol) = self.protocol {
            attributes = put_attribute(attributes, REQ_PROTOCOL, &protocol.to_ne_bytes());
        }
        if !self.bytecode.is_empty() {
            put_attribute(attributes, REQ_BYTECODE, self.bytecode);
        }
    }
}

/// Writes one attribute, whose value fills whole words; gives the rest of the buffer.
fn put_attribute<'b>(buffer: &'b mut [u8], kind: u16, value: &[u8]) -> &'b mut [u8] {
    let length = 4 + value.len();
    let (attribute, rest) = buffer.split_at_mut(length);
    attribute[..2].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    attribute[2..4].copy_from_slice(&kind.to_ne_bytes());
    attribute[4..].copy_from_slice(value);
    rest
}

/// The bytes of a dump request for one family and protocol, with every extension.
pub fn dump(family: Family, protocol: Protocol, states: States, sequence: u32) -> Vec<u8> {
    filtered_dump(family, protocol, states, &[], sequence)
}

/// The same with the kernel's filter (`INET_DIAG_REQ_BYTECODE`), at most 65,528 bytes of whole words.
pub fn filtered_dump(
    family: Family,
    protocol: Protocol,
    states: States,
    bytecode: &[u8],
    sequence: u32,
) -> Vec<u8> {
    let number = protocol.number();
    let fits = u8::try_from(number);
    let request = InetDiagRequest {
        fixed: InetRequest {
            family: family.number(),
            protocol: fits.unwrap_or(IPPROTO_RAW),
            extensions: ExtensionFlags::all(),
            states: StateFlags::from_bits_retain(states.0),
            socket_id: match family {
                Family::Inet => SocketId::new_v4(),
                Family::Inet6 => SocketId::new_v6(),
            },
        },
        protocol: fits.is_err().then_some(u32::from(number)),
        bytecode,
    };
    serialized(request, NLM_F_REQUEST | NLM_F_DUMP, sequence)
}

/// The bytes of a request for one TCP connection, of whatever cookie, with every extension. The kernel
/// looks at neither states nor a filter then.
pub fn look_up(family: Family, tuple: &Tuple, sequence: u32) -> Vec<u8> {
    look_up_with(ExtensionFlags::all(), family, tuple, sequence)
}

/// The same without extensions: whether it is there, and in which state.
pub fn look_up_state(family: Family, tuple: &Tuple, sequence: u32) -> Vec<u8> {
    look_up_with(ExtensionFlags::empty(), family, tuple, sequence)
}

fn look_up_with(
    extensions: ExtensionFlags,
    family: Family,
    tuple: &Tuple,
    sequence: u32,
) -> Vec<u8> {
    let of_family = |address: IpAddr| match (family, address) {
        (Family::Inet6, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        (_, address) => address,
    };
    let request = InetDiagRequest {
        fixed: InetRequest {
            family: family.number(),
            protocol: IPPROTO_TCP,
            extensions,
            states: StateFlags::from_bits_retain(States::ALL.0),
            socket_id: SocketId {
                source_port: tuple.local.port,
                destination_port: tuple.remote.port,
                source_address: of_family(tuple.local.address),
                destination_address: of_family(tuple.remote.address),
                interface_id: tuple.interface,
                cookie: [0xff; 8], // INET_DIAG_NOCOOKIE
            },
        },
        protocol: None,
        bytecode: &[],
    };
    serialized(request, NLM_F_REQUEST, sequence)
}

fn serialized(request: InetDiagRequest<'_>, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// `TCPDIAG_GETSOCK`: the request of old, whose dump shows TCP over IPv4 and IPv6.
pub const TCPDIAG_GETSOCK: u16 = 18;

/// `struct inet_diag_req_v2`, and `struct inet_diag_req` of old.
const FIXED_LEN: usize = 56;
const OLD_FIXED_LEN: usize = 60;

/// What a request that others made asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `AF_INET` and so on as the kernel numbers them; `None` for both of the internet's.
    pub family: Option<u8>,
    /// The number of the protocol.
    pub protocol: u32,
    /// The states; none for a family that is not of the internet, which asks in another way.
    pub states: States,
    /// What narrows it down further, as text that is the same for the same bytes; empty for nothing.
    pub filter: String,
}

/// Reads the payload of a request of this message type.
///
/// # Errors
/// When it is shorter than its fixed part.
pub fn parse(kind: u16, payload: &[u8]) -> Result<Request, WireError> {
    let is_old = kind == TCPDIAG_GETSOCK;
    if let (false, [family, protocol, ..]) = (is_old, payload)
        && Family::from_number(*family).is_none()
    {
        let (family, protocol) = (Some(*family), u32::from(*protocol));
        return Ok(Request { family, protocol, states: States::NONE, filter: String::new() });
    }
    let (needed, ports, states) = if is_old { (OLD_FIXED_LEN, 4, 52) } else { (FIXED_LEN, 8, 4) };
    let Some((fixed, attributes)) = payload.split_at_checked(needed) else {
        return Err(WireError::TooShort { needed, got: payload.len() });
    };
    let mut request = Request {
        family: (!is_old).then_some(fixed[0]),
        protocol: if is_old { u32::from(Protocol::Tcp.number()) } else { u32::from(fixed[1]) },
        states: States(u32_at(fixed, states).unwrap_or_default()),
        filter: String::new(),
    };
    for (name, offset) in [("sport", ports), ("dport", ports + 2)] {
        let port = u16::from_be_bytes([fixed[offset], fixed[offset + 1]]);
        if port != 0 {
            request.narrow(&format!("{name} = :{port}"));
        }
    }
    for (kind, value, _) in Attributes::new(attributes) {
        match kind {
            REQ_PROTOCOL => request.protocol = u32_at(value, 0).unwrap_or(request.protocol),
            REQ_BYTECODE if !value.is_empty() => {
                let code: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                request.narrow(&format!("bytecode {code}"));
            }
            _ => {}
        }
    }
    Ok(request)
}

impl Request {
    fn narrow(&mut self, condition: &str) {
        if !self.filter.is_empty() {
            self.filter.push_str(" and ");
        }
        self.filter.push_str(condition);
    }
}
