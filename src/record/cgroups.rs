//! Which cgroup has the id that a socket shows.

use hashbrown::{HashMap, HashSet};

use crate::kernel::CgroupWalk;
use crate::model::{Cgroup, Nanos, OwnerChange};

/// After a walk that did not find everything the next one waits at least so long …
const REST_MIN_NS: Nanos = 1_000_000_000;
/// … and an id that so many walks lacked is of a cgroup that was removed: ids do not come again.
const WALKS: u8 = 3;
/// A directory has some 40 files, and takes about 20 µs: so many come to a millisecond or so.
const DIRECTORIES_A_PASS: usize = 64;

/// The cgroups of the machine.
pub(super) trait Cgroups {
    /// See [`CgroupWalk::begin`].
    fn begin(&mut self) -> Option<(u64, Cgroup)>;
    /// See [`CgroupWalk::step`].
    fn step(&mut self, each: &mut dyn FnMut(u64, &dyn Fn() -> Cgroup)) -> bool;
}

impl Cgroups for CgroupWalk {
    fn begin(&mut self) -> Option<(u64, Cgroup)> {
        self.begin()
    }

    fn step(&mut self, each: &mut dyn FnMut(u64, &dyn Fn() -> Cgroup)) -> bool {
        self.step(each)
    }
}

/// The ids whose cgroup is wanted.
pub(super) struct CgroupSearch {
    /// Those that need no further search.
    done: HashSet<u64>,
    /// Each with the walks that may still be made for it.
    wanted: HashMap<u64, u8>,
    is_walking: bool,
    /// Ids that are wanted since the walk began.
    fresh: HashSet<u64>,
    next_walk_ns: Nanos,
}

impl CgroupSearch {
    /// `stored`: what is in the recording already.
    pub(super) fn new(stored: &[u64]) -> Self {
        Self {
            done: stored.iter().copied().collect(),
            wanted: HashMap::new(),
            is_walking: false,
            fresh: HashSet::new(),
            next_walk_ns: 0,
        }
    }

    pub(super) fn want(&mut self, id: u64) {
        if self.done.insert(id) {
            self.fresh.insert(id);
        }
    }

    /// When there is something to do; `None` while everything is known.
    pub(super) fn due_ns(&self) -> Option<Nanos> {
        let is_urgent = self.is_walking || !self.fresh.is_empty();
        is_urgent.then_some(Nanos::MIN).or((!self.wanted.is_empty()).then_some(self.next_walk_ns))
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.is_walking && self.fresh.is_empty()
    }

    /// Goes on with the walk, or begins one if it is time, and says what was found.
    pub(super) fn pass(&mut self, cgroups: &mut dyn Cgroups, now_ns: Nanos) -> Vec<OwnerChange> {
        let mut found = Vec::new();
        if !self.is_walking && self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.wanted.extend(self.fresh.drain().map(|id| (id, WALKS)));
            self.is_walking = true;
            if let Some((id, root)) = cgroups.begin() {
                take(&mut self.wanted, id, &|| root.clone(), &mut found);
            }
        }
        for _ in 0..DIRECTORIES_A_PASS {
            if !self.is_walking {
                break;
            }
            let wanted = &mut self.wanted;
            let goes_on = cgroups.step(&mut |id, cgroup| take(wanted, id, cgroup, &mut found));
            if !goes_on || self.wanted.is_empty() {
                self.end_walk(now_ns);
            }
        }
        found
    }

    fn end_walk(&mut self, now_ns: Nanos) {
        self.is_walking = false;
        self.next_walk_ns = now_ns + REST_MIN_NS;
        self.wanted.retain(|_, walks| {
            *walks = walks.saturating_sub(1);
            *walks > 0
        });
    }
}

fn take(
    wanted: &mut HashMap<u64, u8>,
    id: u64,
    cgroup: &dyn Fn() -> Cgroup,
    found: &mut Vec<OwnerChange>,
) {
    if wanted.remove(&id).is_some() {
        found.push(OwnerChange::Cgroup(id, cgroup()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flat hierarchy, one cgroup a directory.
    struct MadeUp {
        ids: Vec<u64>,
        at: usize,
        walks: usize,
    }

    impl Cgroups for MadeUp {
        fn begin(&mut self) -> Option<(u64, Cgroup)> {
            self.at = 0;
            self.walks += 1;
            Some((1, cgroup(1)))
        }

        fn step(&mut self, each: &mut dyn FnMut(u64, &dyn Fn() -> Cgroup)) -> bool {
            let Some(&id) = self.ids.get(self.at) else { return false };
            self.at += 1;
            each(id, &|| cgroup(id));
            true
        }
    }

    fn cgroup(id: u64) -> Cgroup {
        Cgroup { path: format!("/{id}"), unit: None, container: None }
    }

    #[test]
    fn what_is_wanted_is_found_over_several_passes_and_once() {
        let mut cgroups = MadeUp { ids: (2..1_000).collect(), at: 0, walks: 0 };
        let mut search = CgroupSearch::new(&[7]);
        assert_eq!(search.due_ns(), None);
        for id in [1, 7, 900, 900] {
            search.want(id);
        }
        let mut found = Vec::new();
        let mut passes = 0;
        while !search.is_settled() {
            found.extend(search.pass(&mut cgroups, 0));
            search.want(900);
            passes += 1;
        }
        assert_eq!(found, [1, 900].map(|id| OwnerChange::Cgroup(id, cgroup(id))));
        assert!(passes > 10, "{passes}");
        assert_eq!(search.due_ns(), None);
        assert_eq!(cgroups.walks, 1);
    }

    #[test]
    fn what_is_not_there_is_given_up() {
        let mut cgroups = MadeUp { ids: vec![2], at: 0, walks: 0 };
        let mut search = CgroupSearch::new(&[]);
        search.want(3);
        for second in 0..100 {
            assert_eq!(search.pass(&mut cgroups, second * 1_000_000_000), []);
        }
        assert_eq!(cgroups.walks, usize::from(WALKS));
        assert_eq!(search.due_ns(), None);
        search.want(3);
        assert_eq!(search.due_ns(), None);
        search.want(2);
        assert_eq!(search.pass(&mut cgroups, 0), [OwnerChange::Cgroup(2, cgroup(2))]);
    }
}
