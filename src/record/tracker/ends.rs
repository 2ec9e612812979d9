//! The end of a dump, and of a tick: what the dumps lacked.

use super::lives::{end_former, end_live};
use super::{FullView, Tracker};
use crate::filter::Told;
use crate::kernel::DumpEnd;
use crate::model::{
    Clocks, EndEvidence, Exception, ExceptionKind, FormerSocket, HeldSample, TcpState,
};
use crate::record::batch::Batch;

impl Tracker {
    /// Takes the end of a scope's dump; true if the kernel never had it, and it is given up.
    pub(in crate::record) fn end_dump(
        &mut self,
        scope_index: usize,
        end: DumpEnd,
        out: &mut Batch,
    ) -> bool {
        let scope = &mut self.scopes[scope_index];
        scope.order.end_dump();
        let exception = Exception {
            snapshot: self.tick.snapshot,
            kind: ExceptionKind::DumpFailed,
            scope: Some(scope.id),
            errno: None,
            count: None,
            message: None,
        };
        let counted = |kind, count| Exception { kind, count: Some(count), ..exception.clone() };
        if scope.unreadable > 0 {
            out.exceptions.push(counted(ExceptionKind::MessagesUnreadable, scope.unreadable));
        }
        match end {
            // What could not be read might have been any of the sockets.
            DumpEnd::Complete => scope.is_complete = scope.unreadable == 0,
            DumpEnd::Interrupted => {
                let kind = ExceptionKind::DumpInterrupted;
                out.exceptions.push(Exception { kind, ..exception });
            }
            // What worked before has failed now, whatever the kernel calls it: ask again.
            DumpEnd::Unsupported if scope.complete_dumps > 0 => {
                let message = Some("the kernel no longer has it".to_owned());
                out.exceptions.push(Exception { message, ..exception });
            }
            DumpEnd::Unsupported => {
                scope.is_supported = false;
                out.last_asked.push(scope.id);
                let kind = ExceptionKind::DumpUnsupported;
                out.exceptions.push(Exception { kind, ..exception });
            }
            DumpEnd::Failed { errno, message } => {
                out.exceptions.push(Exception { errno, message: Some(message), ..exception });
            }
            DumpEnd::NotAsked => {
                let kind = ExceptionKind::NotAsked;
                out.exceptions.push(Exception { kind, ..exception });
            }
            DumpEnd::Partial(message) => {
                let (kind, message) = (ExceptionKind::PartlyAsked, Some(message));
                out.exceptions.push(Exception { kind, message, ..exception });
            }
        }
        !scope.is_supported
    }

    /// Ends the snapshot: finds what the complete dumps lacked, and completes a keyframe. `flush`
    /// takes batches that have grown full. Gives the number of sockets seen.
    pub(in crate::record) fn end_tick(
        &mut self,
        ended: Clocks,
        out: &mut Box<Batch>,
        mut flush: impl FnMut(&mut Box<Batch>),
    ) -> u64 {
        let Self { namespaces, scopes, live, tick, rows_in_group, .. } = self;
        for namespace in namespaces.iter_mut() {
            namespace.register.now_ns = ended.monotonic_ns;
        }
        let all_seen = scopes.iter().all(|s| s.seen == s.live);
        if !all_seen {
            live.retain(|_, live| {
                if live.last_seen == tick.snapshot {
                    return true;
                }
                if out.is_full() {
                    flush(out);
                }
                let scope = &mut scopes[live.scope];
                let protocol = scope.scope.protocol;
                let register = &mut namespaces[scope.of].register;
                if live.state == TcpState::LISTEN && !(register.listens && register.is_all_told) {
                    register.listeners.miss(live.socket);
                }
                if scope.is_complete && live.is_missing {
                    let (closed_before, evidence) = if scope.proves_absence {
                        (Some(tick.snapshot), EndEvidence::Absence)
                    } else {
                        (None, EndEvidence::LeftScope)
                    };
                    end_live(live, closed_before, Some(evidence), protocol, register, out);
                    scope.live -= 1;
                    return false;
                }
                if scope.is_complete {
                    live.is_missing = true;
                    out.missing.push(live.socket);
                }
                if tick.is_keyframe {
                    let (snapshot, socket) = (tick.snapshot, live.socket);
                    out.held.push(HeldSample { snapshot, socket, observed: live.last_seen });
                    live.write_row(tick.snapshot, protocol, out);
                    *rows_in_group += 1;
                }
                true
            });
        }
        let snapshot = tick.snapshot;
        for scope in scopes.iter_mut() {
            let not_stored = scope.not_stored + scope.events_not_stored;
            self.not_stored += not_stored;
            if not_stored > 0 {
                out.exceptions.push(Exception {
                    snapshot,
                    kind: ExceptionKind::SocketsNotStored,
                    scope: Some(scope.id),
                    errno: None,
                    count: Some(not_stored),
                    message: None,
                });
            }
            if !scope.is_complete {
                continue;
            }
            scope.complete_dumps += 1;
            if scope.not_stored == 0 && scope.proves_absence {
                scope.add_full_view(FullView { snapshot, ended_ns: ended.monotonic_ns });
            }
        }
        let seen = tick.seen;
        self.undecided.retain(|_, first| first.seen == snapshot);
        self.held_closed.retain(|_, last_seen| *last_seen == snapshot);
        self.end_formers(out, &mut flush);
        self.resolve(out, &mut flush);
        self.depart(out);
        seen
    }

    /// What earlier captures left open and two complete dumps of this one lacked is gone. Where not
    /// every state is asked for it stays open: it may be in another.
    fn end_formers(&mut self, out: &mut Box<Batch>, flush: &mut impl FnMut(&mut Box<Batch>)) {
        let Self { namespaces, scopes, formers, tick, chosen, .. } = self;
        if formers.is_empty() {
            return;
        }
        // Of the sockets of wider captures this one tells nothing.
        let is_chosen = |former: &FormerSocket| {
            let told = Told::of_tuple(&former.tuple);
            chosen.as_ref().is_none_or(|chosen| chosen.holds(&told) == Some(true))
        };
        for scope in scopes.iter().filter(|s| s.is_complete && s.complete_dumps == 2) {
            let looked_at = &scope.scope;
            let register = &mut namespaces[scope.of].register;
            formers.retain(|_, former| {
                let is_of_scope = former.netns == looked_at.netns
                    && former.family == looked_at.family
                    && former.protocol == looked_at.protocol;
                if is_of_scope && scope.proves_absence && is_chosen(former) {
                    if out.is_full() {
                        flush(out);
                    }
                    let absence = EndEvidence::Absence;
                    end_former(former, Some(tick.snapshot), absence, register, out);
                }
                !is_of_scope
            });
        }
    }
}
