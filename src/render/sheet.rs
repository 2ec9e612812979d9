//! Answers for someone in a hurry: short titles, what belongs together in one cell, shares in per
//! cent, and no column that says the same nothing in every row.

use std::borrow::Cow;
use std::io::{self, Write};

use super::human::{Moment, visible};
use super::options::Options;
use super::row::Row;
use super::sink::Sink;
use super::table::{Table, numbers, write_value};
use super::{Exporter, Named, Zone, check_length};
use crate::model::{Column, Kind, Value};

/// How an answer is laid out: titles, each with what stands below it.
#[derive(Clone, Copy, Debug)]
pub struct Sheet {
    cells: &'static [(&'static str, Cell)],
    named: Named,
}

/// What a cell is made of, by names of columns.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// A column, as any table shows it.
    Plain(&'static str),
    /// The first of two columns that is known.
    Either(&'static str, &'static str),
    /// What was, and what is, where that is another thing.
    Change(&'static str, &'static str),
    /// An address with its port.
    Endpoint(&'static str, &'static str),
    /// The time of day.
    Clock(&'static str),
    /// Who opened it, in short.
    Direction(&'static str),
    /// Who held the socket first, and how many more did.
    Process,
    /// A process.
    OneProcess,
    /// Kinds of gaps.
    Gaps,
    /// A service: where is listened, or which port, or where to was connected.
    Service,
}

use Cell::{Change, Clock, Direction, Either, Endpoint, Gaps, OneProcess, Plain, Process, Service};

const LOCAL: Cell = Endpoint("local_address", "local_port");
const REMOTE: Cell = Endpoint("remote_address", "remote_port");

/// The sums of [`Sheet::PEERS`] and its like, behind what they are put together by.
macro_rules! totals {
    ($(($title:literal, $cell:expr)),+) => {
        Sheet::of(&[
            $(($title, $cell),)+
            ("conns", Plain("connections")),
            ("opened", Plain("openings")),
            ("ended", Plain("endings")),
            ("reset", Plain("endings_reset")),
            ("timeout", Plain("endings_timed_out")),
            ("failed", Plain("endings_not_established")),
            ("sent", Plain("sent_delta_bytes")),
            ("recv", Plain("received_delta_bytes")),
            ("retr", Plain("retrans_delta")),
            ("retr%", Plain("retrans_share")),
            ("max rtt", Plain("max_rtt_us")),
        ])
    };
}

impl Sheet {
    /// Of `listeners`.
    pub const LISTENERS: Self = Self::of(&[
        ("local", LOCAL),
        ("now", Plain("backlog")),
        ("limit", Plain("backlog_limit")),
        ("max", Plain("max_backlog")),
        ("max at", Clock("max_backlog_at")),
        (">half", Plain("above_half_share")),
        ("full", Plain("at_limit_share")),
        ("drops", Plain("drops_delta")),
        ("process", Process),
    ]);
    /// Of `states`.
    pub const STATES: Self = Self::of(&[
        ("from", Clock("from")),
        ("snaps", Plain("snapshots")),
        ("sockets", Plain("sockets")),
        ("estab", Plain("estab_sockets")),
        ("listen", Plain("listen_sockets")),
        ("syn-sent", Plain("syn_sent_sockets")),
        ("syn-recv", Plain("syn_recv_sockets")),
        ("fin-w1", Plain("fin_wait_1_sockets")),
        ("fin-w2", Plain("fin_wait_2_sockets")),
        ("time-w", Plain("time_wait_sockets")),
        ("close-w", Plain("close_wait_sockets")),
        ("last-ack", Plain("last_ack_sockets")),
        ("closing", Plain("closing_sockets")),
        ("unconn", Plain("unconn_sockets")),
        ("other", Plain("other_sockets")),
        ("gaps", Gaps),
    ]);
    /// Of `churn`.
    pub const CHURN: Self = Self::of(&[
        ("from", Clock("from")),
        ("snaps", Plain("snapshots")),
        ("opened", Plain("openings")),
        ("out", Plain("openings_outbound")),
        ("in", Plain("openings_inbound")),
        ("ended", Plain("endings")),
        ("orderly", Plain("endings_orderly")),
        ("reset", Plain("endings_reset")),
        ("timeout", Plain("endings_timed_out")),
        ("failed", Plain("endings_not_established")),
        ("gaps", Gaps),
    ]);
    /// Of `peers`.
    pub const PEERS: Self = totals![("peer", Plain("remote_address"))];
    /// Of `ports`.
    pub const PORTS: Self = totals![
        ("net", Plain("protocol")),
        ("dir", Direction("direction")),
        ("port", Either("local_port", "remote_port"))
    ];
    /// Of `processes`.
    pub const PROCESSES: Self = totals![("process", OneProcess)];
    /// Of `cgroups`.
    pub const CGROUPS: Self = totals![("cgroup", Plain("cgroup"))];
    /// Of `users`.
    pub const USERS: Self = totals![("user", Plain("user")), ("uid", Plain("uid"))];
    /// Of `slow`.
    pub const SLOW: Self = Self::of(&[
        ("id", Plain("socket_id")),
        ("max rtt", Plain("max_rtt_us")),
        ("retr", Plain("retrans_delta")),
        ("retr%", Plain("retrans_share")),
        ("zero-win", Plain("zero_window_samples")),
        ("limited", Plain("limited_by")),
        ("local", LOCAL),
        ("remote", REMOTE),
        ("process", Process),
        ("busy", Plain("busy_delta_us")),
        ("sent", Plain("sent_delta_bytes")),
        ("recv", Plain("received_delta_bytes")),
    ]);
    /// Of `leaks`.
    pub const LEAKS: Self = Self::of(&[
        ("kind", Plain("kind")),
        ("sockets", Plain("sockets")),
        ("before", Plain("sockets_before")),
        ("used", Plain("used_share")),
        ("time-w", Plain("time_wait_sockets")),
        ("state", Plain("state")),
        ("for", Plain("in_state_min_ns")),
        ("process", Plain("owners")),
        ("remote", REMOTE),
        ("id", Plain("socket_id")),
    ]);
    /// Of `diff`.
    pub const DIFF: Self = Self::of(&[
        ("change", Plain("change")),
        ("id", Plain("socket_id")),
        ("net", Plain("protocol")),
        ("state", Change("state_before", "state")),
        ("local", LOCAL),
        ("remote", REMOTE),
        ("process", Process),
        ("sent", Plain("sent_delta_bytes")),
        ("recv", Plain("received_delta_bytes")),
        ("retr", Plain("retrans_delta")),
        ("backlog", Change("backlog_before", "backlog")),
    ]);

    /// Of `compare`.
    pub const COMPARE: Self = Self::of(&[
        ("change", Plain("change")),
        ("role", Direction("role")),
        ("net", Plain("protocol")),
        ("service", Service),
        ("process", Plain("comm")),
        ("conns", Change("connections_before", "connections")),
        ("failed", Change("failures_before", "failures")),
        ("retr%", Change("retrans_share_before", "retrans_share")),
        ("max rtt", Change("max_rtt_before_us", "max_rtt_us")),
        ("backlog", Change("max_backlog_before", "max_backlog")),
        ("drops", Change("drops_before", "drops_delta")),
        ("sent", Change("sent_before_bytes", "sent_delta_bytes")),
        ("recv", Change("received_before_bytes", "received_delta_bytes")),
    ]);

    const fn of(cells: &'static [(&'static str, Cell)]) -> Self {
        Self { cells, named: Named::NONE }
    }

    /// The same with where each row is of.
    #[must_use]
    pub const fn naming(self, named: Named) -> Self {
        Self { named, ..self }
    }

    fn cells(self) -> impl Iterator<Item = (&'static str, Cell)> {
        let host = self.named.host.then_some(("host", Plain("host_name")));
        let netns = self.named.netns.then_some(("netns", Plain("netns")));
        host.into_iter().chain(netns).chain(self.cells.iter().copied())
    }

    /// The column whose values stand below a title, if they are of one.
    pub fn column_below(self, title: &str) -> Option<&'static str> {
        self.cells().find(|(known, _)| *known == title).and_then(|(_, cell)| match cell {
            Plain(name) | Clock(name) | Direction(name) | Change(_, name) => Some(name),
            _ => None,
        })
    }

    /// The columns that it is made of.
    pub fn columns(self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (_, cell) in self.cells() {
            match cell {
                Plain(a) | Clock(a) | Direction(a) => names.push(a),
                Either(a, b) | Change(a, b) | Endpoint(a, b) => names.extend([a, b]),
                Process => names.extend(["pid", "comm", "owner_count"]),
                OneProcess => names.extend(["pid", "comm"]),
                Gaps => names.push("gaps"),
                Service => names.extend([
                    "role",
                    "local_address",
                    "local_port",
                    "remote_address",
                    "remote_port",
                ]),
            }
        }
        names
    }
}

/// A table in such a layout.
pub struct SheetTable<'w> {
    table: Table<'w>,
    sheet: Sheet,
    zone: Zone,
    with_date: bool,
    names: Vec<&'static str>,
    columns: Vec<Column>,
    options: Options,
}

impl<'w> SheetTable<'w> {
    /// Writes to `writer`; with `with_date` moments have their day.
    pub fn new(
        writer: Box<dyn Write + 'w>,
        options: &Options,
        sheet: Sheet,
        with_date: bool,
    ) -> Self {
        let table = Table::new(options, Sink::new(writer)).without_blank_columns();
        let (names, columns, zone) = (Vec::new(), Vec::new(), options.zone);
        Self { table, sheet, zone, with_date, names, columns, options: *options }
    }

    fn title(&self, title: &'static str, cell: Cell) -> Column {
        let name = match (cell, title, self.zone) {
            (Clock(_), "from", Zone::Utc) => "from (utc)",
            (Clock(_), "max at", Zone::Utc) => "max at (utc)",
            _ => title,
        };
        let is_right = match cell {
            Plain(name) | Either(name, _) | Change(name, _) => self.is_number(name),
            Clock(_) => true,
            Endpoint(..) | Direction(_) | Process | OneProcess | Gaps | Service => false,
        };
        // Texts under kind `Integer` stand on the right.
        let kind = if is_right { Kind::Integer } else { Kind::Text };
        Column { name, kind, about: "" }
    }

    fn is_number(&self, name: &str) -> bool {
        self.columns.iter().any(|column| {
            column.name == name
                && matches!(column.kind, Kind::Integer | Kind::Duration | Kind::Real)
        })
    }

    fn cell(&self, cell: Cell, row: Row<'_>) -> Option<Cow<'static, str>> {
        let text = match cell {
            Plain(name) => return self.plain(name, row),
            Either(a, b) => return self.plain(a, row).or_else(|| self.plain(b, row)),
            Change(before, after) => match (self.plain(before, row), self.plain(after, row)) {
                (Some(before), Some(after)) if before != after => format!("{before}->{after}"),
                (before, after) => return after.or(before),
            },
            Endpoint(address, port) => {
                if row.value(address) == Value::Null && row.value(port) == Value::Null {
                    return None;
                }
                row.endpoint(address, port)
            }
            Clock(name) => {
                let moment = Moment::new(row.integer(name)?, self.zone, false).to_string();
                let place = if self.with_date { 5..19 } else { 11..19 };
                moment.get(place).unwrap_or(&moment).to_owned()
            }
            Direction(name) => match row.text(name)? {
                "outbound" => "out".to_owned(),
                "inbound" => "in".to_owned(),
                other => visible(other).to_string(),
            },
            Process | OneProcess => row.process()?,
            Gaps => visible(row.text("gaps").unwrap_or("none")).to_string(),
            Service => match (row.text("role"), row.integer("local_port")) {
                (Some("listener"), _) => row.endpoint("local_address", "local_port"),
                (_, Some(port)) => format!(":{port}"),
                _ => row.endpoint("remote_address", "remote_port"),
            },
        };
        Some(text.into())
    }

    fn plain(&self, name: &str, row: Row<'_>) -> Option<Cow<'static, str>> {
        let column = self.columns.iter().find(|column| column.name == name)?;
        let value = row.value(name);
        if value == Value::Null {
            return None;
        }
        if let (Value::Real(share), false) = (value, self.options.exact)
            && name.contains("share")
        {
            return Some(per_cent(share).into());
        }
        let mut text = String::new();
        write_value(&mut text, &value, numbers(column, &self.options), self.options.exact).ok()?;
        Some(text.into())
    }
}

impl Exporter for SheetTable<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.names = columns.iter().map(|column| column.name).collect();
        self.columns = columns.to_vec();
        let titles: Vec<_> = self.sheet.cells().map(|(t, cell)| self.title(t, cell)).collect();
        self.table.begin(&titles)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.names.len(), values.len())?;
        let row = Row { names: &self.names, values };
        let texts: Vec<_> = self.sheet.cells().map(|(_, cell)| self.cell(cell, row)).collect();
        let cells: Vec<_> =
            texts.iter().map(|text| text.as_deref().map_or(Value::Null, Value::Text)).collect();
        self.table.row(&cells)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.table.finish()
    }
}

/// Cut to a tenth, so that what is shown has been reached: 100% is all.
fn per_cent(share: f64) -> String {
    let tenths = (share * 1_000.0 + 1e-9) as i64;
    match tenths {
        0 if share > 0.0 => "<0.1%".to_owned(),
        _ if tenths % 10 == 0 => format!("{}%", tenths / 10),
        _ => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::per_cent;

    #[test]
    fn a_share_is_never_shown_as_more_than_it_is_nor_as_none() {
        let cases = [(0.0, "0%"), (1e-9, "<0.1%"), (0.07, "7%"), (0.9999, "99.9%"), (1.0, "100%")];
        for (share, text) in cases {
            assert_eq!(per_cent(share), text, "{share}");
        }
    }
}
