//! What names of devices and cgroups stand for on this machine.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::cgroup::CgroupWalk;
use crate::filter::Names;

/// This thread's network namespace, and the cgroups that this process sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveNames;

impl Names for LiveNames {
    fn device(&self, name: &str) -> Option<u32> {
        let name = CString::new(name).ok()?;
        // SAFETY: the name ends in a zero byte and is only read.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        Some(index).filter(|&index| index != 0)
    }

    fn devices(&self) -> Vec<String> {
        // The namespace is the thread's.
        let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, _)| name.trim().to_owned()).collect()
    }

    fn cgroups_beside(&self, path: &str) -> Vec<String> {
        let (parent, _) = path.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        let entries = CgroupWalk::new().place(parent).and_then(|place| fs::read_dir(place).ok());
        let directories = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.map(|entry| format!("{parent}/{}", entry.file_name().display())).collect()
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        let place = CgroupWalk::new().place(path)?;
        fs::metadata(place).ok().filter(fs::Metadata::is_dir).map(|directory| directory.ino())
    }
}
