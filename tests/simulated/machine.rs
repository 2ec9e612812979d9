//! A machine whose connections live made-up lives, and what its kernel tells of them: in a dump what
//! is there at that moment, and an event as each socket is freed.
//!
//! Moments are milliseconds of `CLOCK_MONOTONIC` since the start of the script.

use std::cell::Cell;
use std::collections::HashMap;

use sockrec::kernel::{DumpEnd, EventBatch, LostSpan};
use sockrec::model::{self, Clocks, Family, Left, LookUp, MadeAt, Protocol, States, TcpState};
use sockrec::record::{Kernel, in_doubt};
use sockrec::wire::inet_diag::Message;

use crate::socket::FakeSocket;
use crate::world::{START_MONOTONIC, failed, interrupted, later};

/// `TCP_TIMEWAIT_LEN`
const TIME_WAIT_MS: i64 = 60_000;
/// Where events are lost the kernel may be as late in telling of one.
const LATE_MS: i64 = 2_000;
pub const SERVER_PORT: u16 = 80;

/// How a connection ends. `by_opener`: the end that opened it is the first to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One end closes its socket, the other end so much later.
    Closed { by_opener: bool, half_closed_ms: i64 },
    /// One end shuts down and keeps its socket for so long after the other has closed.
    ShutDown { by_opener: bool, half_closed_ms: i64, held_ms: i64 },
    /// One end aborts; the other keeps its socket for so long.
    Aborted { by_opener: bool, held_ms: i64 },
    /// It was never established.
    Refused,
    /// It does not.
    Never,
}

/// Where its ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    WithinHost,
    OpenedHere,
    OpenedAfar,
}

/// A connection as it truly was.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub port: u16,
    pub place: Place,
    pub opened_ms: i64,
    /// When bytes went both ways.
    pub exchanged_ms: i64,
    pub bytes_of_opener: u64,
    pub bytes_of_acceptor: u64,
    /// When the first end acts; with [`Finish::Never`] never.
    pub finish_ms: i64,
    pub finish: Finish,
    /// The next one with the same addresses and ports begins.
    pub reused_ms: i64,
    /// Events are sent so much after the socket was freed, and read so much later still.
    pub event_delay_ms: i64,
    pub event_unread_ms: i64,
    /// What is left of it is looked up as its event is read, where that is in doubt.
    pub is_looked_up: bool,
}

impl Connection {
    /// When it was over for both ends.
    pub fn over_ms(&self) -> Option<i64> {
        match self.finish {
            Finish::Closed { half_closed_ms, .. } | Finish::ShutDown { half_closed_ms, .. } => {
                Some(self.finish_ms + half_closed_ms)
            }
            Finish::Aborted { .. } => Some(self.finish_ms),
            Finish::Refused => Some(self.opened_ms),
            Finish::Never => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Whole,
    Wiped,
    Refused,
}

/// One end of a connection on this machine, and what was told of it.
#[derive(Clone, Debug)]
pub struct End {
    pub connection: Connection,
    pub is_opener: bool,
    pub cookie: u64,
    /// Of its mini-socket, if nobody asked for that of the socket before.
    pub cookie_of_rest: u64,
    pub peer_cookie: Option<u64>,
    /// A dump showed the socket while it was alive, and so gave it a cookie.
    pub was_shown: bool,
    /// A dump that was complete showed what was left of it.
    pub was_rest_shown: bool,
    /// Its event was read.
    pub was_told: bool,
}

impl End {
    fn is_first_to_act(&self) -> bool {
        match self.connection.finish {
            Finish::Closed { by_opener, .. }
            | Finish::ShutDown { by_opener, .. }
            | Finish::Aborted { by_opener, .. } => by_opener == self.is_opener,
            Finish::Refused | Finish::Never => false,
        }
    }

    /// Our FIN and that of the other end, both acknowledged at once.
    fn fins(&self) -> (Option<i64>, Option<i64>) {
        let c = &self.connection;
        let (Finish::Closed { half_closed_ms, .. } | Finish::ShutDown { half_closed_ms, .. }) =
            c.finish
        else {
            return (None, None);
        };
        let (first, second) = (Some(c.finish_ms), Some(c.finish_ms + half_closed_ms));
        if self.is_first_to_act() { (first, second) } else { (second, first) }
    }

    /// Whether it closes first, does not count a SYN, and the other end takes its time.
    pub fn may_go_on_half_closed(&self) -> bool {
        let (ours, theirs) = self.fins();
        let is_later = ours.zip(theirs).is_some_and(|(ours, theirs)| theirs > ours + 100);
        is_later && !self.is_opener
    }

    /// Whether its program holds the socket while what is left of it is in TIME-WAIT.
    pub fn is_held_in_time_wait(&self) -> bool {
        matches!(self.connection.finish, Finish::ShutDown { held_ms: 1.., .. })
            && self.is_first_to_act()
    }

    /// When its socket was freed.
    pub fn destroyed_ms(&self) -> Option<i64> {
        let c = &self.connection;
        match c.finish {
            Finish::Closed { half_closed_ms, .. } if !self.is_first_to_act() => {
                Some(c.finish_ms + half_closed_ms)
            }
            Finish::Closed { .. } => Some(c.finish_ms),
            Finish::ShutDown { half_closed_ms, held_ms, .. } if self.is_first_to_act() => {
                Some(c.finish_ms + half_closed_ms + held_ms)
            }
            Finish::ShutDown { half_closed_ms, .. } => Some(c.finish_ms + half_closed_ms),
            Finish::Aborted { .. } if self.is_first_to_act() => Some(c.finish_ms),
            Finish::Aborted { held_ms, .. } => Some(c.finish_ms + held_ms),
            Finish::Refused => Some(c.opened_ms),
            Finish::Never => None,
        }
    }

    /// Until when dumps show the socket itself.
    fn shown_until_ms(&self) -> i64 {
        let c = &self.connection;
        match c.finish {
            Finish::Refused => c.opened_ms,
            Finish::Never => i64::MAX,
            Finish::Closed { .. } => self.destroyed_ms().unwrap_or(i64::MAX),
            Finish::ShutDown { .. } | Finish::Aborted { .. } => c.over_ms().unwrap_or(i64::MAX),
        }
    }

    fn word(&self) -> Word {
        match self.connection.finish {
            Finish::Refused => Word::Refused,
            Finish::Aborted { .. } if self.is_first_to_act() => Word::Wiped,
            _ => Word::Whole,
        }
    }

    /// Whether its destroy event tells everything.
    pub fn is_told_whole(&self) -> bool {
        self.was_told && self.word() == Word::Whole
    }

    fn event_sent_ms(&self) -> Option<i64> {
        Some(self.destroyed_ms()? + self.connection.event_delay_ms)
    }

    fn event_read_ms(&self) -> Option<i64> {
        Some(self.event_sent_ms()? + self.connection.event_unread_ms)
    }

    pub fn bytes_sent(&self) -> u64 {
        let c = &self.connection;
        if self.is_opener { c.bytes_of_opener } else { c.bytes_of_acceptor }
    }

    fn bytes_to_receive(&self) -> u64 {
        let c = &self.connection;
        if self.is_opener { c.bytes_of_acceptor } else { c.bytes_of_opener }
    }

    /// What `tcpi_bytes_received` comes to when the socket is freed.
    pub fn bytes_received_in_all(&self) -> u64 {
        let fin = self.fins().1.is_some_and(|ms| Some(ms) <= self.destroyed_ms());
        self.bytes_to_receive() + u64::from(fin)
    }

    /// The full socket with its counters of this moment.
    fn socket_at(&self, ms: i64) -> FakeSocket {
        let c = &self.connection;
        let (our_fin, their_fin) = self.fins();
        let had = |at: Option<i64>| at.is_some_and(|at| at <= ms);
        let (sent, received) = match c.exchanged_ms <= ms {
            true => (self.bytes_sent(), self.bytes_to_receive()),
            false => (0, 0),
        };
        let state = match (had(our_fin), had(their_fin)) {
            (false, false) => TcpState::ESTABLISHED,
            (false, true) => TcpState::CLOSE_WAIT,
            (true, false) => TcpState::FIN_WAIT2,
            (true, true) => TcpState::LAST_ACK,
        };
        let at = |ms: i64| START_MONOTONIC / 1_000_000 + ms;
        let of_exchange = |bytes: u64| if bytes > 0 { c.exchanged_ms } else { c.opened_ms };
        let heard = [Some(of_exchange(sent.max(received))), our_fin, their_fin];
        let last_ack = heard.into_iter().flatten().filter(|&at| at <= ms).max();
        let socket = self.addressed(self.cookie);
        FakeSocket {
            state,
            inode: u32::try_from(self.cookie).unwrap() + 10_000,
            bytes_sent: sent,
            bytes_acked: sent + u64::from(self.is_opener) + u64::from(had(our_fin)),
            bytes_received: received + u64::from(had(their_fin)),
            segs_out: 2,
            segs_in: 2,
            data_segs_out: u32::from(sent > 0),
            data_segs_in: u32::from(received > 0),
            last_data_sent_at_ms: at(of_exchange(sent)),
            last_data_recv_at_ms: at(of_exchange(received)),
            last_ack_recv_at_ms: at(last_ack.unwrap_or(c.opened_ms)),
            ..socket
        }
    }

    fn addressed(&self, cookie: u64) -> FakeSocket {
        let port = self.connection.port;
        let opener = FakeSocket::established(cookie, port, SERVER_PORT);
        match (self.connection.place, self.is_opener) {
            (Place::WithinHost, true) => opener,
            (Place::WithinHost, false) => opener.peer(cookie),
            (_, true) => opener.to_afar(),
            (_, false) => FakeSocket::established(cookie, SERVER_PORT, port).to_afar(),
        }
    }

    /// What a look-up finds after its socket was freed.
    fn left_at(&self, ms: i64) -> Left {
        match self.shown_at(ms) {
            Some((rest, true)) if rest.state == TcpState::FIN_WAIT2 => Left::FinWait2,
            Some((_, true)) => Left::TimeWait,
            _ => Left::Nothing,
        }
    }

    /// What a dump shows of it: its socket, or what is left of it.
    fn shown_at(&self, ms: i64) -> Option<(FakeSocket, bool)> {
        let c = &self.connection;
        if ms < c.opened_ms {
            return None;
        }
        if ms < self.shown_until_ms() {
            return Some((self.socket_at(ms), false));
        }
        let over_ms = c.over_ms().filter(|_| self.is_first_to_act())?;
        let is_orderly = matches!(c.finish, Finish::Closed { .. } | Finish::ShutDown { .. });
        if !is_orderly || ms >= over_ms + TIME_WAIT_MS || ms >= c.reused_ms {
            return None;
        }
        let cookie = if self.was_shown { self.cookie } else { self.cookie_of_rest };
        let rest = self.addressed(cookie);
        let rest = if ms < over_ms {
            FakeSocket { state: TcpState::FIN_WAIT2, ..rest.time_wait_since(c.finish_ms) }
        } else {
            rest.time_wait_since(over_ms)
        };
        Some((rest, true))
    }
}

/// What goes wrong in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The dump fails after half of the sockets.
    Failed,
    Interrupted,
    /// The events since the tick before are lost.
    EventsLost,
}

/// The kernel of the machine.
pub struct Machine<'c> {
    pub ends: Vec<End>,
    pub listener: Option<FakeSocket>,
    pub faults: HashMap<usize, Fault>,
    pub listens: bool,
    pub clock: &'c Cell<Clocks>,
    /// The dumps so far: when they were made, and what to add to `CLOCK_MONOTONIC` for UTC.
    pub dumps: Vec<(i64, i64)>,
    /// When events had been lost.
    losses_ms: Vec<i64>,
    taken: Clocks,
    listens_since_ms: i64,
    tick: usize,
}

impl<'c> Machine<'c> {
    pub fn new(connections: &[Connection], clock: &'c Cell<Clocks>) -> Self {
        let mut ends = Vec::new();
        for (index, &connection) in connections.iter().enumerate() {
            let first = 10 * (index as u64 + 1);
            let end = |is_opener: bool, has_peer: bool| End {
                connection,
                is_opener,
                cookie: first + u64::from(is_opener),
                cookie_of_rest: first + 5 + u64::from(is_opener),
                peer_cookie: has_peer.then_some(first + u64::from(!is_opener)),
                was_shown: false,
                was_rest_shown: false,
                was_told: false,
            };
            match (connection.finish, connection.place) {
                (Finish::Refused, _) => ends.push(end(true, false)),
                (_, Place::WithinHost) => ends.extend([end(true, true), end(false, true)]),
                (_, Place::OpenedHere) => ends.push(end(true, false)),
                (_, Place::OpenedAfar) => ends.push(end(false, false)),
            }
        }
        Self {
            ends,
            listener: None,
            faults: HashMap::new(),
            listens: true,
            clock,
            dumps: Vec::new(),
            losses_ms: Vec::new(),
            taken: clock.get(),
            listens_since_ms: ms(clock.get()),
            tick: 0,
        }
    }

    /// The recorder is started anew: what came since it stopped was told to nobody.
    pub fn restart(&mut self) {
        self.taken = self.clock.get();
        self.listens_since_ms = ms(self.taken);
    }

    /// Whether events had been lost just before that of this end was read.
    pub fn has_just_lost_events(&self, end: &End) -> bool {
        let lost_before = |at_ms: i64, lost_ms: i64| (lost_ms..=lost_ms + LATE_MS).contains(&at_ms);
        end.event_read_ms()
            .is_some_and(|at| self.losses_ms.iter().any(|&lost| lost_before(at, lost)))
    }

    /// Whether nothing of this end was shown but what is left of it, by the last dump.
    pub fn is_shown_last_only(&self, end: &End) -> bool {
        let before = self.dumps.iter().rev().nth(1);
        let acted_ms = end.connection.finish_ms;
        !end.was_shown && !end.was_told && before.is_some_and(|(at_ms, _)| *at_ms < acted_ms)
    }

    /// This moment in UTC nanoseconds. A suspend came right after the dump before.
    pub fn utc_ns(&self, ms: i64) -> i64 {
        let later_dump = self.dumps.iter().find(|(at_ms, _)| ms <= *at_ms);
        let (_, offset_ns) = later_dump.or(self.dumps.last()).unwrap();
        START_MONOTONIC + ms * 1_000_000 + offset_ns
    }
}

fn ms(clocks: Clocks) -> i64 {
    (clocks.monotonic_ns - START_MONOTONIC).div_euclid(1_000_000)
}

impl Kernel for Machine<'_> {
    fn dump(
        &mut self,
        _: model::Place,
        family: Family,
        _: Protocol,
        _: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let now = self.clock.get();
        let now_ms = ms(now);
        let made_at_ms = now.monotonic_ms();
        self.dumps.push((now_ms + 1, now.utc_ns - now.monotonic_ns));
        let fault = self.faults.get(&self.tick).copied();
        self.tick += 1;
        if let Some(listener) = &self.listener {
            each(&mut listener.message(family, made_at_ms), MadeAt::just(made_at_ms));
        }
        let shown = match fault {
            Some(Fault::Failed) => self.ends.len() / 2,
            _ => self.ends.len(),
        };
        for end in &mut self.ends[..shown] {
            let Some((socket, is_rest)) = end.shown_at(now_ms) else { continue };
            end.was_shown |= !is_rest;
            end.was_rest_shown |= is_rest;
            each(&mut socket.message(family, made_at_ms), MadeAt::just(made_at_ms));
        }
        // A dump takes a millisecond.
        self.clock.set(later(now, 1_000_000));
        match fault {
            Some(Fault::Failed) => failed(),
            Some(Fault::Interrupted) => interrupted(),
            Some(Fault::EventsLost) | None => DumpEnd::Complete,
        }
    }

    fn listens_to_events(&self) -> bool {
        self.listens
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        let (from, now) = (self.taken, self.clock.get());
        self.taken = now;
        if !self.listens {
            return;
        }
        let is_lost = self.faults.get(&self.tick) == Some(&Fault::EventsLost);
        let mut read: Vec<_> = self
            .ends
            .iter_mut()
            .filter_map(|end| Some((end.event_read_ms()?, end)))
            .filter(|(_, end)| end.event_sent_ms() > Some(self.listens_since_ms))
            .filter(|(read_ms, _)| (ms(from) + 1..=ms(now)).contains(read_ms))
            .collect();
        read.sort_by_key(|(read_ms, _)| *read_ms);
        if is_lost {
            batch.losses.push(LostSpan { from, to: now, count: None });
            self.losses_ms.push(ms(now));
            return;
        }
        for (read_ms, end) in read {
            let (Some(destroyed_ms), Some(sent_ms)) = (end.destroyed_ms(), end.event_sent_ms())
            else {
                continue;
            };
            end.was_told = true;
            let socket = end.socket_at(destroyed_ms);
            let (looks_up, left) = (end.connection.is_looked_up, end.left_at(read_ms));
            let event = match end.word() {
                Word::Whole => socket.destroyed(),
                Word::Wiped => socket.aborted(),
                Word::Refused => socket.refused(),
            };
            let back =
                |to_ms: i64| later(now, (START_MONOTONIC + to_ms * 1_000_000) - now.monotonic_ns);
            let (received, sent) = (back(read_ms), back(sent_ms));
            let payload = event.message(Protocol::Tcp, Family::Inet, sent.monotonic_ms());
            batch.push(&payload, received, sent.boottime_ns);
            if looks_up && in_doubt(true)(&Message::parse(&payload).unwrap()) {
                batch.look_up_last(LookUp { at: received, left });
            }
        }
    }
}
