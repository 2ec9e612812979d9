//! Sockets that no dump of this capture has shown under their cookie.

use super::lives::{
    announce, begin_remains, death_of_former, end_former, end_life, is_same, left_of,
    note_listener, note_subflow,
};
use super::{FirstSight, Tracker};
use crate::model::{EndEvidence, Protocol, SocketKey, TcpState};
use crate::record::batch::Batch;
use crate::record::flows::SAME_MOMENT_NS;
use crate::record::live::{Live, Sighting};
use crate::record::register::LeftOf;

impl Tracker {
    /// Takes a socket that no dump of this capture has shown under this cookie.
    pub(super) fn meet(
        &mut self,
        scope_index: usize,
        key: SocketKey,
        seen: &Sighting<'_>,
        out: &mut Batch,
    ) {
        let message = &seen.message;
        let of = self.scopes[scope_index].of;
        // Who has been seen before is told by the cookie alone.
        let former = self.formers.get(&key);
        let is_former = former.is_some_and(|former| is_same(former, &seen.message));
        let started_ns = self.tick.started.monotonic_ns;
        let told_ns = self.events_read_until_ns.unwrap_or(started_ns).min(started_ns);
        let first_sight = self.undecided.get(&message.cookie());
        let has_waited = first_sight.is_some_and(|first| first.seen != seen.snapshot);
        let register = &mut self.namespaces[of].register;
        let left_of = match is_former {
            true => LeftOf::Nobody,
            false => left_of(register, seen, told_ns, has_waited),
        };
        let gone = if let LeftOf::Socket(gone) = left_of { Some(gone) } else { None };
        // What an earlier capture took for left of another goes on as that.
        let is_ghost =
            gone.is_none() && !is_former && register.gone(seen.message.cookie()).is_some();
        if is_ghost {
            return; // its destroy event has been read
        }
        let is_held = !is_former && seen.is_closed_and_held();
        if is_held && self.is_of_time_wait(of, seen) {
            return;
        }
        let waits = is_held || seen.is_torn_down() || matches!(left_of, LeftOf::NotToldYet);
        let Some(first) = self.first_sight(scope_index, seen, waits) else { return };
        let (scope, tick) = (&mut self.scopes[scope_index], &mut self.tick);
        let register = &mut self.namespaces[of].register;
        if gone.is_none() && scope.complete_dumps > 0 && tick.new_sockets >= self.max_new_sockets {
            scope.not_stored += 1;
            return;
        }
        tick.new_sockets += u64::from(gone.is_none());
        tick.seen += 1;
        scope.seen += 1;
        scope.live += 1;
        self.rows_in_group += 1;
        let mut live = Live::new(self.next_socket, scope_index, 0, seen);
        if let Some(gone) = gone {
            live.remain(&gone, seen, out);
            let flow = seen.flow();
            let has_own_cookie = register.over(message.cookie(), flow.as_ref()).is_none();
            register.missed(message.cookie(), flow.as_ref(), out);
            begin_remains(&live, seen, has_own_cookie, register, out);
            self.live.insert(key, live);
            return;
        }
        match self.formers.remove(&key) {
            Some(former) if is_same(&former, message) => {
                live.resume(&former, seen, out);
                let flow = seen.flow().filter(|_| !live.is_over);
                let (cookie, open_by_ns) = (message.cookie(), seen.open_by_ns());
                register.resume(flow, live.socket, cookie, open_by_ns, out);
                note_listener(register, &live, seen);
                note_subflow(register, seen);
                if seen.is_over() && !live.is_over {
                    let evidence = Some(seen.over_evidence());
                    let death = death_of_former(&former, Some(tick.snapshot), evidence);
                    end_life(&mut live, death, seen, register, out);
                } else if seen.is_time_wait() && former.state != TcpState::TIME_WAIT {
                    begin_remains(&live, seen, false, register, out);
                }
                self.live.insert(key, live);
                return;
            }
            Some(former) => {
                live.generation = former.generation + 1;
                end_former(&former, Some(tick.snapshot), EndEvidence::Replaced, register, out);
            }
            None => {
                let flow = seen.flow();
                live.generation = register.generation_of(message.cookie(), flow.as_ref());
            }
        }
        self.next_socket = self.next_socket.next();
        let netns = scope.scope.netns;
        announce(&mut live, seen, netns, first, register, out);
        self.live.insert(key, live);
    }

    /// How a new socket comes, `None` while another dump is waited for.
    fn first_sight(
        &mut self,
        scope_index: usize,
        seen: &Sighting<'_>,
        waits: bool,
    ) -> Option<FirstSight> {
        let scope = &self.scopes[scope_index];
        // One in TIME-WAIT may have been missed by a dump, but not before that began.
        let opened_after = if seen.is_time_wait() {
            scope.full_view_before(seen.remains_began().from_ns)
        } else {
            // An earlier capture may have seen it too, and waited.
            scope.last_full_view().filter(|_| !waits || scope.complete_dumps > 0)
        };
        let now = FirstSight::new(seen, opened_after);
        if !waits {
            return Some(now);
        }
        let first = self.undecided.entry(seen.message.cookie()).or_insert(now);
        if first.tuple != now.tuple {
            *first = now; // another connection of the same socket
        }
        (first.seen != seen.snapshot).then_some(*first)
    }

    /// Whether this socket, closed and held, is of a connection that has its row: of that the dumps show
    /// the TIME-WAIT, under a cookie of its own.
    fn is_of_time_wait(&mut self, of: usize, seen: &Sighting<'_>) -> bool {
        let register = &self.namespaces[of].register;
        let cookie = seen.message.cookie();
        let is_known = self.held_closed.contains_key(&cookie);
        let is_so = is_known || seen.flow().is_some_and(|flow| register.has_time_wait(&flow));
        if is_so {
            self.held_closed.insert(cookie, seen.snapshot);
        }
        is_so
    }

    /// The connection request that this socket was, if a dump asked for the cookie of the request just
    /// when the socket was made: that is another one then.
    pub(super) fn request_of(
        &self,
        of: usize,
        key: &SocketKey,
        seen: &Sighting<'_>,
    ) -> Option<SocketKey> {
        if seen.protocol != Protocol::Tcp
            || seen.message.is_mini()
            || self.formers.contains_key(key)
        {
            return None;
        }
        let flows = &self.namespaces[of].register.flows;
        let member = flows.get(&seen.flow()?).filter(|m| m.dead.is_none())?;
        // It was made as the request was seen; a later one may have these addresses and ports.
        let ago_ms = seen.ago.handshake_ms().or(seen.ago.established_ms())?;
        let there_ns = (seen.made_at.after_ms - i64::from(ago_ms)) * 1_000_000;
        if there_ns > member.there.open_by_ns? + SAME_MOMENT_NS {
            return None;
        }
        let request = SocketKey { cookie: member.cookie, ..key.clone() };
        self.live.get(&request)?.is_request().then_some(request)
    }

    /// A socket goes on under another cookie.
    pub(super) fn rename(
        &mut self,
        of: usize,
        from: &SocketKey,
        to: &SocketKey,
        seen: &Sighting<'_>,
        out: &mut Batch,
    ) {
        let (Some(live), Some(flow)) = (self.live.remove(from), seen.flow()) else { return };
        let register = &mut self.namespaces[of].register;
        register.rename(&flow, live.socket, to.cookie, out);
        self.live.insert(to.clone(), live);
    }
}
