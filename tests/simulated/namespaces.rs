//! Namespaces that come, are let go of and leave, and those that there is no time for.

use std::cell::Cell;
use std::collections::HashMap;

use sockrec::kernel::{DumpEnd, EventBatch, NamespaceNews, Refusal};
use sockrec::model::{
    Clocks, Family, MadeAt, NamespaceFacts, Place, Protocol, RefusedNamespace, States,
};
use sockrec::query::Question;
use sockrec::record::Kernel;
use sockrec::store::Before;

use crate::extracts::extract_to;
use crate::harness::{Dir, assert_recording_is_whole};
use crate::merges::merged;
use crate::retention::prune_before;
use crate::socket::{FakeEvent, FakeSocket};
use crate::world::{SECOND, World, later, sql_of};

/// What namespaces show from the tick on in which they come; after the last one it stays so.
#[derive(Default)]
struct Script {
    shows: HashMap<(Place, usize), Vec<Vec<FakeSocket>>>,
    arrives: HashMap<usize, Vec<Place>>,
    let_go: HashMap<usize, Vec<(Place, bool)>>,
    /// Read before the dumps of a tick.
    told: HashMap<usize, Vec<(Place, FakeEvent)>>,
    /// Those that cannot be entered, by their names, and those that can after all.
    refuses: HashMap<usize, Vec<&'static str>>,
    admits: HashMap<usize, Vec<&'static str>>,
    /// What each dump takes.
    dump_ns: i64,
    /// From this tick on each begins another group.
    keyframes_from: Option<usize>,
}

impl Script {
    fn arrives(&mut self, tick: usize, place: u32, shows: &[&[&FakeSocket]]) -> &mut Self {
        let shows = shows.iter().map(|tick| tick.iter().map(|s| (*s).clone()).collect()).collect();
        self.shows.insert((Place(place), tick), shows);
        if place > 0 {
            self.arrives.entry(tick).or_default().push(Place(place));
        }
        self
    }

    fn lets_go(&mut self, tick: usize, place: u32, is_let_go: bool) -> &mut Self {
        self.let_go.entry(tick).or_default().push((Place(place), is_let_go));
        self
    }

    fn record(&self, world: &World, ticks: u64) -> Vec<Place> {
        let clock = Cell::new(world.begins);
        let mut kernel = Scripted {
            script: self,
            clock: &clock,
            tick: 0,
            has_told: false,
            told_in: 0,
            since: HashMap::new(),
            left: Vec::new(),
        };
        world.record_with(&clock, &mut kernel, ticks, &mut |_| ()).unwrap();
        assert_recording_is_whole(&world.path());
        kernel.left
    }
}

struct Scripted<'s> {
    script: &'s Script,
    clock: &'s Cell<Clocks>,
    /// Counts from 1; what is there before the first is told at 0.
    tick: usize,
    has_told: bool,
    told_in: usize,
    since: HashMap<Place, usize>,
    left: Vec<Place>,
}

impl Kernel for Scripted<'_> {
    fn dump(
        &mut self,
        place: Place,
        family: Family,
        _: Protocol,
        _: States,
        each: &mut dyn FnMut(&mut [u8], MadeAt),
    ) -> DumpEnd {
        assert!(!self.left.contains(&place), "asked after it left");
        let now_ms = self.clock.get().monotonic_ms();
        let since = self.since.get(&place).copied().unwrap_or(0);
        let age = self.tick - since.max(1);
        let ticks = &self.script.shows[&(place, since)];
        for socket in &ticks[age.min(ticks.len() - 1)] {
            each(&mut socket.message(family, now_ms), MadeAt::just(now_ms));
        }
        self.clock.set(later(self.clock.get(), self.script.dump_ns));
        DumpEnd::Complete
    }

    fn wants_keyframe(&self) -> bool {
        self.script.keyframes_from.is_some_and(|from| from <= self.tick + 1)
    }

    fn listens_to_events(&self) -> bool {
        true
    }

    fn take_events(&mut self, batch: &mut EventBatch) {
        if self.told_in == self.tick {
            return;
        }
        self.told_in = self.tick;
        let now = self.clock.get();
        for (place, event) in self.script.told.get(&self.tick).into_iter().flatten() {
            let payload = event.message(Protocol::Tcp, Family::Inet, now.monotonic_ms());
            batch.push_of(*place, &payload, now, now.boottime_ns);
        }
    }

    fn follows_namespaces(&self) -> bool {
        true
    }

    /// Asked before the first tick, and at the beginning of each.
    fn namespace_news(&mut self) -> NamespaceNews {
        if self.has_told {
            self.tick += 1;
        }
        self.has_told = true;
        let mut news = NamespaceNews::default();
        for &place in self.script.arrives.get(&self.tick).into_iter().flatten() {
            self.since.insert(place, self.tick);
            self.left.retain(|left| *left != place);
            news.arrived.push((place, facts(place)));
        }
        news.let_go = self.script.let_go.get(&self.tick).cloned().unwrap_or_default();
        let refused = self.script.refuses.get(&self.tick).into_iter().flatten();
        news.refused.extend(refused.map(|name| refusal(name)));
        let admitted = self.script.admits.get(&self.tick).into_iter().flatten();
        news.admitted.extend(admitted.map(|name| (*name).to_owned()));
        news
    }

    fn leave(&mut self, place: Place) {
        self.left.push(place);
    }
}

fn refusal(name: &str) -> Refusal {
    Refusal {
        path: name.to_owned(),
        namespace: RefusedNamespace {
            name: name.to_owned(),
            errno: Some(1),
            message: "Operation not permitted".to_owned(),
        },
        is_forbidden: true,
        is_said: false,
    }
}

fn facts(place: Place) -> NamespaceFacts {
    NamespaceFacts {
        cookie: Some(100 + u64::from(place.0)),
        inode: Some(4_026_532_000 + u64::from(place.0)),
        name: Some(format!("ns{}", place.0)),
        local_ports: None,
    }
}

fn spans(world: &World) -> Vec<String> {
    world.sql(
        "SELECT w.name, cs.first_snapshot_id, cs.last_snapshot_id FROM capture_scopes AS cs
         JOIN scopes AS sc ON sc.scope_id = cs.scope_id
         JOIN namespaces AS w ON w.netns_id = sc.netns_id
         ORDER BY cs.capture_id, w.netns_id",
    )
}

const LIFE: &[&str] = &["netns", "cookie", "opened_after", "closed_before", "closed_evidence"];

#[test]
fn each_namespace_is_asked_from_its_first_snapshot_to_its_last() {
    let world = World::default();
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_001, 80));
    let mut script = Script::default();
    script.arrives(0, 0, &[&[&a]]).arrives(0, 1, &[&[]]).arrives(3, 2, &[&[], &[&b], &[&b], &[]]);
    // While it has a socket it stays.
    script.lets_go(2, 1, true).lets_go(4, 2, true);
    assert_eq!(script.record(&world, 10), [Place(1), Place(2)]);
    assert_eq!(spans(&world), ["- 1 -", "ns1 1 2", "ns2 3 7"]);
    let rows = world.answer(Question::Connections, &["netns", "cookie", "closed_evidence"]);
    assert_eq!(
        rows,
        [
            "netns=net:[4026531833] cookie=1 closed_evidence=recording_end",
            "netns=ns2 cookie=2 closed_evidence=absence"
        ]
    );
    let complete = world.sql(
        "SELECT w.name, count(*) FROM complete_dumps AS d
         JOIN scopes AS sc ON sc.scope_id = d.scope_id
         JOIN namespaces AS w ON w.netns_id = sc.netns_id GROUP BY w.netns_id",
    );
    assert_eq!(complete, ["- 10", "ns1 2", "ns2 5"]);
}

#[test]
fn the_same_addresses_in_two_namespaces_are_two_connections() {
    let world = World::default();
    // Both ends in the one, one end in the other.
    let a = FakeSocket::established(1, 1_001, 80);
    let b = a.peer(2);
    let c = FakeSocket::established(3, 1_001, 80);
    let mut script = Script::default();
    script.arrives(0, 0, &[&[&a, &b]]).arrives(0, 1, &[&[&c]]);
    script.record(&world, 3);
    let peers = world.sql("SELECT cookie, netns_id, peer_socket_id FROM sockets ORDER BY cookie");
    assert_eq!(peers, ["1 1 2", "2 1 1", "3 2 -"]);
}

/// What is told of the one and shown of the other comes in turns.
#[test]
fn both_ends_are_found_whatever_comes_between_them_elsewhere() {
    let world = World::default();
    let pair = |cookie, port| {
        let opener = FakeSocket::established(cookie, port, 80);
        (opener.peer(cookie + 1), opener)
    };
    let (a, b) = pair(1, 1_001);
    let (c, d) = pair(3, 1_002);
    let unseen = FakeSocket::established(5, 1_003, 80).opened_at(1_500);
    let mut script = Script::default();
    script.arrives(0, 0, &[&[], &[&a, &b]]).arrives(0, 1, &[&[], &[&c, &d]]);
    script.told.insert(2, vec![(Place(1), unseen.destroyed())]);
    script.record(&world, 4);
    let peers = world.sql(
        "SELECT k.cookie, k.netns_id, p.cookie FROM sockets AS k
         LEFT JOIN sockets AS p ON p.socket_id = k.peer_socket_id ORDER BY k.cookie",
    );
    assert_eq!(peers, ["1 1 2", "2 1 1", "3 2 4", "4 2 3", "5 2 -"]);
    // The same event of the other namespace is of another socket.
    let ends = world.sql("SELECT socket_id FROM socket_ends WHERE destroyed_at_ns IS NOT NULL");
    assert_eq!(ends.len(), 1);
}

/// More than are stored in one go.
#[test]
fn what_is_left_of_a_new_connection_is_stored_however_many_are_new_elsewhere() {
    let world = World::default();
    let many = |n: u16| FakeSocket::established(100 + u64::from(n), 2_000 + n, 80);
    let many: Vec<FakeSocket> = (0..3_000).map(many).collect();
    let many: Vec<&FakeSocket> = many.iter().collect();
    let unseen = FakeSocket::established(5, 1_003, 80).opened_at(900).fin_acked().fin_received();
    let rest = FakeSocket { cookie: 7, ..unseen.time_wait_since(900) };
    let mut script = Script::default();
    script.arrives(0, 0, &[&[], &many]).arrives(0, 1, &[&[], &[&rest]]);
    script.told.insert(2, vec![(Place(1), unseen.destroyed())]);
    script.record(&world, 4);
    assert_eq!(world.sql("SELECT socket_id, first_snapshot_id FROM remains"), ["1 2"]);
}

#[test]
fn what_is_left_of_connections_ends_with_its_namespace() {
    let world = World::default();
    let a = FakeSocket::established(1, 1_001, 80);
    let rest = a.time_wait_since(2_500);
    let mut script = Script::default();
    script.arrives(0, 0, &[&[]]).arrives(0, 1, &[&[&a], &[&a], &[&rest]]);
    script.lets_go(3, 1, true);
    assert_eq!(script.record(&world, 6), [Place(1)]);
    let remains = world
        .sql("SELECT first_snapshot_id, last_snapshot_id, gone_before_snapshot_id FROM remains");
    assert_eq!(remains, ["3 3 -"]);
    assert_eq!(world.sql("SELECT count(*) FROM open_sockets"), ["0"]);
}

#[test]
fn one_that_comes_back_was_not_asked_meanwhile() {
    let world = World::default();
    let a = FakeSocket::established(1, 1_001, 80);
    let mut script = Script::default();
    script.arrives(0, 0, &[&[]]).arrives(0, 1, &[&[]]).lets_go(1, 1, true);
    script.arrives(6, 1, &[&[&a]]);
    script.record(&world, 8);
    assert_eq!(spans(&world), ["- 1 -", "ns1 1 -"]);
    let not_asked =
        world.sql("SELECT snapshot_id FROM exceptions WHERE kind = 'not_asked' ORDER BY 1");
    assert_eq!(not_asked, ["3", "4", "5"]);
    assert_eq!(world.sql("SELECT count(*) FROM unasked_namespaces"), ["3"]);
}

#[test]
fn one_that_is_held_again_stays() {
    let world = World::default();
    let a = FakeSocket::established(1, 1_001, 80);
    let mut script = Script::default();
    script.arrives(0, 0, &[&[]]).arrives(0, 1, &[&[&a], &[&a], &[]]);
    script.lets_go(1, 1, true).lets_go(2, 1, false);
    assert_eq!(script.record(&world, 6), []);
    assert_eq!(spans(&world), ["- 1 -", "ns1 1 -"]);
}

#[test]
fn where_the_time_does_not_suffice_they_take_turns_and_nothing_closes() {
    let world = World::default();
    let sockets: Vec<_> = (0..5).map(|n| FakeSocket::established(n + 1, 1_001, 80)).collect();
    // Two fit into half of an interval, and the third is begun before that is over.
    let mut script = Script { dump_ns: SECOND / 5, ..Script::default() };
    for (place, socket) in (0..5).zip(&sockets) {
        script.arrives(0, place, &[&[socket]]);
    }
    script.record(&world, 10);
    let asked = world.sql(
        "SELECT sc.netns_id, count(*) FROM complete_dumps AS d
         JOIN scopes AS sc ON sc.scope_id = d.scope_id GROUP BY sc.netns_id",
    );
    assert_eq!(asked, ["1 6", "2 6", "3 6", "4 6", "5 6"]);
    assert_eq!(world.sql("SELECT DISTINCT kind FROM exceptions"), ["not_asked"]);
    let rows = world.answer(Question::Connections, LIFE);
    assert_eq!(rows.len(), 5);
    assert!(
        rows.iter().all(|row| row.ends_with("closed_before=- closed_evidence=recording_end")),
        "{rows:?}"
    );
    let told = world.sql("SELECT sum(snapshots) FROM gaps WHERE kind = 'not_asked'");
    assert_eq!(told, world.sql("SELECT count(*) FROM exceptions WHERE kind = 'not_asked'"));
    // One gap, however many they are; of one of them its own.
    let file = world.path();
    let asked = |line: &str| Dir::new().sockrec(&format!("query {line} -f '{}'", file.display()));
    let gaps = |filter: &str| {
        let columns = "--format csv --columns kind,netns,protocol,snapshots,count,message";
        let told = asked(&format!("coverage {columns} {filter}")).fine().stdout();
        let rows = told.lines().filter(|line| line.starts_with("not_asked"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(gaps(""), ["not_asked,,,10,20,up to 2 network namespaces at a time"]);
    let of_one = gaps("netns = ns3");
    assert_eq!(of_one.len(), 4, "{of_one:?}");
    assert!(of_one.iter().all(|row| row.starts_with("not_asked,ns3,tcp,1,,")), "{of_one:?}");
    let columns = "--format csv --columns kind,snapshots,complete_snapshots";
    let recorded = asked(&format!("coverage {columns} kind = recorded")).stdout();
    assert_eq!(recorded.matches("recorded,10,6\n").count(), 5, "{recorded}");
    let info = asked("at now");
    let told =
        "nobody asked for tcp/inet in 2 network namespaces: the sockets are shown as last observed";
    assert!(info.stderr.contains(told), "{}", info.told());
}

#[test]
fn the_next_capture_goes_on_with_each_namespace() {
    let mut world = World::default();
    let (a, b) = (FakeSocket::established(1, 1_001, 80), FakeSocket::established(2, 1_001, 80));
    let mut script = Script::default();
    script.arrives(0, 0, &[&[&a]]).arrives(0, 1, &[&[&b]]);
    script.record(&world, 3);
    world.begins = later(world.begins, 10 * SECOND);
    // The one socket is still there, the other is not.
    let mut script = Script::default();
    script.arrives(0, 0, &[&[&a]]).arrives(0, 1, &[&[]]);
    script.record(&world, 3);
    assert_eq!(world.sql("SELECT count(*) FROM sockets"), ["2"]);
    let ends = world.sql("SELECT socket_id, last_snapshot_id, evidence FROM socket_ends");
    assert_eq!(ends, ["2 3 absence"]);
    assert_eq!(spans(&world), ["- 1 -", "ns1 1 -", "- 4 -", "ns1 4 -"]);
    let scopes = world.sql("SELECT count(*), count(DISTINCT netns_id) FROM scopes");
    assert_eq!(scopes, ["2 2"]);
}

#[test]
fn whose_turn_it_was_and_who_was_refused_outlives_extract_merge_and_prune() {
    let world = World::default();
    let sockets: Vec<_> = (0..5).map(|n| FakeSocket::established(n + 1, 1_001, 80)).collect();
    let mut script = Script { dump_ns: SECOND / 5, keyframes_from: Some(6), ..Script::default() };
    for (place, socket) in (0..5).zip(&sockets) {
        script.arrives(0, place, &[&[socket]]);
    }
    // Twice, from the begin and again; one to the end; one that came right between.
    script.refuses.extend([(0, vec!["web1", "web2"]), (7, vec!["web1"]), (2, vec!["web3"])]);
    script.admits.extend([(3, vec!["web1"]), (4, vec!["web3"])]);
    script.record(&world, 40);

    let coverage = "SELECT kind, netns, first_snapshot_id, last_snapshot_id, errno, message
        FROM gaps WHERE kind = 'netns_refused' ORDER BY netns, first_snapshot_id";
    let refused = world.sql(coverage);
    let why = "1 Operation not permitted";
    assert_eq!(
        refused,
        [
            format!("netns_refused web1 1 2 {why}"),
            format!("netns_refused web1 7 40 {why}"),
            format!("netns_refused web2 1 40 {why}"),
            format!("netns_refused web3 2 3 {why}")
        ]
    );
    // A row a namespace and snapshot, not one a scope.
    let turns = "SELECT u.snapshot_id, w.netns_cookie FROM unasked_namespaces AS u
        JOIN namespaces AS w ON w.netns_id = u.netns_id ORDER BY 1, 2";
    let unasked = world.sql(turns);
    assert_eq!(unasked.len(), (5 - 3) * 40);
    assert_eq!(world.sql("SELECT count(*) FROM noted_exceptions"), ["0"]);

    let cut = world.sql("SELECT started_at_ns - 1 FROM snapshots WHERE snapshot_id = 6");
    let cut: i64 = cut[0].parse().unwrap();
    let part = |name: &str, span| {
        let to = world.path().with_file_name(name);
        extract_to(&world.path(), span, Before::Everyone, &to).unwrap()
    };
    let (one, two) = (part("one.db", (i64::MIN, cut)), part("two.db", (cut, i64::MAX)));
    let whole = merged(&[&two, &one], world.path().with_file_name("whole.db"));
    for path in [&one, &two, &whole] {
        assert_recording_is_whole(path);
    }
    assert_eq!(sql_of(&whole, coverage), refused);
    assert_eq!(sql_of(&whole, turns), unasked);

    let (first, _) = prune_before(&whole, cut);
    assert!(first > 3, "{first}");
    assert_recording_is_whole(&whole);
    let is_held = |row: &&String| row.split(' ').next().unwrap().parse::<i64>().unwrap() >= first;
    let held: Vec<_> = unasked.iter().filter(is_held).cloned().collect();
    assert_eq!(sql_of(&whole, turns), held);
    let names = sql_of(&whole, "SELECT name, first_snapshot_id FROM refused_namespaces");
    assert_eq!(names, ["web1 7", "web2 1"]);
}
