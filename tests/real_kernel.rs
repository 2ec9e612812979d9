//! Dumps of the running kernel, decoded, against what the sockets say of themselves through their
//! descriptors: getsockname(), getsockopt(), ioctl(), fstat(), /proc/net/tcp.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::dump::{Dump, Sighting, sighting};
use common::facts::{Facts, Identity, Info, now_ms, own_uid};
use common::sockets::{self, Connection, Deferred, Held, Listener, Route, Traffic};
use common::tcp_info::{self, u32_at};
use common::{Differences, not_here, not_run, note, wait};
use socket2::Socket;
use sockrec::kernel::{DiagSocket, DumpEnd, has_net_admin};
use sockrec::model::{
    CongestionInfo, Family, MptcpInfo, Observation, Protocol, SocketMemory, States, TcpInfo,
    TcpState, Timer,
};

/// The kernel counts in jiffies, of up to 10 ms, and both ends of a difference are cut.
const JIFFIES_MS: i64 = 20;

// The comparison.

/// What a socket says of itself.
struct Told {
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
fn at_rest(held: &Held) -> (Told, Sighting, Told) {
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
fn compare(held: &Held) {
    if held.socket.is_some() {
        compare_open(held);
    } else if held.is_mini {
        compare_mini(held);
    } else {
        compare_orphan(held);
    }
}

#[track_caller]
fn compare_open(held: &Held) {
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

fn compare_tcp_info(
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
fn compare_times(
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

fn memory_of(words: &[u32]) -> SocketMemory {
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
fn congestion_bytes(info: CongestionInfo) -> Vec<u8> {
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
fn compare_mini(held: &Held) {
    let seen = sighting(&held.identity);
    compare_mini_sighting(held, &seen);
}

#[track_caller]
fn compare_mini_sighting(held: &Held, seen: &Sighting) {
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
fn compare_orphan(held: &Held) {
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
fn compare_all(all: impl IntoIterator<Item = Held>) {
    // All are held until all are compared.
    let all: Vec<Held> = all.into_iter().collect();
    all.iter().for_each(compare);
}

fn everywhere(test: impl Fn(Route)) {
    Route::available().into_iter().for_each(test);
}

// Socket by socket.

#[test]
fn a_listener_shows_its_backlog_and_its_limit() {
    everywhere(|route| {
        let held = sockets::listening(route, 7, 3);
        let seen = sighting(&held[0].identity);
        let o = seen.observe();
        assert_eq!((o.rqueue, o.wqueue), (Some(3), Some(7)), "{}", held[0].what);
        compare_all(held);
    });
}

#[test]
fn a_listener_for_ipv6_only_says_so() {
    if !Route::available().contains(&Route::Mapped) {
        return;
    }
    for only in [true, false] {
        let listener = Listener::open_with(Route::Mapped, 1, |socket| {
            socket.set_only_v6(only).expect("IPV6_V6ONLY");
        });
        let seen = sighting(&listener.socket.identity());
        assert_eq!(seen.observe().v6only, Some(only));
    }
}

#[test]
fn an_established_connection_is_what_both_ends_say() {
    everywhere(|route| {
        let traffic = Traffic::SOME;
        let held = sockets::established(route, traffic);
        let [client, server] = held.each_ref().map(|h| sighting(&h.identity));
        let (client, server) = (client.observe(), server.observe());
        let d = &mut Differences::of(format!("{route} traffic"));
        let bytes = |n: u32| Some(u64::from(n));
        d.equal("client sent", client.tcp.bytes_sent, bytes(traffic.to_server));
        d.equal("client's SYN and data are acked", client.tcp.bytes_acked, bytes(3001));
        d.equal("client received", client.tcp.bytes_received, bytes(traffic.to_client));
        d.equal("client left", client.rqueue, Some(traffic.client_left));
        d.equal("server sent", server.tcp.bytes_sent, bytes(traffic.to_client));
        d.equal("server's data are acked", server.tcp.bytes_acked, bytes(traffic.to_client));
        d.equal("server received", server.tcp.bytes_received, bytes(traffic.to_server));
        d.equal("server left", server.rqueue, Some(traffic.server_left));
        compare_all(held);
    });
}

#[test]
fn a_connection_through_a_dual_stack_listener_is_mapped_at_one_end_only() {
    if !Route::available().contains(&Route::Mapped) {
        return;
    }
    let held = sockets::established(Route::Mapped, Traffic::SOME);
    let [client, server] = held.each_ref().map(|h| sighting(&h.identity));
    assert_eq!(client.observe().family, Family::Inet);
    assert_eq!(server.observe().family, Family::Inet6);
    assert_eq!(server.tuple().remote.address.to_string(), "::ffff:127.0.0.1");
    assert_eq!(server.tuple().remote.address.to_canonical(), client.tuple().local.address);
    assert_eq!(server.tuple().remote.port, client.tuple().local.port);
}

#[test]
fn a_half_closed_connection_is_fin_wait_2_and_close_wait() {
    everywhere(|route| compare_all(sockets::half_closed(route)));
}

#[test]
fn ends_that_wait_behind_stuck_data_are_fin_wait_1_closing_and_last_ack() {
    everywhere(|route| {
        compare_all(sockets::fin_wait_1(route));
        compare_all(sockets::closing(route));
        compare_all(sockets::last_ack(route));
    });
}

#[test]
fn a_client_without_an_answer_is_syn_sent() {
    everywhere(|route| compare_all(sockets::syn_sent(route)));
}

#[test]
fn a_bound_socket_that_does_nothing_is_shown_as_closed() {
    everywhere(|route| {
        let held = sockets::bound_inactive(route);
        let dump = Dump::make(held.identity.family, Protocol::Tcp, States::ALL);
        assert!(dump.is_whole(), "{:?}", dump.end);
        if dump.find(held.identity.cookie).is_none() && linux_before(6, 8) {
            return not_here("BOUND_INACTIVE", "this kernel does not show it before 6.8");
        }
        compare(&held);
    });
}

fn linux_before(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

#[test]
fn udp_sockets_show_memory_as_queue_and_have_no_tcp_info() {
    everywhere(|route| {
        let held = sockets::udp(route);
        let seen = sighting(&held[0].identity);
        let payload = sockets::DATAGRAMS * sockets::DATAGRAM_BYTES;
        assert!(seen.observe().rqueue > Some(payload), "{:?}", seen.observe());
        compare_all(held);
        compare_all(sockets::udp_connected(route));
    });
}

#[test]
fn a_time_wait_has_no_owner_no_queues_and_no_counters() {
    everywhere(|route| {
        let before = now_ms();
        let held = sockets::time_wait(route);
        let after = now_ms();
        compare(&held);
        let expires = sighting(&held.identity).times.timer_expires_at_ms.expect("it has a timer");
        // TCP_TIMEWAIT_LEN
        let entered = expires - 60_000;
        assert!(
            (before - JIFFIES_MS..=after + JIFFIES_MS).contains(&entered),
            "entered between {before} and {after}, its timer says {entered}"
        );
    });
}

#[test]
fn a_connection_shut_down_by_both_is_time_wait_although_its_descriptor_is_open() {
    everywhere(|route| {
        let (held, socket) = sockets::time_wait_with_descriptor(route);
        assert_eq!(socket.tcp_state(), Some(TcpState::CLOSE));
        compare(&held);
    });
}

#[test]
fn an_orphaned_fin_wait_2_is_a_mini_socket() {
    everywhere(|route| compare_all(sockets::orphaned_fin_wait_2(route)));
}

#[test]
fn an_orphan_keeps_its_counters_and_loses_its_inode() {
    everywhere(|route| {
        compare_all(sockets::orphaned_fin_wait_1(route));
        compare_all(sockets::long_orphaned_fin_wait_2(route));
    });
}

#[test]
fn a_request_is_a_mini_socket_and_its_connection_keeps_the_cookie() {
    everywhere(|route| {
        let deferred = Deferred::open(route);
        let tuple = deferred.request();
        let family = route.server_family();
        let request = wait::until_some("a dump shows the request", || {
            Dump::make(family, Protocol::Tcp, States::ALL).find_tuple(&tuple).cloned()
        });
        let cookie = request.cookie();
        compare_mini_sighting(&deferred.held_request(cookie), &request);
        let connection = deferred.complete(100);
        assert_eq!(connection.server.cookie(), cookie, "{route}");
        compare_all(sockets::hold(route, connection));
    });
}

#[test]
fn a_connection_has_no_inode_until_it_is_accepted_and_keeps_its_cookie() {
    everywhere(|route| {
        let listener = Listener::open(route, 2);
        let client = listener.fill(1).remove(0);
        let tuple = sockets::server_tuple(&client, route);
        let waiting = wait::until_some("a dump shows the connection", || {
            let dump = Dump::make(route.server_family(), Protocol::Tcp, States::ALL);
            dump.find_tuple(&tuple).cloned()
        });
        let o = waiting.observe();
        assert_eq!((o.state, o.inode, o.is_mini), (TcpState::ESTABLISHED, None, false), "{route}");
        let server = listener.accept();
        assert_eq!(server.cookie(), o.cookie, "{route}");
        assert_eq!(sighting(&server.identity()).observe().inode, Some(server.inode()), "{route}");
    });
}

// Option by option.

#[test]
fn options_that_were_set_are_shown() {
    everywhere(|route| {
        let connection = Connection::open_with(
            route,
            |client| {
                rustix::net::sockopt::set_tcp_congestion(client, "reno").expect("TCP_CONGESTION");
                client.set_int_option(libc::IPPROTO_IP, libc::IP_TOS, 0x28).expect("IP_TOS");
                client.set_int_option(libc::SOL_SOCKET, libc::SO_PRIORITY, 5).expect("SO_PRIORITY");
                client.set_int_option(libc::IPPROTO_IP, libc::IP_RECVERR, 1).expect("IP_RECVERR");
                client.set_recv_buffer_size(20_000).expect("SO_RCVBUF");
                client.set_send_buffer_size(30_000).expect("SO_SNDBUF");
                if client.family() == Family::Inet6 {
                    client
                        .set_int_option(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0x48)
                        .expect("IPV6_TCLASS");
                }
            },
            |_| {},
        );
        Traffic::SOME.flow(&connection);
        let held = sockets::hold(route, connection);
        let seen = sighting(&held[0].identity);
        let o = seen.observe();
        let d = &mut Differences::of(&held[0].what);
        d.equal("congestion control", o.congestion_control, Some("reno"));
        d.equal("tos", o.tos, Some(0x28));
        d.equal("tclass", o.tclass, (o.family == Family::Inet6).then_some(0x48));
        d.equal("priority", o.class_id, Some(5));
        d.equal("IP_RECVERR", o.socket_options.map(|b| b & 1), Some(1));
        // The kernel doubles what was asked for.
        d.equal("rcvbuf", o.memory.rcvbuf_bytes, Some(40_000));
        d.equal("sndbuf", o.memory.sndbuf_bytes, Some(60_000));
        compare_all(held);
    });
}

#[test]
fn a_mark_is_shown_to_those_who_may_know_it() {
    let listener = Listener::open(Route::V4, 1);
    if !has_net_admin() {
        assert_eq!(sighting(&listener.socket.identity()).observe().mark, None);
        return not_run("a mark that is set", "that needs CAP_NET_ADMIN");
    }
    listener.socket.set_int_option(libc::SOL_SOCKET, libc::SO_MARK, 4711).expect("SO_MARK");
    assert_eq!(sighting(&listener.socket.identity()).observe().mark, Some(4711));
}

#[test]
fn a_socket_bound_to_a_device_shows_it() {
    const LOOPBACK: i32 = 1;
    everywhere(|route| {
        let listener = Listener::open_with(route, 1, |socket| {
            socket
                .set_int_option(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, LOOPBACK)
                .expect("SO_BINDTOIFINDEX");
        });
        let Connection { client, server } = Connection::through(&listener);
        let interface = |socket: &Socket| sighting(&socket.identity()).tuple().interface;
        assert_eq!(interface(&listener.socket), 1, "{route}");
        assert_eq!(interface(&server), 1, "{route}: inherited");
        assert_eq!(interface(&client), 0, "{route}");
    });
}

#[test]
fn a_socket_is_in_the_cgroup_of_its_process() {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").expect("there are cgroups");
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let at = path.and_then(|path| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        Some(format!("{}{path}", mount.split(' ').nth(4)?))
    });
    let Some(at) = at else {
        return not_run("the cgroup's id", "there is no mounted cgroup v2 here");
    };
    use std::os::unix::fs::MetadataExt;
    let id = std::fs::metadata(&at).expect("the process's own cgroup").ino();
    let listener = Listener::open(Route::V4, 1);
    assert_eq!(sighting(&listener.socket.identity()).observe().cgroup_id, Some(id), "{at}");
}

#[test]
fn a_keepalive_timer_is_shown_with_the_moment_that_it_fires() {
    everywhere(|route| {
        let Connection { client, server } = Connection::open(route);
        sockets::transfer(&server, &client, 10);
        let idle_s = 500;
        client.set_int_option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle_s).expect("TCP_KEEPIDLE");
        let before = now_ms();
        client.set_int_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).expect("SO_KEEPALIVE");
        let after = now_ms();
        let seen = sighting(&client.identity());
        assert_eq!(seen.observe().timer, Timer::KEEPALIVE);
        let fires = seen.times.timer_expires_at_ms.expect("it runs") - i64::from(idle_s) * 1000;
        let wander = JIFFIES_MS + seen.between_ms.1 - seen.between_ms.0;
        assert!(
            (before - JIFFIES_MS..=after + wander).contains(&fires),
            "{route}: set between {before} and {after}, by the dump at {fires}"
        );
    });
}

#[test]
fn activity_is_shown_at_the_moment_that_it_was() {
    everywhere(|route| {
        let Connection { client, server } = Connection::open(route);
        let quiet = sighting(&client.identity());
        assert_eq!(quiet.times.last_data_sent_at_ms, None, "{route}: nothing was sent");
        assert_eq!(quiet.times.last_data_recv_at_ms, None, "{route}: nothing came");
        let before = now_ms();
        sockets::transfer(&client, &server, 100);
        let after = now_ms();
        let d = &mut Differences::of(format!("{route} client and server"));
        let mut between = |what: &str, seen: &Sighting, at: Option<i64>| {
            let earliest = before - JIFFIES_MS;
            let latest = after + JIFFIES_MS + seen.between_ms.1 - seen.between_ms.0;
            d.holds(
                &format!("{what} at {at:?}, within {earliest}..={latest}"),
                at.is_some_and(|at| (earliest..=latest).contains(&at)),
            );
        };
        let seen = sighting(&client.identity());
        between("client's last data sent", &seen, seen.times.last_data_sent_at_ms);
        between("client's last ack received", &seen, seen.times.last_ack_recv_at_ms);
        let seen = sighting(&server.identity());
        between("server's last data received", &seen, seen.times.last_data_recv_at_ms);
    });
}

#[test]
fn an_idle_socket_is_the_same_bytes_in_every_dump() {
    everywhere(|route| {
        let held = sockets::established(route, Traffic::SOME);
        for held in &held {
            // Its last acknowledgments may still be under way.
            wait::until("two dumps say the same", || {
                let first = sighting(&held.identity);
                wait::until("time has passed", || now_ms() > first.between_ms.1 + JIFFIES_MS);
                let second = sighting(&held.identity);
                first.bytes() == second.bytes()
            });
        }
    });
}

// Dumps.

#[test]
fn a_dump_shows_only_the_states_that_were_asked_for() {
    everywhere(|route| {
        let all = sockets::every_state(route);
        let deferred = Deferred::open(route);
        let socket = &mut DiagSocket::open().expect("sock_diag is there");
        let named = TcpState::NAMED.map(|(state, _)| state);
        let families = [route.client_family(), route.server_family()];
        for (family, protocol) in
            families.into_iter().flat_map(|f| [(f, Protocol::Tcp), (f, Protocol::Udp)])
        {
            let ours: Vec<&Held> = all
                .iter()
                .filter(|h| (h.identity.family, h.identity.protocol) == (family, protocol))
                .collect();
            let mut dump = |states| {
                let dump = Dump::make_with(socket, family, protocol, states);
                assert!(dump.is_whole(), "{:?}", dump.end);
                dump
            };
            for state in named {
                let only = States::only(state);
                for (states, asked_for) in [(only, true), (States::ALL.without(only), false)] {
                    let dump = dump(states);
                    for seen in &dump.sightings {
                        // Connections of others change while they are dumped; ours do not.
                        let held = ours.iter().find(|h| h.identity.cookie == seen.cookie());
                        if let Some(held) = held {
                            assert!(states.contains(held.asked_by), "{} by {states:?}", held.what);
                        }
                    }
                    for held in ours.iter().filter(|h| (h.asked_by == state) == asked_for) {
                        if held.asked_by == TcpState::BOUND_INACTIVE && linux_before(6, 8) {
                            continue;
                        }
                        let again = || {
                            let dump = Dump::make(family, protocol, states);
                            dump.find(held.identity.cookie).is_some()
                        };
                        if dump.find(held.identity.cookie).is_none() {
                            wait::until(&format!("{} by {states:?}", held.what), again);
                        }
                    }
                }
            }
            assert_eq!(dump(States::NONE).sightings.len(), 0, "no state, no socket");
        }
        wait::until("a dump of requests shows ours", || {
            let requests = States::only(TcpState::SYN_RECV);
            let requests = requests.union(States::only(TcpState::NEW_SYN_RECV));
            let dump = Dump::make(route.server_family(), Protocol::Tcp, requests);
            dump.find_tuple(&deferred.request()).is_some()
        });
    });
}

#[test]
fn a_dump_of_listeners_shows_listeners_only() {
    everywhere(|route| {
        let held = sockets::listening(route, 3, 1);
        let cookie = held[0].identity.cookie;
        let listeners = States::only(TcpState::LISTEN);
        wait::until("a dump of listeners shows ours", || {
            let dump = Dump::make(route.server_family(), Protocol::Tcp, listeners);
            assert!(dump.is_whole(), "{:?}", dump.end);
            assert!(dump.sightings.iter().all(|s| s.state() == TcpState::LISTEN));
            dump.find(cookie).is_some()
        });
        let others = States::ALL.without(listeners);
        let dump = Dump::make(route.server_family(), Protocol::Tcp, others);
        assert!(dump.is_whole(), "{:?}", dump.end);
        assert!(dump.sightings.iter().all(|s| s.state() != TcpState::LISTEN));
    });
}

#[test]
fn a_dump_that_the_kernel_cannot_make_is_unsupported_and_not_empty() {
    let mut found = false;
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let dump = Dump::make(family, protocol, States::ALL);
            match dump.end {
                DumpEnd::Unsupported => {
                    found = true;
                    assert!(dump.sightings.is_empty());
                }
                DumpEnd::Complete | DumpEnd::Interrupted => {}
                DumpEnd::Failed { .. } | DumpEnd::NotAsked | DumpEnd::Partial(_) => {
                    panic!("{} {}: {:?}", protocol.name(), family.name(), dump.end)
                }
            }
        }
    }
    if !found {
        not_here(
            "an unsupported dump",
            "this kernel can dump every protocol that can be asked for",
        );
    }
}

#[test]
fn a_netlink_socket_can_go_on_after_an_unsupported_dump() {
    let listener = Listener::open(Route::V4, 1);
    let socket = &mut DiagSocket::open().expect("sock_diag is there");
    for protocol in Protocol::ALL {
        Dump::make_with(socket, Family::Inet, protocol, States::ALL);
    }
    wait::until("its next dump shows the listener", || {
        let dump = Dump::make_with(socket, Family::Inet, Protocol::Tcp, States::ALL);
        assert!(dump.is_whole(), "{:?}", dump.end);
        dump.find(listener.socket.cookie()).is_some()
    });
}

#[test]
fn a_raw_socket_is_shown_with_its_protocol_as_port() {
    let dump = Dump::make(Family::Inet, Protocol::Raw, States::ALL);
    if dump.end == DumpEnd::Unsupported {
        return not_here("RAW", "this kernel has no raw_diag");
    }
    let protocol = 253; // for experiments
    let raw = socket2::Type::from(libc::SOCK_RAW);
    let socket = match Socket::new(socket2::Domain::IPV4, raw, Some(protocol.into())) {
        Ok(socket) => socket,
        Err(e) => return not_run("RAW", &format!("a raw socket cannot be had: {e}")),
    };
    let cookie = socket.cookie();
    let seen = wait::until_some("a dump shows the raw socket", || {
        Dump::make(Family::Inet, Protocol::Raw, States::ALL).find(cookie).cloned()
    });
    let o = seen.observe();
    assert_eq!(o.tuple.local.port, 253);
    assert_eq!(o.inode, Some(socket.inode()));
    assert_eq!(o.uid, Some(socket.uid()));
    assert_eq!(o.memory, memory_of(&socket.memory()));
    assert_eq!(o.tcp, TcpInfo::default());
}

#[test]
fn an_mptcp_connection_is_shown_and_so_are_its_subflows() {
    everywhere(|route| {
        let listener = match Listener::open_mptcp(route, 2) {
            Ok(listener) => listener,
            Err(e) => return not_here("MPTCP", &format!("the kernel has none: {e}")),
        };
        let dump = Dump::make(route.server_family(), Protocol::Mptcp, States::ALL);
        if dump.end == DumpEnd::Unsupported {
            return not_here("MPTCP", "the kernel has MPTCP, but no mptcp_diag");
        }
        assert!(dump.is_whole(), "{:?}", dump.end);
        let connection = Connection::through(&listener);
        // The first data complete the handshake of MPTCP.
        Traffic::SOME.flow(&connection);
        for (who, socket) in [("client", &connection.client), ("server", &connection.server)] {
            compare_mptcp(&format!("{route} MPTCP {who}"), socket);
        }
        let dump = Dump::make(route.server_family(), Protocol::Mptcp, States::ALL);
        let queue = dump.find_exactly(&listener.socket.identity(), 0).expect("it is shown");
        let o = queue.observe();
        assert_eq!((o.state, o.rqueue, o.wqueue), (TcpState::LISTEN, Some(0), Some(2)), "{route}");
        assert_eq!((o.mptcp, o.tcp), Default::default(), "{route}: the kernel leaves it at zero");
    });
}

#[track_caller]
fn compare_mptcp(what: &str, socket: &Socket) {
    let identity = socket.identity();
    assert_eq!(identity.protocol, Protocol::Mptcp, "{what}");
    let (told, seen) = wait::until_some(&format!("{what} stands still"), || {
        let still = || (socket.mptcp_info().bytes[..84].to_vec(), socket.memory());
        let before = still();
        let dump = Dump::make(identity.family, Protocol::Mptcp, States::ALL);
        let seen = dump.find_exactly(&identity, 0)?.clone();
        (before == still()).then(|| (socket.mptcp_info(), seen))
    });
    let memory = socket.memory();
    let o = seen.observe();
    let d = &mut Differences::of(what);
    d.equal("state", o.state, TcpState::ESTABLISHED);
    d.equal("tuple", o.tuple, identity.tuple(0));
    d.equal("inode", o.inode, Some(socket.inode()));
    d.equal("uid", o.uid, Some(socket.uid()));
    d.equal("memory", o.memory.clone(), memory_of(&memory));
    let b = &told.bytes;
    let u8_at = |at: usize| b.get(at).copied();
    let u32_at = |at: usize| b.get(at..at + 4).map(|w| tcp_info::u32_at(w, 0));
    let u64_at = |at: usize| b.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    d.equal(
        "mptcp_info",
        o.mptcp.clone(),
        MptcpInfo {
            subflows: u8_at(0),
            add_addr_signal: u8_at(1),
            add_addr_accepted: u8_at(2),
            subflows_max: u8_at(3),
            add_addr_signal_max: u8_at(4),
            add_addr_accepted_max: u8_at(5),
            flags: u32_at(8),
            token: u32_at(12),
            write_seq: u64_at(16),
            snd_una: u64_at(24),
            rcv_nxt: u64_at(32),
            local_addr_used: u8_at(40),
            local_addr_max: u8_at(41),
            csum_enabled: u8_at(42),
            retransmits: u32_at(44),
            subflows_total: u8_at(80),
            endp_laminar_max: u8_at(81),
            endp_fullmesh_max: u8_at(82),
        },
    );
    let counters = TcpInfo {
        bytes_retrans: u64_at(48),
        bytes_sent: u64_at(56),
        bytes_received: u64_at(64),
        bytes_acked: u64_at(72),
        ..TcpInfo::default()
    };
    d.equal("counters", o.tcp.clone(), counters);
    d.equal("tail", o.info_tail, b.get(96..).unwrap_or(&[]));
    for (name, seen_at, at) in [
        ("last_data_sent", seen.times.last_data_sent_at_ms, 84),
        ("last_data_recv", seen.times.last_data_recv_at_ms, 88),
        ("last_ack_recv", seen.times.last_ack_recv_at_ms, 92),
    ] {
        let Some(ago) = u32_at(at) else { continue };
        let (first, last) = told.between_ms;
        let (asked, read) = seen.between_ms;
        let earliest = first - i64::from(ago) - JIFFIES_MS;
        let latest = last - i64::from(ago) + JIFFIES_MS + (read - asked);
        d.holds(
            &format!("{name} at {seen_at:?} is within {earliest}..={latest}"),
            seen_at.is_some_and(|at| (earliest..=latest).contains(&at)),
        );
    }
    // Its subflow is a TCP socket of its own, with the same ends.
    let subflow = wait::until_some("a dump shows the subflow", || {
        let dump = Dump::make(identity.family, Protocol::Tcp, States::ALL);
        dump.find_tuple(&identity.tuple(0)).cloned()
    });
    let o = subflow.observe();
    d.equal("subflow's ulp", o.ulp, Some("mptcp"));
    d.holds("a subflow has its own cookie", o.cookie != identity.cookie);
    d.holds("a subflow has ULP information", !o.ulp_info.is_empty());
}

/// The kernel copies the listener's cookie, if it has one by then, into what MPTCP accepts. So a
/// cookie alone is no key there: the tuple has to be part of it.
#[test]
fn accepted_mptcp_connections_with_one_cookie_are_all_shown() {
    let Ok(listener) = Listener::open_mptcp(Route::V4, 2) else {
        return not_here("MPTCP", "the kernel has none");
    };
    if Dump::make(Family::Inet, Protocol::Mptcp, States::ALL).end == DumpEnd::Unsupported {
        return not_here("MPTCP", "the kernel has MPTCP, but no mptcp_diag");
    }
    let of_listener = listener.socket.cookie();
    let connections: Vec<Connection> = (0..3).map(|_| Connection::through(&listener)).collect();
    let servers: Vec<Identity> = connections.iter().map(|c| c.server.identity()).collect();
    if servers.iter().all(|server| server.cookie != of_listener) {
        note("this kernel gives accepted MPTCP connections cookies of their own");
    }
    wait::until("one dump shows all of them and the listener", || {
        let dump = Dump::make(Family::Inet, Protocol::Mptcp, States::ALL);
        dump.find_exactly(&listener.socket.identity(), 0).is_some()
            && servers.iter().all(|server| dump.find_exactly(server, 0).is_some())
    });
}

#[test]
fn a_dump_completes_while_connections_come_and_go() {
    const CONNECTIONS: u32 = 5_000;
    // More than fit into one datagram of a dump.
    const AT_ONCE: usize = 150;
    everywhere(|route| {
        let steady = (0..5).flat_map(|_| sockets::established(route, Traffic::SOME));
        let steady: Vec<Held> = steady.collect();
        let is_over = AtomicBool::new(false);
        let (dumps, churned) = thread::scope(|scope| {
            let churn = scope.spawn(|| {
                let _over = SetOnDrop(&is_over);
                sockets::churn(route, CONNECTIONS, AT_ONCE)
            });
            let mut socket = DiagSocket::open().expect("sock_diag is there");
            let mut dumps = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                for family in Family::ALL {
                    let dump = Dump::make_with(&mut socket, family, Protocol::Tcp, States::ALL);
                    dumps.push((family, Summary::of(family, dump, &steady)));
                }
            }
            (dumps, churn.join().expect("the churn did not fail"))
        });
        let churned: HashMap<u64, Identity> =
            churned.into_iter().map(|identity| (identity.cookie, identity)).collect();
        assert_eq!(churned.len(), CONNECTIONS as usize, "no cookie comes twice");

        let mut sighted = 0;
        for (family, summary) in &dumps {
            assert!(
                matches!(summary.end, DumpEnd::Complete | DumpEnd::Interrupted),
                "{route} {family:?}: {:?}",
                summary.end
            );
            for (cookie, tuple) in &summary.sockets {
                if let Some(identity) = churned.get(cookie) {
                    sighted += 1;
                    assert_eq!(*tuple, identity.tuple(0), "{route}: one cookie, one connection");
                }
            }
        }
        let duplicates: usize = dumps.iter().map(|(_, s)| s.duplicates).sum();
        let misses: usize = dumps.iter().map(|(_, s)| s.missing.len()).sum();
        for family in Family::ALL {
            let of_family = dumps.iter().filter(|(f, _)| *f == family).map(|(_, s)| s);
            let of_family: Vec<&Summary> = of_family.collect();
            for pair in of_family.windows(2) {
                let twice = pair[0].missing.iter().find(|cookie| pair[1].missing.contains(cookie));
                assert_eq!(twice, None, "{route}: two dumps in a row lack a living socket");
            }
        }
        println!(
            "{route}: {} dumps, {sighted} sightings of churned clients, {duplicates} duplicates, \
             {misses} misses of living sockets",
            dumps.len()
        );
        assert!(sighted > 0, "{route}: the dumps saw something of it");
        compare_all(steady);
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is kept of each dump during the churn.
struct Summary {
    end: DumpEnd,
    sockets: Vec<(u64, sockrec::model::Tuple)>,
    duplicates: usize,
    /// Cookies of living sockets that it lacks.
    missing: Vec<u64>,
}

impl Summary {
    fn of(family: Family, dump: Dump, steady: &[Held]) -> Self {
        let by_cookie = dump.by_cookie();
        Self {
            // One that is being torn down may be shown closed, with half of its tuple wiped.
            sockets: by_cookie
                .iter()
                .filter(|(_, s)| s.observe().state != TcpState::CLOSE)
                .map(|(cookie, s)| (*cookie, s.tuple()))
                .collect(),
            duplicates: dump.sightings.len() - by_cookie.len(),
            missing: steady
                .iter()
                .filter(|h| h.identity.family == family)
                .map(|h| h.identity.cookie)
                .filter(|cookie| !by_cookie.contains_key(cookie))
                .collect(),
            end: dump.end,
        }
    }
}
