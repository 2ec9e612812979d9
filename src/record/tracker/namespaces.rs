//! Which namespaces are recorded: they come, are let go of by everybody else, and leave.

use super::{FullView, TrackedScope, Tracker};
use crate::model::{Nanos, NetnsId, Place, Protocol, Scope, ScopeId, SnapshotId};
use crate::record::batch::Batch;
use crate::record::register::Register;

/// Complete dumps of a namespace before it may leave: what earlier captures left open is told of by then.
const DUMPS_BEFORE_LEAVING: u64 = 2;

/// So long what a lagging reader of events has not read is waited for at most.
const LAG_MAX_NS: Nanos = 5_000_000_000;

/// A snapshot of which every dump was complete.
#[derive(Clone, Copy)]
struct CompleteTick {
    snapshot: SnapshotId,
    started_ns: Nanos,
}

/// A namespace, or the place of one that has left.
pub(super) struct Namespace {
    place: Place,
    netns: NetnsId,
    /// Both ends of a connection are looked for within one namespace.
    pub(super) register: Register,
    /// Snapshots of which every dump was complete, the last ones but for those since the reader of
    /// events lags behind: what none of them showed is not there.
    complete_ticks: [CompleteTick; 4],
    is_there: bool,
    /// Nobody else is known to hold it.
    is_let_go: bool,
}

impl Tracker {
    /// A namespace is recorded from now on.
    pub(in crate::record) fn arrive(
        &mut self,
        place: Place,
        netns: NetnsId,
        scopes: Vec<(ScopeId, Scope, Option<FullView>)>,
    ) {
        let namespace = Namespace {
            place,
            netns,
            register: self.register_of(netns),
            complete_ticks: [CompleteTick { snapshot: SnapshotId(0), started_ns: 0 }; 4],
            is_there: true,
            is_let_go: false,
        };
        self.dumps = scopes.len();
        let vacant = self.namespaces.iter().position(|namespace| !namespace.is_there);
        let of = vacant.unwrap_or(self.namespaces.len());
        let chosen = self.chosen.as_ref();
        let scopes = scopes
            .into_iter()
            .map(|(id, scope, view)| TrackedScope::new(id, scope, of, chosen, view));
        if vacant.is_some() {
            self.namespaces[of] = namespace;
            for (slot, scope) in self.scopes[of * self.dumps..].iter_mut().zip(scopes) {
                *slot = scope;
            }
        } else {
            self.namespaces.push(namespace);
            self.scopes.extend(scopes);
        }
    }

    /// What is left of earlier captures takes part.
    fn register_of(&mut self, netns: NetnsId) -> Register {
        let mut register = Register::new(netns, self.tick.snapshot);
        register.first_new = self.next_socket;
        register.listens = self.events.is_some();
        register.half_told.listen_since(self.tick.started.monotonic_ns);
        register.records_both_ends = self.records_both_ends;
        register.is_all_told = !self.takes_events_as_found;
        for former in self.formers.values().filter(|former| former.netns == netns) {
            register.expect(former, self.capture_started);
        }
        for socket in self.past.undestroyed.iter().filter(|socket| socket.netns == netns) {
            register.await_event(socket);
        }
        for socket in self.past.freed.iter().filter(|socket| socket.netns == netns) {
            register.remember(socket);
        }
        self.past.undestroyed.retain(|socket| socket.netns != netns);
        self.past.freed.retain(|socket| socket.netns != netns);
        register
    }

    /// How many places there are for namespaces.
    pub(in crate::record) fn places(&self) -> usize {
        self.namespaces.len()
    }

    /// What the kernel calls the namespace at this place, `None` where it has left.
    pub(in crate::record) fn place(&self, of: usize) -> Option<Place> {
        self.namespaces.get(of).filter(|namespace| namespace.is_there).map(|n| n.place)
    }

    /// The scope of a namespace, by its place among the dumps, if it is to be asked.
    pub(in crate::record) fn asked(&self, of: usize, dump: usize) -> Option<(usize, &Scope)> {
        let index = of * self.dumps + dump;
        let tracked = &self.scopes[index];
        tracked.is_supported.then_some((index, &tracked.scope))
    }

    /// There is no time for the dumps of this namespace.
    pub(in crate::record) fn pass_over(&self, of: usize, out: &mut Batch) {
        out.passed_over.push(self.namespaces[of].netns);
    }

    pub(super) fn index_of(&self, place: Place) -> Option<usize> {
        self.namespaces.iter().position(|n| n.is_there && n.place == place)
    }

    /// Whether nobody else is known to hold a namespace. It leaves once it has no sockets, which would
    /// hold it too.
    pub(in crate::record) fn let_go(&mut self, place: Place, is_let_go: bool) {
        if let Some(of) = self.index_of(place) {
            self.namespaces[of].is_let_go = is_let_go;
        }
    }

    /// The namespaces that have left since the last call.
    pub(in crate::record) fn take_left(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.left)
    }

    /// Holds the births and deaths of the tick against each other.
    pub(super) fn resolve(
        &mut self,
        out: &mut Box<Batch>,
        flush: &mut impl FnMut(&mut Box<Batch>),
    ) {
        let Self { namespaces, scopes, live, tick, dumps, events_read_until_ns, .. } = self;
        let started_ns = tick.started.monotonic_ns;
        // The reader of events may lag behind, and what it has not read tell of those who died.
        let all_told_ns = events_read_until_ns.unwrap_or(started_ns).max(started_ns - LAG_MAX_NS);
        for (of, namespace) in namespaces.iter_mut().enumerate().filter(|(_, n)| n.is_there) {
            namespace.register.resolve(live, out, flush);
            let mut scopes = scopes[of * *dumps..][..*dumps].iter();
            let shows_all = |scope: &TrackedScope| scope.is_complete && scope.shows_half_closed();
            let mut of_tcp = scopes.clone().filter(|s| s.scope.protocol == Protocol::Tcp);
            if of_tcp.all(shows_all) {
                namespace.register.half_closed.end_tick(tick.snapshot, out);
            }
            if scopes.all(|scope| scope.is_complete || !scope.is_supported) {
                let complete_ticks = &mut namespace.complete_ticks;
                if complete_ticks[0].started_ns <= all_told_ns {
                    namespace.register.forget(complete_ticks[0].snapshot);
                    complete_ticks.rotate_left(1);
                    complete_ticks[3] = CompleteTick { snapshot: tick.snapshot, started_ns };
                }
            }
        }
    }

    /// Namespaces that nobody else holds leave if this tick has shown that they have no sockets: what is
    /// left of connections holds no namespace.
    pub(super) fn depart(&mut self, out: &mut Batch) {
        if !self.namespaces.iter().any(|namespace| namespace.is_let_go) {
            return;
        }
        let mut leaves: Vec<bool> = self
            .namespaces
            .iter()
            .enumerate()
            .map(|(of, namespace)| {
                let mut scopes = self.scopes[of * self.dumps..][..self.dumps].iter();
                namespace.is_let_go
                    && scopes.all(|scope| {
                        !scope.is_supported
                            || (scope.is_complete && scope.complete_dumps >= DUMPS_BEFORE_LEAVING)
                    })
            })
            .collect();
        for live in self.live.values().filter(|live| !live.is_over) {
            leaves[self.scopes[live.scope].of] = false;
        }
        if !leaves.contains(&true) {
            return;
        }
        let scopes = &self.scopes;
        self.live.retain(|_, live| {
            let stays = !leaves[scopes[live.scope].of];
            if !stays {
                // Nobody sees when it goes.
                out.remains_ends.push(live.remains_end(None));
            }
            stays
        });
        let last = self.tick.snapshot;
        for (of, namespace) in self.namespaces.iter_mut().enumerate().filter(|(of, _)| leaves[*of])
        {
            self.left.push(namespace.place);
            namespace.is_there = false;
            namespace.is_let_go = false;
            namespace.register = Register::new(namespace.netns, last);
            for scope in &mut self.scopes[of * self.dumps..][..self.dumps] {
                if scope.is_supported {
                    out.last_asked.push(scope.id);
                }
                scope.leave();
            }
        }
    }
}
