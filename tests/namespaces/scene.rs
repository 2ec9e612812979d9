//! Network namespaces of one's own, and sockets in them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use sockrec::kernel::NamespaceSockets;

use crate::harness::is_root;
use crate::not_run::not_here;

/// Everyone listens and connects here.
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7_001);
pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7_002);

/// Whether namespaces can be made here; else says that the test was not run.
pub(crate) fn may_make_namespaces(test: &str) -> bool {
    let may = is_root()
        && Command::new("ip").args(["netns", "list"]).output().is_ok_and(|o| o.status.success())
        && Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|s| s.success());
    if !may {
        not_here(test, "it takes root, `ip netns` and `unshare`");
    }
    may
}

/// One recorder of all namespaces at a time: it has sockets in each, which another one counts.
pub(crate) fn alone() -> File {
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    file.lock().unwrap();
    file
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A namespace with a name, until it is let go.
pub(crate) struct Named(pub(crate) String);

impl Named {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::called(format!("sockrec-{}-{number}", std::process::id()))
    }

    pub(crate) fn called(name: String) -> Self {
        ip(&["netns", "add", &name]);
        let made = Self(name);
        ip(&["-n", &made.0, "link", "set", "lo", "up"]);
        made
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/run/netns/{}", self.0).into()
    }

    /// Runs it in the namespace; sockets that it makes stay there.
    pub(crate) fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                run()
            });
            entered.join().unwrap()
        })
    }

    /// Its cookie and its inode.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let facts = self.inside(|| NamespaceSockets::open(None).unwrap().namespace());
        (facts.cookie.unwrap(), facts.inode.unwrap())
    }

    /// A connection to itself, over which so many bytes went.
    pub(crate) fn connection(&self, bytes: usize) -> Connection {
        self.inside(|| {
            let listener = TcpListener::bind(SERVER).unwrap();
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_reuse_address(true).unwrap();
            client.bind(&CLIENT.into()).unwrap();
            client.connect(&SERVER.into()).unwrap();
            let mut client = TcpStream::from(client);
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&vec![7; bytes]).unwrap();
            server.read_exact(&mut vec![0; bytes]).unwrap();
            Connection { _client: client, _server: server, _listener: listener }
        })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).stderr(Stdio::null()).status();
    }
}

pub(crate) struct Connection {
    _client: TcpStream,
    _server: TcpStream,
    _listener: TcpListener,
}

impl Connection {
    /// Closes it, and waits until nothing is left of it in its namespace but what waits in TIME-WAIT: a
    /// program that another test just starts has its sockets too for a moment.
    pub(crate) fn end(self, netns: &Named) {
        drop(self);
        netns.inside(|| {
            crate::harness::until("its sockets are gone", || {
                let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
                let state = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
                sockets.lines().skip(1).all(|line| state(line).unwrap() == "06").then_some(())
            });
        });
    }
}

/// A process in a namespace of its own that has no name; both end with the test.
pub(crate) struct Dweller(Child);

impl Dweller {
    pub(crate) fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let dweller = Self(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        crate::harness::until("the process is in its namespace", || {
            (fs::read_link(dweller.link()).ok()? != own).then_some(())
        });
        dweller
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn link(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// As it is called where nobody named it.
    pub(crate) fn netns(&self) -> String {
        fs::read_link(self.link()).unwrap().display().to_string()
    }
}

impl Drop for Dweller {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Descriptors that a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
