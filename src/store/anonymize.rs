//! Takes the names out of a recording.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use crate::model::Pseudonyms;

/// Replaces what names machines, programs and people by names of this key, or leaves it out, and lets no
/// byte of it behind in the file.
pub(super) fn anonymize(connection: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    let names = Arc::new(Mutex::new(Pseudonyms::new(key)));
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    let of = Arc::clone(&names);
    connection.create_scalar_function("hidden_address", 1, flags, move |context| {
        let address: Option<String> = context.get(0)?;
        let address = address.and_then(|text| text.parse::<IpAddr>().ok());
        let mut names = of.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(address.map(|address| names.address(address).to_string()))
    })?;
    let of = Arc::clone(&names);
    connection.create_scalar_function("hidden_text", 2, flags, move |context| {
        let (kind, text): (String, Option<String>) = (context.get(0)?, context.get(1)?);
        let names = of.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(text.map(|text| names.text(&kind, &text)))
    })?;
    connection.create_scalar_function("hidden_number", 2, flags, move |context| {
        let (kind, number): (String, Option<i64>) = (context.get(0)?, context.get(1)?);
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(number.map(|number| names.number(&kind, number)))
    })?;
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(include_str!("anonymize.sql"))?;
    transaction.commit()?;
    connection.execute_batch("VACUUM")
}
