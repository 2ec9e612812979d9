//! What is remembered of a process, and when it is to be read again.

use super::processes::Kept;
use crate::kernel::{Glimpse, Unreadable};
use crate::model::{Nanos, Process, ProcessKey, SnapshotId};

const SECOND_NS: Nanos = 1_000_000_000;
/// A process that looks the same is taken as it was, for so long if it holds recorded sockets: it
/// may have closed a descriptor and opened another. What it says of itself is then read anew.
pub(super) const TRUSTED_NS: Nanos = 60 * SECOND_NS;
/// How long a process that looks the same is left alone after it was read in vain …
const REST_MIN_NS: Nanos = SECOND_NS;
/// … doubling up to this, which is also how long one that holds no recorded socket is taken as it
/// was.
const REST_MAX_NS: Nanos = 256 * SECOND_NS;
/// A process with more descriptors, read in vain, is left alone although their number changes …
const MANY_DESCRIPTORS: u64 = 1_000;
/// … up to this long.
const REST_OF_MANY_MAX_NS: Nanos = 8 * SECOND_NS;

/// A process and what was last read of it.
pub(super) struct Known {
    /// As of just before it was last read.
    pub(super) glimpse: Glimpse,
    /// Whether it was read, or reading it was refused.
    pub(super) is_read: bool,
    /// `None` until it could be read.
    pub(super) key: Option<ProcessKey>,
    /// The pid of its parent, once it could be read.
    pub(super) parent: Option<u32>,
    /// By which it is looked at each tick while it holds recorded sockets.
    pub(super) kept: Option<Box<dyn Kept>>,
    /// Once it holds a recorded socket.
    pub(super) process: Option<Box<Process>>,
    /// When its facts were read.
    pub(super) facts_at_ns: Nanos,
    /// Inodes of all its sockets, sorted: one that was not recorded yet may be tomorrow.
    pub(super) sockets: Vec<u32>,
    pub(super) read_at_ns: Nanos,
    /// How often in a row it was read in vain.
    pub(super) fruitless: u32,
    /// The last snapshot before it was last seen to hold what it holds.
    pub(super) confirmed: SnapshotId,
    /// The round that saw it last.
    pub(super) seen_in: u64,
    /// The round that read it last.
    pub(super) read_in: u64,
    /// Whether what was read of it still holds, as far as the last look can tell.
    pub(super) is_unchanged: bool,
    pub(super) is_denied: bool,
    /// Whether a socket ended that it would still hold.
    pub(super) is_suspect: bool,
}

impl Known {
    pub(super) fn new(glimpse: Glimpse) -> Self {
        Self {
            glimpse,
            is_read: false,
            key: None,
            parent: None,
            kept: None,
            process: None,
            facts_at_ns: 0,
            sockets: Vec::new(),
            read_at_ns: 0,
            fruitless: 0,
            confirmed: SnapshotId(0),
            seen_in: 0,
            read_in: 0,
            is_unchanged: false,
            is_denied: false,
            is_suspect: false,
        }
    }

    /// Takes what a look at it shows after this snapshot.
    pub(super) fn look(&mut self, glimpse: Result<Glimpse, Unreadable>, snapshot: SnapshotId) {
        self.is_unchanged = self.is_read && !self.is_suspect && glimpse == Ok(self.glimpse);
        if self.is_unchanged && self.glimpse.descriptors.is_some() && !self.is_denied {
            self.confirmed = snapshot;
        }
    }

    /// Whether reading it once more costs little, or was not done for a while.
    pub(super) fn is_cheap_to_read(&self, now_ns: Nanos) -> bool {
        let has_many = self.glimpse.descriptors.is_none_or(|n| n > MANY_DESCRIPTORS);
        !has_many || now_ns - self.read_at_ns >= REST_OF_MANY_MAX_NS
    }

    /// `has_unowned`: whether a socket is without an owner.
    pub(super) fn reason_to_read(&self, now_ns: Nanos, has_unowned: bool) -> Option<Reason> {
        let is_holder = self.process.is_some();
        let rested_ns = now_ns - self.read_at_ns;
        if !self.is_read {
            return Some(Reason::New);
        }
        if !self.is_unchanged {
            let has_many = self.glimpse.descriptors.is_some_and(|n| n > MANY_DESCRIPTORS);
            let is_due = !has_many || rested_ns >= self.rest_ns(REST_OF_MANY_MAX_NS);
            let reason = if is_holder { Reason::HolderChanged } else { Reason::Changed };
            return is_due.then_some(reason);
        }
        if is_holder && rested_ns >= TRUSTED_NS {
            return Some(Reason::HolderTrusted);
        }
        if rested_ns >= REST_MAX_NS {
            return Some(Reason::Trusted);
        }
        let is_due = has_unowned && rested_ns >= self.rest_ns(REST_MAX_NS);
        is_due.then_some(if is_holder { Reason::HolderRested } else { Reason::Rested })
    }

    /// How long it is left alone after it was read in vain.
    pub(super) fn rest_ns(&self, max_ns: Nanos) -> Nanos {
        let Some(doublings) = self.fruitless.checked_sub(1) else { return 0 };
        REST_MIN_NS.checked_shl(doublings.min(32)).unwrap_or(max_ns).min(max_ns)
    }
}

/// Why a process is to be read; those that promise most come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    HolderChanged,
    Changed,
    New,
    /// Parent or child of a process that was found to hold a socket.
    Kin,
    /// It holds another socket together with such a process.
    Sharer,
    /// It holds sockets and was taken as it was for long enough.
    HolderTrusted,
    /// It holds none and was taken as it was for longer still.
    Trusted,
    /// A socket is without an owner.
    HolderRested,
    Rested,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) reason: Reason,
    /// The one that was read longest ago comes first.
    pub(super) read_at_ns: Nanos,
    pub(super) pid: u32,
}
