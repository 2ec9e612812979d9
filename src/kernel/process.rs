//! `/proc`: which processes there are, which sockets they hold, and who they are.
//!
//! Everything of a process is read below one descriptor of its directory. The kernel binds that to
//! the process, not to its number: once the process is gone reading fails, even if its pid is in
//! use again.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt::Write;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fstat, openat, readlinkat_raw, statat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::SystemClock;
use super::cgroup::cgroup_of_process;
use crate::model::{Nanos, ProcessFacts, ProcessKey};

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
        let descriptors = u64::try_from(found.st_size).ok().filter(|_| self.counts_descriptors);
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
        let descriptors = open_directory(&process, c"fd")?;
        let stat = Stat::of(&process)?;
        let key = ProcessKey { pid, started_ticks: stat.started_ticks };
        Ok(OpenProcess { key, comm: stat.comm, parent: stat.parent, process, descriptors })
    }

    /// Reads who a process is. What is not known, or may not be seen, is `None`.
    ///
    /// # Errors
    /// When the process is gone; its pid may be in use again.
    pub fn facts(&mut self, key: ProcessKey) -> Result<ProcessFacts, Unreadable> {
        let process = self.directory_of(key.pid)?;
        let stat = Stat::of(&process)?;
        if stat.started_ticks != key.started_ticks {
            return Err(Unreadable::Gone);
        }
        let file = |name, len| read_file(&process, name, len).ok();
        let uid = file(c"status", FILE_LEN).as_deref().and_then(effective_uid);
        let facts = ProcessFacts {
            started_at_ns: started_at_ns(key.started_ticks),
            comm: text(&stat.comm),
            exe: link(&process, c"exe"),
            command_line: file(c"cmdline", COMMAND_LINE_LEN).as_deref().and_then(command_line),
            uid,
            user: uid.and_then(|uid| self.users.name(uid)),
            cgroup: file(c"cgroup", FILE_LEN).as_deref().and_then(cgroup_of_process),
        };
        // What was read of a process on its way out is half wiped.
        Stat::of(&process)?;
        Ok(facts)
    }

    /// Whether a process still runs, or has not been waited for yet.
    pub fn is_there(&mut self, key: ProcessKey) -> bool {
        let found = self.directory_of(key.pid).and_then(|process| Stat::of(&process));
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
        Ok(Glimpse { incarnation: found.st_ino, descriptors: u64::try_from(found.st_size).ok() })
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
            let now = Stat::of(&self.process)?;
            if now.started_ticks != self.key.started_ticks {
                return Err(Unreadable::Gone);
            }
        }
        Ok(read)
    }
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

fn link(at: &OwnedFd, name: &CStr) -> Option<String> {
    let mut target = [MaybeUninit::uninit(); PATH_LEN];
    readlinkat_raw(at, name, &mut target).ok().and_then(|(target, _)| text(target))
}

/// What a process says of itself is bytes of any kind; empty means that it says nothing.
fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The inode in `socket:[123]`.
fn socket_inode(target: &[u8]) -> Option<u32> {
    number(target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// What of `/proc/PID/stat` (proc_pid_stat(5)) is used.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    parent: u32,
    started_ticks: u64,
}

impl Stat {
    fn of(process: &OwnedFd) -> Result<Self, Unreadable> {
        Self::parse(&read_file(process, c"stat", FILE_LEN)?).ok_or(Unreadable::Gone)
    }

    /// The name may hold anything, parentheses, blanks and newlines too: it ends at the last one.
    fn parse(stat: &[u8]) -> Option<Self> {
        const PARENT: usize = 4;
        const STARTED: usize = 22;
        const BEHIND_COMM: usize = 3;
        let open = stat.iter().position(|&b| b == b'(')?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let comm = stat.get(open + 1..close)?.to_vec();
        let mut fields = stat[close + 1..].split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
        let parent = number(fields.nth(PARENT - BEHIND_COMM)?)?;
        let started_ticks = number(fields.nth(STARTED - PARENT - 1)?)?;
        Some(Self { comm, parent, started_ticks })
    }
}

/// The second number behind `Uid:` in `/proc/PID/status`.
fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    number(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).nth(1)?)
}

/// The arguments, each of which ends with a zero byte, joined by blanks.
fn command_line(arguments: &[u8]) -> Option<String> {
    let end = arguments.iter().rposition(|&b| b != 0)? + 1;
    let joined: Vec<u8> = arguments[..end].iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
    text(&joined)
}

fn started_at_ns(started_ticks: u64) -> Option<Nanos> {
    let now = SystemClock.now();
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let since_boot_ns = i64::try_from(started_ticks.checked_mul(tick_ns)?).ok()?;
    now.utc_ns.checked_sub(now.boottime_ns)?.checked_add(since_boot_ns)
}

/// The users of `/etc/passwd`. Other sources of names are left alone: they may ask the network.
#[derive(Debug, Default)]
struct UserNames {
    read_at: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl UserNames {
    const PATH: &str = "/etc/passwd";

    fn name(&mut self, uid: u32) -> Option<String> {
        let changed_at = fs::metadata(Self::PATH).and_then(|m| m.modified()).ok();
        if changed_at != self.read_at {
            self.read_at = changed_at;
            self.names = user_names(&fs::read(Self::PATH).unwrap_or_default());
        }
        self.names.get(&uid).cloned()
    }
}

/// Of several names of a user the first counts, as for getpwuid(3).
fn user_names(passwd: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().and_then(text);
        if let (Some(name), Some(uid)) = (name, fields.nth(1).and_then(number)) {
            names.entry(uid).or_insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat(comm: &[u8]) -> Vec<u8> {
        let behind = b") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21 22\n";
        [b"42 (", comm, behind].concat()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let names: [&[u8]; 7] = [b"", b"nginx", b"a b", b"a) R 1 2", b"((", b"x\ny", b"\xff\xfe"];
        for comm in names {
            let parsed = Stat::parse(&stat(comm));
            assert_eq!(
                parsed,
                Some(Stat { comm: comm.to_vec(), parent: 1, started_ticks: 987_654 })
            );
        }
    }

    #[test]
    fn what_is_no_stat_is_refused() {
        let cut: [&[u8]; 6] = [
            b"",
            b"42",
            b"42 (a",
            b"42 (a) S 1",
            b"a) (b",
            b"1 (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x",
        ];
        for stat in cut {
            assert_eq!(Stat::parse(stat), None, "{stat:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_fail(bytes: Vec<u8>) {
            Stat::parse(&bytes);
            Stat::parse(&stat(&bytes));
            effective_uid(&bytes);
            socket_inode(&bytes);
            user_names(&bytes);
            let line = command_line(&bytes);
            prop_assert!(line.is_none_or(|line| !line.is_empty() && !line.contains('\0')));
        }
    }

    #[test]
    fn a_command_line_is_its_arguments() {
        let of = |bytes: &[u8]| command_line(bytes);
        assert_eq!(of(b"sleep\x0060\0"), Some("sleep 60".to_owned()));
        assert_eq!(of(b"a\0\0b c\0\0\0"), Some("a  b c".to_owned()));
        assert_eq!(of(b"cut at the e"), Some("cut at the e".to_owned()));
        assert_eq!(of(b"\x1b[2J\n\xff\0"), Some("\u{1b}[2J\n\u{fffd}".to_owned()));
        assert_eq!(of(b""), None);
        assert_eq!(of(b"\0\0"), None);
    }

    #[test]
    fn the_effective_user_is_taken() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t0\t1000\t1000\nGid:\t1\t2\n"), Some(0));
        assert_eq!(effective_uid(b"Name:\tUid:\t7\t7\n"), None);
        assert_eq!(effective_uid(b"Uid:\t4294967295"), None);
    }

    #[test]
    fn only_sockets_have_an_inode_here() {
        assert_eq!(socket_inode(b"socket:[123]"), Some(123));
        assert_eq!(socket_inode(b"socket:[4294967295]"), Some(u32::MAX));
        let others: [&[u8]; 5] =
            [b"pipe:[123]", b"socket:[4294967296]", b"socket:[]", b"socket:[1", b"/tmp/socket:[1]"];
        for other in others {
            assert_eq!(socket_inode(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_first_name_of_a_user_counts() {
        let names = user_names(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\n\n#x\n:x:3:\n+\nn\xff:x:7:7\nend:x:9",
        );
        let named = |uid| names.get(&uid).map(String::as_str);
        assert_eq!(
            [named(0), named(3), named(7), named(9)],
            [Some("root"), None, Some("n\u{fffd}"), Some("end")]
        );
    }

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
