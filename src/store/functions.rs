//! SQL functions that questions need and SQLite lacks.

use std::net::IpAddr;

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use crate::filter::{PREFIX_FUNCTION, Prefix};

/// Adds the functions to a connection. Nothing in the schema of a recording may use them.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(PREFIX_FUNCTION, 2, flags, |context| {
        let prefix = context.get_or_create_aux(1, |value| {
            value.as_str().map_err(|e| e.to_string())?.parse::<Prefix>()
        })?;
        // What is no address, as in a damaged recording, begins in no known way.
        let address = context.get_raw(0).as_str().ok().and_then(|a| a.parse::<IpAddr>().ok());
        Ok(address.map(|address| prefix.contains(address)))
    })
}
