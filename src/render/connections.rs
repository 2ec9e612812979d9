//! Lifetimes for someone in a hurry: what matters most of each connection on a line of a terminal.

use std::io::{self, Write};
use std::ops::Range;

use super::human::{self, Moment, Zone};
use super::options::Options;
use super::row::Row;
use super::sink::Sink;
use super::table::Table;
use super::{Exporter, Named, check_length, short_netns};
use crate::model::{Column, Kind, Value};

/// A table of connections that puts several columns of the answer into one.
pub struct ConnectionTable<'w> {
    table: Table<'w>,
    zone: Zone,
    moment: ShownMoment,
    named: Named,
    names: Vec<&'static str>,
}

/// The places of host and namespace among what may be shown.
const HOST: usize = 1;
const NETNS: usize = 2;

/// Which moment of a connection a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownMoment {
    /// When it was opened, by the time of day.
    Opened,
    /// The same with the date: the recording is of more than one day.
    OpenedOnDay,
    /// When it closed: lines are written as connections end.
    Closed,
}

impl ConnectionTable<'_> {
    /// The columns that it is made of; others are passed over.
    pub const COLUMNS: &'static [&'static str] = &[
        "socket_id",
        "host_name",
        "netns",
        "protocol",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "direction",
        "comm",
        "pid",
        "owner_count",
        "opened_evidence",
        "opened_before",
        "duration_min_ns",
        "duration_max_ns",
        "closed_before",
        "closed_evidence",
        "ending",
        "state",
        "bytes_sent",
        "bytes_received",
        "total_retrans",
    ];
}

/// What it shows. Texts under kind `Integer` stand on the right.
fn shown(zone: Zone, moment: ShownMoment) -> [Column; 14] {
    let moment = match (moment, zone) {
        (ShownMoment::Closed, Zone::Utc) => "closed (utc)",
        (ShownMoment::Closed, _) => "closed",
        (_, Zone::Utc) => "opened (utc)",
        _ => "opened",
    };
    [
        ("id", Kind::Integer),
        ("host", Kind::Text),
        ("netns", Kind::Text),
        ("net", Kind::Text),
        ("local", Kind::Text),
        ("remote", Kind::Text),
        ("dir", Kind::Text),
        ("process", Kind::Text),
        (moment, Kind::Integer),
        ("duration", Kind::Integer),
        ("end", Kind::Text),
        ("sent", Kind::Integer),
        ("received", Kind::Integer),
        ("retr", Kind::Integer),
    ]
    .map(|(name, kind)| Column { name, kind, about: "" })
}

impl<'w> ConnectionTable<'w> {
    /// Writes to `writer`.
    pub fn new(writer: Box<dyn Write + 'w>, options: &Options, moment: ShownMoment) -> Self {
        let table = Table::new(options, Sink::new(writer));
        Self { table, zone: options.zone, moment, named: Named::NONE, names: Vec::new() }
    }

    /// The column whose values stand below a title, if they are of one.
    pub fn column_below(title: &str) -> Option<&'static str> {
        let columns = [
            ("id", "socket_id"),
            ("host", "host_name"),
            ("netns", "netns"),
            ("net", "protocol"),
            ("dir", "direction"),
            ("process", "comm"),
            ("end", "ending"),
            ("sent", "bytes_sent"),
            ("received", "bytes_received"),
            ("retr", "total_retrans"),
        ];
        columns.into_iter().find(|(known, _)| *known == title).map(|(_, column)| column)
    }

    /// Names where each connection is.
    #[must_use]
    pub fn naming(self, named: Named) -> Self {
        Self { named, ..self }
    }

    fn without_needless_places<T>(&self, cells: [T; 14]) -> Vec<T> {
        let is_shown = |index: usize| match index {
            HOST => self.named.host,
            NETNS => self.named.netns,
            _ => true,
        };
        cells.into_iter().enumerate().filter(|(i, _)| is_shown(*i)).map(|(_, cell)| cell).collect()
    }

    fn moment(&self, row: Row<'_>) -> String {
        match self.moment {
            ShownMoment::Opened => self.opened(row, 11..19),
            ShownMoment::OpenedOnDay => self.opened(row, 5..19),
            ShownMoment::Closed => match row.integer("closed_before") {
                Some(before) => self.clipped(before, 11..23),
                None => "-".to_owned(),
            },
        }
    }

    fn clipped(&self, utc_ns: i64, place: Range<usize>) -> String {
        let moment = Moment::new(utc_ns, self.zone, false).to_string();
        moment.get(place).unwrap_or(&moment).to_owned()
    }

    /// To the second; with `<` before it where it was there already when recording began.
    fn opened(&self, row: Row<'_>, place: Range<usize>) -> String {
        let Some(before) = row.integer("opened_before") else { return "-".to_owned() };
        let was_there =
            matches!(row.text("opened_evidence"), Some("recording_start" | "extract_start"));
        let sign = if was_there { "<" } else { "" };
        format!("{sign}{}", self.clipped(before, place))
    }
}

impl Exporter for ConnectionTable<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.names = columns.iter().map(|column| column.name).collect();
        self.table.begin(&self.without_needless_places(shown(self.zone, self.moment)))
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.names.len(), values.len())?;
        let names = std::mem::take(&mut self.names);
        let row = Row { names: &names, values };
        let texts = [
            row.endpoint("local_address", "local_port"),
            row.endpoint("remote_address", "remote_port"),
            row.process().unwrap_or_else(|| "-".to_owned()),
            self.moment(row),
            lasted(row),
            size(row.integer("bytes_sent")),
            size(row.integer("bytes_received")),
        ];
        let [local, remote, process, moment, lasted, sent, received] =
            texts.each_ref().map(|text| Value::Text(text));
        let direction = row.text("direction").map_or(Value::Null, |direction| {
            Value::Text(match direction {
                "outbound" => "out",
                "inbound" => "in",
                other => other,
            })
        });
        let netns = row.text("netns").map_or(Value::Null, |netns| Value::Text(short_netns(netns)));
        let cells = self.without_needless_places([
            row.value("socket_id"),
            row.value("host_name"),
            netns,
            row.value("protocol"),
            local,
            remote,
            direction,
            process,
            moment,
            lasted,
            Value::Text(end(row)),
            sent,
            received,
            row.value("total_retrans"),
        ]);
        let result = self.table.row(&cells);
        self.names = names;
        result
    }

    fn finish(&mut self) -> io::Result<()> {
        self.table.finish()
    }
}

/// How it ended, `closed` if only that is known; else its state.
fn end(row: Row<'_>) -> &str {
    if row.text("closed_evidence") == Some("left_scope") {
        return "left_scope";
    }
    let is_closed = row.integer("closed_before").is_some();
    let how = row.text("ending").or(is_closed.then_some("closed"));
    how.or(row.text("state")).unwrap_or("-")
}

fn size(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| human::bytes(bytes).to_string())
}

/// The least and the most that it can have lasted, as one where they look the same.
fn lasted(row: Row<'_>) -> String {
    match (row.integer("duration_min_ns"), row.integer("duration_max_ns")) {
        (Some(least), Some(most)) => {
            let (least, most) = (rough(least, 0), rough(most, 1));
            if least == most { least } else { format!("{least}-{most}") }
        }
        (Some(least), None) => format!(">{}", rough(least, 0)),
        (None, Some(most)) => format!("<{}", rough(most, 1)),
        (None, None) => "-".to_owned(),
    }
}

/// A length of time in two or three digits, cut or (`up` = 1) rounded up.
fn rough(ns: i64, up: i64) -> String {
    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;
    let in_units = |unit: i64| ns.saturating_add(up * (unit - 1)) / unit;
    match ns {
        i64::MIN..S if in_units(MS) < 1_000 => format!("{}ms", in_units(MS)),
        ..10_000_000_000 if in_units(S / 10) < 100 => {
            let tenths = in_units(S / 10);
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        _ => {
            let seconds = in_units(S);
            match seconds {
                ..60 => format!("{seconds}s"),
                _ => human::duration(seconds.saturating_mul(S)).to_string(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rough_length_is_never_more_than_the_least_nor_less_than_the_most() {
        const MS: i64 = 1_000_000;
        let cases = [
            (0, "0ms", "0ms"),
            (1, "0ms", "1ms"),
            (999 * MS + 1, "999ms", "1.0s"),
            (1_234 * MS, "1.2s", "1.3s"),
            (9_950 * MS, "9.9s", "10s"),
            (59_001 * MS, "59s", "1m00s"),
            (7_500_001 * MS, "2h05m", "2h05m"),
        ];
        for (ns, cut, up) in cases {
            assert_eq!((rough(ns, 0), rough(ns, 1)), (cut.to_owned(), up.to_owned()), "{ns}");
        }
    }
}
