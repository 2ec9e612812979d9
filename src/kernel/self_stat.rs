//! What this process takes of the machine.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory that this process has in use (`VmRSS`).
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(page_size()).ok()?)
}

/// Descriptors that this process has open, with the one that it takes to look.
pub fn open_descriptors() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// Allows this process as many descriptors as it may allow itself. Where that fails it has what it had.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether so many descriptors can still be had beyond all those that a file or socket opened now would
/// get: the kernel gives the lowest number that is free.
///
/// # Errors
/// When there is none at all.
pub(super) fn has_descriptors_left(any: &File, count: u64) -> io::Result<bool> {
    let next = fcntl_dupfd_cloexec(any, 0)?;
    let next = u64::from(next.as_raw_fd().unsigned_abs());
    Ok(getrlimit(Resource::Nofile).current.is_none_or(|limit| next + count <= limit))
}

/// Room that a process without privileges has on the file system of a file or directory.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = statvfs(path).ok()?;
    there.f_bavail.checked_mul(there.f_frsize)
}
