//! Connections at a rate: nothing but opened, used and closed, all ends in this process.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, socket_cookie};
use sockrec::model::Protocol;

use crate::common::sockets::Route;
use crate::truth::{Direction, End, Ending, LastWord, Log, Span};

/// Threads that make connections; each makes both ends, and closes them but for some that another thread does.
const WORKERS: u32 = 2;
/// Listeners of each, in turn: with one alone TIME_WAITs would use up its tuples.
const LISTENERS: usize = 4;

/// How many, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) name: &'static str,
    /// `None`: as many as go.
    pub(crate) per_second: Option<u32>,
    pub(crate) lasts: Duration,
    /// Whether sockets are asked for their cookies, which makes them: what tells them apart where times do not.
    pub(crate) asks_cookies: bool,
}

/// Those who make the connections, ready to begin.
pub(crate) struct Workers(Vec<Vec<(TcpListener, End)>>);

impl Workers {
    /// Opens their listeners.
    pub(crate) fn prepare() -> Self {
        let routes = Route::available();
        let v6 = if routes.contains(&Route::V6) { "[::1]:0" } else { "127.0.0.1:0" };
        let open = |address: &str| (0..LISTENERS).map(|_| listen(address)).collect();
        Self(vec![open("127.0.0.1:0"), open(v6)])
    }

    /// Makes connections at this rate, and closes the listeners.
    pub(crate) fn run(self, rate: Rate) -> Log {
        let mut log = Log::default();
        thread::scope(|scope| {
            let start = |listeners| scope.spawn(move || work(listeners, rate));
            let workers: Vec<_> = self.0.into_iter().map(start).collect();
            for worker in workers {
                log.add(worker.join().expect("every connection can be made"));
            }
        });
        log
    }
}

fn listen(address: &str) -> (TcpListener, End) {
    let (listener, opened) = Span::of(|| TcpListener::bind(address).expect("bind"));
    let local = listener.local_addr().expect("getsockname");
    let nobody = match local.ip() {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let end = End::opened("listener of a rate", Protocol::Tcp, [local, nobody], None, opened);
    (listener, End { last_word: LastWord::Full, ..end })
}

/// Made by turns: most end orderly, closed first by one side or the other.
fn work(listeners: Vec<(TcpListener, End)>, rate: Rate) -> Vec<End> {
    let mut log = Log::default();
    let (closer, to_close) = channel();
    let closing = thread::spawn(move || close_what_is_reset(&to_close));
    let began = Instant::now();
    for n in 0u32.. {
        let now = Instant::now();
        let due = match rate.per_second {
            Some(per_second) => began + Duration::from_secs(1) * WORKERS * n / per_second,
            None => now,
        };
        if due.max(now) >= began + rate.lasts {
            break;
        }
        thread::sleep(due - now.min(due));
        let (listener, _) = &listeners[n as usize % listeners.len()];
        let (ends, left) = match connection(listener, n, rate) {
            Ok(made) => made,
            Err(e) => panic!("connection {n} of {rate:?}: {e}"),
        };
        log.add(ends);
        if let Some(left) = left {
            closer.send((left, log.ends.len() - 1)).expect("there is a thread that closes it");
        }
    }
    drop(closer);
    for (span, number) in closing.join().expect("each was reset") {
        log.ends[number].let_go = Some(span);
    }
    for (listener, mut end) in listeners {
        end.closed = Some(close(listener, &mut end));
        log.add(vec![end]);
    }
    log.ends
}

/// An end that is closed by another thread: the kernel may tell of it before it tells of the one that was
/// closed first.
type Left = (TcpStream, usize);

/// Closes each as soon as it has been reset; says when that was.
fn close_what_is_reset(left: &Receiver<Left>) -> Vec<(Span, usize)> {
    left.iter()
        .map(|(mut socket, number)| {
            await_reset(&mut socket).expect("it is reset");
            (Span::of(|| drop(socket)).1, number)
        })
        .collect()
}

/// The second of both ends is to be closed by another thread if it is given back.
fn connection(
    listener: &TcpListener,
    n: u32,
    rate: Rate,
) -> io::Result<(Vec<End>, Option<TcpStream>)> {
    let (client, opened) = Span::of(|| TcpStream::connect(listener.local_addr()?));
    let mut client = client?;
    let (server, accepted) = Span::of(|| listener.accept());
    let (mut server, _) = server?;
    let up = vec![b'x'; 1 + n as usize % 251];
    let down = vec![b'x'; 1 + n as usize * 7 % 509];
    let end = |socket: &TcpStream, direction, opened, peer| -> io::Result<End> {
        let addresses = [socket.local_addr()?, socket.peer_addr()?];
        let end = End::opened(rate.name, Protocol::Tcp, addresses, Some(direction), opened);
        let cookie = rate.asks_cookies.then(|| socket_cookie(socket)).transpose()?;
        Ok(End { cookie, last_word: LastWord::Full, peer: Some(peer), ..end })
    };
    let mut ends = [
        end(&client, Direction::Outbound, opened, 1)?,
        end(&server, Direction::Inbound, opened.until(accepted), 0)?,
    ];
    let [c, s] = &mut ends;
    (c.sent, s.received) = (up.len() as u64, up.len() as u64);
    (s.sent, c.received) = (down.len() as u64, down.len() as u64);
    client.write_all(&up)?;
    // Of some the server closes with unread data, which sends a RST.
    let leaves_data = n % 8 == 7;
    if !leaves_data {
        server.read_exact(&mut vec![0; up.len()])?;
    }
    server.write_all(&down)?;
    client.read_exact(&mut vec![0; down.len()])?;
    match n % 8 {
        0..=2 => orderly((client, c), (server, s))?,
        3..=5 => orderly((server, s), (client, c))?,
        6 => {
            set_socket_linger(&client, Some(Duration::ZERO))?;
            c.last_word = LastWord::Wiped;
            // As many threads at full speed keep the kernel's own from telling.
            if (rate.per_second.is_some() || rate.asks_cookies) && n % 16 == 6 {
                let ended = close(client, c);
                (c.ending, s.ending) = (Some(Ending::Reset), Some(Ending::Reset));
                (c.closed, s.closed) = (Some(ended), Some(ended));
                return Ok((ends.into(), Some(server)));
            }
            reset((client, c), (server, s))?;
        }
        _ => reset((server, s), (client, c))?,
    }
    Ok((ends.into(), None))
}

/// A socket and what is told of it.
type Side<'a> = (TcpStream, &'a mut End);

fn orderly((first, one): Side<'_>, (mut second, other): Side<'_>) -> io::Result<()> {
    let began = close(first, one);
    if second.read(&mut [0])? != 0 {
        return Err(io::Error::other("data that were not sent"));
    }
    let ended = close(second, other);
    (one.has_peer_fin, other.has_peer_fin) = (None, Some(true));
    (one.ending, other.ending) = (Some(Ending::Orderly), Some(Ending::Orderly));
    (one.closed, other.closed) = (Some(began.until(ended)), Some(ended));
    Ok(())
}

/// Closes what sends a RST, then the other side once it has it.
fn reset((by, one): Side<'_>, (mut second, other): Side<'_>) -> io::Result<()> {
    let ended = close(by, one);
    await_reset(&mut second)?;
    close(second, other);
    (one.ending, other.ending) = (Some(Ending::Reset), Some(Ending::Reset));
    (one.closed, other.closed) = (Some(ended), Some(ended));
    Ok(())
}

fn await_reset(socket: &mut TcpStream) -> io::Result<()> {
    match socket.read(&mut [0]) {
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(()),
        outcome => Err(io::Error::other(format!("no reset but {outcome:?}"))),
    }
}

fn close<T>(socket: T, end: &mut End) -> Span {
    let ((), span) = Span::of(|| drop(socket));
    end.let_go = Some(span);
    span
}
