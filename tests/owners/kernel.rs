//! Real processes that hold real sockets.

use std::collections::{BTreeSet, HashMap};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use sockrec::kernel::{ProcDir, SystemClock, sees_every_process};
use sockrec::model::{GroupId, NetnsId, OwnerChange, Process, ProcessId, SnapshotId, SocketId};
use sockrec::record::{Budget, OwnerFinder, OwnerSearch, SocketNews};
use sockrec::store::{FormerOwners, Start};

use crate::common::{not_run, wait};

const NOBODY: u32 = 65_534;

/// A child has, from fork(2) to execve(2), what its parent has: no other test may see that.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn inode(socket: impl AsFd) -> u32 {
    u32::try_from(rustix::fs::fstat(socket).unwrap().st_ino).unwrap()
}

/// A process that does nothing but hold a socket. Ends with the test.
struct Holder(Child);

impl Holder {
    fn of(socket: impl AsFd, uid: Option<u32>) -> Self {
        let number = socket.as_fd().as_raw_fd();
        let mut command = Command::new("sleep");
        command.arg("600");
        // SAFETY: what runs between fork() and execve() makes one system call, on a descriptor that
        // the parent keeps open meanwhile.
        unsafe {
            command.pre_exec(move || {
                let inherited = BorrowedFd::borrow_raw(number);
                Ok(rustix::io::fcntl_setfd(inherited, FdFlags::empty())?)
            });
        }
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was said of owners so far.
#[derive(Default)]
struct Said {
    processes: HashMap<ProcessId, Process>,
    held: BTreeSet<(SocketId, ProcessId)>,
    /// By which process, and when it was last known to hold it.
    released: Vec<(ProcessId, SnapshotId)>,
}

impl Said {
    fn learn(&mut self, changes: impl IntoIterator<Item = OwnerChange>) {
        for change in changes {
            match change {
                OwnerChange::Process(process) => {
                    self.processes.insert(process.id, *process);
                }
                OwnerChange::Held(o) => assert!(self.held.insert((o.socket, o.process))),
                OwnerChange::Released { ownership: o, last } => {
                    assert!(self.held.remove(&(o.socket, o.process)));
                    self.released.push((o.process, last));
                }
                OwnerChange::Cgroup(..) => {}
            }
        }
    }

    fn holders(&self, socket: SocketId) -> BTreeSet<u32> {
        let of_socket = self.held.iter().filter(|(held, _)| *held == socket);
        of_socket.map(|(_, process)| self.processes[process].key.pid).collect()
    }
}

fn finder() -> OwnerFinder {
    let start = Start {
        capture: 1,
        netns: NetnsId(1),
        next_socket: SocketId(1),
        next_snapshot: SnapshotId(1),
        next_group: GroupId(1),
        next_process: ProcessId(1),
    };
    OwnerFinder::start(&start, FormerOwners::default()).unwrap()
}

#[test]
fn both_holders_of_an_inherited_socket_are_found_and_named() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = std::process::id();
    let child = Holder::of(&listener, None);
    let mut finder = finder();
    let mut said = Said::default();

    finder.want(SocketId(7), inode(&listener));
    finder.end_tick(SnapshotId(1));
    said.learn(finder.settle(wait::DEADLINE));
    assert_eq!(said.holders(SocketId(7)), BTreeSet::from([own, child.pid()]));
    let process = said.processes.values().find(|p| p.key.pid == child.pid()).unwrap();
    let facts = &process.facts;
    assert_eq!(facts.comm.as_deref(), Some("sleep"));
    assert_eq!(facts.command_line.as_deref(), Some("sleep 600"));
    assert!(facts.exe.as_deref().is_some_and(|exe| exe.starts_with('/')), "{:?}", facts.exe);
    assert_eq!(facts.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(facts.user.is_some() || facts.uid != Some(0), "root has a name");
    let age_ns = SystemClock.now().utc_ns - facts.started_at_ns.unwrap();
    assert!((-1_000_000_000..60_000_000_000).contains(&age_ns), "{age_ns} ns old");

    // Gone, it is no longer an owner, and still known.
    let gone = child.pid();
    drop(child);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    finder.want(SocketId(8), inode(&other));
    finder.end_tick(SnapshotId(2));
    said.learn(finder.settle(wait::DEADLINE));
    assert_eq!(said.holders(SocketId(7)), BTreeSet::from([own]));
    assert_eq!(said.holders(SocketId(8)), BTreeSet::from([own]));
    assert!(said.processes.values().any(|p| p.key.pid == gone));
}

/// Nothing is new: only the look that every tick takes can tell.
#[test]
fn the_end_of_a_holder_is_known_a_tick_later() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut children = [Holder::of(&listener, None), Holder::of(&listener, None)];
    let mut finder = finder();
    let mut said = Said::default();
    finder.want(SocketId(7), inode(&listener));
    for snapshot in 1..=3 {
        finder.end_tick(SnapshotId(snapshot));
        said.learn(finder.settle(wait::DEADLINE));
    }
    assert_eq!(said.holders(SocketId(7)).len(), 3);
    // One that ended is no holder, whether it was waited for or not.
    children[0].0.kill().unwrap();
    children[0].0.wait().unwrap();
    children[1].0.kill().unwrap();
    let pid = rustix::process::Pid::from_child(&children[1].0);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(pid), ended).unwrap();
    finder.end_tick(SnapshotId(4));
    said.learn(finder.settle(wait::DEADLINE));
    assert_eq!(said.holders(SocketId(7)), BTreeSet::from([std::process::id()]));
    let last: Vec<_> = said.released.iter().map(|(_, last)| *last).collect();
    assert_eq!(last, [SnapshotId(3); 2]);
}

/// A socket that came by SCM_RIGHTS in place of a file that was closed: the number of descriptors
/// of the child is the same.
#[test]
fn a_socket_that_was_passed_to_a_child_has_two_holders_in_the_first_round() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if Command::new("python3").arg("--version").output().is_err() {
        not_run("a socket passed to a child", "there is no python3 to receive it");
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new("python3");
    let script = "import os, socket, sys
s = socket.socket(fileno=os.dup(0))
f = open('/dev/null')
s.send(b'r')
s.recv(1)
f.close()
fds = socket.recv_fds(s, 1, 1)[1]
s.send(b'g')
s.recv(1)";
    let child = command.args(["-c", script]).stdin(OwnedFd::from(theirs)).spawn().unwrap();
    let child = Holder(child);
    let expect = |wanted: u8| {
        let mut byte = [0];
        (&ours).read_exact(&mut byte).unwrap();
        assert_eq!(byte[0], wanted);
    };
    let mut finder = finder();
    let mut said = Said::default();
    expect(b'r');
    finder.want(SocketId(7), inode(&listener));
    finder.end_tick(SnapshotId(1));
    said.learn(finder.settle(wait::DEADLINE));
    assert!(!said.holders(SocketId(7)).contains(&child.pid()));

    let passed = UdpSocket::bind("127.0.0.1:0").unwrap();
    (&ours).write_all(b"x").unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [passed.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&ours, &[IoSlice::new(b"f")], &mut control, SendFlags::empty()).unwrap();
    expect(b'g');
    finder.want(SocketId(8), inode(&passed));
    finder.end_tick(SnapshotId(2));
    said.learn(finder.settle(wait::DEADLINE));
    let both = BTreeSet::from([std::process::id(), child.pid()]);
    assert_eq!(said.holders(SocketId(8)), both);
}

#[test]
fn an_ordinary_user_finds_its_own_processes_only() {
    if !rustix::process::geteuid().is_root() {
        not_run("owners without privileges beside those of root", "only root can be both");
        assert!(!sees_every_process());
        return;
    }
    assert!(sees_every_process(), "root sees every process, unless it was confined");
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (roots, nobodys) =
        ["127.0.0.1:0"; 2].map(|address| TcpListener::bind(address).unwrap()).into();
    let root = Holder::of(&roots, None);
    let nobody = Holder::of(&nobodys, Some(NOBODY));
    let wanted = [(SocketId(1), inode(&roots)), (SocketId(2), inode(&nobodys))];
    // A user id is that of a thread, for the kernel; the C library alone makes it the process's.
    let search = thread::spawn(move || {
        let (uid, gid) =
            (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        let mut search = OwnerSearch::new(ProcessId(1), SnapshotId(1), FormerOwners::default());
        let news = SocketNews { wanted: wanted.into_iter().collect(), gone: Vec::new() };
        search.hear(SnapshotId(1), news);
        let mut proc = ProcDir::open().unwrap();
        let mut said = Said::default();
        while !search.is_settled() {
            said.learn(search.pass(&mut proc, 0, Budget::PASS));
        }
        said
    });
    let said = search.join().unwrap();
    // What this process holds the thread may see, as every thread of it.
    let own = std::process::id();
    let others = |socket| {
        let mut holders = said.holders(SocketId(socket));
        holders.remove(&own);
        holders
    };
    assert_eq!(others(1), BTreeSet::new(), "the process {} of root", root.pid());
    assert_eq!(others(2), BTreeSet::from([nobody.pid()]));
}

#[test]
fn the_cgroup_of_this_process_is_found_by_its_id() {
    let mut walk = sockrec::kernel::CgroupWalk::new();
    let Some((root, _)) = walk.begin() else {
        not_run("cgroups by their id", "cgroup v2 is not mounted here");
        return;
    };
    let mut finder = finder();
    finder.want_cgroup(root);
    finder.end_tick(SnapshotId(1));
    let changes = finder.settle(wait::DEADLINE);
    let [OwnerChange::Cgroup(id, cgroup)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((*id, cgroup.path.as_str()), (root, "/"));
}

#[test]
fn a_finder_that_has_nothing_to_do_says_so_at_once() {
    let mut finder = finder();
    for snapshot in 1..=50 {
        finder.end_tick(SnapshotId(snapshot));
    }
    let began = std::time::Instant::now();
    assert_eq!(finder.settle(wait::DEADLINE), []);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(finder.changes().count(), 0);
}

#[test]
fn a_process_whose_main_thread_has_ended_holds_what_it_held() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("main_thread_ends");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/owners/main_thread_ends.c");
    let compiled = Command::new("cc").arg("-pthread").arg("-o").arg(&program).arg(source).status();
    if compiled.is_err() {
        return not_run("a main thread that ends", "there is no C compiler");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut child = Command::new(&program)
        .arg(port.to_string())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _accepted = listener.accept().unwrap();
    let pid = child.id();
    let mut proc = ProcDir::open().unwrap();
    let incarnation = proc.glimpse(pid).unwrap().incarnation;
    let kept = proc.keep(pid, incarnation).unwrap();
    wait::until("the main thread has ended", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ")
    });
    let glimpse = proc.glimpse(pid).unwrap();
    assert!(glimpse.descriptors.unwrap() > 0);
    assert_eq!(kept.glimpse(), Ok(glimpse));
    let (mut process, mut sockets) = (proc.open_process(pid).unwrap(), Vec::new());
    while process.read_some(&mut sockets).unwrap() > 0 {}
    assert_eq!(sockets.len(), 1);
    let facts = proc.facts(process.key()).unwrap();
    let words = format!("{} {port}", program.display());
    assert_eq!(facts.exe.as_deref(), program.to_str());
    assert_eq!(facts.command_line, Some(words));

    drop(child.stdin.take());
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(rustix::process::Pid::from_child(&child)), ended).unwrap();
    assert_eq!(proc.glimpse(pid).map(|glimpse| glimpse.descriptors), Ok(Some(0)));
    child.wait().unwrap();
}
