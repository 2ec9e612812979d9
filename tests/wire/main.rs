//! Decoding of sock_diag messages: real ones (tests/fixtures/wire/README.md says how each came to
//! be), the same cut short, put in another order or lied about, and arbitrary bytes.

// The fixtures are those of a little-endian machine, and netlink is native-endian.
#![cfg(target_endian = "little")]

mod arbitrary;
mod attributes;
mod frames;
mod layout;
mod messages;
mod oracle;
mod payloads;
mod requests;
mod structures;
mod times;
