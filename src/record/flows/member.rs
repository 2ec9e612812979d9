//! A socket with a flow: when it was there, what it told of its end, and whom it fits.

use super::SAME_MOMENT_NS;
use crate::model::{Ending, Nanos, Origin, SocketId};
use crate::record::ending::Remnant;
use crate::record::last_words::JIFFY_NS;
use crate::record::traffic::{Moment, Traffic};

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Dead {
    pub(in crate::record) ending: Option<Ending>,
    pub(in crate::record) origin: Option<Origin>,
    /// Its destroy event was read at this moment of `CLOCK_MONOTONIC`.
    pub(in crate::record) destroyed_ns: Option<Nanos>,
    /// It was active at this moment of `CLOCK_MONOTONIC` or later, as its event tells.
    pub(in crate::record) active_ns: Option<Nanos>,
    /// When it last received, as its event tells.
    pub(in crate::record) last_received: Option<Moment>,
    pub(in crate::record) traffic: Option<Traffic>,
    /// No dump showed its socket alive, nor bound before: its mini-socket has a cookie of its own.
    pub(in crate::record) is_unseen: bool,
    /// What may be left of it.
    pub(in crate::record) remnant: Remnant,
    /// What is left of it has been seen.
    pub(in crate::record) has_left: bool,
    /// It was waiting for an answer when it ended.
    pub(in crate::record) is_stalled: bool,
    /// Its other end may be one that is told in full, if it was reset.
    pub(in crate::record) may_face_whole: bool,
}

impl Dead {
    /// Whether our FIN was acknowledged, as its event tells.
    pub(in crate::record) fn is_fin_acked(&self) -> Option<bool> {
        let traffic = self.traffic.as_ref()?;
        traffic.fin.is_acked(traffic.direction)
    }

    /// What is left of it is seen.
    pub(in crate::record) fn leave(&mut self) {
        (self.remnant, self.has_left) = (Remnant::None, true);
    }
}

/// When a connection was there, as far as is known, on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default)]
pub(in crate::record) struct There {
    /// It had begun by then.
    pub(in crate::record) open_by_ns: Option<Nanos>,
    /// By so much that may be too late: dumps take their time.
    pub(in crate::record) open_slack_ns: Nanos,
    /// It was not over before.
    pub(in crate::record) alive_ns: Option<Nanos>,
    /// It was over by then.
    pub(in crate::record) over_ns: Option<Nanos>,
    /// Of one whose event was read in full.
    pub(in crate::record) traffic: Option<Box<Traffic>>,
}

impl There {
    /// Whether a dump showed both so soon one after the other that no other connection had their addresses and ports in
    /// between. A dump of a machine in trouble takes long.
    pub(in crate::record) fn was_shown_with(&self, other: &Self) -> bool {
        let shown = self.alive_ns.zip(other.alive_ns);
        let slack_ns = self.open_slack_ns.max(other.open_slack_ns);
        shown.is_some_and(|(one, other)| (one - other).abs() + slack_ns <= SAME_MOMENT_NS)
    }
}

/// A socket with a flow. There is one for each connection: what few have is boxed.
#[derive(Clone, Debug)]
pub(in crate::record) struct Member {
    pub(in crate::record) socket: SocketId,
    pub(in crate::record) cookie: u64,
    pub(in crate::record) peer: Option<SocketId>,
    pub(in crate::record) there: There,
    pub(in crate::record) dead: Option<Box<Dead>>,
}

impl Member {
    pub(in crate::record) fn new(socket: SocketId, cookie: u64, there: There) -> Self {
        Self { socket, cookie, peer: None, there, dead: None }
    }

    pub(in crate::record) fn is_stalled(&self) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.is_stalled)
    }

    /// Whether it has been seen in this capture, and not seen to end.
    pub(in crate::record) fn is_there(&self) -> bool {
        self.dead.is_none() && self.there.alive_ns.is_some()
    }

    /// Whether its event was read.
    pub(in crate::record) fn is_told(&self) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.destroyed_ns.is_some())
    }

    /// Whether its TIME-WAIT was seen, and its event not read.
    pub(in crate::record) fn was_in_time_wait(&self) -> bool {
        self.dead
            .as_ref()
            .is_some_and(|dead| dead.destroyed_ns.is_none() && dead.remnant == Remnant::TimeWait)
    }

    /// Whether the FINs of both ends have come for sure.
    fn had_both_fins(&self) -> bool {
        let ending = self.dead.as_ref().and_then(|dead| dead.ending);
        self.was_in_time_wait() || matches!(ending, Some(Ending::BothFins | Ending::TimeWait))
    }

    /// Whether it was over while the other was not, and so before the other began, which has the same
    /// addresses and ports.
    pub(in crate::record) fn was_before(&self, other: &Self) -> bool {
        self.there
            .over_ns
            .zip(other.there.alive_ns)
            .is_some_and(|(over_ns, alive_ns)| over_ns < alive_ns)
    }

    /// Whether when something went over its connection is known well, as far as that was told.
    pub(in crate::record) fn is_sharp(&self) -> bool {
        self.there.traffic.as_deref().is_none_or(Traffic::is_sharp)
    }

    /// The same, and it was not told of by half.
    pub(in crate::record) fn is_clear(&self) -> bool {
        self.is_sharp() && (!self.is_told() || self.there.traffic.is_some())
    }

    /// Whether the other was active at about the same time, for all that is known.
    pub(in crate::record) fn was_about_then(&self, other: &Self) -> bool {
        let is_after = |a: &Self, b: &Self| {
            a.there
                .alive_ns
                .zip(b.there.over_ns)
                .is_some_and(|(alive_ns, over_ns)| alive_ns > over_ns + SAME_MOMENT_NS)
        };
        !is_after(self, other) && !is_after(other, self)
    }

    /// Whether it has sent payload for sure.
    pub(in crate::record) fn has_sent(&self) -> bool {
        let traffic = self.there.traffic.as_deref();
        traffic.is_some_and(|traffic| traffic.sent_bytes.is_some_and(|bytes| bytes > 0))
    }

    /// Whether hardly any payload went over its connection, or none: it looks like any other that sent none.
    pub(in crate::record) fn has_exchanged_nothing(&self) -> bool {
        let traffic = self.there.traffic.as_deref();
        traffic.is_some_and(|traffic| {
            // One may be the other end's FIN.
            traffic.sent_bytes == Some(0) && traffic.received_bytes.is_some_and(|bytes| bytes <= 1)
        })
    }

    /// Whether what went over both connections tells that they are one.
    pub(in crate::record) fn mirrors(&self, other: &Self) -> bool {
        let (own, others) = (self.there.traffic.as_deref(), other.there.traffic.as_deref());
        own.zip(others).is_some_and(|(own, others)| own.is_that_of_peer(others))
    }

    /// Whether its TIME-WAIT, if that was seen, may have begun with the other, as the event of that tells.
    fn may_have_ended_with(&self, other: &Self) -> bool {
        let moment = |from_ns: Option<Nanos>, to_ns: Option<Nanos>| {
            from_ns.zip(to_ns).map(|(from_ns, to_ns)| Moment { from_ns, to_ns })
        };
        let began = moment(self.there.alive_ns, self.there.over_ns);
        let active_ns = other.dead.as_ref().and_then(|dead| dead.active_ns);
        let last_active = moment(active_ns, other.there.over_ns);
        // Its FIN came to the socket of the other.
        let traffic = other.there.traffic.as_deref();
        let has_fin = traffic.is_none_or(|traffic| traffic.received_bytes != Some(0));
        let is_then = began.zip(last_active).is_none_or(|(a, b)| a.apart_ns(&b) <= JIFFY_NS);
        !self.was_in_time_wait() || (has_fin && is_then)
    }

    /// Whether the other may be the other end of this connection, and not of one that used the same
    /// addresses and ports before or after.
    pub(in crate::record) fn fits(&self, other: &Self) -> bool {
        let began_in_time = |a: &Self, b: &Self| {
            a.there.open_by_ns.zip(b.there.over_ns).is_none_or(|(began, ended)| {
                began - a.there.open_slack_ns <= ended + SAME_MOMENT_NS
            })
        };
        let was_answered = |traffic: Option<&Traffic>| traffic.is_none_or(|t| t.was_answered);
        let acked_no_fin = |traffic: Option<&Traffic>, other: &Self| {
            other.had_both_fins() && traffic.is_some_and(Traffic::has_no_fin_acked)
        };
        let (own, others) = (self.there.traffic.as_deref(), other.there.traffic.as_deref());
        self.peer.is_none()
            && was_answered(own)
            && was_answered(others)
            && !acked_no_fin(own, other)
            && !acked_no_fin(others, self)
            && self.may_have_ended_with(other)
            && other.may_have_ended_with(self)
            && own.zip(others).is_none_or(|(own, others)| own.may_be_of_peer(others))
            && began_in_time(self, other)
            && began_in_time(other, self)
    }
}
