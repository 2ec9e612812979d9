//! Which column holds what of an observation.

use crate::model::{
    ActivityTimes, BbrInfo, CongestionInfo, DctcpInfo, Observation, TcpState, Timer, VegasInfo,
};

/// A column and where its value comes from.
pub(super) type Source = (&'static str, fn(&Observation<'_>) -> Option<i64>);

/// A column of an absolute time and where it comes from.
pub(super) type TimeSource = (&'static str, fn(&ActivityTimes) -> Option<i64>);
/// A column of text and where it comes from.
pub(super) type TextSource = (&'static str, for<'o> fn(&'o Observation<'_>) -> Option<&'o str>);
/// A column of bytes and where they come from.
pub(super) type BytesSource = (&'static str, for<'o> fn(&'o Observation<'_>) -> &'o [u8]);

/// Columns of `samples` that an observation fills, behind the keys, references and times.
pub(super) const SAMPLES: &[Source] = &[
    ("state", |o| int(Some(o.state.0))),
    ("timer", |o| int(timer(o).map(|t| t.0))),
    ("timer_retransmits", |o| int(timer(o).map(|_| o.timer_retransmits))),
    ("rqueue", |o| int(o.rqueue)),
    ("wqueue", |o| int(o.wqueue)),
    ("bytes_sent", |o| int(o.tcp.bytes_sent)),
    ("bytes_acked", |o| int(o.tcp.bytes_acked)),
    ("bytes_received", |o| int(o.tcp.bytes_received)),
    ("segs_out", |o| int(o.tcp.segs_out)),
    ("segs_in", |o| int(o.tcp.segs_in)),
    ("data_segs_out", |o| int(o.tcp.data_segs_out)),
    ("data_segs_in", |o| int(o.tcp.data_segs_in)),
    ("delivered", |o| int(o.tcp.delivered)),
    ("rtt_us", |o| int(o.tcp.rtt_us)),
    ("rttvar_us", |o| int(o.tcp.rttvar_us)),
    ("rto_us", |o| int(o.tcp.rto_us)),
    ("ato_us", |o| int(o.tcp.ato_us)),
    ("snd_wnd_bytes", |o| int(o.tcp.snd_wnd_bytes)),
    ("rcv_wnd_bytes", |o| int(o.tcp.rcv_wnd_bytes)),
    ("rcv_ssthresh_bytes", |o| int(o.tcp.rcv_ssthresh_bytes)),
    ("busy_time_us", |o| int(o.tcp.busy_time_us)),
];

/// Columns of `samples` that hold absolute times.
pub(super) const SAMPLE_TIMES: &[TimeSource] = &[
    ("timer_expires_at_ms", |t| t.timer_expires_at_ms),
    ("last_data_sent_at_ms", |t| t.last_data_sent_at_ms),
    ("last_data_recv_at_ms", |t| t.last_data_recv_at_ms),
    ("last_ack_recv_at_ms", |t| t.last_ack_recv_at_ms),
];

/// Columns of `conditions`: what changes now and then.
pub(super) const CONDITIONS: &[Source] = &[
    ("ca_state", |o| int(o.tcp.ca_state)),
    ("retransmits", |o| int(o.tcp.retransmits)),
    ("probes", |o| int(o.tcp.probes)),
    ("backoff", |o| int(o.tcp.backoff)),
    ("snd_mss_bytes", |o| int(o.tcp.snd_mss_bytes)),
    ("rcv_mss_bytes", |o| int(o.tcp.rcv_mss_bytes)),
    ("unacked", |o| int(o.tcp.unacked)),
    ("sacked", |o| int(o.tcp.sacked)),
    ("lost", |o| int(o.tcp.lost)),
    ("retrans", |o| int(o.tcp.retrans)),
    ("fackets", |o| int(o.tcp.fackets)),
    ("snd_ssthresh", |o| int(o.tcp.snd_ssthresh)),
    ("snd_cwnd", |o| int(o.tcp.snd_cwnd)),
    ("reordering", |o| int(o.tcp.reordering)),
    ("rcv_rtt_us", |o| int(o.tcp.rcv_rtt_us)),
    ("rcv_space_bytes", |o| int(o.tcp.rcv_space_bytes)),
    ("total_retrans", |o| int(o.tcp.total_retrans)),
    ("pacing_rate_bytes_per_s", |o| int(o.tcp.pacing_rate_bytes_per_s)),
    ("notsent_bytes", |o| int(o.tcp.notsent_bytes)),
    ("min_rtt_us", |o| int(o.tcp.min_rtt_us)),
    ("delivery_rate_bytes_per_s", |o| int(o.tcp.delivery_rate_bytes_per_s)),
    ("delivery_rate_app_limited", |o| int(o.tcp.delivery_rate_app_limited)),
    ("rwnd_limited_us", |o| int(o.tcp.rwnd_limited_us)),
    ("sndbuf_limited_us", |o| int(o.tcp.sndbuf_limited_us)),
    ("delivered_ce", |o| int(o.tcp.delivered_ce)),
    ("bytes_retrans", |o| int(o.tcp.bytes_retrans)),
    ("dsack_dups", |o| int(o.tcp.dsack_dups)),
    ("reord_seen", |o| int(o.tcp.reord_seen)),
    ("rcv_ooopack", |o| int(o.tcp.rcv_ooopack)),
    ("rehash", |o| int(o.tcp.rehash)),
    ("total_rto", |o| int(o.tcp.total_rto)),
    ("total_rto_recoveries", |o| int(o.tcp.total_rto_recoveries)),
    ("total_rto_time_ms", |o| int(o.tcp.total_rto_time_ms)),
    ("received_ce", |o| int(o.tcp.received_ce)),
    ("delivered_e1_bytes", |o| int(o.tcp.delivered_e1_bytes)),
    ("delivered_e0_bytes", |o| int(o.tcp.delivered_e0_bytes)),
    ("delivered_ce_bytes", |o| int(o.tcp.delivered_ce_bytes)),
    ("received_e1_bytes", |o| int(o.tcp.received_e1_bytes)),
    ("received_e0_bytes", |o| int(o.tcp.received_e0_bytes)),
    ("received_ce_bytes", |o| int(o.tcp.received_ce_bytes)),
    ("sk_rmem_alloc_bytes", |o| int(o.memory.rmem_alloc_bytes)),
    ("sk_wmem_alloc_bytes", |o| int(o.memory.wmem_alloc_bytes)),
    ("sk_fwd_alloc_bytes", |o| int(o.memory.fwd_alloc_bytes)),
    ("sk_wmem_queued_bytes", |o| int(o.memory.wmem_queued_bytes)),
    ("sk_optmem_bytes", |o| int(o.memory.optmem_bytes)),
    ("sk_backlog_bytes", |o| int(o.memory.backlog_bytes)),
    ("sk_drops", |o| int(o.memory.drops)),
    ("vegas_enabled", |o| int(vegas(o).map(|i| i.enabled))),
    ("vegas_rtt_count", |o| int(vegas(o).map(|i| i.rtt_count))),
    ("vegas_rtt_us", |o| int(vegas(o).map(|i| i.rtt_us))),
    ("vegas_min_rtt_us", |o| int(vegas(o).and_then(|i| i.min_rtt_us))),
    ("dctcp_enabled", |o| int(dctcp(o).map(|i| i.enabled))),
    ("dctcp_ce_state", |o| int(dctcp(o).map(|i| i.ce_state))),
    ("dctcp_alpha", |o| int(dctcp(o).map(|i| i.alpha))),
    ("dctcp_ab_ecn_bytes", |o| int(dctcp(o).map(|i| i.ab_ecn_bytes))),
    ("dctcp_ab_tot_bytes", |o| int(dctcp(o).map(|i| i.ab_tot_bytes))),
    ("bbr_bw_bytes_per_s", |o| int(bbr(o).map(|i| i.bw_bytes_per_s))),
    ("bbr_min_rtt_us", |o| int(bbr(o).map(|i| i.min_rtt_us))),
    ("bbr_pacing_gain", |o| int(bbr(o).map(|i| i.pacing_gain))),
    ("bbr_cwnd_gain", |o| int(bbr(o).map(|i| i.cwnd_gain))),
    ("mptcp_subflows", |o| int(o.mptcp.subflows)),
    ("mptcp_add_addr_signal", |o| int(o.mptcp.add_addr_signal)),
    ("mptcp_add_addr_accepted", |o| int(o.mptcp.add_addr_accepted)),
    ("mptcp_write_seq", |o| int(o.mptcp.write_seq)),
    ("mptcp_snd_una", |o| int(o.mptcp.snd_una)),
    ("mptcp_rcv_nxt", |o| int(o.mptcp.rcv_nxt)),
    ("mptcp_local_addr_used", |o| int(o.mptcp.local_addr_used)),
    ("mptcp_retransmits", |o| int(o.mptcp.retransmits)),
    ("mptcp_subflows_total", |o| int(o.mptcp.subflows_total)),
];

/// Whole-number columns of `settings`: what hardly ever changes.
pub(super) const SETTINGS: &[Source] = &[
    ("has_inode", |o| (!o.is_mini).then_some(i64::from(o.inode.is_some()))),
    ("options", |o| int(o.tcp.options)),
    ("snd_wscale", |o| int(o.tcp.snd_wscale)),
    ("rcv_wscale", |o| int(o.tcp.rcv_wscale)),
    ("fastopen_client_fail", |o| int(o.tcp.fastopen_client_fail)),
    ("pmtu_bytes", |o| int(o.tcp.pmtu_bytes)),
    ("advmss_bytes", |o| int(o.tcp.advmss_bytes)),
    ("max_pacing_rate_bytes_per_s", |o| int(o.tcp.max_pacing_rate_bytes_per_s)),
    ("sk_rcvbuf_bytes", |o| int(o.memory.rcvbuf_bytes)),
    ("sk_sndbuf_bytes", |o| int(o.memory.sndbuf_bytes)),
    ("tos", |o| int(o.tos)),
    ("tclass", |o| int(o.tclass)),
    ("class_id", |o| int(o.class_id)),
    ("shutdown", |o| int(o.shutdown)),
    ("v6only", |o| int(o.v6only)),
    ("socket_options", |o| int(o.socket_options)),
    ("mark", |o| int(o.mark)),
    ("cgroup_id", |o| int(o.cgroup_id)),
    ("mptcp_flags", |o| int(o.mptcp.flags)),
    ("mptcp_token", |o| int(o.mptcp.token)),
    ("mptcp_subflows_max", |o| int(o.mptcp.subflows_max)),
    ("mptcp_add_addr_signal_max", |o| int(o.mptcp.add_addr_signal_max)),
    ("mptcp_add_addr_accepted_max", |o| int(o.mptcp.add_addr_accepted_max)),
    ("mptcp_local_addr_max", |o| int(o.mptcp.local_addr_max)),
    ("mptcp_csum_enabled", |o| int(o.mptcp.csum_enabled)),
    ("mptcp_endp_laminar_max", |o| int(o.mptcp.endp_laminar_max)),
    ("mptcp_endp_fullmesh_max", |o| int(o.mptcp.endp_fullmesh_max)),
];

/// Text columns of `settings`.
pub(super) const SETTING_TEXTS: &[TextSource] =
    &[("congestion_control", |o| o.congestion_control), ("ulp", |o| o.ulp)];

/// Byte columns of `settings`; empty is stored as NULL.
pub(super) const SETTING_BYTES: &[BytesSource] = &[
    ("ulp_info", |o| o.ulp_info),
    ("info_tail", |o| o.info_tail),
    ("unknown_attributes", |o| &o.unknown_attributes),
];

/// SQLite's integers are signed: 64-bit identifiers keep their bits.
pub(super) trait SqlInteger {
    fn sql(self) -> i64;
}

impl SqlInteger for u64 {
    fn sql(self) -> i64 {
        self.cast_signed()
    }
}

macro_rules! sql_integer {
    ($($t:ty),*) => { $(impl SqlInteger for $t { fn sql(self) -> i64 { i64::from(self) } })* };
}
sql_integer!(u8, u16, u32, bool);

pub(super) fn int(value: Option<impl SqlInteger>) -> Option<i64> {
    value.map(SqlInteger::sql)
}

/// UDP has no timers: what the header says there is filler.
fn timer(o: &Observation<'_>) -> Option<Timer> {
    (o.timer != Timer::OFF || o.tcp.rto_us.is_some() || o.state == TcpState::TIME_WAIT)
        .then_some(o.timer)
}

fn vegas<'o>(o: &'o Observation<'_>) -> Option<&'o VegasInfo> {
    match &o.congestion {
        Some(CongestionInfo::Vegas(info)) => Some(info),
        _ => None,
    }
}

fn dctcp<'o>(o: &'o Observation<'_>) -> Option<&'o DctcpInfo> {
    match &o.congestion {
        Some(CongestionInfo::Dctcp(info)) => Some(info),
        _ => None,
    }
}

fn bbr<'o>(o: &'o Observation<'_>) -> Option<&'o BbrInfo> {
    match &o.congestion {
        Some(CongestionInfo::Bbr(info)) => Some(info),
        _ => None,
    }
}
