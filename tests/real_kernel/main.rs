//! Dumps of the running kernel, decoded, against what the sockets say of themselves through their
//! descriptors: getsockname(), getsockopt(), ioctl(), fstat(), /proc/net/tcp.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod dumps;
mod options;
mod states;
