//! How sockets come and go, as the register is told of it.

use super::FirstSight;
use crate::model::{
    EndEvidence, FormerSocket, Nanos, NetnsId, NewSocket, Protocol, Remains, RemainsEnd,
    SnapshotId, SocketEnd, TcpState, TupleTold,
};
use crate::record::batch::Batch;
use crate::record::ending::Life;
use crate::record::flows::{Flow, There};
use crate::record::live::{Live, Sighting};
use crate::record::register::{Death, LeftOf, Mini, Register};
use crate::wire::inet_diag::Message;

pub(super) fn is_same(former: &FormerSocket, message: &Message<'_>) -> bool {
    let tuple = message.tuple();
    (former.tuple.local, former.tuple.remote) == (tuple.local, tuple.remote)
}

/// The socket that a timewait mini-socket is left of, by its cookie or by its addresses. It was told to wait
/// where an earlier dump showed it too.
pub(super) fn left_of(
    register: &mut Register,
    seen: &Sighting<'_>,
    told_ns: Nanos,
    has_waited: bool,
) -> LeftOf {
    if !(seen.is_over() && seen.message.is_mini()) {
        return LeftOf::Nobody;
    }
    let flow = seen.flow();
    match (register.over(seen.message.cookie(), flow.as_ref()), flow) {
        (Some(gone), flow) => register.left_of_gone(gone, flow.as_ref()),
        (None, Some(flow)) => {
            let mini = Mini { began: seen.remains_began(), is_time_wait: seen.is_time_wait() };
            register.left_of(&flow, mini, told_ns, has_waited)
        }
        (None, None) => LeftOf::Nobody,
    }
}

/// Adds a socket with its first row. Of a connection that is over already only the remains are seen.
pub(super) fn announce(
    live: &mut Live,
    seen: &Sighting<'_>,
    netns: NetnsId,
    first: FirstSight,
    register: &mut Register,
    out: &mut Batch,
) {
    live.origin = seen.origin();
    let message = &seen.message;
    // Whoever is closed and held was so when it was first shown.
    let over_ns = match seen.is_time_wait() {
        true => Some(seen.open_by_ns()),
        false => seen.is_closed_and_held().then_some(first.shown_by_ns),
    };
    register.birth(
        NewSocket {
            id: live.socket,
            netns,
            cookie: message.cookie(),
            generation: live.generation,
            family: message.family(),
            protocol: seen.protocol,
            tuple: message.tuple(),
            owner: live.known(),
            first_snapshot: Some(seen.snapshot),
            opened_after: first.opened_after,
            open_ms: seen.open_ms(),
            told: TupleTold::Whole,
            origin: live.origin,
            peer: None,
        },
        There {
            open_by_ns: Some(seen.open_by_ns()),
            open_slack_ns: (seen.made_at.by_ms - seen.made_at.after_ms) * 1_000_000,
            alive_ns: seen.alive_ns(),
            over_ns,
            traffic: None,
        },
        out,
    );
    live.write_row(seen.snapshot, seen.protocol, out);
    note_listener(register, live, seen);
    note_subflow(register, seen);
    if seen.is_over() {
        let mut death = live.death(Some(seen.snapshot), Some(seen.over_evidence()), seen.protocol);
        (death.end.last_snapshot, death.end.last_sample, death.end.samples) = (None, None, 0);
        death.end.state = None;
        death.is_unseen = message.is_mini();
        death.over_ns = over_ns;
        if let Some(life) = &mut death.life {
            (life.was_in_time_wait, life.last) = (seen.is_time_wait(), None);
        }
        register.death(death);
        live.is_over = true;
        begin_remains(live, seen, false, register, out);
    }
}

/// A connection ends, and something is left of it.
pub(super) fn end_life(
    live: &mut Live,
    mut death: Death,
    seen: &Sighting<'_>,
    register: &mut Register,
    out: &mut Batch,
) {
    death.over_ns = seen.is_time_wait().then(|| seen.open_by_ns());
    if let Some(life) = &mut death.life {
        life.was_in_time_wait = seen.is_time_wait();
    }
    register.death(death);
    live.is_over = true;
    begin_remains(live, seen, false, register, out);
}

pub(super) fn begin_remains(
    live: &Live,
    seen: &Sighting<'_>,
    has_own_cookie: bool,
    register: &mut Register,
    out: &mut Batch,
) {
    let cookie = has_own_cookie.then(|| seen.message.cookie());
    let time_wait = seen.is_time_wait().then_some(seen.snapshot);
    let (socket, first_snapshot) = (live.socket, seen.snapshot);
    let time_wait_ms = seen.time_wait_ms();
    register.half_closed.remove(socket);
    let is_new = socket >= register.first_new;
    out.remains.push(Remains { socket, cookie, is_new, first_snapshot, time_wait, time_wait_ms });
    if seen.is_time_wait() {
        register.seen_in_time_wait(seen.flow().as_ref(), live.socket, out);
    }
}

/// Whether subflows of MPTCP are used.
pub(super) fn note_subflow(register: &mut Register, seen: &Sighting<'_>) {
    if !register.has_subflows && !seen.message.is_mini() {
        let is_subflow = || seen.message.observe(seen.protocol).ulp == Some("mptcp");
        register.has_subflows = seen.protocol == Protocol::Mptcp || is_subflow();
    }
}

pub(super) fn note_listener(register: &mut Register, live: &Live, seen: &Sighting<'_>) {
    if seen.message.state() == TcpState::LISTEN {
        let is_v6_only = seen.message.observe(seen.protocol).v6only == Some(true);
        let kind = (seen.message.family(), seen.protocol);
        register.listeners.add(live.socket, kind, &seen.message.tuple(), is_v6_only);
    }
}

/// Ends a socket that dumps showed, or what was left of it.
pub(super) fn end_live(
    live: &Live,
    closed_before: Option<SnapshotId>,
    evidence: Option<EndEvidence>,
    protocol: Protocol,
    register: &mut Register,
    out: &mut Batch,
) {
    if live.is_over {
        out.remains_ends.push(live.remains_end(closed_before));
        register.bury(live.cookie(), live.gone());
        return;
    }
    if live.state == TcpState::LISTEN {
        let now = closed_before.unwrap_or(live.last_seen);
        register.listeners.close(live.socket, (protocol, live.local_port()), now, None);
    }
    let mut death = live.death(closed_before, evidence, protocol);
    let is_told = register.listens && register.is_all_told;
    if let Some(life) = &mut death.life {
        let is_absent = evidence == Some(EndEvidence::Absence);
        let is_alone = register.is_latest(death.flow.as_ref(), live.socket);
        life.is_vanished_request = is_absent && is_told && live.is_request() && is_alone;
    }
    register.death(death);
}

pub(super) fn end_former(
    former: &FormerSocket,
    closed_before: Option<SnapshotId>,
    evidence: EndEvidence,
    register: &mut Register,
    out: &mut Batch,
) {
    if former.is_remains {
        out.remains_ends.push(RemainsEnd {
            socket: former.id,
            last_snapshot: former.last_snapshot,
            gone_before: closed_before,
            last_sample: former.last_sample,
            samples: former.samples,
        });
    } else {
        register.death(death_of_former(former, closed_before, Some(evidence)));
    }
}

pub(super) fn death_of_former(
    former: &FormerSocket,
    closed_before: Option<SnapshotId>,
    evidence: Option<EndEvidence>,
) -> Death {
    let flow = Flow::new(former.protocol, &former.tuple);
    Death {
        end: SocketEnd {
            socket: former.id,
            last_snapshot: Some(former.last_snapshot),
            closed_before,
            evidence,
            last_sample: Some(former.last_sample),
            samples: former.samples,
            state: Some(former.state),
            ending: None,
            destroyed: None,
            counters: former.counters,
            has_final_counters: false,
        },
        cookie: former.cookie,
        generation: former.generation,
        flow,
        peer: None,
        origin: former.origin,
        life: (flow.is_some() && former.protocol == Protocol::Tcp).then(Life::default),
        open_by_ns: None,
        over_ns: None,
        active_ns: None,
        last_received: None,
        traffic: None,
        is_unseen: false,
    }
}
