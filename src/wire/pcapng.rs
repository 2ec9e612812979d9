//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng).

use super::WireError;
use super::pcap::ByteOrder;

/// Type of a section header block; the same in either byte order.
pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// Bytes of a block beside its body: its type and its length, which stands at both ends.
pub const FRAME_LEN: u32 = 12;

const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;

const NS_PER_S: i128 = 1_000_000_000;

/// The byte order of a section, by what follows the length in its header.
pub fn section_order(magic: [u8; 4]) -> Option<ByteOrder> {
    match magic {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        _ => None,
    }
}

/// What a block says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// The next interface of the section.
    Interface(Interface),
    /// A packet with its time.
    Packet(Packet<'a>),
    /// A packet without a time.
    Timeless,
    /// So many packets of an interface were lost since its capture began.
    Lost {
        /// Its number in the section.
        interface: u32,
        /// How many.
        packets: u64,
    },
    /// Anything else.
    Other,
}

/// An interface of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What its packets are.
    pub link_type: u16,
    /// Units of its times in a second.
    per_second: u64,
    /// Seconds to add to its times.
    offset_s: i64,
}

impl Interface {
    /// A time of its packets as UTC nanoseconds; `None` before 1970 and after 2116, where nobody
    /// captured anything.
    pub fn at_ns(&self, units: u64) -> Option<i64> {
        let ns = i128::from(units) * NS_PER_S / i128::from(self.per_second);
        let ns = i64::try_from(ns + i128::from(self.offset_s) * NS_PER_S).ok()?;
        (0..i64::MAX / 2).contains(&ns).then_some(ns)
    }
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of its interface in the section.
    pub interface: u32,
    /// Its time in units of the interface.
    pub at: u64,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Bytes that it had.
    pub original: u32,
}

/// Reads the body of a block.
///
/// # Errors
/// When it is too short for what it is.
pub fn block(kind: u32, body: &[u8], order: ByteOrder) -> Result<Block<'_>, WireError> {
    let needed = match kind {
        INTERFACE_DESCRIPTION => 8,
        ENHANCED_PACKET | OBSOLETE_PACKET => 20,
        INTERFACE_STATISTICS => 12,
        SIMPLE_PACKET => return Ok(Block::Timeless),
        _ => return Ok(Block::Other),
    };
    let too_short = WireError::TooShort { needed, got: body.len() };
    let read = match kind {
        INTERFACE_DESCRIPTION => interface(body, order),
        INTERFACE_STATISTICS => lost(body, order),
        _ => packet(kind, body, order),
    };
    read.ok_or(too_short)
}

fn interface(body: &[u8], order: ByteOrder) -> Option<Block<'static>> {
    let link_type = order.u16_at(body, 0)?;
    let options = body.get(8..)?;
    let resolution = option(options, IF_TSRESOL, order).and_then(|value| value.first());
    let exponent = resolution.map_or(6, |byte| u32::from(byte & 0x7f));
    let base: u64 = if resolution.is_some_and(|byte| byte & 0x80 != 0) { 2 } else { 10 };
    let offset = option(options, IF_TSOFFSET, order).and_then(|value| order.i64_at(value, 0));
    Some(Block::Interface(Interface {
        link_type,
        per_second: base.checked_pow(exponent).unwrap_or(u64::MAX),
        offset_s: offset.unwrap_or(0),
    }))
}

fn packet(kind: u32, body: &[u8], order: ByteOrder) -> Option<Block<'_>> {
    let field = |offset| order.u32_at(body, offset);
    let interface = match kind {
        OBSOLETE_PACKET => u32::from(order.u16_at(body, 0)?),
        _ => field(0)?,
    };
    let captured = usize::try_from(field(12)?).ok()?;
    Some(Block::Packet(Packet {
        interface,
        at: u64::from(field(4)?) << 32 | u64::from(field(8)?),
        bytes: body.get(20..20usize.checked_add(captured)?)?,
        original: field(16)?,
    }))
}

fn lost(body: &[u8], order: ByteOrder) -> Option<Block<'static>> {
    let interface = order.u32_at(body, 0)?;
    let options = body.get(12..)?;
    let count = |code| {
        let value = option(options, code, order)?;
        Some(order.i64_at(value, 0)?.cast_unsigned())
    };
    // Both count what did not reach the file; either may be missing.
    let packets = count(ISB_IFDROP).unwrap_or(0).max(count(ISB_OSDROP).unwrap_or(0));
    Some(Block::Lost { interface, packets })
}

/// The value of the first option with this code.
fn option(options: &[u8], wanted: u16, order: ByteOrder) -> Option<&[u8]> {
    let mut offset = 0;
    loop {
        let code = order.u16_at(options, offset)?;
        let len = usize::from(order.u16_at(options, offset + 2)?);
        if code == 0 {
            return None;
        }
        if code == wanted {
            return options.get(offset + 4..offset + 4 + len);
        }
        offset += 4 + len.next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolution(value: u8) -> Interface {
        let body = [&[253, 0, 0, 0, 0, 0, 0, 0][..], &[9, 0, 1, 0, value, 0, 0, 0]].concat();
        match block(INTERFACE_DESCRIPTION, &body, ByteOrder::Little) {
            Ok(Block::Interface(interface)) => interface,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_unit_of_times_is_a_power_of_ten_or_of_two() {
        assert_eq!(resolution(6).at_ns(1_500_000), Some(1_500_000_000));
        assert_eq!(resolution(9).at_ns(1_500_000), Some(1_500_000));
        assert_eq!(resolution(0).at_ns(3), Some(3_000_000_000));
        assert_eq!(resolution(0x80 | 10).at_ns(1_536), Some(1_500_000_000));
        assert_eq!(resolution(0).at_ns(u64::MAX), None, "out of range");
        assert_eq!(resolution(0).at_ns(5_000_000_000), None, "in 2128");
        assert_eq!(resolution(0xff).at_ns(5), Some(0), "no unit that fits");
    }

    #[test]
    fn an_offset_of_times_is_read_in_the_order_of_the_section() {
        let value = 3_600i64.to_be_bytes();
        let options = [&[0, 2, 0, 1, b'x', 0, 0, 0, 0, 14, 0, 8][..], &value, &[0; 4]].concat();
        let body = [&[0, 253, 0, 0, 0, 0, 0, 0][..], &options].concat();
        let Ok(Block::Interface(interface)) = block(INTERFACE_DESCRIPTION, &body, ByteOrder::Big)
        else {
            unreachable!()
        };
        assert_eq!(interface.at_ns(1_000_000), Some(3_601_000_000_000));
    }

    #[test]
    fn a_block_that_is_too_short_for_what_it_says_is_an_error() {
        let mut body = [0; 24];
        body[12] = 4;
        assert!(matches!(
            block(ENHANCED_PACKET, &body, ByteOrder::Little),
            Ok(Block::Packet(Packet { bytes: [0, 0, 0, 0], .. }))
        ));
        body[12] = 5;
        assert!(block(ENHANCED_PACKET, &body, ByteOrder::Little).is_err());
        assert!(block(INTERFACE_DESCRIPTION, &[0; 7], ByteOrder::Little).is_err());
        assert_eq!(block(77, &[], ByteOrder::Little), Ok(Block::Other));
    }
}
