//! Netlink attributes (`include/uapi/linux/netlink.h`, `struct nlattr`).

/// Bits of the type field that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;
/// Length of `struct nlattr`.
pub(super) const HEADER_LEN: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u16, kind: u16) -> [u8; 4] {
        let ([a, b], [c, d]) = (len.to_ne_bytes(), kind.to_ne_bytes());
        [a, b, c, d]
    }

    #[test]
    fn flags_are_no_part_of_the_type() {
        let bytes = header(4, 0xc000 | 19);
        assert_eq!(attribute_at(&bytes, 0).map(|a| a.kind), Some(19));
    }

    #[test]
    fn padding_belongs_to_the_attribute_that_it_follows() {
        let bytes = [&header(5, 1)[..], &[7, 0, 0, 0], &header(6, 2), &[8, 9]].concat();
        let mut attributes = Attributes::new(&bytes);
        assert_eq!(attributes.next(), Some((1, &[7][..], &bytes[..8])));
        assert_eq!(attributes.next(), Some((2, &[8, 9][..], &bytes[8..])), "without padding");
        assert_eq!(attributes.next(), None);
        assert_eq!(attributes.rest(), [] as [u8; 0]);
    }

    #[test]
    fn the_walk_ends_where_a_length_lies() {
        for lie in [0, 3, 9, u16::MAX] {
            let bytes = [&header(4, 1)[..], &header(lie, 2), &[5; 4]].concat();
            let mut attributes = Attributes::new(&bytes);
            assert_eq!(attributes.by_ref().count(), 1, "{lie}");
            assert_eq!(attributes.rest(), &bytes[4..], "{lie}");
        }
    }

    #[test]
    fn behind_the_end_there_is_no_attribute() {
        assert!(attribute_at(&header(4, 1), 4).is_none());
        assert!(attribute_at(&header(4, 1), 1).is_none());
        assert!(attribute_at(&[], 0).is_none());
    }
}
