//! `struct mptcp_info` (`include/uapi/linux/mptcp.h`).

use super::fields::Fields;
use crate::model::{MptcpInfo, TcpInfo, TcpState};

/// Decodes as many leading fields as came: what TCP has too goes into [`TcpInfo`]. Gives the
/// bytes behind the last field read too.
///
/// Of a listener the kernel fills in none: all is zero because nobody looked.
pub(super) fn mptcp_info(bytes: &[u8], state: TcpState) -> (MptcpInfo, TcpInfo, &[u8]) {
    let mut f = Fields::new(bytes);
    let mut mptcp = MptcpInfo {
        subflows: f.u8(),
        add_addr_signal: f.u8(),
        add_addr_accepted: f.u8(),
        subflows_max: f.u8(),
        add_addr_signal_max: f.u8(),
        add_addr_accepted_max: f.u8(),
        ..MptcpInfo::default()
    };
    f.skip(2); // hole
    mptcp = MptcpInfo {
        flags: f.u32(),
        token: f.u32(),
        write_seq: f.u64(),
        snd_una: f.u64(),
        rcv_nxt: f.u64(),
        local_addr_used: f.u8(),
        local_addr_max: f.u8(),
        csum_enabled: f.u8(),
        ..mptcp
    };
    f.skip(1); // hole
    mptcp.retransmits = f.u32();
    let tcp = TcpInfo {
        bytes_retrans: f.u64(),
        bytes_sent: f.u64(),
        bytes_received: f.u64(),
        bytes_acked: f.u64(),
        ..TcpInfo::default()
    };
    mptcp.subflows_total = f.u8();
    mptcp.endp_laminar_max = f.u8();
    mptcp.endp_fullmesh_max = f.u8();
    f.skip(1); // reserved
    f.skip(12); // last_*: relative times, see `inet_diag::take_relative_times`
    if state == TcpState::LISTEN {
        return (MptcpInfo::default(), TcpInfo::default(), f.rest());
    }
    (mptcp, tcp, f.rest())
}
