//! A network namespace in which nobody else has sockets.

use std::io;
use std::os::fd::AsRawFd;
use std::panic;
use std::thread;

use rustix::thread::UnshareFlags;
use socket2::{Domain, Socket, Type};

use crate::common::not_run;

/// Whether nobody else has sockets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surroundings {
    Own,
    Shared,
}

/// Runs it in a network namespace of its own, with whatever threads and programs it starts; where
/// that is not allowed, among the sockets of the host.
pub(crate) fn in_own_namespace<T: Send>(
    what: &str,
    run: impl FnOnce(Surroundings) -> T + Send,
) -> T {
    // A namespace belongs to a thread and those that it starts: this one goes, and with it all that
    // was changed.
    let outcome = thread::scope(|scope| {
        scope
            .spawn(|| {
                let surroundings = match enter() {
                    Ok(()) => Surroundings::Own,
                    Err(e) => {
                        not_run(
                            &format!("{what} in a network namespace of its own"),
                            &format!("there is none to be had ({e}); it runs among other sockets"),
                        );
                        Surroundings::Shared
                    }
                };
                run(surroundings)
            })
            .join()
    });
    outcome.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}

fn enter() -> io::Result<()> {
    // SAFETY: only the network namespace is left, not the descriptors that other threads rely on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    bring_up_loopback()
}

fn bring_up_loopback() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: it is plain bytes, of which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open, and the kernel reads one `ifreq`.
    let result = unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
