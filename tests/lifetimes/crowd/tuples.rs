//! The few 4-tuples of a crowd, each used by one connection at a time.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::Random;

/// From where a client dials whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuple {
    pub(crate) client: SocketAddr,
    /// Which of the doors.
    pub(crate) door: usize,
}

/// Those that no living connection uses.
pub(crate) struct Tuples {
    free: Mutex<Vec<(Tuple, Instant)>>,
    /// Each has at least so much rest from one connection to the next.
    rest: Duration,
}

impl Tuples {
    pub(crate) fn new(tuples: impl Iterator<Item = Tuple>, rest: Duration) -> Self {
        let now = Instant::now();
        let free = Mutex::new(tuples.map(|tuple| (tuple, now)).collect());
        Self { free, rest }
    }

    /// One that may be used again, mostly that which was used last.
    pub(crate) fn take(&self, random: &mut Random) -> Option<Tuple> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let ready: Vec<usize> =
            (0..free.len()).rev().filter(|&place| free[place].1 <= now).collect();
        let choice = if random.below(3) > 0 { 0 } else { random.below(ready.len().max(1) as u64) };
        let place = *ready.get(choice as usize)?;
        Some(free.remove(place).0)
    }

    /// It may be used again after so long.
    pub(crate) fn give_back(&self, tuple: Tuple, after: Duration) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push((tuple, Instant::now() + after.max(self.rest)));
    }
}
