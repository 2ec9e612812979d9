//! Sharing of rows by value within a group.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap};

/// Values are forgotten beyond so many, so that memory stays bounded; a value that comes again is
/// then stored once more.
const REMEMBERED: usize = 65_536;

/// Which values a group has already stored, by two independent 64-bit hashes of each: a false
/// match would need both to collide.
pub(super) struct Shared {
    first: DefaultHashBuilder,
    second: DefaultHashBuilder,
    ids: HashMap<(u64, u64), i64>,
    next_id: i64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            first: DefaultHashBuilder::default(),
            second: DefaultHashBuilder::default(),
            ids: HashMap::new(),
            next_id: 1,
        }
    }

    /// The number of this value within the group, and whether it has to be stored under it.
    pub(super) fn id_of(&mut self, value: &impl Hash) -> (i64, bool) {
        let key = (self.first.hash_one(value), self.second.hash_one(value));
        if let Some(id) = self.ids.get(&key) {
            return (*id, false);
        }
        if self.ids.len() >= REMEMBERED {
            self.ids.clear();
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(key, id);
        (id, true)
    }

    /// A new group starts without values.
    pub(super) fn start_group(&mut self) {
        self.ids.clear();
        self.next_id = 1;
    }

    /// Forgets what a rolled back transaction may have stored; numbers are not used again.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }
}
