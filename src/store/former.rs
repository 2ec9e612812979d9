//! What earlier captures left open, and what becomes of it.

use std::net::IpAddr;

use rusqlite::{Connection, Row, params};

use crate::model::{
    EndEvidence, Endpoint, Family, FinalCounters, FormerSocket, NetnsId, Protocol, Scope,
    SnapshotId, SocketId, SocketUpdate, States, TcpState, Tuple,
};

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

/// The open sockets of a namespace. What this version cannot read (an address, a family) it leaves
/// open.
pub(super) fn sockets(
    connection: &Connection,
    netns: NetnsId,
) -> rusqlite::Result<Vec<FormerSocket>> {
    let sql = format!(
        "SELECT k.socket_id, k.cookie, k.generation, k.family, k.protocol, k.local_address,
             k.local_port, k.remote_address, k.remote_port, k.interface, k.inode, k.uid,
             k.cgroup_id, k.mark, o.last_snapshot_id, o.snapshot_id, o.samples, r.state, {COUNTERS}
         {OPEN_SOCKETS}
         WHERE k.netns_id = ?1"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([netns.0], former_socket)?;
    rows.filter_map(Result::transpose).collect()
}

fn former_socket(row: &Row<'_>) -> rusqlite::Result<Option<FormerSocket>> {
    let address = |i| row.get::<_, String>(i).map(|text| text.parse::<IpAddr>().ok());
    let (Some(local), Some(remote)) = (address(5)?, address(7)?) else { return Ok(None) };
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
        tuple: Tuple {
            local: Endpoint { address: local, port: row.get(6)? },
            remote: Endpoint { address: remote, port: row.get(8)? },
            interface: row.get::<_, Option<u32>>(9)?.unwrap_or(0),
        },
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
    }))
}

/// The last complete dump of every state of this family and protocol, with nothing left out.
pub(super) fn last_full_view(
    connection: &Connection,
    scope: &Scope,
) -> rusqlite::Result<Option<SnapshotId>> {
    let time_wait = States::only(TcpState::TIME_WAIT).0;
    let last: Option<i64> = connection.query_row(
        "SELECT max(d.snapshot_id) FROM scopes AS s
         JOIN complete_dumps AS d ON d.scope_id = s.scope_id
         WHERE s.netns_id = ?1 AND s.family = ?2 AND s.protocol = ?3 AND s.filter = ''
            AND (s.states | ?4) = ?5
            AND NOT EXISTS (SELECT 1 FROM exceptions AS x WHERE x.snapshot_id = d.snapshot_id
                AND x.scope_id = d.scope_id)",
        params![
            scope.netns.0,
            scope.family.number(),
            scope.protocol.number(),
            time_wait,
            States::ALL.0
        ],
        |row| row.get(0),
    )?;
    Ok(last.map(SnapshotId))
}

/// Ends what earlier boots of the machine of this capture left open. Machines are told apart by the
/// hash of their id; without one nothing is ended.
pub(super) fn end_former_boots(
    connection: &Connection,
    capture: i64,
    first: SnapshotId,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO socket_ends (socket_id, last_snapshot_id, closed_before_snapshot_id,
             last_sample_snapshot_id, evidence, samples, state, rtt_us, rttvar_us, min_rtt_us,
             bytes_sent, bytes_retrans, bytes_acked, bytes_received, segs_out, segs_in,
             data_segs_out, data_segs_in, total_retrans)
         SELECT o.socket_id, o.last_snapshot_id, ?2, o.snapshot_id, ?3, o.samples, r.state,
             {COUNTERS}
         {OPEN_SOCKETS}
         JOIN snapshots AS l ON l.snapshot_id = o.snapshot_id
         JOIN captures AS former ON former.capture_id = l.capture_id
         JOIN captures AS now ON now.capture_id = ?1
         WHERE former.boot_id <> now.boot_id AND former.machine_id_hash = now.machine_id_hash"
    );
    connection.execute(&sql, params![capture, first.0, EndEvidence::HostRestart.name()])?;
    Ok(())
}
