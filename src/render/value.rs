//! The parts of the contract that CSV and JSON share.

use std::io;

/// Appends a whole number in decimal.
pub(super) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an identifier: the bits of the `i64` as an unsigned number.
pub(super) fn identifier(out: &mut Vec<u8>, bits: i64) {
    integer(out, bits.cast_unsigned());
}

/// Appends the shortest text that reads back as the same number; `number` must be finite.
pub(super) fn real(out: &mut Vec<u8>, number: f64) -> io::Result<()> {
    Ok(serde_json::to_writer(out, &number)?)
}

/// Appends `true` or `false`.
pub(super) fn boolean(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
}

/// Appends bytes in lower-case hexadecimal.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}
