//! The writer thread: raw samples to observations to rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::batch::{Batch, Parcel, RawSample};
use crate::model::{Clocks, EndReason, NetnsId, SampleRow, SnapshotId, SocketId};
use crate::store::{Start, StoreError, TickWriter, Writer};
use crate::wire::inet_diag::Message;

/// The file is looked for after each snapshot, and where none comes, so often.
const LOOK_AFTER: Duration = Duration::from_millis(1_500);

/// What the writer has done so far, read by the collector's progress line.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) snapshots: AtomicU64,
    pub(super) samples: AtomicU64,
    pub(super) file_bytes: AtomicU64,
}

/// From and to the writer thread.
pub(super) struct Lines {
    pub(super) parcels: Receiver<Parcel>,
    /// Batches go back empty, to be used again.
    pub(super) empties: Sender<Box<Batch>>,
    /// Is told whose end is stored.
    pub(super) ended: Option<Sender<Vec<SocketId>>>,
    /// Ends the capture before its time.
    pub(super) stopper: Option<Sender<EndReason>>,
}

impl Lines {
    /// What is written leads nowhere any more.
    pub(super) fn stop(&self) {
        if let Some(stopper) = &self.stopper {
            // Full: a stop is under way already.
            let _ = stopper.try_send(EndReason::Error);
        }
    }
}

/// Writes what comes until the capture ends, but first that these namespaces have gone. A recording that
/// is moved meanwhile is ended in order, and that is what went wrong.
pub(super) fn write_all(
    mut writer: Writer,
    start: Start,
    gone: &[NetnsId],
    lines: &Lines,
    written: &Written,
) -> Result<(), StoreError> {
    let mut is_moved = false;
    loop {
        let parcel = match lines.parcels.recv_timeout(LOOK_AFTER) {
            Ok(parcel) => parcel,
            Err(RecvTimeoutError::Timeout) => {
                look(&writer, written, lines, &mut is_moved);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        match parcel {
            Parcel::BeginTick { snapshot, group, is_keyframe } => {
                let mut tick = writer.begin_tick()?;
                let mut ends = lines.ended.as_ref().map(|_| Vec::new());
                if snapshot == start.next_snapshot {
                    let of_former_boots = tick.end_former_boots(&start, snapshot)?;
                    let gone = tick.end_gone_namespaces(gone, snapshot)?;
                    if let Some(ends) = &mut ends {
                        ends.extend(of_former_boots.into_iter().chain(gone));
                    }
                }
                if is_keyframe {
                    tick.begin_group(group, &start, snapshot)?;
                } else {
                    tick.set_group(group);
                }
                let Some((rows, now)) =
                    write_tick(tick, snapshot, &start, lines, written, &mut ends)?
                else {
                    return Ok(());
                };
                if let (Some(ended), Some(ends)) = (&lines.ended, ends) {
                    // Who no longer wants to know has ended.
                    let _ = ended.send(ends);
                }
                writer.keep_within_limits(&start, now, rows, || !lines.parcels.is_empty())?;
                look(&writer, written, lines, &mut is_moved);
            }
            Parcel::Capacity(capacity) => writer.set_capacity(capacity),
            Parcel::EndCapture { reason, at, missed_ticks, owner_changes } => {
                writer.owner_changes(&start, &owner_changes)?;
                writer.end_capture(&start, reason, at, missed_ticks)?;
                look(&writer, written, lines, &mut is_moved);
                return if is_moved { Err(writer.moved()) } else { Ok(()) };
            }
            Parcel::Rows(_) | Parcel::EndTick(_) => {} // belong to a tick that never began
        }
    }
}

/// Looks for the file: how large it is, and whether it is where it was. Who moved it is told at once, not
/// when the recording was to end: until it is, most of it is in a log that has not gone along.
fn look(writer: &Writer, written: &Written, lines: &Lines, is_moved: &mut bool) {
    let found = writer.on_disk();
    written.file_bytes.store(found.bytes, Ordering::Relaxed);
    if found.is_moved && !*is_moved {
        *is_moved = true;
        lines.stop();
    }
}

/// Writes one tick; gives its rows of samples and its end. `None` when the collector went away in the
/// middle of it: then nothing of it stays.
fn write_tick(
    mut tick: TickWriter<'_>,
    snapshot: SnapshotId,
    start: &Start,
    lines: &Lines,
    written: &Written,
    ends: &mut Option<Vec<SocketId>>,
) -> Result<Option<(u64, Clocks)>, StoreError> {
    while let Ok(parcel) = lines.parcels.recv() {
        match parcel {
            Parcel::Rows(mut batch) => {
                write_batch(&mut tick, snapshot, start, &batch)?;
                if let Some(ends) = ends {
                    ends.extend(batch.ends.iter().map(|end| end.socket));
                }
                batch.clear();
                // A collector that is gone needs no more batches.
                let _ = lines.empties.send(batch);
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
    // The tracker has read its header: it parses.
    let message = |raw: &RawSample| Message::parse(&batch.messages[raw.message.clone()]).ok();
    tick.samples(batch.samples.iter().filter_map(|raw| {
        Some(SampleRow {
            snapshot,
            socket: raw.socket,
            previous: raw.previous,
            observation: message(raw)?.observe(raw.protocol),
            times: raw.times,
        })
    }))?;
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
