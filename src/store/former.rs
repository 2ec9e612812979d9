//! What earlier captures left open, and what becomes of it.

use std::net::IpAddr;

use rusqlite::{Connection, Row, ToSql, params};

use crate::model::{
    EndEvidence, Ending, Endpoint, FIN_WAIT2_MAX_NS, Family, FinalCounters, FormerSocket,
    FreedSocket, Nanos, NetnsId, Origin, Protocol, Scope, SnapshotId, SocketId, SocketUpdate,
    States, TcpState, Tuple, UndestroyedSocket,
};

/// Connections whose destroy event is still waited for at most.
const UNDESTROYED_MAX: i64 = 100_000;

/// Open sockets with their last state (of the last row) and counters (of the last row with any).
const OPEN_SOCKETS: &str = "
    FROM open_sockets AS o
    JOIN sockets AS k ON k.socket_id = o.socket_id
    JOIN samples AS r ON r.snapshot_id = o.snapshot_id AND r.socket_id = o.socket_id
    JOIN samples AS q ON q.snapshot_id = o.counted_snapshot_id AND q.socket_id = o.socket_id
    JOIN snapshots AS n ON n.snapshot_id = q.snapshot_id
    LEFT JOIN conditions AS c ON c.group_id = n.group_id AND c.condition_id = q.condition_id";

const COUNTERS: &str = "q.rtt_us, q.rttvar_us, c.min_rtt_us, q.bytes_sent, c.bytes_retrans,
    q.bytes_acked, q.bytes_received, q.segs_out, q.segs_in, q.data_segs_out, q.data_segs_in,
    c.total_retrans";

/// Namespaces as a parameter.
fn list(of: &[NetnsId]) -> String {
    let numbers: Vec<_> = of.iter().map(NetnsId::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// The open sockets of these namespaces. What this version cannot read (an address, a family) it leaves
/// open.
pub(super) fn sockets(
    connection: &Connection,
    of: &[NetnsId],
) -> rusqlite::Result<Vec<FormerSocket>> {
    let sql = format!(
        "SELECT k.socket_id, coalesce(m.cookie, k.cookie), k.generation, k.family, k.protocol,
             k.local_address, k.local_port, k.remote_address, k.remote_port, k.interface, k.inode,
             k.uid, k.cgroup_id, k.mark, o.last_snapshot_id, o.snapshot_id, o.samples, r.state,
             {COUNTERS}, k.origin, o.is_remains, k.peer_socket_id, k.netns_id
         {OPEN_SOCKETS}
         LEFT JOIN remains AS m ON m.socket_id = o.socket_id
         WHERE k.netns_id IN (SELECT value FROM json_each(?1))"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([list(of)], former_socket)?;
    rows.filter_map(Result::transpose).collect()
}

/// What this version cannot read is `None`.
fn tuple(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Tuple>> {
    let address = |i| row.get::<_, Option<String>>(i).map(|text| text?.parse::<IpAddr>().ok());
    let (Some(local), Some(remote)) = (address(first)?, address(first + 2)?) else {
        return Ok(None);
    };
    let Some(remote_port) = row.get(first + 3)? else { return Ok(None) };
    Ok(Some(Tuple {
        local: Endpoint { address: local, port: row.get(first + 1)? },
        remote: Endpoint { address: remote, port: remote_port },
        interface: row.get::<_, Option<u32>>(first + 4)?.unwrap_or(0),
    }))
}

fn origin(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Origin>> {
    Ok(row.get::<_, Option<u8>>(index)?.and_then(Origin::from_number))
}

/// Sockets of these namespaces whose connection was over, and that may not have been freed yet: the
/// latest ones.
pub(super) fn undestroyed(
    connection: &Connection,
    of: &[NetnsId],
) -> rusqlite::Result<Vec<UndestroyedSocket>> {
    let mut statement = connection.prepare(
        "SELECT k.socket_id, k.cookie, k.local_address, k.local_port, k.remote_address,
             k.remote_port, k.interface, e.state, k.origin, k.protocol, coalesce(
                 n.started_monotonic_ns - m.time_wait_ms * 1000000, n.ended_monotonic_ns),
             k.generation, k.netns_id, k.peer_socket_id
         FROM socket_ends AS e JOIN sockets AS k ON k.socket_id = e.socket_id
         LEFT JOIN remains AS m ON m.socket_id = e.socket_id AND e.last_snapshot_id IS NULL
         LEFT JOIN snapshots AS n ON n.snapshot_id = m.time_wait_snapshot_id
         WHERE k.netns_id IN (SELECT value FROM json_each(?1)) AND e.destroyed_at_ns IS NULL
            AND e.evidence IN ('absence', 'time_wait', 'closed')
         ORDER BY e.socket_id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![list(of), UNDESTROYED_MAX], |row| {
        let (Some(tuple), Some(protocol)) = (tuple(row, 2)?, Protocol::from_number(row.get(9)?))
        else {
            return Ok(None);
        };
        Ok(Some(UndestroyedSocket {
            id: SocketId(row.get(0)?),
            cookie: row.get::<_, i64>(1)?.cast_unsigned(),
            protocol,
            tuple,
            state: row.get::<_, Option<u8>>(7)?.map(TcpState),
            origin: origin(row, 8)?,
            time_wait_by_ns: row.get(10)?,
            generation: row.get(11)?,
            netns: NetnsId(row.get(12)?),
            peer: row.get::<_, Option<i64>>(13)?.map(SocketId),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// TCP sockets of these namespaces that were freed after this moment of `CLOCK_BOOTTIME`, were not aborted,
/// and of which no dump showed what they left.
pub(super) fn freed(
    connection: &Connection,
    of: &[NetnsId],
    since_boottime_ns: Nanos,
) -> rusqlite::Result<Vec<FreedSocket>> {
    let mut statement = connection.prepare(
        "SELECT k.socket_id, k.cookie, k.local_address, k.local_port, k.remote_address,
             k.remote_port, k.interface, e.state, k.generation, e.last_sample_snapshot_id, e.samples,
             min(e.destroyed_boottime_ns - p.ended_boottime_ns + p.ended_monotonic_ns,
                 coalesce(d.ended_monotonic_ns, 9223372036854775807)), n.evidence,
             (SELECT l.ended_monotonic_ns FROM snapshots AS l ORDER BY l.snapshot_id DESC LIMIT 1),
             k.netns_id, e.closed_before_snapshot_id IS NULL AND e.over_ns IS NULL,
             coalesce(max(0, pe.destroyed_boottime_ns - e.destroyed_boottime_ns), 0), e.over_ns,
             a.ended_monotonic_ns
         FROM socket_ends AS e JOIN sockets AS k ON k.socket_id = e.socket_id
         LEFT JOIN socket_ends AS pe ON pe.socket_id = k.peer_socket_id
         JOIN snapshots AS d ON d.snapshot_id = e.destroyed_snapshot_id
         -- The machine may have been suspended since the event: not before it. Nor was it freed after the
         -- snapshot that recorded it.
         JOIN snapshots AS p ON p.snapshot_id = coalesce((SELECT max(b.snapshot_id)
                 FROM snapshots AS b WHERE b.snapshot_id < d.snapshot_id
                    AND b.capture_id = d.capture_id), d.snapshot_id)
            AND p.ended_monotonic_ns IS NOT NULL
         LEFT JOIN snapshots AS a ON a.snapshot_id = e.closed_before_snapshot_id
         LEFT JOIN endings AS n ON n.ending = e.ending
         WHERE e.destroyed_boottime_ns > ?2 AND k.protocol = ?3
            AND k.netns_id IN (SELECT value FROM json_each(?1))
            AND coalesce(n.name, 'orderly') = 'orderly'
            AND NOT EXISTS (SELECT 1 FROM remains AS m WHERE m.socket_id = e.socket_id)
         ORDER BY e.destroyed_boottime_ns DESC, e.socket_id DESC LIMIT ?4",
    )?;
    let tcp = Protocol::Tcp.number();
    let rows =
        statement.query_map(params![list(of), since_boottime_ns, tcp, UNDESTROYED_MAX], |row| {
            let Some(tuple) = tuple(row, 2)? else { return Ok(None) };
            let (freed_ns, evidence): (Nanos, Option<String>) = (row.get(11)?, row.get(12)?);
            let listened_ns = row.get::<_, Option<Nanos>>(13)?.unwrap_or(0);
            // It went on half-closed as long as its other end was there.
            let peer_freed_ns = freed_ns.saturating_add(row.get(16)?);
            // Dumps since may have shown that it was over.
            let absent_ns = row.get::<_, Option<Nanos>>(18)?.unwrap_or(Nanos::MAX);
            let time_wait_by_ns = match evidence.as_deref() {
                Some("half_closed") => freed_ns.saturating_add(FIN_WAIT2_MAX_NS),
                Some("fin_acked") => match row.get::<_, Option<Nanos>>(17)? {
                    Some(over_ns) => freed_ns.saturating_add(over_ns),
                    // As long as the other end, which is here too, is not known, it may have sent a RST.
                    None if tuple.is_within_host() => peer_freed_ns,
                    None => freed_ns.max(listened_ns),
                },
                // Whether a FIN was acknowledged is not known.
                None => freed_ns,
                Some(_) => peer_freed_ns,
            };
            Ok(Some(FreedSocket {
                id: SocketId(row.get(0)?),
                cookie: row.get::<_, i64>(1)?.cast_unsigned(),
                generation: row.get(8)?,
                tuple,
                state: row.get::<_, Option<u8>>(7)?.map(TcpState),
                last_sample: row.get::<_, Option<i64>>(9)?.map(SnapshotId),
                samples: row.get(10)?,
                time_wait_by_ns: time_wait_by_ns.min(absent_ns.max(freed_ns)),
                is_half_closed: row.get(15)?,
                netns: NetnsId(row.get(14)?),
            }))
        })?;
    rows.filter_map(Result::transpose).collect()
}

fn former_socket(row: &Row<'_>) -> rusqlite::Result<Option<FormerSocket>> {
    let Some(tuple) = tuple(row, 5)? else { return Ok(None) };
    let (Some(family), Some(protocol)) =
        (Family::from_number(row.get(3)?), Protocol::from_number(row.get(4)?))
    else {
        return Ok(None);
    };
    let unsigned = |i| row.get::<_, Option<i64>>(i).map(|v| v.map(i64::cast_unsigned));
    Ok(Some(FormerSocket {
        id: SocketId(row.get(0)?),
        cookie: row.get::<_, i64>(1)?.cast_unsigned(),
        generation: row.get(2)?,
        family,
        protocol,
        tuple,
        known: SocketUpdate {
            interface: row.get(9)?,
            inode: row.get(10)?,
            uid: row.get(11)?,
            cgroup_id: unsigned(12)?,
            mark: row.get(13)?,
        },
        last_snapshot: SnapshotId(row.get(14)?),
        last_sample: SnapshotId(row.get(15)?),
        samples: row.get::<_, i64>(16)?.cast_unsigned(),
        state: TcpState(row.get(17)?),
        counters: FinalCounters {
            rtt_us: row.get(18)?,
            rttvar_us: row.get(19)?,
            min_rtt_us: row.get(20)?,
            bytes_sent: unsigned(21)?,
            bytes_retrans: unsigned(22)?,
            bytes_acked: unsigned(23)?,
            bytes_received: unsigned(24)?,
            segs_out: row.get(25)?,
            segs_in: row.get(26)?,
            data_segs_out: row.get(27)?,
            data_segs_in: row.get(28)?,
            total_retrans: row.get(29)?,
        },
        origin: origin(row, 30)?,
        is_remains: row.get(31)?,
        peer: row.get::<_, Option<i64>>(32)?.map(SocketId),
        netns: NetnsId(row.get(33)?),
    }))
}

/// The last complete dump of every state of this family and protocol, with nothing left out, and
/// when its snapshot ended on `CLOCK_MONOTONIC`.
pub(super) fn last_full_view(
    connection: &Connection,
    scope: &Scope,
) -> rusqlite::Result<Option<(SnapshotId, Nanos)>> {
    let last: (Option<i64>, Option<Nanos>) = connection.query_row(
        "SELECT max(d.snapshot_id), n.ended_monotonic_ns FROM scopes AS s
         JOIN complete_dumps AS d ON d.scope_id = s.scope_id
         JOIN snapshots AS n ON n.snapshot_id = d.snapshot_id
         WHERE s.netns_id = ?1 AND s.family = ?2 AND s.protocol = ?3 AND s.filter = ''
            AND (s.states & ?4) = ?4
            AND NOT EXISTS (SELECT 1 FROM exceptions AS x WHERE x.snapshot_id = d.snapshot_id
                AND x.scope_id = d.scope_id)",
        params![
            scope.netns.0,
            scope.family.number(),
            scope.protocol.number(),
            States::OF_CONNECTIONS.0
        ],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(last.0.map(SnapshotId).zip(last.1))
}

/// Ends what earlier boots of the machine of this capture left open; gives those sockets. Machines are
/// told apart by the hash of their id; without one nothing is ended.
pub(super) fn end_former_boots(
    connection: &Connection,
    capture: i64,
    first: SnapshotId,
) -> rusqlite::Result<Vec<SocketId>> {
    let is_of_former_boot = "EXISTS (SELECT 1 FROM snapshots AS l
        JOIN captures AS former ON former.capture_id = l.capture_id
        JOIN captures AS now ON now.capture_id = ?2
        WHERE l.snapshot_id = o.snapshot_id AND former.boot_id <> now.boot_id
            AND former.machine_id_hash = now.machine_id_hash)";
    end_open(connection, first, EndEvidence::HostRestart, is_of_former_boot, &capture)
}

/// Ends what earlier captures left open in these namespaces, which had gone when this snapshot began;
/// gives those sockets.
pub(super) fn end_gone_namespaces(
    connection: &Connection,
    gone: &[NetnsId],
    first: SnapshotId,
) -> rusqlite::Result<Vec<SocketId>> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let was_in_one = "EXISTS (SELECT 1 FROM sockets AS w WHERE w.socket_id = o.socket_id
        AND w.netns_id IN (SELECT value FROM json_each(?2)))";
    end_open(connection, first, EndEvidence::NetnsGone, was_in_one, &list(gone))
}

/// Ends those of the open sockets `o`, and of what is left of others, that this holds for: by that
/// snapshot they had gone. Gives the sockets, but for those of which something was left.
fn end_open(
    connection: &Connection,
    first: SnapshotId,
    evidence: EndEvidence,
    is_meant: &str,
    parameter: &dyn ToSql,
) -> rusqlite::Result<Vec<SocketId>> {
    connection.execute(
        &format!(
            "UPDATE remains SET (last_snapshot_id, gone_before_snapshot_id, last_sample_snapshot_id,
                 samples) = (SELECT o.last_snapshot_id, ?1, o.snapshot_id, o.samples
                    FROM open_sockets AS o WHERE o.socket_id = remains.socket_id)
             WHERE last_snapshot_id IS NULL AND socket_id IN (
                 SELECT o.socket_id FROM open_sockets AS o WHERE o.is_remains AND {is_meant})"
        ),
        params![first.0, parameter],
    )?;
    bound_ends(connection, first, evidence, is_meant, parameter)?;
    let mut end = connection.prepare(&format!(
        "INSERT INTO socket_ends (socket_id, last_snapshot_id, closed_before_snapshot_id,
             last_sample_snapshot_id, evidence, samples, state, rtt_us, rttvar_us, min_rtt_us,
             bytes_sent, bytes_retrans, bytes_acked, bytes_received, segs_out, segs_in,
             data_segs_out, data_segs_in, total_retrans)
         SELECT o.socket_id, o.last_snapshot_id, ?1, o.snapshot_id, ?3, o.samples, r.state,
             {COUNTERS}
         {OPEN_SOCKETS}
         WHERE NOT o.is_remains AND {is_meant}
         RETURNING socket_id"
    ))?;
    end.query_map(params![first.0, parameter, evidence.name()], |row| row.get(0).map(SocketId))?
        .collect()
}

/// What had ended without a bound is over by then too: what may have gone on half-closed though its socket was
/// freed, or in a state or beyond a filter that was not recorded.
fn bound_ends(
    connection: &Connection,
    first: SnapshotId,
    evidence: EndEvidence,
    is_meant: &str,
    parameter: &dyn ToSql,
) -> rusqlite::Result<()> {
    let one_sided = Ending::ONE_SIDED.map(|ending| ending.number().to_string()).join(", ");
    connection.execute(
        &format!(
            "UPDATE socket_ends SET closed_before_snapshot_id = ?1, evidence = ?3
             WHERE socket_id IN (
                 SELECT o.socket_id FROM (
                     SELECT e.socket_id,
                         coalesce(e.destroyed_snapshot_id, e.last_snapshot_id) AS snapshot_id
                     FROM socket_ends AS e
                     WHERE e.closed_before_snapshot_id IS NULL AND e.over_ns IS NULL
                         AND (e.destroyed_at_ns IS NULL OR e.ending IS NULL
                             OR e.ending IN ({one_sided}))
                         AND e.socket_id NOT IN (SELECT m.socket_id FROM remains AS m)) AS o
                 WHERE {is_meant})"
        ),
        params![first.0, parameter, evidence.name()],
    )?;
    Ok(())
}
