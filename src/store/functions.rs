//! Functions that queries may use beside SQLite's own. Only what is typed may: nothing in a recording's
//! schema runs them.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat};
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};

use crate::model::TcpState;

/// Adds `in_prefix(address, prefix)`, `utc(ns)` and `state_name(number)`; of NULL each makes NULL.
pub(super) fn add(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("in_prefix", 2, flags, |context| {
        let (address, prefix) = (text(context, 0)?, text(context, 1)?);
        let (Some(address), Some(prefix)) = (address, prefix) else { return Ok(None) };
        let wrong = || user_error(format!("`{prefix}` is no prefix such as 10.0.0.0/8"));
        let (network, bits) = parse_prefix(&prefix).ok_or_else(wrong)?;
        Ok(address.parse().ok().map(|address| is_in(address, network, bits)))
    })?;
    connection.create_scalar_function("utc", 1, flags, |context| {
        let ns: Option<i64> = context.get(0)?;
        Ok(ns.map(|ns| {
            DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true)
        }))
    })?;
    connection.create_scalar_function("state_name", 1, flags, |context| {
        let number: Option<i64> = context.get(0)?;
        Ok(number.map(|number| {
            let name = u8::try_from(number).ok().and_then(|n| TcpState(n).name());
            name.map_or_else(|| format!("STATE-{number}"), str::to_owned)
        }))
    })
}

fn text(context: &Context<'_>, index: usize) -> rusqlite::Result<Option<String>> {
    context.get(index)
}

fn user_error(text: String) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(text.into())
}

/// An address without a length is a prefix of all its bits.
fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

/// A v4-mapped address is in the prefixes of the v4 one too.
fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V6(a), IpAddr::V4(_)) => {
            a.to_ipv4_mapped().is_some_and(|a| is_in(a.into(), network, bits))
        }
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(address: &str, prefix: &str) -> bool {
        let (network, bits) = parse_prefix(prefix).unwrap();
        is_in(address.parse().unwrap(), network, bits)
    }

    #[test]
    fn an_address_is_in_its_prefixes() {
        assert!(holds("10.1.2.3", "10.0.0.0/8") && !holds("11.1.2.3", "10.0.0.0/8"));
        assert!(holds("::ffff:10.1.2.3", "10.0.0.0/8") && holds("10.1.2.3", "10.1.2.3"));
        assert!(holds("1.2.3.4", "0.0.0.0/0") && !holds("::1", "0.0.0.0/0"));
        assert!(holds("2001:db8::7", "2001:db8::/32") && !holds("2001:db9::7", "2001:db8::/32"));
        assert!(holds("::1", "::/0") && !holds("1.2.3.4", "::/0"));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/"] {
            assert_eq!(parse_prefix(wrong), None, "{wrong}");
        }
    }
}
