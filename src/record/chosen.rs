//! Which sockets a capture chooses.

use crate::filter::{Filter, Told};
use crate::model::Scope;
use crate::wire::inet_diag::Message;

/// The filter of a capture.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// All of it, with its names looked up.
    pub filter: Filter,
    /// What the kernel was not asked.
    pub residue: Option<Filter>,
}

impl Chosen {
    /// Whether a socket that a dump showed is left out, as one is of which that cannot be told: so the
    /// kernel does with what it filters, and SQL.
    pub(super) fn leaves_out(&self, message: &Message<'_>) -> bool {
        let Some(residue) = &self.residue else { return false };
        let known = message.owner();
        let told = Told {
            state: Some(message.state()),
            mark: known.mark,
            cgroup_id: known.cgroup_id,
            ..Told::of_tuple(&message.tuple())
        };
        residue.holds_for(&told) != Some(true)
    }

    /// Whether a socket with these ends is one that is asked for; `None` if that cannot be told.
    pub(super) fn holds(&self, told: &Told) -> Option<bool> {
        self.filter.holds_for(told)
    }
}

/// Whether a connection that a complete dump of this scope lacks is not there, or over.
pub(super) fn proves_absence(scope: &Scope, chosen: Option<&Chosen>) -> bool {
    // What the filter asks of a state, mark, device or cgroup may change, or not be told of what is
    // only half a socket: one that is not shown any longer has but left the filter.
    match chosen {
        Some(chosen) => scope.states.proves_absence() && chosen.filter.is_lasting(),
        None => scope.proves_absence(),
    }
}
