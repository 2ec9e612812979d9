//! `struct tcp_info` and the congestion controls' structures (`include/uapi/linux/tcp.h`,
//! `include/uapi/linux/inet_diag.h`).

use super::fields::Fields;
use crate::model::{BbrInfo, CongestionInfo, DctcpInfo, TcpInfo, TcpState, VegasInfo};

/// `TCP_INFINITE_SSTHRESH`: slow start has not ended yet.
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;
/// `tcp_min_rtt()` and the pacing rates before there is any.
const UNSET_U32: u32 = u32::MAX;
const UNSET_U64: u64 = u64::MAX;

/// Length of the structure when `tcpi_delivery_rate` came, and its flag with it (Linux 4.9).
const DELIVERY_RATE_END: usize = 168;
/// Length when `tcpi_snd_wnd` came (5.4), shortly before `tcpi_fastopen_client_fail` (5.5).
const SND_WND_END: usize = 232;

/// Decodes as many leading fields as came. Gives the bytes behind the last field read too.
///
/// Zeros that stand for "not measured" are `None`: `rtt` (with `rttvar`), `rcv_rtt` and
/// `delivery_rate` have no other way to say it, and the kernel never measures zero.
pub(super) fn tcp_info(bytes: &[u8], state: TcpState) -> (TcpInfo, &[u8]) {
    let mut f = Fields::new(bytes);
    f.skip(1); // tcpi_state: the message's header has it
    let ca_state = f.u8();
    let retransmits = f.u8();
    let probes = f.u8();
    let backoff = f.u8();
    let options = f.u8();
    let wscales = f.u8();
    let flags = f.u8();
    // Read in the order of the header: a field's offset is that of all before it.
    let mut info = TcpInfo {
        ca_state,
        retransmits,
        probes,
        backoff,
        options,
        snd_wscale: wscales.map(|w| low_bits(w, 0, 4)),
        rcv_wscale: wscales.map(|w| low_bits(w, 4, 4)),
        delivery_rate_app_limited: flags.map(|b| low_bits(b, 0, 1) == 1),
        fastopen_client_fail: flags.map(|b| low_bits(b, 1, 2)),
        rto_us: f.u32(),
        ato_us: f.u32(),
        snd_mss_bytes: f.u32(),
        rcv_mss_bytes: f.u32(),
        unacked: f.u32(),
        sacked: f.u32(),
        lost: f.u32(),
        retrans: f.u32(),
        fackets: f.u32(),
        ..TcpInfo::default()
    };
    f.skip(16); // tcpi_last_*: relative times, see `inet_diag::take_relative_times`
    info = TcpInfo {
        pmtu_bytes: f.u32(),
        rcv_ssthresh_bytes: f.u32(),
        rtt_us: f.u32().filter(|&v| v != 0),
        rttvar_us: f.u32(),
        snd_ssthresh: f.u32().filter(|&v| v < INFINITE_SSTHRESH),
        snd_cwnd: f.u32(),
        advmss_bytes: f.u32(),
        reordering: f.u32(),
        rcv_rtt_us: f.u32().filter(|&v| v != 0),
        rcv_space_bytes: f.u32(),
        total_retrans: f.u32(),
        pacing_rate_bytes_per_s: f.u64().filter(|&v| v != UNSET_U64),
        max_pacing_rate_bytes_per_s: f.u64().filter(|&v| v != UNSET_U64),
        bytes_acked: f.u64(),
        bytes_received: f.u64(),
        segs_out: f.u32(),
        segs_in: f.u32(),
        notsent_bytes: f.u32(),
        min_rtt_us: f.u32().filter(|&v| v != UNSET_U32),
        data_segs_in: f.u32(),
        data_segs_out: f.u32(),
        delivery_rate_bytes_per_s: f.u64().filter(|&v| v != 0),
        busy_time_us: f.u64(),
        rwnd_limited_us: f.u64(),
        sndbuf_limited_us: f.u64(),
        delivered: f.u32(),
        delivered_ce: f.u32(),
        bytes_sent: f.u64(),
        bytes_retrans: f.u64(),
        dsack_dups: f.u32(),
        reord_seen: f.u32(),
        rcv_ooopack: f.u32(),
        snd_wnd_bytes: f.u32(),
        rcv_wnd_bytes: f.u32(),
        rehash: f.u32(),
        total_rto: f.u16(),
        total_rto_recoveries: f.u16(),
        total_rto_time_ms: f.u32(),
        received_ce: f.u32(),
        delivered_e1_bytes: f.u32(),
        delivered_e0_bytes: f.u32(),
        delivered_ce_bytes: f.u32(),
        received_e1_bytes: f.u32(),
        received_e0_bytes: f.u32(),
        received_ce_bytes: f.u32(),
        ..info
    };
    // AccECN's failures: two u16 in Linux 6.18, bit fields of one u32 in another order since 7.0, and
    // nothing in the message tells which. Zero says nothing; else the word stays in the tail.
    let mut tail = f.rest();
    if f.u32() == Some(0) {
        tail = f.rest();
    }
    // Bits of a byte that older kernels left zero: not told, where what came with them is not there.
    if bytes.len() < DELIVERY_RATE_END {
        info.delivery_rate_app_limited = None;
    }
    if bytes.len() < SND_WND_END {
        info.fastopen_client_fail = None;
    }
    if info.rtt_us.is_none() {
        info.rttvar_us = None; // its initial value, no measurement
    }
    if state == TcpState::LISTEN {
        info = listener_part(info);
    }
    (info, tail)
}

/// `tcp_get_info()` returns early for a listener: all else is zero because nobody looked.
fn listener_part(info: TcpInfo) -> TcpInfo {
    TcpInfo {
        snd_cwnd: info.snd_cwnd,
        reordering: info.reordering,
        pacing_rate_bytes_per_s: info.pacing_rate_bytes_per_s,
        max_pacing_rate_bytes_per_s: info.max_pacing_rate_bytes_per_s,
        ..TcpInfo::default()
    }
}

/// Bit fields are allocated from the low end on little-endian machines, from the high end on others.
fn low_bits(byte: u8, first: u32, count: u32) -> u8 {
    let shift = if cfg!(target_endian = "little") { first } else { 8 - first - count };
    (byte >> shift) & ((1 << count) - 1)
}

/// Length of `struct tcpvegas_info`.
pub(super) const VEGAS_INFO_LEN: usize = 16;
/// Length of `struct tcp_dctcp_info`.
pub(super) const DCTCP_INFO_LEN: usize = 16;
/// Length of `struct tcp_bbr_info` in Linux; BBR version 3 sends more.
pub(super) const BBR_INFO_LEN: usize = 20;

/// `struct tcpvegas_info`
pub(super) fn vegas_info(bytes: &[u8]) -> Option<CongestionInfo> {
    let mut f = Fields::new(bytes);
    Some(CongestionInfo::Vegas(VegasInfo {
        enabled: f.u32()?,
        rtt_count: f.u32()?,
        rtt_us: f.u32()?,
        min_rtt_us: Some(f.u32()?).filter(|&v| v != INFINITE_SSTHRESH),
    }))
}

/// `struct tcp_dctcp_info`
pub(super) fn dctcp_info(bytes: &[u8]) -> Option<CongestionInfo> {
    let mut f = Fields::new(bytes);
    Some(CongestionInfo::Dctcp(DctcpInfo {
        enabled: f.u16()?,
        ce_state: f.u16()?,
        alpha: f.u32()?,
        ab_ecn_bytes: f.u32()?,
        ab_tot_bytes: f.u32()?,
    }))
}

/// `struct tcp_bbr_info`
pub(super) fn bbr_info(bytes: &[u8]) -> Option<CongestionInfo> {
    let mut f = Fields::new(bytes);
    let (low, high) = (f.u32()?, f.u32()?);
    Some(CongestionInfo::Bbr(BbrInfo {
        bw_bytes_per_s: u64::from(high) << 32 | u64::from(low),
        min_rtt_us: f.u32()?,
        pacing_gain: f.u32()?,
        cwnd_gain: f.u32()?,
    }))
}
