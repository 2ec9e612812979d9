//! Every way in which a connection, or a socket without one, begins and ends: a script each.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use sockrec::model::{Family, Protocol, TcpState};

use crate::common::facts::{Facts, Identity};
use crate::common::sockets::{self, Listener, Route};
use crate::common::{not_run, wait};
use crate::scene::{Alone, Pair, Scene, Side, lose_everything_for};
use crate::truth::{Direction, End, Ending, LastWord, Log, Span};

/// Plays it and tells what happened.
pub(crate) type Script = fn(&Scene<'_>) -> Vec<End>;

/// Those that take no longer than the kernel does.
pub(crate) const QUICK: &[Script] = &[
    client_first,
    server_first,
    both_at_once,
    half_closed,
    half_closed_for_a_moment,
    shut_down_by_both,
    client_aborts,
    server_aborts,
    client_leaves_data,
    server_leaves_data,
    half_closed_and_aborted,
    closed_and_aborted,
    refused,
    refused_without_waiting,
    refused_and_connected_again,
    tuple_again_while_the_server_waits,
    connected_to_itself,
    connected_to_itself_in_silence,
    listener,
    datagrams_to_anyone,
    datagrams_to_one,
    datagrams_from_a_port_to_one,
    never_used,
];

/// Those that wait: for a snapshot or for a timer of the kernel.
const SLOW: &[Script] = &[
    shut_down_and_kept,
    reset_and_kept,
    half_closed_for_long,
    half_closed_and_aborted_and_kept,
    disconnected_and_connected_again,
    disconnected_and_refused,
    tuple_again_while_the_client_waits,
];

/// Those that have packets lost on their way.
const LOSSY: &[Script] = &[timed_out, keepalive_timed_out, connect_timed_out];

/// Those that wait, as far as they can be played here.
pub(crate) fn slow() -> Vec<Script> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    match lose_everything_for(&socket) {
        Ok(()) => [SLOW, LOSSY].concat(),
        Err(e) => {
            not_run("connections that time out", &format!("no packets can be lost here: {e}"));
            SLOW.to_vec()
        }
    }
}

fn client_first(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client closes first");
    client.close_before(&mut server);
    Pair { client, server }.ends()
}

fn server_first(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "server closes first");
    server.close_before(&mut client);
    Pair { client, server }.ends()
}

fn talked(scene: &Scene<'_>, kind: &'static str) -> Pair {
    let mut pair = scene.open(kind);
    pair.talk();
    pair
}

fn both_at_once(scene: &Scene<'_>) -> Vec<End> {
    let mut pair = talked(scene, "both close at once");
    let Pair { client, server } = &mut pair;
    let barrier = Barrier::new(2);
    let close = |side: &mut Side| {
        barrier.wait();
        side.close()
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| close(server));
        (close(client), other.join().expect("closing does not fail"))
    });
    for side in [&mut pair.client, &mut pair.server] {
        side.end.has_peer_fin = None;
        side.ended(Ending::Orderly, one.with(other));
    }
    pair.ends()
}

fn half_closed(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "half closed");
    client.finish();
    server.await_fin();
    server.send(&mut client, 911);
    client.read(911);
    let ended = server.close();
    client.await_fin();
    client.close();
    client.ended(Ending::Orderly, ended);
    server.ended(Ending::Orderly, ended);
    Pair { client, server }.ends()
}

fn half_closed_for_long(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client closed long before server");
    let identity = Identity {
        family: scene.route().client_family(),
        protocol: Protocol::Tcp,
        cookie: 0,
        local: client.end.local,
        remote: client.end.remote,
    };
    client.close();
    server.await_fin();
    sockets::wait_until_mini(&identity, TcpState::FIN_WAIT2);
    (scene.until_seen)();
    let ended = server.close();
    client.ended(Ending::Orderly, ended);
    server.ended(Ending::Orderly, ended);
    Pair { client, server }.ends()
}

/// Its socket is gone, and nothing that a dump could show, while the connection goes on.
fn half_closed_for_a_moment(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client closed a moment before server");
    client.close();
    server.await_fin();
    thread::sleep(Duration::from_millis(60));
    let ended = server.close();
    client.ended(Ending::Orderly, ended);
    server.ended(Ending::Orderly, ended);
    Pair { client, server }.ends()
}

fn shut_down_by_both(scene: &Scene<'_>) -> Vec<End> {
    shut_down(talked(scene, "both shut down, then close"), &|| {})
}

fn shut_down_and_kept(scene: &Scene<'_>) -> Vec<End> {
    shut_down(talked(scene, "both shut down, descriptors kept"), scene.until_seen)
}

fn shut_down(pair: Pair, meanwhile: &dyn Fn()) -> Vec<End> {
    let Pair { mut client, mut server } = pair;
    client.finish();
    server.await_fin();
    let ended = server.finish();
    client.await_fin();
    meanwhile();
    client.close();
    server.close();
    client.ended(Ending::Orderly, ended);
    server.ended(Ending::Orderly, ended);
    Pair { client, server }.ends()
}

fn client_aborts(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client aborts");
    aborted(&mut client, &mut server, &|| {});
    Pair { client, server }.ends()
}

fn server_aborts(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "server aborts");
    aborted(&mut server, &mut client, &|| {});
    Pair { client, server }.ends()
}

fn reset_and_kept(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "reset, descriptor kept");
    aborted(&mut client, &mut server, scene.until_seen);
    Pair { client, server }.ends()
}

fn aborted(by: &mut Side, other: &mut Side, meanwhile: &dyn Fn()) {
    let ended = by.abort();
    other.await_error(ErrorKind::ConnectionReset);
    meanwhile();
    other.close();
    by.ended(Ending::Reset, ended);
    other.ended(Ending::Reset, ended);
}

fn client_leaves_data(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client closes with unread data");
    leave_data(&mut client, &mut server);
    Pair { client, server }.ends()
}

fn server_leaves_data(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "server closes with unread data");
    leave_data(&mut server, &mut client);
    Pair { client, server }.ends()
}

/// Closing with unread data sends a RST.
fn leave_data(by: &mut Side, other: &mut Side) {
    other.send(by, 313);
    let ended = by.close();
    other.await_error(ErrorKind::ConnectionReset);
    other.close();
    by.ended(Ending::Reset, ended);
    other.ended(Ending::Reset, ended);
}

fn half_closed_and_aborted(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "half closed, then aborted");
    client.finish();
    server.await_fin();
    let ended = server.abort();
    client.await_error(ErrorKind::ConnectionReset);
    client.close();
    client.ended(Ending::Reset, ended);
    server.ended(Ending::Reset, ended);
    Pair { client, server }.ends()
}

/// Its socket is gone when it is reset.
fn closed_and_aborted(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "client closed, server aborts");
    client.close();
    server.await_fin();
    thread::sleep(Duration::from_millis(60));
    let ended = server.abort();
    client.ended(Ending::Reset, ended);
    server.ended(Ending::Reset, ended);
    Pair { client, server }.ends()
}

fn half_closed_and_aborted_and_kept(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "half closed, aborted, and kept");
    client.finish();
    server.await_fin();
    (scene.until_seen)();
    let ended = server.abort();
    client.await_error(ErrorKind::ConnectionReset);
    (scene.until_seen)();
    client.close();
    client.ended(Ending::Reset, ended);
    server.ended(Ending::Reset, ended);
    Pair { client, server }.ends()
}

/// A port of this host that nobody listens on, for as long as it is held.
fn closed_port(scene: &Scene<'_>) -> (Alone, SocketAddr) {
    let held = Alone::open("bound only", scene.asks_cookies, || {
        let socket = socket(scene, Type::STREAM);
        socket.bind(&SocketAddr::new(scene.listener.address().ip(), 0).into()).expect("bind");
        socket
    });
    let address = held.local();
    (held, address)
}

fn socket(scene: &Scene<'_>, kind: Type) -> Socket {
    let domain = match scene.route().client_family() {
        Family::Inet => Domain::IPV4,
        Family::Inet6 => Domain::IPV6,
    };
    Socket::new(domain, kind, None).expect("a socket")
}

/// Nothing but a snapshot at the right moment shows that a port was held.
fn let_port_go(held: Alone) -> End {
    let end = held.close();
    End { is_elusive: true, ..end }
}

/// The end that a refused attempt was: the kernel forgets its local address at once.
fn attempt(
    scene: &Scene<'_>,
    kind: &'static str,
    client: Socket,
    to: SocketAddr,
    tried: Span,
) -> Side {
    let mut side = Side::of(kind, client, Some(Direction::Outbound), tried);
    side.end.local.set_ip(to.ip());
    side.end.remote = to;
    if scene.asks_cookies {
        side.ask_cookie();
    }
    side
}

fn refused(scene: &Scene<'_>) -> Vec<End> {
    let (held, address) = closed_port(scene);
    let client = scene.listener.client();
    let (refusal, tried) = Span::of(|| client.connect(&address.into()));
    assert_eq!(refusal.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    let mut client = attempt(scene, "refused", client, address, tried);
    client.close();
    client.end.last_word = LastWord::Wiped;
    client.ended(Ending::NotEstablished, tried);
    vec![client.end, let_port_go(held)]
}

fn refused_without_waiting(scene: &Scene<'_>) -> Vec<End> {
    let (held, address) = closed_port(scene);
    let client = scene.listener.client();
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let (refusal, tried) = Span::of(|| {
        let connecting = client.connect(&address.into()).expect_err("it does not wait");
        assert_eq!(connecting.raw_os_error(), Some(Errno::INPROGRESS.raw_os_error()));
        poll(&mut [PollFd::new(&client, PollFlags::OUT)], None).expect("poll");
        client.take_error().expect("SO_ERROR").expect("refused")
    });
    assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused);
    let mut client = attempt(scene, "refused, without waiting", client, address, tried);
    client.close();
    client.ended(Ending::NotEstablished, tried);
    vec![client.end, let_port_go(held)]
}

fn refused_and_connected_again(scene: &Scene<'_>) -> Vec<End> {
    let (held, address) = closed_port(scene);
    let client = scene.listener.client();
    let (refusal, tried) = Span::of(|| client.connect(&address.into()));
    assert_eq!(refusal.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    let mut first = attempt(scene, "refused, then connected", client, address, tried);
    let client = first.take_socket();
    first.ended(Ending::NotEstablished, tried);
    first.end.is_elusive = true;
    let mut pair = scene.open_from("connected after a refusal", client);
    pair.talk();
    pair.client.close_before(&mut pair.server);
    [pair.ends(), vec![first.end, let_port_go(held)]].concat()
}

fn disconnected_and_refused(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "disconnected by AF_UNSPEC, then refused");
    (scene.until_seen)();
    let socket = client.take_socket();
    let (disconnected, ended) = Span::of(|| rustix::net::connect_unspec(&socket));
    disconnected.expect("connect(AF_UNSPEC)");
    server.await_error(ErrorKind::ConnectionReset);
    server.close();
    client.ended(Ending::Reset, ended);
    server.ended(Ending::Reset, ended);
    let (held, address) = closed_port(scene);
    let (refusal, tried) = Span::of(|| socket.connect(&address.into()));
    assert_eq!(refusal.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    let mut second = attempt(scene, "refused after AF_UNSPEC", socket, address, tried);
    second.close();
    second.end.last_word = LastWord::Wiped;
    second.ended(Ending::NotEstablished, tried);
    [Pair { client, server }.ends(), vec![second.end, let_port_go(held)]].concat()
}

fn disconnected_and_connected_again(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "disconnected by AF_UNSPEC");
    (scene.until_seen)();
    let socket = client.take_socket();
    let (disconnected, ended) = Span::of(|| rustix::net::connect_unspec(&socket));
    disconnected.expect("connect(AF_UNSPEC)");
    server.await_error(ErrorKind::ConnectionReset);
    server.close();
    client.ended(Ending::Reset, ended);
    server.ended(Ending::Reset, ended);
    let mut again = scene.open_from("connected after AF_UNSPEC", socket);
    say_more(&mut again, 5_000);
    again.talk();
    again.client.close_before(&mut again.server);
    let mut log = Log::default();
    log.add(Pair { client, server }.ends());
    log.add(again.ends());
    log.ends
}

/// Bytes that never arrive.
const UNHEARD: u64 = 77;

/// So long a client waits for an acknowledgment.
const PATIENCE_MS: i32 = 300;

fn set_tcp(socket: &Socket, option: i32, value: i32) {
    socket.set_int_option(libc::IPPROTO_TCP, option, value).expect("a TCP option");
}

fn timed_out(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "timed out");
    set_tcp(client.socket(), libc::TCP_USER_TIMEOUT, PATIENCE_MS);
    server.go_deaf();
    let ((), ended) = Span::of(|| {
        let mut socket = client.socket();
        std::io::Write::write_all(&mut socket, &[b'x'; UNHEARD as usize])
            .expect("it goes into the buffer");
        client.await_error(ErrorKind::TimedOut);
    });
    client.end.sent += UNHEARD;
    client.close();
    client.ended(Ending::TimedOut, ended);
    let ended = server.abort();
    server.ended(Ending::Reset, ended);
    Pair { client, server }.ends()
}

fn keepalive_timed_out(scene: &Scene<'_>) -> Vec<End> {
    let Pair { mut client, mut server } = talked(scene, "keepalive timed out");
    server.go_deaf();
    let ((), ended) = Span::of(|| {
        // The shortest there are: a question after a second, given up a second later.
        set_tcp(client.socket(), libc::TCP_KEEPIDLE, 1);
        set_tcp(client.socket(), libc::TCP_KEEPINTVL, 1);
        set_tcp(client.socket(), libc::TCP_KEEPCNT, 1);
        client.socket().set_keepalive(true).expect("SO_KEEPALIVE");
        client.await_error(ErrorKind::TimedOut);
    });
    client.close();
    client.ended(Ending::TimedOut, ended);
    let ended = server.abort();
    server.ended(Ending::Reset, ended);
    Pair { client, server }.ends()
}

fn connect_timed_out(scene: &Scene<'_>) -> Vec<End> {
    let mut deaf = None;
    let listener = Alone::open("deaf listener", scene.asks_cookies, || {
        let Listener { socket, .. } = deaf.insert(Listener::open(scene.route(), 8));
        lose_everything_for(socket).expect("it can be done to others");
        socket.try_clone().expect("dup")
    });
    let address = deaf.as_ref().expect("it was made").address();
    let client = scene.listener.client();
    set_tcp(&client, libc::TCP_USER_TIMEOUT, PATIENCE_MS);
    let (failure, tried) = Span::of(|| client.connect(&address.into()));
    assert_eq!(failure.expect_err("nobody answers").kind(), ErrorKind::TimedOut);
    let mut client = attempt(scene, "connect timed out", client, address, tried);
    client.close();
    client.end.last_word = LastWord::Wiped;
    client.ended(Ending::NeverAnswered, tried);
    drop(deaf);
    vec![client.end, listener.close()]
}

/// A client from a local port that may be used again at once.
fn client_from(scene: &Scene<'_>, local: Option<SocketAddr>) -> Socket {
    let client = scene.listener.client();
    client.set_reuse_address(true).expect("SO_REUSEADDR");
    let any = SocketAddr::new(scene.listener.address().ip(), 0);
    client.bind(&local.unwrap_or(any).into()).expect("bind");
    client
}

/// Two that send the same within some milliseconds nothing tells apart.
fn say_more(pair: &mut Pair, bytes: u32) {
    pair.client.send(&mut pair.server, bytes);
    pair.server.read(bytes);
}

fn tuple_again_while_the_server_waits(scene: &Scene<'_>) -> Vec<End> {
    let mut log = Log::default();
    let mut local = None;
    let kinds = ["before its tuple is used again", "in a tuple that the server had in TIME_WAIT"];
    for (kind, bytes) in kinds.into_iter().zip([1_000, 5_000]) {
        let mut pair = scene.open_from(kind, client_from(scene, local));
        local = Some(pair.client.end.local);
        say_more(&mut pair, bytes);
        pair.talk();
        pair.server.close_before(&mut pair.client);
        log.add(pair.ends());
    }
    log.ends
}

fn tuple_again_while_the_client_waits(scene: &Scene<'_>) -> Vec<End> {
    let mut log = Log::default();
    let mut first = scene.open_from("before its tuple is used again", client_from(scene, None));
    let local = first.client.end.local;
    say_more(&mut first, 1_000);
    first.talk();
    first.client.close_before(&mut first.server);
    log.add(first.ends());
    // Refused until the TIME_WAIT is a second old (net.ipv4.tcp_tw_reuse).
    let waiting = Alone::open("bound only", scene.asks_cookies, || client_from(scene, Some(local)));
    let mut opened = None;
    wait::until("the kernel lets the tuple be used again", || {
        let (connected, span) =
            Span::of(|| waiting.socket().connect(&scene.listener.address().into()));
        opened = Some(span);
        match connected {
            Ok(()) => true,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::AddrNotAvailable, "{e}");
                false
            }
        }
    });
    let socket = waiting.socket().try_clone().expect("dup");
    let bound = End { is_elusive: true, last_word: LastWord::None, ..waiting.close() };
    let kind = "in a tuple that the client had in TIME_WAIT";
    let mut again = scene.accepted(kind, socket, opened.expect("it was opened"));
    say_more(&mut again, 5_000);
    again.talk();
    again.client.close_before(&mut again.server);
    log.add(again.ends());
    log.add(vec![bound]);
    log.ends
}

fn connected_to_itself(scene: &Scene<'_>) -> Vec<End> {
    to_itself(scene, "connected to itself", 211)
}

/// Without data the kernel tells no handshake of a simultaneous open.
fn connected_to_itself_in_silence(scene: &Scene<'_>) -> Vec<End> {
    to_itself(scene, "connected to itself in silence", 0)
}

fn to_itself(scene: &Scene<'_>, kind: &'static str, bytes: u32) -> Vec<End> {
    let socket = client_from(scene, None);
    let (connected, opened) = Span::of(|| socket.connect(&socket.local().into()));
    connected.expect("a simultaneous open");
    let direction = Some(Direction::Outbound);
    let mut side = Side::of(kind, socket, direction, opened);
    side.end.peer = Some(0);
    if scene.asks_cookies {
        side.ask_cookie();
    }
    let socket = side.socket();
    std::io::Write::write_all(&mut &*socket, &vec![b'x'; bytes as usize]).expect("write");
    side.read(bytes);
    (side.end.sent, side.end.received) = (bytes.into(), bytes.into());
    let ended = side.close();
    side.end.has_peer_fin = None;
    side.ended(Ending::Orderly, ended);
    vec![side.end]
}

fn listener(scene: &Scene<'_>) -> Vec<End> {
    let listener =
        Alone::open("listener", scene.asks_cookies, || Listener::open(scene.route(), 3).socket);
    vec![listener.close()]
}

/// UDP sockets of the server's family: over a dual-stack one v4-mapped addresses too.
fn datagram_receiver(scene: &Scene<'_>) -> Alone {
    Alone::open("UDP, bound", scene.asks_cookies, || {
        let listening = scene.listener.socket.local();
        let domain = Domain::for_address(listening);
        let socket = Socket::new(domain, Type::DGRAM, None).expect("a socket");
        if scene.route() == Route::Mapped {
            socket.set_only_v6(false).expect("IPV6_V6ONLY");
        }
        socket.bind(&SocketAddr::new(listening.ip(), 0).into()).expect("bind");
        socket
    })
}

fn datagrams_to_anyone(scene: &Scene<'_>) -> Vec<End> {
    vec![datagram_receiver(scene).close()]
}

fn dialled(scene: &Scene<'_>, receiver: &Alone) -> SocketAddr {
    SocketAddr::new(scene.listener.address().ip(), receiver.local().port())
}

fn datagrams_to_one(scene: &Scene<'_>) -> Vec<End> {
    let receiver = datagram_receiver(scene);
    let sender = Alone::open("UDP, connected", scene.asks_cookies, || {
        let socket = socket(scene, Type::DGRAM);
        socket.connect(&dialled(scene, &receiver).into()).expect("connect");
        socket
    });
    assert_eq!(sender.socket().send(b"datagram").expect("send"), 8);
    vec![sender.close(), receiver.close()]
}

fn datagrams_from_a_port_to_one(scene: &Scene<'_>) -> Vec<End> {
    let receiver = datagram_receiver(scene);
    let sender = Alone::open("UDP, bound and connected", scene.asks_cookies, || {
        let socket = socket(scene, Type::DGRAM);
        socket.bind(&SocketAddr::new(scene.listener.address().ip(), 0).into()).expect("bind");
        socket.connect(&dialled(scene, &receiver).into()).expect("connect");
        socket
    });
    assert_eq!(sender.socket().send(b"datagram").expect("send"), 8);
    vec![sender.close(), receiver.close()]
}

/// Sockets that have neither address: nothing to tell of.
fn never_used(scene: &Scene<'_>) -> Vec<End> {
    for kind in [Type::STREAM, Type::DGRAM] {
        drop(socket(scene, kind));
    }
    Vec::new()
}
