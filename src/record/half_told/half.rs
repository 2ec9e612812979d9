//! What a half-wiped event leaves of a socket.

use std::net::Ipv6Addr;

use crate::model::{Nanos, SnapshotId, SocketId, Tuple};
use crate::record::flows::{Dead, Flow, Member, mapped};
use crate::record::traffic::Moment;

/// The address of the other end and the port of this one.
pub(super) type Key = (Ipv6Addr, u16);
/// Among those of one key: since when it may have sent last.
pub(super) type Place = (Nanos, SocketId);

/// A socket of which an event told half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) socket: SocketId,
    pub(super) cookie: u64,
    pub(super) tuple: Tuple,
    pub(super) read_ns: Nanos,
    pub(super) open_by_ns: Option<Nanos>,
    pub(super) last_sent: Option<Moment>,
    pub(super) dead: Dead,
    pub(super) died: SnapshotId,
    /// One that may be its other end may also be that of another: nobody is told as that.
    pub(super) is_doubtful: bool,
}

impl Half {
    pub(super) fn key(&self) -> Key {
        (mapped(self.tuple.remote.address), self.tuple.local.port)
    }

    pub(super) fn place(&self) -> Place {
        (self.last_sent.map_or(Nanos::MIN, |sent| sent.from_ns), self.socket)
    }

    pub(super) fn may_be(&self, own: &Flow) -> bool {
        let local = self.tuple.local.address;
        local.is_unspecified() || mapped(local) == own.local().0
    }

    /// What one end sent last the other received at that moment: within a host that is as good as a
    /// signature. `None` where nothing tells.
    pub(super) fn has_sent(&self, last_received: Option<Moment>, slack_ns: Nanos) -> Option<bool> {
        Some(self.last_sent?.may_be(&last_received?.widened(slack_ns)))
    }

    /// The same for sure, where events may be wrong about times by so much.
    pub(super) fn has_sent_surely(&self, last_received: Option<Moment>, slack_ns: Nanos) -> bool {
        let moments = [self.last_sent, last_received];
        let is_sharp = moments.into_iter().flatten().all(Moment::is_sharp);
        (is_sharp || slack_ns == 0) && self.has_sent(last_received, 0) == Some(true)
    }

    /// Whether this may be the other end: alive as far as is known, or gone with a fitting signature. One that
    /// was alive after the abort is not.
    pub(super) fn fits(&self, other: &Member, slack_ns: Nanos) -> bool {
        let was_alive_after =
            other.there.alive_ns.zip(self.dead.destroyed_ns).is_some_and(|(a, b)| a > b);
        match &other.dead {
            None => !was_alive_after,
            Some(dead) => self.fits_dead(dead.active_ns, dead.last_received, slack_ns),
        }
    }

    /// Whether one that is gone may have been the other end: nothing came from this one any more after
    /// the abort.
    pub(super) fn fits_dead(
        &self,
        active_ns: Option<Nanos>,
        last_received: Option<Moment>,
        slack_ns: Nanos,
    ) -> bool {
        let is_until_then = active_ns
            .zip(self.dead.destroyed_ns)
            .is_none_or(|(active_ns, aborted_ns)| active_ns <= aborted_ns);
        is_until_then && self.has_sent(last_received, slack_ns) == Some(true)
    }
}
