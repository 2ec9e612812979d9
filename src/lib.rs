//! A flight recorder for Linux sockets.
//!
//! The layers, lowest first; each imports only from those below it (docs/ARCHITECTURE.md):
//! [`model`], [`wire`] and [`filter`], [`kernel`], [`store`] and [`foreign`], [`record`] and [`query`],
//! [`render`], [`cli`].

#![warn(unreachable_pub)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the recorder must not die of what it reads: errors go up as values"
)]
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "only `cli` writes to the terminal, through io::Write, so that a closed pipe is a value"
)]

#[cfg(not(target_os = "linux"))]
compile_error!("sockrec asks the Linux kernel (sock_diag): it can be built and run on Linux only");

pub mod cli;
pub mod filter;
pub mod foreign;
pub mod kernel;
pub mod model;
pub mod query;
pub mod record;
pub mod render;
pub mod store;
pub mod wire;
