//! The numbers that rows have, which may come from anyone, and those of rows to come.

use rusqlite::Connection;

/// The greatest number of a row that a recorder or a merge counts on from. None comes near; what is
/// computed of a few such numbers fits.
pub(super) const LAST_NUMBER: i64 = 1 << 53;

/// The next numbers of captures, sockets, snapshots, groups and processes, `None` where those that are
/// there cannot be counted on from.
pub(super) fn next_ids(connection: &Connection) -> rusqlite::Result<Option<[i64; 5]>> {
    let ids = connection.query_row(
        "SELECT (SELECT max(capture_id) FROM captures), (SELECT max(socket_id) FROM sockets),
             (SELECT max(snapshot_id) FROM snapshots), (SELECT max(group_id) FROM groups),
             (SELECT max(process_id) FROM processes)",
        [],
        |r| {
            let last = |column| r.get::<usize, Option<i64>>(column);
            Ok([last(0)?, last(1)?, last(2)?, last(3)?, last(4)?])
        },
    )?;
    let mut ids = ids.map(|last| last.unwrap_or(0));
    if ids.iter().any(|last| !(0..LAST_NUMBER).contains(last)) {
        return Ok(None);
    }
    ids.iter_mut().for_each(|id| *id += 1);
    Ok(Some(ids))
}
