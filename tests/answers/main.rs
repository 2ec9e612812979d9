//! What answers say, of recordings whose every fact is known because it was made up.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../simulated/socket.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod socket;
#[path = "../simulated/world.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod world;

mod anonymize;
mod colors;
mod coverage;
mod dense;
mod diff;
mod filters;
mod hosts;
mod incident;
mod markers;
mod owners;
mod rules;
mod sorting;
mod story;
mod threads;
mod typed;
