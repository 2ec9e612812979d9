//! Everything that one sock_diag message says about one socket.

use super::{Family, TcpState, Timer, Tuple};

/// `struct tcp_info` (`include/uapi/linux/tcp.h`), as far as the kernel sent it.
///
/// Times are microseconds unless the name says otherwise, windows bytes, `snd_cwnd`,
/// `snd_ssthresh`, `unacked`, `sacked`, `lost`, `retrans`, `fackets`, `reordering` segments.
/// Sentinels for "none" are `None`. Of a listener the kernel fills in only `snd_cwnd`,
/// `reordering` and the pacing rates (its backlog stands in the queues).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the kernel's names say what they are; docs/FORMAT.md describes each"
)]
pub struct TcpInfo {
    pub ca_state: Option<u8>,
    pub retransmits: Option<u8>,
    pub probes: Option<u8>,
    pub backoff: Option<u8>,
    pub options: Option<u8>,
    pub snd_wscale: Option<u8>,
    pub rcv_wscale: Option<u8>,
    pub delivery_rate_app_limited: Option<bool>,
    pub fastopen_client_fail: Option<u8>,
    pub rto_us: Option<u32>,
    pub ato_us: Option<u32>,
    pub snd_mss_bytes: Option<u32>,
    pub rcv_mss_bytes: Option<u32>,
    pub unacked: Option<u32>,
    pub sacked: Option<u32>,
    pub lost: Option<u32>,
    pub retrans: Option<u32>,
    pub fackets: Option<u32>,
    pub pmtu_bytes: Option<u32>,
    pub rcv_ssthresh_bytes: Option<u32>,
    pub rtt_us: Option<u32>,
    pub rttvar_us: Option<u32>,
    pub snd_ssthresh: Option<u32>,
    pub snd_cwnd: Option<u32>,
    pub advmss_bytes: Option<u32>,
    pub reordering: Option<u32>,
    pub rcv_rtt_us: Option<u32>,
    pub rcv_space_bytes: Option<u32>,
    pub total_retrans: Option<u32>,
    pub pacing_rate_bytes_per_s: Option<u64>,
    pub max_pacing_rate_bytes_per_s: Option<u64>,
    pub bytes_acked: Option<u64>,
    pub bytes_received: Option<u64>,
    pub segs_out: Option<u32>,
    pub segs_in: Option<u32>,
    pub notsent_bytes: Option<u32>,
    pub min_rtt_us: Option<u32>,
    pub data_segs_in: Option<u32>,
    pub data_segs_out: Option<u32>,
    pub delivery_rate_bytes_per_s: Option<u64>,
    pub busy_time_us: Option<u64>,
    pub rwnd_limited_us: Option<u64>,
    pub sndbuf_limited_us: Option<u64>,
    pub delivered: Option<u32>,
    pub delivered_ce: Option<u32>,
    pub bytes_sent: Option<u64>,
    pub bytes_retrans: Option<u64>,
    pub dsack_dups: Option<u32>,
    pub reord_seen: Option<u32>,
    pub rcv_ooopack: Option<u32>,
    pub snd_wnd_bytes: Option<u32>,
    pub rcv_wnd_bytes: Option<u32>,
    pub rehash: Option<u32>,
    pub total_rto: Option<u16>,
    pub total_rto_recoveries: Option<u16>,
    pub total_rto_time_ms: Option<u32>,
    pub received_ce: Option<u32>,
    pub delivered_e1_bytes: Option<u32>,
    pub delivered_e0_bytes: Option<u32>,
    pub delivered_ce_bytes: Option<u32>,
    pub received_e1_bytes: Option<u32>,
    pub received_e0_bytes: Option<u32>,
    pub received_ce_bytes: Option<u32>,
}

/// `struct mptcp_info` (`include/uapi/linux/mptcp.h`), without the counters that TCP has too:
/// those stand in [`TcpInfo`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the kernel's names say what they are; docs/FORMAT.md describes each"
)]
pub struct MptcpInfo {
    pub subflows: Option<u8>,
    pub add_addr_signal: Option<u8>,
    pub add_addr_accepted: Option<u8>,
    pub subflows_max: Option<u8>,
    pub add_addr_signal_max: Option<u8>,
    pub add_addr_accepted_max: Option<u8>,
    pub flags: Option<u32>,
    pub token: Option<u32>,
    pub write_seq: Option<u64>,
    pub snd_una: Option<u64>,
    pub rcv_nxt: Option<u64>,
    pub local_addr_used: Option<u8>,
    pub local_addr_max: Option<u8>,
    pub csum_enabled: Option<u8>,
    pub retransmits: Option<u32>,
    pub subflows_total: Option<u8>,
    pub endp_laminar_max: Option<u8>,
    pub endp_fullmesh_max: Option<u8>,
}

/// `SK_MEMINFO_*` (`include/uapi/linux/sock_diag.h`); the four that `INET_DIAG_MEMINFO` has too
/// come from there where the kernel sends no `INET_DIAG_SKMEMINFO`. All bytes but `drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the kernel's names say what they are; docs/FORMAT.md describes each"
)]
pub struct SocketMemory {
    pub rmem_alloc_bytes: Option<u32>,
    pub rcvbuf_bytes: Option<u32>,
    pub wmem_alloc_bytes: Option<u32>,
    pub sndbuf_bytes: Option<u32>,
    pub fwd_alloc_bytes: Option<u32>,
    pub wmem_queued_bytes: Option<u32>,
    pub optmem_bytes: Option<u32>,
    pub backlog_bytes: Option<u32>,
    pub drops: Option<u32>,
}

/// `struct tcpvegas_info`; also what Westwood, Illinois and others report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VegasInfo {
    /// Whether the algorithm is at work.
    pub enabled: u32,
    /// Number of RTTs measured.
    pub rtt_count: u32,
    /// Round trip time.
    pub rtt_us: u32,
    /// Least round trip time; `None` for the kernel's 0x7fffffff.
    pub min_rtt_us: Option<u32>,
}

/// `struct tcp_dctcp_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DctcpInfo {
    /// Whether the algorithm is at work.
    pub enabled: u16,
    /// Whether the last segment had the CE mark.
    pub ce_state: u16,
    /// Estimate of the share of marked bytes, in 1/1024.
    pub alpha: u32,
    /// Acked bytes with the ECN echo.
    pub ab_ecn_bytes: u32,
    /// Acked bytes in all.
    pub ab_tot_bytes: u32,
}

/// `struct tcp_bbr_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BbrInfo {
    /// Estimate of the bottleneck's bandwidth.
    pub bw_bytes_per_s: u64,
    /// Least round trip time of the window.
    pub min_rtt_us: u32,
    /// Pacing gain, in 1/256.
    pub pacing_gain: u32,
    /// Window gain, in 1/256.
    pub cwnd_gain: u32,
}

/// What the congestion control says of itself, beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongestionInfo {
    /// `INET_DIAG_VEGASINFO`
    Vegas(VegasInfo),
    /// `INET_DIAG_DCTCPINFO`
    Dctcp(DctcpInfo),
    /// `INET_DIAG_BBRINFO`
    Bbr(BbrInfo),
}

/// The moments that the kernel reports as "so long ago" or "in so long", made absolute:
/// `CLOCK_MONOTONIC` in milliseconds, at the resolution of the kernel's jiffies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivityTimes {
    /// When the timer fires.
    pub timer_expires_at_ms: Option<i64>,
    /// When data was last sent.
    pub last_data_sent_at_ms: Option<i64>,
    /// When data last came; `None` before any came.
    pub last_data_recv_at_ms: Option<i64>,
    /// When an acknowledgment last came.
    pub last_ack_recv_at_ms: Option<i64>,
}

/// Everything that one message says, but for the relative times (see [`ActivityTimes`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation<'a> {
    /// Address family.
    pub family: Family,
    /// State.
    pub state: TcpState,
    /// Whether this is a mini-socket (TIME_WAIT, orphaned FIN_WAIT2, a connection request), of
    /// which the kernel keeps neither owner nor counters.
    pub is_mini: bool,
    /// The timer that runs.
    pub timer: Timer,
    /// Retransmits or probes that the timer has made.
    pub timer_retransmits: u8,
    /// Addresses, ports and device.
    pub tuple: Tuple,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Unread bytes; of a listener the connections that wait for accept(). `None` for mini-sockets.
    pub rqueue: Option<u32>,
    /// Unsent and unacknowledged bytes; of a listener the limit of its backlog.
    pub wqueue: Option<u32>,
    /// Owner at creation or by fchown(). `None` for mini-sockets, and for root without an inode:
    /// so kernels before 6.17 speak of every socket without one.
    pub uid: Option<u32>,
    /// Inode of the socket's file; `None` without one: not yet accepted, orphaned, mini-socket.
    pub inode: Option<u32>,
    /// `INET_DIAG_INFO` of TCP, and the counters of MPTCP's.
    pub tcp: TcpInfo,
    /// `INET_DIAG_INFO` of MPTCP.
    pub mptcp: MptcpInfo,
    /// `INET_DIAG_SKMEMINFO`, `INET_DIAG_MEMINFO`.
    pub memory: SocketMemory,
    /// `INET_DIAG_CONG`: name of the congestion control.
    pub congestion_control: Option<&'a str>,
    /// What the congestion control reports.
    pub congestion: Option<CongestionInfo>,
    /// `INET_DIAG_TOS`: IP_TOS.
    pub tos: Option<u8>,
    /// `INET_DIAG_TCLASS`: IPV6_TCLASS.
    pub tclass: Option<u8>,
    /// `INET_DIAG_CLASS_ID`: class of net_cls, or the priority.
    pub class_id: Option<u32>,
    /// `INET_DIAG_SHUTDOWN`: bit 0 receive, bit 1 send.
    pub shutdown: Option<u8>,
    /// `INET_DIAG_SKV6ONLY`: IPV6_V6ONLY.
    pub v6only: Option<bool>,
    /// `INET_DIAG_SOCKOPT`: bit fields of `struct inet_diag_sockopt`, two bytes little-endian.
    pub socket_options: Option<u16>,
    /// `INET_DIAG_MARK`: SO_MARK; the kernel tells it only with CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// `INET_DIAG_CGROUP_ID`: id of the cgroup v2 at creation.
    pub cgroup_id: Option<u64>,
    /// Name in `INET_DIAG_ULP_INFO` (tls, mptcp …).
    pub ulp: Option<&'a str>,
    /// The rest of `INET_DIAG_ULP_INFO`, netlink attributes as they came.
    pub ulp_info: &'a [u8],
    /// What follows the last field read in `INET_DIAG_INFO`. In TCP's the word at offset 276 is read
    /// only when it is zero, because kernels differ in what it means.
    pub info_tail: &'a [u8],
    /// Attributes not known here, or of an unexpected length, as they came (header, value, padding),
    /// but for the keys in `INET_DIAG_MD5SIG`, which are zeroed.
    pub unknown_attributes: Vec<u8>,
}
