//! Reading a kernel structure of which only a leading part may have come.

/// A cursor over a C structure. From the first field on that did not come whole every field is
/// `None`: a smaller one behind it would be read at the wrong offset.
pub(super) struct Fields<'a> {
    unread: &'a [u8],
    ended: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { unread: bytes, ended: false }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        match self.unread.split_first_chunk() {
            Some((field, behind)) if !self.ended => {
                self.unread = behind;
                Some(*field)
            }
            _ => {
                self.ended = true;
                None
            }
        }
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        match self.unread.get(bytes..) {
            Some(behind) if !self.ended => self.unread = behind,
            _ => self.ended = true,
        }
    }

    /// What follows the fields read so far, the part of a field that did not come whole too.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.unread
    }
}

/// The u32 at an offset, `None` past the end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset + 4)?;
    field.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order() {
        let mut f = Fields::new(&[1, 2, 0, 0, 0, 0, 3, 9]);
        assert_eq!((f.u8(), f.u8()), (Some(1), Some(2)));
        f.skip(4);
        assert_eq!(f.u8(), Some(3));
        assert_eq!(f.rest(), [9]);
    }

    #[test]
    fn behind_a_field_that_did_not_come_whole_there_is_nothing() {
        let mut f = Fields::new(&[1, 2, 3, 4, 5]);
        assert_eq!(f.u16(), Some(u16::from_ne_bytes([1, 2])));
        assert_eq!(f.u32(), None);
        assert_eq!(f.u8(), None, "it lies at another offset");
        f.skip(1);
        assert_eq!(f.rest(), [3, 4, 5]);
    }

    #[test]
    fn a_hole_that_did_not_come_whole_ends_the_structure() {
        let mut f = Fields::new(&[1, 2, 3]);
        f.skip(4);
        assert_eq!(f.u8(), None);
        assert_eq!(f.rest(), [1, 2, 3]);
    }

    #[test]
    fn there_is_no_u32_across_the_end() {
        assert_eq!(u32_at(&[1, 0, 0, 0, 7], 1), Some(u32::from_ne_bytes([0, 0, 0, 7])));
        assert_eq!(u32_at(&[1, 0, 0, 0, 7], 2), None);
        assert_eq!(u32_at(&[], 0), None);
    }
}
