//! What really happened: each end of each connection on this host, and what the kernel would show of
//! it at any moment. Moments are microseconds since the start.

use std::cell::Cell;
use std::net::Ipv4Addr;

use sockrec::model::{Left, TcpState};

use super::script::{Connection, Course, Place, Slot};
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::START_MONOTONIC;

const START_MS: i64 = START_MONOTONIC / 1_000_000;
const TIME_WAIT_US: i64 = 60_000_000;
/// When the first connections are made.
const BEGIN_US: i64 = -1_500_000;
const NEVER: i64 = i64::MAX / 4;

/// What a dump shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Hidden,
    Full(TcpState),
    Mini(TcpState),
}

/// What the kernel tells when the socket is freed.
#[derive(Clone, Copy, Debug)]
pub struct Freed {
    pub at_us: i64,
    pub is_wiped: bool,
}

#[derive(Clone, Copy, Debug)]
struct Data {
    at_us: i64,
    is_own: bool,
    bytes: u64,
}

/// What of an end was shown to the recorder, and told.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub is_shown: Cell<bool>,
    pub is_missed: Cell<bool>,
    /// When its destroy event was read.
    pub told_us: Cell<Option<i64>>,
}

/// One end of a connection, a bound socket, or a listener.
#[derive(Clone, Debug)]
pub struct End {
    /// For people.
    pub name: String,
    pub is_opener: bool,
    pub is_connection: bool,
    pub socket: usize,
    pub local: (Ipv4Addr, u16),
    pub remote: (Ipv4Addr, u16),
    pub rtt_us: i64,
    phases: Vec<(i64, Shape)>,
    established_us: Option<i64>,
    data: Vec<Data>,
    fin_acked_us: i64,
    fin_received_us: i64,
    has_unread: bool,
    /// When the connection was over at this end.
    pub over_us: Option<i64>,
    pub freed: Option<Freed>,
    pub time_wait_us: Option<(i64, i64)>,
    pub peer: Option<usize>,
    /// What may be said of how it ended.
    pub endings: &'static [&'static str],
    pub shown: Shown,
}

impl End {
    fn new(name: String, socket: usize, is_opener: bool, begun_us: i64) -> Self {
        Self {
            name,
            is_opener,
            is_connection: true,
            socket,
            local: (Ipv4Addr::UNSPECIFIED, 0),
            remote: (Ipv4Addr::UNSPECIFIED, 0),
            rtt_us: 0,
            phases: vec![(begun_us, Shape::Hidden)],
            established_us: None,
            data: Vec::new(),
            fin_acked_us: NEVER,
            fin_received_us: NEVER,
            has_unread: false,
            over_us: None,
            freed: None,
            time_wait_us: None,
            peer: None,
            endings: &[],
            shown: Shown::default(),
        }
    }

    pub fn begun_us(&self) -> i64 {
        self.phases[0].0
    }

    fn goes_to(&mut self, at_us: i64, shape: Shape) {
        self.phases.push((at_us, shape));
    }

    pub fn shape_at(&self, us: i64) -> Shape {
        let phase = self.phases.iter().rev().find(|(from, _)| *from <= us);
        phase.map_or(Shape::Hidden, |(_, shape)| *shape)
    }

    /// Whether it had the same addresses and ports.
    fn is_of(&self, made: &Making<'_>) -> bool {
        let (client, server) =
            if self.is_opener { (self.local, self.remote) } else { (self.remote, self.local) };
        (client, server) == (made.client, made.server)
    }

    fn leave_time_wait(&mut self, us: i64) {
        if let Some((since_us, until_us)) = self.time_wait_us.filter(|(_, until_us)| *until_us > us)
        {
            debug_assert!(since_us < us && us < until_us);
            self.time_wait_us = Some((since_us, us));
            self.phases.retain(|(at_us, _)| *at_us <= us);
            self.goes_to(us, Shape::Hidden);
        }
    }

    /// Since when it has been only a mini-socket.
    pub fn remains_since_us(&self) -> Option<i64> {
        let is_rest = |shape| matches!(shape, Shape::Mini(state) if state != TcpState::SYN_RECV);
        self.phases.iter().find(|(_, shape)| is_rest(*shape)).map(|(from, _)| *from)
    }

    /// The socket with its counters at this moment.
    pub fn socket_at(&self, us: i64, cookie: u64) -> FakeSocket {
        let ms = |us: i64| START_MS + us.div_euclid(1_000);
        let mut socket = FakeSocket {
            local_address: self.local.0,
            remote_address: self.remote.0,
            bytes_sent: 0,
            bytes_acked: 0,
            bytes_received: 0,
            segs_out: 1,
            segs_in: 1,
            data_segs_out: 0,
            data_segs_in: 0,
            last_data_sent_at_ms: 0,
            last_data_recv_at_ms: 0,
            last_ack_recv_at_ms: 0,
            ..FakeSocket::established(cookie, self.local.1, self.remote.1)
        };
        let Some(established_us) = self.established_us.filter(|&from| from <= us) else {
            return if self.is_opener { socket.connecting() } else { socket };
        };
        let (since, mut heard_us) = (ms(established_us), established_us);
        (socket.last_data_sent_at_ms, socket.last_data_recv_at_ms) = (since, since);
        socket.bytes_acked = u64::from(self.is_opener);
        for data in &self.data {
            let (acked_us, received_us) = (data.at_us + self.rtt_us, data.at_us + self.rtt_us / 2);
            if data.is_own && data.at_us <= us {
                socket.bytes_sent += data.bytes;
                socket.segs_out += 1;
                socket.data_segs_out += 1;
                socket.last_data_sent_at_ms = ms(data.at_us);
                if acked_us <= us {
                    socket.bytes_acked += data.bytes;
                    socket.segs_in += 1;
                    heard_us = heard_us.max(acked_us);
                } else {
                    socket.wqueue += u32::try_from(data.bytes).unwrap();
                }
            } else if !data.is_own && received_us <= us {
                socket.bytes_received += data.bytes;
                socket.segs_in += 1;
                socket.segs_out += 1;
                socket.data_segs_in += 1;
                socket.last_data_recv_at_ms = ms(received_us);
                heard_us = heard_us.max(received_us);
                if self.has_unread {
                    socket.rqueue += u32::try_from(data.bytes).unwrap();
                }
            }
        }
        socket.bytes_acked += u64::from(self.fin_acked_us <= us);
        socket.bytes_received += u64::from(self.fin_received_us <= us);
        // Each segment acknowledges something, be it old.
        let fins =
            [self.fin_acked_us, self.fin_received_us].into_iter().filter(|&at_us| at_us <= us);
        socket.last_ack_recv_at_ms = ms(fins.fold(heard_us, i64::max));
        socket
    }

    /// The message of a dump at this moment, `None` if it is in none.
    pub fn shown_at(&self, us: i64, cookie: u64) -> Option<FakeSocket> {
        let socket = self.socket_at(us, cookie);
        match self.shape_at(us) {
            Shape::Hidden => None,
            Shape::Full(TcpState::LISTEN) => Some(FakeSocket {
                local_address: self.local.0,
                ..FakeSocket::listener(cookie, self.local.1, 0, 16)
            }),
            Shape::Full(state) => Some(socket.in_state(state)),
            Shape::Mini(TcpState::SYN_RECV) => Some(socket.request()),
            Shape::Mini(state) => {
                let (from, _) = *self.phases.iter().rev().find(|(from, _)| *from <= us)?;
                let ends_us = from + TIME_WAIT_US;
                Some(FakeSocket {
                    timer_ends_at_ms: START_MS + ends_us.div_euclid(1_000),
                    state,
                    ..socket.time_wait()
                })
            }
        }
    }

    /// What the kernel tells when it frees the socket.
    pub fn event(&self, cookie: u64) -> Option<FakeEvent> {
        let freed = self.freed?;
        let socket = self.socket_at(freed.at_us, cookie);
        Some(if freed.is_wiped { socket.aborted() } else { socket.destroyed() })
    }
}

/// Everything that happens on the machine.
#[derive(Debug, Default)]
pub struct Truth {
    pub ends: Vec<End>,
    /// Cookies of the sockets and when each was made, and those of mini-sockets by their end.
    cookies: Vec<Cell<Option<(u64, i64)>>>,
    rest_cookies: Vec<Cell<Option<u64>>>,
    last_cookie: Cell<u64>,
}

impl Truth {
    pub fn of(slots: &[Slot]) -> Self {
        let mut truth = Self::default();
        for (number, slot) in slots.iter().enumerate() {
            truth.add_slot(u16::try_from(number).unwrap(), slot);
        }
        let mut places: Vec<_> =
            truth.ends.iter().filter(|end| !end.is_opener).map(|end| end.local).collect();
        places.sort();
        places.dedup();
        for local in places {
            let socket = truth.new_socket();
            let mut end = End::new(format!("listener {local:?}"), socket, false, -NEVER);
            (end.local, end.is_connection) = (local, false);
            end.goes_to(-NEVER, Shape::Full(TcpState::LISTEN));
            truth.ends.push(end);
        }
        truth.rest_cookies = truth.ends.iter().map(|_| Cell::new(None)).collect();
        truth
    }

    /// What a look-up finds at this moment of the connection of an end whose socket is freed.
    pub fn left_at(&self, number: usize, us: i64) -> Left {
        let of = &self.ends[number];
        let has_tuple = |end: &&End| (end.local, end.remote) == (of.local, of.remote);
        for end in self.ends.iter().filter(has_tuple) {
            match end.shape_at(us) {
                Shape::Mini(TcpState::FIN_WAIT2) => return Left::FinWait2,
                Shape::Mini(TcpState::TIME_WAIT) => return Left::TimeWait,
                _ => {}
            }
        }
        Left::Nothing
    }

    fn new_socket(&mut self) -> usize {
        self.cookies.push(Cell::new(None));
        self.cookies.len() - 1
    }

    /// The cookie of what is to be seen of this end at this moment, made on first need.
    pub fn cookie_at(&self, number: usize, us: i64) -> u64 {
        let end = &self.ends[number];
        let of_socket = &self.cookies[end.socket];
        match end.remains_since_us() {
            Some(since_us) if us >= since_us && end.shape_at(us) != Shape::Hidden => {
                if let Some((cookie, _)) = of_socket.get().filter(|(_, made)| *made < since_us) {
                    return cookie;
                }
                let own = &self.rest_cookies[number];
                let cookie = own.get().unwrap_or_else(|| self.new_cookie());
                own.set(Some(cookie));
                cookie
            }
            _ => self.cookie_of_socket(number, us),
        }
    }

    /// The cookie of its socket, which this moment may have made.
    pub fn cookie_of_socket(&self, number: usize, us: i64) -> u64 {
        let of_socket = &self.cookies[self.ends[number].socket];
        let (cookie, made_us) = of_socket.get().unwrap_or_else(|| (self.new_cookie(), us));
        of_socket.set(Some((cookie, made_us)));
        cookie
    }

    fn new_cookie(&self) -> u64 {
        self.last_cookie.set(self.last_cookie.get() + 1);
        self.last_cookie.get()
    }

    /// Whether this end was shown or told of under this cookie.
    pub fn has_cookie(&self, number: usize, cookie: u64) -> bool {
        let of_socket = self.cookies[self.ends[number].socket].get();
        of_socket.is_some_and(|(own, _)| own == cookie)
            || self.rest_cookies[number].get() == Some(cookie)
    }

    /// Whether this end was half-closed without its socket, and the event of its other end was lost, which tells that
    /// there was no RST and when it was over. What is left of it is not known to be its own then.
    pub fn may_have_gone_on_alone(&self, number: usize) -> bool {
        let end = &self.ends[number];
        let is_half_closed = end.freed.zip(end.over_us).is_some_and(|(f, over)| f.at_us < over);
        let peer = end.peer.map(|peer| &self.ends[peer]);
        is_half_closed && peer.is_some_and(|peer| peer.shown.told_us.get().is_none())
    }

    fn add_slot(&mut self, number: u16, slot: &Slot) {
        let (here, mut there) = match slot.place {
            Place::Within => (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)),
            Place::ToAfar | Place::FromAfar => {
                (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7))
            }
        };
        let mut free_us = BEGIN_US;
        let mut socket_of_opener = None;
        let first = self.ends.len();
        for (place, connection) in slot.connections.iter().enumerate() {
            let made = Making {
                name: format!("slot {number} connection {place} {:?}", connection.course),
                slot,
                connection,
                client: (if slot.place == Place::FromAfar { there } else { here }, 1_001 + number),
                server: (if slot.place == Place::FromAfar { here } else { there }, 80),
                begun_us: free_us + connection.gap_us,
                socket: socket_of_opener.take(),
            };
            let from = self.ends.len();
            let connected_us = made.add(self);
            if connection.course == Course::Reconnected && slot.place != Place::FromAfar {
                // A half-wiped event tells the remote address, but not the port.
                let [a, b, c, d] = there.octets();
                there = Ipv4Addr::new(a, b, c, d + 1);
                let opener = self.ends[from..].iter().rev().find(|end| end.is_opener);
                socket_of_opener = opener.map(|end| end.socket);
            }
            // What was in TIME-WAIT makes room for the next.
            for old in self.ends[first..from].iter_mut().filter(|end| end.is_of(&made)) {
                old.leave_time_wait(connected_us);
            }
            let over = self.ends[from..].iter().filter_map(|end| end.over_us);
            free_us = over.max().unwrap_or(connected_us) + 100;
        }
    }
}

/// A connection that is being made.
struct Making<'s> {
    name: String,
    slot: &'s Slot,
    connection: &'s Connection,
    client: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
    begun_us: i64,
    /// That of the opener, if it was connected before.
    socket: Option<usize>,
}

impl Making<'_> {
    /// Adds its ends; says when it was begun.
    fn add(&self, truth: &mut Truth) -> i64 {
        let Connection { course, life_us, bound_us, .. } = *self.connection;
        let is_here = |is_opener| match self.slot.place {
            Place::Within => true,
            Place::ToAfar => is_opener,
            Place::FromAfar => !is_opener,
        };
        let rtt_us = self.slot.rtt_us;
        let course = match (course, self.slot.place) {
            (Course::Unanswered, Place::Within) => Course::Refused { is_blocking: true },
            (Course::Refused { .. }, Place::FromAfar) => Course::Unanswered,
            (Course::Reconnected, Place::FromAfar) => Course::Aborted,
            (course, _) => course,
        };
        let is_bound = bound_us > 0 && is_here(true) && self.socket.is_none();
        let begun_us = self.begun_us + if is_bound { bound_us } else { 0 };
        let opener_socket = self.socket.unwrap_or_else(|| truth.new_socket());
        if is_bound {
            let name = format!("{} bound", self.name);
            let mut end = End::new(name, opener_socket, true, self.begun_us);
            (end.local, end.is_connection) = (self.client, false);
            end.goes_to(self.begun_us, Shape::Full(TcpState::CLOSE));
            end.goes_to(begun_us, Shape::Hidden);
            end.over_us = Some(begun_us);
            truth.ends.push(end);
        }
        let mut ends = Vec::new();
        let has_acceptor = is_here(false) && !matches!(course, Course::Refused { .. });
        if is_here(true) {
            let mut end = End::new(format!("{} opener", self.name), opener_socket, true, begun_us);
            (end.local, end.remote) = (self.client, self.server);
            end.goes_to(begun_us, Shape::Full(TcpState::SYN_SENT));
            ends.push(end);
        }
        if has_acceptor {
            let (socket, at_us) = (truth.new_socket(), begun_us + rtt_us / 4);
            let mut end = End::new(format!("{} acceptor", self.name), socket, false, at_us);
            (end.local, end.remote) = (self.server, self.client);
            end.goes_to(at_us, Shape::Mini(TcpState::SYN_RECV));
            ends.push(end);
        }
        for end in &mut ends {
            end.rtt_us = rtt_us;
        }
        match course {
            Course::Refused { is_blocking } => self.fail(&mut ends, begun_us + rtt_us, is_blocking),
            Course::Unanswered => self.fail(&mut ends, begun_us + life_us, false),
            _ => self.live(&mut ends, begun_us, course),
        }
        if let [a, b] = &mut ends[..] {
            (a.peer, b.peer) = (Some(truth.ends.len() + 1), Some(truth.ends.len()));
        }
        truth.ends.append(&mut ends);
        begun_us
    }

    fn fail(&self, ends: &mut [End], over_us: i64, is_wiped: bool) {
        for end in ends {
            end.goes_to(over_us, Shape::Hidden);
            end.over_us = Some(over_us);
            let at_us = over_us + self.connection.hold_us[0] + 20;
            // A request has no event.
            end.freed = end.is_opener.then_some(Freed { at_us, is_wiped });
            end.endings = &["not_established", "timed_out"];
        }
    }

    fn live(&self, ends: &mut [End], begun_us: i64, course: Course) {
        let Connection { life_us, by_opener, hold_us, ref transfers, .. } = *self.connection;
        let rtt_us = self.slot.rtt_us;
        let (answered_us, closed_us) = (begun_us + rtt_us, begun_us + 4 * rtt_us + life_us);
        for end in ends.iter_mut() {
            let at_us = answered_us + if end.is_opener { 0 } else { rtt_us / 2 };
            end.established_us = Some(at_us);
            end.goes_to(at_us, Shape::Full(TcpState::ESTABLISHED));
            let is_first = end.is_opener == by_opener;
            end.has_unread = course == Course::Unread && is_first;
            end.data = transfers
                .iter()
                .map(|transfer| Data {
                    at_us: answered_us + rtt_us + life_us * transfer.at_permille / 1_000,
                    is_own: transfer.by_opener == end.is_opener,
                    bytes: transfer.bytes,
                })
                .collect();
            if course == Course::Unread {
                let bytes = 7;
                let at_us = answered_us + rtt_us + life_us;
                end.data.push(Data { at_us: at_us - rtt_us / 2, is_own: !is_first, bytes });
            }
            let hold_us = hold_us[usize::from(!end.is_opener)];
            match course {
                Course::Closed { half_us, is_shutdown } if is_first => {
                    close_first(end, closed_us, half_us, is_shutdown.then_some(hold_us));
                }
                Course::Closed { half_us, is_shutdown } => {
                    close_second(end, closed_us, half_us, if is_shutdown { hold_us } else { 0 });
                }
                Course::Reconnected if end.is_opener => {
                    end.goes_to(closed_us, Shape::Hidden);
                    end.over_us = Some(closed_us);
                    end.endings = &["reset"];
                }
                Course::Aborted | Course::Unread if is_first => {
                    reset(end, closed_us, rtt_us.min(100), course == Course::Aborted);
                }
                _ => reset(end, closed_us + rtt_us / 2, rtt_us + hold_us, false),
            }
        }
    }
}

/// The end that closes first: what is left of it waits for the other, then in TIME-WAIT. One that
/// was only shut down is held.
fn close_first(end: &mut End, closed_us: i64, half_us: i64, held_us: Option<i64>) {
    let acked_us = closed_us + end.rtt_us;
    let over_us = if half_us == 0 { acked_us } else { acked_us + half_us };
    end.fin_acked_us = acked_us;
    end.goes_to(closed_us, Shape::Full(TcpState::FIN_WAIT1));
    if half_us > 0 {
        let is_mini = held_us.is_none();
        let half = TcpState::FIN_WAIT2;
        end.goes_to(acked_us, if is_mini { Shape::Mini(half) } else { Shape::Full(half) });
    }
    end.goes_to(over_us, Shape::Mini(TcpState::TIME_WAIT));
    end.goes_to(over_us + TIME_WAIT_US, Shape::Hidden);
    end.time_wait_us = Some((over_us, over_us + TIME_WAIT_US));
    let at_us = match held_us {
        Some(held_us) => over_us + held_us + 10,
        None => acked_us,
    };
    if at_us >= over_us {
        end.fin_received_us = over_us;
    }
    end.over_us = Some(over_us);
    end.freed = Some(Freed { at_us, is_wiped: false });
    end.endings = &["orderly"];
}

fn close_second(end: &mut End, closed_us: i64, half_us: i64, held_us: i64) {
    let (rtt_us, received_us) = (end.rtt_us, closed_us + end.rtt_us / 2);
    let own_us = received_us + half_us;
    let over_us = own_us + rtt_us;
    if half_us > 0 {
        end.goes_to(received_us, Shape::Full(TcpState::CLOSE_WAIT));
    }
    end.goes_to(own_us, Shape::Full(TcpState::LAST_ACK));
    end.goes_to(over_us, Shape::Hidden);
    (end.fin_received_us, end.fin_acked_us) = (received_us, over_us);
    end.over_us = Some(over_us);
    end.freed = Some(Freed { at_us: over_us + held_us, is_wiped: false });
    end.endings = &["orderly"];
}

fn reset(end: &mut End, over_us: i64, freed_after_us: i64, is_wiped: bool) {
    end.goes_to(over_us, Shape::Hidden);
    end.over_us = Some(over_us);
    end.freed = Some(Freed { at_us: over_us + freed_after_us, is_wiped });
    end.endings = &["reset"];
}
