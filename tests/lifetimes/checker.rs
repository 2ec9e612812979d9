//! Holds a recording against the log of what happened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::namespace::Surroundings;
use crate::recording::Row;
use crate::truth::{Direction, End, Ending, LastWord, Log, Span};

/// On a busy machine the kernel may carry a FIN or RST to the other end of a loopback connection so
/// long after the call that sent it.
const SETTLING_NS: i64 = 1_000_000_000;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Ends that a recording must have.
    pub(crate) made: usize,
    /// Those of them that it has.
    pub(crate) recorded: usize,
    /// Ends of established connections that are recorded, and of how many the direction is known.
    pub(crate) established: usize,
    pub(crate) directed: usize,
    /// Of how many of these the other end is known, and how they ended.
    pub(crate) paired: usize,
    pub(crate) ending_known: usize,
    /// Whether the recording itself says that events were lost or not stored.
    pub(crate) says_lost: bool,
    /// From the closing of a descriptor to the time by which the recording knows of it.
    delays_ns: Vec<i64>,
    /// How many of these an event told of, of either end, or a look-up that it gave rise to.
    told_by_event: usize,
    missed: Complaints,
    undirected: Complaints,
    wrong: Complaints,
}

/// What is not as it should be, by what and of which kind of end: how often, and one example.
#[derive(Debug, Default)]
struct Complaints(BTreeMap<(&'static str, &'static str), (usize, String)>);

impl Complaints {
    fn add(&mut self, what: &'static str, kind: &'static str, example: impl FnOnce() -> String) {
        self.0.entry((what, kind)).or_insert_with(|| (0, example())).0 += 1;
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((what, kind), (times, example)) in &self.0 {
            writeln!(f, "{what}, {times} times of {kind:?}, such as\n{example}")?;
        }
        Ok(())
    }
}

/// Both addresses, as far as a row or an end has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// No remote one: there is no other end.
    Known { protocol: String, local: SocketAddr, remote: Option<SocketAddr> },
    /// What is left when the kernel has wiped the rest.
    Wiped { protocol: String, local_port: u16, remote: IpAddr },
}

impl Place {
    fn of_end(end: &End) -> Self {
        let remote = Some(end.remote).filter(|remote| !remote.ip().is_unspecified());
        Self::Known { protocol: end.protocol.name().to_owned(), local: end.local, remote }
    }

    fn of_end_wiped(end: &End) -> Self {
        Self::Wiped {
            protocol: end.protocol.name().to_owned(),
            local_port: end.local.port(),
            remote: end.remote.ip(),
        }
    }

    /// `None`: not even that is known.
    fn of_row(row: &Row) -> Option<Self> {
        let protocol = row.protocol.clone();
        let local_port = row.local_port?;
        let remote = row.remote_address.filter(|address| !address.is_unspecified());
        let remote_port = row.remote_port.filter(|&port| port != 0);
        match (row.local_address, remote, remote_port) {
            (Some(local), Some(remote), Some(port)) => Some(Self::Known {
                protocol,
                local: (local, local_port).into(),
                remote: Some((remote, port).into()),
            }),
            (Some(local), None, None) => {
                Some(Self::Known { protocol, local: (local, local_port).into(), remote: None })
            }
            (_, Some(remote), _) => Some(Self::Wiped { protocol, local_port, remote }),
            (None, None, _) | (_, None, Some(_)) => None,
        }
    }
}

/// Holds them against each other. The recording ended at `ended`.
pub(crate) fn check(log: &Log, rows: &[Row], around: Surroundings, ended: Span) -> Verdict {
    let mut verdict = Verdict {
        says_lost: ["events_lost", "sockets_not_stored"]
            .iter()
            .any(|gap| rows.iter().any(|row| has_gap(row, gap))),
        ..Verdict::default()
    };
    let row_of = matched(&log.ends, rows, ended);
    verdict.look_for_extra(&log.ends, rows, &row_of, around);
    for (end, row) in log.ends.iter().zip(&row_of) {
        match row {
            Some(row) => verdict.compare(end, row, ended),
            None if !end.is_elusive => {
                verdict.missed.add("not recorded", end.kind, || shown(end, None));
            }
            None => {}
        }
        verdict.made += usize::from(!end.is_elusive);
        verdict.recorded += usize::from(!end.is_elusive && row.is_some());
        if let (Some(row), Some(place)) = (row, end.peer) {
            verdict.compare_peer(end, row, &log.ends[place], row_of[place]);
        }
    }
    verdict
}

fn has_gap(row: &Row, kind: &str) -> bool {
    row.gaps.as_ref().is_some_and(|gaps| gaps.contains(kind))
}

/// The row of each end: the one with its cookie, if that is known. Else, where a tuple was used again, a row is
/// that of the end about which it says the least that is wrong.
fn matched<'a>(ends: &[End], rows: &'a [Row], ended: Span) -> Vec<Option<&'a Row>> {
    let mut row_of = vec![None; ends.len()];
    let is_wiped = |place: &Place, row: &Row| {
        matches!(place, Place::Wiped { .. }) || row.addresses_inferred == Some(true)
    };
    let mut rows: Vec<(Place, &Row)> =
        rows.iter().filter_map(|row| Some((Place::of_row(row)?, row))).collect();
    // Those that are known for certain choose first, and before what the same socket was until then.
    rows.sort_by_key(|(place, row)| {
        let known = row.closed_before.unwrap_or(i64::MAX);
        (is_replaced(row), is_wiped(place, row), known, row.socket_id)
    });
    let mut ends_at: HashMap<Place, Vec<usize>> = HashMap::new();
    let mut ends_with: HashMap<u64, Vec<usize>> = HashMap::new();
    for (number, end) in ends.iter().enumerate() {
        if let Some(cookie) = end.cookie {
            ends_with.entry(cookie).or_default().push(number);
        }
        for place in [Place::of_end(end), Place::of_end_wiped(end)] {
            ends_at.entry(place).or_default().push(number);
        }
    }
    let mut end_of: HashMap<i64, usize> = HashMap::new();
    for (place, row) in rows {
        let meant = ends_with.get(&row.cookie).or_else(|| ends_at.get(&place));
        let free = meant.into_iter().flatten().filter(|&&n| row_of[n].is_none());
        let peer = row.peer_socket_id.and_then(|peer| end_of.get(&peer));
        let best = free.min_by_key(|&&number| {
            let end = &ends[number];
            let is_other_word = is_wiped(&place, row) != (end.last_word == LastWord::Wiped);
            // Of two connections in a row with nothing to tell them apart.
            let is_of_other = peer.is_some_and(|&peer| ends[peer].peer != Some(number));
            let began = end.opened.from.boottime_ns;
            let wrong = complaints(end, row, ended).len();
            (wrong, end.is_elusive, is_other_word, is_of_other, began)
        });
        if let Some(&number) = best {
            row_of[number] = Some(row);
            end_of.insert(row.socket_id, number);
        }
    }
    row_of
}

fn is_replaced(row: &Row) -> bool {
    row.closed_evidence.as_deref() == Some("replaced")
}

/// Whether what happened in the span, or so long after it, may have happened within these bounds. `None` is
/// none.
fn may_lie(span: Span, late_ns: i64, after: Option<i64>, before: Option<i64>) -> bool {
    before.is_none_or(|before| before >= span.from.utc_ns)
        && after.is_none_or(|after| after <= span.to.utc_ns + late_ns)
}

/// Everything that a row says of an end and that is not so.
fn complaints(end: &End, row: &Row, ended: Span) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let mut is_so = |what, is_so: bool| {
        if !is_so {
            wrong.push(what);
        }
    };
    is_so("opened", may_lie(end.opened, 0, row.opened_after, row.opened_before));
    is_so("cookie", end.cookie.is_none_or(|cookie| cookie == row.cookie));
    is_so("address or port", are_addresses_right(end, row));
    is_so("TIME-WAIT is no state of life", row.state.as_deref() != Some("TIME-WAIT"));
    if let Some(closed) = end.closed {
        let late_ns = if end.is_seen_over { 0 } else { SETTLING_NS };
        is_so("closed", may_lie(closed, late_ns, row.closed_after, row.closed_before));
        let longest = closed.to.boottime_ns + late_ns - end.opened.from.boottime_ns;
        let shortest = closed.from.boottime_ns - end.opened.to.boottime_ns;
        is_so("duration_min_ns", row.duration_min_ns.is_none_or(|min| min <= longest));
        is_so("duration_max_ns", row.duration_max_ns.is_none_or(|max| max >= shortest));
        let since = ended.to.boottime_ns - closed.from.boottime_ns;
        is_so("time_wait_min_ns", row.time_wait_min_ns.is_none_or(|min| min <= since));
    } else {
        is_so("it is still open", row.closed_before.is_none() && row.ending.is_none());
    }
    let time_wait = row.time_wait_min_ns.zip(row.time_wait_max_ns);
    is_so("time_wait_max_ns", time_wait.is_none_or(|(min, max)| min <= max));
    if end.ending.is_some_and(|ending| ending != Ending::Orderly) {
        is_so("no TIME-WAIT follows", row.time_wait_min_ns.is_none_or(|min| min == 0));
    }
    if let Some(destroyed_at) = row.destroyed_at {
        let let_go = end.let_go.map(|span| span.from.utc_ns);
        is_so("destroyed", let_go.is_some_and(|from| from <= destroyed_at));
    }
    let is_alone = end.is_tcp() && end.peer.is_none() && end.local != end.remote;
    is_so("there is no other end", !is_alone || row.peer_socket_id.is_none());
    let direction = end.direction.map(Direction::name);
    is_so("direction", row.direction.is_none() || row.direction.as_deref() == direction);
    if end.was_established() {
        // Some things only the last word tells.
        let must_be_known = end.last_word == LastWord::Full && row.gaps.is_none();
        is_so("bytes", are_bytes_right(end, row, must_be_known));
        // Our FIN that was acknowledged does not tell what the other end did.
        let must_be_known = must_be_known && end.peer.is_some();
        is_so("ending", is_ending_right(end, row, must_be_known));
    }
    wrong
}

/// As far as they are known.
fn are_addresses_right(end: &End, row: &Row) -> bool {
    let is_right = |told: Option<IpAddr>, address: SocketAddr| {
        told.is_none_or(|told| told.is_unspecified() || told == address.ip())
    };
    is_right(row.local_address, end.local)
        && is_right(row.remote_address, end.remote)
        && row.local_port.is_none_or(|port| port == end.local.port())
        && row.remote_port.is_none_or(|port| port == 0 || port == end.remote.port())
}

fn are_bytes_right(end: &End, row: &Row, must_be_known: bool) -> bool {
    let sent = row.bytes_sent.zip(row.bytes_retrans).map(|(sent, again)| sent - again);
    let received = row.bytes_received;
    if must_be_known {
        return sent == Some(end.sent) && received.is_some_and(|n| end.may_have_received(n));
    }
    if row.destroyed_at.is_some() && end.last_word == LastWord::Full {
        return sent.is_none_or(|n| n == end.sent)
            && received.is_none_or(|n| end.may_have_received(n));
    }
    let most = end.received + u64::from(end.has_peer_fin != Some(false));
    sent.is_none_or(|n| n <= end.sent) && received.is_none_or(|n| n <= most)
}

fn is_ending_right(end: &End, row: &Row, must_be_known: bool) -> bool {
    let Some(ending) = end.ending else { return true };
    let is_plain = matches!(ending, Ending::Orderly | Ending::Reset);
    match row.ending.as_deref() {
        Some(said) => ending.names().contains(&said),
        None => !(must_be_known && is_plain),
    }
}

impl Verdict {
    /// Rows of sockets that were not, or that have a row already.
    fn look_for_extra(
        &mut self,
        ends: &[End],
        rows: &[Row],
        row_of: &[Option<&Row>],
        around: Surroundings,
    ) {
        let taken: HashSet<i64> = row_of.iter().flatten().map(|row| row.socket_id).collect();
        let own: HashSet<Place> =
            ends.iter().flat_map(|end| [Place::of_end(end), Place::of_end_wiped(end)]).collect();
        for row in rows.iter().filter(|row| !taken.contains(&row.socket_id)) {
            // A socket may be seen between bind() and connect(): that was something too.
            let is_of_taken =
                |other: &&Row| taken.contains(&other.socket_id) && other.cookie == row.cookie;
            if is_replaced(row) && rows.iter().any(|other| is_of_taken(&other)) {
                continue;
            }
            let place = Place::of_row(row);
            if place.is_some_and(|place| own.contains(&place)) {
                self.wrong.add("a second row of the same end", "any", || format!("{row:#?}"));
            } else if around == Surroundings::Own {
                self.wrong.add("a row of nothing that ever was", "none", || format!("{row:#?}"));
            }
        }
    }

    fn compare(&mut self, end: &End, row: &Row, ended: Span) {
        for what in complaints(end, row, ended) {
            self.wrong.add(what, end.kind, || shown(end, Some(row)));
        }
        if end.was_established() {
            self.established += 1;
            self.directed += usize::from(row.direction.is_some());
            self.paired += usize::from(row.peer_socket_id.is_some());
            self.ending_known += usize::from(row.ending.is_some());
            if row.direction.is_none() {
                self.undirected.add("direction", end.kind, || shown(end, Some(row)));
            }
        }
        // How late it is known tells nothing where the connection ended before the descriptor did.
        if let (Some(closed), Some(let_go), Some(known)) =
            (end.closed, end.let_go, row.closed_before)
            && closed.to.boottime_ns == let_go.to.boottime_ns
        {
            self.delays_ns.push(known - closed.to.utc_ns);
            let evidence = row.closed_evidence.as_deref().unwrap_or_default();
            let is_event = ["destroy_event", "peer_destroy_event", "look_up"].contains(&evidence);
            self.told_by_event += usize::from(is_event);
        }
    }

    fn compare_peer(&mut self, end: &End, row: &Row, peer: &End, peer_row: Option<&Row>) {
        let is_right = match (row.peer_socket_id, peer_row) {
            (Some(said), Some(peer_row)) => said == peer_row.socket_id,
            (Some(_), None) => false,
            (None, None) => true,
            (None, Some(peer_row)) => {
                // Of a wiped end the other one cannot always be told.
                let is_told =
                    |end: &End, row: &Row| end.last_word == LastWord::Full && row.gaps.is_none();
                !(is_told(end, row) && is_told(peer, peer_row))
            }
        };
        if !is_right {
            self.wrong.add("peer", end.kind, || {
                format!("{}\n  of its peer\n{}", shown(end, Some(row)), shown(peer, peer_row))
            });
        }
    }

    /// How often something is wrong.
    pub(crate) fn times_wrong(&self) -> usize {
        self.wrong.0.values().map(|(times, _)| times).sum()
    }

    /// How often it is what.
    pub(crate) fn wrong_by_kind(&self) -> String {
        let mut times_of = BTreeMap::new();
        for ((what, _), (times, _)) in &self.wrong.0 {
            *times_of.entry(what).or_insert(0) += times;
        }
        let told: Vec<_> = times_of.iter().map(|(what, times)| format!("{times} {what}")).collect();
        told.join(", ")
    }

    /// Whether nothing that is said is wrong.
    pub(crate) fn is_true(&self) -> bool {
        self.wrong.is_empty()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_wrong(&self) {
        assert!(self.wrong.is_empty(), "wrong:\n{}", self.wrong);
    }

    /// Nothing that is said may be wrong, and nothing missing unless that is said.
    #[track_caller]
    pub(crate) fn assert_true(&self) {
        assert!(self.wrong.is_empty(), "wrong:\n{}missing:\n{}", self.wrong, self.missed);
        let directed = self.directed * 100 >= self.established * 99;
        assert!(
            directed,
            "direction known of {} out of {}, not known:\n{}",
            self.directed, self.established, self.undirected
        );
        if !self.says_lost {
            self.assert_none_missed();
        }
    }

    #[track_caller]
    pub(crate) fn assert_none_missed(&self) {
        assert!(self.missed.is_empty(), "missing:\n{}", self.missed);
    }

    /// How long after the fact half, nine in ten … of the closings were known.
    pub(crate) fn delays(&self) -> String {
        let at = |permille| self.delay_ns(permille) as f64 / 1e6;
        let [half, most, nearly_all, all] = [500, 900, 990, 1000].map(at);
        format!("p50 {half:.2} p90 {most:.2} p99 {nearly_all:.2} max {all:.2} ms")
    }

    /// Most closings were known without waiting for a dump.
    #[track_caller]
    pub(crate) fn assert_known_by_events(&self) {
        let (told, of) = (self.told_by_event, self.delays_ns.len());
        assert!(told * 2 > of, "events told of {told} of {of}: {}", self.delays());
    }

    /// Within which so many of a thousand closings were known.
    fn delay_ns(&self, permille: usize) -> i64 {
        let mut delays = self.delays_ns.clone();
        delays.sort_unstable();
        delays.get(delays.len().saturating_sub(1) * permille / 1000).copied().unwrap_or_default()
    }
}

/// An end and what is recorded of it, all times in milliseconds since it began to open.
fn shown(end: &End, row: Option<&Row>) -> String {
    let origin = end.opened.from.utc_ns;
    let ms = |ns: i64| format!("{:.3}", (ns - origin) as f64 / 1e6);
    let span = |span: Span| format!("{}..{}", ms(span.from.utc_ns), ms(span.to.utc_ns));
    let known = |ns: Option<i64>| ns.map_or("?".to_owned(), ms);
    let direction = end.direction.map(Direction::name);
    let truth = format!(
        "  really {} {} -> {} {direction:?} cookie {:?}, opened {}, closed {}, let go {}, sent {} received {} (FIN: {:?}), {:?}, {:?}",
        end.protocol.name(),
        end.local,
        end.remote,
        end.cookie,
        span(end.opened),
        end.closed.map_or("never".to_owned(), span),
        end.let_go.map_or("never".to_owned(), span),
        end.sent,
        end.received,
        end.has_peer_fin,
        end.ending,
        end.last_word,
    );
    let Some(row) = row else { return truth };
    format!(
        "{truth}\n  recorded opened {}..{}, closed {}..{}, destroyed {}; as {row:?}",
        known(row.opened_after),
        known(row.opened_before),
        known(row.closed_after),
        known(row.closed_before),
        known(row.destroyed_at),
    )
}
