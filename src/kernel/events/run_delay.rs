//! How late a thread runs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::model::Nanos;

/// How long this thread was ready to run and did not (`/proc/PID/schedstat`, second field).
pub(super) struct RunDelay {
    file: Option<File>,
    last_ns: Nanos,
}

impl RunDelay {
    pub(super) fn of_this_thread() -> Self {
        let mut delay = Self { file: File::open("/proc/thread-self/schedstat").ok(), last_ns: 0 };
        delay.since_last();
        delay
    }

    /// `None` where the kernel does not count it (`CONFIG_SCHED_INFO`).
    pub(super) fn since_last(&mut self) -> Option<Nanos> {
        let mut text = [0; 96];
        let len = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        let total_ns: Nanos = text.split_whitespace().nth(1)?.parse().ok()?;
        let delay_ns = total_ns - self.last_ns;
        self.last_ns = total_ns;
        Some(delay_ns)
    }
}
