//! A day that never was, recorded by the recorder itself from made-up kernel messages.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sockrec::kernel::{DumpEnd, EventBatch};
use sockrec::model::{Clocks, Family, MadeAt, Nanos, Place, Protocol, States, TcpState};
use sockrec::record::{Event, Kernel};

use crate::measure::Result;
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{SECOND, START_MONOTONIC, World, later};

/// What lives on a machine, and how it is looked at.
#[derive(Clone, Copy)]
pub struct Load {
    pub name: &'static str,
    pub ticks: u64,
    pub interval_ns: Nanos,
    /// Sockets that stay all the time.
    pub staying: usize,
    /// Connections a tick, in thousandths.
    pub opened_per_mille: u64,
    /// Whether all connections are over after a few ticks.
    pub is_brief: bool,
}

/// 1,000 sockets at a time, looked at once a second, of which 15 % have changed each time; 200,000
/// connections in all, most of them short, each ended by a destroy event, half of them with a
/// TIME-WAIT; 40 processes that hold them.
pub const DAY: Load = Load {
    name: "the day",
    ticks: 86_400,
    interval_ns: SECOND,
    staying: 600,
    opened_per_mille: 2_315,
    is_brief: false,
};

const PROCESSES: i64 = 40;
const TIME_WAIT_NS: Nanos = 60 * SECOND;

impl Load {
    /// Records it into a file.
    pub fn record(&self, path: &Path) -> Result<()> {
        let begun = Instant::now();
        let mut shown = Instant::now();
        self.watched(path, &mut |_, snapshots| {
            if shown.elapsed() > Duration::from_secs(10) {
                shown = Instant::now();
                eprintln!("{} % of {} is recorded", snapshots * 100 / self.ticks, self.name);
            }
            Ok(())
        })?;
        hand_out(path)?;
        let megabytes = std::fs::metadata(path)?.len() / 1_000_000;
        let took = begun.elapsed();
        eprintln!("{} took {took:.0?} to record, and {megabytes} MB\n", self.name);
        Ok(())
    }

    /// The same; tells of each snapshot once it was taken, and of the file meanwhile.
    pub fn watched(
        &self,
        path: &Path,
        each: &mut dyn FnMut(&Path, u64) -> Result<()>,
    ) -> Result<()> {
        let world = World { interval_ns: self.interval_ns, ..World::with_events() };
        let clock = Cell::new(world.begins);
        let mut day = Day::new(&clock, *self);
        let recording = world.path();
        let mut result = Ok(());
        world.record_with(&clock, &mut day, self.ticks, &mut |event| {
            if let (Event::Tick(progress), Ok(())) = (event, &result) {
                result = each(&recording, progress.snapshots);
            }
        })?;
        result?;
        std::fs::copy(world.path(), path)?;
        Ok(())
    }
}

/// Gives each socket a process, as if owners had been looked for.
fn hand_out(path: &Path) -> Result<()> {
    let file = Connection::open(path)?;
    file.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PROCESSES})
         INSERT INTO processes (process_id, boot_id, pid, started_ticks, comm, uid, user, cgroup)
         SELECT i, 1, 1000 + i, i, 'worker-' || (i % 8), 1000 + i % 4, 'user' || (i % 4),
             '/system.slice/worker' || (i % 8) || '.service' FROM n;
         INSERT INTO socket_owners (socket_id, process_id, first_snapshot_id)
         SELECT socket_id, 1 + socket_id % {PROCESSES}, first_snapshot_id FROM sockets
         WHERE first_snapshot_id IS NOT NULL;
         COMMIT;"
    ))?;
    Ok(())
}

/// The machine: what lives on it and when that ends.
struct Day<'c> {
    load: Load,
    clock: &'c Cell<Clocks>,
    random: u64,
    next_cookie: u64,
    alive: Vec<Life>,
    /// What is left of connections, each until a tick.
    left: Vec<(u64, FakeSocket)>,
    events: Vec<FakeEvent>,
    tick: u64,
    /// Connections to be opened, in thousandths.
    due: u64,
    /// Whether the tick was lived through and shown.
    is_shown: bool,
}

struct Life {
    socket: FakeSocket,
    ends: u64,
}

impl<'c> Day<'c> {
    fn new(clock: &'c Cell<Clocks>, load: Load) -> Self {
        let mut day = Self {
            load,
            clock,
            random: 0x9e37_79b9_7f4a_7c15,
            next_cookie: 1,
            alive: Vec::new(),
            left: Vec::new(),
            events: Vec::new(),
            tick: 0,
            due: 0,
            is_shown: false,
        };
        for port in [80, 443, 5_432, 8_080] {
            let mut socket = FakeSocket::listener(day.cookie(), port, 0, 128);
            socket.local_address = Ipv4Addr::UNSPECIFIED;
            day.alive.push(Life { socket, ends: u64::MAX });
        }
        while day.alive.len() < load.staying {
            day.open(u64::MAX);
        }
        day
    }

    fn cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie
    }

    /// A number below a bound (xorshift64*).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// Opens a connection that ends at this tick.
    fn open(&mut self, ends: u64) {
        let cookie = self.cookie();
        let port = u16::try_from(10_000 + cookie % 50_000).unwrap_or(10_000);
        let peer = self.below(500);
        let [_, _, high, low] = u32::try_from(peer).unwrap_or(0).to_be_bytes();
        let far = Ipv4Addr::new(198, 51, high, low);
        let service = [80, 443, 5_432, 8_080][usize::try_from(peer % 4).unwrap_or(0)];
        let mut socket = FakeSocket::established(cookie, port, service).to_afar();
        socket.remote_address = far;
        if peer.is_multiple_of(3) {
            socket =
                FakeSocket { local_port: service, remote_port: port, bytes_acked: 100, ..socket };
        }
        socket.rtt_us = u32::try_from(200 + peer * 100).unwrap_or(0);
        let now_ms = self.clock.get().monotonic_ms();
        socket.last_data_sent_at_ms = now_ms;
        socket.last_data_recv_at_ms = now_ms;
        socket.last_ack_recv_at_ms = now_ms;
        self.alive.push(Life { socket, ends });
    }

    /// Lives through a tick.
    fn live(&mut self) {
        let now_ms = self.clock.get().monotonic_ms();
        self.tick += 1;
        let tick = self.tick;
        let mut index = 0;
        while index < self.alive.len() {
            if self.alive[index].ends <= tick {
                let socket = self.alive.swap_remove(index).socket;
                self.end(socket, now_ms);
                continue;
            }
            if self.below(100) < 15 && self.alive[index].socket.state != TcpState::LISTEN {
                let (bytes, jitter) = (1 + self.below(100_000), self.below(1_000));
                let is_again = self.below(50) == 0;
                let socket = &mut self.alive[index].socket;
                *socket = socket.sent(bytes);
                socket.rtt_us = 200 + socket.rtt_us / 2 + u32::try_from(jitter).unwrap_or(0);
                socket.total_retrans += u32::from(is_again);
                socket.last_data_sent_at_ms = now_ms - 200;
                socket.last_ack_recv_at_ms = now_ms - 150;
            }
            index += 1;
        }
        self.left.retain(|(until, _)| *until > tick);
        self.due += self.load.opened_per_mille;
        while self.due >= 1_000 {
            self.due -= 1_000;
            // Most are short, a few stay for long: some 330 at a time, and 70 in TIME-WAIT.
            let length = match self.below(10) {
                _ if self.load.is_brief => 1 + self.below(3),
                0..6 => 1 + self.below(30),
                6..9 => 1 + self.below(60),
                _ => 60 + self.below(2_200),
            };
            self.open(tick + length);
        }
    }

    fn end(&mut self, socket: FakeSocket, now_ms: i64) {
        let kind = self.below(100);
        let ago = i64::try_from(self.below(900)).unwrap_or(0);
        let since_start_ms = now_ms - ago - START_MONOTONIC / 1_000_000;
        match kind {
            0..50 => {
                let closed = socket.fin_acked().fin_received().opened_at(since_start_ms);
                self.events.push(closed.destroyed().ago(ago));
                let ticks = (TIME_WAIT_NS / self.load.interval_ns).max(1).unsigned_abs();
                self.left.push((self.tick + ticks, closed.time_wait_since(since_start_ms)));
            }
            50..90 => {
                let closed = socket.fin_acked().fin_received().opened_at(since_start_ms);
                self.events.push(closed.destroyed().ago(ago));
            }
            _ => self.events.push(socket.opened_at(since_start_ms).destroyed().ago(ago)),
        }
    }
}

impl Kernel for Day<'_> {
    fn dump(
        &mut self,
        _: Place,
        family: Family,
        _: Protocol,
        _: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        let now_ms = self.clock.get().monotonic_ms();
        for socket in
            self.alive.iter().map(|life| &life.socket).chain(self.left.iter().map(|l| &l.1))
        {
            each(&mut socket.message(family, now_ms), MadeAt::just(now_ms));
        }
        self.clock.set(later(self.clock.get(), 1_000_000));
        self.is_shown = true;
        DumpEnd::Complete
    }

    fn listens_to_events(&self) -> bool {
        true
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        // Asked once before the dumps and once after.
        if std::mem::take(&mut self.is_shown) {
            return;
        }
        self.live();
        let now = self.clock.get();
        for event in self.events.drain(..) {
            let received = later(now, -event.ago_ms * 1_000_000);
            let payload = event.message(Protocol::Tcp, Family::Inet, received.monotonic_ms());
            batch.push(&payload, received, received.boottime_ns);
        }
    }
}
