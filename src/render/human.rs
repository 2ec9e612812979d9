//! Values as people read them: moments, lengths of time, sizes, and text that cannot play tricks on
//! a terminal. Tables use it, and messages that name the same things should too.
//!
//! Numbers are cut, not rounded: what is shown has been reached, `59.999s` never reads `60s`, and
//! larger values never look smaller.

use std::fmt::{self, Display, Formatter, Write};

use chrono::{DateTime, Local, Offset, TimeZone};

use super::time::Civil;

/// Whose clock is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zone {
    /// The zone of this machine, by `TZ` or `/etc/localtime`.
    #[default]
    Local,
    /// UTC.
    Utc,
    /// So many seconds ahead of UTC; the zone of the machine that was recorded, for example.
    Fixed(i32),
}

/// A moment in UTC nanoseconds, to the millisecond and with its offset:
/// `2026-11-21 14:03:07.123 +01:00`, or `2026-11-21 13:03:07.123 Z` in [`Zone::Utc`].
pub fn time(utc_ns: i64, zone: Zone) -> impl Display {
    Moment::new(utc_ns, zone, false)
}

/// A moment on someone's clock.
pub(super) struct Moment {
    civil: Civil,
    offset_s: i32,
    utc: bool,
    exact: bool,
}

impl Moment {
    /// `exact` gives all nine digits instead of three.
    pub(super) fn new(utc_ns: i64, zone: Zone, exact: bool) -> Self {
        let offset_s = match zone {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => seconds,
            Zone::Local => {
                let utc = DateTime::from_timestamp_nanos(utc_ns).naive_utc();
                Local.offset_from_utc_datetime(&utc).fix().local_minus_utc()
            }
        };
        Self { civil: Civil::new(utc_ns, offset_s), offset_s, utc: zone == Zone::Utc, exact }
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, nanosecond } = self.civil;
        write!(f, "{year:04}-{month:02}-{day:02} ")?;
        write!(f, "{hour:02}:{minute:02}:{second:02}.")?;
        if self.exact {
            write!(f, "{nanosecond:09} ")?;
        } else {
            write!(f, "{:03} ", nanosecond / 1_000_000)?;
        }
        if self.utc {
            return f.write_char('Z');
        }
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        let seconds = self.offset_s.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", seconds / 3_600, seconds / 60 % 60)?;
        // Before the zones of the railways an offset was a local mean time.
        if seconds.is_multiple_of(60) { Ok(()) } else { write!(f, ":{:02}", seconds % 60) }
    }
}

/// A length of time in nanoseconds, in at most two units: `350ms`, `1.234s`, `2h05m`.
pub fn duration(ns: i64) -> impl Display {
    Span::of_units(ns, 1)
}

/// A length of time as it would be typed: in the largest unit that it is a whole number of.
pub fn exact(ns: i64) -> impl Display {
    const UNITS: [(i64, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let fits = UNITS.iter().find(|(unit_ns, _)| ns != 0 && ns % unit_ns == 0);
    fits.map_or_else(|| "0s".to_owned(), |(unit_ns, unit)| format!("{}{unit}", ns / unit_ns))
}

/// A length of time that was measured in a unit of so many nanoseconds; digits finer than the unit
/// are not made up.
pub(super) struct Span {
    negative: bool,
    ns: u128,
    unit_ns: u64,
}

impl Span {
    pub(super) fn of_units(count: i64, unit_ns: u64) -> Self {
        let ns = u128::from(count.unsigned_abs()) * u128::from(unit_ns);
        Self { negative: count < 0, ns, unit_ns }
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const US: u128 = 1_000;
        const MS: u128 = 1_000_000;
        const S: u128 = 1_000_000_000;
        const MINUTE: u128 = 60 * S;
        const HOUR: u128 = 60 * MINUTE;
        const DAY: u128 = 24 * HOUR;

        let ns = self.ns;
        let finest = u128::from(self.unit_ns);
        if self.negative {
            f.write_char('-')?;
        }
        match ns {
            0 => f.write_str("0s"),
            1..US => write!(f, "{ns}ns"),
            US..MS => scaled(f, ns, US, finest, "us"),
            MS..S => scaled(f, ns, MS, finest, "ms"),
            S..MINUTE if finest >= S => write!(f, "{}s", ns / S),
            S..MINUTE => write!(f, "{}.{:03}s", ns / S, ns % S / MS),
            MINUTE..HOUR => write!(f, "{}m{:02}s", ns / MINUTE, ns % MINUTE / S),
            HOUR..DAY => write!(f, "{}h{:02}m", ns / HOUR, ns % HOUR / MINUTE),
            _ => write!(f, "{}d{:02}h", ns / DAY, ns % DAY / HOUR),
        }
    }
}

/// A number of bytes: exact below 10,000, above that three digits and a decimal unit (`12.3kB`).
pub fn bytes(count: i64) -> impl Display {
    Size(count)
}

struct Size(i64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let count = u128::from(self.0.unsigned_abs());
        if count < 10_000 {
            return write!(f, "{}", self.0);
        }
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let mut unit = 1_000;
        for name in ["kB", "MB", "GB", "TB", "PB"] {
            if count < unit * 1_000 {
                return scaled(f, count, unit, 1, name);
            }
            unit *= 1_000;
        }
        scaled(f, count, unit, 1, "EB")
    }
}

/// Writes an amount in a unit with three digits, none of them finer than `finest`.
fn scaled(
    f: &mut Formatter<'_>,
    amount: u128,
    unit: u128,
    finest: u128,
    name: &str,
) -> fmt::Result {
    let whole = amount / unit;
    write!(f, "{whole}")?;
    let (digits, power) = match whole {
        _ if finest >= unit => (0, 1),
        0..10 => (2, 100),
        10..100 => (1, 10),
        _ => (0, 1),
    };
    if digits > 0 {
        write!(f, ".{:0digits$}", amount % unit * power / unit)?;
    }
    f.write_str(name)
}

/// Text with everything escaped that would act on a terminal instead of being shown: control
/// characters (`\n`, `\x1b`), those that turn the direction of text (`\u{202e}`), break lines or
/// hide. A remote peer has no say in what a process is called, but other users of the machine do.
pub fn visible(text: &str) -> impl Display {
    Visible(text)
}

struct Visible<'a>(&'a str);

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(start) = rest.find(acts_on_terminal) {
            let (plain, tail) = rest.split_at(start);
            f.write_str(plain)?;
            let mut characters = tail.chars();
            match characters.next() {
                Some('\n') => f.write_str("\\n")?,
                Some('\r') => f.write_str("\\r")?,
                Some('\t') => f.write_str("\\t")?,
                Some(c) if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
                Some(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                None => {}
            }
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// The joiners U+200C and U+200D are left alone: Persian, Indic scripts and emoji need them.
fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            | '\u{2028}' | '\u{2029}'
            | '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_fits_and_are_never_rounded_up() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_239, "1.23us"),
            (12_399, "12.3us"),
            (999_999, "999us"),
            (1_000_000, "1.00ms"),
            (350_000_000, "350ms"),
            (1_234_567_890, "1.234s"),
            (59_999_999_999, "59.999s"),
            (60_000_000_000, "1m00s"),
            (3_599_999_999_999, "59m59s"),
            (7_500_000_000_000, "2h05m"),
            (86_400_000_000_000, "1d00h"),
            (-1_234_567_890, "-1.234s"),
            (i64::MAX, "106751d23h"),
            (i64::MIN, "-106751d23h"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns).to_string(), text, "{ns} ns");
        }
    }

    #[test]
    fn exact_lengths_are_written_as_they_are_typed() {
        for (ns, text) in [
            (10_000_000_000, "10s"),
            (86_400_000_000_000, "1d"),
            (5_400_000_000_000, "90m"),
            (1_500_000_000, "1500ms"),
            (0, "0s"),
        ] {
            assert_eq!(exact(ns).to_string(), text);
        }
    }

    #[test]
    fn durations_show_no_digit_finer_than_what_was_measured() {
        let us = |count| Span::of_units(count, 1_000).to_string();
        assert_eq!([us(5), us(999), us(1_000), us(12_345)], ["5us", "999us", "1.00ms", "12.3ms"]);
        let ms = |count| Span::of_units(count, 1_000_000).to_string();
        assert_eq!([ms(5), ms(1_500), ms(75_000)], ["5ms", "1.500s", "1m15s"]);
        assert_eq!(Span::of_units(5, 1_000_000_000).to_string(), "5s");
        assert_eq!(us(i64::MIN), "-106751991d04h");
    }

    #[test]
    fn sizes_are_exact_while_that_is_short() {
        let cases = [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0kB"),
            (999_999, "999kB"),
            (1_234_567, "1.23MB"),
            (-1_234_567, "-1.23MB"),
            (i64::MAX, "9.22EB"),
            (i64::MIN, "-9.22EB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count).to_string(), text);
        }
    }

    #[test]
    fn moments_carry_their_offset() {
        let ns = 1_795_266_187_123_999_999;
        assert_eq!(time(ns, Zone::Utc).to_string(), "2026-11-21 13:03:07.123 Z");
        assert_eq!(time(ns, Zone::Fixed(3_600)).to_string(), "2026-11-21 14:03:07.123 +01:00");
        assert_eq!(time(ns, Zone::Fixed(-12_600)).to_string(), "2026-11-21 09:33:07.123 -03:30");
        assert_eq!(time(0, Zone::Fixed(2_048)).to_string(), "1970-01-01 00:34:08.000 +00:34:08");
        assert_eq!(time(-1, Zone::Utc).to_string(), "1969-12-31 23:59:59.999 Z");
    }

    #[test]
    fn local_moments_are_those_of_chrono() {
        for ns in [0, -1, 1_700_000_000_123_456_789, 1_795_266_187_123_999_999] {
            let theirs = Local.timestamp_nanos(ns).format("%F %T%.3f %:z").to_string();
            assert_eq!(time(ns, Zone::Local).to_string(), theirs);
        }
    }

    #[test]
    fn text_cannot_act_on_a_terminal() {
        let cases = [
            ("plain, \u{e9}t\u{e9}, \u{6f22}\u{5b57}", "plain, \u{e9}t\u{e9}, \u{6f22}\u{5b57}"),
            ("", ""),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            ("\u{1b}[31mred\u{7}\0\u{7f}", "\\x1b[31mred\\x07\\x00\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}cod.exe\u{2066}\u{200f}", "x\\u{202e}cod.exe\\u{2066}\\u{200f}"),
            ("a\u{2028}b\u{feff}", "a\\u{2028}b\\u{feff}"),
        ];
        for (given, shown) in cases {
            assert_eq!(visible(given).to_string(), shown);
        }
    }
}
