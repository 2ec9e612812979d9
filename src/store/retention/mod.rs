//! What a recording may hold: the oldest groups go, in small steps, and old ones are thinned ([`thin`]).
//!
//! Every step is a transaction of its own, after which all that answers is whole: what was interrupted
//! goes on with the next step, of whichever process. A group goes first, in one step: with it all that
//! its rows are found by. The rows follow ([`groups`]), then sockets that only it told of and times that
//! nothing rests on ([`sweep`]), and at last what nothing points at any more ([`leftovers`]).

mod groups;
mod leftovers;
mod prune;
mod sweep;
mod thin;

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::model::{Clocks, Nanos, ProcessKey};
use groups::{Chunk, Floor, TABLES};
use leftovers::Leftovers;
use sweep::Sweep;
use thin::{Dues, Thinning};

pub use prune::{Pruned, forecast, prune};
pub(super) use sweep::{await_formers, make_tables};
pub use thin::ThinRule;

/// Kept free below the limit for the write-ahead log, which is folded in when it comes to half of this;
/// more if a single snapshot took more.
pub const LOG_BYTES: u64 = 8 * 1024 * 1024;
/// No limit may be below this.
pub const SMALLEST_BYTES: u64 = 32 * 1024 * 1024;

/// Rows that one step deletes at most.
const STEP_ROWS: i64 = 2_000;
/// Pages that one step gives back.
const STEP_PAGES: i64 = 256;
/// Sockets are looked through when so large a part of the snapshots was dropped since.
const SWEEP_SHARE: i64 = 16;
/// So long steps follow each other though someone waits.
const BUSY_FOR: Duration = Duration::from_millis(10);
/// So long they do if nobody waits.
const IDLE_FOR: Duration = Duration::from_millis(200);

/// What a recording may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of the file with its log.
    pub max_bytes: Option<u64>,
    /// Age of a group's last snapshot.
    pub max_age_ns: Option<Nanos>,
    /// How old samples are thinned.
    pub thin: Vec<ThinRule>,
}

impl Capacity {
    /// No limit.
    pub const NONE: Self = Self { max_bytes: None, max_age_ns: None, thin: Vec::new() };
}

/// What is still there on the machine that is recorded: a recorder may come back to it.
pub trait Alive: Send {
    /// Whether this process still runs.
    fn process(&mut self, key: ProcessKey) -> bool;
    /// Whether there is a cgroup of this id at this path.
    fn cgroup(&mut self, id: u64, path: &str) -> bool;
}

/// For who cannot tell.
#[derive(Debug)]
pub struct AllAlive;

impl Alive for AllAlive {
    fn process(&mut self, _: ProcessKey) -> bool {
        true
    }

    fn cgroup(&mut self, _: u64, _: &str) -> bool {
        true
    }
}

/// Who drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Who records this capture.
    Recorder(i64),
    /// Someone beside the recorder of this capture, who will clear up what only it can judge.
    Bystander(i64),
    /// Nobody records.
    Alone,
}

impl Role {
    fn capture(self) -> Option<i64> {
        match self {
            Self::Recorder(capture) | Self::Bystander(capture) => Some(capture),
            Self::Alone => None,
        }
    }
}

/// Who drops, and when.
#[derive(Clone, Copy, Debug)]
struct Moment {
    clocks: Clocks,
    role: Role,
}

enum Work {
    /// See what others have left to do.
    Begin,
    /// See whether there is something to do.
    Look,
    /// Rows of dropped groups, from this table on.
    Rows(usize),
    /// Sockets and times of dropped groups.
    Sweep(Box<Sweep>),
    /// What nothing points at.
    Leftovers(Box<Leftovers>),
    /// Rows of an old group.
    Thin(Box<Thinning>),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    More,
    /// There is nothing left that could go.
    Stuck,
}

/// Keeps a recording within its limits.
pub(super) struct Retention {
    capacity: Capacity,
    alive: Box<dyn Alive>,
    work: Work,
    dues: Dues,
    /// Rows that were thinned out.
    thinned: i64,
    /// The first group that was held at the last look: others may drop some.
    first_group: Option<i64>,
    /// Snapshots dropped since sockets were last looked through.
    dropped: i64,
    /// Whether all free pages are to be given back, also those that would be used again.
    gives_back: bool,
    /// How long the log was after the last steps, and by how much one snapshot made it grow at most.
    log_bytes: u64,
    largest_bytes: u64,
}

impl Retention {
    pub(super) fn new(capacity: Capacity, alive: Box<dyn Alive>) -> Self {
        Self {
            dues: Dues::new(&capacity.thin),
            capacity,
            alive,
            work: Work::Begin,
            thinned: 0,
            first_group: None,
            dropped: 0,
            gives_back: false,
            log_bytes: 0,
            largest_bytes: 0,
        }
    }

    pub(super) fn set_capacity(&mut self, capacity: Capacity) {
        self.dues = Dues::new(&capacity.thin);
        self.capacity = capacity;
    }

    pub(super) fn ask_alive(&mut self, alive: Box<dyn Alive>) {
        self.alive = alive;
    }

    /// Does steps, see [`super::Writer::keep_within_limits`]. `log_bytes` gives the length of the log.
    pub(super) fn run(
        &mut self,
        connection: &Connection,
        capture: i64,
        clocks: Clocks,
        rows: u64,
        log_bytes: impl Fn() -> u64,
        is_awaited: impl Fn() -> bool,
    ) -> rusqlite::Result<bool> {
        self.largest_bytes = self.largest_bytes.max(log_bytes().saturating_sub(self.log_bytes));
        let now = Moment { clocks, role: Role::Recorder(capture) };
        let began = Instant::now();
        let wanted = 1 + 4 * rows / STEP_ROWS.cast_unsigned();
        let mut steps = 0;
        let is_within = loop {
            match self.step(connection, now)? {
                Step::Done => break true,
                Step::Stuck => break false,
                Step::More => steps += 1,
            }
            let patience = if is_awaited() { BUSY_FOR } else { IDLE_FOR };
            if steps >= wanted && began.elapsed() >= patience {
                break true;
            }
        };
        self.log_bytes = log_bytes();
        Ok(is_within)
    }

    fn step(&mut self, connection: &Connection, now: Moment) -> rusqlite::Result<Step> {
        let Some(floor) = Floor::of(connection)? else { return Ok(Step::Done) };
        if self.first_group.replace(floor.group).is_some_and(|known| known < floor.group) {
            self.work = Work::Begin;
        }
        match &mut self.work {
            Work::Begin => {
                self.dropped = groups::dropped_before(connection, floor)?;
                self.work = if self.dropped > 0 { Work::Rows(0) } else { Work::Look };
                Ok(Step::More)
            }
            Work::Rows(table) => {
                match TABLES.get(*table) {
                    Some(place) if groups::delete_first(connection, *place, floor)? => *table += 1,
                    Some(_) => {}
                    None if self.is_sweep_due(connection, floor)? => {
                        self.begin_sweep(connection, floor, now)?;
                    }
                    None => self.work = Work::Look,
                }
                Ok(Step::More)
            }
            Work::Sweep(sweep) => {
                if let Some(left) = sweep.step(connection)? {
                    self.work = match now.role {
                        Role::Bystander(_) => Work::Look,
                        _ => Work::Leftovers(Box::new(Leftovers::new(left))),
                    };
                }
                Ok(Step::More)
            }
            Work::Leftovers(leftovers) => {
                if leftovers.step(connection, now.role, &mut *self.alive)? {
                    self.work = Work::Look;
                }
                Ok(Step::More)
            }
            Work::Thin(thinning) => {
                if thinning.step(connection)? {
                    self.thinned += thinning.rows;
                    self.work = Work::Look;
                }
                Ok(Step::More)
            }
            Work::Look => self.look(connection, floor, now),
        }
    }

    fn is_sweep_due(&self, connection: &Connection, floor: Floor) -> rusqlite::Result<bool> {
        let newest: i64 = connection
            .prepare_cached("SELECT max(snapshot_id) FROM snapshots")?
            .query_row([], |r| r.get(0))?;
        Ok(self.dropped * SWEEP_SHARE >= newest - floor.snapshot)
    }

    fn begin_sweep(
        &mut self,
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<()> {
        self.work = Work::Sweep(Box::new(Sweep::begin(connection, floor, now)?));
        self.dropped = 0;
        Ok(())
    }

    fn look(
        &mut self,
        connection: &Connection,
        floor: Floor,
        now: Moment,
    ) -> rusqlite::Result<Step> {
        let is_sized = self.gives_back || self.capacity.max_bytes.is_some();
        let pages = is_sized.then(|| Pages::of(connection)).transpose()?.unwrap_or_default();
        let room = self.capacity.max_bytes.map_or(u64::MAX, |max| self.room(max));
        let is_large = pages.used_bytes() > room;
        // A recorder is to stay within its limit; who comes later may make room by thinning.
        let thins_first = !(is_large && matches!(now.role, Role::Recorder(_)));
        if thins_first && self.begin_thinning(connection, now)? {
            return Ok(Step::More);
        }
        let is_beyond = is_large || self.is_old(connection, floor, now)?;
        if is_beyond
            && let Some(chunk) = Chunk::first(connection, floor)?
            && (is_large || self.is_old(connection, chunk.last(), now)?)
        {
            self.dropped += chunk.drop(connection, now.clocks.utc_ns)?;
            self.first_group = None;
            self.work = Work::Rows(0);
            return Ok(Step::More);
        }
        if (is_beyond || self.gives_back) && self.dropped > 0 {
            self.begin_sweep(connection, floor, now)?;
            return Ok(Step::More);
        }
        if !thins_first && self.begin_thinning(connection, now)? {
            return Ok(Step::More);
        }
        if pages.free > 0 && (pages.all_bytes() > room || self.gives_back) {
            give_back(connection)?;
            return Ok(Step::More);
        }
        Ok(if is_beyond { Step::Stuck } else { Step::Done })
    }

    fn begin_thinning(&mut self, connection: &Connection, now: Moment) -> rusqlite::Result<bool> {
        let due = self.dues.next(connection, now)?;
        if let Some(due) = due {
            self.work = Work::Thin(Box::new(Thinning::new(due)));
        }
        Ok(due.is_some())
    }

    /// What is left of the limit for the file, beside its log.
    fn room(&self, max_bytes: u64) -> u64 {
        let log = (self.largest_bytes + LOG_BYTES / 2).min(max_bytes / 2).max(LOG_BYTES);
        max_bytes.saturating_sub(log)
    }

    fn is_old(&self, connection: &Connection, group: Floor, now: Moment) -> rusqlite::Result<bool> {
        let Some(max_age_ns) = self.capacity.max_age_ns else { return Ok(false) };
        let age_ns = groups::age_ns(connection, group.group, now)?;
        Ok(age_ns.is_some_and(|age_ns| age_ns > max_age_ns))
    }
}

/// Pages of a file; none where nobody asks how large it is.
#[derive(Clone, Copy, Default)]
struct Pages {
    all: u64,
    free: u64,
    size: u64,
}

impl Pages {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name: &str| -> rusqlite::Result<u64> {
            let mut statement = connection.prepare_cached(&format!("PRAGMA {name}"))?;
            statement.query_row([], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        let (all, free) = (pragma("page_count")?, pragma("freelist_count")?);
        Ok(Self { all, free, size: pragma("page_size")? })
    }

    fn all_bytes(self) -> u64 {
        self.all * self.size
    }

    fn used_bytes(self) -> u64 {
        (self.all - self.free) * self.size
    }
}

fn begin(connection: &Connection) -> rusqlite::Result<Transaction<'_>> {
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
}

fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}
