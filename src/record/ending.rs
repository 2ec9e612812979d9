//! Who opened a connection and how it ended, from the states that it was seen in and the kernel's
//! counters. Wrong is worse than unknown: what does not tell for sure tells nothing.

use super::flows::Flow;
use super::traffic::Fin;
use crate::kernel::IsInDoubt;
use crate::model::{Direction, Ending, Left, Observation, Origin, Protocol, TcpState};

/// `TCPI_OPT_SYN_DATA` (`include/uapi/linux/tcp.h`).
const SYN_DATA: u8 = 32;

/// The counters of a full TCP socket that tell how it began and ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// What the peer acknowledged beyond the payload: our SYN, our FIN. Negative while payload is not
    /// acknowledged.
    acked_beyond_payload: Option<i64>,
    /// A segment came that was more than a refusal.
    has_heard: bool,
    rqueue: u32,
    wqueue: u32,
    bytes_received: Option<u64>,
    data_segs_in: Option<u32>,
    segs_in: Option<u32>,
    segs_out: Option<u32>,
    total_retrans: Option<u32>,
    data_segs_out: Option<u32>,
    delivered: Option<u32>,
    retransmits: u8,
    probes: u8,
    /// It is a subflow of MPTCP, which the kernel disconnects also when it is over.
    is_subflow: bool,
    /// What only a FIN of ours that was acknowledged leaves was found as its event was read.
    left_by_fin: Option<Left>,
    /// Both ends dialled, for sure.
    is_opened_by_both: bool,
    /// Data came, or went, with the SYN (`TCPI_OPT_SYN_DATA`).
    had_data_in_syn: bool,
}

impl Evidence {
    /// `None` without `tcp_info`.
    pub(super) fn of(o: &Observation<'_>) -> Option<Self> {
        let tcp = &o.tcp;
        tcp.retransmits?;
        let payload =
            tcp.bytes_sent.zip(tcp.bytes_retrans).map(|(sent, again)| sent - again.min(sent));
        Some(Self {
            acked_beyond_payload: tcp
                .bytes_acked
                .zip(payload)
                .map(|(acked, payload)| acked.wrapping_sub(payload).cast_signed())
                // What the host itself dropped is counted as sent each time (measured; `tcp_transmit_skb`).
                .filter(|&beyond| beyond >= 0 || o.wqueue != Some(0)),
            has_heard: tcp.rtt_us.is_some()
                || tcp.snd_wnd_bytes.is_some_and(|window| window != 0)
                || tcp.bytes_received.is_some_and(|bytes| bytes != 0),
            rqueue: o.rqueue.unwrap_or(0),
            wqueue: o.wqueue.unwrap_or(0),
            bytes_received: tcp.bytes_received,
            data_segs_in: tcp.data_segs_in,
            segs_in: tcp.segs_in,
            segs_out: tcp.segs_out,
            total_retrans: tcp.total_retrans,
            data_segs_out: tcp.data_segs_out,
            delivered: tcp.delivered,
            retransmits: tcp.retransmits.unwrap_or(0),
            probes: tcp.probes.unwrap_or(0),
            is_subflow: o.ulp == Some("mptcp"),
            left_by_fin: None,
            is_opened_by_both: false,
            had_data_in_syn: tcp.options.is_some_and(|options| options & SYN_DATA != 0),
        })
    }

    /// The same, where a look-up found what only a FIN of ours leaves.
    pub(super) fn leaving(self, left_by_fin: Option<Left>) -> Self {
        Self { left_by_fin, ..self }
    }

    /// The same, where the kernel's clocks tell whether both ends dialled.
    pub(super) fn opened_by_both(self, is_opened_by_both: bool) -> Self {
        Self { is_opened_by_both, ..self }
    }

    /// Whether a segment came that was more than a refusal.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Whether it is known how much was sent.
    pub(super) fn counts_agree(&self) -> bool {
        self.acked_beyond_payload.is_some()
    }

    /// Whether it waits for an answer.
    fn is_waiting(&self) -> bool {
        self.retransmits > 0 || self.probes > 0
    }

    /// Whether our FIN was acknowledged, by who opened the connection.
    pub(super) fn fin(&self) -> Fin {
        Fin {
            is_acked_of_unknown: self.is_fin_acked(None),
            is_acked_outbound: self.is_fin_acked(Some(Direction::Outbound)),
            is_acked_inbound: self.is_fin_acked(Some(Direction::Inbound)),
        }
    }

    /// Whether it ended in no other way than by a RST, or a FIN, of the other end: who left data unread may have
    /// sent the RST itself.
    pub(super) fn was_ended_by_peer(&self) -> bool {
        self.rqueue == 0 && !self.is_waiting()
    }

    /// Whether payload may never have been acknowledged.
    fn may_have_lost_payload(&self, direction: Option<Direction>) -> bool {
        let counted = i64::from(direction != Some(Direction::Inbound)); // the SYN
        self.wqueue != 0 && self.acked_beyond_payload.is_none_or(|beyond| beyond < counted)
    }

    /// Whether our FIN was acknowledged. `None` where that may have been our SYN.
    fn is_fin_acked(&self, direction: Option<Direction>) -> Option<bool> {
        let direction = if self.is_opened_by_both { Some(Direction::Outbound) } else { direction };
        match (self.acked_beyond_payload?, direction) {
            (..=0, _) | (1, Some(Direction::Outbound)) => Some(false),
            (1, direction) => match self.is_fin_delivered() {
                None => direction.map(|_| true),
                is_delivered => is_delivered,
            },
            (2, _) => Some(true),
            _ => None,
        }
    }

    /// Whether a FIN of ours was delivered for sure, or none.
    fn is_fin_delivered(&self) -> Option<bool> {
        self.left_by_fin.map(|_| true).or_else(|| self.is_lone_fin_delivered())
    }

    /// Whether a FIN without payload was delivered, where nothing was sent but SYN and FIN: either end
    /// counts one segment for the handshake (measured; `tcpi_delivered`), but for who closes before it is
    /// over, as TCP Fast Open allows.
    fn is_lone_fin_delivered(&self) -> Option<bool> {
        if self.data_segs_out? != 0 || self.total_retrans? != 0 || self.had_data_in_syn {
            return None;
        }
        match self.delivered? {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    /// Whether the other end's FIN had come for sure: without payload it alone is counted.
    fn has_peer_fin(&self) -> bool {
        self.data_segs_in == Some(0) && self.bytes_received == Some(1)
    }

    /// Whether the other end had not sent its FIN for sure: nothing came.
    fn is_peer_open(&self) -> bool {
        self.data_segs_in == Some(0) && self.bytes_received == Some(0)
    }

    /// Whether the connection may go on half-closed without its socket: our FIN may have been
    /// acknowledged, and the other end's need not have come.
    fn may_go_on(&self) -> bool {
        let may_be_fin = match self.acked_beyond_payload {
            Some(1) => self.is_lone_fin_delivered() != Some(false),
            Some(beyond) => beyond > 1,
            None => true,
        };
        self.has_heard && may_be_fin && !self.has_peer_fin()
    }

    /// Who opened a connection that is in this state. Where nothing is outstanding everything that
    /// was sent has been acknowledged, and the SYN counts (measured; see docs/ARCHITECTURE.md).
    pub(super) fn origin_of_live(&self, state: TcpState) -> Option<Origin> {
        let our_fin = match state {
            TcpState::ESTABLISHED | TcpState::CLOSE_WAIT => 0,
            TcpState::FIN_WAIT2 => 1,
            _ => return None,
        };
        if self.wqueue != 0 || !self.has_heard {
            return None;
        }
        match self.acked_beyond_payload? - our_fin {
            0 => Some(Origin::SynNotCounted),
            1 => Some(Origin::SynCounted),
            _ => None,
        }
    }

    /// Who opened a connection, by its final counters. With one byte beyond the payload that may be
    /// the SYN of an opener that was reset or the FIN of an acceptor.
    fn origin_of_final(&self) -> Option<Origin> {
        if !self.has_heard {
            return Some(Origin::NothingReceived);
        }
        if self.is_opened_by_both {
            return Some(Origin::SynCounted);
        }
        match self.acked_beyond_payload? {
            2 => Some(Origin::SynCounted),
            1 => self.is_fin_delivered().map(|is_delivered| match is_delivered {
                true => Origin::SynNotCounted,
                false => Origin::SynCounted,
            }),
            0 if self.wqueue == 0 => Some(Origin::SynNotCounted),
            _ => None,
        }
    }
}

/// The state in which a socket shows who opened its connection.
pub(super) fn origin_of_state(state: TcpState, is_mini: bool) -> Option<Origin> {
    match state {
        TcpState::SYN_SENT => Some(Origin::SynSent),
        // A full socket in SYN-RECV may also be that of a simultaneous open.
        TcpState::SYN_RECV | TcpState::NEW_SYN_RECV if is_mini => Some(Origin::SynRecv),
        _ => None,
    }
}

/// Tells of which destroy events the connection may go on without its socket. Where both ends of a
/// connection within this host are recorded, they tell.
pub fn in_doubt(records_both_ends: bool) -> IsInDoubt {
    Box::new(move |event| {
        let flow = Flow::new(Protocol::Tcp, &event.tuple());
        event.protocol() == Some(Protocol::Tcp)
            && flow.is_some_and(|flow| !(records_both_ends && flow.is_within_host()))
            && Evidence::of(&event.observe(Protocol::Tcp)).is_some_and(|said| said.may_go_on())
    })
}

/// What may be left of a connection whose socket is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remnant {
    /// Nothing, or that has been seen.
    None,
    /// A TIME-WAIT, which began as it was active for the last time.
    TimeWait,
    /// The same, or a FIN-WAIT-2 that becomes one later.
    FinWait2,
    /// A FIN-WAIT-2 for sure, or what became of it.
    HalfClosed,
}

/// What a destroy event says of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Final {
    /// The final counters.
    Full(Evidence),
    /// The socket was disconnected and its counters were wiped; whether it had been established, where
    /// that is known.
    Wiped { was_established: Option<bool> },
}

impl Final {
    /// Whether the connection may go on without its socket.
    pub(super) fn may_go_on(&self) -> bool {
        matches!(self, Self::Full(counters) if counters.may_go_on())
    }

    /// Whether one that was reset, as this tells, may have another end that is told in full: data were left unread, so it
    /// may be this end that sent the RST; or payload was never acknowledged, so it may have met an end that is shut
    /// down and held, and answers with a RST.
    pub(super) fn may_face_whole(&self, direction: Option<Direction>) -> bool {
        matches!(self, Self::Full(counters)
            if counters.rqueue != 0 || counters.may_have_lost_payload(direction))
    }

    /// Who opened the connection, as far as this tells.
    pub(super) fn origin(&self) -> Option<Origin> {
        match self {
            Self::Full(counters) => counters.origin_of_final(),
            Self::Wiped { was_established } => {
                (*was_established == Some(false)).then_some(Origin::NothingReceived)
            }
        }
    }
}

/// All that is known of a connection that is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    pub(super) direction: Option<Direction>,
    /// It was seen in a state that the peer's FIN leads to.
    pub(super) has_peer_fin: bool,
    pub(super) was_in_time_wait: bool,
    /// It was never seen but as a connection request, and its end would have been told had it
    /// become a socket.
    pub(super) is_vanished_request: bool,
    /// No dump showed it, and it may have been a subflow of MPTCP, which the kernel disconnects also
    /// when it is over.
    pub(super) may_be_subflow: bool,
    /// The last counters that a dump showed.
    pub(super) last: Option<Evidence>,
    pub(super) last_words: Option<Final>,
    /// What was left of it when its destroy event was read, where that was looked up.
    pub(super) left: Option<Left>,
}

impl Life {
    /// How it ended, as far as this end tells.
    pub(super) fn ending(&self) -> Option<Ending> {
        if self.was_in_time_wait {
            return Some(Ending::TimeWait);
        }
        let last_words = match self.last_words {
            Some(Final::Full(counters)) => counters,
            Some(Final::Wiped { was_established }) => {
                if self.last.map_or(self.may_be_subflow, |last| last.is_subflow) {
                    return None;
                }
                return was_established.map(|was_established| match was_established {
                    true => Ending::Disconnected,
                    false => Ending::NothingReceived,
                });
            }
            None => return self.is_vanished_request.then_some(Ending::RequestVanished),
        };
        if !last_words.has_heard {
            return Some(Ending::NothingReceived);
        }
        if last_words.is_fin_acked(self.direction)? {
            return Some(self.ending_with_fin(&last_words));
        }
        if !last_words.is_waiting() {
            return Some(Ending::FinNotAcked);
        }
        self.last.and_then(|last| timed_out(&last, &last_words))
    }

    /// Whether our FIN was acknowledged, as far as the final counters tell.
    pub(super) fn is_fin_acked(&self) -> Option<bool> {
        match &self.last_words {
            Some(Final::Full(last)) => last.is_fin_acked(self.direction),
            _ => None,
        }
    }

    /// Whether its other end may be one that is told in full, if it was reset.
    pub(super) fn may_face_whole(&self) -> bool {
        self.last_words.is_some_and(|said| said.may_face_whole(self.direction))
    }

    /// What may be left of it.
    pub(super) fn remnant(&self) -> Remnant {
        match &self.last_words {
            None if self.was_in_time_wait => Remnant::TimeWait,
            Some(Final::Full(last)) => match last.is_fin_acked(self.direction) {
                Some(false) => Remnant::None,
                _ if self.left == Some(Left::Nothing) => Remnant::None,
                _ if self.left == Some(Left::FinWait2) => Remnant::HalfClosed,
                Some(true) if last.is_peer_open() => Remnant::HalfClosed,
                _ if self.left == Some(Left::TimeWait) => Remnant::FinWait2,
                Some(true) if !last.has_peer_fin() => Remnant::FinWait2,
                _ => Remnant::TimeWait,
            },
            None | Some(Final::Wiped { .. }) => Remnant::None,
        }
    }

    /// Whether it was waiting for an answer when it ended: it may have timed out.
    pub(super) fn was_stalled(&self) -> bool {
        match &self.last_words {
            Some(Final::Full(counters)) => counters.is_waiting(),
            _ => self.last.as_ref().is_some_and(Evidence::is_waiting),
        }
    }

    fn ending_with_fin(&self, last_words: &Evidence) -> Ending {
        if last_words.left_by_fin == Some(Left::TimeWait) {
            Ending::TimeWait
        } else if self.has_peer_fin || last_words.has_peer_fin() {
            Ending::BothFins
        } else if last_words.is_peer_open() || self.left == Some(Left::FinWait2) {
            Ending::HalfClosed
        } else {
            Ending::FinAcked
        }
    }
}

/// Whether a connection that was being retransmitted or probed when it was last seen ended because
/// nothing came any more. A reset would have come in as a segment; a reset of our own, as of a
/// socket that was killed, would have gone out as one more segment than the retransmissions.
fn timed_out(last: &Evidence, last_words: &Evidence) -> Option<Ending> {
    if last_words.segs_in? != last.segs_in? || last_words.rqueue != last.rqueue {
        return None;
    }
    let sent = last_words.segs_out?.wrapping_sub(last.segs_out?);
    let again = last_words.total_retrans?.wrapping_sub(last.total_retrans?);
    if last.retransmits > 0 && last_words.probes == 0 && sent == again {
        return Some(Ending::Retransmits);
    }
    // The kernel resets a peer that answers no probe: one segment more than the probes.
    let probed = last_words.probes.checked_sub(last.probes)?;
    (last.probes > 0 && sent == u32::from(probed) + 1).then_some(Ending::Probes)
}

/// How a connection ended whose other end is on this host and has ended too.
pub(super) fn ending_with_peer(own: Option<Ending>, peer: Option<Ending>) -> Option<Ending> {
    let is_open = own.is_none_or(Ending::is_one_sided);
    match peer {
        // Disconnected after both had closed.
        Some(Ending::TimeWait) if own == Some(Ending::Disconnected) => Some(Ending::BothFins),
        Some(peer) if is_open && peer.is_reset() => Some(Ending::PeerReset),
        Some(Ending::TimeWait | Ending::BothFins) if is_open => Some(Ending::BothFins),
        Some(peer) if peer.is_one_sided() && own.is_some_and(Ending::is_one_sided) => {
            Some(Ending::BothFins)
        }
        _ => own,
    }
}
