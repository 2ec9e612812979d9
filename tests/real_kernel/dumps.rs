//! Dumps as a whole: what was asked for, what the kernel cannot do, other protocols, and much that comes and
//! goes meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::dump::Dump;
use crate::common::facts::{Facts, Identity};
use crate::common::sockets::{Connection, Deferred, Held, Listener, Route, Traffic};
use crate::common::{Differences, not_here, not_run, note, sockets, tcp_info, wait};
use crate::compare::{JIFFIES_MS, compare_all, everywhere, memory_of};
use crate::states::linux_before;
use socket2::Socket;
use sockrec::kernel::{DiagSocket, DumpEnd};
use sockrec::model::{Family, MptcpInfo, Protocol, States, TcpInfo, TcpState};

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
                    let mut whole = identity.tuple(0);
                    if tuple.local.port == 0 {
                        whole.local.port = 0; // it is being closed, and its port is free already
                    }
                    assert_eq!(*tuple, whole, "{route}: one cookie, one connection");
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
