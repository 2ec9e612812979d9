//! Who dials whom, and in which 4-tuple: the threads of a crowd and the doors that they knock at.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::Scenario;
use super::meeting::{Meeting, Way};
use super::tuples::{Tuple, Tuples};
use crate::common::facts::Facts;
use crate::common::sockets::{Listener, Route};
use crate::harness::Random;
use crate::scene::{Alone, Side};
use crate::truth::{Direction, End, Ending, LastWord, Log, Span};

/// A listener, at which one connects at a time: who is accepted is who connected.
struct Door {
    listener: Listener,
    opened: Span,
    turn: Mutex<()>,
}

impl Door {
    fn open(route: Route, reuses_address: bool) -> Self {
        let prepare = |socket: &Socket| {
            socket.set_reuse_address(reuses_address).expect("SO_REUSEADDR");
        };
        let (listener, opened) = Span::of(|| Listener::open_with(route, 16, prepare));
        Self { listener, opened, turn: Mutex::default() }
    }

    fn shut(self) -> End {
        let mut side = Side::of("listener of a crowd", self.listener.socket, None, self.opened);
        side.ask_cookie();
        let ended = side.close();
        side.end.closed = Some(ended);
        side.end
    }
}

pub(super) const FIRST_CLIENT_PORT: u16 = 20_001;
/// Nobody may connect from a tuple that the kernel still uses: it is tried again after so long.
const LATER: Duration = Duration::from_millis(100);
/// Nothing was sent: that it was bound may be told or not.
const NOT_DIALLED: &str = "not dialled, its tuple is in use";

/// Those who make the connections, and where.
pub(super) struct Crowd {
    scenario: Scenario,
    seed: u64,
    doors: Vec<Door>,
    tuples: Tuples,
    /// Bound, and nobody listens.
    closed: Alone,
}

impl Crowd {
    /// Opens the doors.
    pub(super) fn gather(scenario: Scenario, routes: &[Route], seed: u64) -> Self {
        let mut doors = vec![Door::open(Route::V4, true), Door::open(Route::V4, false)];
        for &route in routes {
            if route != Route::V4 {
                doors.push(Door::open(route, route == Route::Mapped));
            }
        }
        let closed = Alone::open("bound only", true, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
            let socket = socket.expect("a socket");
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
            socket
        });
        let ports = FIRST_CLIENT_PORT..FIRST_CLIENT_PORT + scenario.client_ports;
        let tuples = Tuples::new(
            (0..doors.len()).flat_map(|door| {
                let addresses: [IpAddr; 2] = match doors[door].listener.route {
                    Route::V6 => [Ipv6Addr::LOCALHOST.into(); 2],
                    Route::V4 | Route::Mapped => {
                        [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()]
                    }
                };
                let client = move |port: u16| (addresses[usize::from(port % 2)], port).into();
                ports.clone().map(move |port| Tuple { client: client(port), door })
            }),
            scenario.rest,
        );
        Self { scenario, seed, doors, tuples, closed }
    }

    /// Makes connections for as long as the scenario lasts, and closes the doors.
    pub(super) fn run(self) -> Log {
        let began = Instant::now();
        let number = AtomicU32::new(0);
        let mut log = Log::default();
        thread::scope(|scope| {
            let play = |thread: u64| {
                let random = Random::new(
                    (self.seed << 16 | thread << 4).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                );
                let (crowd, number) = (&self, &number);
                scope.spawn(move || crowd.play(random, began, number))
            };
            let threads: Vec<_> = (0..self.scenario.threads as u64).map(play).collect();
            for thread in threads {
                log.add(thread.join().expect("every connection can be made").ends);
            }
        });
        self.leave(&mut log);
        log
    }

    /// Closes the doors.
    pub(super) fn leave(self, log: &mut Log) {
        let Self { doors, closed, .. } = self;
        log.add(vec![End { is_elusive: true, ..closed.close() }]);
        log.add(doors.into_iter().map(Door::shut).collect());
    }

    /// One thread of it: connections one after the other, each as it is due.
    fn play(&self, mut random: Random, began: Instant, number: &AtomicU32) -> Log {
        let mut log = Log::default();
        let ends = began + Duration::from_secs(self.scenario.seconds);
        loop {
            let n = number.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            let due = match self.scenario.per_second {
                Some(per_second) => began + Duration::from_secs(1) * n / per_second,
                None => now,
            };
            if due.max(now) >= ends {
                return log;
            }
            thread::sleep(due.saturating_duration_since(now));
            match self.tuples.take(&mut random) {
                Some(tuple) if tuple.client.is_ipv4() && random.below(100) < 3 => {
                    self.refused(tuple, &mut log);
                }
                Some(tuple) => self.connection(tuple, &mut random, &mut log),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// A client that is bound to the tuple's address. `None`: that is not to be had now.
    fn client(&self, tuple: Tuple) -> Option<Socket> {
        let client = self.doors[tuple.door].listener.client();
        client.set_reuse_address(true).expect("SO_REUSEADDR");
        match client.bind(&tuple.client.into()) {
            Ok(()) => Some(client),
            Err(e) if e.kind() == ErrorKind::AddrInUse => None,
            Err(e) => panic!("bind to {tuple:?}: {e}"),
        }
    }

    fn refused(&self, tuple: Tuple, log: &mut Log) {
        if let Some(client) = self.client(tuple) {
            let address = self.closed.local();
            let (refusal, tried) = Span::of(|| client.connect(&address.into()));
            assert_eq!(refusal.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
            log.add(vec![failed("refused", client, (tuple.client, address), tried)]);
        }
        self.tuples.give_back(tuple, Duration::ZERO);
    }

    /// A connection from its opening until both ends are closed.
    fn connection(&self, tuple: Tuple, random: &mut Random, log: &mut Log) {
        let (way, client_begins) = Way::any(random, self.scenario.hard_percent);
        let kind = way.names[usize::from(!client_begins)];
        let Some([client, server]) = self.open(tuple, kind, log) else {
            return self.tuples.give_back(tuple, LATER);
        };
        let (one, other) = if client_begins { (client, server) } else { (server, client) };
        let mut meeting = Meeting {
            one,
            other,
            one_dialled: client_begins,
            tuple: Some(tuple),
            tuples: &self.tuples,
            random: random.fork(),
            held_percent: self.scenario.held_percent,
            held_at_most: self.scenario.held_at_most,
        };
        meeting.talk();
        meeting.hold();
        (way.play)(&mut meeting);
        log.add(meeting.ends());
    }

    /// Both ends of a new connection. `None`: the kernel still uses the tuple.
    pub(super) fn open(
        &self,
        tuple: Tuple,
        kind: &'static str,
        log: &mut Log,
    ) -> Option<[Side; 2]> {
        let door = &self.doors[tuple.door];
        let address = door.listener.address();
        let turn = door.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client(tuple)?;
        let (connected, opened) = Span::of(|| client.connect(&address.into()));
        if let Err(e) = connected {
            assert_eq!(e.kind(), ErrorKind::AddrNotAvailable, "{e} from {tuple:?}");
            log.add(vec![failed(NOT_DIALLED, client, (tuple.client, address), opened)]);
            return None;
        }
        let (server, accepted) = Span::of(|| door.listener.accept());
        drop(turn);
        assert_eq!(server.remote().port(), tuple.client.port(), "nobody else connects to it");
        let mut client = Side::of(kind, client, Some(Direction::Outbound), opened);
        // The handshake is over before anybody accepts.
        let accepted = opened.until(accepted);
        let mut server = Side::of(kind, server, Some(Direction::Inbound), accepted);
        client.ask_cookie();
        server.ask_cookie();
        Some([client, server])
    }
}

/// The end that an attempt was. The kernel may have forgotten its addresses.
fn failed(
    kind: &'static str,
    client: Socket,
    (local, remote): (SocketAddr, SocketAddr),
    tried: Span,
) -> End {
    let mut side = Side::of(kind, client, Some(Direction::Outbound), tried);
    side.ask_cookie();
    (side.end.local, side.end.remote) = (local, remote);
    side.close();
    side.ended(Ending::NotEstablished, tried);
    side.end.last_word = LastWord::Wiped;
    side.end.is_elusive = kind == NOT_DIALLED;
    side.end
}
