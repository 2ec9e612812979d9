//! Who holds which socket: the search over a made-up `/proc` and over the real one, and what a
//! recording keeps of it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;

mod changes;
mod cost;
mod holders;
mod kernel;
mod made_up;
mod stored;
mod truth;

/// No process.
const NOBODY: [u32; 0] = [];
