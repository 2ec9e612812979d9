//! Which network namespaces there are: found by name and by who lives in them, entered, watched as they
//! come and go.
//!
//! A thread of its own does it. It alone ever leaves the namespace that the program runs in, and comes
//! back each time.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::NamespaceSockets;
use super::cgroup::cgroup_of_process;
use super::self_stat::has_descriptors_left;
use crate::model::{Family, NamespaceFacts, Place, Protocol, RefusedNamespace};

/// Where `ip netns` mounts the namespaces that it names.
pub const NAMED: &str = "/run/netns";
/// The namespace of this process.
const OWN: &str = "/proc/self/ns/net";
/// So often it is looked which namespaces there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many descriptors all namespaces but the first leave to the recording and what else is opened.
const KEPT_DESCRIPTORS: u64 = 32;

/// Which network namespaces are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    /// That of this process, those under `/run/netns`, and those that any process lives in.
    All,
    /// That of this process.
    Own,
    /// The one that `ip netns` calls so.
    Name(String),
    /// The one that this file is.
    Path(PathBuf),
    /// That of a process, as long as this is there, and longer.
    Pid(u32),
}

/// A namespace that is meant and cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What leads to it.
    pub path: String,
    /// What the recording tells of it.
    pub namespace: RefusedNamespace,
    /// Whether a privilege is missing.
    pub is_forbidden: bool,
    /// Whether it was refused before, and could be recorded or was not there since.
    pub is_said: bool,
}

impl Refusal {
    fn new(path: &str, name: &str, error: &io::Error) -> Self {
        let message = match path == name {
            true => error.to_string(),
            false => format!("{path}: {error}"),
        };
        Self {
            path: path.to_owned(),
            namespace: RefusedNamespace {
                name: name.to_owned(),
                errno: error.raw_os_error(),
                message,
            },
            is_forbidden: error.kind() == io::ErrorKind::PermissionDenied,
            is_said: false,
        }
    }

    /// What stands in the way, without what leads there.
    pub fn reason(&self) -> &str {
        let message = &self.namespace.message;
        message.strip_prefix(&format!("{}: ", self.path)).unwrap_or(message)
    }
}

/// Which namespaces came and which were let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceNews {
    /// Those that can be asked from now on.
    pub arrived: Vec<(Place, NamespaceFacts)>,
    /// Whether nobody else is known to hold them any more, or again.
    pub let_go: Vec<(Place, bool)>,
    /// Those that cannot be recorded, each once.
    pub refused: Vec<Refusal>,
    /// The names of those that can be after all, or are not meant any more.
    pub admitted: Vec<String>,
}

/// A namespace that was entered.
pub struct Entered {
    /// What it is asked by.
    pub sockets: NamespaceSockets,
    /// How it is known.
    pub facts: NamespaceFacts,
    inode: u64,
}

impl Entered {
    /// It cannot be recorded after all.
    pub fn refusal(&self, error: io::Error) -> Refusal {
        let name = self.facts.label();
        Refusal::new(&name, &name, &error)
    }
}

/// What was found since the last time.
#[derive(Default)]
pub struct Found {
    /// Those that were entered.
    pub entered: Vec<(Place, Entered)>,
    /// See [`NamespaceNews::let_go`].
    pub let_go: Vec<(Place, bool)>,
    /// See [`NamespaceNews::refused`].
    pub refused: Vec<Refusal>,
    /// See [`NamespaceNews::admitted`].
    pub admitted: Vec<String>,
    /// Those that are recorded no longer.
    released: Vec<Place>,
    first_look: FirstLook,
}

/// Which namespaces the first look found.
#[derive(Clone, Debug, Default)]
struct FirstLook {
    /// By their inodes, with the cookies of those that were entered.
    there: HashMap<u64, Option<u64>>,
    /// Whether all that anyone lives in, or that a name leads to, are among them.
    is_all: bool,
}

/// Watches namespaces until it is dropped.
pub struct NamespaceWatch {
    found: Arc<Mutex<Found>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NamespaceWatch {
    /// Starts the thread, and waits until it has looked for the first time. With `events` destroy events
    /// of these dumps are listened for in each namespace.
    ///
    /// # Errors
    /// When there is no thread to be had, or no `/proc`.
    pub fn start(meant: Vec<Netns>, events: Option<Vec<(Family, Protocol)>>) -> io::Result<Self> {
        let mut finder = Finder::new(meant, events)?;
        let found = Arc::clone(&finder.found);
        let (stop, stopped) = bounded(0);
        let (looked, first_look) = bounded(1);
        let thread = thread::Builder::new().name("namespaces".to_owned()).spawn(move || {
            finder.look_first();
            // Whoever started this waits for it.
            let _ = looked.send(());
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                finder.look();
            }
        })?;
        // A thread that died has found nothing.
        let _ = first_look.recv();
        Ok(Self { found, stop: Some(stop), thread: Some(thread) })
    }

    /// Takes the first namespace alone, which is [`Place::FIRST`]; if none could be entered, what stands
    /// in the way.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_first(&self) -> Result<Entered, Vec<Refusal>> {
        let mut found = lock(&self.found);
        if found.entered.is_empty() {
            return Err(std::mem::take(&mut found.refused));
        }
        Ok(found.entered.remove(0).1)
    }

    /// Takes what was found since the last time.
    pub fn take(&self) -> Found {
        let mut found = lock(&self.found);
        let released = std::mem::take(&mut found.released);
        let first_look = std::mem::take(&mut found.first_look);
        std::mem::replace(&mut found, Found { released, first_look, ..Found::default() })
    }

    /// Whether a namespace of this boot was not there at the first look: another one had its inode, or no
    /// process lived in any with it and no name or mount led there, where all were looked for. What only a
    /// descriptor holds is not found so.
    pub fn has_missed(&self, cookie: u64, inode: u64) -> bool {
        let first_look = &lock(&self.found).first_look;
        match first_look.there.get(&inode) {
            Some(found) => found.is_some_and(|found| found != cookie),
            None => first_look.is_all,
        }
    }

    /// A namespace is recorded no longer. To be said before its sockets are closed.
    pub fn release(&self, place: Place) {
        lock(&self.found).released.push(place);
    }
}

impl Drop for NamespaceWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        // One that died has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A thread that died has left what it found whole.
fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A namespace as a look shows it.
struct Seen {
    path: PathBuf,
    name: Option<String>,
}

/// A namespace that is recorded.
struct Known {
    place: Place,
    is_let_go: bool,
}

/// The thread's own.
struct Finder {
    meant: Vec<Netns>,
    events: Option<Vec<(Family, Protocol)>>,
    /// The file system that namespaces are files of.
    device: u64,
    own: File,
    own_inode: u64,
    /// Those of processes that were named: a pid is looked up once.
    of_pids: HashSet<u64>,
    /// Of those that were not there then.
    lost_pids: Vec<String>,
    known: HashMap<u64, Known>,
    /// What was refused before, by name, and is not said again.
    said: HashSet<String>,
    /// The names of those that are refused, and whether that was so in the look that is made.
    refused: HashMap<String, bool>,
    next: Place,
    found: Arc<Mutex<Found>>,
}

impl Finder {
    fn new(meant: Vec<Netns>, events: Option<Vec<(Family, Protocol)>>) -> io::Result<Self> {
        let own = File::open(OWN)?;
        let metadata = own.metadata()?;
        let mut finder = Self {
            meant,
            events,
            device: metadata.dev(),
            own,
            own_inode: metadata.ino(),
            of_pids: HashSet::new(),
            lost_pids: Vec::new(),
            known: HashMap::new(),
            said: HashSet::new(),
            refused: HashMap::new(),
            next: Place::FIRST,
            found: Arc::default(),
        };
        for netns in finder.meant.clone() {
            if let Netns::Pid(pid) = netns {
                match finder.inode_of(&of_process(pid)) {
                    Ok(inode) => drop(finder.of_pids.insert(inode)),
                    Err(e) => {
                        let path = of_process(pid).display().to_string();
                        finder.refuse(&path, &path, &e);
                        finder.lost_pids.push(path);
                    }
                }
            }
        }
        Ok(finder)
    }

    /// The first look, which later ones add nothing to.
    fn look_first(&mut self) {
        let (seen, is_all) = self.see();
        let mut there: HashMap<_, _> = seen.keys().map(|&inode| (inode, None)).collect();
        there.extend(mounted().into_iter().map(|inode| (inode, None)));
        self.look_at(seen);
        let mut found = lock(&self.found);
        let entered = found.entered.iter().map(|(_, one)| (one.inode, one.facts.cookie));
        there.extend(entered);
        found.first_look = FirstLook { there, is_all: is_all && self.meant.contains(&Netns::All) };
    }

    /// One look at all that there is.
    fn look(&mut self) {
        let released = std::mem::take(&mut lock(&self.found).released);
        self.known.retain(|_, known| !released.contains(&known.place));
        self.look_at(self.see().0);
    }

    fn look_at(&mut self, mut seen: HashMap<u64, Seen>) {
        self.refused.values_mut().for_each(|is_so| *is_so = false);
        for name in &self.lost_pids {
            self.refused.insert(name.clone(), true);
        }
        let wanted = self.wanted(&mut seen);
        self.note_who_is_held(&seen);
        for inode in wanted {
            if self.known.contains_key(&inode) {
                continue;
            }
            let Some(seen) = seen.get(&inode) else { continue };
            match self.enter(seen) {
                Ok(entered) => self.welcome(entered),
                Err(e) => self.refuse(&seen.path(), &seen.label(inode), &e),
            }
        }
        let mut found = lock(&self.found);
        for (name, _) in self.refused.extract_if(|_, is_so| !*is_so) {
            // Nobody may have heard of it yet.
            let pending = found.refused.iter().position(|refusal| refusal.namespace.name == name);
            match pending {
                Some(index) => drop(found.refused.remove(index)),
                None => found.admitted.push(name),
            }
        }
    }

    /// Every namespace that has a name, or a process in it, by its inode; and whether those of all processes
    /// could be seen.
    fn see(&self) -> (HashMap<u64, Seen>, bool) {
        let mut is_all = true;
        let own = Seen { path: OWN.into(), name: None };
        let mut all = HashMap::from([(self.own_inode, own)]);
        for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
            let path = entry.path();
            // While `ip netns` is at it there is a file that is no namespace.
            if let Ok(inode) = self.inode_of(&path) {
                let name = Some(entry.file_name().to_string_lossy().into_owned());
                all.insert(inode, Seen { path, name });
            }
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = of_process(pid);
            let link = fs::read_link(&path);
            // Of one that is over there is none any more.
            is_all &= !link.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            let Some(inode) = link.ok().as_deref().and_then(inode_told) else {
                continue;
            };
            // Lower numbers come first.
            let there = all.entry(inode);
            there.or_insert_with(|| Seen { path, name: container_of(pid) });
        }
        (all, is_all)
    }

    /// The namespaces that are meant, the own one first.
    fn wanted(&mut self, seen: &mut HashMap<u64, Seen>) -> Vec<u64> {
        let mut wanted = Vec::new();
        for netns in self.meant.clone() {
            match netns {
                Netns::All => {
                    let mut all: Vec<u64> = seen.keys().copied().collect();
                    all.sort_unstable_by_key(|&inode| (inode != self.own_inode, inode));
                    wanted.extend(all);
                }
                Netns::Own => wanted.push(self.own_inode),
                Netns::Pid(_) => wanted.extend(&self.of_pids),
                Netns::Name(name) => {
                    let path = Path::new(NAMED).join(&name);
                    wanted.extend(self.wanted_at(path, name, seen));
                }
                Netns::Path(path) => {
                    let name = path.display().to_string();
                    wanted.extend(self.wanted_at(path, name, seen));
                }
            }
        }
        wanted
    }

    fn wanted_at(
        &mut self,
        path: PathBuf,
        name: String,
        seen: &mut HashMap<u64, Seen>,
    ) -> Option<u64> {
        match self.inode_of(&path) {
            Ok(inode) => {
                seen.entry(inode).or_insert(Seen { path, name: None });
                Some(inode)
            }
            Err(e) => {
                self.refuse(&name, &name, &e);
                None
            }
        }
    }

    /// The inode of a file that is a namespace.
    fn inode_of(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::metadata(path)?;
        if metadata.dev() == self.device {
            return Ok(metadata.ino());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no network namespace"))
    }

    fn note_who_is_held(&mut self, seen: &HashMap<u64, Seen>) {
        let mut found = lock(&self.found);
        self.known.retain(|inode, known| {
            let is_let_go = !seen.contains_key(inode);
            if is_let_go == known.is_let_go {
                return true;
            }
            known.is_let_go = is_let_go;
            let pending = found.entered.iter().position(|(place, _)| *place == known.place);
            match pending {
                // Nobody has asked it anything yet.
                Some(index) if is_let_go => {
                    found.entered.remove(index);
                    return false;
                }
                _ => found.let_go.push((known.place, is_let_go)),
            }
            true
        });
    }

    /// Opens the sockets in a namespace.
    fn enter(&self, seen: &Seen) -> io::Result<Entered> {
        let file = File::open(&seen.path)?;
        let inode = file.metadata()?.ino();
        let enter =
            |file: &File| move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        if inode != self.own_inode {
            enter(&file)?;
        }
        let sockets = NamespaceSockets::open(self.events.as_deref());
        let sockets = sockets.map(NamespaceSockets::count);
        let facts = sockets.as_ref().ok().map(NamespaceSockets::namespace);
        if inode != self.own_inode {
            enter(&self.own)?;
        }
        let sockets = sockets.map_err(|e| match e {
            super::DiagError::Open(e) => e,
        })?;
        if !self.known.is_empty() && !has_descriptors_left(&file, KEPT_DESCRIPTORS)? {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let facts = facts.map(|facts| NamespaceFacts {
            inode: Some(inode),
            name: seen.name.clone(),
            ..facts
        });
        let facts = facts.ok_or(io::ErrorKind::NotFound)?;
        Ok(Entered { sockets, facts, inode })
    }

    fn welcome(&mut self, entered: Entered) {
        // What was seen may be another by now.
        if self.known.contains_key(&entered.inode) {
            return;
        }
        let place = self.next;
        self.next = Place(place.0 + 1);
        self.known.insert(entered.inode, Known { place, is_let_go: false });
        lock(&self.found).entered.push((place, entered));
    }

    fn refuse(&mut self, path: &str, name: &str, error: &io::Error) {
        if self.refused.insert(name.to_owned(), true).is_none() {
            let is_said = !self.said.insert(name.to_owned());
            let refusal = Refusal { is_said, ..Refusal::new(path, name, error) };
            lock(&self.found).refused.push(refusal);
        }
    }
}

impl Seen {
    /// What leads to it: its name, where it has one.
    fn path(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.path.display().to_string())
    }

    /// What every output calls it.
    fn label(&self, inode: u64) -> String {
        let facts = NamespaceFacts {
            cookie: None,
            inode: Some(inode),
            name: self.name.clone(),
            local_ports: None,
        };
        facts.label()
    }
}

fn of_process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// The inodes of those that are mounted somewhere, as this process sees it (`/proc/PID/mountinfo`).
fn mounted() -> Vec<u64> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let roots = text.lines().filter_map(|line| line.split(' ').nth(3));
    roots.filter_map(|root| inode_told(Path::new(root))).collect()
}

/// The inode in `net:[4026531840]`.
fn inode_told(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The container that a process is in, by its cgroup.
fn container_of(pid: u32) -> Option<String> {
    cgroup_of_process(&fs::read(format!("/proc/{pid}/cgroup")).ok()?)?.container
}
