//! Reading what a process holds, and what follows from it.

use hashbrown::HashMap;

use super::{HalfRead, LOOKS_AN_OPENING, OwnerSearch, push_exact};
use crate::kernel::{Glimpse, Unreadable};
use crate::model::{
    HOLDERS_MAX, Nanos, OwnerChange, Ownership, Process, ProcessKey, SnapshotId, SocketId,
};
use crate::record::known_process::{Known, Reason, TRUSTED_NS};
use crate::record::processes::Processes;

impl OwnerSearch {
    pub(super) fn read_next(&mut self, processes: &mut dyn Processes, now_ns: Nanos) -> usize {
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
            self.turn_to_relatives(now_ns);
            if self.to_read.is_empty() {
                self.end_round(now_ns);
            }
            return 0;
        };
        if turn.reason >= Reason::HolderRested && self.unowned.is_empty() {
            return 1;
        }
        // From before the opening: what changes meanwhile shows in the next one.
        let Ok(glimpse) = self.glimpse(turn.pid, processes) else { return 1 };
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
        known.read_in = self.round;
    }

    /// The process is gone: its pid is another's now.
    pub(super) fn leave(&mut self, pid: u32) {
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
        known.parent = Some(descriptors.parent());
        known.is_read = true;
        known.is_denied = false;
        known.is_suspect = false;
        known.read_at_ns = now_ns;
        known.confirmed = snapshot;
        known.seen_in = self.round;
        known.read_in = self.round;
        for inode in let_go {
            self.release(inode, pid, last);
        }
        self.refresh_facts(pid, descriptors.comm(), processes, now_ns);
        let found_before = self.found;
        let is_known = self.claim_all(pid, processes, now_ns);
        let is_fruitful = self.found > found_before;
        if is_fruitful {
            self.finds.insert(pid);
        }
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
    pub(super) fn claim_all(
        &mut self,
        pid: u32,
        processes: &mut dyn Processes,
        now_ns: Nanos,
    ) -> bool {
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
        if known.kept.is_none() {
            known.kept = processes.keep(pid, known.glimpse.incarnation);
        }
        let Some(Process { id: process, key, .. }) = known.process.as_deref() else { return false };
        for inode in &known.sockets {
            let Some(watched) = self.watched.get_mut(inode) else { continue };
            for &socket in &watched.sockets {
                let of_socket = || watched.ownerships.iter().filter(|(_, o)| o.socket == socket);
                if of_socket().any(|(holder, _)| *holder == pid) {
                    continue;
                }
                let mut ownership = Ownership { socket, process: *process, since: self.snapshot };
                match take_former(&mut self.former_ownerships, socket, key) {
                    Some(former) => ownership = former,
                    None if of_socket().count() >= HOLDERS_MAX => continue,
                    None => self.changes.push(OwnerChange::Held(ownership)),
                }
                push_exact(&mut watched.ownerships, (pid, ownership));
                self.found += 1;
            }
            self.unowned.remove(inode);
        }
        true
    }

    pub(super) fn release_all(&mut self, pid: u32, known: &Known) {
        for &inode in &known.sockets {
            self.release(inode, pid, known.confirmed);
        }
    }

    /// A file that was let go of is not looked for anew at once: mostly the kernel is still closing its
    /// socket.
    fn release(&mut self, inode: u32, pid: u32, last: SnapshotId) {
        let Some(watched) = self.watched.get_mut(&inode) else { return };
        let let_go = watched.ownerships.extract_if(.., |(holder, _)| *holder == pid);
        self.changes.extend(let_go.map(|(_, ownership)| OwnerChange::Released {
            ownership,
            last: last.max(ownership.since),
        }));
        if watched.ownerships.is_empty() {
            self.let_go.insert(inode, self.snapshot);
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
