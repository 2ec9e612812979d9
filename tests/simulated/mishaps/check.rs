//! Holds the rows of a recording against the truth.

use std::collections::HashMap;

use sockrec::query::Question;

use super::machine::Timeline;
use super::truth::{End, Truth};
use crate::socket::FakeSocket;
use crate::world::World;

const COLUMNS: &[&str] = &[
    "socket_id",
    "cookie",
    "generation",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "opened_after",
    "opened_before",
    "closed_after",
    "closed_before",
    "closed_evidence",
    "destroyed_at",
    "duration_min_ns",
    "duration_max_ns",
    "time_wait_min_ns",
    "time_wait_max_ns",
    "direction",
    "direction_evidence",
    "ending",
    "ending_evidence",
    "peer_socket_id",
    "bytes_sent",
    "bytes_acked",
    "bytes_received",
    "segs_out",
    "segs_in",
    "state",
];

/// A row by its columns; unknown values are not in it.
struct Row(HashMap<&'static str, String>);

impl Row {
    fn of(line: &str) -> Self {
        let cells = line.split(' ').zip(COLUMNS);
        let cells = cells.map(|(cell, column)| (*column, cell.split_once('=').unwrap().1));
        Self(cells.filter(|(_, v)| *v != "-").map(|(c, v)| (c, v.to_owned())).collect())
    }

    fn text(&self, column: &str) -> Option<&str> {
        assert!(COLUMNS.contains(&column), "{column} is not asked for");
        self.0.get(column).map(String::as_str)
    }

    fn number(&self, column: &str) -> Option<i64> {
        self.text(column).map(|text| text.parse().unwrap())
    }

    fn is_of(&self, end: &End) -> bool {
        let is_or_unknown = |column, value: String| self.text(column).is_none_or(|v| v == value);
        let has_tuple = is_or_unknown("local_address", end.local.0.to_string())
            && is_or_unknown("local_port", end.local.1.to_string())
            && is_or_unknown("remote_address", end.remote.0.to_string())
            && is_or_unknown("remote_port", end.remote.1.to_string());
        // What has no other end is told with none at all.
        has_tuple
            && (end.is_connection || self.text("remote_address").is_none_or(|a| a == "0.0.0.0"))
            && (!end.is_connection || self.text("remote_address").is_some())
    }
}

/// All that is said and not so, or known and not said. The recording ended at `ended_us`.
pub fn complaints(world: &World, truth: &Truth, time: &Timeline, ended_us: i64) -> Vec<String> {
    let lines = world.answer(Question::Connections, COLUMNS);
    let rows: Vec<Row> = lines.iter().map(|line| Row::of(line)).collect();
    let mut wrong = Vec::new();
    let mut row_of: Vec<Option<usize>> = vec![None; truth.ends.len()];
    for (number, row) in rows.iter().enumerate() {
        let cookie = row.text("cookie").unwrap().parse().unwrap();
        let mut may_be = (0..truth.ends.len())
            .filter(|&end| truth.has_cookie(end, cookie) && row.is_of(&truth.ends[end]));
        // A wiped event is of the last connection of its socket.
        match may_be.next_back() {
            None => wrong.push(format!("nothing was like this: {}", lines[number])),
            Some(end) => match row_of[end] {
                None => row_of[end] = Some(number),
                Some(_) if truth.may_have_gone_on_alone(end) => {}
                Some(other) => wrong.push(format!(
                    "{} has two rows:\n  {}\n  {}",
                    truth.ends[end].name, lines[other], lines[number]
                )),
            },
        }
    }
    for (number, end) in truth.ends.iter().enumerate() {
        let Some(place) = row_of[number] else {
            if end.shown.is_shown.get() || end.shown.told_us.get().is_some() {
                wrong.push(format!("{} is missed", end.name));
            }
            continue;
        };
        let row = &rows[place];
        let mut said = Vec::new();
        Checking { truth, time, number, end, row, ended_us }.all(&mut said);
        let peer = end.peer.and_then(|peer| row_of[peer]).and_then(|p| rows[p].text("socket_id"));
        if row.text("peer_socket_id").is_some_and(|told| Some(told) != peer) {
            said.push(format!("the peer is {peer:?}"));
        }
        for what in said {
            wrong.push(format!("{}: {what}\n  {}", end.name, lines[place]));
        }
    }
    wrong
}

/// A row is held against the end that it tells of.
struct Checking<'a> {
    truth: &'a Truth,
    time: &'a Timeline,
    number: usize,
    end: &'a End,
    row: &'a Row,
    ended_us: i64,
}

impl Checking<'_> {
    fn boottime(&self, us: i64) -> i64 {
        self.time.at(us).boottime_ns
    }

    /// A moment in the row by boot time.
    fn moment(&self, column: &str) -> Option<i64> {
        self.row.number(column).map(|utc_ns| self.time.boottime_of_utc(utc_ns))
    }

    fn all(&self, said: &mut Vec<String>) {
        let end = self.end;
        if end.begun_us() > -1_000_000_000 {
            self.opening(said);
        }
        self.closing(said);
        self.destruction(said);
        if end.is_connection {
            self.time_wait(said);
            self.judgement(said);
            self.counters(said);
        }
    }

    fn opening(&self, said: &mut Vec<String>) {
        let begun_ns = self.boottime(self.end.begun_us());
        if let Some(after) = self.moment("opened_after").filter(|&after| after > begun_ns) {
            said.push(format!("opened {} ms before opened_after", ms(after - begun_ns)));
        }
        if let Some(before) = self.moment("opened_before").filter(|&before| before < begun_ns) {
            said.push(format!("opened {} ms after opened_before", ms(begun_ns - before)));
        }
    }

    fn closing(&self, said: &mut Vec<String>) {
        let (after, before) = (self.moment("closed_after"), self.moment("closed_before"));
        let Some(over_us) = self.end.over_us.filter(|over_us| *over_us <= self.ended_us) else {
            if let Some(before) = before {
                let by = ms(before - self.boottime(self.ended_us));
                said.push(format!("it is still open, {by} ms after closed_before"));
            }
            return;
        };
        let over_ns = self.boottime(over_us);
        if let Some(after) = after.filter(|&after| after > over_ns) {
            said.push(format!("closed {} ms before closed_after", ms(after - over_ns)));
        }
        if let Some(before) = before.filter(|&before| before < over_ns) {
            said.push(format!("closed {} ms after closed_before", ms(over_ns - before)));
        }
        let life_ns = over_ns - self.boottime(self.end.begun_us());
        if self.row.number("duration_min_ns").is_some_and(|min| min > life_ns) {
            said.push("duration_min_ns".to_owned());
        }
        if self.row.number("duration_max_ns").is_some_and(|max| max < life_ns) {
            said.push("duration_max_ns".to_owned());
        }
    }

    fn destruction(&self, said: &mut Vec<String>) {
        let told_ns = self.end.shown.told_us.get().map(|us| self.boottime(us));
        if self.moment("destroyed_at") != told_ns {
            said.push("destroyed_at".to_owned());
        }
    }

    fn time_wait(&self, said: &mut Vec<String>) {
        let Some((from_us, until_us)) = self.end.time_wait_us else {
            if self.row.number("time_wait_min_ns").is_some() {
                said.push("it was never in TIME-WAIT".to_owned());
            }
            return;
        };
        let from_ns = self.boottime(from_us);
        let most_ns = self.boottime(until_us.min(self.ended_us)) - from_ns;
        if self.row.number("time_wait_min_ns").is_some_and(|min| min > most_ns) {
            said.push(format!("time_wait_min_ns is more than {most_ns}"));
        }
        let max = self.row.number("time_wait_max_ns");
        if max.is_some_and(|max| until_us > self.ended_us || max < most_ns) {
            said.push(format!("time_wait_max_ns is less than {most_ns}"));
        }
    }

    fn judgement(&self, said: &mut Vec<String>) {
        let direction = if self.end.is_opener { "outbound" } else { "inbound" };
        if self.row.text("direction").is_some_and(|told| told != direction) {
            said.push("direction".to_owned());
        }
        if self.row.text("ending").is_some_and(|told| !self.end.endings.contains(&told)) {
            said.push(format!("the ending is {:?}", self.end.endings));
        }
    }

    fn counters(&self, said: &mut Vec<String>) {
        let Some(freed) = self.end.freed else { return };
        if freed.is_wiped || self.end.shown.told_us.get().is_none() {
            return;
        }
        let cookie = self.truth.cookie_of_socket(self.number, freed.at_us);
        let last: FakeSocket = self.end.socket_at(freed.at_us, cookie);
        let counted = [
            ("bytes_sent", last.bytes_sent),
            ("bytes_acked", last.bytes_acked),
            ("bytes_received", last.bytes_received),
            ("segs_out", u64::from(last.segs_out)),
            ("segs_in", u64::from(last.segs_in)),
        ];
        for (column, value) in counted {
            if self.row.text(column) != Some(&value.to_string()) {
                said.push(format!("{column} is {value}"));
            }
        }
    }
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}
