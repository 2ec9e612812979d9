//! A `/proc` that never was.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sockrec::kernel::{Glimpse, Unreadable};
use sockrec::model::{
    OwnerChange, Ownership, Process, ProcessFacts, ProcessId, ProcessKey, SnapshotId, SocketId,
};
use sockrec::record::{Budget, Descriptors, Kept, OwnerSearch, Processes, SocketNews};
use sockrec::store::FormerOwners;

pub const SECOND_NS: i64 = 1_000_000_000;
/// What one look costs.
const LOOK_NS: u64 = 2_000;
/// Descriptors that one step reads.
const STEP: usize = 100;

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    pub started_ticks: u64,
    pub parent: u32,
    pub comm: &'static str,
    pub sockets: Vec<u32>,
    pub files: usize,
    pub is_denied: bool,
    /// It ends while it is read.
    pub is_ending: bool,
    incarnation: u64,
}

impl Fake {
    fn descriptors(&self) -> u64 {
        (self.sockets.len() + self.files) as u64
    }
}

/// All processes, and what it cost to look at them.
pub struct World {
    pub processes: BTreeMap<u32, Fake>,
    pub counts_descriptors: bool,
    pub is_unlistable: bool,
    pub opened: usize,
    /// How many processes may be kept.
    pub kept_max: usize,
    /// Number of descriptors of those that live, by their start; as of the last pass.
    counts: Arc<Mutex<HashMap<u64, u64>>>,
    cpu_ns: Arc<AtomicU64>,
    incarnations: u64,
}

impl World {
    pub fn new() -> Self {
        Self {
            processes: BTreeMap::new(),
            counts_descriptors: true,
            is_unlistable: false,
            opened: 0,
            kept_max: 1_000,
            counts: Arc::default(),
            cpu_ns: Arc::default(),
            incarnations: 0,
        }
    }

    /// A new process; one that has this pid is gone.
    pub fn start(&mut self, pid: u32, sockets: &[u32]) -> &mut Fake {
        self.incarnations += 1;
        let fake = Fake {
            started_ticks: self.incarnations * 10,
            comm: "made-up",
            sockets: sockets.to_vec(),
            files: 3,
            incarnation: self.incarnations,
            ..Fake::default()
        };
        self.processes.insert(pid, fake);
        self.at(pid)
    }

    pub fn at(&mut self, pid: u32) -> &mut Fake {
        self.processes.get_mut(&pid).unwrap()
    }

    /// The kernel forgets that it has shown a process before: it gets other inode numbers.
    pub fn evict(&mut self, pid: u32) {
        self.incarnations += 1;
        self.at(pid).incarnation = self.incarnations;
    }

    /// A child of this process, with what it holds.
    pub fn fork(&mut self, parent: u32, child: u32) -> &mut Fake {
        let sockets = self.at(parent).sockets.clone();
        let fake = self.start(child, &sockets);
        fake.parent = parent;
        fake
    }

    /// How many processes are kept.
    pub fn kept(&self) -> usize {
        Arc::strong_count(&self.counts) - 1
    }

    fn publish(&self) {
        *self.counts.lock().unwrap() =
            self.processes.values().map(|fake| (fake.started_ticks, fake.descriptors())).collect();
    }

    fn spend(&self, looks: usize) {
        self.cpu_ns.fetch_add(LOOK_NS * looks as u64, Ordering::Relaxed);
    }
}

impl Processes for World {
    fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()> {
        pids.clear();
        pids.extend(self.processes.keys());
        if self.is_unlistable {
            pids.truncate(1);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }

    fn glimpse(&mut self, pid: u32) -> Result<Glimpse, Unreadable> {
        self.spend(1);
        let fake = self.processes.get(&pid).ok_or(Unreadable::Gone)?;
        let descriptors = self.counts_descriptors.then_some(fake.descriptors());
        Ok(Glimpse { incarnation: fake.incarnation, descriptors })
    }

    fn open(&mut self, pid: u32) -> Result<Box<dyn Descriptors>, Unreadable> {
        self.spend(10);
        self.opened += 1;
        let fake = self.processes.get(&pid).ok_or(Unreadable::Gone)?;
        if fake.is_denied {
            return Err(Unreadable::Denied);
        }
        let key = ProcessKey { pid, started_ticks: fake.started_ticks };
        let open = Open { key, fake: fake.clone(), read: 0, cpu_ns: Arc::clone(&self.cpu_ns) };
        if fake.is_ending {
            self.processes.remove(&pid);
        }
        Ok(Box::new(open))
    }

    fn keep(&mut self, pid: u32, incarnation: u64) -> Option<Box<dyn Kept>> {
        if !self.counts_descriptors || self.kept() >= self.kept_max {
            return None;
        }
        let fake = self.processes.get(&pid).filter(|fake| fake.incarnation == incarnation)?;
        let (started_ticks, cpu_ns) = (fake.started_ticks, Arc::clone(&self.cpu_ns));
        let counts = Arc::clone(&self.counts);
        Some(Box::new(KeptFake { started_ticks, incarnation, counts, cpu_ns }))
    }

    fn facts(&mut self, key: ProcessKey) -> Result<ProcessFacts, Unreadable> {
        self.spend(20);
        let fake = self.processes.get(&key.pid).ok_or(Unreadable::Gone)?;
        if fake.started_ticks != key.started_ticks {
            return Err(Unreadable::Gone);
        }
        Ok(ProcessFacts {
            started_at_ns: None,
            comm: Some(fake.comm.to_owned()),
            exe: None,
            command_line: None,
            uid: Some(0),
            user: None,
            cgroup: None,
        })
    }

    fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}

struct KeptFake {
    started_ticks: u64,
    incarnation: u64,
    counts: Arc<Mutex<HashMap<u64, u64>>>,
    cpu_ns: Arc<AtomicU64>,
}

impl Kept for KeptFake {
    fn glimpse(&self) -> Result<Glimpse, Unreadable> {
        self.cpu_ns.fetch_add(LOOK_NS / 3, Ordering::Relaxed);
        let counts = self.counts.lock().unwrap();
        let count = counts.get(&self.started_ticks).ok_or(Unreadable::Gone)?;
        Ok(Glimpse { incarnation: self.incarnation, descriptors: Some(*count) })
    }
}

struct Open {
    key: ProcessKey,
    fake: Fake,
    read: usize,
    cpu_ns: Arc<AtomicU64>,
}

impl Descriptors for Open {
    fn key(&self) -> ProcessKey {
        self.key
    }

    fn comm(&self) -> &[u8] {
        self.fake.comm.as_bytes()
    }

    fn parent(&self) -> u32 {
        self.fake.parent
    }

    fn read_some(&mut self, sockets: &mut Vec<u32>) -> Result<usize, Unreadable> {
        let all = self.fake.sockets.len() + self.fake.files;
        let end = all.min(self.read + STEP);
        let read = end - self.read;
        sockets.extend(self.fake.sockets.iter().skip(self.read).take(read));
        self.read = end;
        self.cpu_ns.fetch_add(LOOK_NS * read as u64, Ordering::Relaxed);
        if self.fake.is_ending && read < STEP {
            return Err(Unreadable::Gone);
        }
        Ok(read)
    }
}

/// A search, the time, and what its answers come to.
pub struct Case {
    pub world: World,
    pub search: OwnerSearch,
    pub now_ns: i64,
    pub snapshot: SnapshotId,
    pub budget: Budget,
    pub processes: HashMap<ProcessId, Process>,
    pub held: HashMap<(SocketId, ProcessId), SnapshotId>,
    /// By whom sockets that ended were held to their end.
    pub held_to_end: HashMap<(SocketId, ProcessId), SnapshotId>,
    pub released: Vec<(Ownership, SnapshotId)>,
}

impl Case {
    pub fn new() -> Self {
        Self::after(FormerOwners::default(), 1)
    }

    /// A capture that begins with this snapshot.
    pub fn after(former: FormerOwners, first_snapshot: i64) -> Self {
        let (first, next) = (SnapshotId(first_snapshot), ProcessId(100));
        let held = former.ownerships.iter().map(|o| ((o.socket, o.process), o.since)).collect();
        Self {
            world: World::new(),
            search: OwnerSearch::new(next, first, former),
            now_ns: SECOND_NS,
            snapshot: SnapshotId(first_snapshot - 1),
            budget: Budget::PASS,
            processes: HashMap::new(),
            held,
            held_to_end: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// A tick that shows new sockets, of the same number as their inode, and the end of others.
    pub fn tick(&mut self, wanted: &[u32], gone: &[u32]) {
        let id = |inode: &u32| SocketId(i64::from(*inode));
        let wanted = wanted.iter().map(|inode| (id(inode), *inode)).collect();
        self.tell(SocketNews { wanted, gone: gone.iter().map(id).collect() });
    }

    pub fn tell(&mut self, news: SocketNews) {
        self.snapshot = self.snapshot.next();
        for socket in &news.gone {
            let ended = self.held.extract_if(|(held, _), _| held == socket);
            self.held_to_end.extend(ended);
        }
        self.search.hear(self.snapshot, news);
    }

    /// One pass; says whether there was anything to do.
    pub fn pass(&mut self) {
        self.world.publish();
        for change in self.search.pass(&mut self.world, self.now_ns, self.budget) {
            self.apply(change);
        }
    }

    /// Passes until all that is wanted has been looked for; gives how many.
    pub fn settle(&mut self) -> usize {
        for passes in 1..100_000 {
            self.pass();
            if self.search.is_settled() {
                return passes;
            }
        }
        panic!("it never ends");
    }

    /// Goes on for so long, a pass a second.
    pub fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now_ns += SECOND_NS;
            self.settle();
        }
    }

    /// The pids of the processes that are held to hold this socket.
    pub fn holders(&self, inode: u32) -> Vec<u32> {
        let socket = SocketId(i64::from(inode));
        let mut pids: Vec<_> = self
            .held
            .keys()
            .filter(|(held, _)| *held == socket)
            .map(|(_, process)| self.processes[process].key.pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    fn apply(&mut self, change: OwnerChange) {
        match change {
            OwnerChange::Process(process) => {
                if let Some(before) = self.processes.get(&process.id) {
                    assert_eq!(before.key, process.key, "a number is that of one process");
                }
                let twice =
                    self.processes.values().find(|p| p.key == process.key && p.id != process.id);
                assert_eq!(twice, None, "a process has one number");
                self.processes.insert(process.id, *process);
            }
            OwnerChange::Held(Ownership { socket, process, since }) => {
                assert!(self.processes.contains_key(&process), "{process} is not introduced");
                assert!(since <= self.snapshot);
                assert_eq!(self.held.insert((socket, process), since), None, "held twice");
            }
            OwnerChange::Released { ownership, last } => {
                let Ownership { socket, process, since } = ownership;
                let held = self.held.remove(&(socket, process));
                let held = held.or_else(|| self.held_to_end.remove(&(socket, process)));
                assert_eq!(held, Some(since), "not held");
                assert!(since <= last && last <= self.snapshot, "{since} {last}");
                self.released.push((ownership, last));
            }
            OwnerChange::Cgroup(..) => panic!("nobody asked for cgroups"),
        }
    }
}
