//! Who looks for namespaces, enters those that are meant, and notes which nobody else holds any more.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::seen::{Own, Seen, mounted, of_process};
use super::{Entered, FirstLook, Found, NAMED, Netns, Refusal, lock};
use crate::kernel::self_stat::has_descriptors_left;
use crate::kernel::{DiagError, NamespaceSockets};
use crate::model::{Family, NamespaceFacts, Place, Protocol};

/// So many descriptors all namespaces but the first leave to the recording and what else is opened.
const KEPT_DESCRIPTORS: u64 = 32;

/// A namespace that is recorded.
struct Known {
    place: Place,
    is_let_go: bool,
}

/// What the thread knows.
pub(super) struct Finder {
    meant: Vec<Netns>,
    events: Option<Vec<(Family, Protocol)>>,
    own: Own,
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
    pub(super) found: Arc<Mutex<Found>>,
}

impl Finder {
    pub(super) fn new(
        meant: Vec<Netns>,
        events: Option<Vec<(Family, Protocol)>>,
    ) -> io::Result<Self> {
        let mut finder = Self {
            meant,
            events,
            own: Own::open()?,
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
                match finder.own.inode_of(&of_process(pid)) {
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
    pub(super) fn look_first(&mut self) {
        let (seen, is_all) = self.own.see();
        let mut there: HashMap<_, _> = seen.keys().map(|&inode| (inode, None)).collect();
        there.extend(mounted().into_iter().map(|inode| (inode, None)));
        self.look_at(seen);
        let mut found = lock(&self.found);
        let entered = found.entered.iter().map(|(_, one)| (one.inode, one.facts.cookie));
        there.extend(entered);
        found.first_look = FirstLook { there, is_all: is_all && self.meant.contains(&Netns::All) };
    }

    /// One look at all that there is.
    pub(super) fn look(&mut self) {
        let released = std::mem::take(&mut lock(&self.found).released);
        self.known.retain(|_, known| !released.contains(&known.place));
        self.look_at(self.own.see().0);
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

    /// The namespaces that are meant, the own one first.
    fn wanted(&mut self, seen: &mut HashMap<u64, Seen>) -> Vec<u64> {
        let mut wanted = Vec::new();
        for netns in self.meant.clone() {
            match netns {
                Netns::All => {
                    let mut all: Vec<u64> = seen.keys().copied().collect();
                    all.sort_unstable_by_key(|&inode| (inode != self.own.inode, inode));
                    wanted.extend(all);
                }
                Netns::Own => wanted.push(self.own.inode),
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
        match self.own.inode_of(&path) {
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
        if inode != self.own.inode {
            enter(&file)?;
        }
        let sockets = NamespaceSockets::open(self.events.as_deref());
        let sockets = sockets.map(NamespaceSockets::count);
        let facts = sockets.as_ref().ok().map(NamespaceSockets::namespace);
        if inode != self.own.inode {
            enter(&self.own.file)?;
        }
        let sockets = sockets.map_err(|e| match e {
            DiagError::Open(e) => e,
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
