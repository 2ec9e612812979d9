//! What the collector hands over.

use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Parcel};
use super::outcome::RecordError;
use super::owner_finder::OwnerFinder;

/// The way to the writer, and the batch that is being filled.
pub(super) struct Outbox {
    pub(super) parcels: Sender<Parcel>,
    /// What a tick begins with, until something follows: the writer is woken once for both.
    pub(super) beginning: Option<Parcel>,
    pub(super) empties: Receiver<Box<Batch>>,
    pub(super) owners: Option<OwnerFinder>,
    pub(super) batch: Box<Batch>,
    /// Batches that this tick has sent so far.
    pub(super) sent: usize,
}

impl Outbox {
    /// Sends a parcel, waiting while the channel is full.
    pub(super) fn send(&mut self, parcel: Parcel) -> Result<(), RecordError> {
        let mut parcels = self.beginning.take().into_iter().chain([parcel]);
        parcels.try_for_each(|p| self.parcels.send(p)).map_err(|_| RecordError::WriterDied)
    }

    /// Sends what was gathered and goes on with an empty batch.
    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        let mut batch = std::mem::take(&mut self.batch);
        let result = self.exchange(&mut batch);
        self.batch = batch;
        result
    }

    /// Sends a batch in exchange for an empty one. Whose the sockets in it are is looked for.
    pub(super) fn exchange(&mut self, batch: &mut Box<Batch>) -> Result<(), RecordError> {
        if let Some(owners) = &mut self.owners {
            let new = batch.sockets.iter().map(|socket| (socket.id, &socket.owner));
            let updated = batch.updates.iter().map(|(id, known)| (*id, known));
            for (id, known) in new.chain(updated) {
                if let Some(inode) = known.inode {
                    owners.want(id, inode);
                }
                if let Some(cgroup) = known.cgroup_id {
                    owners.want_cgroup(cgroup);
                }
            }
            for end in &batch.ends {
                owners.forget(end.socket);
            }
        }
        let empty = self.empties.try_recv().unwrap_or_default();
        let full = std::mem::replace(batch, empty);
        self.sent += 1;
        self.send(Parcel::Rows(full))
    }

    /// Keeps no more empty batches than a tick like this one needs.
    pub(super) fn end_tick(&mut self) {
        while self.empties.len() > self.sent {
            let _ = self.empties.try_recv();
        }
        self.sent = 0;
    }
}
