//! The three clocks that a recording keeps.

/// Nanoseconds on some clock; which one stands in the name of the field.
pub type Nanos = i64;

/// One moment on three clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_REALTIME`: UTC since 1970; may jump either way.
    pub utc_ns: Nanos,
    /// `CLOCK_MONOTONIC`: does not jump, stands still in suspend. The kernel's `last_*` and timers
    /// are relative to it.
    pub monotonic_ns: Nanos,
    /// `CLOCK_BOOTTIME`: does not jump, goes on in suspend. Durations come from it.
    pub boottime_ns: Nanos,
}

/// When the kernel made a message, on `CLOCK_MONOTONIC` in milliseconds: the resolution of its `last_*`,
/// which are relative to it. Where the recorder hardly runs the two may lie far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeAt {
    /// Not before this.
    pub after_ms: i64,
    /// By this.
    pub by_ms: i64,
}

impl MadeAt {
    /// Just then.
    pub fn just(ms: i64) -> Self {
        Self { after_ms: ms, by_ms: ms }
    }
}

impl Clocks {
    /// `CLOCK_MONOTONIC` in whole milliseconds, the resolution of the kernel's `last_*`.
    pub fn monotonic_ms(&self) -> i64 {
        self.monotonic_ns / 1_000_000
    }
}
