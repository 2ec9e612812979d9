//! Signals that end a command.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::iterator::{Handle, Signals};

use crate::kernel::is_ignored;
use crate::store::StoreError;

/// timeout(1), shells and service managers signal a process and then its group: that is one wish.
const SAME_WISH: Duration = Duration::from_millis(500);

const CONTEXT: &str = "could not take over signals";

/// What is to be done about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It was a wish to end: another one ends the process.
    End,
    /// Nothing is to end.
    GoOn,
}

/// From here on a file that reaches its limit of size (`RLIMIT_FSIZE`) is a write that fails, which is
/// told, and not the end of the process. What this process executes has its own way.
pub(super) fn outlive_file_size_limit() {
    if !is_ignored(SIGXFSZ) {
        // Without it the kernel's way remains.
        let _ = register(SIGXFSZ, Arc::default());
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP raise from here on. Taken before there is a file that is not whole,
/// it lets that go with Ctrl-C.
pub(super) fn stop_at_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::default();
    for signal in taken() {
        register(signal, Arc::clone(&stop)).context(CONTEXT)?;
    }
    Ok(stop)
}

/// What it came to, or that it was stopped.
pub(super) fn unless_stopped<T>(
    result: anyhow::Result<T>,
    stop: &AtomicBool,
    path: &Path,
) -> anyhow::Result<T> {
    match result {
        Err(_) if stop.load(Ordering::Relaxed) => {
            Err(StoreError::Stopped { path: path.to_owned() }.into())
        }
        result => result,
    }
}

fn taken() -> impl Iterator<Item = i32> + Clone {
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal))
}

/// Hears of each signal that comes from here on, in a thread of its own. Once one was a wish to end,
/// SIGINT and SIGTERM that come later than a moment after it end the process where it stands. A signal
/// that was to be ignored stays ignored.
pub(super) fn on_signals(
    mut hear: impl FnMut(i32) -> Wish + Send + 'static,
) -> anyhow::Result<Handle> {
    let is_ending = Arc::new(AtomicBool::new(false));
    for signal in taken().filter(|&signal| signal != SIGHUP) {
        register_conditional_shutdown(signal, 130, Arc::clone(&is_ending)).context(CONTEXT)?;
    }
    let mut signals = Signals::new(taken()).context(CONTEXT)?;
    let handle = signals.handle();
    let listener = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if hear(signal) == Wish::End && !is_ending.load(Ordering::Relaxed) {
                thread::sleep(SAME_WISH);
                is_ending.store(true, Ordering::Relaxed);
            }
        }
    });
    listener.context(CONTEXT)?;
    Ok(handle)
}
