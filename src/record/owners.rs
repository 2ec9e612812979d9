//! Which processes hold the recorded sockets.
//!
//! Pure bookkeeping: it is told which sockets there are, looks into what it is given as `/proc`,
//! for a bounded time a pass, and says what it found. The thread that runs it is
//! [`super::OwnerFinder`].
//!
//! A **round** begins with a scan: one look at each process shows which are new, gone, or have
//! another number of descriptors. Those are then read, and only those, as long as every socket has
//! an owner. While one has none the others are read again too, at intervals that double with every
//! time that it was in vain: some sockets have no owner that can be seen.
//!
//! Between rounds those that hold recorded sockets are looked at every tick, and read again if they
//! have changed, so that it is known until when they held what they held.

mod reading;

use std::cmp::Reverse;

use hashbrown::{HashMap, HashSet};

use super::known_process::{Known, Reason, Turn};
use super::processes::{Budget, Descriptors, Processes, Purse};
use crate::kernel::{Glimpse, Unreadable};
use crate::model::{Nanos, OwnerChange, Ownership, ProcessId, ProcessKey, SnapshotId, SocketId};
use crate::store::FormerOwners;

const SECOND_NS: Nanos = 1_000_000_000;
/// Rounds follow each other at once while new sockets come, else not before this, and twice as
/// long each time while a socket is without an owner …
const ROUND_REST_MIN_NS: Nanos = SECOND_NS;
/// … up to this, which is also how often owners that were found are held against `/proc`.
const ROUND_REST_MAX_NS: Nanos = 10 * SECOND_NS;
/// Opening a process costs as much as so many looks.
const LOOKS_AN_OPENING: usize = 8;
/// Of the relatives of processes that were found to hold a socket so many are read a round.
const RELATIVES_MAX: usize = 32;

/// What a tick tells of sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketNews {
    /// Sockets whose owners are wanted, with their inode. A socket may come again with another.
    pub wanted: HashMap<SocketId, u32>,
    /// Sockets that ended.
    pub gone: Vec<SocketId>,
}

/// A recorded socket's file; several sockets can share one (MPTCP's subflows).
#[derive(Default)]
struct Watched {
    sockets: Vec<SocketId>,
    /// Each with the pid of its process.
    ownerships: Vec<(u32, Ownership)>,
}

/// A process with more descriptors than one pass may read.
struct HalfRead {
    pid: u32,
    glimpse: Glimpse,
    descriptors: Box<dyn Descriptors>,
    sockets: Vec<u32>,
    /// Whether a socket was without an owner when it was opened.
    is_wanted: bool,
    /// The last one before it was opened.
    snapshot: SnapshotId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resting,
    Scanning,
    Reading,
}

/// The sockets whose owners are wanted, and the processes as far as they are known.
pub struct OwnerSearch {
    snapshot: SnapshotId,
    next_process: ProcessId,
    former_processes: HashMap<ProcessKey, ProcessId>,
    former_ownerships: HashMap<SocketId, Vec<(ProcessKey, Ownership)>>,
    /// The last snapshot of the captures before.
    former_snapshot: SnapshotId,
    watched: HashMap<u32, Watched>,
    inodes: HashMap<SocketId, u32>,
    /// Inodes that no process was found to hold yet.
    unowned: HashSet<u32>,
    /// Inodes that are wanted since the last scan began.
    fresh: HashSet<u32>,
    /// Inodes that their last holder let go of, with the last snapshot before that was noticed.
    let_go: HashMap<u32, SnapshotId>,
    processes: HashMap<u32, Known>,
    stage: Stage,
    round: u64,
    /// Whether sockets came since the round before.
    is_fresh_round: bool,
    /// Whether it reads only holders that changed, without a scan.
    is_partial_round: bool,
    /// Whether no holder was looked at since the last tick.
    is_look_due: bool,
    /// Pids of those that this round found to hold a socket, until their relatives are read.
    finds: HashSet<u32>,
    relatives_read: usize,
    /// [`Self::found`] as the round began.
    found_before: u64,
    /// Processes that this round has still to look at.
    to_scan: Vec<u32>,
    /// Processes that this round has still to read, the next one last.
    to_read: Vec<Turn>,
    half_read: Option<HalfRead>,
    next_round_ns: Nanos,
    round_rest_ns: Nanos,
    /// Ownerships that were found so far.
    found: u64,
    changes: Vec<OwnerChange>,
}

impl OwnerSearch {
    /// Nothing is wanted yet. `first_snapshot` is the first one of this capture.
    pub fn new(next_process: ProcessId, first_snapshot: SnapshotId, former: FormerOwners) -> Self {
        let keys: HashMap<_, _> = former.processes.iter().copied().collect();
        let mut former_ownerships: HashMap<_, Vec<_>> = HashMap::new();
        for ownership in former.ownerships {
            if let Some(key) = keys.get(&ownership.process) {
                former_ownerships.entry(ownership.socket).or_default().push((*key, ownership));
            }
        }
        Self {
            snapshot: first_snapshot,
            next_process,
            former_processes: former.processes.into_iter().map(|(id, key)| (key, id)).collect(),
            former_ownerships,
            former_snapshot: SnapshotId(first_snapshot.0 - 1),
            watched: HashMap::new(),
            inodes: HashMap::new(),
            unowned: HashSet::new(),
            fresh: HashSet::new(),
            let_go: HashMap::new(),
            processes: HashMap::new(),
            stage: Stage::Resting,
            round: 0,
            is_fresh_round: false,
            is_partial_round: false,
            is_look_due: false,
            finds: HashSet::new(),
            relatives_read: 0,
            found_before: 0,
            to_scan: Vec::new(),
            to_read: Vec::new(),
            half_read: None,
            next_round_ns: 0,
            round_rest_ns: ROUND_REST_MIN_NS,
            found: 0,
            changes: Vec::new(),
        }
    }

    /// Takes what a tick tells, and that this snapshot is taken.
    pub fn hear(&mut self, snapshot: SnapshotId, news: SocketNews) {
        self.snapshot = snapshot;
        self.is_look_due = !self.processes.is_empty();
        for socket in news.gone {
            self.forget(socket);
        }
        for (socket, inode) in news.wanted {
            self.want(socket, inode);
        }
        self.look_for_passed_on();
    }

    /// A socket that is still there although its last holder let go of it may have been passed on.
    fn look_for_passed_on(&mut self) {
        let (snapshot, watched) = (self.snapshot, &self.watched);
        let shown_since = self.let_go.extract_if(|_, let_go_after| *let_go_after < snapshot);
        let still_there = shown_since.map(|(inode, _)| inode).filter(|inode| {
            watched.get(inode).is_some_and(|watched| watched.ownerships.is_empty())
        });
        for inode in still_there {
            self.unowned.insert(inode);
            self.fresh.insert(inode);
        }
    }

    /// When there is something to do, on the clock of [`Self::pass`]; `None` while no socket is
    /// wanted.
    pub fn due_ns(&self) -> Option<Nanos> {
        match self.stage {
            Stage::Resting if self.watched.is_empty() => None,
            Stage::Resting if self.is_look_due => Some(Nanos::MIN),
            Stage::Resting if self.fresh.is_empty() => Some(self.next_round_ns),
            _ => Some(Nanos::MIN),
        }
    }

    /// Whether all that is wanted has been looked for.
    pub fn is_settled(&self) -> bool {
        let has_looked = !self.is_look_due || self.watched.is_empty();
        self.stage == Stage::Resting && self.fresh.is_empty() && has_looked
    }

    /// Goes on with the round, or begins one if it is time, and says what was found.
    pub fn pass(
        &mut self,
        processes: &mut dyn Processes,
        now_ns: Nanos,
        budget: Budget,
    ) -> Vec<OwnerChange> {
        let mut changed = Vec::new();
        if std::mem::take(&mut self.is_look_due) && !self.watched.is_empty() {
            changed = self.look_at_holders(now_ns);
        }
        let mut purse = Purse::new(budget, processes);
        if self.stage == Stage::Resting && self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.begin_round(processes, now_ns);
        } else if self.stage == Stage::Resting && !changed.is_empty() {
            self.begin(Stage::Reading);
            self.is_partial_round = true;
            self.to_read = changed;
        }
        loop {
            let looks = match self.stage {
                Stage::Resting => break,
                Stage::Scanning => self.scan_next(processes, now_ns),
                Stage::Reading => self.read_next(processes, now_ns),
            };
            if !purse.pay(looks, processes) {
                break;
            }
        }
        std::mem::take(&mut self.changes)
    }

    fn want(&mut self, socket: SocketId, inode: u32) {
        match self.inodes.insert(socket, inode) {
            Some(before) if before == inode => return,
            Some(before) => {
                for (pid, ownership) in self.unwatch(socket, before) {
                    let confirmed = self.processes.get(&pid).map(|known| known.confirmed);
                    let last = confirmed.unwrap_or(ownership.since).max(ownership.since);
                    self.changes.push(OwnerChange::Released { ownership, last });
                }
            }
            None => {}
        }
        let watched = self.watched.entry(inode).or_default();
        push_exact(&mut watched.sockets, socket);
        if watched.ownerships.is_empty() {
            self.unowned.insert(inode);
        }
        self.fresh.insert(inode);
    }

    /// Who held it to its end: whoever was seen with it after the snapshot before, and the only one
    /// that there is.
    fn forget(&mut self, socket: SocketId) {
        self.former_ownerships.remove(&socket);
        let Some(inode) = self.inodes.remove(&socket) else { return };
        let holders = self.unwatch(socket, inode);
        if holders.len() < 2 {
            return;
        }
        for (pid, ownership) in holders {
            let confirmed = self.processes.get(&pid).map_or(ownership.since, |k| k.confirmed);
            if confirmed.next() < self.snapshot {
                let last = confirmed.max(ownership.since);
                self.changes.push(OwnerChange::Released { ownership, last });
            }
        }
    }

    /// Gives who held it, each with the pid of its process.
    fn unwatch(&mut self, socket: SocketId, inode: u32) -> Vec<(u32, Ownership)> {
        let Some(watched) = self.watched.get_mut(&inode) else { return Vec::new() };
        watched.sockets.retain(|&other| other != socket);
        let holders: Vec<_> =
            watched.ownerships.extract_if(.., |(_, o)| o.socket == socket).collect();
        for (pid, _) in &holders {
            if let Some(known) = self.processes.get_mut(pid) {
                known.is_suspect = true;
            }
        }
        if watched.sockets.is_empty() {
            self.watched.remove(&inode);
            self.unowned.remove(&inode);
            self.fresh.remove(&inode);
        }
        holders
    }

    /// Looks at those that hold recorded sockets, and gives those that are to be read again.
    fn look_at_holders(&mut self, now_ns: Nanos) -> Vec<Turn> {
        let (mut changed, mut ended) = (Vec::new(), Vec::new());
        for (&pid, known) in &mut self.processes {
            let Some(kept) = &known.kept else { continue };
            let glimpse = kept.glimpse();
            known.look(glimpse, self.snapshot);
            if glimpse.map_or(true, |glimpse| glimpse.descriptors == Some(0)) {
                ended.push(pid);
            } else if !known.is_unchanged && !known.is_denied && known.is_cheap_to_read(now_ns) {
                let (reason, read_at_ns) = (Reason::HolderChanged, known.read_at_ns);
                changed.push(Turn { reason, read_at_ns, pid });
            }
        }
        for pid in ended {
            self.leave(pid);
        }
        changed
    }

    fn begin_round(&mut self, processes: &mut dyn Processes, now_ns: Nanos) {
        if processes.pids(&mut self.to_scan).is_err() {
            self.to_scan.clear();
            self.next_round_ns = now_ns + ROUND_REST_MIN_NS;
            return;
        }
        self.begin(Stage::Scanning);
        self.is_partial_round = false;
        self.is_fresh_round = !self.fresh.is_empty();
    }

    fn begin(&mut self, stage: Stage) {
        self.stage = stage;
        self.round += 1;
        self.finds.clear();
        self.relatives_read = 0;
        self.found_before = self.found;
    }

    fn scan_next(&mut self, processes: &mut dyn Processes, now_ns: Nanos) -> usize {
        let Some(pid) = self.to_scan.pop() else {
            self.end_scan(processes, now_ns);
            return 0;
        };
        let glimpse = self.glimpse(pid, processes);
        if glimpse == Err(Unreadable::Gone) {
            return 1;
        }
        let known = match glimpse {
            Ok(glimpse) => self.processes.entry(pid).or_insert_with(|| Known::new(glimpse)),
            Err(_) => match self.processes.get_mut(&pid) {
                Some(known) => known,
                None => return 1,
            },
        };
        known.seen_in = self.round;
        known.look(glimpse, self.snapshot);
        let reason = known.reason_to_read(now_ns, !self.unowned.is_empty());
        let read_at_ns = known.read_at_ns;
        self.to_read.extend(reason.map(|reason| Turn { reason, read_at_ns, pid }));
        1
    }

    /// Looks at a process; what is kept of one that is gone says nothing of who has its pid now.
    fn glimpse(&self, pid: u32, processes: &mut dyn Processes) -> Result<Glimpse, Unreadable> {
        let kept = self.processes.get(&pid).and_then(|known| known.kept.as_ref());
        match kept.map(|kept| kept.glimpse()) {
            Some(Ok(glimpse)) => Ok(glimpse),
            _ => processes.glimpse(pid),
        }
    }

    /// Drops the processes that are gone, and gives the new sockets those owners that can be known
    /// without reading.
    fn end_scan(&mut self, processes: &mut dyn Processes, now_ns: Nanos) {
        let round = self.round;
        let gone: Vec<_> = self.processes.extract_if(|_, k| k.seen_in != round).collect();
        for (pid, known) in gone {
            self.release_all(pid, &known);
        }
        let living = &self.processes;
        self.former_processes.retain(|key, _| living.contains_key(&key.pid));

        let fresh = std::mem::take(&mut self.fresh);
        let holds_fresh = |known: &Known| {
            let is_sure = known.is_unchanged && !known.is_denied && !fresh.is_empty();
            is_sure && known.sockets.iter().any(|inode| fresh.contains(inode))
        };
        let holders: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, known)| holds_fresh(known))
            .map(|(&pid, known)| (pid, known.read_at_ns, known.glimpse.descriptors.is_some()))
            .collect();
        for (pid, read_at_ns, is_counted) in holders {
            if is_counted && self.claim_all(pid, processes, now_ns) {
                self.finds.insert(pid);
            } else {
                self.to_read.push(Turn { reason: Reason::HolderChanged, read_at_ns, pid });
            }
        }
        self.to_read.sort_unstable_by_key(|&turn| Reverse(turn));
        self.stage = Stage::Reading;
    }

    /// Who shares a socket mostly got it from its parent or gave it to its children, and shares
    /// others too. Their number of descriptors need not tell: they may have closed another one.
    fn turn_to_relatives(&mut self, now_ns: Nanos) {
        let finds = std::mem::take(&mut self.finds);
        let left = RELATIVES_MAX.saturating_sub(self.relatives_read);
        let round = self.round;
        let may_be_read = |known: &Known| {
            known.is_read && known.read_in != round && known.is_cheap_to_read(now_ns)
        };
        if finds.is_empty() || left == 0 || !self.processes.values().any(may_be_read) {
            return;
        }
        let found = || finds.iter().filter_map(|pid| self.processes.get(pid));
        let parents: HashSet<u32> = found().filter_map(|known| known.parent).collect();
        let shared = found().flat_map(|known| &known.sockets);
        let ownerships = shared.filter_map(|inode| Some(&self.watched.get(inode)?.ownerships));
        let sharers: HashSet<u32> = ownerships.flatten().map(|(pid, _)| *pid).collect();
        let relation = |pid: u32, known: &Known| {
            let is_child = known.parent.is_some_and(|parent| finds.contains(&parent));
            if is_child || parents.contains(&pid) {
                return Some(Reason::Kin);
            }
            sharers.contains(&pid).then_some(Reason::Sharer)
        };
        let readable = self.processes.iter().filter(|(_, known)| may_be_read(known));
        let mut turns: Vec<Turn> = readable
            .filter(|(pid, _)| !finds.contains(*pid))
            .filter_map(|(&pid, known)| {
                Some(Turn { reason: relation(pid, known)?, read_at_ns: known.read_at_ns, pid })
            })
            .collect();
        turns.sort_unstable();
        turns.truncate(left);
        self.relatives_read += turns.len();
        turns.reverse();
        self.to_read = turns;
    }

    fn end_round(&mut self, now_ns: Nanos) {
        self.stage = Stage::Resting;
        if self.is_partial_round {
            return;
        }
        self.release_former();
        self.round_rest_ns = if self.is_fresh_round {
            ROUND_REST_MIN_NS
        } else {
            (self.round_rest_ns * 2).min(ROUND_REST_MAX_NS)
        };
        // Who was forked since the processes were listed holds what its parent held.
        let is_over = self.unowned.is_empty() && self.found == self.found_before;
        let rest_ns = if is_over { ROUND_REST_MAX_NS } else { self.round_rest_ns };
        self.next_round_ns = now_ns + rest_ns;
    }

    /// What earlier captures saw held, and this one does not: let go of while nobody looked. Of
    /// processes that may not be read nothing is known.
    fn release_former(&mut self) {
        let (inodes, fresh, processes) = (&self.inodes, &self.fresh, &self.processes);
        let looked_for = self
            .former_ownerships
            .extract_if(|socket, _| inodes.get(socket).is_some_and(|inode| !fresh.contains(inode)));
        for (key, ownership) in looked_for.flat_map(|(_, ownerships)| ownerships) {
            if processes.get(&key.pid).is_none_or(|known| !known.is_denied) {
                let last = self.former_snapshot.max(ownership.since);
                self.changes.push(OwnerChange::Released { ownership, last });
            }
        }
    }
}

/// Most files are of one socket that one process holds, and a vector makes room for four at once.
fn push_exact<T>(list: &mut Vec<T>, item: T) {
    list.reserve_exact(1);
    list.push(item);
}
