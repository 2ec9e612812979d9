//! The collector's end of the way to the writer.

use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Parcel};
use super::collector::RecordError;
use super::owner_finder::OwnerFinder;

/// The way to the writer, and the batch that is being filled.
pub(super) struct Outbox {
    pub(super) parcels: Sender<Parcel>,
    pub(super) empties: Receiver<Box<Batch>>,
    pub(super) owners: Option<OwnerFinder>,
    pub(super) batch: Box<Batch>,
    /// Batches that this tick has sent.
    pub(super) sent: usize,
}

impl Outbox {
    /// Sends a parcel, waiting while the channel is full.
    pub(super) fn send(&self, parcel: Parcel) -> Result<(), RecordError> {
        self.parcels.send(parcel).map_err(|_| RecordError::WriterDied)
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

    /// Keeps as many empty batches as this tick had a use for: the first, or a flood, takes far more.
    pub(super) fn end_tick(&mut self) {
        let kept = std::mem::take(&mut self.sent);
        while self.empties.len() > kept && self.empties.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn memory_of_a_tick_that_needed_much_is_given_back_by_one_that_does_not() {
        let (parcels, _incoming) = unbounded();
        let (returned, empties) = unbounded();
        let mut outbox = Outbox { parcels, empties, owners: None, batch: Box::default(), sent: 0 };
        for _ in 0..100 {
            outbox.flush().unwrap();
            returned.send(Box::default()).unwrap();
        }
        outbox.end_tick();
        // The last one has taken one of them.
        assert_eq!(outbox.empties.len(), 1);
        for _ in 0..99 {
            returned.send(Box::default()).unwrap();
        }
        outbox.flush().unwrap();
        outbox.flush().unwrap();
        outbox.end_tick();
        assert_eq!(outbox.empties.len(), 2);
    }
}
