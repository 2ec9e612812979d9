//! Sockets as `ss` lays them out, for people who know `ss`.

use std::io::{self, Write};

use anstyle::Style;

use super::human::visible;
use super::options::Options;
use super::paint;
use super::row::Row;
use super::sink::Sink;
use super::{Exporter, Named, WIDEST_PADDED, check_length, short_netns};
use crate::model::{Column, Value};

/// What a table of sockets shows beside states, queues and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The processes that hold each socket, as of `ss -p`.
    pub processes: bool,
    /// A second line for each socket, as of `ss -i`.
    pub info: bool,
}

/// A table in the layout of `ss -tuan`, with host and namespace before it where there are several.
pub struct SocketTable<'w> {
    sink: Sink<'w>,
    details: Details,
    named: Named,
    color: bool,
    names: Vec<&'static str>,
    lines: Vec<Line>,
}

struct Line {
    cells: [String; COLUMNS],
    info: String,
}

const COLUMNS: usize = 9;
const HEADER: [&str; COLUMNS] = [
    "Host",
    "Netns",
    "Netid",
    "State",
    "Recv-Q",
    "Send-Q",
    "Local Address:Port",
    "Peer Address:Port",
    "Process",
];
/// Columns of numbers, on the right.
const NUMBERS: [bool; COLUMNS] = [false, false, false, false, true, true, false, false, false];

impl<'w> SocketTable<'w> {
    /// Writes to `writer` when finished; `named` tells where each socket is.
    pub fn new(
        writer: Box<dyn Write + 'w>,
        options: &Options,
        details: Details,
        named: Named,
    ) -> Self {
        let (sink, color) = (Sink::new(writer), options.color);
        Self { sink, details, named, color, names: Vec::new(), lines: Vec::new() }
    }
}

impl Row<'_> {
    fn queue(&self, bytes: &str, of_listener: &str) -> String {
        let queue = self.integer(bytes).or_else(|| self.integer(of_listener));
        queue.map_or_else(|| "-".to_owned(), |n| n.to_string())
    }

    /// The details in the words of `ss -ie`.
    fn info(&self) -> String {
        let mut words = Vec::new();
        let int = |name| self.integer(name);
        if let (timer @ ("on" | "keepalive" | "timewait" | "persist"), Some(expires)) =
            (self.text("timer").unwrap_or_default(), int("timer_expires_at"))
        {
            let left_ms = int("at").map_or(0, |now| expires.saturating_sub(now).max(0) / 1_000_000);
            let retransmits = int("timer_retransmits").unwrap_or(0);
            words.push(format!("timer:({timer},{},{retransmits})", seconds(left_ms)));
        }
        for (label, name) in [("uid", "uid"), ("ino", "inode")] {
            words.extend(int(name).map(|v| format!("{label}:{v}")));
        }
        words.extend(int("cookie").map(|v| format!("cookie:{}", v.cast_unsigned())));
        words.extend(int("mark").filter(|&v| v != 0).map(|v| format!("fwmark:{v:#x}")));
        if let Value::Text(name) = self.value("congestion_control") {
            words.push(visible(name).to_string());
        }
        if let (Some(snd), Some(rcv)) = (int("snd_wscale"), int("rcv_wscale")) {
            words.push(format!("wscale:{snd},{rcv}"));
        }
        words.extend(int("rto_us").map(|v| format!("rto:{}", millis(v))));
        if let (Some(rtt), Some(var)) = (int("rtt_us"), int("rttvar_us")) {
            words.push(format!("rtt:{}/{}", millis(rtt), millis(var)));
        }
        words.extend(int("ato_us").filter(|&v| v != 0).map(|v| format!("ato:{}", millis(v))));
        let plain = [
            ("mss", "snd_mss_bytes"),
            ("pmtu", "pmtu_bytes"),
            ("rcvmss", "rcv_mss_bytes"),
            ("advmss", "advmss_bytes"),
            ("cwnd", "snd_cwnd"),
            ("ssthresh", "snd_ssthresh"),
            ("bytes_sent", "bytes_sent"),
            ("bytes_retrans", "bytes_retrans"),
            ("bytes_acked", "bytes_acked"),
            ("bytes_received", "bytes_received"),
            ("segs_out", "segs_out"),
            ("segs_in", "segs_in"),
            ("data_segs_out", "data_segs_out"),
            ("data_segs_in", "data_segs_in"),
        ];
        for (label, name) in plain {
            words.extend(int(name).filter(|&v| v != 0).map(|v| format!("{label}:{v}")));
        }
        for (label, name) in [
            ("pacing_rate", "pacing_rate_bytes_per_s"),
            ("delivery_rate", "delivery_rate_bytes_per_s"),
        ] {
            words.extend(int(name).map(|v| format!("{label} {}bps", v.saturating_mul(8))));
        }
        if int("delivery_rate_app_limited") == Some(1) {
            words.push("app_limited".to_owned());
        }
        for (label, name) in [
            ("busy", "busy_time_us"),
            ("rwnd_limited", "rwnd_limited_us"),
            ("sndbuf_limited", "sndbuf_limited_us"),
        ] {
            let limited = int(name).filter(|&v| v != 0);
            words.extend(limited.map(|v| format!("{label}:{}ms", v / 1_000)));
        }
        for (label, name) in
            [("unacked", "unacked"), ("sacked", "sacked"), ("lost", "lost"), ("drops", "sk_drops")]
        {
            words.extend(int(name).filter(|&v| v != 0).map(|v| format!("{label}:{v}")));
        }
        if let (Some(now), Some(total)) = (int("retrans"), int("total_retrans"))
            && total != 0
        {
            words.push(format!("retrans:{now}/{total}"));
        }
        words.extend(int("rcv_rtt_us").map(|v| format!("rcv_rtt:{}", millis(v))));
        for (label, name) in [
            ("rcv_space", "rcv_space_bytes"),
            ("rcv_ssthresh", "rcv_ssthresh_bytes"),
            ("snd_wnd", "snd_wnd_bytes"),
            ("rcv_wnd", "rcv_wnd_bytes"),
            ("notsent", "notsent_bytes"),
        ] {
            words.extend(int(name).filter(|&v| v != 0).map(|v| format!("{label}:{v}")));
        }
        words.extend(int("min_rtt_us").map(|v| format!("minrtt:{}", millis(v))));
        words.join(" ")
    }
}

fn millis(us: i64) -> String {
    let text = format!("{}.{:03}", us / 1_000, us % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn seconds(ms: i64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{:03}sec", ms / 1_000, ms % 1_000),
        _ => format!("{}min{}sec", ms / 60_000, ms / 1_000 % 60),
    }
}

impl Exporter for SocketTable<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.names = columns.iter().map(|column| column.name).collect();
        Ok(())
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        check_length(self.names.len(), values.len())?;
        let row = Row { names: &self.names, values };
        let cells = [
            visible(row.text("host_name").unwrap_or("-")).to_string(),
            visible(row.text("netns").map_or("-", short_netns)).to_string(),
            visible(row.text("protocol").unwrap_or("-")).to_string(),
            visible(row.text("state").unwrap_or("-")).to_string(),
            row.queue("rqueue_bytes", "backlog"),
            row.queue("wqueue_bytes", "backlog_limit"),
            row.endpoint("local_address", "local_port"),
            row.endpoint("remote_address", "remote_port"),
            visible(row.text("owners").unwrap_or_default()).to_string(),
        ];
        let info = if self.details.info { row.info() } else { String::new() };
        self.lines.push(Line { cells, info });
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut widths = HEADER.map(str::len);
        for line in &self.lines {
            for (width, cell) in widths.iter_mut().zip(&line.cells) {
                *width = (*width).max(cell.len().min(WIDEST_PADDED));
            }
        }
        let mut shown = [true; COLUMNS];
        (shown[0], shown[1]) = (self.named.host, self.named.netns);
        shown[COLUMNS - 1] = self.details.processes;
        let write = |sink: &mut Sink<'_>, cells: [&str; COLUMNS], style: Style| {
            let mut text = String::new();
            let columns = cells.iter().zip(widths).zip(NUMBERS).zip(shown);
            for ((cell, width), is_number) in columns.filter(|(_, s)| *s).map(|(column, _)| column)
            {
                let padded = if is_number {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:width$}  ")
                };
                text.push_str(&padded);
            }
            writeln!(sink.buffer, "{style}{}{style:#}", text.trim_end())?;
            sink.line_done()
        };
        write(&mut self.sink, HEADER, if self.color { paint::TITLE } else { Style::new() })?;
        for line in &self.lines {
            let cells = std::array::from_fn(|i| line.cells[i].as_str());
            write(&mut self.sink, cells, Style::new())?;
            if !line.info.is_empty() {
                self.sink.buffer.extend_from_slice(b"         ");
                self.sink.buffer.extend_from_slice(line.info.as_bytes());
                self.sink.buffer.push(b'\n');
                self.sink.line_done()?;
            }
        }
        self.sink.finish()
    }
}
