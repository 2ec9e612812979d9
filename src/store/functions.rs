//! Functions that queries may use beside SQLite's own. Only queries may: nothing in a recording's
//! schema runs them.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;

use super::seen::Seen;
use crate::filter::{PREFIX_FUNCTION, Prefix};
use crate::model::TcpState;

const FLAGS: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_DIRECTONLY);

/// Adds `in_prefix(address, prefix)`, `utc(ns)` and `state_name(number)`; of NULL each makes NULL. And
/// `seen_of`, of which nothing is known yet.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FLAGS;
    tell_of(connection, Seen::default())?;
    connection.create_scalar_function(PREFIX_FUNCTION, 2, flags, |context| {
        if context.get_raw(1) == ValueRef::Null {
            return Ok(None);
        }
        let prefix = context.get_or_create_aux(1, |value| {
            value.as_str().map_err(|e| e.to_string())?.parse::<Prefix>()
        })?;
        // What is no address, as in a damaged recording, begins in no known way.
        let address = context.get_raw(0).as_str().ok().and_then(|a| a.parse::<IpAddr>().ok());
        Ok(address.map(|address| prefix.contains(address)))
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

/// What `seen_of(socket, name)` tells from here on.
pub(super) fn tell_of(connection: &Connection, seen: Seen) -> rusqlite::Result<()> {
    connection.create_scalar_function("seen_of", 2, FLAGS, move |context| {
        let name = context.get_raw(1).as_str()?;
        Ok(context.get::<Option<i64>>(0)?.and_then(|socket| seen.of(socket, name)))
    })
}
