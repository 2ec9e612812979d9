//! `ss` (iproute2) and what it writes.
//!
//! A row is five columns and then items: `name:value`, where a value may be a list in brackets;
//! `name value` for the rates; an arrow for the sides that are open; and words that stand alone.
//! Zeros and sentinels are left out by `ss`, so that an absent item is no statement.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;

/// All TCP and UDP sockets, one a line, with everything that `ss` knows.
pub const ARGUMENTS: [&str; 11] =
    ["-H", "-n", "-O", "-t", "-u", "-a", "-i", "-m", "-e", "-o", "--tos"];

/// Names that are followed by a value after a space.
const RATES: [&str; 3] = ["send", "pacing_rate", "delivery_rate"];

/// Runs `ss`, `None` where it is not installed.
///
/// # Panics
/// When it fails, or writes what cannot be read.
pub fn run() -> Option<Vec<Row>> {
    let output = match Command::new("ss").args(ARGUMENTS).env("LC_ALL", "C").output() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        other => other.expect("ss can be started"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ss failed: {errors}");
    let text = String::from_utf8(output.stdout).expect("ss writes UTF-8");
    Some(
        text.lines()
            .map(|line| Row::parse(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect(),
    )
}

/// The version of iproute2, where `ss` tells it.
pub fn version() -> Option<String> {
    let output = Command::new("ss").arg("-V").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().rsplit_once("iproute2-")?.1.to_owned())
}

/// One socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `tcp`, `udp`
    pub netid: String,
    pub state: String,
    pub recv_q: u32,
    pub send_q: u32,
    pub local: End,
    pub peer: End,
    items: BTreeMap<String, String>,
    words: Vec<String>,
}

/// An address and a port as `ss` writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `*` is `::`.
    pub address: IpAddr,
    /// Name of the device that the socket is bound to.
    pub device: Option<String>,
    /// `*` is 0.
    pub port: u16,
}

/// `timer:(name,time,retransmits)`
#[derive(Clone, Debug, PartialEq)]
pub struct Timer {
    pub name: String,
    pub expires_ms: f64,
    /// What is cut off the time.
    pub precision_ms: f64,
    pub retransmits: u8,
}

impl Row {
    /// Takes one line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut tokens = Tokens { rest: line };
        let mut column = |name: &str| tokens.next().ok_or(format!("no column for {name}"));
        let (netid, state) = (column("netid")?, column("state")?);
        let recv_q = number(column("Recv-Q")?)?;
        let send_q = number(column("Send-Q")?)?;
        let local = End::parse(column("local address")?)?;
        let peer = End::parse(column("peer address")?)?;
        let mut row = Self {
            netid: netid.to_owned(),
            state: state.to_owned(),
            recv_q,
            send_q,
            local,
            peer,
            items: BTreeMap::new(),
            words: Vec::new(),
        };
        while let Some(token) = tokens.next() {
            if RATES.contains(&token) {
                let value = tokens.next().ok_or(format!("nothing follows {token}"))?;
                row.items.insert(token.to_owned(), value.to_owned());
            } else if let Some((name, value)) = token.split_once(':') {
                let before = row.items.insert(name.to_owned(), value.to_owned());
                if before.is_some() {
                    return Err(format!("{name} comes twice"));
                }
            } else {
                row.words.push(token.to_owned());
            }
        }
        Ok(row)
    }

    /// `sk:`, the cookie.
    pub fn cookie(&self) -> Option<u64> {
        u64::from_str_radix(self.items.get("sk")?, 16).ok()
    }

    /// Takes an item out, so that [`Self::left`] shows what nobody looked at.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.items.remove(name)
    }

    /// Takes a number out.
    pub fn take_number<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.take(name)?;
        Some(number(&text).unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    /// Takes a hexadecimal number out: `0x28`, and `0` without a prefix.
    pub fn take_hexadecimal(&mut self, name: &str) -> Option<u32> {
        let text = self.take(name)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        Some(u32::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{name}:{text}: {e}")))
    }

    /// Takes two numbers out that are separated by `/` or `,`.
    pub fn take_pair(&mut self, name: &str) -> Option<(f64, f64)> {
        let text = self.take(name)?;
        let (a, b) =
            text.split_once(['/', ',']).unwrap_or_else(|| panic!("{name}:{text} is not a pair"));
        let number = |text| number(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        Some((number(a), number(b)))
    }

    /// Takes a rate in bits per second out; of `rate/maximum` the rate.
    pub fn take_rate(&mut self, name: &str) -> Option<f64> {
        let text = self.take(name)?;
        let rate = text.split('/').next().unwrap_or_default();
        Some(parse_rate(rate).unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    /// Takes milliseconds out, of which a percentage may be said: `12ms`, `12ms(3.4%)`.
    pub fn take_milliseconds(&mut self, name: &str) -> Option<u64> {
        let text = self.take(name)?;
        let digits = text.split("ms").next().unwrap_or_default();
        Some(number(digits).unwrap_or_else(|e| panic!("{name}:{text}: {e}")))
    }

    /// Takes the timer out.
    pub fn take_timer(&mut self) -> Option<Timer> {
        let text = self.take("timer")?;
        Some(Timer::parse(&text).unwrap_or_else(|e| panic!("timer:{text}: {e}")))
    }

    /// Takes `skmem:(r0,rb131072,…)` out, by the letters.
    pub fn take_memory(&mut self) -> Option<BTreeMap<String, u32>> {
        let text = self.take("skmem")?;
        let list = in_brackets(&text).unwrap_or_else(|| panic!("skmem:{text} is no list"));
        let entries = list.split(',').map(|entry| {
            let digits = entry.find(|c: char| c.is_ascii_digit()).unwrap_or(entry.len());
            let (name, value) = entry.split_at(digits);
            (name.to_owned(), number(value).unwrap_or_else(|e| panic!("skmem:{text}: {e}")))
        });
        Some(entries.collect())
    }

    /// Takes a list of items out: `bbr:(bw:…,mrtt:…)`.
    pub fn take_list(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let text = self.take(name)?;
        let list = in_brackets(&text)?;
        let entry = |e: &str| e.split_once(':').map(|(n, v)| (n.to_owned(), v.to_owned()));
        list.split(',').map(entry).collect()
    }

    /// Takes the arrow out: bit 0 receiving is shut down, bit 1 sending.
    pub fn take_shutdown(&mut self) -> Option<u8> {
        let at = self.words.iter().position(|w| is_arrow(w))?;
        let arrow = self.words.remove(at).into_bytes();
        Some(u8::from(arrow[0] == b'-') | u8::from(arrow[2] == b'-') << 1)
    }

    /// Takes a word out that stands alone; whether it was there.
    pub fn take_word(&mut self, word: &str) -> bool {
        let at = self.words.iter().position(|w| w == word);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Names and words that nobody took.
    pub fn left(&self) -> Vec<String> {
        self.items.keys().chain(&self.words).cloned().collect()
    }
}

fn is_arrow(word: &str) -> bool {
    matches!(word, "<->" | "-->" | "<--" | "---")
}

impl End {
    fn parse(text: &str) -> Result<Self, String> {
        let (address, port) = text.rsplit_once(':').ok_or(format!("{text} has no port"))?;
        let (address, device) = match address.split_once('%') {
            // `[fe80::1%eth0]` has the device within, `[::]%eth0` behind.
            Some((address, device)) => (address, Some(device.trim_end_matches(']').to_owned())),
            None => (address, None),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            address: match address {
                "*" => Ipv6Addr::UNSPECIFIED.into(),
                other => other.parse().map_err(|e| format!("{text}: {e}"))?,
            },
            device,
            port: if port == "*" { 0 } else { number(port)? },
        })
    }
}

impl Timer {
    fn parse(text: &str) -> Result<Self, String> {
        let list = in_brackets(text).ok_or("it is no list")?;
        let mut parts = list.split(',');
        let mut part = || parts.next().ok_or("it is too short");
        let name = part()?.to_owned();
        let (expires_ms, precision_ms) = parse_time(part()?)?;
        Ok(Self { name, expires_ms, precision_ms, retransmits: number(part()?)? })
    }
}

/// A length of time as `ss` writes it, `1min2sec`, `5.120ms` (seconds!), `876ms`, `59sec`, in
/// milliseconds; and what may be cut off.
fn parse_time(text: &str) -> Result<(f64, f64), String> {
    let (minutes, rest) = match text.split_once("min") {
        Some((minutes, rest)) => (Some(number::<f64>(minutes)?), rest),
        None => (None, text),
    };
    let (seconds, milliseconds) = if let Some(seconds) = rest.strip_suffix("sec") {
        (number::<f64>(seconds)?, None)
    } else if let Some(rest) = rest.strip_suffix("ms") {
        match rest.split_once('.') {
            Some((seconds, ms)) => (number(seconds)?, Some(number::<f64>(ms)?)),
            None => (0.0, Some(number(rest)?)),
        }
    } else if rest.is_empty() {
        (0.0, None)
    } else {
        return Err(format!("{text} is no time"));
    };
    let precision = match (minutes, milliseconds) {
        (Some(minutes), _) if minutes > 9.0 => 60_000.0,
        (_, Some(_)) => 1.0,
        (..) => 1_000.0,
    };
    let total = minutes.unwrap_or(0.0) * 60_000.0 + seconds * 1_000.0 + milliseconds.unwrap_or(0.0);
    Ok((total, precision))
}

/// `123bps`, or with a suffix where `ss` shortens: `1.2Gbps`.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix("bps").ok_or(format!("{text} is no rate"))?;
    let (digits, factor) = match digits.chars().last() {
        Some('k' | 'K') => (&digits[..digits.len() - 1], 1e3),
        Some('M') => (&digits[..digits.len() - 1], 1e6),
        Some('G') => (&digits[..digits.len() - 1], 1e9),
        Some('T') => (&digits[..digits.len() - 1], 1e12),
        _ => (digits, 1.0),
    };
    Ok(number::<f64>(digits)? * factor)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}

/// What stands between spaces, but that those in brackets and quotes do not count.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let (mut depth, mut is_quoted) = (0u32, false);
        let end = self.rest.find(|c: char| {
            match c {
                '"' => is_quoted = !is_quoted,
                '(' if !is_quoted => depth += 1,
                ')' if !is_quoted => depth = depth.saturating_sub(1),
                _ => return c.is_whitespace() && depth == 0 && !is_quoted,
            }
            false
        });
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }
}
