//! How sockets ended, and what is left of them.

use rusqlite::params;

use super::columns::{SqlInteger, int};
use super::tick::{Done, TickWriter};
use crate::model::{EndEvidence, EndUpdate, Ending, Remains, RemainsEnd, SocketEnd, SocketId};

impl TickWriter<'_> {
    /// Adds the end of a socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn socket_end(&mut self, end: &SocketEnd) -> Done {
        let c = &end.counters;
        let destroyed = end.destroyed.as_ref();
        self.run(
            "INSERT INTO socket_ends (socket_id, last_snapshot_id, closed_before_snapshot_id,
                 last_sample_snapshot_id, evidence, samples, state, ending, destroyed_snapshot_id,
                 destroyed_at_ns, destroyed_boottime_ns, idle_ms, open_ms, over_ns,
                 has_final_counters, rtt_us, rttvar_us, min_rtt_us, bytes_sent, bytes_retrans,
                 bytes_acked, bytes_received, segs_out, segs_in, data_segs_out, data_segs_in, total_retrans)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)",
            params![
                end.socket.0,
                end.last_snapshot.map(|s| s.0),
                end.closed_before.map(|s| s.0),
                end.last_sample.map(|s| s.0),
                end.evidence.map(EndEvidence::name),
                end.samples.sql(),
                end.state.map(|state| state.0),
                end.ending.map(Ending::number),
                destroyed.map(|d| d.snapshot.0),
                destroyed.map(|d| d.at.utc_ns),
                destroyed.map(|d| d.at.boottime_ns),
                destroyed.and_then(|d| d.idle_ms),
                // How long it was there matters where no dump tells.
                destroyed.filter(|_| end.last_snapshot.is_none()).and_then(|d| d.open_ms),
                destroyed.and_then(|d| d.over_ns),
                end.has_final_counters.then_some(true),
                c.rtt_us,
                c.rttvar_us,
                c.min_rtt_us,
                int(c.bytes_sent),
                int(c.bytes_retrans),
                int(c.bytes_acked),
                int(c.bytes_received),
                c.segs_out,
                c.segs_in,
                c.data_segs_out,
                c.data_segs_in,
                c.total_retrans,
            ],
        )
    }

    /// Notes what came to be known of a socket after its end was stored. That its FIN was acknowledged
    /// tells less than whatever is known already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_update(&mut self, socket: SocketId, update: &EndUpdate) -> Done {
        if let Some(shown) = update.shown_over {
            self.run(
                "UPDATE socket_ends SET closed_before_snapshot_id = ?2, evidence = ?3
                 WHERE socket_id = ?1 AND evidence = ?4",
                params![
                    socket.0,
                    shown.0,
                    EndEvidence::TimeWait.name(),
                    EndEvidence::Absence.name()
                ],
            )?;
        }
        if let Some(absent) = update.absent {
            self.run(
                "UPDATE socket_ends SET closed_before_snapshot_id = ?2, evidence = ?3
                 WHERE socket_id = ?1 AND closed_before_snapshot_id IS NULL
                    AND socket_id NOT IN (SELECT socket_id FROM remains)",
                params![socket.0, absent.0, EndEvidence::Absence.name()],
            )?;
        }
        if let Some(destroyed) = &update.destroyed {
            self.run(
                "UPDATE socket_ends SET destroyed_snapshot_id = ?2, destroyed_at_ns = ?3,
                     destroyed_boottime_ns = ?4, idle_ms = ?5,
                     open_ms = CASE WHEN last_snapshot_id IS NULL THEN ?6 END, over_ns = ?7
                 WHERE socket_id = ?1",
                params![
                    socket.0,
                    destroyed.snapshot.0,
                    destroyed.at.utc_ns,
                    destroyed.at.boottime_ns,
                    destroyed.idle_ms,
                    destroyed.open_ms,
                    destroyed.over_ns
                ],
            )?;
        }
        if let Some(c) = &update.counters {
            self.run(
                "UPDATE socket_ends SET has_final_counters = 1, rtt_us = ?2, rttvar_us = ?3, min_rtt_us = ?4,
                     bytes_sent = ?5, bytes_retrans = ?6, bytes_acked = ?7, bytes_received = ?8,
                     segs_out = ?9, segs_in = ?10, data_segs_out = ?11, data_segs_in = ?12,
                     total_retrans = ?13
                 WHERE socket_id = ?1",
                params![
                    socket.0,
                    c.rtt_us,
                    c.rttvar_us,
                    c.min_rtt_us,
                    int(c.bytes_sent),
                    int(c.bytes_retrans),
                    int(c.bytes_acked),
                    int(c.bytes_received),
                    c.segs_out,
                    c.segs_in,
                    c.data_segs_out,
                    c.data_segs_in,
                    c.total_retrans,
                ],
            )?;
        }
        if let Some(ending) = update.ending {
            self.run(
                "UPDATE socket_ends SET ending = ?2 WHERE socket_id = ?1
                    AND (ending IS NULL OR NOT ?3)",
                params![socket.0, ending.number(), ending.is_one_sided()],
            )?;
        }
        Ok(())
    }

    /// Notes that the other end of a connection turned out to be reset: where this end only knows
    /// that its FIN was acknowledged, or nothing, that is how it ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn peer_was_reset(&mut self, socket: SocketId) -> Done {
        let [fin_acked, half_closed] = Ending::ONE_SIDED.map(Ending::number);
        self.run(
            "UPDATE socket_ends SET ending = ?2
             WHERE socket_id = ?1 AND (ending IS NULL OR ending IN (?3, ?4))",
            params![socket.0, Ending::PeerReset.number(), fin_acked, half_closed],
        )
    }

    /// Adds what is left of a connection.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remains(&mut self, remains: &Remains) -> Done {
        // Dumps may have lacked it for a while.
        self.run(
            "INSERT INTO remains (socket_id, cookie, first_snapshot_id, time_wait_snapshot_id,
                 time_wait_ms)
             SELECT ?1, ?2, ?3, ?4, ?5
             -- It may have been dropped, unless it has yet to come.
             WHERE ?6 OR EXISTS (SELECT 1 FROM sockets AS k WHERE k.socket_id = ?1)
             ON CONFLICT DO UPDATE SET
                 time_wait_ms = iif(time_wait_snapshot_id IS NULL, excluded.time_wait_ms,
                     time_wait_ms),
                 time_wait_snapshot_id = coalesce(time_wait_snapshot_id,
                     excluded.time_wait_snapshot_id),
                 last_snapshot_id = NULL, gone_before_snapshot_id = NULL,
                 last_sample_snapshot_id = NULL, samples = NULL",
            params![
                remains.socket.0,
                int(remains.cookie),
                remains.first_snapshot.0,
                remains.time_wait.map(|s| s.0),
                remains.time_wait_ms,
                remains.is_new
            ],
        )
    }

    /// Notes that what was left of a connection is gone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remains_end(&mut self, end: &RemainsEnd) -> Done {
        self.run(
            "UPDATE remains SET last_snapshot_id = ?2, gone_before_snapshot_id = ?3,
                 last_sample_snapshot_id = ?4, samples = ?5
             WHERE socket_id = ?1",
            params![
                end.socket.0,
                end.last_snapshot.0,
                end.gone_before.map(|s| s.0),
                end.last_sample.0,
                end.samples.sql()
            ],
        )?;
        if end.gone_before.is_none() {
            return Ok(());
        }
        // A FIN-WAIT-2 that goes without a TIME-WAIT: the other end did not close.
        self.run(
            "UPDATE socket_ends SET ending = (SELECT ending FROM endings WHERE evidence = 'half_closed')
             WHERE socket_id = ?1
                AND ending = (SELECT ending FROM endings WHERE evidence = 'fin_acked')
                AND EXISTS (SELECT 1 FROM remains AS m
                    WHERE m.socket_id = ?1 AND m.time_wait_snapshot_id IS NULL)",
            params![end.socket.0],
        )
    }
}
