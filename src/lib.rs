//! A flight recorder for Linux sockets.
//!
//! The layers, lowest first; each imports only from those below it (docs/ARCHITECTURE.md):
//! [`model`], [`wire`], [`kernel`], [`store`], [`record`] and [`query`], [`render`], [`cli`].

pub mod cli;
pub mod kernel;
pub mod model;
pub mod query;
pub mod record;
pub mod render;
pub mod store;
pub mod wire;
