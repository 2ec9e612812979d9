//! What a timewait mini-socket is left of: by its cookie, or by its addresses and ports and when it began.

use super::{Death, Gone, Register, Rows};
use crate::model::{EndUpdate, Ending, FIN_WAIT2_MAX_NS, Nanos, Origin, SocketId};
use crate::record::batch::Batch;
use crate::record::ending::{Life, Remnant};
use crate::record::flows::{Flow, Member, REUSE_MIN_NS};
use crate::record::last_words::JIFFY_NS;
use crate::record::traffic::{Moment, Traffic};

/// What a timewait mini-socket is left of.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) enum LeftOf {
    /// No socket that is known.
    Nobody,
    /// A socket whose destroy event was read.
    Socket(Gone),
    /// What is still to be read may tell: that of another connection, or that of the other end.
    NotToldYet,
}

/// A timewait mini-socket that a dump shows.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Mini {
    /// Since when it is one.
    pub(in crate::record) began: Moment,
    /// And not in FIN-WAIT-2.
    pub(in crate::record) is_time_wait: bool,
}

impl Mini {
    /// Whether it may be left of a connection of which this is the other end. That one's FIN, which is the last of
    /// both, began it.
    pub(super) fn may_be_left_by_peer_of(&self, other: &Member) -> bool {
        let Some(dead) = other.dead.as_deref().filter(|_| self.is_time_wait) else { return true };
        let has_sent_no_fin = dead.traffic.as_ref().is_some_and(Traffic::has_no_fin_acked);
        let last_active = dead.active_ns.zip(other.there.over_ns);
        let is_then = last_active.is_none_or(|(from_ns, to_ns)| {
            self.began.apart_ns(&Moment { from_ns, to_ns }) <= JIFFY_NS
        });
        is_then && !has_sent_no_fin
    }
}

impl LeftOf {
    /// One that no dump ever showed.
    fn unseen(socket: SocketId) -> Self {
        Self::Socket(Gone { socket, generation: 0, state: None, rows: Rows::default() })
    }
}

impl Register {
    /// The socket of this cookie: its destroy event was read, or dumps had lacked it, and it has not been
    /// connected anew since.
    pub(in crate::record) fn over(&self, cookie: u64, flow: Option<&Flow>) -> Option<Gone> {
        self.gone(cookie).or_else(|| self.held_as(cookie, flow)?.gone)
    }

    /// Whether a mini-socket with its cookie is left of it. It leaves but one, and another may have been taken for that.
    pub(in crate::record) fn left_of_gone(&mut self, gone: Gone, flow: Option<&Flow>) -> LeftOf {
        if let Some(dead) = flow.and_then(|flow| self.flows.dead_mut(flow, gone.socket)) {
            if dead.has_left && gone.rows.last.is_none() {
                return LeftOf::Nobody;
            }
            dead.leave();
        }
        LeftOf::Socket(gone)
    }

    /// The mini-socket with this cookie is seen, and so the dumps that lacked it missed it.
    pub(in crate::record) fn missed(&mut self, cookie: u64, flow: Option<&Flow>, out: &mut Batch) {
        if let Some(held) = self.held_as(cookie, flow) {
            let update = EndUpdate { shown_over: Some(self.now), ..EndUpdate::default() };
            out.end_updates.push((held.socket, update));
        }
    }

    /// The socket that a timewait mini-socket with a cookie of its own is left of. It leaves but one.
    /// The event of one that began its TIME-WAIT after `told_ns` may not have been read.
    pub(in crate::record) fn left_of(
        &mut self,
        flow: &Flow,
        mini: Mini,
        told_ns: Nanos,
        has_waited: bool,
    ) -> LeftOf {
        let began_ns = mini.began.from_ns;
        let latest = self.flows.get(flow);
        // One that was freed before this capture came after who was left open by then.
        if let Some(&(socket, began_by_ns)) = self.freed.get(flow)
            && latest.is_none_or(|latest| latest.socket < socket)
        {
            self.freed.remove(flow);
            if began_ns <= began_by_ns + JIFFY_NS {
                return LeftOf::unseen(socket);
            }
        }
        let Some(member) = latest else { return LeftOf::Nobody };
        let (socket, over_ns) = (member.socket, member.there.over_ns);
        let active_ns = member.dead.as_ref().and_then(|dead| dead.active_ns);
        let may_be_of_others = self.may_be_of_others(flow, active_ns);
        let is_told_apart = member.is_sharp() || !may_be_of_others;
        let latest_other = self.flows.get(&flow.reversed());
        // The TIME-WAIT of the other end may have been seen, and its event is still to come.
        let in_time_wait = latest_other.filter(|o| o.was_in_time_wait() && o.fits(member));
        let other = self.flows.other_end(flow, member).or(in_time_wait);
        let peer_over_ns = match (other, latest_other) {
            // Its program may hold the socket long after that.
            (Some(other), _) => other.dead.as_ref().map(|_| other.there.over_ns),
            // Another connection has its addresses and ports.
            (None, Some(latest)) if member.was_before(latest) => Some(None),
            _ => None,
        };
        let may_wait = other.is_some() || !may_be_of_others;
        let may_be_left = other.is_none_or(|other| mini.may_be_left_by_peer_of(other));
        let other = other.map(|other| other.socket);
        let remnant = self.remnant_of_this_tick(flow, socket, other);
        // A FIN that comes again, as its acknowledgement was lost, starts the timer anew
        // (`tcp_timewait_state_process`).
        let may_restart = self.listens && self.is_all_told && !flow.is_within_host();
        let Some(dead) = self.flows.dead_mut(flow, socket).filter(|dead| dead.is_unseen) else {
            return LeftOf::Nobody;
        };
        let Some(destroyed_ns) = dead.destroyed_ns else { return LeftOf::Nobody };
        let remnant = remnant.filter(|_| dead.remnant != Remnant::None).unwrap_or(dead.remnant);
        let began_by_ns = match (remnant, peer_over_ns) {
            (Remnant::None, _) => return LeftOf::Nobody,
            _ if !may_be_left || !is_told_apart => return LeftOf::Nobody,
            (Remnant::TimeWait, _) => over_ns.unwrap_or(destroyed_ns),
            // In FIN-WAIT-2 it is since the socket was freed.
            _ if !mini.is_time_wait => destroyed_ns,
            // Of an other end that is not known it is not known either whether it has sent a RST.
            (Remnant::FinWait2, _) if !may_wait => over_ns.unwrap_or(destroyed_ns),
            // It goes on half-closed as long as the other end is there.
            (Remnant::FinWait2 | Remnant::HalfClosed, Some(by_ns)) => {
                by_ns.unwrap_or(destroyed_ns).max(destroyed_ns)
            }
            (Remnant::FinWait2, None) => told_ns.max(destroyed_ns),
            // It keeps its addresses and ports from others.
            (Remnant::HalfClosed, None) => told_ns.max(destroyed_ns + FIN_WAIT2_MAX_NS),
        };
        if began_ns <= began_by_ns + JIFFY_NS {
            dead.leave();
            LeftOf::unseen(socket)
        } else if remnant == Remnant::TimeWait && may_restart {
            // The latest that told of its end; whoever has not told yet may hold its socket, or its event is unread.
            if (has_waited && mini.began.to_ns <= told_ns) || began_ns + REUSE_MIN_NS <= told_ns {
                dead.leave();
                return LeftOf::unseen(socket);
            }
            LeftOf::NotToldYet
        } else if remnant != Remnant::TimeWait
            && !matches!(peer_over_ns, Some(Some(_)))
            && began_ns > told_ns
        {
            LeftOf::NotToldYet
        } else {
            LeftOf::Nobody
        }
    }

    /// What may be left of a connection that died in this tick, by the listeners seen since.
    fn remnant_of_this_tick(
        &self,
        flow: &Flow,
        socket: SocketId,
        other: Option<SocketId>,
    ) -> Option<Remnant> {
        let death = &self.deaths[*self.death_of.get(&socket)?];
        let told_by = |death: &Death| death.origin.or(death.life?.last_words?.origin());
        let of_peer = || Some(&self.deaths[*self.death_of.get(&other?)?]);
        let origin = told_by(death).or_else(|| Some(told_by(of_peer()?)?.of_peer()));
        let direction = origin.map(Origin::direction);
        let direction =
            direction.or_else(|| self.direction_by_listeners(flow, death.begun_by_ns()));
        Some(Life { direction, ..death.life? }.remnant())
    }

    /// A connection that has ended is seen in TIME-WAIT.
    pub(in crate::record) fn seen_in_time_wait(
        &mut self,
        flow: Option<&Flow>,
        socket: SocketId,
        out: &mut Batch,
    ) {
        if let Some(&death) = self.death_of.get(&socket) {
            if let Some(life) = &mut self.deaths[death].life {
                life.was_in_time_wait = true;
            }
            return;
        }
        let dead = flow.and_then(|flow| self.flows.dead_mut(flow, socket));
        let known = dead.as_ref().and_then(|dead| dead.ending);
        if matches!(known, Some(Ending::BothFins | Ending::TimeWait)) {
            return;
        }
        if let Some(dead) = dead {
            dead.ending = Some(Ending::TimeWait);
        }
        let update = EndUpdate { ending: Some(Ending::TimeWait), ..EndUpdate::default() };
        out.end_updates.push((socket, update));
    }

    /// Whether nothing but the TIME-WAIT was seen of the latest connection with these addresses and ports.
    pub(in crate::record) fn has_time_wait(&self, flow: &Flow) -> bool {
        let dead = self.flows.get(flow).and_then(|member| member.dead.as_deref());
        dead.is_some_and(|dead| {
            dead.is_unseen && dead.destroyed_ns.is_none() && dead.remnant == Remnant::TimeWait
        })
    }
}
