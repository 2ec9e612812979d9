//! A scope, and how its dumps went.

use std::collections::VecDeque;

use super::order::Order;
use crate::model::{Nanos, Scope, ScopeId, SnapshotId, TcpState};
use crate::record::chosen::{Chosen, proves_absence};

/// What was reset and is held is told of late, and had begun after one of so many full views before.
const FULL_VIEWS_KEPT: usize = 256;

/// A dump that would have shown every socket of its scope's family and protocol, and of which every
/// socket is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::record) struct FullView {
    pub(in crate::record) snapshot: SnapshotId,
    /// When the snapshot ended on `CLOCK_MONOTONIC`.
    pub(in crate::record) ended_ns: Nanos,
}

/// A scope and how its dumps went.
pub(super) struct TrackedScope {
    pub(super) id: ScopeId,
    /// Index of its namespace.
    pub(super) of: usize,
    pub(super) scope: Scope,
    /// Whether a connection that a complete dump lacks is not there, or over.
    pub(super) proves_absence: bool,
    pub(super) is_supported: bool,
    /// The last ones, the latest last.
    pub(super) full_views: VecDeque<FullView>,
    /// Complete dumps in this capture.
    pub(super) complete_dumps: u64,
    pub(super) is_complete: bool,
    pub(super) live: u64,
    pub(super) seen: u64,
    pub(super) unreadable: u64,
    pub(super) not_stored: u64,
    pub(super) events_not_stored: u64,
    /// In which its dumps show the sockets.
    pub(super) order: Order,
}

impl TrackedScope {
    pub(super) fn new(
        id: ScopeId,
        scope: Scope,
        of: usize,
        chosen: Option<&Chosen>,
        last_full_view: Option<FullView>,
    ) -> Self {
        Self {
            id,
            of,
            proves_absence: proves_absence(&scope, chosen),
            scope,
            is_supported: true,
            full_views: last_full_view.into_iter().collect(),
            complete_dumps: 0,
            is_complete: false,
            live: 0,
            seen: 0,
            unreadable: 0,
            not_stored: 0,
            events_not_stored: 0,
            order: Order::default(),
        }
    }

    /// It is not asked any more.
    pub(super) fn leave(&mut self) {
        (self.is_supported, self.is_complete) = (false, false);
        (self.live, self.seen) = (0, 0);
        self.full_views = VecDeque::new();
        self.order = Order::default();
    }

    /// Whether a complete dump of it shows what is left of a connection whose socket went before.
    pub(super) fn shows_half_closed(&self) -> bool {
        let states = self.scope.states;
        let is_asked = |state| states.contains(state);
        self.proves_absence && is_asked(TcpState::FIN_WAIT2) && is_asked(TcpState::TIME_WAIT)
    }

    pub(super) fn add_full_view(&mut self, view: FullView) {
        if self.full_views.len() == FULL_VIEWS_KEPT {
            self.full_views.pop_front();
        }
        self.full_views.push_back(view);
    }

    pub(super) fn last_full_view(&self) -> Option<SnapshotId> {
        self.full_views.back().map(|view| view.snapshot)
    }

    /// The second full view that began after this moment of `CLOCK_MONOTONIC`: what was there then, and is
    /// in neither, was over by it.
    pub(super) fn second_full_view_since(&self, monotonic_ns: Nanos) -> Option<SnapshotId> {
        let mut views = self.full_views.iter().skip_while(|view| view.ended_ns < monotonic_ns);
        // The first of these may have begun before.
        views.nth(2).map(|view| view.snapshot)
    }

    /// The last full view before this snapshot.
    pub(super) fn last_full_view_before(&self, snapshot: SnapshotId) -> Option<SnapshotId> {
        self.full_views.iter().rev().map(|view| view.snapshot).find(|&view| view < snapshot)
    }

    /// The last full view that had ended by this moment of `CLOCK_MONOTONIC`: what was there then and
    /// is not in it came later. What went while a dump was made may have been there when it began.
    pub(super) fn full_view_before(&self, monotonic_ns: Nanos) -> Option<SnapshotId> {
        let mut views = self.full_views.iter().rev();
        views.find(|view| view.ended_ns <= monotonic_ns).map(|view| view.snapshot)
    }
}
