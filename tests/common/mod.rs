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
mod not_run;
pub mod sockets;
pub mod ss;
pub mod tcp_info;
pub mod wait;

pub use not_run::{not_here, not_run, note};

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
