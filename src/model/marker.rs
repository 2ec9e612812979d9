//! Moments and spans that the user names.

use super::Nanos;

/// What is to be marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the user calls it.
    pub name: String,
    /// Of what it is the mark.
    pub part: MarkPart,
    /// When, in UTC.
    pub utc_ns: Nanos,
    /// When, in the boot time of a machine; `None` where only UTC is known.
    pub boot: Option<BootMoment>,
}

/// What a mark begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkPart {
    /// Nothing: it is a moment.
    Moment,
    /// A span begins.
    Start,
    /// The last span of this name that has not ended ends.
    End,
}

/// A moment of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootMoment {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_uuid: String,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: Nanos,
}

/// What became of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is in the recording.
    Written {
        /// A span of the same name began then and was never ended.
        left_open_ns: Option<Nanos>,
    },
    /// Nothing was written: no span of this name is there to be ended.
    NoOpenSpan,
    /// Nothing was written: the span began only after its end.
    EndsBeforeStart {
        /// When it began, in UTC.
        started_at_ns: Nanos,
    },
}
