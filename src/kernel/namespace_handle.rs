//! Whether a network namespace is still there, of which nothing but its numbers is known.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::DiagSocket;

/// `FD_NSFS_ROOT` (`include/uapi/linux/fcntl.h`, since Linux 6.18): handles are of namespaces.
const NSFS_ROOT: libc::c_int = -10_003;
/// `FILEID_NSFS` (`include/linux/exportfs.h`).
const OF_NAMESPACE: libc::c_int = 0xf1;

/// `struct file_handle` with `struct nsfs_file_handle` (`include/uapi/linux/nsfs.h`) in it.
#[repr(C)]
struct NamespaceHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    id: u64,
    kind: u32,
    inode: u32,
}

/// What asks the kernel for namespaces by cookie and inode.
pub struct NamespaceHandles(());

impl NamespaceHandles {
    /// `None` where this kernel does not know its own one by such a handle, or asking is not allowed.
    pub fn new() -> Option<Self> {
        let cookie = DiagSocket::open().ok()?.netns_cookie()?;
        let inode = fs::metadata("/proc/thread-self/ns/net").ok()?.ino();
        open(cookie, inode).is_ok().then_some(Self(()))
    }

    /// Whether the namespace has been freed. One that may not be opened is there.
    pub fn is_gone(&self, cookie: u64, inode: u64) -> bool {
        open(cookie, inode).is_err_and(|e| e.raw_os_error() == Some(libc::ESTALE))
    }
}

fn open(cookie: u64, inode: u64) -> io::Result<OwnedFd> {
    let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut handle = NamespaceHandle {
        handle_bytes: 16,
        handle_type: OF_NAMESPACE,
        id: cookie,
        kind: libc::CLONE_NEWNET.cast_unsigned(),
        inode,
    };
    // SAFETY: the kernel reads the header and as many bytes after it as `handle_bytes` says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            NSFS_ROOT,
            &raw mut handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: it was opened just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
