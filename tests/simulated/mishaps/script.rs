//! Random scripts: how the recorder is run, and what connections are made meanwhile.

use proptest::collection::vec;
use proptest::prelude::*;

/// Connections that lie so far apart are told apart by their times.
const TOLD_APART_US: i64 = 150_000;
const HELD_SHORTLY_US: i64 = 50_000;

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// One end closes, the other so much later.
    Closed { half_us: i64, is_shutdown: bool },
    /// One end aborts (`SO_LINGER` 0): the other is reset.
    Aborted,
    /// One end closes with unread data: the other is reset.
    Unread,
    /// The opener connects its socket anew (`AF_UNSPEC`): the other is reset.
    Reconnected,
    /// Nobody listens.
    Refused { is_blocking: bool },
    /// A request whose last segment never comes.
    Unanswered,
}

/// Data that goes over a connection, when it has lived for so many thousandths of its life.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    pub at_permille: i64,
    pub by_opener: bool,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Connection {
    /// So long after the addresses and ports are free again.
    pub gap_us: i64,
    pub life_us: i64,
    pub course: Course,
    /// Who closes first, aborts or is closed with unread data.
    pub by_opener: bool,
    /// So long the socket of each end is held after its connection is over: opener, acceptor.
    pub hold_us: [i64; 2],
    /// For so long the opener's socket is bound before.
    pub bound_us: i64,
    pub transfers: Vec<Transfer>,
}

/// Where the ends of a slot's connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Within,
    ToAfar,
    FromAfar,
}

/// Connections of the same addresses and ports, one after the other.
#[derive(Clone, Debug)]
pub struct Slot {
    pub place: Place,
    /// Until an answer comes from afar.
    pub rtt_us: i64,
    /// They follow each other at once.
    pub is_quick: bool,
    pub connections: Vec<Connection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpFate {
    Complete,
    /// After so many thousandths.
    Failed(i64),
    Interrupted,
}

#[derive(Clone, Copy, Debug)]
pub struct Tick {
    pub late_us: i64,
    pub takes_us: i64,
    pub fate: DumpFate,
    /// A living socket that the walk misses, by its number among all.
    pub misses: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub listens: bool,
    pub ticks: Vec<Tick>,
    /// Until the next run begins.
    pub gap_us: i64,
}

/// Something that happens in the course of time, which is given in thousandths of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub at_permille: i64,
    pub us: i64,
}

#[derive(Clone, Debug)]
pub struct Script {
    pub interval_us: i64,
    pub runs: Vec<Run>,
    pub slots: Vec<Slot>,
    /// In which the reader of events does not read.
    pub stalls: Vec<Span>,
    /// In which events are lost.
    pub losses: Vec<Span>,
    pub suspends: Vec<Span>,
    /// In hours.
    pub clock_steps: Vec<(i64, i64)>,
}

/// From a fraction of a millisecond to many seconds, each order of magnitude as likely.
fn any_length() -> impl Strategy<Value = i64> {
    (200_i64..2_000, 0_u32..5).prop_map(|(us, order)| us * 10_i64.pow(order))
}

fn often_none(length: impl Strategy<Value = i64>) -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => length]
}

fn any_course() -> impl Strategy<Value = Course> {
    prop_oneof![
        4 => (often_none(any_length()), any::<bool>())
            .prop_map(|(half_us, is_shutdown)| Course::Closed { half_us, is_shutdown }),
        2 => Just(Course::Aborted),
        1 => Just(Course::Unread),
        1 => Just(Course::Reconnected),
        1 => any::<bool>().prop_map(|is_blocking| Course::Refused { is_blocking }),
        1 => Just(Course::Unanswered),
    ]
}

fn any_transfer() -> impl Strategy<Value = Transfer> {
    (0_i64..1_000, any::<bool>(), 1_u64..5_000)
        .prop_map(|(at_permille, by_opener, bytes)| Transfer { at_permille, by_opener, bytes })
}

fn any_connection() -> impl Strategy<Value = Connection> {
    let hold = || often_none(any_length());
    (
        prop_oneof![Just(0), any_length()],
        any_length(),
        any_course(),
        any::<bool>(),
        [hold(), hold()],
        often_none(any_length()),
        vec(any_transfer(), 0..4),
    )
        .prop_map(|(gap_us, life_us, course, by_opener, hold_us, bound_us, mut transfers)| {
            transfers.sort_by_key(|transfer| transfer.at_permille);
            Connection { gap_us, life_us, course, by_opener, hold_us, bound_us, transfers }
        })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let place =
        prop_oneof![3 => Just(Place::Within), 1 => Just(Place::ToAfar), 1 => Just(Place::FromAfar)];
    (place, 1_000_i64..80_000, any::<bool>(), vec(any_connection(), 1..8)).prop_map(
        |(place, rtt_us, is_quick, connections)| Slot {
            place,
            rtt_us: if place == Place::Within { 40 } else { rtt_us },
            is_quick,
            connections,
        },
    )
}

/// The kernel's times are true to some ticks, and to how late an event was read: connections of the
/// same addresses and ports that follow each other faster are told apart by the order of their events
/// only. So none is lost or late then.
fn with_bearable_haste(mut slot: Slot, is_told_at_once: bool, latest_us: i64) -> Slot {
    for connection in &mut slot.connections {
        if slot.is_quick && is_told_at_once {
            connection.hold_us = [0, 0];
        } else {
            connection.gap_us += TOLD_APART_US + latest_us;
        }
    }
    // The event of a socket that is shut down and held comes long after its connection was over, and
    // nothing in it tells.
    let is_used_again = slot.connections.len() > 1;
    for connection in slot.connections.iter_mut().filter(|_| is_used_again) {
        if matches!(connection.course, Course::Closed { is_shutdown: true, .. }) {
            connection.hold_us = connection.hold_us.map(|us| us.min(HELD_SHORTLY_US));
        }
    }
    slot
}

fn any_tick() -> impl Strategy<Value = Tick> {
    let fate = prop_oneof![
        6 => Just(DumpFate::Complete),
        1 => (0_i64..1_000).prop_map(DumpFate::Failed),
        1 => Just(DumpFate::Interrupted),
    ];
    let misses = prop_oneof![8 => Just(None), 1 => (0_usize..40).prop_map(Some)];
    let late = prop_oneof![8 => Just(0), 2 => 0_i64..20_000, 1 => 0_i64..4_000_000];
    (late, 100_i64..20_000, fate, misses).prop_map(|(late_us, takes_us, fate, misses)| Tick {
        late_us,
        takes_us,
        fate,
        misses,
    })
}

fn any_run() -> impl Strategy<Value = Run> {
    (prop::bool::weighted(0.8), vec(any_tick(), 2..14), any_length()).prop_map(
        |(listens, mut ticks, gap_us)| {
            // A recorder whose first dump fails gives up.
            if matches!(ticks[0].fate, DumpFate::Failed(_)) {
                ticks[0].fate = DumpFate::Interrupted;
            }
            Run { listens, ticks, gap_us }
        },
    )
}

fn few_spans(longest_us: i64) -> impl Strategy<Value = Vec<Span>> {
    let span =
        (0_i64..1_000, 1_000..longest_us).prop_map(|(at_permille, us)| Span { at_permille, us });
    prop_oneof![2 => Just(Vec::new()), 1 => vec(span, 1..3)]
}

pub fn any_script() -> impl Strategy<Value = Script> {
    let intervals = prop_oneof![1 => Just(100_000), 2 => Just(1_000_000), 1 => Just(8_000_000)];
    let steps = vec((0_i64..1_000, prop_oneof![Just(-2), Just(-1), Just(1), Just(3)]), 0..2);
    (
        intervals,
        vec(any_run(), 1..4),
        vec(any_slot(), 1..5),
        few_spans(3_000_000),
        few_spans(3_000_000),
        few_spans(60_000_000),
        steps,
    )
        .prop_map(|(interval_us, runs, slots, stalls, losses, suspends, clock_steps)| {
            let is_told_at_once =
                losses.is_empty() && stalls.is_empty() && runs.iter().all(|run: &Run| run.listens);
            let latest_us = stalls.iter().chain(&losses).map(|span: &Span| span.us).sum();
            let slots =
                slots.into_iter().map(|slot| with_bearable_haste(slot, is_told_at_once, latest_us));
            Script {
                interval_us,
                slots: slots.collect(),
                runs,
                stalls,
                losses,
                suspends,
                clock_steps,
            }
        })
}
