//! Addresses with prefixes and ports: `10.0.0.0/8:443`, `[::1]:http`, `*:80`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::error::{FilterError, Span};
use super::nearest::nearest;
use super::services::Services;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Of this address the first so many bits, all if it has fewer. The others are zeroed.
    pub fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), length }
            }
            IpAddr::V6(v6) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), length }
            }
        }
    }

    /// The address, zero behind the prefix.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Number of bits.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The address, if all of it counts.
    pub(super) fn whole_address(self) -> Option<IpAddr> {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        (self.length == longest).then_some(self.address)
    }

    /// Whether the address begins so. IPv4 through a socket of IPv6 (`::ffff:a.b.c.d`) counts as
    /// IPv4 too, as it does in the kernel.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V6(v6)) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            _ => address,
        };
        let is_same_family = self.address.is_ipv4() == address.is_ipv4();
        is_same_family && Self::new(address, self.length) == self
    }

    /// Whether no address begins with both.
    pub(super) fn excludes(self, other: Self) -> bool {
        let (wide, narrow) =
            if self.length <= other.length { (self, other) } else { (other, self) };
        match (self.address, other.address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                !wide.contains(narrow.address)
            }
            (IpAddr::V4(v4), IpAddr::V6(_)) => other.excludes_mapped(v4, self.length),
            (IpAddr::V6(_), IpAddr::V4(v4)) => self.excludes_mapped(v4, other.length),
        }
    }

    fn excludes_mapped(self, v4: Ipv4Addr, length: u8) -> bool {
        self.excludes(Self::new(v4.to_ipv6_mapped().into(), length + 96))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = match self.address {
            IpAddr::V4(v4) => {
                write!(f, "{v4}")?;
                self.length == 32
            }
            IpAddr::V6(v6) => {
                write!(f, "[{v6}]")?;
                self.length == 128
            }
        };
        if is_whole { Ok(()) } else { write!(f, "/{}", self.length) }
    }
}

impl FromStr for Prefix {
    type Err = String;

    /// Reads an address, with `/LENGTH` or whole; as `ss` allows, one of IPv4 may leave out bytes at
    /// its end where a length is given (`10/8`).
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        let address: IpAddr = match bare {
            Some(bare) => Ipv6Addr::from_str(bare).map(IpAddr::V6).ok(),
            None => IpAddr::from_str(address).ok().or_else(|| short_v4(address, length)),
        }
        .ok_or_else(|| format!("`{address}` is no address"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => {
                length.parse().ok().filter(|length| *length <= longest).ok_or_else(|| {
                    format!("the length of the prefix must be from 0 to {longest}")
                })?
            }
        };
        Ok(Self::new(address, length))
    }
}

fn short_v4(text: &str, length: Option<&str>) -> Option<IpAddr> {
    length?;
    let mut bytes = [0u8; 4];
    let mut free = bytes.iter_mut();
    for part in text.split('.') {
        *free.next()? = part.parse().ok()?;
    }
    Some(Ipv4Addr::from(bytes).into())
}

/// Reads `[FAMILY:]ADDRESS[/LENGTH][:PORT]`, in which `*` or nothing stands for any.
pub(super) fn read_host(
    text: &str,
    span: &Span,
    services: &Services,
) -> Result<(Option<Prefix>, Option<u16>), FilterError> {
    let error = |message: String| FilterError::new(span.clone(), message);
    let (family, text) = if let Some(rest) = text.strip_prefix("inet:") {
        (Some("inet"), rest)
    } else if let Some(rest) = text.strip_prefix("inet6:") {
        (Some("inet6"), rest)
    } else {
        (None, text)
    };
    let (address, port) = split_port(text, span)?;
    let port = match port {
        None | Some("" | "*") => None,
        Some(port) => Some(read_port(port, span, services)?),
    };
    if matches!(address, "" | "*" | "any" | "all" | "default") {
        let any = family.map(|family| match family {
            "inet" => Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            _ => Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        });
        return Ok((any, port));
    }
    let prefix = Prefix::from_str(address)
        .map_err(|message| error(message).hint(what_else(address, services)))?;
    match family {
        Some("inet") if !prefix.address.is_ipv4() => {
            Err(error("`inet:` wants an IPv4 address".to_owned()))
        }
        Some("inet6") if prefix.address.is_ipv4() => {
            Err(error("`inet6:` wants an IPv6 address".to_owned()))
        }
        _ => Ok((Some(prefix), port)),
    }
}

/// Parts address and port. Without brackets an IPv6 address may end in what looks like a port.
fn split_port<'t>(text: &'t str, span: &Span) -> Result<(&'t str, Option<&'t str>), FilterError> {
    if text.starts_with('[') {
        let closing = text.find(']').ok_or_else(|| {
            FilterError::new(span.clone(), "the bracket is not closed").hint("write `[::1]:443`")
        })?;
        let behind = &text[closing..];
        return Ok(match behind.rfind(':') {
            Some(colon) => (&text[..closing + colon], Some(&behind[colon + 1..])),
            None => (text, None),
        });
    }
    let prefix_at = text.find('/').unwrap_or(0);
    let Some(colon) = text[prefix_at..].rfind(':').map(|at| prefix_at + at) else {
        return Ok((text, None));
    };
    let (before, port) = (&text[..colon], &text[colon + 1..]);
    let is_address = |text: &str| Ipv6Addr::from_str(text).is_ok();
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    match (is_address(text), is_address(before) && is_number) {
        (true, true) => Err(FilterError::new(
            span.clone(),
            format!("`{text}` can be an address, or an address and a port"),
        )
        .hint(format!("write `[{text}]` or `[{before}]:{port}`"))),
        (true, false) => Ok((text, None)),
        (false, _) => Ok((before, Some(port))),
    }
}

fn what_else(address: &str, services: &Services) -> String {
    if address.parse::<u16>().is_ok() || !services.ports(address).is_empty() {
        return format!("a port has a colon before it: `:{address}`");
    }
    let is_name = address.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if is_name && address.bytes().any(|b| b.is_ascii_alphabetic()) {
        return format!(
            "names of hosts are not looked up, because that asks a server and its answers change: \
             give the address that `getent ahosts {address}` tells"
        );
    }
    "write `10.0.0.0/8`, `[2001:db8::]/32`, `10.0.0.1:443`, `[::1]:443`, `:https` or `*`".to_owned()
}

/// Reads a port: a number, or the name of a service.
pub(super) fn read_port(text: &str, span: &Span, services: &Services) -> Result<u16, FilterError> {
    let error = |message: String| FilterError::new(span.clone(), message);
    if let Some(number) = read_number(text) {
        return u16::try_from(number)
            .map_err(|_| error(format!("there is no port {text}")).hint("ports are 0 to 65535"));
    }
    match services.ports(text) {
        [port] => Ok(*port),
        [] if text.starts_with(|c: char| c.is_ascii_digit()) => {
            let numbers = |sign| {
                text.contains(sign) && text.split(sign).all(|part| part.parse::<u16>().is_ok())
            };
            let hint = match (numbers('-'), numbers(',')) {
                (true, _) => "a range is two comparisons: `dport >= :80 and dport <= :90`",
                (_, true) => "several are joined: `( dport = :80 or dport = :443 )`",
                _ => "write `:443` or `:https`",
            };
            Err(error(format!("`{text}` is no port")).hint(hint))
        }
        [] => Err(error(format!("there is no service `{text}` in /etc/services"))
            .did_you_mean(nearest(text, services.names()), "give the number of the port")),
        ports => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            Err(error(format!("`{text}` is another port of TCP than of UDP"))
                .hint(format!("give the number: {}", ports.join(" or "))))
        }
    }
}

/// Reads a number, with `0x` before it as hexadecimal. With a mere 0 before it, which is octal in
/// `ss`, it is none.
pub(super) fn read_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        None if text.len() > 1 && text.starts_with('0') => None,
        None => text.parse().ok().filter(|_| !text.starts_with('+')),
    }
}
