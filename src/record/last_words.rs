//! What a destroy event says, decoded.

use super::ending::{Evidence, Final, Life, Remnant};
use super::flows::{Flow, REUSE_MIN_NS, SAME_MOMENT_NS, mapped};
use super::traffic::{Moment, Traffic};
use crate::kernel::EventStamp;
use crate::model::{
    Clocks, Destroyed, Direction, FIN_WAIT2_MAX_NS, FinalCounters, Left, LookUp, Nanos, Protocol,
    SnapshotId, TcpInfo, Tuple,
};
use crate::wire::inet_diag::{Message, RelativeTimes};

/// The kernel counts the times of activity in its ticks, which come late on a virtual machine: so
/// much too long ago they may seem (measured: 16 ms), or too short.
pub(super) const TICK_LAG_MS: i64 = 20;
pub(super) const TICK_LAG_NS: Nanos = TICK_LAG_MS * 1_000_000;
/// A tick of the kernel is at most so long.
pub(super) const JIFFY_NS: Nanos = 10_000_000;
/// The kernel may be so late in telling that it has freed a socket, where processors are short (a second was
/// measured).
pub(super) const TOLD_LATE_NS: Nanos = 2_000_000_000;
/// What began at such a time is claimed with more care still.
pub(super) const OPENING_LAG_MS: i64 = 50;

/// A destroy event, decoded.
pub(super) struct LastWords {
    pub(super) protocol: Protocol,
    pub(super) cookie: u64,
    pub(super) tuple: Tuple,
    pub(super) is_half_wiped: bool,
    pub(super) said: Option<Final>,
    pub(super) counters: Option<FinalCounters>,
    pub(super) destroyed: Destroyed,
    /// What was left of the connection then, where that was looked up and told.
    pub(super) left: Option<Left>,
    /// The same, be it that of another one by then. That nothing was left does not tell that nothing had been.
    pub(super) rest: Option<Left>,
    /// Its event was sent at this moment of `CLOCK_MONOTONIC` or later.
    pub(super) sent_after_ns: Nanos,
    /// The connection was active at this moment of `CLOCK_MONOTONIC` or later; if nothing tells, its
    /// socket was freed later.
    pub(super) active_ns: Nanos,
    /// Nothing of the connection went on after this moment of `CLOCK_MONOTONIC`. The socket itself may
    /// have been held much longer.
    pub(super) silent_ns: Nanos,
    /// Whether anything tells when it was active.
    pub(super) tells_activity: bool,
    /// When this end last sent, or the connection was established, on `CLOCK_MONOTONIC`.
    pub(super) last_sent: Option<Moment>,
    /// When this end last received, or the connection was established, on `CLOCK_MONOTONIC`.
    pub(super) last_received: Option<Moment>,
}

impl LastWords {
    /// `has_own_rest` tells that what a look-up found is its own, and not left of another connection with its
    /// addresses and ports.
    pub(super) fn new(
        message: &Message<'_>,
        protocol: Protocol,
        times: RelativeTimes,
        stamp: &EventStamp,
        has_own_rest: bool,
        snapshot: SnapshotId,
        capture_started: Clocks,
    ) -> Self {
        let observation = message.observe(protocol);
        let received = stamp.received;
        let unread_ns = (received.boottime_ns - stamp.sent_after_ns).max(0);
        let made_after_ms = (received.monotonic_ns - unread_ns) / 1_000_000;
        let made_at_ms = (made_after_ms, received.monotonic_ms());
        let is_opened_by_both = times.is_opened_by_both(made_at_ms);
        let times = times.without_unset(made_at_ms);
        let unread_ms = unread_ns / 1_000_000 + 1;
        let idle_ms = times
            .active_ms()
            .and_then(|ms| idle_ms(i64::from(ms) + unread_ms, received, capture_started));
        let ago = |ms: u32| {
            let at_ns = received.monotonic_ns - i64::from(ms) * 1_000_000;
            let (lag_ns, unread_ns) = (JIFFY_NS, unread_ms * 1_000_000);
            Moment { from_ns: at_ns - unread_ns - lag_ns, to_ns: at_ns + lag_ns }
        };
        let is_half_wiped = message.is_half_wiped();
        let evidence = Evidence::of(&observation).filter(|_| protocol == Protocol::Tcp);
        let active_ms = times.active_ms();
        let silent_ns = received.monotonic_ns
            - active_ms.map_or(0, |ms| (i64::from(ms) - TICK_LAG_MS).max(0)) * 1_000_000;
        let sent_after_ns = received.monotonic_ns - unread_ms * 1_000_000;
        let look_up =
            stamp.look_up.filter(|look_up| look_up.left != Left::FinWait2 || has_own_rest);
        let left = look_up.map(|look_up| look_up.left);
        // Others may have come and gone since it was over.
        let was_over_just_now = silent_ns + SAME_MOMENT_NS >= sent_after_ns;
        let is_own = has_own_rest && was_over_just_now;
        let left_by_fin = left.filter(|left| is_own && *left != Left::Nothing);
        let said = match evidence {
            Some(_) if is_half_wiped => {
                Some(Final::Wiped { was_established: was_established(&observation.tcp) })
            }
            Some(evidence) => {
                let evidence = evidence.leaving(left_by_fin).opened_by_both(is_opened_by_both);
                Some(Final::Full(evidence))
            }
            None => None,
        };
        let is_connection = message.tuple().remote.port != 0;
        let may_go_on = is_connection && said.is_some_and(|said| said.may_go_on());
        Self {
            protocol,
            cookie: message.cookie(),
            tuple: message.tuple(),
            is_half_wiped,
            said,
            counters: matches!(said, Some(Final::Full(_)))
                .then(|| FinalCounters::of(&observation))
                .filter(|_| message.tuple().remote.port != 0),
            destroyed: Destroyed {
                snapshot,
                at: received,
                idle_ms,
                open_ms: times.established_ms().map(|ms| (i64::from(ms) - OPENING_LAG_MS).max(0)),
                over_ns: if may_go_on {
                    look_up.and_then(|l| over_after(&l, received))
                } else {
                    Some(0)
                },
            },
            left,
            rest: stamp.look_up.map(|look_up| look_up.left).filter(|left| *left != Left::Nothing),
            sent_after_ns,
            active_ns: received.monotonic_ns
                - times.active_ms().map_or(unread_ms, |ms| i64::from(ms) + TICK_LAG_MS + unread_ms)
                    * 1_000_000,
            silent_ns,
            tells_activity: times.active_ms().is_some(),
            last_sent: times.sent_or_handshake_ms().map(ago),
            last_received: times.received_or_handshake_ms().map(ago),
        }
    }

    /// Whether it was read so soon that two connections with the same addresses and ports are told apart.
    pub(super) fn is_sharp(&self) -> bool {
        self.destroyed.at.monotonic_ns - self.sent_after_ns <= SAME_MOMENT_NS
    }

    pub(super) fn flow(&self) -> Option<Flow> {
        Flow::new(self.protocol, &self.tuple)
    }

    /// Whether there may have been another end.
    pub(super) fn was_answered(&self) -> bool {
        match &self.said {
            Some(Final::Full(counters)) => counters.has_heard(),
            Some(Final::Wiped { was_established }) => *was_established != Some(false),
            None => true,
        }
    }

    /// Whether the connection was established for sure.
    pub(super) fn was_established(&self) -> bool {
        self.protocol == Protocol::Tcp
            && match &self.said {
                Some(Final::Full(counters)) => counters.has_heard() && self.flow().is_some(),
                Some(Final::Wiped { was_established }) => *was_established == Some(true),
                None => false,
            }
    }

    /// What went over its connection; who opened it is told by more than this.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let counters = self.counters.filter(|_| self.protocol == Protocol::Tcp)?;
        let Some(Final::Full(said)) = &self.said else { return None };
        let sent_bytes = counters
            .bytes_sent
            .zip(counters.bytes_retrans)
            .map(|(sent, again)| sent.saturating_sub(again))
            .filter(|_| said.counts_agree());
        // One may be the SYN.
        let acked_bytes = counters
            .bytes_acked
            .zip(sent_bytes)
            .map(|(acked, sent)| acked.saturating_sub(1).min(sent));
        Some(Traffic {
            was_answered: self.was_answered(),
            direction: None,
            fin: said.fin(),
            was_ended_by_peer: said.was_ended_by_peer(),
            sent_bytes,
            acked_bytes,
            received_bytes: counters.bytes_received,
            last_sent: self.last_sent,
            last_received: self.last_received,
        })
    }

    /// Whether a socket that was connected like this, or not at all, may be meant: a cookie can be
    /// connected again.
    pub(super) fn may_be_of(&self, flow: Option<&Flow>) -> bool {
        match (flow, self.flow()) {
            (Some(flow), Some(own)) => own == *flow,
            (Some(flow), None) if self.is_half_wiped => {
                flow.local().1 == self.tuple.local.port
                    && flow.remote().0 == mapped(self.tuple.remote.address)
            }
            (Some(_), None) => true,
            (None, own) => own.is_none() && !self.is_half_wiped,
        }
    }

    /// By how much a TIME-WAIT that began at this moment does not fit; `None` if it cannot be of this connection, but of
    /// one that used the same addresses and ports before or later. It may wait for the other end's FIN, if that is not
    /// known to have come before.
    pub(super) fn misfit_of_time_wait(
        &self,
        began: Moment,
        direction: Option<Direction>,
        may_wait: bool,
    ) -> Option<Nanos> {
        let life = Life { last_words: self.said, direction, left: self.rest, ..Life::default() };
        // It begins with the last of both FINs, which may come to what is left of the socket.
        let until_ns = match life.remnant() {
            Remnant::None => return None,
            Remnant::TimeWait => self.silent_ns,
            Remnant::FinWait2 if !may_wait => self.silent_ns,
            Remnant::FinWait2 => self.destroyed.at.monotonic_ns + REUSE_MIN_NS,
            Remnant::HalfClosed => self.destroyed.at.monotonic_ns + FIN_WAIT2_MAX_NS,
        };
        let apart_ns = Moment { from_ns: self.active_ns, to_ns: until_ns }.apart_ns(&began);
        (apart_ns <= JIFFY_NS && !self.was_held_and_silent_at(began)).then_some(apart_ns)
    }

    /// Whether the socket was there at this moment and nothing came to it then, not even a FIN.
    fn was_held_and_silent_at(&self, moment: Moment) -> bool {
        moment.from_ns > self.silent_ns + JIFFY_NS
            && moment.to_ns + TOLD_LATE_NS < self.sent_after_ns
    }

    /// The connection had begun by this moment of `CLOCK_MONOTONIC`, or by one that is as much later as
    /// the event was unread: that it was there before is not to be excluded.
    pub(super) fn open_by_ns(&self) -> Nanos {
        self.sent_after_ns - self.destroyed.open_ms.unwrap_or(0) * 1_000_000
    }
}

/// How long ago it was active, by the clock that goes on in suspend, if that was in this capture.
fn idle_ms(ago_ms: i64, received: Clocks, capture_started: Clocks) -> Option<i64> {
    let suspended_ns = received.boottime_ns
        - capture_started.boottime_ns
        - (received.monotonic_ns - capture_started.monotonic_ns);
    let idle_ms = ago_ms + TICK_LAG_MS + suspended_ns.max(0) / 1_000_000;
    let active_ns = received.boottime_ns - idle_ms * 1_000_000;
    (active_ns >= capture_started.boottime_ns).then_some(idle_ms)
}

/// Of a disconnected socket: the peer's window is of the last connection; the round-trip time survives
/// connect().
fn was_established(tcp: &TcpInfo) -> Option<bool> {
    match (tcp.min_rtt_us, tcp.snd_wnd_bytes) {
        (_, Some(1..)) | (Some(_), None) => Some(true),
        (None, _) => Some(false),
        (Some(_), Some(0)) => None,
    }
}

/// How long after an event was read the connection was over, by a look-up.
fn over_after(look_up: &LookUp, received: Clocks) -> Option<Nanos> {
    let after_ns = look_up.at.boottime_ns - received.boottime_ns;
    (look_up.left != Left::FinWait2).then_some(after_ns)
}
