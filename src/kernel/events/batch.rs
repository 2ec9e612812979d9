//! Destroy events as they are handed over, each with when it came.

use std::ops::Range;

use crate::model::{Clocks, LookUp, Nanos, Place};

/// So much is kept until the next tick; what comes beyond it is counted as lost.
pub(super) const KEPT_BYTES: usize = 48 * 1024 * 1024;

/// When an event came.
#[derive(Clone, Debug)]
pub struct EventStamp {
    payload: Range<usize>,
    /// Of which namespace it is.
    pub place: Place,
    /// When it was read.
    pub received: Clocks,
    /// It was not sent before this moment of `CLOCK_BOOTTIME`.
    pub sent_after_ns: Nanos,
    /// What a look-up found of its connection after it was read, if there was one.
    pub look_up: Option<LookUp>,
}

/// A span in which events were lost, see [`crate::model::EventLoss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSpan {
    /// None was lost before.
    pub from: Clocks,
    /// None of this span was lost after.
    pub to: Clocks,
    /// How many, where that is known.
    pub count: Option<u64>,
}

/// Events in the order in which they came.
#[derive(Debug, Default)]
pub struct EventBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) stamps: Vec<EventStamp>,
    /// Spans in which some are missing.
    pub losses: Vec<LostSpan>,
    /// What was sent before this moment of `CLOCK_MONOTONIC` has been read. `None` if nothing tells.
    pub read_until_ns: Option<Nanos>,
}

impl EventBatch {
    /// Adds an event of the first namespace by the payload of its message.
    pub fn push(&mut self, payload: &[u8], received: Clocks, sent_after_ns: Nanos) {
        self.push_of(Place::FIRST, payload, received, sent_after_ns);
    }

    /// Adds an event by the payload of its message.
    pub fn push_of(
        &mut self,
        place: Place,
        payload: &[u8],
        received: Clocks,
        sent_after_ns: Nanos,
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let payload = start..self.bytes.len();
        self.stamps.push(EventStamp { payload, place, received, sent_after_ns, look_up: None });
    }

    /// Adds what a look-up found of the connection of the event that was added last.
    pub fn look_up_last(&mut self, found: LookUp) {
        if let Some(stamp) = self.stamps.last_mut() {
            stamp.look_up = Some(found);
        }
    }

    /// Hands out each event with its payload, which may be written into.
    pub fn each(&mut self, mut each: impl FnMut(&mut [u8], &EventStamp)) {
        for stamp in &self.stamps {
            each(&mut self.bytes[stamp.payload.clone()], stamp);
        }
    }

    /// Empty again, with the memory kept unless it was much.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES / 16);
        self.stamps.clear();
        self.stamps.shrink_to(KEPT_BYTES / 16 / 256);
        self.losses.clear();
        self.read_until_ns = None;
    }
}
