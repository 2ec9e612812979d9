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

    fn cgroup(&self, path: &str) -> Option<u64> {
        let place = CgroupWalk::new().place(path)?;
        fs::metadata(place).ok().filter(fs::Metadata::is_dir).map(|directory| directory.ino())
    }
}
