//! Sockets that stand still in a known state: one function a state, and [`every_state`] for all.

use std::io::Write;
use std::net::SocketAddr;

use rustix::io::Errno;
use socket2::{Socket, Type};
use sockrec::model::{Endpoint, TcpState, Timer, Tuple};

use super::super::facts::{Facts, Identity};
use super::super::wait;
use super::{
    Connection, Listener, Route, finish, read, server_tuple, stuff, transfer, wait_for_state,
    wait_until_mini, wait_until_orphaned,
};

/// A socket that stands still in a known state.
pub struct Held {
    /// For people: route, state, role.
    pub what: String,
    pub identity: Identity,
    pub state: TcpState,
    /// The bit of the state mask that selects it.
    pub asked_by: TcpState,
    pub timer: ExpectedTimer,
    /// `INET_DIAG_SHUTDOWN`: 1 receiving, 2 sending, 3 both.
    pub shutdown: u8,
    /// Whether the kernel keeps no more of it than a mini-socket.
    pub is_mini: bool,
    /// `None`: nobody has it open any more.
    pub socket: Option<Socket>,
}

/// What is known of a socket's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedTimer {
    /// This one runs, or none for [`Timer::OFF`].
    Is(Timer),
    /// The kernel tries from time to time what is stuck: by which timer depends on the moment.
    Trying,
}

impl ExpectedTimer {
    pub fn allows(self, timer: Timer) -> bool {
        match self {
            Self::Is(expected) => timer == expected,
            Self::Trying => timer == Timer::ON || timer == Timer::PERSIST,
        }
    }
}

impl Held {
    fn open(what: String, state: TcpState, socket: Socket) -> Self {
        Self {
            what: format!("{what} ({})", state.name().unwrap_or("?")),
            identity: socket.identity(),
            state,
            asked_by: state,
            timer: ExpectedTimer::Is(Timer::OFF),
            shutdown: 0,
            is_mini: false,
            socket: Some(socket),
        }
    }

    fn left(what: String, state: TcpState, identity: Identity) -> Self {
        Self {
            what: format!("{what} ({}, nobody's)", state.name().unwrap_or("?")),
            identity,
            state,
            asked_by: state,
            timer: ExpectedTimer::Is(Timer::OFF),
            shutdown: RECEIVE_SHUT | SEND_SHUT,
            is_mini: false,
            socket: None,
        }
    }

    fn mini(what: String, state: TcpState, identity: Identity) -> Self {
        let timer = ExpectedTimer::Is(Timer::TIMEWAIT);
        Self { timer, shutdown: 0, is_mini: true, ..Self::left(what, state, identity) }
    }

    fn shut(mut self, shutdown: u8) -> Self {
        self.shutdown = shutdown;
        self
    }

    fn with_timer(mut self, timer: ExpectedTimer) -> Self {
        self.timer = timer;
        self
    }

    /// The socket, for those that somebody has open.
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("somebody has it open")
    }
}

const RECEIVE_SHUT: u8 = 1;
const SEND_SHUT: u8 = 2;

/// A listener with a queue for `limit` + 1, in which `waiting` connections wait, and their clients.
pub fn listening(route: Route, limit: u16, waiting: u32) -> Vec<Held> {
    let listener = Listener::open(route, limit);
    let clients = listener.fill(waiting);
    let clients = clients
        .into_iter()
        .map(|c| Held::open(format!("{route} not yet accepted"), TcpState::ESTABLISHED, c));
    let mut held: Vec<Held> = clients.collect();
    held.insert(0, held_listener(route, listener));
    held
}

/// A listener that stands still.
pub fn held_listener(route: Route, listener: Listener) -> Held {
    Held::open(format!("{route} listener"), TcpState::LISTEN, listener.socket)
}

/// Bytes that [`established`] sent and left unread, each way.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub to_server: u32,
    pub server_left: u32,
    pub to_client: u32,
    pub client_left: u32,
}

impl Traffic {
    pub const SOME: Self =
        Self { to_server: 3000, server_left: 2000, to_client: 500, client_left: 100 };

    /// Sends and reads.
    pub fn flow(self, connection: &Connection) {
        let Connection { client, server } = connection;
        transfer(client, server, self.to_server);
        read(server, self.to_server - self.server_left);
        transfer(server, client, self.to_client);
        read(client, self.to_client - self.client_left);
    }
}

/// An idle connection that had this traffic: client, server.
pub fn established(route: Route, traffic: Traffic) -> [Held; 2] {
    let connection = Connection::open(route);
    traffic.flow(&connection);
    hold(route, connection)
}

/// Both ends of a connection that stands still: client, server.
pub fn hold(route: Route, connection: Connection) -> [Held; 2] {
    [
        Held::open(format!("{route} client"), TcpState::ESTABLISHED, connection.client),
        Held::open(format!("{route} server"), TcpState::ESTABLISHED, connection.server),
    ]
}

/// A client that has shut down its sending side, FIN_WAIT2, and its server, CLOSE_WAIT, which has
/// read neither all data nor the FIN.
pub fn half_closed(route: Route) -> [Held; 2] {
    let Connection { client, server } = Connection::open(route);
    transfer(&client, &server, 700);
    finish(&client);
    wait_for_state(&client, TcpState::FIN_WAIT2);
    wait_for_state(&server, TcpState::CLOSE_WAIT);
    [
        Held::open(format!("{route} client"), TcpState::FIN_WAIT2, client).shut(SEND_SHUT),
        Held::open(format!("{route} server"), TcpState::CLOSE_WAIT, server).shut(RECEIVE_SHUT),
    ]
}

/// A client that wants to end behind data that are stuck, and its server, which has no room.
pub fn fin_wait_1(route: Route) -> [Held; 2] {
    let Connection { client, server } = Connection::open_narrow(route);
    stuff(&client, &server);
    finish(&client);
    wait_for_state(&client, TcpState::FIN_WAIT1);
    [
        Held::open(format!("{route} client, stuck"), TcpState::FIN_WAIT1, client)
            .shut(SEND_SHUT)
            .with_timer(ExpectedTimer::Trying),
        Held::open(format!("{route} server, full"), TcpState::ESTABLISHED, server),
    ]
}

/// As [`fin_wait_1`], but the server has ended too.
pub fn closing(route: Route) -> [Held; 2] {
    let Connection { client, server } = Connection::open_narrow(route);
    stuff(&client, &server);
    finish(&client);
    finish(&server);
    wait_for_state(&client, TcpState::CLOSING);
    wait_for_state(&server, TcpState::FIN_WAIT2);
    [
        Held::open(format!("{route} client, stuck"), TcpState::CLOSING, client)
            .shut(RECEIVE_SHUT | SEND_SHUT)
            .with_timer(ExpectedTimer::Trying),
        Held::open(format!("{route} server, full"), TcpState::FIN_WAIT2, server).shut(SEND_SHUT),
    ]
}

/// A server that ended first and has no room, and a client that wants to end behind data that
/// are stuck.
pub fn last_ack(route: Route) -> [Held; 2] {
    let Connection { client, server } = Connection::open_narrow(route);
    finish(&server);
    wait_for_state(&client, TcpState::CLOSE_WAIT);
    stuff(&client, &server);
    finish(&client);
    wait_for_state(&client, TcpState::LAST_ACK);
    [
        Held::open(format!("{route} client, stuck"), TcpState::LAST_ACK, client)
            .shut(RECEIVE_SHUT | SEND_SHUT)
            .with_timer(ExpectedTimer::Trying),
        Held::open(format!("{route} server, full"), TcpState::FIN_WAIT2, server).shut(SEND_SHUT),
    ]
}

/// A client whose SYN a listener with a full queue drops; then the listener, and the client that
/// fills its queue.
pub fn syn_sent(route: Route) -> [Held; 3] {
    let listener = Listener::open(route, 0);
    let filler = listener.fill(1).remove(0);
    let client = listener.client();
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let connecting = client.connect(&listener.address().into()).expect_err("it cannot succeed");
    assert_eq!(connecting.raw_os_error(), Some(Errno::INPROGRESS.raw_os_error()));
    wait_for_state(&client, TcpState::SYN_SENT);
    let mut client = Held::open(format!("{route} client"), TcpState::SYN_SENT, client)
        .with_timer(ExpectedTimer::Is(Timer::ON));
    client.identity.remote = listener.address(); // getpeername() does not tell it yet
    [
        client,
        Held::open(format!("{route} full listener"), TcpState::LISTEN, listener.socket),
        Held::open(format!("{route} filler"), TcpState::ESTABLISHED, filler),
    ]
}

/// A connection whose server is a request mini-socket, because the listener waits for data.
pub struct Deferred {
    pub listener: Listener,
    /// Established, as far as it knows.
    pub client: Socket,
}

impl Deferred {
    pub fn open(route: Route) -> Self {
        let listener = Listener::open(route, 4);
        // Far beyond the deadline of everything here.
        let seconds = 100;
        listener
            .socket
            .set_int_option(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
            .expect("TCP_DEFER_ACCEPT");
        let client = listener.connect();
        Self { listener, client }
    }

    /// The ends of the request socket, the cookie of which nobody can ask for.
    pub fn request(&self) -> Tuple {
        server_tuple(&self.client, self.listener.route)
    }

    /// The request socket, by the cookie that a dump showed.
    pub fn held_request(&self, cookie: u64) -> Held {
        let tuple = self.request();
        let address = |e: Endpoint| SocketAddr::new(e.address, e.port);
        let identity = Identity {
            cookie,
            local: address(tuple.local),
            remote: address(tuple.remote),
            ..self.listener.socket.identity()
        };
        Held::mini(format!("{} request", self.listener.route), TcpState::SYN_RECV, identity)
            .with_timer(ExpectedTimer::Is(Timer::ON))
    }

    /// Sends so many bytes, which makes a connection of it.
    pub fn complete(self, bytes: u32) -> Connection {
        let Self { listener, client } = self;
        let mut writer: &Socket = &client;
        writer.write_all(&vec![b'x'; bytes as usize]).expect("write");
        let server = listener.accept();
        wait::until("the bytes have come", || server.unread() == bytes);
        wait::until("they are acknowledged", || client.unacknowledged() == 0);
        Connection { client, server }
    }
}

/// A client whose connection, closed by it first, is in TIME_WAIT.
pub fn time_wait(route: Route) -> Held {
    let Connection { client, server } = Connection::open(route);
    transfer(&client, &server, 100);
    read(&server, 100);
    let identity = client.identity();
    drop(client);
    wait_for_state(&server, TcpState::CLOSE_WAIT);
    drop(server);
    wait_until_mini(&identity, TcpState::TIME_WAIT);
    Held::mini(format!("{route} client"), TcpState::TIME_WAIT, identity)
}

/// A client whose connection is in TIME_WAIT, although its descriptor is still open: both sides
/// were shut down, none closed. The socket says that it is closed.
pub fn time_wait_with_descriptor(route: Route) -> (Held, Socket) {
    let Connection { client, server } = Connection::open(route);
    let identity = client.identity();
    finish(&client);
    wait_for_state(&server, TcpState::CLOSE_WAIT);
    finish(&server);
    wait_until_mini(&identity, TcpState::TIME_WAIT);
    (Held::mini(format!("{route} client, open"), TcpState::TIME_WAIT, identity), client)
}

/// A closed client whose server has not closed: FIN_WAIT2, kept as a mini-socket; and the server.
pub fn orphaned_fin_wait_2(route: Route) -> [Held; 2] {
    let (client, server) = close_with_linger2(route, 55);
    wait_until_mini(&client, TcpState::FIN_WAIT2);
    [
        Held::mini(format!("{route} client"), TcpState::FIN_WAIT2, client),
        Held::open(format!("{route} server"), TcpState::CLOSE_WAIT, server).shut(RECEIVE_SHUT),
    ]
}

/// As [`orphaned_fin_wait_2`], but to be kept for longer than a TIME_WAIT: until then the kernel
/// keeps the whole socket.
pub fn long_orphaned_fin_wait_2(route: Route) -> [Held; 2] {
    let (client, server) = close_with_linger2(route, 110);
    wait_until_orphaned(&client, TcpState::FIN_WAIT2);
    [
        Held::left(format!("{route} client"), TcpState::FIN_WAIT2, client)
            .with_timer(ExpectedTimer::Is(Timer::KEEPALIVE)),
        Held::open(format!("{route} server"), TcpState::CLOSE_WAIT, server).shut(RECEIVE_SHUT),
    ]
}

fn close_with_linger2(route: Route, seconds: i32) -> (Identity, Socket) {
    let Connection { client, server } = Connection::open(route);
    client.set_int_option(libc::IPPROTO_TCP, libc::TCP_LINGER2, seconds).expect("TCP_LINGER2");
    let identity = client.identity();
    drop(client);
    wait_for_state(&server, TcpState::CLOSE_WAIT);
    (identity, server)
}

/// A closed client whose data are stuck: FIN_WAIT1, a whole socket that is nobody's; and the
/// server, which has no room.
pub fn orphaned_fin_wait_1(route: Route) -> [Held; 2] {
    let Connection { client, server } = Connection::open_narrow(route);
    stuff(&client, &server);
    let identity = client.identity();
    drop(client);
    wait_until_orphaned(&identity, TcpState::FIN_WAIT1);
    [
        Held::left(format!("{route} client, stuck"), TcpState::FIN_WAIT1, identity)
            .with_timer(ExpectedTimer::Trying),
        Held::open(format!("{route} server, full"), TcpState::ESTABLISHED, server),
    ]
}

/// Bound, neither listening nor connected: asked for as `TCP_BOUND_INACTIVE`, shown as closed, and
/// not at all by kernels before 6.8.
pub fn bound_inactive(route: Route) -> Held {
    let socket = route.server_socket(Type::STREAM, Some(socket2::Protocol::TCP));
    socket.bind(&route.served().into()).expect("bind");
    let held = Held::open(format!("{route} bound only"), TcpState::CLOSE, socket);
    Held { asked_by: TcpState::BOUND_INACTIVE, ..held }
}

/// Datagrams that [`udp`] leaves unread.
pub const DATAGRAMS: u32 = 3;
/// Length of each of them.
pub const DATAGRAM_BYTES: u32 = 100;

/// A bound UDP socket with unread datagrams, which the kernel calls closed, and the
/// connected one that sent them, which it calls established.
pub fn udp(route: Route) -> [Held; 2] {
    let receiver = route.server_socket(Type::DGRAM, Some(socket2::Protocol::UDP));
    receiver.bind(&route.served().into()).expect("bind");
    let sender = route.client_socket(Type::DGRAM, Some(socket2::Protocol::UDP));
    sender.connect(&route.dialled(receiver.local().port()).into()).expect("connect");
    for _ in 0..DATAGRAMS {
        let before = receiver.memory()[0];
        sender.send(&[b'x'; DATAGRAM_BYTES as usize]).expect("send");
        wait::until("the datagram has come", || receiver.memory()[0] > before);
    }
    [
        Held::open(format!("{route} UDP receiver"), TcpState::CLOSE, receiver),
        Held::open(format!("{route} UDP sender"), TcpState::ESTABLISHED, sender),
    ]
}

/// A UDP socket that is bound and connected, of the server's family: v4-mapped addresses too.
pub fn udp_connected(route: Route) -> [Held; 2] {
    let [peer, _] = udp(route);
    let socket = route.server_socket(Type::DGRAM, Some(socket2::Protocol::UDP));
    let target = match route.dialled(peer.identity.local.port()) {
        SocketAddr::V4(a) if route == Route::Mapped => (a.ip().to_ipv6_mapped(), a.port()).into(),
        other => other,
    };
    socket.connect(&target.into()).expect("connect");
    [peer, Held::open(format!("{route} UDP connected"), TcpState::ESTABLISHED, socket)]
}

/// One of everything above over this route, with the sockets at the other ends.
pub fn every_state(route: Route) -> Vec<Held> {
    let mut all = listening(route, 5, 2);
    all.extend(established(route, Traffic::SOME));
    all.extend(half_closed(route));
    all.extend(fin_wait_1(route));
    all.extend(closing(route));
    all.extend(last_ack(route));
    all.extend(syn_sent(route));
    all.extend(orphaned_fin_wait_1(route));
    all.extend(orphaned_fin_wait_2(route));
    all.extend(long_orphaned_fin_wait_2(route));
    all.push(time_wait(route));
    all.push(bound_inactive(route));
    all.extend(udp(route));
    all.extend(udp_connected(route));
    all
}
