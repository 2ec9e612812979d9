//! Control groups (v2): what a path tells, and which id belongs to which path.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::model::{CONTAINER_ID_LEN, Cgroup};

/// Units that processes can be in; slices are only groups of them.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Reads what a path below the root of the hierarchy tells.
pub(super) fn cgroup_at(path: &str) -> Cgroup {
    let innermost_first = || path.rsplit('/');
    Cgroup {
        path: path.to_owned(),
        unit: innermost_first().find_map(unit).map(str::to_owned),
        container: innermost_first().find_map(container).map(str::to_owned),
    }
}

/// systemd puts `_` before a name that could be taken for a file of the kernel's.
fn unit(name: &str) -> Option<&str> {
    let name = name.strip_prefix('_').unwrap_or(name);
    let stem = UNIT_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
    (!stem.is_empty()).then_some(name)
}

/// The id in `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`,
/// `kubepods-….slice:cri-containerd:ID`. `…-conmon-ID.scope` holds what watches over a container.
fn container(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = stem.rsplit_once(['-', ':']).unwrap_or(("", stem));
    let is_id =
        id.len() == CONTAINER_ID_LEN && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

/// The cgroup v2 in `/proc/PID/cgroup`; `None` where that hierarchy is not in use.
pub(super) fn cgroup_of_process(file: &[u8]) -> Option<Cgroup> {
    let path = file.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(cgroup_at(&String::from_utf8_lossy(path))).filter(|cgroup| !cgroup.path.is_empty())
}

/// Where cgroup v2 is mounted, by `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_cgroup2 = filesystem.split(' ').next() == Some("cgroup2");
        // A mount point with blanks in it would be escaped; nobody mounts cgroups at one.
        mount.split(' ').nth(4).filter(|_| is_cgroup2).map(PathBuf::from)
    })
}

/// Walks over the cgroups of this machine to find which path an id belongs to, one directory at a
/// time: there can be thousands.
///
/// The kernel's id of a cgroup is the inode number of its directory.
#[derive(Debug)]
pub struct CgroupWalk {
    mount: Option<PathBuf>,
    ahead: VecDeque<PathBuf>,
}

impl CgroupWalk {
    /// Looks for where cgroup v2 is mounted; without it a walk finds nothing.
    pub fn new() -> Self {
        let mountinfo = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self::over(cgroup2_mount(&String::from_utf8_lossy(&mountinfo)))
    }

    /// The directory of a cgroup, whether it is there or not; `None` without cgroup v2, and for what is
    /// no path below its mount.
    pub(super) fn place(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path.trim_start_matches('/'));
        let is_below = below.components().all(|part| matches!(part, Component::Normal(_)));
        is_below.then(|| Some(self.mount.as_deref()?.join(below))).flatten()
    }

    /// Whether there is a cgroup of this id at this path; also if that cannot be told.
    pub fn is_there(&self, id: u64, path: &str) -> bool {
        // Bytes that are no text are not kept.
        let is_exact = !path.contains(char::REPLACEMENT_CHARACTER);
        let Some(place) = self.place(path).filter(|_| is_exact) else { return true };
        match fs::metadata(place) {
            Ok(found) => found.ino() == id,
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    fn over(mount: Option<PathBuf>) -> Self {
        Self { mount, ahead: VecDeque::new() }
    }

    /// Begins at the root. Gives the root, if it is there.
    pub fn begin(&mut self) -> Option<(u64, Cgroup)> {
        self.ahead.clear();
        let mount = self.mount.as_deref()?;
        let id = fs::metadata(mount).ok()?.ino();
        self.ahead.push_back(mount.to_owned());
        Some((id, cgroup_at("/")))
    }

    /// Reads one directory and gives what is in it to `each`; false once there is none left.
    /// Cgroups that vanish meanwhile are passed over.
    pub fn step(&mut self, each: &mut dyn FnMut(u64, &dyn Fn() -> Cgroup)) -> bool {
        let Some(directory) = self.ahead.pop_front() else { return false };
        let Ok(entries) = fs::read_dir(&directory) else { return true };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                each(entry.ino(), &|| self.cgroup(&path));
                self.ahead.push_back(path);
            }
        }
        true
    }

    fn cgroup(&self, path: &Path) -> Cgroup {
        let below = self.mount.as_deref().and_then(|mount| path.strip_prefix(mount).ok());
        let below = below.unwrap_or(path).as_os_str();
        cgroup_at(&format!("/{}", String::from_utf8_lossy(below.as_bytes())))
    }
}

impl Default for CgroupWalk {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_path_tells_unit_and_container() {
        let id = "0123456789abcdef".repeat(4);
        let cases = [
            ("/", None, false),
            ("/init.scope", Some("init.scope"), false),
            ("/system.slice/nginx.service", Some("nginx.service"), false),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
                false,
            ),
            ("/system.slice/_cpu.service", Some("cpu.service"), false),
            ("/system.slice/.service", None, false),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope"), false),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope",
                Some("app-term.scope"),
                false,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope/sub",
                Some("init.scope"),
                false,
            ),
            ("/docker/ID", None, true),
            ("/docker/ID/init.scope", Some("init.scope"), true),
            ("/system.slice/docker-ID.scope", Some("docker-ID.scope"), true),
            (
                "/kubepods.slice/kubepods-podf00.slice/cri-containerd-ID.scope",
                Some("cri-containerd-ID.scope"),
                true,
            ),
            ("/machine.slice/libpod-ID.scope/container", Some("libpod-ID.scope"), true),
            ("/machine.slice/libpod-conmon-ID.scope", Some("libpod-conmon-ID.scope"), false),
            ("/kubepods/burstable/podf00/ID", None, true),
            (
                "/system.slice/containerd.service/kubepods-podf00.slice:cri-containerd:ID",
                Some("containerd.service"),
                true,
            ),
            ("/k8s.io/IDf", None, false),
            ("/docker/0ID", None, false),
            ("/docker/ÄÖ", None, false),
        ];
        for (path, unit, is_container) in cases {
            let named = |text: &str| text.replace("ID", &id);
            let cgroup = cgroup_at(&named(path));
            assert_eq!(cgroup.unit, unit.map(named), "{path}");
            assert_eq!(cgroup.container, is_container.then(|| id.clone()), "{path}");
            assert_eq!(cgroup.path, named(path));
        }
    }

    #[test]
    fn only_the_second_version_counts() {
        let of = |file: &str| cgroup_of_process(file.as_bytes()).map(|c| c.path);
        assert_eq!(of("9:name=systemd:/a\n1:cpu:/b\n0::/c\n"), Some("/c".to_owned()));
        assert_eq!(of("0::/\n"), Some("/".to_owned()));
        assert_eq!(of("1:cpu:/0::/x\n"), None);
        assert_eq!(of("0::\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let unified = "24 1 0:21 / /sys rw,nosuid shared:2 - sysfs sysfs rw\n\
             30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_mount(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n\
             31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount("nonsense\n1 - cgroup2\n"), None);
    }

    #[test]
    fn a_walk_shows_every_directory_with_its_inode() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "e.service"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        let mut walk = CgroupWalk::over(Some(root.path().to_owned()));
        let mut found: HashMap<_, _> = walk.begin().into_iter().collect();
        while walk.step(&mut |id, cgroup| drop(found.insert(id, cgroup()))) {}
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/e.service"];
        assert_eq!(found.len(), paths.len());
        for path in paths {
            let id = fs::metadata(root.path().join(&path[1..])).unwrap().ino();
            assert_eq!(found[&id].path, path);
        }
    }

    #[test]
    fn without_the_hierarchy_there_is_nothing() {
        let mut walk = CgroupWalk::over(None);
        assert_eq!(walk.begin(), None);
        assert!(!walk.step(&mut |_, _| unreachable!()));
    }
}
