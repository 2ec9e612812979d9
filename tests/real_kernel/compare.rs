//! What a dump says of a socket, and what the socket says of itself.

use crate::common::dump::{Sighting, sighting};
use crate::common::facts::{Facts, Info, own_uid};
use crate::common::sockets::{Held, Route};
use crate::common::tcp_info::u32_at;
use crate::common::{Differences, note, tcp_info, wait};
use socket2::Socket;
use sockrec::kernel::has_net_admin;
use sockrec::model::{
    CongestionInfo, MptcpInfo, Observation, Protocol, SocketMemory, TcpInfo, TcpState, Timer,
};

/// The kernel counts in jiffies, of up to 10 ms, and both ends of a difference are cut.
pub(crate) const JIFFIES_MS: i64 = 20;

/// What a socket says of itself.
pub(crate) struct Told {
    inode: u32,
    uid: u32,
    interface: u32,
    /// Unread and unacknowledged bytes of a connection.
    queues: (u32, u32),
    memory: Vec<u32>,
    receive_buffer: u32,
    send_buffer: u32,
    congestion_control: Option<String>,
    congestion_info: Vec<u8>,
    tos: u8,
    tclass: Option<u8>,
    v6only: Option<bool>,
    mark: u32,
    tcp_info: Info,
}

impl Told {
    fn by(socket: &Socket, protocol: Protocol) -> Self {
        let is_udp = protocol == Protocol::Udp;
        let listens = socket.tcp_state() == Some(TcpState::LISTEN);
        Self {
            inode: socket.inode(),
            uid: socket.uid(),
            interface: socket.interface(),
            queues: if is_udp || listens {
                (0, 0) // a listener has no such queues; UDP's are of another measure
            } else {
                (socket.unread(), socket.unacknowledged())
            },
            memory: socket.memory(),
            receive_buffer: socket.receive_buffer(),
            send_buffer: socket.send_buffer(),
            congestion_control: socket.congestion_control(),
            congestion_info: socket.congestion_info(),
            tos: socket.tos(),
            tclass: socket.tclass(),
            v6only: socket.v6only(),
            mark: socket.mark(),
            tcp_info: socket.tcp_info(),
        }
    }

    /// What happened to the socket between these two.
    fn changes(&self, later: &Self) -> Vec<&'static str> {
        let mut changes = tcp_info::changed_bytes(&self.tcp_info.bytes, &later.tcp_info.bytes);
        changes.extend((self.queues != later.queues).then_some("queues"));
        changes.extend((self.memory != later.memory).then_some("memory"));
        changes.extend((self.congestion_info != later.congestion_info).then_some("congestion"));
        changes
    }

    /// `idiag_rqueue` and `idiag_wqueue`.
    fn queues(&self, held: &Held) -> (u32, u32) {
        match (held.identity.protocol, held.state) {
            // Memory in use, not bytes of payload.
            (Protocol::Udp, _) => (self.memory[0], self.memory[2]),
            // tcpi_unacked and tcpi_sacked are a listener's backlog and its limit.
            (_, TcpState::LISTEN) => {
                (u32_at(&self.tcp_info.bytes, 24), u32_at(&self.tcp_info.bytes, 28))
            }
            // The SYN takes a place; SIOCOUTQ does not count it.
            (_, TcpState::SYN_SENT) => (0, 1),
            // A FIN that was not read takes a place; FIONREAD does not count it.
            _ => (self.queues.0 + u32::from(held.shutdown & 1), self.queues.1),
        }
    }
}

/// What the socket said before and after a dump showed it, with nothing having happened to it.
#[track_caller]
pub(crate) fn at_rest(held: &Held) -> (Told, Sighting, Told) {
    wait::until_ok(&format!("{} stands still", held.what), || {
        let before = Told::by(held.socket(), held.identity.protocol);
        let seen = sighting(&held.identity);
        let after = Told::by(held.socket(), held.identity.protocol);
        let changes = before.changes(&after);
        if changes.is_empty() { Ok((before, seen, after)) } else { Err(format!("{changes:?}")) }
    })
}

/// Compares everything that a dump says of the socket.
#[track_caller]
pub(crate) fn compare(held: &Held) {
    if held.socket.is_some() {
        compare_open(held);
    } else if held.is_mini {
        compare_mini(held);
    } else {
        compare_orphan(held);
    }
}

#[track_caller]
pub(crate) fn compare_open(held: &Held) {
    let (before, seen, after) = at_rest(held);
    let o = seen.observe();
    let d = &mut Differences::of(&held.what);
    let state = held.state;
    let is_tcp = held.identity.protocol == Protocol::Tcp;

    d.equal("family", o.family, held.identity.family);
    d.equal("state", o.state, state);
    d.equal("is_mini", o.is_mini, false);
    d.equal("tuple", o.tuple, held.identity.tuple(before.interface));
    d.equal("cookie", o.cookie, held.identity.cookie);
    d.equal("inode", o.inode, Some(before.inode));
    d.equal("uid", o.uid, Some(before.uid));
    d.equal("uid by geteuid", before.uid, own_uid());
    let (rqueue, wqueue) = before.queues(held);
    d.equal("rqueue", o.rqueue, Some(rqueue));
    d.equal("wqueue", o.wqueue, Some(wqueue));
    d.equal("shutdown", o.shutdown, Some(held.shutdown));
    if is_tcp {
        // By poll(), a socket that was never connected has hung up.
        let was_connected =
            !matches!(state, TcpState::LISTEN | TcpState::CLOSE | TcpState::SYN_SENT);
        if was_connected {
            let hung_up = held.socket().hung_up();
            d.equal("shutdown by poll", (held.shutdown & 1 != 0, held.shutdown == 3), hung_up);
        }
    }
    d.equal("tos", o.tos, Some(before.tos));
    d.equal("tclass", o.tclass, before.tclass);
    // The kernel tells it where a socket can still get connections from anywhere.
    let open_to_all = matches!(state, TcpState::LISTEN | TcpState::CLOSE);
    d.equal("v6only", o.v6only, before.v6only.filter(|_| open_to_all));
    d.equal("mark", o.mark, has_net_admin().then_some(before.mark));
    // Of a socket that is bound only the kernel does not tell more than of one of UDP.
    let congestion_control =
        before.congestion_control.as_deref().filter(|_| state != TcpState::CLOSE);
    d.equal("congestion control", o.congestion_control, congestion_control);
    // The kernel asks the congestion control in the states before TIME_WAIT.
    let reports = is_tcp && state.0 < TcpState::TIME_WAIT.0;
    d.equal(
        "congestion",
        o.congestion.map(congestion_bytes).unwrap_or_default(),
        if reports { before.congestion_info.clone() } else { Vec::new() },
    );
    d.equal("socket_options: is_icsk", o.socket_options.map(|b| b & 2 != 0), Some(is_tcp));
    d.equal("memory", o.memory.clone(), memory_of(&before.memory));
    d.equal("rcvbuf", o.memory.rcvbuf_bytes, Some(before.receive_buffer));
    d.equal("sndbuf", o.memory.sndbuf_bytes, Some(before.send_buffer));
    compare_tcp_info(d, held, &o, &before, &after);
    compare_times(d, held, &seen, &o, &before);
    d.equal("mptcp", o.mptcp.clone(), MptcpInfo::default());
    if !o.unknown_attributes.is_empty() {
        note(&format!("this kernel sends attributes not known: {:02x?}", o.unknown_attributes));
    }
}

pub(crate) fn compare_tcp_info(
    d: &mut Differences,
    held: &Held,
    o: &Observation<'_>,
    before: &Told,
    after: &Told,
) {
    if held.identity.protocol != Protocol::Tcp || held.state == TcpState::CLOSE {
        d.equal("tcp_info", o.tcp.clone(), TcpInfo::default());
        d.equal("tcp_info's tail", o.info_tail, &[]);
        return;
    }
    let bytes = &before.tcp_info.bytes;
    for field in tcp_info::FIELDS.iter() {
        let seen = (field.decoded)(&o.tcp);
        let told = field.expected(bytes);
        let of_listener = matches!(
            field.name,
            "snd_cwnd" | "reordering" | "pacing_rate_bytes_per_s" | "max_pacing_rate_bytes_per_s"
        );
        if held.state == TcpState::LISTEN && !of_listener {
            // All else the kernel leaves at zero, or uses for the queue.
            d.equal(field.name, seen, None);
        } else if field.runs {
            let later = field.expected(&after.tcp_info.bytes);
            d.holds(
                &format!("{}: {told:?} <= {seen:?} <= {later:?}", field.name),
                told <= seen && seen <= later,
            );
        } else {
            d.equal(field.name, seen, told);
        }
    }
    d.equal("tcp_info's tail", o.info_tail, bytes.get(tcp_info::KNOWN_BYTES..).unwrap_or(&[]));
}

/// The times of a dump and those of getsockopt(), each made absolute by its own clock readings.
pub(crate) fn compare_times(
    d: &mut Differences,
    held: &Held,
    seen: &Sighting,
    o: &Observation<'_>,
    told: &Told,
) {
    let timer = seen.times.timer_expires_at_ms;
    d.holds(
        &format!("timer {:?} is one that is expected: {:?}", o.timer, held.timer),
        held.timer.allows(o.timer),
    );
    d.equal("timer expires", timer.is_some(), o.timer != Timer::OFF);
    let counter = match o.timer {
        Timer::ON => Some(2),                         // tcpi_retransmits
        Timer::KEEPALIVE | Timer::PERSIST => Some(3), // tcpi_probes
        _ => None,
    };
    let retransmits = counter.map_or(0, |at| told.tcp_info.bytes[at]);
    d.equal("timer's retransmits", o.timer_retransmits, retransmits);
    if let Some(expires) = timer {
        let now = seen.between_ms.1;
        d.holds(
            &format!("timer expires at {expires}, soon after {now}"),
            (now - JIFFIES_MS..now + 130_000).contains(&expires),
        );
    }
    let times = [
        ("last_data_sent", seen.times.last_data_sent_at_ms, o.tcp.data_segs_out),
        ("last_data_recv", seen.times.last_data_recv_at_ms, o.tcp.data_segs_in),
        (
            "last_ack_recv",
            seen.times.last_ack_recv_at_ms,
            o.tcp.segs_in.filter(|_| held.state != TcpState::SYN_SENT),
        ),
    ];
    for ((name, absolute, segments), at) in times.into_iter().zip(tcp_info::LAST) {
        let happened = segments.is_some_and(|n| n > 0);
        d.equal(&format!("{name} happened"), absolute.is_some(), happened);
        let Some(absolute) = absolute else { continue };
        let ago = i64::from(u32_at(&told.tcp_info.bytes, at));
        let (first, last) = told.tcp_info.between_ms;
        let (asked, read) = seen.between_ms;
        // The dump's stamp is of its receipt: later than the kernel's by at most its whole length.
        let earliest = first - ago - JIFFIES_MS;
        let latest = last - ago + JIFFIES_MS + (read - asked);
        d.holds(
            &format!("{name} at {absolute} is within {earliest}..={latest}"),
            (earliest..=latest).contains(&absolute),
        );
    }
}

pub(crate) fn memory_of(words: &[u32]) -> SocketMemory {
    let word = |n: usize| words.get(n).copied();
    SocketMemory {
        rmem_alloc_bytes: word(0),
        rcvbuf_bytes: word(1),
        wmem_alloc_bytes: word(2),
        sndbuf_bytes: word(3),
        fwd_alloc_bytes: word(4),
        wmem_queued_bytes: word(5),
        optmem_bytes: word(6),
        backlog_bytes: word(7),
        drops: word(8),
    }
}

/// The kernel's structure again.
pub(crate) fn congestion_bytes(info: CongestionInfo) -> Vec<u8> {
    let words = match info {
        CongestionInfo::Vegas(v) => {
            vec![v.enabled, v.rtt_count, v.rtt_us, v.min_rtt_us.unwrap_or(0x7fff_ffff)]
        }
        CongestionInfo::Dctcp(v) => {
            let halves = [v.enabled.to_ne_bytes(), v.ce_state.to_ne_bytes()].concat();
            let halves = u32::from_ne_bytes(halves.try_into().expect("4 bytes"));
            vec![halves, v.alpha, v.ab_ecn_bytes, v.ab_tot_bytes]
        }
        CongestionInfo::Bbr(v) => {
            let (low, high) = (v.bw_bytes_per_s & 0xffff_ffff, v.bw_bytes_per_s >> 32);
            let half = |n: u64| u32::try_from(n).expect("32 bits");
            vec![half(low), half(high), v.min_rtt_us, v.pacing_gain, v.cwnd_gain]
        }
    };
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// A mini-socket: what the kernel no longer knows must be unknown, not zero.
#[track_caller]
pub(crate) fn compare_mini(held: &Held) {
    let seen = sighting(&held.identity);
    compare_mini_sighting(held, &seen);
}

#[track_caller]
pub(crate) fn compare_mini_sighting(held: &Held, seen: &Sighting) {
    let o = seen.observe();
    let d = &mut Differences::of(&held.what);
    d.equal("state", o.state, held.state);
    d.equal("is_mini", o.is_mini, true);
    d.equal("tuple", o.tuple, held.identity.tuple(0));
    d.equal("cookie", o.cookie, held.identity.cookie);
    d.holds(&format!("timer {:?} is {:?}", o.timer, held.timer), held.timer.allows(o.timer));
    d.equal("timer expires", seen.times.timer_expires_at_ms.is_some(), true);
    d.equal("rqueue", o.rqueue, None);
    d.equal("wqueue", o.wqueue, None);
    d.equal("uid", o.uid, None);
    d.equal("inode", o.inode, None);
    d.equal("tcp_info", o.tcp.clone(), TcpInfo::default());
    d.equal("memory", o.memory.clone(), SocketMemory::default());
    d.equal("congestion control", o.congestion_control, None);
    d.equal("congestion", o.congestion, None);
    d.equal("tos", o.tos, None);
    d.equal("tclass", o.tclass, None);
    d.equal("shutdown", o.shutdown, None);
    d.equal("v6only", o.v6only, None);
    d.equal("socket_options", o.socket_options, None);
    let last = &seen.times;
    d.equal("last_data_sent", last.last_data_sent_at_ms, None);
    d.equal("last_data_recv", last.last_data_recv_at_ms, None);
    d.equal("last_ack_recv", last.last_ack_recv_at_ms, None);
}

/// A whole socket that nobody has open: it has no inode any more, but its counters.
#[track_caller]
pub(crate) fn compare_orphan(held: &Held) {
    // While a timer fires there is none for a moment.
    let seen = wait::until_some(&format!("{} waits for its timer", held.what), || {
        Some(sighting(&held.identity)).filter(|seen| seen.observe().timer != Timer::OFF)
    });
    let o = seen.observe();
    let d = &mut Differences::of(&held.what);
    d.equal("state", o.state, held.state);
    d.equal("is_mini", o.is_mini, false);
    d.equal("tuple", o.tuple, held.identity.tuple(0));
    d.equal("cookie", o.cookie, held.identity.cookie);
    d.equal("inode", o.inode, None);
    // Root's number is also what older kernels say of every socket without a file.
    d.equal("uid", o.uid, Some(own_uid()).filter(|&uid| uid != 0));
    d.equal("shutdown", o.shutdown, Some(held.shutdown));
    d.holds("its counters are there", o.tcp.segs_out.is_some_and(|n| n > 0));
    d.holds("its memory is there", o.memory.sndbuf_bytes.is_some_and(|n| n > 0));
    d.holds(&format!("timer {:?} is {:?}", o.timer, held.timer), held.timer.allows(o.timer));
    let stuck = held.state == TcpState::FIN_WAIT1;
    d.equal("unacknowledged bytes", o.wqueue.map(|n| n > 0), Some(stuck));
}

#[track_caller]
pub(crate) fn compare_all(all: impl IntoIterator<Item = Held>) {
    // All are held until all are compared.
    let all: Vec<Held> = all.into_iter().collect();
    all.iter().for_each(compare);
}

pub(crate) fn everywhere(test: impl Fn(Route)) {
    Route::available().into_iter().for_each(test);
}
