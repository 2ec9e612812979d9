//! Socket by socket, in every state.

use crate::common::dump::{Dump, sighting};
use crate::common::facts::{Facts, now_ms};
use crate::common::sockets::{Deferred, Listener, Route, Traffic};
use crate::common::{Differences, not_here, sockets, wait};
use crate::compare::{JIFFIES_MS, compare, compare_all, compare_mini_sighting, everywhere};
use sockrec::model::{Family, Protocol, States, TcpState};

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

pub(crate) fn linux_before(major: u32, minor: u32) -> bool {
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
