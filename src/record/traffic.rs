//! What the destroy events of both ends tell of what went over a connection, and whether it was one.

use super::flows::SAME_MOMENT_NS;
use crate::model::{Direction, Nanos};

/// A moment of `CLOCK_MONOTONIC` that is known within bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) from_ns: Nanos,
    pub(super) to_ns: Nanos,
}

impl Moment {
    pub(super) fn width_ns(self) -> Nanos {
        self.to_ns - self.from_ns
    }

    /// Whether its event was read so soon that two connections with the same addresses and ports are told apart.
    pub(super) fn is_sharp(self) -> bool {
        self.width_ns() <= SAME_MOMENT_NS
    }

    /// The same, known less well.
    pub(super) fn widened(self, by_ns: Nanos) -> Self {
        Self { from_ns: self.from_ns - by_ns, to_ns: self.to_ns + by_ns }
    }

    /// Whether both may be one moment.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.apart_ns(other) == 0
    }

    /// How far apart both are at least.
    pub(super) fn apart_ns(&self, other: &Self) -> Nanos {
        (self.from_ns - other.to_ns).max(other.from_ns - self.to_ns).max(0)
    }
}

/// What the destroy event of one end tells of what went over its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    /// A segment came that was more than a refusal: there was another end.
    pub(super) was_answered: bool,
    /// Which end opened the connection, as far as this end alone tells.
    pub(super) direction: Option<Direction>,
    pub(super) fin: Fin,
    /// It ended in no other way than by a RST, or a FIN, of the other end.
    pub(super) was_ended_by_peer: bool,
    /// Payload.
    pub(super) sent_bytes: Option<u64>,
    /// Payload, so much at least: who acknowledged it has counted it as received.
    pub(super) acked_bytes: Option<u64>,
    /// Payload, and the other end's FIN as one.
    pub(super) received_bytes: Option<u64>,
    /// When this end last sent payload, or the connection was established.
    pub(super) last_sent: Option<Moment>,
    /// When this end last received payload, or the connection was established.
    pub(super) last_received: Option<Moment>,
}

/// Whether our FIN was acknowledged, by who opened the connection: a SYN is counted like a FIN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fin {
    pub(super) is_acked_of_unknown: Option<bool>,
    pub(super) is_acked_outbound: Option<bool>,
    pub(super) is_acked_inbound: Option<bool>,
}

impl Fin {
    pub(super) fn is_acked(self, direction: Option<Direction>) -> Option<bool> {
        match direction {
            None => self.is_acked_of_unknown,
            Some(Direction::Outbound) => self.is_acked_outbound,
            Some(Direction::Inbound) => self.is_acked_inbound,
        }
    }
}

impl Traffic {
    /// Whether our FIN was acknowledged if the other is the other end.
    fn is_fin_acked(&self, other: &Self) -> Option<bool> {
        self.fin.is_acked(self.direction.or(other.direction.map(Direction::of_peer)))
    }

    /// Whether no FIN of ours was acknowledged for sure.
    pub(super) fn has_no_fin_acked(&self) -> bool {
        self.fin.is_acked(self.direction) == Some(false)
    }

    /// Whether the FIN of the other was counted, if it is the other end.
    fn has_fin_of(&self, other: &Self) -> Option<bool> {
        Some(self.received_bytes? > other.sent_bytes?)
    }

    /// Whether both may be of one connection by the FINs that each sent and had.
    ///
    /// A socket counts the FIN that it acknowledges. Without its socket a connection goes on only if its own FIN was
    /// acknowledged: what is left of it acknowledges the other and counts nothing.
    fn agrees_on_fins_with(&self, other: &Self) -> bool {
        let has_fin = self.has_fin_of(other).zip(other.has_fin_of(self));
        match (self.is_fin_acked(other), other.is_fin_acked(self)) {
            (Some(true), Some(true)) => has_fin != Some((false, false)),
            // One of them has sent a RST.
            (Some(false), Some(false)) => !(self.was_ended_by_peer && other.was_ended_by_peer),
            (Some(false), Some(true)) if self.was_ended_by_peer => {
                has_fin.is_none_or(|(own, others)| own && !(others && other.was_ended_by_peer))
            }
            (Some(true), Some(false)) => other.agrees_on_fins_with(self),
            _ => true,
        }
    }

    /// Whether the other may be the other end: what one sent the other received, then, or what of it was
    /// acknowledged.
    pub(super) fn may_be_of_peer(&self, other: &Self) -> bool {
        let may_have_come = |from: &Self, to: &Self| {
            let (Some(sent), Some(received)) = (from.sent_bytes, to.received_bytes) else {
                return true;
            };
            let (sent_at, received_at) = (from.last_sent, to.last_received);
            let is_then = sent_at.zip(received_at).is_none_or(|(sent, came)| sent.may_be(&came));
            // What was sent last is what was lost.
            let is_before =
                sent_at.zip(received_at).is_none_or(|(sent, came)| came.from_ns <= sent.to_ns);
            let is_enough = from.acked_bytes.is_none_or(|acked| acked <= received);
            is_enough && ((received < sent && is_before) || (received <= sent + 1 && is_then))
        };
        self.agrees_on_fins_with(other) && may_have_come(self, other) && may_have_come(other, self)
    }

    /// Whether when something went is known well.
    pub(super) fn is_sharp(&self) -> bool {
        [self.last_sent, self.last_received].into_iter().flatten().all(Moment::is_sharp)
    }

    /// Whether all that one sent the other received, then.
    pub(super) fn is_that_of_peer(&self, other: &Self) -> bool {
        let has_come = |from: &Self, to: &Self| {
            let is_all = from.sent_bytes.zip(to.received_bytes).is_some_and(|(sent, received)| {
                received == sent || received == sent + 1 // its FIN
            });
            let times = from.last_sent.zip(to.last_received);
            is_all && times.is_some_and(|(sent_at, received_at)| sent_at.may_be(&received_at))
        };
        has_come(self, other) && has_come(other, self)
    }
}
