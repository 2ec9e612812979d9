//! What others asked their kernels: files of raw netlink (`ss -D`) and captures of an nlmon
//! interface (pcap, pcapng), to snapshots that are recorded like this kernel's own.
//!
//! Files give packets (`file`), packets dumps and destroy events (`dumps`, with the requests that
//! tell what was asked for), and dumps that belong together a round (`rounds`), which becomes a
//! snapshot. What cannot be read is counted ([`LeftOut`]), and the rest goes on.

mod clock;
mod dumps;
mod error;
mod file;
mod import;
mod raw;
mod requests;
mod rounds;

pub use dumps::Dump;
pub use error::ForeignError;
pub use import::{Contents, Import, LeftOut, Rounds, covers};
pub use rounds::Round;
