//! The `SK_MEMINFO_*` words (`include/uapi/linux/sock_diag.h`) and `struct inet_diag_meminfo`.

use super::fields::Fields;
use crate::model::SocketMemory;

/// Words of `INET_DIAG_SKMEMINFO` known here.
pub(super) const SK_MEMINFO_LEN: usize = 9 * 4;

/// Decodes as many words as came.
pub(super) fn sk_meminfo(bytes: &[u8]) -> SocketMemory {
    let mut f = Fields::new(bytes);
    SocketMemory {
        rmem_alloc_bytes: f.u32(),
        rcvbuf_bytes: f.u32(),
        wmem_alloc_bytes: f.u32(),
        sndbuf_bytes: f.u32(),
        fwd_alloc_bytes: f.u32(),
        wmem_queued_bytes: f.u32(),
        optmem_bytes: f.u32(),
        backlog_bytes: f.u32(),
        drops: f.u32(),
    }
}

/// Length of `struct inet_diag_meminfo`.
pub(super) const MEMINFO_LEN: usize = 4 * 4;

/// `struct inet_diag_meminfo`: four of the words above, under older names.
pub(super) fn meminfo(bytes: &[u8]) -> SocketMemory {
    let mut f = Fields::new(bytes);
    SocketMemory {
        rmem_alloc_bytes: f.u32(),
        wmem_queued_bytes: f.u32(),
        fwd_alloc_bytes: f.u32(),
        wmem_alloc_bytes: f.u32(),
        ..SocketMemory::default()
    }
}
