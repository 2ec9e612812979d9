//! Waiting for what the kernel does in its own time.

use std::thread;
use std::time::{Duration, Instant};

/// So long anything may take; far beyond what it takes on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(50);

/// Between two looks. Only keeps the processor free for those who are waited for: the outcome
/// does not depend on it.
const PAUSE: Duration = Duration::from_millis(1);

/// Looks until there is something to see; until then each look says why not.
///
/// # Panics
/// When there is nothing after [`DEADLINE`].
#[track_caller]
pub fn until_ok<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(why) if began.elapsed() >= DEADLINE => {
                panic!("waited {DEADLINE:?} in vain: {what}: {why}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks until there is something to see.
///
/// # Panics
/// When there is nothing after [`DEADLINE`].
#[track_caller]
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_ok(what, || look().ok_or_else(|| "never".to_owned()))
}

/// Looks until it is so.
///
/// # Panics
/// When it is not after [`DEADLINE`].
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_some(what, || is_so().then_some(()));
}
