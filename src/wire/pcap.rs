//! Captures of an nlmon interface: the pcap file format, and the cooked header before each netlink
//! datagram (`LINKTYPE_NETLINK` of tcpdump.org, `struct sockaddr_ll` of packet(7)).

use super::WireError;

/// Length of the header of a pcap file.
pub const FILE_HEADER_LEN: usize = 24;
/// Length of the header of each packet in it.
pub const RECORD_HEADER_LEN: usize = 16;
/// `LINKTYPE_NETLINK`: packets of an nlmon interface.
pub const LINKTYPE_NETLINK: u16 = 253;

const COOKED_HEADER_LEN: usize = 16;

/// The byte order of a file's own headers: not that of the packets, which the kernel wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The u16 at an offset, `None` past the end.
    pub(super) fn u16_at(self, bytes: &[u8], offset: usize) -> Option<u16> {
        let field = bytes.get(offset..offset + 2)?.try_into().ok()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(field),
            Self::Big => u16::from_be_bytes(field),
        })
    }

    /// The u32 at an offset, `None` past the end.
    pub fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let field = bytes.get(offset..offset + 4)?.try_into().ok()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(field),
            Self::Big => u32::from_be_bytes(field),
        })
    }

    /// The i64 at an offset, `None` past the end.
    pub(super) fn i64_at(self, bytes: &[u8], offset: usize) -> Option<i64> {
        let field = bytes.get(offset..offset + 8)?.try_into().ok()?;
        Some(match self {
            Self::Little => i64::from_le_bytes(field),
            Self::Big => i64::from_be_bytes(field),
        })
    }
}

/// What the header of a pcap file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Of the headers.
    pub order: ByteOrder,
    /// What its packets are, see [`LINKTYPE_NETLINK`].
    pub link_type: u16,
    /// Nanoseconds in a unit of the fraction of a second.
    fraction_ns: i64,
}

/// Reads the header of a pcap file, `None` if it is none.
pub fn file_header(bytes: &[u8; FILE_HEADER_LEN]) -> Option<FileHeader> {
    let (order, fraction_ns) = match bytes[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1_000),
        [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1_000),
        [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1),
        [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1),
        _ => return None,
    };
    // The upper bits of the field tell of checksums that Ethernet has.
    let link_type = order.u32_at(bytes, 20)? & 0xffff;
    Some(FileHeader { order, fraction_ns, link_type: u16::try_from(link_type).ok()? })
}

/// What stands before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// When it was captured, UTC nanoseconds.
    pub at_ns: i64,
    /// Bytes of it that follow.
    pub captured: u32,
    /// Bytes that it had.
    pub original: u32,
}

impl FileHeader {
    /// Reads the header of a packet.
    pub fn record(&self, bytes: &[u8; RECORD_HEADER_LEN]) -> Option<RecordHeader> {
        let field = |offset| self.order.u32_at(bytes, offset);
        let fraction_ns = i64::from(field(4)?) * self.fraction_ns;
        Some(RecordHeader {
            at_ns: i64::from(field(0)?) * 1_000_000_000 + fraction_ns,
            captured: field(8)?,
            original: field(12)?,
        })
    }
}

/// Takes the cooked header off: the netlink protocol (`NETLINK_SOCK_DIAG` …) and the datagram.
///
/// # Errors
/// When the packet is too short for it.
pub fn cooked(packet: &[u8]) -> Result<(u16, &[u8]), WireError> {
    let too_short = WireError::TooShort { needed: COOKED_HEADER_LEN, got: packet.len() };
    let (header, datagram) = packet.split_first_chunk::<COOKED_HEADER_LEN>().ok_or(too_short)?;
    Ok((u16::from_be_bytes([header[14], header[15]]), datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(magic: [u8; 4], order: ByteOrder, link_type: u32) -> [u8; FILE_HEADER_LEN] {
        let mut bytes = [0; FILE_HEADER_LEN];
        bytes[..4].copy_from_slice(&magic);
        bytes[20..].copy_from_slice(&match order {
            ByteOrder::Little => link_type.to_le_bytes(),
            ByteOrder::Big => link_type.to_be_bytes(),
        });
        bytes
    }

    #[test]
    fn times_are_read_in_either_byte_order_and_unit() {
        let magics = [
            ([0xd4, 0xc3, 0xb2, 0xa1], ByteOrder::Little, 5_000),
            ([0xa1, 0xb2, 0xc3, 0xd4], ByteOrder::Big, 5_000),
            ([0x4d, 0x3c, 0xb2, 0xa1], ByteOrder::Little, 5),
            ([0xa1, 0xb2, 0x3c, 0x4d], ByteOrder::Big, 5),
        ];
        for (magic, order, fraction_ns) in magics {
            let file = file_header(&header(magic, order, 0xf400_00fd)).unwrap();
            assert_eq!((file.order, file.link_type), (order, LINKTYPE_NETLINK));
            let words = [u32::MAX, 5, 60, 61];
            let mut record = [0; RECORD_HEADER_LEN];
            for (bytes, word) in record.chunks_mut(4).zip(words) {
                bytes.copy_from_slice(&match order {
                    ByteOrder::Little => word.to_le_bytes(),
                    ByteOrder::Big => word.to_be_bytes(),
                });
            }
            let at_ns = 4_294_967_295_000_000_000 + fraction_ns;
            let expected = RecordHeader { at_ns, captured: 60, original: 61 };
            assert_eq!(file.record(&record), Some(expected));
        }
        assert_eq!(file_header(&header([1, 2, 3, 4], ByteOrder::Little, 253)), None);
    }
}
