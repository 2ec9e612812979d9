//! What machine and boot this is, and what this process may do.

use std::fs;
use std::io;

use hmac::{Hmac, KeyInit, Mac};
use rustix::system::uname;
use sha2::Sha256;

use crate::model::HostFacts;

/// Names this program in the keyed hash, so that the result is of no use to find the machine id
/// or to link this machine with what other programs derive from it.
const MACHINE_ID_CONTEXT: &[u8] = b"sockrec machine identity";

/// Reads what identifies this machine and boot; what cannot be read is `None`.
///
/// # Errors
/// When there is no boot id: cookies then mean nothing beyond this run.
pub fn host_facts() -> io::Result<HostFacts> {
    let boot_uuid = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let names = uname();
    let name = |s: &std::ffi::CStr| s.to_str().ok().map(str::to_owned);
    Ok(HostFacts {
        boot_uuid,
        host_name: name(names.nodename()),
        machine_id_hash: fs::read_to_string("/etc/machine-id")
            .ok()
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .and_then(|id| keyed_hash(&id)),
        kernel_release: name(names.release()),
        architecture: name(names.machine()),
    })
}

fn keyed_hash(machine_id: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(machine_id.as_bytes()).ok()?;
    mac.update(MACHINE_ID_CONTEXT);
    let digest = mac.finalize().into_bytes();
    Some(digest.iter().take(16).map(|b| format!("{b:02x}")).collect())
}

/// Whether this process has CAP_NET_ADMIN, without which the kernel does not tell SO_MARK.
pub fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    own_mask("CapEff:").is_some_and(|effective| effective & (1 << CAP_NET_ADMIN) != 0)
}

/// Whether this process may see which sockets the processes of other users hold: their
/// `/proc/PID/fd` is closed to them (CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH), and what a descriptor
/// leads to is told to those who may trace the process (CAP_SYS_PTRACE).
pub fn sees_every_process() -> bool {
    const CAP_DAC_OVERRIDE: u32 = 1;
    const CAP_DAC_READ_SEARCH: u32 = 2;
    const CAP_SYS_PTRACE: u32 = 19;
    own_mask("CapEff:").is_some_and(|effective| {
        let has = |capability: u32| effective & (1 << capability) != 0;
        has(CAP_SYS_PTRACE) && (has(CAP_DAC_OVERRIDE) || has(CAP_DAC_READ_SEARCH))
    })
}

/// Whether whoever started this process had it ignore a signal, as `nohup` does with SIGHUP and
/// shells without job control do with SIGINT for what they put into the background.
pub fn is_ignored(signal: i32) -> bool {
    let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift));
    own_mask("SigIgn:").zip(bit).is_some_and(|(ignored, bit)| ignored & bit != 0)
}

/// A line of `/proc/self/status` that holds a mask of bits.
fn own_mask(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
