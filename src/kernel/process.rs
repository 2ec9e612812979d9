//! `/proc`: which processes there are, which sockets they hold, and who they are.
//!
//! Everything of a process is read below one descriptor of its directory. The kernel binds that to
//! the process, not to its number: once the process is gone reading fails, even if its pid is in
//! use again.

mod files;
mod users;

use std::ffi::CStr;
use std::fmt::Write;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fstat, openat, readlinkat_raw, statat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::SystemClock;
use super::cgroup::cgroup_of_process;
use crate::model::{Nanos, ProcessFacts, ProcessKey};
use files::{Stat, command_line, effective_uid, number, socket_inode, text};
use users::UserNames;

/// A command line is cut to so many bytes: the kernel gives any length.
const COMMAND_LINE_LEN: usize = 4 * 1024;
/// What is read of `stat`, `status` and `cgroup` at most; they are a fraction of that.
const FILE_LEN: usize = 16 * 1024;
/// The longest path that the kernel gives (`PATH_MAX`).
const PATH_LEN: usize = 4 * 1024;
/// Room for the entries of one call of getdents64, which are 24 bytes each: some 170 descriptors.
const ENTRIES_LEN: usize = 4 * 1024;
/// `socket:[4294967295]` is all that is wanted; what is longer is cut, and then no socket.
const LINK_LEN: usize = 32;

/// So many processes are kept at most, and half as many as there may be descriptors.
const KEPT_MAX: usize = 1_000;

/// A process as one stat(2) shows it. The same twice: it is the same process, and most likely has
/// the same descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// Inode number of `/proc/PID/fd`, which no other process gets, whatever its pid.
    pub incarnation: u64,
    /// Number of open descriptors; `None` before Linux 6.2.
    pub descriptors: Option<u64>,
}

/// Why a process cannot be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is gone.
    #[error("the process is gone")]
    Gone,
    /// It is there, but this user may not see its descriptors, or cannot for now.
    #[error("the descriptors of the process cannot be read")]
    Denied,
}

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            _ => Self::Denied,
        }
    }
}

/// The processes that `/proc` shows.
#[derive(Debug)]
pub struct ProcDir {
    directory: OwnedFd,
    counts_descriptors: bool,
    /// Counted by its clones.
    kept: Arc<()>,
    kept_max: usize,
    users: UserNames,
    path: String,
}

impl ProcDir {
    /// Opens `/proc`.
    ///
    /// # Errors
    /// When it is not mounted or may not be read.
    pub fn open() -> io::Result<Self> {
        let directory = open_directory(rustix::fs::CWD, c"/proc")?;
        let own = statat(&directory, c"self/fd", AtFlags::empty())?;
        Ok(Self {
            directory,
            counts_descriptors: own.st_size > 0,
            kept: Arc::new(()),
            kept_max: kept_max(),
            users: UserNames::default(),
            path: String::new(),
        })
    }

    /// Replaces `pids` by those of all processes there are.
    ///
    /// # Errors
    /// When `/proc` cannot be read; `pids` is then of no use.
    pub fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()> {
        pids.clear();
        rustix::fs::seek(&self.directory, rustix::fs::SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); ENTRIES_LEN];
        let mut entries = RawDir::new(&self.directory, &mut buffer);
        while let Some(entry) = entries.next() {
            pids.extend(number::<u32>(entry?.file_name().to_bytes()));
        }
        Ok(())
    }

    /// Looks at a process without opening it; needs no privileges.
    ///
    /// # Errors
    /// When it is gone, or hidden (mount option `hidepid`).
    pub fn glimpse(&mut self, pid: u32) -> Result<Glimpse, Unreadable> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/fd"); // a String takes everything
        let found = statat(&self.directory, &*self.path, AtFlags::empty())?;
        let mut descriptors = u64::try_from(found.st_size).ok().filter(|_| self.counts_descriptors);
        if descriptors == Some(0) {
            self.path.clear();
            let _ = write!(self.path, "{pid}/task"); // a String takes everything
            let tasks = statat(&self.directory, &*self.path, AtFlags::empty())?;
            if has_other_threads(tasks.st_nlink) {
                descriptors = Some(count_of_other_thread(self.directory_of(pid)?));
            }
        }
        Ok(Glimpse { incarnation: found.st_ino, descriptors })
    }

    /// Keeps a descriptor by which a process can be looked at, if it is still the one with this
    /// incarnation: that costs a third of [`Self::glimpse`], and says when it is gone. `None` if it
    /// is another, if there are enough of them, and before Linux 6.2, which would not tell.
    pub fn keep(&mut self, pid: u32, incarnation: u64) -> Option<KeptProcess> {
        if !self.counts_descriptors || Arc::strong_count(&self.kept) > self.kept_max {
            return None;
        }
        self.path.clear();
        let _ = write!(self.path, "{pid}/fd"); // a String takes everything
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let descriptors = openat(&self.directory, &*self.path, flags, Mode::empty()).ok()?;
        let kept = KeptProcess { descriptors, _counted: Arc::clone(&self.kept) };
        kept.glimpse().is_ok_and(|glimpse| glimpse.incarnation == incarnation).then_some(kept)
    }

    /// Opens a process to read its descriptors.
    ///
    /// # Errors
    /// When it is gone, or this user may not.
    pub fn open_process(&mut self, pid: u32) -> Result<OpenProcess, Unreadable> {
        let process = self.directory_of(pid)?;
        let mut descriptors = open_directory(&process, c"fd")?;
        if fstat(&descriptors)?.st_size == 0 {
            descriptors = other_thread(&process).map_or(descriptors, |thread| thread.descriptors);
        }
        let stat = stat_of(&process)?;
        let key = ProcessKey { pid, started_ticks: stat.started_ticks };
        Ok(OpenProcess { key, comm: stat.comm, parent: stat.parent, process, descriptors })
    }

    /// Reads who a process is. What is not known, or may not be seen, is `None`.
    ///
    /// # Errors
    /// When the process is gone; its pid may be in use again.
    pub fn facts(&mut self, key: ProcessKey) -> Result<ProcessFacts, Unreadable> {
        let process = self.directory_of(key.pid)?;
        let stat = stat_of(&process)?;
        if stat.started_ticks != key.started_ticks {
            return Err(Unreadable::Gone);
        }
        let file = |name, len| read_file(&process, name, len).ok();
        let uid = file(c"status", FILE_LEN).as_deref().and_then(effective_uid);
        let program = |of: &OwnedFd| {
            let words = read_file(of, c"cmdline", COMMAND_LINE_LEN).ok();
            (link(of, c"exe"), words.as_deref().and_then(command_line))
        };
        let (exe, command_line) = match program(&process) {
            (None, None) => {
                other_thread(&process).map_or((None, None), |thread| program(&thread.directory))
            }
            known => known,
        };
        let facts = ProcessFacts {
            started_at_ns: started_at_ns(key.started_ticks),
            comm: text(&stat.comm),
            exe,
            command_line,
            uid,
            user: uid.and_then(|uid| self.users.name(uid)),
            cgroup: file(c"cgroup", FILE_LEN).as_deref().and_then(cgroup_of_process),
        };
        // What was read of a process on its way out is half wiped.
        stat_of(&process)?;
        Ok(facts)
    }

    /// Whether a process still runs, or has not been waited for yet.
    pub fn is_there(&mut self, key: ProcessKey) -> bool {
        let found = self.directory_of(key.pid).and_then(|process| stat_of(&process));
        match found {
            Ok(stat) => stat.started_ticks == key.started_ticks,
            Err(e) => e != Unreadable::Gone,
        }
    }

    /// CPU time of this thread.
    pub fn cpu_ns(&self) -> u64 {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        (used.tv_sec * 1_000_000_000 + used.tv_nsec).unsigned_abs()
    }

    fn directory_of(&mut self, pid: u32) -> Result<OwnedFd, Unreadable> {
        self.path.clear();
        let _ = write!(self.path, "{pid}"); // a String takes everything
        Ok(open_directory(&self.directory, &*self.path)?)
    }
}

/// A process that is looked at again and again.
#[derive(Debug)]
pub struct KeptProcess {
    descriptors: OwnedFd,
    _counted: Arc<()>,
}

impl KeptProcess {
    /// Looks at it.
    ///
    /// # Errors
    /// When it is gone. One that ended and was not waited for yet has no descriptors.
    pub fn glimpse(&self) -> Result<Glimpse, Unreadable> {
        let found = fstat(&self.descriptors)?;
        let count = match u64::try_from(found.st_size) {
            Ok(0) => {
                let tasks = statat(&self.descriptors, c"../task", AtFlags::empty())?;
                match has_other_threads(tasks.st_nlink) {
                    true => count_of_other_thread(open_directory(&self.descriptors, c"..")?),
                    false => 0,
                }
            }
            count => count.unwrap_or(0),
        };
        Ok(Glimpse { incarnation: found.st_ino, descriptors: Some(count) })
    }
}

/// A process whose descriptors are being read.
#[derive(Debug)]
pub struct OpenProcess {
    key: ProcessKey,
    comm: Vec<u8>,
    parent: u32,
    process: OwnedFd,
    descriptors: OwnedFd,
}

impl OpenProcess {
    /// Which process it is.
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    /// Its name, which execve(2) changes.
    pub fn comm(&self) -> &[u8] {
        &self.comm
    }

    /// The pid of its parent; 0 for one from outside of this pid namespace.
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// Reads some more descriptors and adds the inode numbers of those that are sockets. Gives how
    /// many were read, 0 at the end. Descriptors that are closed meanwhile are passed over.
    ///
    /// # Errors
    /// When the process is gone, or its descriptors may no longer be read: what was added is then
    /// of no use.
    pub fn read_some(&mut self, sockets: &mut Vec<u32>) -> Result<usize, Unreadable> {
        let mut buffer = [MaybeUninit::uninit(); ENTRIES_LEN];
        let mut target = [MaybeUninit::uninit(); LINK_LEN];
        let mut entries = RawDir::new(&self.descriptors, &mut buffer);
        let mut read = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if !entry.file_name().to_bytes().starts_with(b".") {
                match readlinkat_raw(&self.descriptors, entry.file_name(), &mut target) {
                    Ok((target, _)) => sockets.extend(socket_inode(target)),
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            read += 1;
            if entries.is_buffer_empty() {
                break;
            }
        }
        if read == 0 {
            // An empty directory is also what a process that is being torn down shows.
            let now = stat_of(&self.process)?;
            if now.started_ticks != self.key.started_ticks {
                return Err(Unreadable::Gone);
            }
        }
        Ok(read)
    }
}

/// A thread that has descriptors.
struct OtherThread {
    directory: OwnedFd,
    descriptors: OwnedFd,
}

/// Another thread than the main one. Where that has ended and others go on (`pthread_exit`), the process is shown
/// without descriptors, program and command line.
///
/// # Errors
/// `ENOENT` if no thread has descriptors, or before Linux 6.2, which does not tell.
fn other_thread(process: &OwnedFd) -> Result<OtherThread, Errno> {
    let tasks = open_directory(process, c"task")?;
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_LEN];
    let mut entries = RawDir::new(&tasks, &mut buffer);
    while let Some(entry) = entries.next() {
        let Ok(directory) = open_directory(&tasks, entry?.file_name()) else { continue };
        let descriptors = open_directory(&directory, c"fd");
        if let Ok(descriptors) = descriptors
            && fstat(&descriptors)?.st_size > 0
        {
            return Ok(OtherThread { directory, descriptors });
        }
    }
    Err(Errno::NOENT)
}

/// By the links of `/proc/PID/task`, a number of another width on each architecture: one for each thread beside
/// two.
fn has_other_threads(links: impl Into<u64>) -> bool {
    links.into() > 3
}

/// 0 if none has any.
fn count_of_other_thread(process: OwnedFd) -> u64 {
    let count = other_thread(&process).and_then(|thread| Ok(fstat(thread.descriptors)?.st_size));
    count.map_or(0, |count| u64::try_from(count).unwrap_or(0))
}

/// The recorder needs descriptors for other things too.
fn kept_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(KEPT_MAX, |limit| KEPT_MAX.min(limit / 2))
}

fn open_directory(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The first bytes of a file, `len` at most.
fn read_file(at: &OwnedFd, name: &CStr, len: usize) -> Result<Vec<u8>, Errno> {
    let file = openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match rustix::io::read(&file, &mut content[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    content.truncate(filled);
    Ok(content)
}

fn stat_of(process: &OwnedFd) -> Result<Stat, Unreadable> {
    Stat::parse(&read_file(process, c"stat", FILE_LEN)?).ok_or(Unreadable::Gone)
}

fn link(at: &OwnedFd, name: &CStr) -> Option<String> {
    let mut target = [MaybeUninit::uninit(); PATH_LEN];
    readlinkat_raw(at, name, &mut target).ok().and_then(|(target, _)| text(target))
}

fn started_at_ns(started_ticks: u64) -> Option<Nanos> {
    let now = SystemClock.now();
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let since_boot_ns = i64::try_from(started_ticks.checked_mul(tick_ns)?).ok()?;
    now.utc_ns.checked_sub(now.boottime_ns)?.checked_add(since_boot_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_known() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut proc = ProcDir::open().unwrap();
        let mut pids = Vec::new();
        proc.pids(&mut pids).unwrap();
        let pid = std::process::id();
        assert!(pids.contains(&pid));
        assert_eq!(proc.glimpse(pid).unwrap().incarnation, proc.glimpse(pid).unwrap().incarnation);

        let mut open = proc.open_process(pid).unwrap();
        let mut sockets = Vec::new();
        while open.read_some(&mut sockets).unwrap() > 0 {}
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(sockets.contains(&u32::try_from(inode).unwrap()));

        let facts = proc.facts(open.key()).unwrap();
        assert_eq!(facts.uid, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(facts.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!(facts.comm.unwrap().as_bytes(), open.comm());
        assert!(facts.command_line.is_some());
        let age_ns = SystemClock.now().utc_ns - facts.started_at_ns.unwrap();
        assert!((0..3_600_000_000_000).contains(&age_ns), "{age_ns} ns old");
        let other = ProcessKey { started_ticks: open.key().started_ticks + 1, ..open.key() };
        assert_eq!(proc.facts(other), Err(Unreadable::Gone));
    }

    #[test]
    fn a_process_that_ended_is_gone_and_not_another() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut proc = ProcDir::open().unwrap();
        let mut open = proc.open_process(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(open.read_some(&mut Vec::new()), Err(Unreadable::Gone));
        assert_eq!(proc.glimpse(child.id()), Err(Unreadable::Gone));
        assert_eq!(proc.facts(open.key()), Err(Unreadable::Gone));
    }
}
