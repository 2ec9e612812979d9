//! What was set or happens on a socket, fact by fact.

use crate::common::dump::{Sighting, sighting};
use crate::common::facts::{Facts, now_ms};
use crate::common::sockets::{Connection, Listener, Route, Traffic};
use crate::common::{Differences, not_run, sockets, wait};
use crate::compare::{JIFFIES_MS, compare_all, everywhere};
use socket2::Socket;
use sockrec::kernel::has_net_admin;
use sockrec::model::{Family, Timer};

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
