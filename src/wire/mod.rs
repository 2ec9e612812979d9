//! Bytes of the kernel's netlink protocol to types of [`crate::model`], and requests to bytes.
//!
//! Pure: no system calls, no allocation for a usual message, no panic on any input. One file a
//! kernel header. Requests, numbers and the framing come from the netlink-packet crates; replies
//! are decoded here, because those crates refuse a `tcp_info` of older kernels and drop the tail
//! of a newer one (docs/ARCHITECTURE.md).

mod attributes;
mod fields;
pub mod inet_diag;
mod mptcp;
pub mod netlink;
pub mod pcap;
pub mod pcapng;
pub mod request;
mod sock_diag;
mod tcp;

/// Bytes that are no message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the fixed header.
    #[error("message of {got} bytes is shorter than its header of {needed}")]
    TooShort {
        /// Length of the header.
        needed: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// Neither `AF_INET` nor `AF_INET6`.
    #[error("unknown address family {0}")]
    UnknownFamily(u8),
    /// A length field that does not fit what came.
    #[error("length field of {claimed} in {available} bytes")]
    BadLength {
        /// What the field says.
        claimed: usize,
        /// What is there.
        available: usize,
    },
}
