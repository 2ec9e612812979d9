//! Rights that a recorder was started with and does not need.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// What recording has a use for: SO_MARK and a large buffer for events, and whose the sockets are.
const USEFUL: CapabilitySet =
    CapabilitySet::NET_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// Room for an entry of the user database; more than any has.
const ENTRY_BYTES: usize = 16 * 1024;

/// A user as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub uid: u32,
    /// Number of its first group.
    pub gid: u32,
}

/// Looks a user up by name; `None` if there is none.
///
/// # Errors
/// When the user database cannot be read.
pub fn find_user(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut entry = MaybeUninit::uninit();
    let mut strings = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    // SAFETY: every pointer is valid for the call and as long as said; nothing of it is kept.
    let errno = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            strings.as_mut_ptr(),
            strings.len(),
            &raw mut found,
        )
    };
    match errno {
        0 if found.is_null() => Ok(None),
        0 => {
            // SAFETY: the call succeeded and found an entry: it is filled in.
            let entry: libc::passwd = unsafe { entry.assume_init() };
            Ok(Some(User { uid: entry.pw_uid, gid: entry.pw_gid }))
        }
        // What some systems say of a name that is not there (getpwnam(3)).
        libc::ENOENT | libc::ESRCH => Ok(None),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Goes on as another user, with no more than the capabilities that recording has a use for, as far as
/// they were there; that to enter other network namespaces is one of them only if it is to do so. Nothing
/// gives it any others again, and whoever is started from here on has none.
///
/// Holds for this thread and for those that it starts: to be called before there are others.
///
/// # Errors
/// When this process may not do so.
pub fn become_user(user: User, enters_namespaces: bool) -> io::Result<()> {
    let useful = if enters_namespaces { USEFUL.union(CapabilitySet::SYS_ADMIN) } else { USEFUL };
    let had = capabilities(None)?;
    let kept = had.permitted.intersection(useful);
    if had.effective.contains(CapabilitySet::SETPCAP) {
        bound_by(kept)?;
    }
    set_no_new_privs(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_keep_capabilities(true)?;
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)?;
    clear_ambient_capability_set()?;
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?)
}

/// Takes all others out of the bounding set: what is not in there no program that is run can have.
fn bound_by(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => {
                remove_capability_from_bounding_set(capability)?;
            }
            Ok(_) => {}
            // This kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
