//! Where the kernel keeps the fields of its structures, told apart from the code that reads them:
//! offsets and lengths are those of the type information (BTF) of Linux 6.18.

use sockrec::model::{MptcpInfo, SocketMemory, TcpInfo};

use crate::payloads::set_u32;

pub(crate) const TCP_INFO_LEN: usize = 280;
pub(crate) const MPTCP_INFO_LEN: usize = 96;

/// A field of a structure: where the kernel has it, and where [`sockrec::model`] does.
pub(crate) struct Field<T> {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// First bit and number of bits, of a bit field.
    bits: Option<(u32, u32)>,
    pub(crate) get: fn(&T) -> Option<u64>,
}

impl<T> Field<T> {
    /// Whether a structure of this length tells the field.
    pub(crate) fn reaches(&self, len: usize) -> bool {
        // Bits of a byte that was there long before them: told only since a later field came.
        let needed = match self.name {
            "delivery_rate_app_limited" => 168,
            "fastopen_client_fail" => 232,
            _ => self.offset + self.len,
        };
        needed <= len
    }

    /// What the field holds in these bytes, `None` where they do not reach.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<u64> {
        if !self.reaches(bytes.len()) {
            return None;
        }
        let field = bytes.get(self.offset..self.offset + self.len)?;
        let mut whole = [0; 8];
        whole[..self.len].copy_from_slice(field);
        let value = u64::from_le_bytes(whole);
        Some(self.bits.map_or(value, |(first, count)| (value >> first) & ((1 << count) - 1)))
    }
}

macro_rules! fields {
    ($table:ident of $type:ident, complete: {
        $($name:ident $offset:literal $len:literal $(bits $first:literal $count:literal)?;)*
    }) => {
        fields!(@table $table $type
            $($name $offset $len $(bits $first $count)?;)*);

        const _: fn($type) = |whole| {
            // Names every field, so that a new one cannot be forgotten in the table.
            let $type { $($name: _),* } = whole;
        };
    };
    ($table:ident of $type:ident, some: {
        $($name:ident $offset:literal $len:literal;)*
    }) => {
        fields!(@table $table $type $($name $offset $len;)*);
    };
    (@table $table:ident $type:ident
        $($name:ident $offset:literal $len:literal $(bits $first:literal $count:literal)?;)*
    ) => {
        pub(crate) const $table: &[Field<$type>] = &[$(
            Field {
                name: stringify!($name),
                offset: $offset,
                len: $len,
                bits: [$(Some(($first, $count)),)? None][0],
                get: |o| o.$name.map(u64::from),
            },
        )*];
    };
}

fields!(TCP_FIELDS of TcpInfo, complete: {
    ca_state 1 1;
    retransmits 2 1;
    probes 3 1;
    backoff 4 1;
    options 5 1;
    snd_wscale 6 1 bits 0 4;
    rcv_wscale 6 1 bits 4 4;
    delivery_rate_app_limited 7 1 bits 0 1;
    fastopen_client_fail 7 1 bits 1 2;
    rto_us 8 4;
    ato_us 12 4;
    snd_mss_bytes 16 4;
    rcv_mss_bytes 20 4;
    unacked 24 4;
    sacked 28 4;
    lost 32 4;
    retrans 36 4;
    fackets 40 4;
    pmtu_bytes 60 4;
    rcv_ssthresh_bytes 64 4;
    rtt_us 68 4;
    rttvar_us 72 4;
    snd_ssthresh 76 4;
    snd_cwnd 80 4;
    advmss_bytes 84 4;
    reordering 88 4;
    rcv_rtt_us 92 4;
    rcv_space_bytes 96 4;
    total_retrans 100 4;
    pacing_rate_bytes_per_s 104 8;
    max_pacing_rate_bytes_per_s 112 8;
    bytes_acked 120 8;
    bytes_received 128 8;
    segs_out 136 4;
    segs_in 140 4;
    notsent_bytes 144 4;
    min_rtt_us 148 4;
    data_segs_in 152 4;
    data_segs_out 156 4;
    delivery_rate_bytes_per_s 160 8;
    busy_time_us 168 8;
    rwnd_limited_us 176 8;
    sndbuf_limited_us 184 8;
    delivered 192 4;
    delivered_ce 196 4;
    bytes_sent 200 8;
    bytes_retrans 208 8;
    dsack_dups 216 4;
    reord_seen 220 4;
    rcv_ooopack 224 4;
    snd_wnd_bytes 228 4;
    rcv_wnd_bytes 232 4;
    rehash 236 4;
    total_rto 240 2;
    total_rto_recoveries 242 2;
    total_rto_time_ms 244 4;
    received_ce 248 4;
    delivered_e1_bytes 252 4;
    delivered_e0_bytes 256 4;
    delivered_ce_bytes 260 4;
    received_e1_bytes 264 4;
    received_e0_bytes 268 4;
    received_ce_bytes 272 4;
});

fields!(MPTCP_FIELDS of MptcpInfo, complete: {
    subflows 0 1;
    add_addr_signal 1 1;
    add_addr_accepted 2 1;
    subflows_max 3 1;
    add_addr_signal_max 4 1;
    add_addr_accepted_max 5 1;
    flags 8 4;
    token 12 4;
    write_seq 16 8;
    snd_una 24 8;
    rcv_nxt 32 8;
    local_addr_used 40 1;
    local_addr_max 41 1;
    csum_enabled 42 1;
    retransmits 44 4;
    subflows_total 80 1;
    endp_laminar_max 81 1;
    endp_fullmesh_max 82 1;
});

fields!(MPTCP_COUNTERS of TcpInfo, some: {
    bytes_retrans 48 8;
    bytes_sent 56 8;
    bytes_received 64 8;
    bytes_acked 72 8;
});

fields!(MEMORY_FIELDS of SocketMemory, complete: {
    rmem_alloc_bytes 0 4;
    rcvbuf_bytes 4 4;
    wmem_alloc_bytes 8 4;
    sndbuf_bytes 12 4;
    fwd_alloc_bytes 16 4;
    wmem_queued_bytes 20 4;
    optmem_bytes 24 4;
    backlog_bytes 28 4;
    drops 32 4;
});

/// Bytes of which no field is zero or a sentinel, each byte another one.
pub(crate) fn distinct_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 127 + 1).unwrap()).collect()
}

/// A `tcp_info` of [`distinct_bytes`], but for the word of which only zero is read.
pub(crate) fn distinct_tcp_info(len: usize) -> Vec<u8> {
    let mut info = distinct_bytes(len.max(TCP_INFO_LEN));
    set_u32(&mut info, 276, 0);
    info.truncate(len);
    info
}
