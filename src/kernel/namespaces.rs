//! Which network namespaces there are: found by name and by who lives in them, entered, watched as they
//! come and go.
//!
//! A thread of its own does it. It alone ever leaves the namespace that the program runs in, and comes
//! back each time ([`finder`]).

mod finder;
mod seen;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::NamespaceSockets;
use crate::model::{Family, NamespaceFacts, Place, Protocol, RefusedNamespace};
use finder::Finder;

/// Where `ip netns` mounts the namespaces that it names.
pub const NAMED: &str = "/run/netns";
/// So often it is looked which namespaces there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
