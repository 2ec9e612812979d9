//! What the integration tests share.
//!
//! [`sockets`] makes real sockets in known states, [`facts`] is what a socket says of itself,
//! [`dump`] what sockrec's dump says of it, [`ss`] what `ss` says. [`tcp_info`] knows the offsets
//! of `struct tcp_info` independently of the decoder. Nothing here sleeps in hope: see [`wait`].

#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary compiles all of it and uses a part"
)]

pub mod dump;
pub mod facts;
pub mod sockets;
pub mod ss;
pub mod tcp_info;
pub mod wait;

use std::io::Write;

/// Says that a test, or a part of it, could not run here. Goes past the test harness's capture,
/// so that a test that did not run never looks like one that passed. Where `CI` is set it is one that
/// failed.
pub fn not_run(what: &str, why: &str) {
    not_here(what, why);
    assert!(std::env::var_os("CI").is_none(), "everything must run where CI is set: {what}");
}

/// The same of what this kernel does not have.
pub fn not_here(what: &str, why: &str) {
    let text = format!("\n!!! NOT RUN: {what}\n!!! because {why}\n");
    std::io::stderr().lock().write_all(text.as_bytes()).expect("stderr can be written");
}

/// Says something of the host that a reader of the test's outcome should know.
pub fn note(text: &str) {
    let text = format!("\n--- note: {text}\n");
    std::io::stderr().lock().write_all(text.as_bytes()).expect("stderr can be written");
}

/// Everything in which two accounts of the same socket differ.
///
/// Fails when it is dropped with differences in it, naming all of them: one look shows whether a
/// single field is wrong or everything behind some offset.
pub struct Differences {
    of: String,
    found: Vec<String>,
}

impl Differences {
    /// An account of `of`, with none yet.
    pub fn of(of: impl Into<String>) -> Self {
        Self { of: of.into(), found: Vec::new() }
    }

    /// The field must be the same on both sides.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, field: &str, seen: T, told: T) {
        if seen != told {
            self.found.push(format!("{field}: sockrec {seen:?}, expected {told:?}"));
        }
    }

    /// The field must be within the tolerance.
    pub fn near(&mut self, field: &str, seen: f64, told: f64, tolerance: f64) {
        if (seen - told).abs() > tolerance {
            self.found.push(format!("{field}: sockrec {seen}, expected {told} ± {tolerance}"));
        }
    }

    /// The statement must hold.
    pub fn holds(&mut self, statement: &str, holds: bool) {
        if !holds {
            self.found.push(format!("does not hold: {statement}"));
        }
    }
}

impl Drop for Differences {
    fn drop(&mut self) {
        if !self.found.is_empty() && !std::thread::panicking() {
            panic!("{}:\n    {}", self.of, self.found.join("\n    "));
        }
    }
}
