//! Random lives of connections, and what a recorder that looks now and then makes of them: whatever
//! it says must be so.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use sockrec::query::Question;

use crate::machine::{Connection, End, Fault, Finish, Machine, Place, SERVER_PORT};
use crate::socket::FakeSocket;
use crate::world::{Jump, SECOND, World, later};

pub const TICKS: usize = 10;
/// So soon after a TIME-WAIT began the kernel uses addresses and ports again …
const REUSE_MS: i64 = 1_000;
/// … and after an abort at once. The recorder tells apart what lies so far apart.
const REUSE_AFTER_ABORT_MS: i64 = 150;
const LISTENER_COOKIE: u64 = 1;

/// All that happens.
#[derive(Clone, Debug)]
pub struct Script {
    connections: Vec<Connection>,
    faults: HashMap<usize, Fault>,
    pub jumps: HashMap<usize, Jump>,
    /// After so many ticks the recorder is started anew, so much later.
    pub restart: Option<(usize, i64)>,
    has_listener: bool,
    listens: bool,
}

fn finish() -> impl Strategy<Value = Finish> {
    let half_closed = prop_oneof![3 => Just(0_i64), 1 => 1..400_i64, 1 => 400..3_500_i64];
    let held = prop_oneof![2 => Just(0_i64), 1 => 1..400_i64, 1 => 400..6_000_i64];
    prop_oneof![
        4 => (any::<bool>(), half_closed.clone())
            .prop_map(|(by_opener, half_closed_ms)| Finish::Closed { by_opener, half_closed_ms }),
        1 => (any::<bool>(), half_closed, held.clone()).prop_map(
            |(by_opener, half_closed_ms, held_ms)| Finish::ShutDown {
                by_opener,
                half_closed_ms,
                held_ms
            }
        ),
        3 => (any::<bool>(), held)
            .prop_map(|(by_opener, held_ms)| Finish::Aborted { by_opener, held_ms }),
        1 => Just(Finish::Refused),
        1 => Just(Finish::Never),
    ]
}

/// The recorder holds the kernel to be no more than two seconds late.
fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0_i64), 1 => 1..300_i64, 1 => 300..1_900_i64]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        3 => Just(Place::WithinHost),
        1 => Just(Place::OpenedHere),
        1 => Just(Place::OpenedAfar),
    ]
}

/// Connections with the same addresses and ports, one after the other.
fn connections_of(port: u16) -> impl Strategy<Value = Vec<Connection>> {
    let short = prop_oneof![2 => 0..60_i64, 1 => 0..3_000_i64];
    let bytes = prop_oneof![1 => Just(0_u64), 3 => 1..5_000_u64];
    let one = ((5..1_500_i64, short.clone(), short), (bytes.clone(), bytes), finish(), delay());
    (place(), -3_000..6_000_i64, prop::collection::vec(one, 1..5)).prop_map(
        move |(place, first_ms, lives)| {
            let mut begins_ms = first_ms;
            let mut connections: Vec<Connection> = Vec::new();
            for ((gap_ms, talk_ms, rest_ms), (ours, theirs), finish, event_delay_ms) in lives {
                let opened_ms = begins_ms + gap_ms;
                if let Some(before) = connections.last_mut() {
                    before.reused_ms = opened_ms;
                }
                let connection = Connection {
                    port,
                    place,
                    opened_ms,
                    exchanged_ms: opened_ms + talk_ms,
                    bytes_of_opener: ours,
                    bytes_of_acceptor: theirs,
                    finish_ms: opened_ms + talk_ms + rest_ms,
                    finish,
                    reused_ms: i64::MAX,
                    event_delay_ms,
                    event_unread_ms: 0,
                    is_looked_up: opened_ms.rem_euclid(5) > 0,
                };
                connections.push(connection);
                let Some(over_ms) = connection.over_ms() else { break };
                let leaves_rest = matches!(finish, Finish::Closed { .. } | Finish::ShutDown { .. });
                // An event that comes when others have left a TIME-WAIT does not tell that it is not its own.
                begins_ms = over_ms
                    + if leaves_rest { REUSE_MS.max(event_delay_ms) } else { REUSE_AFTER_ABORT_MS };
            }
            connections
        },
    )
}

pub fn script() -> impl Strategy<Value = Script> {
    let fault = prop_oneof![Just(Fault::Failed), Just(Fault::Interrupted), Just(Fault::EventsLost)];
    let jump = (0..3_i64, 0..2_500_i64).prop_map(|(suspended_s, late_ms)| Jump {
        utc_ns: 0,
        suspended_ns: suspended_s * SECOND,
        late_ns: late_ms * 1_000_000,
    });
    (
        connections_of(1_001),
        prop::option::of(connections_of(1_002)),
        prop::option::of(connections_of(1_003)),
        prop::collection::hash_map(1..TICKS, fault, 0..3),
        prop::collection::hash_map(1..TICKS, jump, 0..2),
        prop::option::weighted(0.3, (2..TICKS - 2, 100..4_000_i64)),
        any::<bool>(),
        (prop::bool::weighted(0.8), 0..60_i64),
    )
        .prop_map(
            |(first, second, third, mut faults, jumps, restart, has_listener, events)| {
                let others = [second, third].into_iter().flatten().flatten();
                let mut connections: Vec<_> = first.into_iter().chain(others).collect();
                let (listens, event_unread_ms) = events;
                for connection in &mut connections {
                    connection.event_unread_ms = event_unread_ms;
                }
                if let Some((tick, _)) = restart {
                    // A recorder whose first dumps all fail gives up.
                    faults.remove(&tick);
                }
                Script { connections, faults, jumps, restart, has_listener, listens }
            },
        )
}

/// A row of the answer, by column.
struct Row(HashMap<String, String>);

impl Row {
    const COLUMNS: [&str; 16] = [
        "socket_id",
        "cookie",
        "remote_port",
        "local_port",
        "opened_after",
        "opened_before",
        "closed_after",
        "closed_before",
        "closed_evidence",
        "destroyed_at",
        "direction",
        "ending",
        "peer_socket_id",
        "bytes_sent",
        "bytes_received",
        "duration_max_ns",
    ];

    fn new(line: &str) -> Self {
        let cells = line.split(' ').map(|cell| cell.split_once('=').unwrap());
        Self(cells.map(|(column, value)| (column.to_owned(), value.to_owned())).collect())
    }

    fn text(&self, column: &str) -> Option<&str> {
        Some(self.0[column].as_str()).filter(|value| *value != "-")
    }

    fn integer(&self, column: &str) -> Option<i64> {
        self.text(column).map(|value| value.parse().unwrap())
    }
}

/// Records what the script says.
pub fn recorded<T>(script: &Script, look: impl FnOnce(&World, &Machine<'_>) -> T) -> T {
    recorded_in(World::default(), script, look)
}

/// The same in a world that is given.
pub fn recorded_in<T>(
    world: World,
    script: &Script,
    look: impl FnOnce(&World, &Machine<'_>) -> T,
) -> T {
    recorded_for(TICKS, world, script, look)
}

/// The same by a recorder that ends after so many ticks.
pub fn recorded_for<T>(
    all: usize,
    mut world: World,
    script: &Script,
    look: impl FnOnce(&World, &Machine<'_>) -> T,
) -> T {
    world.listens_to_events = script.listens;
    let clock = Cell::new(world.begins);
    let mut machine = Machine::new(&script.connections, &clock);
    machine.faults = script.faults.clone();
    machine.listens = script.listens;
    if script.has_listener {
        machine.listener = Some(FakeSocket {
            local_address: Ipv4Addr::UNSPECIFIED,
            ..FakeSocket::listener(LISTENER_COOKIE, SERVER_PORT, 0, 128)
        });
    }
    let record = |world: &mut World, machine: &mut Machine<'_>, ticks: usize, first: usize| {
        world.jumps =
            script.jumps.iter().map(|(tick, jump)| (tick.wrapping_sub(first), *jump)).collect();
        world.record_with(&clock, machine, ticks as u64, &mut |_| {}).unwrap();
    };
    match script.restart.filter(|(ticks, _)| *ticks < all) {
        Some((ticks, gap_ms)) => {
            record(&mut world, &mut machine, ticks, 0);
            clock.set(later(clock.get(), gap_ms * 1_000_000));
            machine.restart();
            record(&mut world, &mut machine, all - ticks, ticks);
        }
        None => record(&mut world, &mut machine, all, 0),
    }
    look(&world, &machine)
}

/// Everything that is not so, or is missing.
fn faults_of(world: &World, machine: &Machine<'_>) -> String {
    let rows: Vec<Row> =
        world.answer(Question::Connections, &Row::COLUMNS).iter().map(|r| Row::new(r)).collect();
    let mut faults = String::new();
    for end in &machine.ends {
        check(end, machine, &rows, &mut faults);
    }
    let is_known = |row: &Row| {
        let cookie = row.integer("cookie").unwrap().cast_unsigned();
        cookie == LISTENER_COOKIE
            || machine.ends.iter().any(|e| [e.cookie, e.cookie_of_rest].contains(&cookie))
    };
    if rows.iter().any(|row| !is_known(row)) {
        writeln!(faults, "a row of nothing").unwrap();
    }
    faults
}

fn check(end: &End, machine: &Machine<'_>, rows: &[Row], faults: &mut String) {
    let cookies = [end.cookie, end.cookie_of_rest];
    let own: Vec<&Row> = rows
        .iter()
        .filter(|row| cookies.contains(&row.integer("cookie").unwrap().cast_unsigned()))
        .collect();
    let mut fault = |what: &str| {
        writeln!(faults, "cookie {}: {what}\n  {end:?}", end.cookie).unwrap();
        for row in &own {
            let mut cells: Vec<_> = row.0.iter().collect();
            cells.sort();
            writeln!(faults, "  {cells:?}").unwrap();
        }
    };
    let c = &end.connection;
    let was_seen = end.was_shown || end.was_rest_shown || end.was_told;
    match own.len() {
        // Its TIME-WAIT is taken for that of the connection before it, whose other end is afar.
        0 if end.is_held_in_time_wait() && c.place != Place::WithinHost => return,
        // What is still to be read may tell whose the TIME-WAIT is that the last dump shows first.
        0 if c.place != Place::WithinHost && machine.is_shown_last_only(end) => return,
        0 if was_seen => return fault("missed"),
        0 => return,
        1 if !was_seen => return fault("made up"),
        1 => {}
        // Its event does not tell that its FIN was acknowledged, nor do other sockets, nor a look-up.
        2 if machine.listener.is_none()
            && end.may_go_on_half_closed()
            && !end.was_shown
            && (c.place == Place::WithinHost || !c.is_looked_up) =>
        {
            return;
        }
        // Where events were lost it may be left of another, of which none will tell, unless a FIN was acknowledged for sure.
        2 if machine.listener.is_none() && !end.is_opener && machine.has_just_lost_events(end) => {
            return;
        }
        _ => return fault("doubled"),
    }
    let row = own[0];
    let utc = |ms: i64| machine.utc_ns(ms);
    let lies = |at: i64, after: &str, before: &str| {
        row.integer(after).is_none_or(|after| after <= at)
            && row.integer(before).is_none_or(|before| at <= before)
    };
    if !lies(utc(c.opened_ms), "opened_after", "opened_before") {
        fault(&format!("opened at {}", utc(c.opened_ms)));
    }
    let recorded_to_ms = machine.dumps.last().unwrap().0;
    match c.over_ms().filter(|&over_ms| over_ms <= recorded_to_ms) {
        Some(over_ms) => {
            if !lies(utc(over_ms), "closed_after", "closed_before") {
                fault(&format!("over at {}", utc(over_ms)));
            }
        }
        None => {
            if row.integer("closed_before").is_some() {
                fault("not over");
            }
        }
    }
    if let Some(at) = row.integer("destroyed_at") {
        let destroyed = end.destroyed_ms().map(utc);
        if !end.was_told || destroyed.is_none_or(|destroyed| at < destroyed) {
            fault("destroyed");
        }
    } else if end.was_told {
        fault("the event was not taken");
    }
    let direction = if end.is_opener { "outbound" } else { "inbound" };
    if row.text("direction").is_some_and(|told| told != direction) {
        fault("direction");
    }
    let ending = match c.finish {
        Finish::Closed { .. } | Finish::ShutDown { .. } => "orderly",
        Finish::Aborted { .. } => "reset",
        Finish::Refused => "not_established",
        Finish::Never => "none",
    };
    if row.text("ending").is_some_and(|told| told != ending) {
        fault("ending");
    }
    if let Some(peer) = row.integer("peer_socket_id") {
        let peer = rows.iter().find(|row| row.integer("socket_id") == Some(peer)).unwrap();
        let cookie = peer.integer("cookie").unwrap().cast_unsigned();
        let is_right = end.peer_cookie.is_some_and(|own| {
            let of_rest = machine.ends.iter().find(|e| e.cookie == own).map(|e| e.cookie_of_rest);
            cookie == own || Some(cookie) == of_rest
        });
        if !is_right {
            fault(&format!("peer {cookie}"));
        }
    }
    if end.is_told_whole() {
        let counted = (row.integer("bytes_sent"), row.integer("bytes_received"));
        let count = |bytes: u64| i64::try_from(bytes).ok();
        if counted != (count(end.bytes_sent()), count(end.bytes_received_in_all())) {
            fault("counters");
        }
    }
}

/// The same scripts each time; others with `PROPTEST_RNG_SEED`, more with `PROPTEST_CASES`.
pub fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        seed => seed,
    };
    ProptestConfig { failure_persistence: None, rng_seed, ..given }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn whatever_is_said_of_a_connection_is_so(script in script()) {
        let faults = recorded(&script, faults_of);
        prop_assert!(faults.is_empty(), "{faults}");
    }
}
