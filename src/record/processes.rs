//! The processes of the machine as the search for owners sees them, and what a look may cost.

use std::io;

use crate::kernel::{Glimpse, KeptProcess, OpenProcess, ProcDir, Unreadable};
use crate::model::{ProcessFacts, ProcessKey};

/// The clock of used CPU time is a system call: it is asked once in so many looks.
const LOOKS_A_CLOCK: usize = 64;

/// How much one pass may do beside the one look a tick at those that are kept, whose number is
/// bounded. It goes beyond that by one short step at most.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Looks at processes and descriptors.
    pub looks: usize,
    /// CPU time.
    pub cpu_ns: u64,
}

impl Budget {
    /// The budget of a pass while recording.
    pub const PASS: Self = Self { looks: 4_096, cpu_ns: 5_000_000 };
}

/// The processes of the machine, as `/proc` shows them.
pub trait Processes {
    /// Replaces `pids` by those of all processes there are.
    ///
    /// # Errors
    /// When they cannot be listed: then none of them counts as gone.
    fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()>;
    /// Looks at a process without opening it.
    ///
    /// # Errors
    /// When it is gone or hidden.
    fn glimpse(&mut self, pid: u32) -> Result<Glimpse, Unreadable>;
    /// Opens a process to read its descriptors.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    fn open(&mut self, pid: u32) -> Result<Box<dyn Descriptors>, Unreadable>;
    /// Keeps a way to look at a process, if it is still the one with this incarnation. `None` if it
    /// is not, or too many are kept.
    fn keep(&mut self, pid: u32, incarnation: u64) -> Option<Box<dyn Kept>>;
    /// Reads who a process is.
    ///
    /// # Errors
    /// When it is gone: the pid may be that of another by now.
    fn facts(&mut self, key: ProcessKey) -> Result<ProcessFacts, Unreadable>;
    /// CPU time that this thread has used.
    fn cpu_ns(&self) -> u64;
}

/// A cheap way to look at one process, whatever becomes of its pid.
pub trait Kept: Send {
    /// Looks at it.
    ///
    /// # Errors
    /// When it is gone.
    fn glimpse(&self) -> Result<Glimpse, Unreadable>;
}

/// The descriptors of one process, whatever becomes of its pid.
pub trait Descriptors: Send {
    /// Which process it is.
    fn key(&self) -> ProcessKey;
    /// Its name.
    fn comm(&self) -> &[u8];
    /// The pid of its parent.
    fn parent(&self) -> u32;
    /// Reads some more and adds the inode numbers of sockets; gives how many were read, 0 at the
    /// end.
    ///
    /// # Errors
    /// When the process is gone or may no longer be read.
    fn read_some(&mut self, sockets: &mut Vec<u32>) -> Result<usize, Unreadable>;
}

/// What a pass has left to spend.
pub(super) struct Purse {
    looks: usize,
    looks_to_clock: usize,
    cpu_end_ns: u64,
}

impl Purse {
    pub(super) fn new(budget: Budget, processes: &dyn Processes) -> Self {
        let cpu_end_ns = processes.cpu_ns().saturating_add(budget.cpu_ns);
        Self { looks: budget.looks, looks_to_clock: LOOKS_A_CLOCK, cpu_end_ns }
    }

    /// Pays for so many looks; false once nothing is left.
    pub(super) fn pay(&mut self, looks: usize, processes: &dyn Processes) -> bool {
        self.looks = self.looks.saturating_sub(looks);
        self.looks_to_clock = self.looks_to_clock.saturating_sub(looks);
        if self.looks_to_clock == 0 {
            self.looks_to_clock = LOOKS_A_CLOCK;
            if processes.cpu_ns() >= self.cpu_end_ns {
                self.looks = 0;
            }
        }
        self.looks > 0
    }
}

impl Processes for ProcDir {
    fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()> {
        self.pids(pids)
    }

    fn glimpse(&mut self, pid: u32) -> Result<Glimpse, Unreadable> {
        self.glimpse(pid)
    }

    fn open(&mut self, pid: u32) -> Result<Box<dyn Descriptors>, Unreadable> {
        Ok(Box::new(self.open_process(pid)?))
    }

    fn keep(&mut self, pid: u32, incarnation: u64) -> Option<Box<dyn Kept>> {
        Some(Box::new(self.keep(pid, incarnation)?))
    }

    fn facts(&mut self, key: ProcessKey) -> Result<ProcessFacts, Unreadable> {
        self.facts(key)
    }

    fn cpu_ns(&self) -> u64 {
        self.cpu_ns()
    }
}

impl Kept for KeptProcess {
    fn glimpse(&self) -> Result<Glimpse, Unreadable> {
        self.glimpse()
    }
}

impl Descriptors for OpenProcess {
    fn key(&self) -> ProcessKey {
        self.key()
    }

    fn comm(&self) -> &[u8] {
        self.comm()
    }

    fn parent(&self) -> u32 {
        self.parent()
    }

    fn read_some(&mut self, sockets: &mut Vec<u32>) -> Result<usize, Unreadable> {
        self.read_some(sockets)
    }
}
