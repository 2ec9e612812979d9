//! Two ends that meet in one of the few 4-tuples, and what they do to each other.

use std::io::{ErrorKind, Write};
use std::mem;
use std::thread;
use std::time::Duration;

use sockrec::model::TcpState;

use super::tuples::{Tuple, Tuples};
use crate::common::facts::Facts;
use crate::common::sockets::wait_for_state;
use crate::common::wait;
use crate::harness::Random;
use crate::scene::Side;
use crate::truth::{End, Ending, Span};

/// Who dialled that has its tuple in TIME-WAIT may dial from it again (`net.ipv4.tcp_tw_reuse_delay`).
const TIME_WAIT_REUSED_AFTER: Duration = Duration::from_millis(1_005);

/// A connection of which one end will begin to end it.
pub(crate) struct Meeting<'a> {
    pub(crate) one: Side,
    pub(crate) other: Side,
    pub(crate) one_dialled: bool,
    /// Until it is over.
    pub(crate) tuple: Option<Tuple>,
    pub(crate) tuples: &'a Tuples,
    pub(crate) random: Random,
    /// So many of a hundred ends are held …
    pub(crate) held_percent: u64,
    /// … for up to so long.
    pub(crate) held_at_most: Duration,
}

impl Meeting<'_> {
    fn happens(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Some time passes, mostly none.
    pub(crate) fn hold(&mut self) {
        if self.happens(self.held_percent) {
            let most_us = self.held_at_most.as_micros() as u64;
            // Short times are as likely as long ones.
            let most_us = most_us >> self.random.below(8);
            thread::sleep(Duration::from_micros(self.random.below(most_us.max(1))));
        }
    }

    /// Data in both directions, in one, or in none.
    pub(crate) fn talk(&mut self) {
        // Few lengths, so that two connections often had the same.
        let bytes = 1 + self.random.below(4) as u32 * 100;
        let (says, answers) = [(true, true), (true, false), (false, true), (false, false)]
            [self.random.below(4) as usize];
        if says {
            say(&mut self.one, &mut self.other, bytes);
            self.other.read(bytes);
        }
        if answers {
            say(&mut self.other, &mut self.one, 2 * bytes);
            self.one.read(2 * bytes);
        }
    }

    /// It is over: its tuple may be used again.
    fn over(&mut self) {
        if let Some(tuple) = self.tuple.take() {
            self.tuples.give_back(tuple, Duration::ZERO);
        }
    }

    /// The same where the one that began has a TIME-WAIT.
    fn over_but_for_time_wait(&mut self) {
        if self.one_dialled {
            self.over_for_both();
        }
        self.over();
    }

    fn over_for_both(&mut self) {
        if let Some(tuple) = self.tuple.take() {
            self.tuples.give_back(tuple, TIME_WAIT_REUSED_AFTER);
        }
    }

    fn ended(&mut self, ending: Ending, at: Span) {
        self.one.ended(ending, at);
        self.other.ended(ending, at);
    }

    /// One of both has been seen to be over, and so both are.
    fn ended_as_seen(&mut self, ending: Ending, began: Span, seen: Span) {
        self.ended(ending, began.until(seen));
        (self.one.end.is_seen_over, self.other.end.is_seen_over) = (true, true);
    }

    /// What one did has reset the other, which shows it if it is asked.
    fn reset(&mut self, began: Span, see: impl FnOnce(&Side)) {
        if self.happens(50) {
            self.over();
        }
        let ((), seen) = Span::of(|| see(&self.other));
        self.over();
        self.ended_as_seen(Ending::Reset, began, seen);
        self.hold();
        self.other.close();
    }

    pub(crate) fn ends(self) -> Vec<End> {
        both(self.one, self.other)
    }
}

impl Side {
    /// Sends what nobody reads any more, and is answered with a RST; when it was sent, and when that was seen.
    pub(crate) fn write_to_nobody(&mut self, bytes: u32) -> [Span; 2] {
        let (written, began) = Span::of(|| {
            let mut socket = self.socket();
            socket.write_all(&vec![b'x'; bytes as usize])
        });
        written.expect("it is not known yet that nobody reads it");
        self.end.sent += u64::from(bytes);
        let ((), seen) = Span::of(|| is_over(self));
        [began, seen]
    }
}

/// The ends of one connection.
pub(crate) fn both(one: Side, other: Side) -> Vec<End> {
    vec![End { peer: Some(1), ..one.end }, End { peer: Some(0), ..other.end }]
}

/// Sends what then lies unread at the other end.
fn say(from: &mut Side, to: &mut Side, bytes: u32) {
    let before = to.socket().unread();
    let mut socket = from.socket();
    socket.write_all(&vec![b'x'; bytes as usize]).expect("write");
    wait::until("the bytes have come", || to.socket().unread() == before + bytes);
    from.end.sent += u64::from(bytes);
    to.end.received += u64::from(bytes);
}

fn is_reset(side: &Side) {
    side.await_error(ErrorKind::ConnectionReset);
}

fn is_over(side: &Side) {
    wait_for_state(side.socket(), TcpState::CLOSE);
}

/// A way to end, as seen by the end that begins.
pub(crate) struct Way {
    /// Where the client begins, and where the server does.
    pub(crate) names: [&'static str; 2],
    weight: u64,
    /// So often it is the client: its TIME-WAIT keeps the tuple from being used again.
    client_percent: u64,
    pub(crate) play: fn(&mut Meeting<'_>),
}

impl Way {
    /// One by its weight, of which so many of a hundred are hard ones, and whether the client begins.
    pub(crate) fn any(random: &mut Random, hard_percent: u64) -> (&'static Self, bool) {
        let ways = if random.below(100) < hard_percent { HARD_WAYS } else { WAYS };
        let mut left = random.below(ways.iter().map(|way| way.weight).sum());
        for way in ways {
            match left.checked_sub(way.weight) {
                Some(less) => left = less,
                None => return (way, random.below(100) < way.client_percent),
            }
        }
        unreachable!("it is less than all weights")
    }
}

type Play = fn(&mut Meeting<'_>);

const fn orderly(names: [&'static str; 2], weight: u64, play: Play) -> Way {
    Way { names, weight, client_percent: 12, play }
}

const fn reset(names: [&'static str; 2], weight: u64, play: Play) -> Way {
    Way { names, weight, client_percent: 50, play }
}

/// Most of them.
const WAYS: &[Way] = &[
    orderly(["client closes first", "server closes first"], 20, closes),
    orderly(["client half-closes", "server half-closes"], 8, half_closes),
    orderly(["client shuts down first", "server shuts down first"], 12, shuts_down),
    orderly(["both close (client)", "both close (server)"], 2, both_close),
    reset(["client aborts", "server aborts"], 20, aborts),
    reset(["client aborts, unread", "server aborts, unread"], 6, aborts_over_unread),
    reset(["client leaves data", "server leaves data"], 12, leaves_data),
    reset(
        ["client finishes, is aborted", "server finishes, is aborted"],
        5,
        finishes_and_is_aborted,
    ),
    reset(["client finishes, aborts", "server finishes, aborts"], 5, finishes_and_aborts),
    reset(
        ["client closes, is written to", "server closes, is written to"],
        4,
        closes_and_is_written_to,
    ),
];

/// Those in which the one that aborts hardly tells whom.
const HARD_WAYS: &[Way] = &[
    reset(["client closes, is aborted", "server closes, is aborted"], 1, closes_and_is_aborted),
    reset(
        ["client closes, is aborted at once", "server closes, is aborted at once"],
        1,
        closes_and_is_aborted_at_once,
    ),
];

fn closes(m: &mut Meeting<'_>) {
    m.one.close();
    m.other.await_fin();
    m.hold();
    let ended = m.other.close();
    // Its socket may be gone before the other's FIN comes.
    m.one.end.has_peer_fin = None;
    m.ended(Ending::Orderly, ended);
    m.over_but_for_time_wait();
}

fn half_closes(m: &mut Meeting<'_>) {
    m.one.finish();
    m.other.await_fin();
    m.hold();
    if m.happens(50) {
        say(&mut m.other, &mut m.one, 300);
        m.one.read(300);
    }
    let began = m.other.close();
    let ((), seen) = Span::of(|| m.one.await_fin());
    m.ended(Ending::Orderly, began.until(seen));
    m.one.end.is_seen_over = true;
    m.over_but_for_time_wait();
    m.hold();
    m.one.close();
}

fn shuts_down(m: &mut Meeting<'_>) {
    m.one.finish();
    m.other.await_fin();
    m.hold();
    let began = m.other.finish();
    m.one.await_fin();
    let ((), seen) = Span::of(|| is_over(&m.other));
    m.ended_as_seen(Ending::Orderly, began, seen);
    m.over_but_for_time_wait();
    if m.happens(50) {
        mem::swap(&mut m.one, &mut m.other);
    }
    m.hold();
    m.one.close();
    m.hold();
    m.other.close();
}

fn both_close(m: &mut Meeting<'_>) {
    let barrier = std::sync::Barrier::new(2);
    let close = |side: &mut Side| {
        barrier.wait();
        side.close()
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| close(&mut m.other));
        (close(&mut m.one), other.join().expect("closing does not fail"))
    });
    // Not over before both have.
    let from = if one.from.boottime_ns >= other.from.boottime_ns { one.from } else { other.from };
    m.ended(Ending::Orderly, Span { from, to: one.with(other).to });
    (m.one.end.has_peer_fin, m.other.end.has_peer_fin) = (None, None);
    m.over_for_both();
}

fn aborts(m: &mut Meeting<'_>) {
    let began = m.one.abort();
    m.reset(began, is_reset);
}

fn aborts_over_unread(m: &mut Meeting<'_>) {
    say(&mut m.one, &mut m.other, 200);
    let began = m.one.abort();
    m.reset(began, is_over);
}

fn leaves_data(m: &mut Meeting<'_>) {
    say(&mut m.other, &mut m.one, 300);
    let began = m.one.close();
    m.reset(began, is_reset);
}

fn finishes_and_is_aborted(m: &mut Meeting<'_>) {
    m.one.finish();
    m.other.await_fin();
    m.hold();
    mem::swap(&mut m.one, &mut m.other);
    m.one_dialled = !m.one_dialled;
    let began = m.one.abort();
    m.reset(began, is_reset);
}

fn finishes_and_aborts(m: &mut Meeting<'_>) {
    m.one.finish();
    m.other.await_fin();
    m.hold();
    let began = m.one.abort();
    m.reset(began, is_over);
}

/// Its FIN is mostly not acknowledged yet: its socket ends by the RST.
fn closes_and_is_aborted_at_once(m: &mut Meeting<'_>) {
    m.one.close();
    m.other.await_fin();
    aborted_after_close(m);
}

/// Its socket is gone, as its FIN was acknowledged.
fn closes_and_is_aborted(m: &mut Meeting<'_>) {
    m.one.close();
    m.other.await_fin();
    // More than an acknowledgment may be delayed.
    thread::sleep(Duration::from_millis(60));
    m.hold();
    aborted_after_close(m);
}

fn aborted_after_close(m: &mut Meeting<'_>) {
    let ended = m.other.abort();
    m.ended(Ending::Reset, ended);
    m.over();
}

fn closes_and_is_written_to(m: &mut Meeting<'_>) {
    m.one.close();
    m.other.await_fin();
    m.hold();
    let [began, seen] = m.other.write_to_nobody(500);
    m.over();
    m.ended_as_seen(Ending::Reset, began, seen);
    m.hold();
    m.other.close();
}
