//! What the service manager is told (sd_notify(3)); where there is none, nothing is.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::record::Pulse;

/// A status that changes with every snapshot is of use to nobody.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Default)]
pub(super) struct Manager {
    told_at: Option<Instant>,
}

impl Manager {
    /// Tells how it goes; the first time also that recording has begun.
    pub(super) fn tell(&mut self, status: impl FnOnce() -> String) {
        if self.told_at.is_some_and(|at| at.elapsed() < STATUS_EVERY) {
            return;
        }
        let status = status();
        let status = NotifyState::Status(&status);
        match self.told_at.replace(Instant::now()) {
            None => notify(&[NotifyState::Ready, status]),
            Some(_) => notify(&[status]),
        }
    }
}

/// What goes on that is no recording.
pub(super) fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Recording is about to end.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Does what a reload asks for, and tells when it begins and is done.
pub(super) fn reloading(reload: impl FnOnce()) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    reload();
    notify(&[NotifyState::Ready]);
}

/// Tells the manager's watchdog, if it has one, that the recorder lives: as long as its loop does.
///
/// # Errors
/// When there is no thread to be had for it: the manager would end a recorder that it does not hear.
pub(super) fn watch(pulse: Pulse) -> io::Result<()> {
    // None, as sd_watchdog_enabled(3) has it: to feed it all the time would fill the manager's queue.
    let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
    let Some(patience) = patience else { return Ok(()) };
    // It goes with the process.
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        loop {
            if pulse.is_felt(patience) {
                notify(&[NotifyState::Watchdog]);
            }
            thread::sleep(patience / 3);
        }
    })?;
    Ok(())
}

/// A manager that cannot be reached keeps nobody from recording.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
