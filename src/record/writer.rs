//! The writer thread: raw samples to observations to rows.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Parcel};
use crate::model::{Clocks, NetnsId, SampleRow, SnapshotId, SocketId};
use crate::store::{Start, StoreError, TickWriter, Writer};
use crate::wire::inet_diag::Message;

/// What the writer has done so far, read by the collector's progress line.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) snapshots: AtomicU64,
    pub(super) samples: AtomicU64,
    pub(super) file_bytes: AtomicU64,
}

/// Writes what comes until the capture ends, but first that these namespaces have gone. Batches go back
/// empty, to be used again.
pub(super) fn write_all(
    mut writer: Writer,
    start: Start,
    gone: &[NetnsId],
    parcels: &Receiver<Parcel>,
    empties: &Sender<Box<Batch>>,
    written: &Written,
    ended: Option<&Sender<Vec<SocketId>>>,
) -> Result<(), StoreError> {
    while let Ok(parcel) = parcels.recv() {
        match parcel {
            Parcel::BeginTick { snapshot, group, is_keyframe } => {
                let mut tick = writer.begin_tick()?;
                if snapshot == start.next_snapshot {
                    tick.end_former_boots(&start, snapshot)?;
                    tick.end_gone_namespaces(gone, snapshot)?;
                }
                if is_keyframe {
                    tick.begin_group(group, &start, snapshot)?;
                } else {
                    tick.set_group(group);
                }
                let mut ends = ended.map(|_| Vec::new());
                let Some((rows, now)) =
                    write_tick(tick, snapshot, &start, parcels, empties, written, &mut ends)?
                else {
                    return Ok(());
                };
                if let (Some(ended), Some(ends)) = (ended, ends) {
                    // Who no longer wants to know has ended.
                    let _ = ended.send(ends);
                }
                writer.keep_within_limits(&start, now, rows, || !parcels.is_empty())?;
                written.file_bytes.store(writer.file_bytes(), Ordering::Relaxed);
            }
            Parcel::Capacity(capacity) => writer.set_capacity(capacity),
            Parcel::EndCapture { reason, at, missed_ticks, owner_changes } => {
                writer.owner_changes(&start, &owner_changes)?;
                writer.end_capture(&start, reason, at, missed_ticks)?;
                written.file_bytes.store(writer.file_bytes(), Ordering::Relaxed);
                return Ok(());
            }
            Parcel::Rows(_) | Parcel::EndTick(_) => {} // belong to a tick that never began
        }
    }
    Ok(())
}

/// Writes one tick; gives its rows of samples and its end. `None` when the collector went away in the
/// middle of it: then nothing of it stays.
fn write_tick(
    mut tick: TickWriter<'_>,
    snapshot: SnapshotId,
    start: &Start,
    parcels: &Receiver<Parcel>,
    empties: &Sender<Box<Batch>>,
    written: &Written,
    ends: &mut Option<Vec<SocketId>>,
) -> Result<Option<(u64, Clocks)>, StoreError> {
    while let Ok(parcel) = parcels.recv() {
        match parcel {
            Parcel::Rows(mut batch) => {
                write_batch(&mut tick, snapshot, start, &batch)?;
                if let Some(ends) = ends {
                    ends.extend(batch.ends.iter().map(|end| end.socket));
                }
                batch.clear();
                // A collector that is gone needs no more batches.
                let _ = empties.send(batch);
            }
            Parcel::EndTick(snapshot) => {
                let samples = tick.commit(&snapshot, start)?;
                written.samples.fetch_add(samples, Ordering::Relaxed);
                written.snapshots.fetch_add(1, Ordering::Relaxed);
                return Ok(Some((samples, snapshot.ended)));
            }
            Parcel::BeginTick { .. } | Parcel::EndCapture { .. } | Parcel::Capacity(_) => {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

fn write_batch(
    tick: &mut TickWriter<'_>,
    snapshot: SnapshotId,
    start: &Start,
    batch: &Batch,
) -> Result<(), StoreError> {
    for name in &batch.admitted {
        tick.admitted(start, snapshot, name)?;
    }
    for refused in &batch.refused {
        tick.refused(start, snapshot, refused)?;
    }
    for arrival in &batch.arrivals {
        tick.arrival(start, arrival)?;
    }
    for socket in &batch.sockets {
        tick.socket(socket)?;
    }
    for (socket, known) in &batch.updates {
        tick.socket_update(*socket, known)?;
    }
    for raw in &batch.samples {
        // The tracker has read its header: it parses.
        let Ok(message) = Message::parse(&batch.messages[raw.message.clone()]) else { continue };
        tick.sample(&SampleRow {
            snapshot,
            socket: raw.socket,
            previous: raw.previous,
            observation: message.observe(raw.protocol),
            times: raw.times,
        })?;
    }
    for change in &batch.state_changes {
        tick.state_change(change)?;
    }
    for held in &batch.held {
        tick.held(held)?;
    }
    for socket in &batch.missing {
        tick.missing(snapshot, *socket)?;
    }
    for remains in &batch.remains {
        tick.remains(remains)?;
    }
    for (socket, news) in &batch.news {
        tick.socket_news(*socket, news)?;
    }
    for end in &batch.remains_ends {
        tick.remains_end(end)?;
    }
    for end in &batch.ends {
        tick.socket_end(end)?;
    }
    for (socket, update) in &batch.end_updates {
        tick.end_update(*socket, update)?;
    }
    for socket in &batch.peer_resets {
        tick.peer_was_reset(*socket)?;
    }
    for change in &batch.owner_changes {
        tick.owner_change(start, change)?;
    }
    for loss in &batch.event_losses {
        tick.event_loss(loss)?;
    }
    for exception in &batch.exceptions {
        tick.exception(exception)?;
    }
    for netns in &batch.passed_over {
        tick.passed_over(snapshot, *netns)?;
    }
    for change in &batch.clock_changes {
        tick.clock_change(change)?;
    }
    for scope in &batch.last_asked {
        tick.last_asked(start, *scope, snapshot)?;
    }
    Ok(())
}
