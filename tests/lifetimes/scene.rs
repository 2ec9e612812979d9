//! What the scripts are played with: connections whose every step is written down.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::Socket;
use sockrec::model::Protocol;

use crate::common::facts::Facts;
use crate::common::sockets::{self, Listener, Route};
use crate::common::wait::DEADLINE;
use crate::truth::{Direction, End, Ending, LastWord, Span};

/// Where a script is played.
pub(crate) struct Scene<'a> {
    /// Used by nobody else at the same time.
    pub(crate) listener: Listener,
    listening: End,
    /// Whether sockets are asked for their cookies, which makes them.
    pub(crate) asks_cookies: bool,
    /// Waits until a recorder has taken snapshots of how things stand.
    pub(crate) until_seen: &'a (dyn Fn() + Sync),
}

impl<'a> Scene<'a> {
    pub(crate) fn on(route: Route, asks_cookies: bool, until_seen: &'a (dyn Fn() + Sync)) -> Self {
        let (listener, opened) = Span::of(|| Listener::open(route, 8));
        let addresses = [listener.socket.local(), listener.socket.remote()];
        let listening = End::opened("listener of a script", Protocol::Tcp, addresses, None, opened);
        Self { listener, listening, asks_cookies, until_seen }
    }

    /// The end that its listener is, which is open still.
    pub(crate) fn stay(self) -> End {
        self.listening
    }

    /// Closes the listener, and says when that was.
    pub(crate) fn leave(self) -> End {
        let mut listening = Side { socket: Some(self.listener.socket), end: self.listening };
        let ended = listening.close();
        listening.end.closed = Some(ended);
        listening.end
    }

    pub(crate) fn route(&self) -> Route {
        self.listener.route
    }

    /// Opens a connection.
    pub(crate) fn open(&self, kind: &'static str) -> Pair {
        self.open_from(kind, self.listener.client())
    }

    /// Opens a connection from a socket that has none.
    pub(crate) fn open_from(&self, kind: &'static str, client: Socket) -> Pair {
        let (connected, opened) = Span::of(|| self.connect(&client));
        connected.expect("connect on loopback");
        self.accepted(kind, client, opened)
    }

    pub(crate) fn connect(&self, client: &Socket) -> io::Result<()> {
        client.connect_timeout(&self.listener.address().into(), DEADLINE)
    }

    /// Takes the other end of a connection that was just opened.
    pub(crate) fn accepted(&self, kind: &'static str, client: Socket, opened: Span) -> Pair {
        let (server, accepted) = Span::of(|| self.listener.accept());
        assert_eq!(server.remote().port(), client.local().port(), "nobody else connects to it");
        // The handshake is over, and the server's end open, before anybody accepts it.
        let accepted = opened.until(accepted);
        let mut client = Side::of(kind, client, Some(Direction::Outbound), opened);
        let mut server = Side::of(kind, server, Some(Direction::Inbound), accepted);
        (client.end.peer, server.end.peer) = (Some(1), Some(0));
        if self.asks_cookies {
            client.ask_cookie();
            server.ask_cookie();
        }
        Pair { client, server }
    }
}

/// A socket, and what happened to it.
pub(crate) struct Side {
    socket: Option<Socket>,
    pub(crate) end: End,
}

impl Side {
    pub(crate) fn of(
        kind: &'static str,
        socket: Socket,
        direction: Option<Direction>,
        opened: Span,
    ) -> Self {
        let addresses = [socket.local(), socket.remote()];
        let end = End::opened(kind, Facts::protocol(&socket), addresses, direction, opened);
        Self { socket: Some(socket), end }
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("it is open")
    }

    pub(crate) fn take_socket(&mut self) -> Socket {
        self.socket.take().expect("it is open")
    }

    pub(crate) fn ask_cookie(&mut self) {
        self.end.cookie = Some(Facts::cookie(self.socket()));
    }

    /// Sends and has the other end acknowledge.
    pub(crate) fn send(&mut self, to: &mut Self, bytes: u32) {
        sockets::transfer(self.socket(), to.socket(), bytes);
        self.end.sent += u64::from(bytes);
        to.end.received += u64::from(bytes);
    }

    pub(crate) fn read(&self, bytes: u32) {
        sockets::read(self.socket(), bytes);
    }

    /// Says that it will send no more.
    pub(crate) fn finish(&self) -> Span {
        Span::of(|| sockets::finish(self.socket())).1
    }

    pub(crate) fn close(&mut self) -> Span {
        let socket = self.take_socket();
        let ((), span) = Span::of(|| drop(socket));
        self.end.let_go = Some(span);
        self.end.last_word = LastWord::Full;
        span
    }

    /// Closes with a RST.
    pub(crate) fn abort(&mut self) -> Span {
        let socket = self.take_socket();
        let ((), span) = Span::of(|| sockets::abort(socket));
        self.end.let_go = Some(span);
        // Of UDP there is no such thing.
        assert_eq!(self.end.protocol, Protocol::Tcp);
        self.end.last_word = LastWord::Wiped;
        span
    }

    /// Closes, then the other end once it has the FIN.
    pub(crate) fn close_before(&mut self, other: &mut Self) {
        let began = self.close();
        other.await_fin();
        let ended = other.close();
        // The kernel keeps this as a whole socket for as long as its FIN is not acknowledged: whether
        // the other's comes in that time depends on when that is.
        self.end.has_peer_fin = None;
        self.ended(Ending::Orderly, began.until(ended));
        other.ended(Ending::Orderly, ended);
    }

    /// Waits for the other end's FIN.
    #[track_caller]
    pub(crate) fn await_fin(&mut self) {
        assert_eq!(self.read_once().expect("the other end's FIN"), 0, "everything was read");
        self.end.has_peer_fin = Some(true);
    }

    /// Waits until the connection is reset, or has timed out.
    #[track_caller]
    pub(crate) fn await_error(&self, kind: ErrorKind) {
        let error = self.read_once().expect_err("the connection ends with an error");
        assert_eq!(error.kind(), kind, "{error}");
    }

    fn read_once(&self) -> io::Result<usize> {
        let mut socket = self.socket();
        socket.read(&mut [0])
    }

    /// What it receives from now on is lost on the way.
    pub(crate) fn go_deaf(&self) {
        lose_everything_for(self.socket()).expect("it can be done to others");
    }

    pub(crate) fn ended(&mut self, ending: Ending, at: Span) {
        self.end.ending = Some(ending);
        self.end.closed = Some(at);
    }
}

/// Drops every packet for this socket: a filter that keeps no byte of any.
///
/// # Errors
/// When this user may not attach filters.
pub(crate) fn lose_everything_for(socket: &Socket) -> io::Result<()> {
    let mut nothing =
        [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: nothing.as_mut_ptr() };
    let len = size_of_val(&filter) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads the filter and its one instruction.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Both ends of a connection.
pub(crate) struct Pair {
    pub(crate) client: Side,
    pub(crate) server: Side,
}

impl Pair {
    /// Sends and reads some in both directions; how much differs from one connection to the next.
    pub(crate) fn talk(&mut self) {
        let Self { client, server } = self;
        let bytes = 1 + u32::from(client.end.local.port()) % 997;
        client.send(server, bytes);
        server.read(bytes);
        server.send(client, 2 * bytes);
        client.read(2 * bytes);
    }

    /// Ends it in good order.
    pub(crate) fn part(&mut self) {
        self.client.close_before(&mut self.server);
    }

    pub(crate) fn ends(self) -> Vec<End> {
        vec![self.client.end, self.server.end]
    }
}

/// A socket that never has a connection, from its making to its closing.
pub(crate) struct Alone(Side);

impl Alone {
    pub(crate) fn open(
        kind: &'static str,
        asks_cookie: bool,
        make: impl FnOnce() -> Socket,
    ) -> Self {
        let (socket, opened) = Span::of(make);
        let mut side = Side::of(kind, socket, None, opened);
        if asks_cookie {
            side.ask_cookie();
        }
        Self(side)
    }

    /// Where others reach it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.0.end.local
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.0.socket()
    }

    pub(crate) fn close(mut self) -> End {
        let span = self.0.close();
        self.0.end.closed = Some(span);
        self.0.end
    }
}
