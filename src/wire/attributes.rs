//! Netlink attributes (`include/uapi/linux/netlink.h`, `struct nlattr`).

/// Bits of the type field that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;
const HEADER_LEN: usize = 4;

/// One attribute within the bytes it was found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) kind: u16,
    /// Offset of the header.
    pub(super) start: usize,
    /// Offset of the value.
    pub(super) value_start: usize,
    /// Offset behind the value.
    pub(super) value_end: usize,
    /// Offset of the next attribute, behind the padding.
    pub(super) next: usize,
}

/// The attribute at `offset`, `None` at the end or where a length lies.
pub(super) fn attribute_at(bytes: &[u8], offset: usize) -> Option<Attribute> {
    let header = bytes.get(offset..offset + HEADER_LEN)?;
    let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    let value_end = offset + len;
    if len < HEADER_LEN || value_end > bytes.len() {
        return None;
    }
    Some(Attribute {
        kind: u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK,
        start: offset,
        value_start: offset + HEADER_LEN,
        value_end,
        next: (offset + len.next_multiple_of(4)).min(bytes.len()),
    })
}

/// Walks the attributes; `rest()` is then what could not be read as attributes.
pub(super) struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes behind the last attribute whose length could be believed.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.offset..]
    }
}

impl<'a> Iterator for Attributes<'a> {
    /// Type, value, and the whole attribute with its header and padding.
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let a = attribute_at(self.bytes, self.offset)?;
        self.offset = a.next;
        Some((a.kind, &self.bytes[a.value_start..a.value_end], &self.bytes[a.start..a.next]))
    }
}
