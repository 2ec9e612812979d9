//! A look at the network namespaces that there are: those with a name, those with a process in them, and
//! those that are mounted anywhere.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::NAMED;
use crate::kernel::cgroup::cgroup_of_process;
use crate::model::NamespaceFacts;

/// The namespace of this process.
const OWN: &str = "/proc/self/ns/net";

/// A namespace as a look shows it.
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) name: Option<String>,
}

impl Seen {
    /// What leads to it: its name, where it has one.
    pub(super) fn path(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.path.display().to_string())
    }

    /// What every output calls it.
    pub(super) fn label(&self, inode: u64) -> String {
        let facts = NamespaceFacts {
            cookie: None,
            inode: Some(inode),
            name: self.name.clone(),
            local_ports: None,
        };
        facts.label()
    }
}

/// The namespace of this process, beside which all others are seen.
pub(super) struct Own {
    /// Leads back to it.
    pub(super) file: File,
    pub(super) inode: u64,
    /// The file system that namespaces are files of.
    device: u64,
}

impl Own {
    pub(super) fn open() -> io::Result<Self> {
        let file = File::open(OWN)?;
        let metadata = file.metadata()?;
        Ok(Self { file, inode: metadata.ino(), device: metadata.dev() })
    }

    /// Every namespace that has a name, or a process in it, by its inode; and whether those of all processes
    /// could be seen.
    pub(super) fn see(&self) -> (HashMap<u64, Seen>, bool) {
        let mut is_all = true;
        let own = Seen { path: OWN.into(), name: None };
        let mut all = HashMap::from([(self.inode, own)]);
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

    /// The inode of a file that is a namespace.
    pub(super) fn inode_of(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::metadata(path)?;
        if metadata.dev() == self.device {
            return Ok(metadata.ino());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no network namespace"))
    }
}

/// What leads to the namespace of a process.
pub(super) fn of_process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// The inodes of those that are mounted somewhere, as this process sees it (`/proc/PID/mountinfo`).
pub(super) fn mounted() -> Vec<u64> {
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
