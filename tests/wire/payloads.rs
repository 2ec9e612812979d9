//! The captured messages, and messages put together from them.

use std::fs;
use std::path::Path;

use netlink_packet_core::NlasIterator;

use sockrec::model::{ActivityTimes, Observation, Protocol};
use sockrec::wire::inet_diag::{Message, take_relative_times};

// include/uapi/linux/inet_diag.h
pub(crate) const MEMINFO: u16 = 1;
pub(crate) const INFO: u16 = 2;
pub(crate) const VEGASINFO: u16 = 3;
pub(crate) const CONG: u16 = 4;
pub(crate) const TOS: u16 = 5;
pub(crate) const TCLASS: u16 = 6;
pub(crate) const SKMEMINFO: u16 = 7;
pub(crate) const SHUTDOWN: u16 = 8;
pub(crate) const DCTCPINFO: u16 = 9;
pub(crate) const PROTOCOL: u16 = 10;
pub(crate) const SKV6ONLY: u16 = 11;
pub(crate) const PAD: u16 = 14;
pub(crate) const MARK: u16 = 15;
pub(crate) const BBRINFO: u16 = 16;
pub(crate) const CLASS_ID: u16 = 17;
pub(crate) const MD5SIG: u16 = 18;
pub(crate) const ULP_INFO: u16 = 19;
pub(crate) const CGROUP_ID: u16 = 21;
pub(crate) const SOCKOPT: u16 = 22;
/// A number that no kernel has given out yet.
pub(crate) const FUTURE: u16 = 200;

pub(crate) const HEADER_LEN: usize = 72;

pub(crate) const MESSAGES: [(&str, Protocol); 28] = [
    ("tcp4-established", Protocol::Tcp),
    ("tcp4-established-later", Protocol::Tcp),
    ("tcp4-not-accepted", Protocol::Tcp),
    ("tcp4-reno", Protocol::Tcp),
    ("tcp4-cubic", Protocol::Tcp),
    ("tcp4-window-full", Protocol::Tcp),
    ("tcp4-listen", Protocol::Tcp),
    ("tcp4-listen-later", Protocol::Tcp),
    ("tcp4-md5-listen", Protocol::Tcp),
    ("tcp4-syn-sent", Protocol::Tcp),
    ("tcp4-syn-recv", Protocol::Tcp),
    ("tcp4-fin-wait1-orphan", Protocol::Tcp),
    ("tcp4-fin-wait2", Protocol::Tcp),
    ("tcp4-fin-wait2-orphan", Protocol::Tcp),
    ("tcp4-fin-wait2-mini", Protocol::Tcp),
    ("tcp4-close-wait", Protocol::Tcp),
    ("tcp4-time-wait", Protocol::Tcp),
    ("tcp4-bound", Protocol::Tcp),
    ("tcp6-established", Protocol::Tcp),
    ("tcp6-mapped-established", Protocol::Tcp),
    ("tcp6-listen-dual-stack", Protocol::Tcp),
    ("tcp6-listen-v6only", Protocol::Tcp),
    ("tcp4-mptcp-subflow", Protocol::Tcp),
    ("mptcp4-established", Protocol::Mptcp),
    ("mptcp4-listen", Protocol::Mptcp),
    ("udp4-bound", Protocol::Udp),
    ("udp4-connected", Protocol::Udp),
    ("udp6-connected", Protocol::Udp),
];

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let path = folder.join(name).with_extension("bin");
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn observe(payload: &[u8], protocol: Protocol) -> Observation<'_> {
    Message::parse(payload).expect("a whole header of a known family").observe(protocol)
}

pub(crate) fn observe_tcp(payload: &[u8]) -> Observation<'_> {
    observe(payload, Protocol::Tcp)
}

pub(crate) fn times_of(mut payload: Vec<u8>, protocol: Protocol, read_at_ms: i64) -> ActivityTimes {
    take_relative_times(&mut payload, protocol).absolute(read_at_ms)
}

/// One attribute with its header and padding.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Type and value of every attribute, read by netlink-packet-core.
pub(crate) fn attributes(payload: &[u8]) -> Vec<(u16, Vec<u8>)> {
    NlasIterator::new(&payload[HEADER_LEN..])
        .map(|nla| nla.expect("attributes whose lengths do not lie"))
        .map(|nla| (nla.kind(), nla.value().to_vec()))
        .collect()
}

pub(crate) fn value_of(payload: &[u8], kind: u16) -> Vec<u8> {
    attributes(payload).into_iter().find(|(k, _)| *k == kind).expect("the attribute is there").1
}

/// The header of `payload` with other attributes.
pub(crate) fn with_attributes(payload: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut message = payload[..HEADER_LEN].to_vec();
    for (kind, value) in attributes {
        message.extend(attribute(*kind, value));
    }
    message
}

/// The header of `payload` with just one attribute.
pub(crate) fn with_one(payload: &[u8], kind: u16, value: &[u8]) -> Vec<u8> {
    with_attributes(payload, &[(kind, value.to_vec())])
}

/// `payload` with one of its attributes changed.
pub(crate) fn changed(payload: &[u8], kind: u16, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut attributes = attributes(payload);
    let of_kind = attributes.iter_mut().find(|(k, _)| *k == kind);
    change(&mut of_kind.expect("the attribute is there").1);
    with_attributes(payload, &attributes)
}

pub(crate) fn set_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
}

pub(crate) fn set_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
}
