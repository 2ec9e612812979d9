//! What the tests of the program share: a directory of one's own with the program run in it,
//! recorders that run beside the test, recordings made up row by row, and what every recording
//! must fulfil ([`assert_recording_is_whole`]).

#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod churn;
mod dir;
mod made_up;
mod whole;

pub(crate) use churn::Churn;
pub(crate) use dir::{Dir, Lines, Ran, Running, limited, limited_to, run, until, without_slowness};
pub(crate) use made_up::{MadeUp, observation};
pub(crate) use whole::{ask, assert_is_one_file, assert_recording_is_whole, read_only, violations};

/// Random numbers that are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Others, which go their own way.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.below(u64::MAX))
    }

    /// A number below `bound` (xorshift64*).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
