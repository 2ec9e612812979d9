//! Who opened a connection: what listeners, counters and states tell of it.

use std::net::Ipv4Addr;

use sockrec::model::TcpState;

use crate::events::{a, lives};
use crate::socket::FakeSocket;
use crate::world::World;

#[test]
fn a_listener_tells_who_opened_a_connection() {
    // Nothing in the counters tells: one byte beyond the payload is a SYN or a FIN.
    let untold = FakeSocket { bytes_acked: 101, ..a().opened_at(1_400) };
    let server = FakeSocket { bytes_sent: 0, bytes_acked: 1, ..untold.peer(2) };
    let listener = FakeSocket::listener(9, 80, 0, 16);
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]);
    world.tells(&[server.destroyed()]).shows(&[&listener]);
    world.tells(&[FakeSocket { cookie: 3, ..untold.opened_at(2_400) }.destroyed()]);
    world.shows(&[&listener]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "direction", "direction_evidence"]),
        [
            "cookie=9 direction=- direction_evidence=-",
            "cookie=2 direction=inbound direction_evidence=listener",
            "cookie=3 direction=outbound direction_evidence=remote_listener",
        ]
    );
}

#[test]
fn a_client_that_is_reset_is_no_acceptor_though_something_listens_on_its_port() {
    let listener =
        FakeSocket { local_address: Ipv4Addr::UNSPECIFIED, ..FakeSocket::listener(9, 80, 0, 16) };
    let told = [
        (1, "direction=outbound ending=reset ending_evidence=fin_not_acked"),
        (2, "direction=inbound ending=- ending_evidence=fin_acked"),
        (0, "direction=inbound ending=- ending_evidence=fin_acked"),
    ];
    for (delivered, expected) in told {
        let socket = FakeSocket {
            local_port: 80,
            bytes_sent: 0,
            bytes_acked: 1,
            bytes_received: 5,
            data_segs_out: 0,
            data_segs_in: 1,
            delivered,
            ..a().to_afar().opened_at(1_650)
        };
        let mut world = World::with_events();
        world.shows(&[&listener]).shows(&[&listener]);
        world.tells(&[socket.destroyed()]).shows(&[&listener]);
        world.record();
        let rows = lives(&world, &["direction", "ending", "ending_evidence"]);
        assert_eq!(rows[1], expected, "delivered {delivered}");
    }
}

/// No SYN but ours can be counted, wherever listeners are; that none was counted may be a byte that was
/// on its way.
#[test]
fn where_a_listener_and_the_counters_contradict_each_other_only_a_counted_syn_tells() {
    let columns = ["cookie", "direction", "direction_evidence"];
    let server = a().opened_at(1_400).peer(2);
    let server = FakeSocket { bytes_acked: server.bytes_sent + 2, ..server };
    let listener = FakeSocket::listener(9, 80, 0, 16);
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]);
    world.tells(&[server.destroyed()]).shows(&[&listener]);
    world.record();
    assert_eq!(
        lives(&world, &columns)[1],
        "cookie=2 direction=outbound direction_evidence=syn_counted"
    );

    let client = FakeSocket { bytes_acked: 100, ..a().opened_at(1_400) };
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]);
    world.tells(&[client.destroyed()]).shows(&[&listener]);
    world.record();
    assert_eq!(lives(&world, &columns)[1], "cookie=1 direction=- direction_evidence=-");
}

/// Its counters do not tell who opened it: one byte beyond the payload is a SYN or a FIN.
fn untold(cookie: u64, remote_port: u16) -> FakeSocket {
    let a = FakeSocket::established(cookie, 6_881, remote_port).to_afar();
    FakeSocket { bytes_acked: a.bytes_sent + 1, ..a }
}

fn listener_of_all(cookie: u64, port: u16) -> FakeSocket {
    let listener = FakeSocket::listener(cookie, port, 0, 16);
    FakeSocket { local_address: Ipv4Addr::UNSPECIFIED, ..listener }
}

#[test]
fn a_listener_from_whose_port_someone_dials_out_tells_nothing() {
    let listener = listener_of_all(9, 6_881);
    let accepted = untold(1, 40_001).opened_at(1_400);
    let dialled = untold(2, 6_881).opened_at(2_500);
    let after = untold(3, 40_002).opened_at(3_400);
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]).tells(&[accepted.destroyed()]);
    world.shows(&[&listener]).shows(&[&listener, &dialled]).tells(&[after.destroyed()]);
    world.shows(&[&listener, &dialled]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "direction", "direction_evidence", "ending"]),
        [
            "cookie=9 direction=- direction_evidence=- ending=-",
            "cookie=1 direction=inbound direction_evidence=listener ending=-",
            "cookie=2 direction=outbound direction_evidence=syn_counted ending=-",
            "cookie=3 direction=- direction_evidence=- ending=-",
        ]
    );
}

#[test]
fn a_listener_tells_of_those_who_came_before_it_went() {
    let listener = listener_of_all(9, 6_881);
    let mut world = World::with_events();
    world.shows(&[&listener]).shows(&[&listener]);
    // It goes at 1,700.
    world.tells(&[listener.destroyed()]).shows(&[]);
    let (before, after) = (untold(1, 40_001).opened_at(1_200), untold(2, 443).opened_at(2_600));
    world.tells(&[before.destroyed(), after.destroyed()]).shows(&[]);
    world.record();
    assert_eq!(
        lives(&world, &["cookie", "direction", "direction_evidence"])[1..],
        [
            "cookie=1 direction=inbound direction_evidence=listener",
            "cookie=2 direction=- direction_evidence=-",
        ]
    );
}

#[test]
fn who_heard_nothing_opened_it_whatever_listens_there() {
    let a = a().opened_at(1_400);
    for event in [a.refused(), a.connecting().destroyed()] {
        let mut world = World::with_events();
        let listener = FakeSocket {
            local_address: Ipv4Addr::UNSPECIFIED,
            ..FakeSocket::listener(7, a.local_port, 0, 128)
        };
        world.shows(&[&listener]).shows(&[&listener]).tells(&[event]).shows(&[&listener]);
        world.record();
        assert_eq!(
            lives(&world, &["cookie", "direction", "direction_evidence", "ending"])[1],
            "cookie=1 direction=outbound direction_evidence=nothing_received \
             ending=not_established"
        );
    }
}

/// Without events nothing but the next dump tells that it is gone.
#[test]
fn a_listener_that_a_dump_lacks_tells_nothing_of_who_is_new_in_it() {
    let listener = listener_of_all(9, 6_881);
    let told = |is_shown: bool| {
        let rest = untold(1, 443).opened_at(1_300).time_wait_since(1_500);
        let mut world = World::default();
        world.shows(&[&listener]).shows(&[&listener]);
        match is_shown {
            true => world.shows(&[&listener, &rest]),
            false => world.shows(&[&rest]),
        };
        world.record();
        lives(&world, &["cookie", "direction"])[1].clone()
    };
    assert_eq!(told(true), "cookie=1 direction=inbound");
    assert_eq!(told(false), "cookie=1 direction=-");
}

/// Two sockets of this host dial each other: the first dump shows but one of them in SYN-SENT.
#[test]
fn who_dialled_was_not_dialled_though_the_other_end_dialled_too() {
    let (client, other) = (a(), FakeSocket { bytes_acked: 101, bytes_sent: 100, ..a().peer(2) });
    let (in_syn_sent, in_syn_recv) = (client.connecting(), other.in_state(TcpState::SYN_RECV));
    let columns = ["cookie", "direction", "direction_evidence"];
    let both = [
        "cookie=1 direction=outbound direction_evidence=syn_sent",
        "cookie=2 direction=outbound direction_evidence=syn_counted",
    ];
    let mut world = World::with_events();
    world.shows(&[]).shows(&[&in_syn_sent, &in_syn_recv]).shows(&[&client, &other]);
    world.record();
    assert_eq!(lives(&world, &columns), both);

    let mut world = World::with_events();
    world.shows(&[]).shows(&[&in_syn_sent, &in_syn_recv]);
    world.tells(&[other.fin_acked().destroyed()]).shows(&[&client]);
    world.record();
    assert_eq!(lives(&world, &columns), both);
}

/// It was reset: what is delivered is not its FIN. One that was accepted as the kernel's ticks began to count
/// anew looks like it, but for when something went.
#[test]
fn who_was_dialled_while_it_dialled_opened_it() {
    let wrap_ms = 300_000;
    let socket = FakeSocket {
        bytes_sent: 0,
        bytes_acked: 1,
        data_segs_out: 0,
        delivered: 2,
        last_data_recv_at_ms: wrap_ms,
        ..a().to_afar().opened_at(1_650)
    };
    let accepted = FakeSocket { last_data_sent_at_ms: wrap_ms, ..socket.clone() };
    for (socket, told) in [
        (socket, "direction=outbound direction_evidence=syn_counted ending=reset"),
        (accepted, "direction=inbound direction_evidence=syn_not_counted ending=-"),
    ] {
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&[socket.destroyed()]).shows(&[]);
        world.record();
        assert_eq!(lives(&world, &["direction", "direction_evidence", "ending"]), [told]);
    }
}

/// With TCP Fast Open it may have closed before its handshake was over, which then counts as no segment.
#[test]
fn what_was_delivered_tells_nothing_where_data_came_with_the_syn() {
    let socket = FakeSocket {
        bytes_sent: 0,
        bytes_acked: 1,
        bytes_received: 30,
        data_segs_out: 0,
        data_segs_in: 1,
        delivered: 1,
        options: 32,
        ..a().to_afar().opened_at(1_650)
    };
    for (state, told) in [
        (None, "direction=- ending=-"),
        (Some(TcpState::TIME_WAIT), "direction=inbound ending=orderly"),
    ] {
        let rest = state.map(|state| socket.time_wait_since(1_690).in_state(state));
        let mut world = World::with_events();
        world.shows(&[]).shows(&[]).tells(&[socket.destroyed()]);
        world.shows(&rest.iter().collect::<Vec<_>>());
        world.record();
        assert_eq!(lives(&world, &["direction", "ending"]), [told]);
    }
}
