//! Connections that went on without their socket, half-closed, as far as their event tells: over once
//! dumps lack what would be left of them.

use hashbrown::HashMap;

use super::REMEMBERED_MAX;
use crate::model::{EndUpdate, SnapshotId, SocketId};
use crate::record::batch::Batch;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    freed: SnapshotId,
    is_missing: bool,
}

/// Those of which no dump has shown yet what is left of them.
#[derive(Debug, Default)]
pub(in crate::record) struct HalfClosed(HashMap<SocketId, Waiting>);

impl HalfClosed {
    /// A socket was freed in this snapshot, and the other end had sent nothing, not even its FIN.
    pub(in crate::record) fn add(&mut self, socket: SocketId, freed: SnapshotId) {
        if self.0.len() < REMEMBERED_MAX {
            self.0.insert(socket, Waiting { freed, is_missing: false });
        }
    }

    /// A dump shows what is left of it.
    pub(in crate::record) fn remove(&mut self, socket: SocketId) {
        self.0.remove(&socket);
    }

    /// Every dump of this snapshot was complete: what the second one lacks since the socket was freed is
    /// over.
    pub(in crate::record) fn end_tick(&mut self, now: SnapshotId, out: &mut Batch) {
        self.0.retain(|&socket, waiting| {
            if waiting.freed == now {
                return true;
            }
            if waiting.is_missing {
                let update = EndUpdate { absent: Some(now), ..EndUpdate::default() };
                out.end_updates.push((socket, update));
            }
            !std::mem::replace(&mut waiting.is_missing, true)
        });
    }
}
