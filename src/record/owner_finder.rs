//! The thread that looks for owners, so that `/proc` never makes a tick wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use hashbrown::HashSet;

use super::cgroups::CgroupSearch;
use super::limits::CpuShare;
use super::owners::{OwnerSearch, SocketNews};
use super::processes::Budget;
use crate::kernel::{CgroupWalk, ProcDir, SystemClock};
use crate::model::{Nanos, OwnerChange, SnapshotId, SocketId};
use crate::store::{FormerOwners, Start};

/// The thread takes this share of one processor …
const SHARE_MAX: CpuShare = CpuShare(0.05);
/// … and no more than this part of what recording takes at most: the rest is for the dumps.
const PART_OF_LIMIT: f64 = 0.5;
/// It rests at least so long …
const REST_MIN: Duration = Duration::from_millis(10);
/// … and as if one pass had taken no more than this, if `/proc` once made it work.
const PASS_MAX: Duration = Duration::from_millis(50);

/// The share of one processor that the thread may take, which may change while it works.
#[derive(Clone)]
struct Allowance(Arc<AtomicU64>);

impl Allowance {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(SHARE_MAX.0.to_bits())))
    }

    fn keep_to(&self, limit: Option<CpuShare>) {
        let share = limit.map_or(SHARE_MAX.0, |limit| SHARE_MAX.0.min(limit.0 * PART_OF_LIMIT));
        self.0.store(share.to_bits(), Ordering::Relaxed);
    }

    /// How long to rest after a pass that took so much.
    fn rest_after(&self, used: Duration) -> Duration {
        let share = f64::from_bits(self.0.load(Ordering::Relaxed));
        let used = used.min(PASS_MAX).as_secs_f64();
        let rest = Duration::try_from_secs_f64(used / share - used);
        rest.unwrap_or(Duration::MAX).max(REST_MIN)
    }
}

/// What the collector tells at the end of a tick.
struct News {
    snapshot: SnapshotId,
    /// Counts up, so that an answer can be told to be one to the last.
    number: u64,
    sockets: SocketNews,
    cgroups: HashSet<u64>,
}

impl News {
    fn new(snapshot: SnapshotId, number: u64) -> Self {
        Self { snapshot, number, sockets: SocketNews::default(), cgroups: HashSet::new() }
    }
}

/// What the thread tells after a pass, if that is anything.
struct Report {
    changes: Vec<OwnerChange>,
    /// The last news that it has heard.
    heard: u64,
    /// Whether all that was wanted has been looked for.
    is_settled: bool,
}

/// Looks for the owners of sockets on a thread of its own, which ends when this is dropped. Nothing
/// here waits for that thread, but [`Self::settle`].
pub struct OwnerFinder {
    news: Sender<News>,
    reports: Receiver<Report>,
    pending: News,
    is_pending_told: bool,
    allowance: Allowance,
}

impl OwnerFinder {
    /// Starts the thread, which goes on from what earlier captures left.
    ///
    /// # Errors
    /// When there is no `/proc` or no thread to be had.
    pub fn start(start: &Start, former: FormerOwners) -> io::Result<Self> {
        // One on its way and one that is gathered: a thread that is held up costs no more memory
        // than the sockets that there are.
        let (news, incoming) = bounded(1);
        let (outgoing, reports) = unbounded();
        let allowance = Allowance::new();
        let finder = Thread {
            cgroups: CgroupSearch::new(&former.cgroups),
            owners: OwnerSearch::new(start.next_process, start.next_snapshot, former),
            processes: ProcDir::open()?,
            walk: CgroupWalk::new(),
            news: incoming,
            reports: outgoing,
            heard: 0,
            allowance: allowance.clone(),
        };
        thread::Builder::new().name("owners".to_owned()).spawn(move || finder.run())?;
        let pending = News::new(start.next_snapshot, 0);
        Ok(Self { news, reports, pending, is_pending_told: true, allowance })
    }

    /// From now on recording takes no more CPU time than this, the search for owners counted in.
    pub fn keep_to(&self, limit: Option<CpuShare>) {
        self.allowance.keep_to(limit);
    }

    /// The owners of a socket are wanted; once more where its inode has changed.
    pub fn want(&mut self, socket: SocketId, inode: u32) {
        self.pending.sockets.wanted.insert(socket, inode);
    }

    /// The path of a cgroup is wanted; costs nothing where it is known or was wanted before.
    pub fn want_cgroup(&mut self, id: u64) {
        self.pending.cgroups.insert(id);
    }

    /// A socket ended.
    pub fn forget(&mut self, socket: SocketId) {
        if self.pending.sockets.wanted.remove(&socket).is_none() {
            self.pending.sockets.gone.push(socket);
        }
    }

    /// Tells the thread what has come together, and that this snapshot is taken. If it is still at
    /// work on what it was told before, it will hear of it at the next tick.
    pub fn end_tick(&mut self, snapshot: SnapshotId) {
        self.pending.snapshot = snapshot;
        self.pending.number += 1;
        self.tell(Duration::ZERO);
    }

    fn tell(&mut self, timeout: Duration) {
        let next = News::new(self.pending.snapshot, self.pending.number);
        let news = std::mem::replace(&mut self.pending, next);
        let sent = self.news.send_timeout(news, timeout);
        self.is_pending_told = sent.is_ok();
        if let Err(unsent) = sent {
            self.pending = unsent.into_inner();
        }
    }

    /// What was found since the last call. Does not wait.
    pub fn changes(&self) -> impl Iterator<Item = OwnerChange> {
        self.reports.try_iter().flat_map(|report| report.changes)
    }

    /// Waits until all that was told has been looked for, for so long at most, and gives what was
    /// found: at the end of a capture, for its last sockets.
    pub fn settle(&mut self, timeout: Duration) -> Vec<OwnerChange> {
        let deadline = Instant::now() + timeout;
        if !self.is_pending_told {
            self.tell(timeout);
        }
        let mut changes = Vec::new();
        while let Ok(report) = self.reports.recv_deadline(deadline) {
            changes.extend(report.changes);
            if report.is_settled && report.heard == self.pending.number {
                break;
            }
        }
        changes
    }
}

struct Thread {
    owners: OwnerSearch,
    cgroups: CgroupSearch,
    processes: ProcDir,
    walk: CgroupWalk,
    news: Receiver<News>,
    reports: Sender<Report>,
    heard: u64,
    allowance: Allowance,
}

impl Thread {
    /// Works until nobody wants to know any more.
    fn run(mut self) {
        while self.wait_for_work() {
            let began = Instant::now();
            let cpu_ns = self.processes.cpu_ns();
            let now_ns = SystemClock.monotonic_ns();
            let mut changes = self.cgroups.pass(&mut self.walk, now_ns);
            changes.extend(self.owners.pass(&mut self.processes, now_ns, Budget::PASS));
            let is_settled = self.owners.is_settled() && self.cgroups.is_settled();
            let report = Report { changes, heard: self.heard, is_settled };
            if (is_settled || !report.changes.is_empty()) && self.reports.send(report).is_err() {
                return;
            }
            let used = Duration::from_nanos(self.processes.cpu_ns().saturating_sub(cpu_ns));
            let rest = self.allowance.rest_after(used);
            thread::sleep(rest.saturating_sub(began.elapsed()));
        }
    }

    /// Hears the news, and waits for them while there is nothing to do; false when the collector is
    /// gone.
    fn wait_for_work(&mut self) -> bool {
        let left = self.due_ns().map(|due_ns| {
            let left_ns = due_ns.saturating_sub(SystemClock.monotonic_ns()).max(0);
            Duration::from_nanos(left_ns.unsigned_abs())
        });
        let heard = match left {
            Some(left) => self.news.recv_timeout(left),
            None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(news) => self.hear(news),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn hear(&mut self, news: News) {
        self.heard = news.number;
        self.owners.hear(news.snapshot, news.sockets);
        for id in news.cgroups {
            self.cgroups.want(id);
        }
    }

    fn due_ns(&self) -> Option<Nanos> {
        self.owners.due_ns().into_iter().chain(self.cgroups.due_ns()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of a processor that passes of this length take.
    fn share(limit: Option<CpuShare>, pass: Duration) -> f64 {
        let allowance = Allowance::new();
        allowance.keep_to(limit);
        pass.div_duration_f64(pass + allowance.rest_after(pass))
    }

    #[test]
    fn the_search_takes_a_twentieth_or_half_of_the_limit() {
        let pass = Duration::from_millis(5);
        for (limit, expected) in [
            (None, 0.05),
            (Some(CpuShare(0.5)), 0.05),
            (Some(CpuShare(0.02)), 0.01),
            (Some(CpuShare(0.001)), 0.0005),
        ] {
            assert!((share(limit, pass) - expected).abs() < 1e-6, "{limit:?}");
        }
        // However little it did, it does not spin.
        assert_eq!(Allowance::new().rest_after(Duration::ZERO), REST_MIN);
        // A share too small to be written as a length of time is none.
        let allowance = Allowance::new();
        allowance.keep_to(Some(CpuShare(0.0)));
        assert_eq!(allowance.rest_after(pass), Duration::MAX);
    }
}
