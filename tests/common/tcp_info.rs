//! `struct tcp_info` by offsets (`include/uapi/linux/tcp.h`), independent of the decoder.

use std::sync::LazyLock;

use sockrec::model::TcpInfo;

/// A field's place and how the decoder gives it.
pub struct Field {
    pub name: &'static str,
    at: At,
    /// The value that the kernel uses for "none".
    none: Nothing,
    pub decoded: fn(&TcpInfo) -> Option<u64>,
    /// Whether it goes on while nothing happens, as long as data or a retransmission are stuck.
    pub runs: bool,
}

#[derive(Clone, Copy)]
enum At {
    U8(usize),
    U16(usize),
    U32(usize),
    U64(usize),
    /// Byte, lowest bit, number of bits; as on a little-endian machine.
    Bits(usize, u32, u32),
}

#[derive(Clone, Copy)]
enum Nothing {
    Never,
    Zero,
    AllOnes,
    /// `TCP_INFINITE_SSTHRESH` and above.
    Infinite,
    /// Where `rtt` is not measured.
    WithRtt,
}

const RTT: At = At::U32(68);

impl At {
    /// The field in the structure's bytes, `None` where they do not reach.
    fn read(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Self::U8(at) => bytes.get(at).map(|&b| u64::from(b)),
            Self::U16(at) => word(bytes, at).map(u16::from_ne_bytes).map(u64::from),
            Self::U32(at) => word(bytes, at).map(u32::from_ne_bytes).map(u64::from),
            Self::U64(at) => word(bytes, at).map(u64::from_ne_bytes),
            Self::Bits(at, first, count) => {
                let low = if cfg!(target_endian = "little") { first } else { 8 - first - count };
                bytes.get(at).map(|&b| u64::from(b >> low) & ((1 << count) - 1))
            }
        }
    }

    fn all_ones(self) -> u64 {
        match self {
            Self::U32(_) => u64::from(u32::MAX),
            _ => u64::MAX,
        }
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Field {
    /// What the decoder must give for these bytes.
    pub fn expected(&self, bytes: &[u8]) -> Option<u64> {
        self.at.read(bytes).filter(|&v| match self.none {
            Nothing::Never => true,
            Nothing::Zero => v != 0,
            Nothing::AllOnes => v != self.at.all_ones(),
            Nothing::Infinite => v < 0x7fff_ffff,
            Nothing::WithRtt => RTT.read(bytes) != Some(0),
        })
    }
}

/// Names of the fields that changed between the two, but for those that run.
pub fn changed(before: &TcpInfo, after: &TcpInfo) -> Vec<&'static str> {
    let changed = FIELDS.iter().filter(|f| !f.runs && (f.decoded)(before) != (f.decoded)(after));
    changed.map(|f| f.name).collect()
}

/// Names of the fields that changed between the structures of two getsockopt() calls, but for
/// those that run.
pub fn changed_bytes(before: &[u8], after: &[u8]) -> Vec<&'static str> {
    let changed = FIELDS.iter().filter(|f| !f.runs && f.at.read(before) != f.at.read(after));
    changed.map(|f| f.name).collect()
}

/// Bytes of the structure that are known here.
pub const KNOWN_BYTES: usize = 280;
/// `tcpi_last_data_sent`, `tcpi_last_data_recv`, `tcpi_last_ack_recv`
pub const LAST: [usize; 3] = [44, 52, 56];

/// The u32 at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at).map(u32::from_ne_bytes).expect("the kernel's structure reaches so far")
}

const RUNNING: [&str; 4] =
    ["busy_time_us", "rwnd_limited_us", "sndbuf_limited_us", "total_rto_time_ms"];

macro_rules! fields {
    ($($name:ident: $at:expr, $none:expr;)*) => {
        /// Every field but the state and the times relative to now.
        pub static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| vec![$(Field {
            name: stringify!($name),
            at: $at,
            none: $none,
            decoded: |info| info.$name.map(u64::from),
            runs: RUNNING.contains(&stringify!($name)),
        }),*]);

        /// Does not compile while a field of the model is not in the table.
        fn _every_field_is_in_the_table(info: TcpInfo) {
            let TcpInfo { $($name: _),* } = info;
        }
    };
}

use At::{Bits, U8, U16, U32, U64};
use Nothing::{AllOnes, Infinite, Never, WithRtt, Zero};

fields! {
    ca_state: U8(1), Never;
    retransmits: U8(2), Never;
    probes: U8(3), Never;
    backoff: U8(4), Never;
    options: U8(5), Never;
    snd_wscale: Bits(6, 0, 4), Never;
    rcv_wscale: Bits(6, 4, 4), Never;
    delivery_rate_app_limited: Bits(7, 0, 1), Never;
    fastopen_client_fail: Bits(7, 1, 2), Never;
    rto_us: U32(8), Never;
    ato_us: U32(12), Never;
    snd_mss_bytes: U32(16), Never;
    rcv_mss_bytes: U32(20), Never;
    unacked: U32(24), Never;
    sacked: U32(28), Never;
    lost: U32(32), Never;
    retrans: U32(36), Never;
    fackets: U32(40), Never;
    pmtu_bytes: U32(60), Never;
    rcv_ssthresh_bytes: U32(64), Never;
    rtt_us: RTT, Zero;
    rttvar_us: U32(72), WithRtt;
    snd_ssthresh: U32(76), Infinite;
    snd_cwnd: U32(80), Never;
    advmss_bytes: U32(84), Never;
    reordering: U32(88), Never;
    rcv_rtt_us: U32(92), Zero;
    rcv_space_bytes: U32(96), Never;
    total_retrans: U32(100), Never;
    pacing_rate_bytes_per_s: U64(104), AllOnes;
    max_pacing_rate_bytes_per_s: U64(112), AllOnes;
    bytes_acked: U64(120), Never;
    bytes_received: U64(128), Never;
    segs_out: U32(136), Never;
    segs_in: U32(140), Never;
    notsent_bytes: U32(144), Never;
    min_rtt_us: U32(148), AllOnes;
    data_segs_in: U32(152), Never;
    data_segs_out: U32(156), Never;
    delivery_rate_bytes_per_s: U64(160), Zero;
    busy_time_us: U64(168), Never;
    rwnd_limited_us: U64(176), Never;
    sndbuf_limited_us: U64(184), Never;
    delivered: U32(192), Never;
    delivered_ce: U32(196), Never;
    bytes_sent: U64(200), Never;
    bytes_retrans: U64(208), Never;
    dsack_dups: U32(216), Never;
    reord_seen: U32(220), Never;
    rcv_ooopack: U32(224), Never;
    snd_wnd_bytes: U32(228), Never;
    rcv_wnd_bytes: U32(232), Never;
    rehash: U32(236), Never;
    total_rto: U16(240), Never;
    total_rto_recoveries: U16(242), Never;
    total_rto_time_ms: U32(244), Never;
    received_ce: U32(248), Never;
    delivered_e1_bytes: U32(252), Never;
    delivered_e0_bytes: U32(256), Never;
    delivered_ce_bytes: U32(260), Never;
    received_e1_bytes: U32(264), Never;
    received_e0_bytes: U32(268), Never;
    received_ce_bytes: U32(272), Never;
}
