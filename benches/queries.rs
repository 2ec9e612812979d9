//! How long the questions take, asked of a day that never was.
//!
//! ```text
//! cargo bench --bench queries                  makes the day, asks, and throws it away
//! cargo bench --bench queries -- FILE [WORDS]  makes it if FILE is not there, keeps it, and asks the
//!                                              questions whose names contain one of the words
//! ```
//!
//! The day: 1,000 sockets at a time, looked at once a second, of which 15 % have changed each time;
//! 200,000 connections in all, most of them short, each ended by a destroy event, half of them with a
//! TIME-WAIT; 40 processes that hold them. It is recorded by the recorder itself, from made-up
//! kernel messages, which takes some minutes and 1.5 GB of disk.

#![allow(dead_code, reason = "the made-up machines of the tests can do more than is used here")]

#[path = "../tests/simulated/socket.rs"]
mod socket;
#[path = "../tests/simulated/world.rs"]
mod world;

use std::cell::Cell;
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sockrec::filter::{Filter, Services, Vocabulary};
use sockrec::kernel::{DumpEnd, EventBatch};
use sockrec::model::{Clocks, Family, Place, Protocol, States, TcpState};
use sockrec::query::{By, COLUMNS, Question, Recording, Selection, SortKey};
use sockrec::record::Kernel;
use sockrec::render::{ConnectionTable, Sheet};

use socket::{FakeEvent, FakeSocket};
use world::{SECOND, START_MONOTONIC, START_UTC, World, later};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TICKS: u64 = 86_400;
/// Sockets that stay all day.
const STAYING: usize = 600;
/// Connections a second, in thousandths.
const OPENED_PER_MILLE: u64 = 2_315;
const PROCESSES: i64 = 40;
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let kept = arguments.first().map(PathBuf::from);
    let words = arguments.get(1..).unwrap_or_default();
    let directory = tempfile::tempdir()?;
    let path = kept.unwrap_or_else(|| directory.path().join("day.db"));
    if !path.exists() {
        make_day(&path)?;
    }
    ask(&path, words)
}

/// Records the day.
fn make_day(path: &Path) -> Result<()> {
    let begun = Instant::now();
    let world = World::with_events();
    let clock = Cell::new(world.begins);
    let mut day = Day::new(&clock);
    let mut shown = Instant::now();
    world.record_with(&clock, &mut day, TICKS, &mut |_| {
        if shown.elapsed() > Duration::from_secs(10) {
            shown = Instant::now();
            let hours = (clock.get().monotonic_ns - START_MONOTONIC) / (3_600 * SECOND);
            eprintln!("{hours} h of the day are recorded");
        }
    })?;
    std::fs::copy(world.path(), path)?;
    hand_out(path)?;
    let megabytes = std::fs::metadata(path)?.len() / 1_000_000;
    eprintln!("the day took {:.0?} to record and {megabytes} MB\n", begun.elapsed());
    Ok(())
}

/// Gives each socket a process, as if owners had been looked for.
fn hand_out(path: &Path) -> Result<()> {
    let file = Connection::open(path)?;
    file.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PROCESSES})
         INSERT INTO processes (process_id, boot_id, pid, started_ticks, comm, uid, user, cgroup)
         SELECT i, 1, 1000 + i, i, 'worker-' || i % 8, 1000 + i % 4, 'user' || i % 4,
             '/system.slice/worker' || i % 8 || '.service' FROM n;
         INSERT INTO socket_owners (socket_id, process_id, first_snapshot_id)
         SELECT socket_id, 1 + socket_id % {PROCESSES}, first_snapshot_id FROM sockets
         WHERE first_snapshot_id IS NOT NULL;
         COMMIT;"
    ))?;
    Ok(())
}

/// The machine: what lives on it and when that ends.
struct Day<'c> {
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
    /// Whether the second was lived through and shown.
    is_shown: bool,
}

struct Life {
    socket: FakeSocket,
    ends: u64,
}

impl<'c> Day<'c> {
    fn new(clock: &'c Cell<Clocks>) -> Self {
        let mut day = Self {
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
        while day.alive.len() < STAYING {
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

    /// Lives through a second.
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
        self.due += OPENED_PER_MILLE;
        while self.due >= 1_000 {
            self.due -= 1_000;
            // Most are short, a few stay for long: some 330 at a time, and 70 in TIME-WAIT.
            let length = match self.below(10) {
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
                self.left.push((self.tick + 60, closed.time_wait_since(since_start_ms)));
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
        each: &mut dyn FnMut(&mut [u8], i64),
    ) -> DumpEnd {
        let now_ms = self.clock.get().monotonic_ms();
        for socket in
            self.alive.iter().map(|life| &life.socket).chain(self.left.iter().map(|l| &l.1))
        {
            each(&mut socket.message(family, now_ms), now_ms);
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

fn filtered(text: &str) -> Result<Selection> {
    let services = Services::read("");
    let vocabulary =
        Vocabulary { columns: COLUMNS, answer: &[], services: &services, moment: &|_| Ok(0) };
    let filter = Some(Filter::parse(text, &vocabulary)?);
    Ok(Selection { filter, filter_text: text.to_owned(), ..Selection::default() })
}

/// Asks and prints how long each answer took.
fn ask(path: &Path, words: &[String]) -> Result<()> {
    let minute = 60 * SECOND;
    let noon = START_UTC + 12 * 3_600 * SECOND;
    let day = Selection::default();
    let hour = Selection { from_ns: Some(noon), to_ns: Some(noon + 3_600 * SECOND), ..day.clone() };
    let shown = |columns: &[&str]| columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let twenty =
        Selection { limit: Some(20), columns: shown(&Sheet::SLOW.columns()), ..day.clone() };
    let sort = vec![SortKey { column: "bytes_sent".to_owned(), is_descending: true }];
    let columns = shown(ConnectionTable::COLUMNS);
    let greatest = Selection { sort, limit: Some(20), columns: columns.clone(), ..day.clone() };
    let of_a_peer = filtered("dst 198.51.0.7")?;
    let slow = Selection { columns, ..filtered("rtt > 45ms")? };
    let snapshot_id = Recording::open(path)?.snapshot_at(noon)?.unwrap_or(0);
    let (before_ns, after_ns) = (noon - 3_600 * SECOND, noon);
    let questions: Vec<(&str, Question, &Selection)> = vec![
        ("at", Question::At { snapshot_id }, &day),
        ("diff of an hour", Question::Diff { before_ns, after_ns }, &day),
        ("connections", Question::Connections, &day),
        ("connections of a peer", Question::Connections, &of_a_peer),
        ("its table, rtt > 45 ms", Question::Connections, &slow),
        ("its table, most bytes", Question::Connections, &greatest),
        ("states, 1 min", Question::States { bucket_ns: minute }, &day),
        ("states of an hour, 10 s", Question::States { bucket_ns: 10 * SECOND }, &hour),
        ("churn, 1 min", Question::Churn { bucket_ns: minute }, &day),
        ("listeners", Question::Listeners { snapshot_id: None }, &day),
        ("peers", Question::Totals(By::Peer), &day),
        ("peers of an hour", Question::Totals(By::Peer), &hour),
        ("ports", Question::Totals(By::Port), &day),
        ("processes", Question::Totals(By::Process), &day),
        ("slow", Question::Slow, &day),
        ("its table, the first 20", Question::Slow, &twenty),
        ("slow of an hour", Question::Slow, &hour),
        ("leaks", Question::Leaks { longer_ns: minute }, &day),
    ];
    println!("{:<24} {:>8} {:>10}", "question", "rows", "median");
    let begun = Instant::now();
    Recording::open(path)?.snapshot_at(noon)?;
    println!("{:<24} {:>8} {:>7} ms", "which snapshot at noon", 1, begun.elapsed().as_millis());
    for (name, question, selection) in questions {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let recording = Recording::open(path)?;
            rows = recording.answer(question, selection, |_| Ok(()))?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        println!("{name:<24} {rows:>8} {:>7} ms", times[ROUNDS / 2].as_millis());
    }
    Ok(())
}
