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

use std::cmp::Reverse;

use hashbrown::{HashMap, HashSet};

use super::known_process::{Known, Reason, TRUSTED_NS, Turn};
use super::processes::{Budget, Descriptors, Processes, Purse};
use crate::kernel::{Glimpse, Unreadable};
use crate::model::{
    Nanos, OwnerChange, Ownership, Process, ProcessId, ProcessKey, SnapshotId, SocketId,
};
use crate::store::FormerOwners;

const SECOND_NS: Nanos = 1_000_000_000;
/// Rounds follow each other at once while new sockets come, else not before this, and twice as
/// long each time while a socket is without an owner …
const ROUND_REST_MIN_NS: Nanos = SECOND_NS;
/// … up to this, which is also how often owners that were found are held against `/proc`.
const ROUND_REST_MAX_NS: Nanos = 10 * SECOND_NS;
/// Opening a process costs as much as so many looks.
const LOOKS_AN_OPENING: usize = 8;

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
    processes: HashMap<u32, Known>,
    stage: Stage,
    round: u64,
    /// Whether sockets came since the round before.
    is_fresh_round: bool,
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
            processes: HashMap::new(),
            stage: Stage::Resting,
            round: 0,
            is_fresh_round: false,
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
        for socket in news.gone {
            self.forget(socket);
        }
        for (socket, inode) in news.wanted {
            self.want(socket, inode);
        }
    }

    /// When there is something to do, on the clock of [`Self::pass`]; `None` while no socket is
    /// wanted.
    pub fn due_ns(&self) -> Option<Nanos> {
        match self.stage {
            Stage::Resting if self.watched.is_empty() => None,
            Stage::Resting if self.fresh.is_empty() => Some(self.next_round_ns),
            _ => Some(Nanos::MIN),
        }
    }

    /// Whether all that is wanted has been looked for.
    pub fn is_settled(&self) -> bool {
        self.stage == Stage::Resting && self.fresh.is_empty()
    }

    /// Goes on with the round, or begins one if it is time, and says what was found.
    pub fn pass(
        &mut self,
        processes: &mut dyn Processes,
        now_ns: Nanos,
        budget: Budget,
    ) -> Vec<OwnerChange> {
        let mut purse = Purse::new(budget, processes);
        if self.stage == Stage::Resting && self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.begin_round(processes, now_ns);
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
        watched.sockets.push(socket);
        if watched.ownerships.is_empty() {
            self.unowned.insert(inode);
        }
        self.fresh.insert(inode);
    }

    fn forget(&mut self, socket: SocketId) {
        self.former_ownerships.remove(&socket);
        if let Some(inode) = self.inodes.remove(&socket) {
            self.unwatch(socket, inode);
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

    fn begin_round(&mut self, processes: &mut dyn Processes, now_ns: Nanos) {
        if processes.pids(&mut self.to_scan).is_err() {
            self.to_scan.clear();
            self.next_round_ns = now_ns + ROUND_REST_MIN_NS;
            return;
        }
        self.round += 1;
        self.is_fresh_round = !self.fresh.is_empty();
        self.stage = Stage::Scanning;
    }

    fn scan_next(&mut self, processes: &mut dyn Processes, now_ns: Nanos) -> usize {
        let Some(pid) = self.to_scan.pop() else {
            self.end_scan(processes, now_ns);
            return 0;
        };
        let glimpse = processes.glimpse(pid);
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
        known.is_unchanged = known.is_read && !known.is_suspect && glimpse == Ok(known.glimpse);
        if known.is_unchanged && known.glimpse.descriptors.is_some() && !known.is_denied {
            known.confirmed = self.snapshot;
        }
        let reason = known.reason_to_read(now_ns, !self.unowned.is_empty());
        let read_at_ns = known.read_at_ns;
        self.to_read.extend(reason.map(|reason| Turn { reason, read_at_ns, pid }));
        1
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
            if !is_counted || !self.claim_all(pid, processes, now_ns) {
                self.to_read.push(Turn { reason: Reason::HolderChanged, read_at_ns, pid });
            }
        }
        self.to_read.sort_unstable_by_key(|&turn| Reverse(turn));
        self.stage = Stage::Reading;
    }

    fn read_next(&mut self, processes: &mut dyn Processes, now_ns: Nanos) -> usize {
        if let Some(mut half) = self.half_read.take() {
            return match half.descriptors.read_some(&mut half.sockets) {
                Ok(0) => {
                    self.end_reading(half, processes, now_ns);
                    1
                }
                Ok(read) => {
                    self.half_read = Some(half);
                    read
                }
                Err(why) => {
                    self.refuse(half.pid, half.glimpse, why, processes, now_ns);
                    1
                }
            };
        }
        let Some(turn) = self.to_read.pop() else {
            self.end_round(now_ns);
            return 0;
        };
        if turn.reason >= Reason::HolderRested && self.unowned.is_empty() {
            return 1;
        }
        // From before the opening: what changes meanwhile shows in the next one.
        let Ok(glimpse) = processes.glimpse(turn.pid) else { return 1 };
        match processes.open(turn.pid) {
            Ok(descriptors) => {
                self.half_read = Some(HalfRead {
                    pid: turn.pid,
                    glimpse,
                    descriptors,
                    sockets: Vec::new(),
                    is_wanted: !self.unowned.is_empty(),
                    snapshot: self.snapshot,
                });
            }
            Err(why) => self.refuse(turn.pid, glimpse, why, processes, now_ns),
        }
        LOOKS_AN_OPENING
    }

    /// What is gone shows in the next scan. A process that may no longer be read holds what it held.
    fn refuse(
        &mut self,
        pid: u32,
        glimpse: Glimpse,
        why: Unreadable,
        processes: &mut dyn Processes,
        now_ns: Nanos,
    ) {
        if why == Unreadable::Gone {
            return;
        }
        let former_key = self.processes.get(&pid).and_then(|known| known.key);
        if former_key.is_some_and(|key| processes.facts(key) == Err(Unreadable::Gone)) {
            self.leave(pid);
        }
        let known = self.processes.entry(pid).or_insert_with(|| Known::new(glimpse));
        known.glimpse = glimpse;
        known.is_read = true;
        known.is_denied = true;
        known.is_suspect = false;
        known.read_at_ns = now_ns;
        known.fruitless += 1;
        known.seen_in = self.round;
    }

    /// The process is gone: its pid is another's now.
    fn leave(&mut self, pid: u32) {
        if let Some(known) = self.processes.remove(&pid) {
            self.release_all(pid, &known);
        }
    }

    fn end_reading(&mut self, read: HalfRead, processes: &mut dyn Processes, now_ns: Nanos) {
        let HalfRead { pid, glimpse, descriptors, mut sockets, is_wanted, snapshot } = read;
        sockets.sort_unstable();
        sockets.dedup();
        let key = descriptors.key();
        let former_key = self.processes.get(&pid).and_then(|known| known.key);
        if former_key.is_some_and(|former| former != key) {
            self.leave(pid);
        }
        let known = self.processes.entry(pid).or_insert_with(|| Known::new(glimpse));
        let before = std::mem::replace(&mut known.sockets, sockets);
        let let_go: Vec<u32> = before
            .into_iter()
            .filter(|inode| known.sockets.binary_search(inode).is_err())
            .collect();
        let last = known.confirmed;
        known.glimpse = glimpse;
        known.key = Some(key);
        known.is_read = true;
        known.is_denied = false;
        known.is_suspect = false;
        known.read_at_ns = now_ns;
        known.confirmed = snapshot;
        known.seen_in = self.round;
        for inode in let_go {
            self.release(inode, pid, last);
        }
        self.refresh_facts(pid, descriptors.comm(), processes, now_ns);
        let found_before = self.found;
        let is_known = self.claim_all(pid, processes, now_ns);
        let is_fruitful = self.found > found_before;
        if let Some(known) = self.processes.get_mut(&pid) {
            known.is_suspect = !is_known;
            known.fruitless = match (is_fruitful, is_wanted) {
                (true, _) => 0,
                (false, true) => known.fruitless + 1,
                (false, false) => known.fruitless,
            };
        }
    }

    /// A process can change its name (execve(2)), and more, while it holds sockets.
    fn refresh_facts(
        &mut self,
        pid: u32,
        comm: &[u8],
        processes: &mut dyn Processes,
        now_ns: Nanos,
    ) {
        let Some(known) = self.processes.get_mut(&pid) else { return };
        let Some(process) = &mut known.process else { return };
        let is_same_name = process.facts.comm.as_deref().unwrap_or_default().as_bytes()
            == String::from_utf8_lossy(comm).as_bytes();
        if is_same_name && now_ns - known.facts_at_ns < TRUSTED_NS {
            return;
        }
        let Ok(mut facts) = processes.facts(process.key) else { return };
        known.facts_at_ns = now_ns;
        facts.started_at_ns = process.facts.started_at_ns;
        if facts != process.facts {
            process.facts = facts;
            self.changes.push(OwnerChange::Process(process.clone()));
        }
    }

    /// Notes what a process holds of the recorded sockets. False if it cannot be said who it is.
    fn claim_all(&mut self, pid: u32, processes: &mut dyn Processes, now_ns: Nanos) -> bool {
        let Some(known) = self.processes.get_mut(&pid) else { return false };
        let watched = &self.watched;
        if !known.sockets.iter().any(|inode| watched.contains_key(inode)) {
            return true;
        }
        if known.process.is_none() {
            let Some(key) = known.key else { return false };
            let Ok(facts) = processes.facts(key) else { return false };
            let id = self.former_processes.remove(&key).unwrap_or_else(|| {
                let id = self.next_process;
                self.next_process = id.next();
                id
            });
            known.facts_at_ns = now_ns;
            let process = known.process.insert(Box::new(Process { id, key, facts }));
            self.changes.push(OwnerChange::Process(process.clone()));
        }
        let Some(Process { id: process, key, .. }) = known.process.as_deref() else { return false };
        for inode in &known.sockets {
            let Some(watched) = self.watched.get_mut(inode) else { continue };
            for &socket in &watched.sockets {
                if watched.ownerships.iter().any(|(p, o)| *p == pid && o.socket == socket) {
                    continue;
                }
                let mut ownership = Ownership { socket, process: *process, since: self.snapshot };
                match take_former(&mut self.former_ownerships, socket, key) {
                    Some(former) => ownership = former,
                    None => self.changes.push(OwnerChange::Held(ownership)),
                }
                watched.ownerships.push((pid, ownership));
                self.found += 1;
            }
            self.unowned.remove(inode);
        }
        true
    }

    fn release_all(&mut self, pid: u32, known: &Known) {
        for &inode in &known.sockets {
            self.release(inode, pid, known.confirmed);
        }
    }

    /// A file that was let go of is not looked for anew: mostly the kernel is still closing its
    /// socket. Whoever was given it has other descriptors than before, and will be read for that.
    fn release(&mut self, inode: u32, pid: u32, last: SnapshotId) {
        let Some(watched) = self.watched.get_mut(&inode) else { return };
        let let_go = watched.ownerships.extract_if(.., |(holder, _)| *holder == pid);
        self.changes.extend(let_go.map(|(_, ownership)| OwnerChange::Released {
            ownership,
            last: last.max(ownership.since),
        }));
    }

    fn end_round(&mut self, now_ns: Nanos) {
        self.release_former();
        self.stage = Stage::Resting;
        self.round_rest_ns = if self.is_fresh_round {
            ROUND_REST_MIN_NS
        } else {
            (self.round_rest_ns * 2).min(ROUND_REST_MAX_NS)
        };
        let has_all = self.unowned.is_empty();
        let rest_ns = if has_all { ROUND_REST_MAX_NS } else { self.round_rest_ns };
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

/// Takes out what an earlier capture left of this process and socket.
fn take_former(
    former: &mut HashMap<SocketId, Vec<(ProcessKey, Ownership)>>,
    socket: SocketId,
    key: &ProcessKey,
) -> Option<Ownership> {
    let ownerships = former.get_mut(&socket)?;
    let at = ownerships.iter().position(|(other, _)| other == key)?;
    Some(ownerships.swap_remove(at).1)
}
