//! What goes from the collector to the writer.

use std::ops::Range;

use crate::model::{
    ActivityTimes, Arrival, ClockChange, Clocks, EndReason, EndUpdate, EventLoss, Exception,
    GroupId, HeldSample, NetnsId, NewSocket, OwnerChange, Protocol, RefusedNamespace, Remains,
    RemainsEnd, ScopeId, Snapshot, SnapshotId, SocketEnd, SocketId, SocketNews, SocketUpdate,
    StateChange,
};
use crate::store::Capacity;

/// A sample whose message still stands in bytes: decoding is the writer's work.
#[derive(Clone, Debug)]
pub(super) struct RawSample {
    pub(super) socket: SocketId,
    pub(super) previous: Option<SnapshotId>,
    pub(super) protocol: Protocol,
    pub(super) times: ActivityTimes,
    /// Where the message lies in [`Batch::messages`].
    pub(super) message: Range<usize>,
}

/// A part of what one tick adds.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<u8>,
    pub(super) samples: Vec<RawSample>,
    pub(super) sockets: Vec<NewSocket>,
    pub(super) updates: Vec<(SocketId, SocketUpdate)>,
    pub(super) state_changes: Vec<StateChange>,
    pub(super) held: Vec<HeldSample>,
    pub(super) missing: Vec<SocketId>,
    pub(super) ends: Vec<SocketEnd>,
    pub(super) end_updates: Vec<(SocketId, EndUpdate)>,
    /// Connections whose other end turned out to be reset after theirs was stored.
    pub(super) peer_resets: Vec<SocketId>,
    pub(super) remains: Vec<Remains>,
    pub(super) remains_ends: Vec<RemainsEnd>,
    pub(super) news: Vec<(SocketId, SocketNews)>,
    pub(super) event_losses: Vec<EventLoss>,
    pub(super) owner_changes: Vec<OwnerChange>,
    pub(super) exceptions: Vec<Exception>,
    pub(super) clock_changes: Vec<ClockChange>,
    pub(super) arrivals: Vec<Arrival>,
    /// Scopes that were asked for the last time.
    pub(super) last_asked: Vec<ScopeId>,
    /// Namespaces that there was no time for.
    pub(super) passed_over: Vec<NetnsId>,
    /// Namespaces that cannot be recorded from now on.
    pub(super) refused: Vec<RefusedNamespace>,
    /// The names of those that can be, or are not meant any more.
    pub(super) admitted: Vec<String>,
}

impl Batch {
    /// Large enough to be worth sending, small enough that a full channel stays small.
    const CHUNK_BYTES: usize = 64 * 1024;
    const CHUNK_ROWS: usize = 1_024;

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= Self::CHUNK_BYTES
            || self.sockets.len() >= Self::CHUNK_ROWS
            || self.ends.len() >= Self::CHUNK_ROWS
            || self.missing.len() >= Self::CHUNK_ROWS
            || self.end_updates.len() >= Self::CHUNK_ROWS
            || self.remains_ends.len() >= Self::CHUNK_ROWS
            || self.news.len() >= Self::CHUNK_ROWS
    }

    pub(super) fn add_sample(
        &mut self,
        message: &[u8],
        socket: SocketId,
        previous: Option<SnapshotId>,
        protocol: Protocol,
        times: ActivityTimes,
    ) {
        let start = self.messages.len();
        self.messages.extend_from_slice(message);
        let message = start..self.messages.len();
        self.samples.push(RawSample { socket, previous, protocol, times, message });
    }

    /// Empty again, with the memory kept.
    pub(super) fn clear(&mut self) {
        let Self {
            messages,
            samples,
            sockets,
            updates,
            state_changes,
            held,
            missing,
            ends,
            end_updates,
            peer_resets,
            remains,
            remains_ends,
            news,
            event_losses,
            owner_changes,
            exceptions,
            clock_changes,
            arrivals,
            last_asked,
            passed_over,
            refused,
            admitted,
        } = self;
        messages.clear();
        samples.clear();
        sockets.clear();
        updates.clear();
        state_changes.clear();
        held.clear();
        missing.clear();
        ends.clear();
        end_updates.clear();
        peer_resets.clear();
        remains.clear();
        remains_ends.clear();
        news.clear();
        event_losses.clear();
        owner_changes.clear();
        exceptions.clear();
        clock_changes.clear();
        arrivals.clear();
        last_asked.clear();
        passed_over.clear();
        refused.clear();
        admitted.clear();
    }
}

/// What the channel carries, in this order for each tick: begin, any number of rows, end.
#[derive(Debug)]
pub(super) enum Parcel {
    /// What the recording may hold from now on.
    Capacity(Capacity),
    BeginTick {
        snapshot: SnapshotId,
        group: GroupId,
        is_keyframe: bool,
    },
    Rows(Box<Batch>),
    EndTick(Snapshot),
    EndCapture {
        reason: EndReason,
        at: Clocks,
        missed_ticks: u64,
        owner_changes: Vec<OwnerChange>,
    },
}
