//! Real sockets on loopback, in every state that is to be had without privileges.
//!
//! Two floors. The lower one, here, is for scripts of one's own: [`Listener`], [`Connection`], and the
//! verbs [`transfer`], [`read`], [`stuff`], [`finish`], [`abort`]. The upper one gives sockets that
//! stand still in a known state, as [`Held`]: one function a state, and [`every_state`] for all.
//!
//! Nothing leaves the host, and every function returns only when the kernel has got there. Other
//! sockets may exist: know one's own by [`Identity`].

mod held;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

use socket2::{Domain, Socket, Type};
use sockrec::model::{Endpoint, Family, TcpState, Timer, Tuple};

use super::facts::{Facts, Identity, proc_entry};
use super::wait::{self, DEADLINE};
pub use held::*;

/// Not in every libc's headers yet.
const IPPROTO_MPTCP: i32 = 262;

/// How a client reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `AF_INET` at both ends.
    V4,
    /// `AF_INET6` at both ends.
    V6,
    /// From `AF_INET` to a dual-stack server, which sees v4-mapped addresses.
    Mapped,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    /// The routes that this host has. Says so where that is not all of them.
    pub fn available() -> Vec<Self> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None);
        let v6 = socket.and_then(|s| s.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()));
        match v6 {
            Ok(()) => Self::ALL.to_vec(),
            Err(e) => {
                super::not_run("everything over IPv6", &format!("`::1` cannot be had: {e}"));
                vec![Self::V4]
            }
        }
    }

    pub fn client_family(self) -> Family {
        match self {
            Self::V4 | Self::Mapped => Family::Inet,
            Self::V6 => Family::Inet6,
        }
    }

    pub fn server_family(self) -> Family {
        match self {
            Self::V4 => Family::Inet,
            Self::V6 | Self::Mapped => Family::Inet6,
        }
    }

    /// The address that clients use for themselves and for the server.
    fn dialled(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 | Self::Mapped => (Ipv4Addr::LOCALHOST, port).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
        }
    }

    /// The address that a server binds to; a dual-stack one cannot but bind to all.
    fn served(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::LOCALHOST, 0).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, 0).into(),
            Self::Mapped => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    fn client_socket(self, kind: Type, protocol: Option<socket2::Protocol>) -> Socket {
        with_deadlines(Socket::new(domain(self.client_family()), kind, protocol).expect("a socket"))
    }

    fn server_socket(self, kind: Type, protocol: Option<socket2::Protocol>) -> Socket {
        let socket = Socket::new(domain(self.server_family()), kind, protocol).expect("a socket");
        if self == Self::Mapped {
            socket.set_only_v6(false).expect("IPV6_V6ONLY off");
        }
        with_deadlines(socket)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Mapped => "v4-mapped",
        })
    }
}

fn domain(family: Family) -> Domain {
    match family {
        Family::Inet => Domain::IPV4,
        Family::Inet6 => Domain::IPV6,
    }
}

/// A call that would wait for ever fails the test instead.
fn with_deadlines(socket: Socket) -> Socket {
    socket.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
    socket.set_write_timeout(Some(DEADLINE)).expect("SO_SNDTIMEO");
    socket
}

/// A TCP listener, or one of MPTCP.
pub struct Listener {
    pub socket: Socket,
    pub route: Route,
    protocol: socket2::Protocol,
}

impl Listener {
    /// One whose queue takes `limit` + 1 connections.
    pub fn open(route: Route, limit: u16) -> Self {
        Self::open_with(route, limit, |_| {})
    }

    /// One that was prepared, before it was bound, with what its connections are to inherit.
    pub fn open_with(route: Route, limit: u16, prepare: impl FnOnce(&Socket)) -> Self {
        let socket = route.server_socket(Type::STREAM, Some(socket2::Protocol::TCP));
        Self::of(socket, socket2::Protocol::TCP, route, limit, prepare)
    }

    /// One of MPTCP.
    ///
    /// # Errors
    /// When the kernel has no MPTCP, or it is turned off.
    pub fn open_mptcp(route: Route, limit: u16) -> io::Result<Self> {
        let protocol = socket2::Protocol::from(IPPROTO_MPTCP);
        // Asked for once more, by itself, because everything else here must not fail.
        Socket::new(domain(route.server_family()), Type::STREAM, Some(protocol))?;
        let socket = route.server_socket(Type::STREAM, Some(protocol));
        Ok(Self::of(socket, protocol, route, limit, |_| {}))
    }

    fn of(
        socket: Socket,
        protocol: socket2::Protocol,
        route: Route,
        limit: u16,
        prepare: impl FnOnce(&Socket),
    ) -> Self {
        prepare(&socket);
        socket.bind(&route.served().into()).expect("bind");
        socket.listen(i32::from(limit)).expect("listen");
        Self { socket, route, protocol }
    }

    /// What clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.route.dialled(self.socket.local().port())
    }

    /// A client that is not connected yet.
    pub fn client(&self) -> Socket {
        self.route.client_socket(Type::STREAM, Some(self.protocol))
    }

    /// A connected client, whose connection waits for [`Self::accept`].
    pub fn connect(&self) -> Socket {
        self.connect_with(|_| {})
    }

    /// A client that was prepared before it connected.
    pub fn connect_with(&self, prepare: impl FnOnce(&Socket)) -> Socket {
        let client = self.client();
        prepare(&client);
        client.connect_timeout(&self.address().into(), DEADLINE).expect("connect on loopback");
        client
    }

    /// The connection that has waited longest.
    pub fn accept(&self) -> Socket {
        with_deadlines(self.socket.accept().expect("a connection waits").0)
    }

    /// Connections that wait for [`Self::accept`], by the listener's own word.
    pub fn waiting(&self) -> u32 {
        // Of a listener tcpi_unacked is the length of its queue.
        let info = self.socket.tcp_info().bytes;
        u32::from_ne_bytes(info[24..28].try_into().expect("4 bytes"))
    }

    /// Connects so many clients, which then wait.
    pub fn fill(&self, clients: u32) -> Vec<Socket> {
        let before = self.waiting();
        let connected = (0..clients).map(|_| self.connect()).collect();
        wait::until("all clients wait", || self.waiting() == before + clients);
        connected
    }
}

/// Both ends of a connection. Move them out and drop them to close them in the order wanted.
pub struct Connection {
    pub client: Socket,
    pub server: Socket,
}

impl Connection {
    pub fn open(route: Route) -> Self {
        Self::open_with(route, |_| {}, |_| {})
    }

    /// One whose client was prepared before it connected, and whose server inherits from a
    /// listener that was prepared.
    pub fn open_with(
        route: Route,
        client: impl FnOnce(&Socket),
        listener: impl FnOnce(&Socket),
    ) -> Self {
        Self::through_with(&Listener::open_with(route, 1, listener), client)
    }

    /// One through this listener, on which no other connection waits.
    pub fn through(listener: &Listener) -> Self {
        Self::through_with(listener, |_| {})
    }

    fn through_with(listener: &Listener, prepare: impl FnOnce(&Socket)) -> Self {
        let client = listener.connect_with(prepare);
        let server = listener.accept();
        assert_eq!(server.remote().port(), client.local().port(), "it is our client's");
        Self { client, server }
    }

    /// One whose client's data soon get stuck: little room at the server, much at the client.
    pub fn open_narrow(route: Route) -> Self {
        Self::open_with(
            route,
            |client| client.set_send_buffer_size(128 * 1024).expect("SO_SNDBUF"),
            |listener| listener.set_recv_buffer_size(8 * 1024).expect("SO_RCVBUF"),
        )
    }
}

/// The ends of the server's socket of this client's connection, as the server sees them.
pub fn server_tuple(client: &Socket, route: Route) -> Tuple {
    let endpoint = |a: SocketAddr| Endpoint {
        address: match a.ip() {
            IpAddr::V4(ip) if route == Route::Mapped => ip.to_ipv6_mapped().into(),
            other => other,
        },
        port: a.port(),
    };
    Tuple { local: endpoint(client.remote()), remote: endpoint(client.local()), interface: 0 }
}

/// Sends so many bytes, which then lie unread at the other end, acknowledged.
#[track_caller]
pub fn transfer(from: &Socket, to: &Socket, bytes: u32) {
    let before = to.unread();
    let mut from_mut: &Socket = from;
    from_mut.write_all(&vec![b'x'; bytes as usize]).expect("write");
    wait::until("the bytes have come", || to.unread() == before + bytes);
    wait::until("they are acknowledged", || from.unacknowledged() == 0);
}

/// Reads so many bytes that lie there.
#[track_caller]
pub fn read(mut socket: &Socket, bytes: u32) {
    socket.read_exact(&mut vec![0; bytes as usize]).expect("read");
}

/// Sends until the other end, which does not read, has no more room and this one neither. Gives
/// the number of bytes that were taken. Needs a connection by [`Connection::open_narrow`].
#[track_caller]
pub fn stuff(from: &Socket, to: &Socket) -> u32 {
    from.set_nonblocking(true).expect("O_NONBLOCK");
    let mut taken = 0;
    let mut socket: &Socket = from;
    // More than the other end can ever hold, so that a FIN behind it cannot leave.
    wait::until("much more is written than fits", || match socket.write(&[b'x'; 16 * 1024]) {
        Ok(bytes) => {
            taken += u32::try_from(bytes).expect("at most the buffer");
            false
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => taken > 4 * to.receive_buffer(),
        Err(e) => panic!("write: {e}"),
    });
    from.set_nonblocking(false).expect("O_NONBLOCK");
    taken
}

/// Says that nothing more will be sent: a FIN, or the wish for one behind data that are stuck.
pub fn finish(socket: &Socket) {
    socket.shutdown(Shutdown::Write).expect("shutdown");
}

/// Closes with a RST: no TIME_WAIT remains. It is sent when nobody has the socket any more, and a program
/// that another test's thread starts has it too for a moment: see [`abort_seen_by`].
pub fn abort(socket: Socket) {
    socket.set_linger(Some(std::time::Duration::ZERO)).expect("SO_LINGER");
    drop(socket);
}

/// Closes with a RST that has come to the other end.
#[track_caller]
pub fn abort_seen_by(other: &Socket, socket: Socket) {
    abort(socket);
    wait_for_state(other, TcpState::CLOSE);
}

/// Waits until the socket itself says that it is in this state.
#[track_caller]
pub fn wait_for_state(socket: &Socket, state: TcpState) {
    wait::until(&format!("the socket is {}", state.name().unwrap_or("?")), || {
        socket.tcp_state() == Some(state)
    });
}

/// Waits until `/proc/net/tcp` shows the connection in this state, as a whole socket.
#[track_caller]
pub fn wait_until_orphaned(identity: &Identity, state: TcpState) {
    wait::until(&format!("{identity:?} is {}", state.name().unwrap_or("?")), || {
        proc_entry(identity).is_some_and(|(s, timer)| s == state && timer != Timer::TIMEWAIT)
    });
}

/// Waits until `/proc/net/tcp` shows the connection in this state, as a mini-socket.
#[track_caller]
pub fn wait_until_mini(identity: &Identity, state: TcpState) {
    wait::until(&format!("{identity:?} is a mini-socket in state {}", state.0), || {
        proc_entry(identity) == Some((state, Timer::TIMEWAIT))
    });
}

/// Waits until `/proc/net/tcp` no longer shows the connection.
#[track_caller]
pub fn wait_until_gone(identity: &Identity) {
    wait::until(&format!("{identity:?} is gone"), || proc_entry(identity).is_none());
}

/// Opens and closes so many connections as fast as it goes, of which at most `at_once` are open.
/// Most end with a RST, so that their TIME_WAITs do not use up the host's ports. Gives who their
/// clients were.
pub fn churn(route: Route, connections: u32, at_once: usize) -> Vec<Identity> {
    let listener = Listener::open(route, 16);
    let mut open = VecDeque::new();
    let mut clients = Vec::new();
    for n in 0..connections {
        let connection = Connection::through(&listener);
        clients.push(connection.client.identity());
        open.push_back(connection);
        if open.len() < at_once {
            continue;
        }
        let Some(Connection { client, server }) = open.pop_front() else { continue };
        if n % 50 == 0 {
            drop(server); // its TIME_WAIT has the listener's port
            drop(client);
        } else {
            abort(client);
            drop(server);
        }
    }
    for Connection { client, server } in open {
        abort(client);
        drop(server);
    }
    clients
}
