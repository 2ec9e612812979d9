//! Numbers with units: `100ms`, `1.5MB`, `50%`.

/// What a column counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Just a number.
    None,
    /// So many nanoseconds.
    Time(i64),
    Bytes,
    BytesPerSecond,
    /// Parts of one, of which percents are another name.
    Share,
}

const TIMES: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const BYTES: &[(&str, i64)] = &[
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl Unit {
    /// The unit that the name of a column ends in.
    pub(super) fn of_column(name: &str) -> Self {
        let ends = |ending| name.ends_with(ending);
        if ends("_ns") {
            Self::Time(1)
        } else if ends("_us") {
            Self::Time(1_000)
        } else if ends("_ms") {
            Self::Time(1_000_000)
        } else if ends("_per_s") {
            Self::BytesPerSecond
        } else if ends("_bytes") || name.starts_with("bytes_") {
            Self::Bytes
        } else if ends("_share") {
            Self::Share
        } else {
            Self::None
        }
    }

    /// Values that this unit takes, for a hint.
    pub(super) fn examples(self) -> &'static str {
        match self {
            Self::None => "give a number",
            Self::Time(_) => "write `100ms`, `1.5s` or `2min`",
            Self::Bytes => "write `1500`, `1MB` (a million) or `1MiB`",
            Self::BytesPerSecond => "write `10MB/s` or `80Mbit/s`",
            Self::Share => "write `0.5` or `50%`",
        }
    }

    /// Reads an amount in this unit; `None` if it is none, or not to be had in whole units. Without a
    /// unit behind it it counts in the column's own.
    pub(super) fn read(self, text: &str) -> Option<i64> {
        let (number, unit) = split(text);
        let factor = match self {
            _ if unit.is_empty() => (1, 1),
            Self::Time(own_ns) => (find(TIMES, unit)?, own_ns),
            Self::Bytes => (find(BYTES, &unit.to_ascii_lowercase())?, 1),
            Self::BytesPerSecond => rate(unit)?,
            Self::None | Self::Share => return None,
        };
        scaled(number, factor)
    }

    /// Reads a share.
    pub(super) fn read_share(text: &str) -> Option<f64> {
        let (number, divisor) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        let number: f64 = number.parse().ok()?;
        number.is_finite().then_some(number / divisor)
    }
}

/// Whether the text has a unit, or needs none because it is zero.
pub(super) fn has_unit(text: &str) -> bool {
    let (number, unit) = split(text);
    !unit.is_empty() || number.parse() == Ok(0)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c));
    text.split_at(end.unwrap_or(text.len()))
}

fn find(units: &[(&str, i64)], name: &str) -> Option<i64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

fn rate(unit: &str) -> Option<(i64, i64)> {
    let amount = unit.strip_suffix("/s")?.to_ascii_lowercase();
    match amount.strip_suffix("bit") {
        Some(prefix) => Some((find(BYTES, &format!("{prefix}b"))?, 8)),
        None => Some((find(BYTES, &amount)?, 1)),
    }
}

/// A decimal number times a fraction, if that is whole.
fn scaled(number: &str, (factor, divisor): (i64, i64)) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_right = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() <= 20;
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, whole),
    };
    if digits.is_empty() || !is_right(digits) || fraction.len() > 15 || !is_right(fraction) {
        return None;
    }
    let places = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value: i128 = format!("{digits}{fraction}").parse().ok()?;
    let (value, divisor) =
        (value.checked_mul(i128::from(factor))?, places.checked_mul(i128::from(divisor))?);
    (value % divisor == 0).then(|| i64::try_from(sign * value / divisor).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_the_unit_of_their_column() {
        let us = Unit::of_column("rtt_us");
        let rate = Unit::of_column("pacing_rate_bytes_per_s");
        let cases = [
            (us, "100ms", Some(100_000)),
            (us, "1.5s", Some(1_500_000)),
            (us, "7", Some(7)),
            (us, "1ns", None),
            (us, "1MB", None),
            (us, "-1s", Some(-1_000_000)),
            (Unit::Bytes, "1MB", Some(1_000_000)),
            (Unit::Bytes, "1.5KiB", Some(1_536)),
            (Unit::Bytes, "99999999999999TB", None),
            (rate, "80Mbit/s", Some(10_000_000)),
            (rate, "1bit/s", None),
            (Unit::None, "1s", None),
            (Unit::None, "", None),
            (Unit::None, "1.", Some(1)),
        ];
        for (unit, text, expected) in cases {
            assert_eq!(unit.read(text), expected, "{text}");
        }
    }
}
