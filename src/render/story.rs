//! The story of a connection, for a person to read and as one JSON object.

use std::io::{self, Write};

use super::human::{bytes, duration, time, visible};
use super::options::{Format, Options};
use super::{Exporter, exporter};
use crate::query::{OwnersSought, Row, Rows, Story, has_final_counters, thinned};

/// Lines of traffic at most; more would hide what happened when.
const TRAFFIC_LINES: usize = 20;

/// Writes it for a person.
///
/// # Errors
/// Of the writer.
pub fn story_text(out: &mut dyn Write, story: &Story, options: &Options) -> io::Result<()> {
    let Some(row) = story.connection.iter().next() else { return Ok(()) };
    Text { out, options }.write(story, row)
}

struct Text<'a> {
    out: &'a mut dyn Write,
    options: &'a Options,
}

impl Text<'_> {
    fn write(&mut self, story: &Story, row: Row<'_>) -> io::Result<()> {
        self.identity(row)?;
        self.owners(story)?;
        self.opening(row)?;
        self.title("States")?;
        if story.states.is_empty() {
            self.line("no dump ever showed it")?;
        } else {
            self.table(
                &story.state_rows(),
                &["state", "seen_from", "seen_to", "in_state_min_ns", "in_state_max_ns"],
            )?;
        }
        if story.states.iter().any(|span| span.is_remains) {
            self.line("the last after the end of its life: what the kernel keeps of a connection")?;
        }
        self.traffic(story, row)?;
        self.limits(story)?;
        self.ending(row)?;
        if !story.gaps.is_empty() {
            self.title("Gaps that its life may overlap")?;
            self.table(&story.gaps, &["kind", "from", "to", "count", "message"])?;
        }
        if !story.markers.is_empty() {
            self.title("Markers in its life")?;
            self.table(&story.markers, &["marker", "started_at", "ended_at"])?;
        }
        let missing = story.not_known();
        if !missing.is_empty() {
            self.title("Not known")?;
            self.line(&missing.join("; "))?;
        }
        Ok(())
    }

    fn identity(&mut self, row: Row<'_>) -> io::Result<()> {
        let text = |name| row.text(name).unwrap_or("-");
        let number = |name: &str| row.integer(name).map_or("-".to_owned(), |n| n.to_string());
        let arrow = match row.text("direction") {
            Some("outbound") => "->",
            Some("inbound") => "<-",
            _ => "--",
        };
        let line = format!(
            "connection {}: {} {} {arrow} {}",
            number("socket_id"),
            text("protocol"),
            endpoint(row, "local_address", "local_port"),
            endpoint(row, "remote_address", "remote_port"),
        );
        writeln!(self.out, "{}", visible(&line))?;
        let cookie = row.integer("cookie").map_or(0, i64::cast_unsigned);
        let line = format!(
            "namespace {}, cookie {cookie}, inode {}, uid {}",
            text("netns"),
            number("inode"),
            number("uid"),
        );
        self.line(&line)?;
        if let Some(peer) = row.integer("peer_socket_id") {
            self.line(&format!("peer: connection {peer}"))?;
        }
        Ok(())
    }

    fn owners(&mut self, story: &Story) -> io::Result<()> {
        self.title("Owners")?;
        if story.owners.is_empty() {
            return self.line(match story.owners_sought {
                OwnersSought::Nowhere => "not looked for",
                OwnersSought::OwnProcesses => {
                    "none was found among the processes of the recorder's user; it might not look at \
                     others"
                }
                OwnersSought::Everywhere => "none was found",
            });
        }
        let is_over = story.connection.iter().any(|row| row.integer("closed_before").is_some());
        for row in story.owners.iter() {
            let user = row.text("user").map(str::to_owned);
            let user = user.or_else(|| row.integer("process_uid").map(|uid| format!("uid {uid}")));
            let from = self.time(row.integer("held_from"));
            let to = match row.integer("held_to") {
                Some(to) => self.time(Some(to)),
                None if is_over => "the end of its socket".to_owned(),
                None => "when it was last seen".to_owned(),
            };
            let user = user.unwrap_or_else(|| "an unknown user".to_owned());
            self.line(&format!("{} of {user}, from {from} at the latest to {to}", row.process()))?;
            for name in ["command_line", "exe", "unit", "container", "cgroup"] {
                if let Some(value) = row.text(name) {
                    self.line(&format!("  {:10}{value}", name.split('_').next().unwrap_or(name)))?;
                }
            }
        }
        Ok(())
    }

    fn opening(&mut self, row: Row<'_>) -> io::Result<()> {
        self.title("Opening")?;
        let before = self.time(row.integer("opened_before"));
        let line = match row.integer("opened_after") {
            Some(after) => format!("between {} and {before}", self.time(Some(after))),
            None => format!("before {before}"),
        };
        self.line(&line)?;
        self.evidence(row.text("opened_evidence"))?;
        match row.text("direction") {
            Some(direction) => {
                self.line(direction)?;
                self.evidence(row.text("direction_evidence"))
            }
            None => Ok(()),
        }
    }

    fn traffic(&mut self, story: &Story, row: Row<'_>) -> io::Result<()> {
        self.title("Traffic")?;
        let size = |name| row.integer(name).map_or("-".to_owned(), |n| bytes(n).to_string());
        if row.integer("bytes_sent").is_none() && row.integer("bytes_received").is_none() {
            return self.line("no counters are known");
        }
        self.line(&format!(
            "{}: {} sent, {} received",
            if has_final_counters(&row) { "in all" } else { "until it was last seen" },
            size("bytes_sent"),
            size("bytes_received")
        ))?;
        if row.integer("total_retrans") == Some(0) {
            self.line("retransmitted: nothing")?;
        } else if let Some(retransmitted) = row.integer("total_retrans") {
            let share = |part: Option<i64>, of: &str, what: &str| {
                let of = row.integer(of).filter(|of| *of > 0)?;
                Some(format!(", {} of the {what}", percent(part? as f64 / of as f64)))
            };
            let of_segments = share(Some(retransmitted), "data_segs_out", "data segments sent");
            let of_bytes = share(row.integer("bytes_retrans"), "bytes_sent", "bytes sent");
            self.line(&format!(
                "retransmitted: {retransmitted} segment{}{}{}",
                if retransmitted == 1 { "" } else { "s" },
                of_segments.unwrap_or_default(),
                of_bytes.unwrap_or_default()
            ))?;
        }
        if story.traffic.is_empty() {
            return self.line(match story.states.is_empty() {
                true => "no dump showed it: no rates are known",
                false => "its counters were told but once: no rates are known",
            });
        }
        let shown = thinned(&story.traffic, TRAFFIC_LINES);
        let columns = [
            "from",
            "to",
            "sent_bytes_per_s",
            "received_bytes_per_s",
            "retrans_delta",
            "rtt_us",
            "snd_cwnd",
        ];
        self.table(&Story::traffic_rows(&shown), &columns)?;
        if shown.len() < story.traffic.len() {
            self.line(&format!(
                "{} intervals in {} lines: rates are means, rtt the greatest and cwnd the least",
                story.traffic.len(),
                shown.len()
            ))?;
        }
        Ok(())
    }

    fn limits(&mut self, story: &Story) -> io::Result<()> {
        let Some(limits) = &story.limits else { return Ok(()) };
        self.title("What limited its sending")?;
        let line = match (limits.observed_ns, limits.busy_share()) {
            (Some(observed_ns), Some(busy)) => format!(
                "data outstanding for {} of {}; in the rest ({}) the application gave nothing to send",
                percent(busy),
                duration(observed_ns),
                percent(1.0 - busy)
            ),
            _ => format!(
                "data outstanding for {} in all",
                duration(limits.busy_us.saturating_mul(1_000))
            ),
        };
        self.line(&line)?;
        let parts = [
            ("network", limits.network_us()),
            ("peer's receive window", limits.rwnd_limited_us),
            ("send buffer", limits.sndbuf_limited_us),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter_map(|(what, us)| Some(format!("{what} {}", percent(limits.of_busy(us)?))))
            .collect();
        if parts.is_empty() {
            Ok(())
        } else {
            self.line(&format!("of that time: {}", parts.join(", ")))
        }
    }

    fn ending(&mut self, row: Row<'_>) -> io::Result<()> {
        self.title("Ending")?;
        let after = self.time(row.integer("closed_after"));
        match row.integer("closed_before") {
            Some(before) => {
                let before = self.time(Some(before));
                self.line(&format!("between {after} and {before}"))?;
                self.evidence(row.text("closed_evidence"))?;
            }
            None => {
                let line = match (row.integer("last_seen_at"), row.text("state")) {
                    (None, None) => format!("none is known, but not before {after}"),
                    (seen, state) => {
                        let (seen, state) = (self.time(seen), state.unwrap_or("an unknown state"));
                        format!("none is known: last seen at {seen} in {state}")
                    }
                };
                self.line(&line)?;
                self.evidence(row.text("closed_evidence"))?;
            }
        }
        if let Some(evidence) = row.text("ending_evidence") {
            self.line(row.text("ending").unwrap_or("how is not known"))?;
            self.evidence(Some(evidence))?;
        }
        let lasted = match (row.integer("duration_min_ns"), row.integer("duration_max_ns")) {
            (Some(least), Some(most)) => format!("{} to {}", duration(least), duration(most)),
            (Some(least), None) => format!("{} at least", duration(least)),
            (None, Some(most)) => format!("{} at most", duration(most)),
            (None, None) => "for an unknown time".to_owned(),
        };
        self.line(&format!("lasted {lasted}"))?;
        match (row.integer("time_wait_min_ns"), row.integer("time_wait_max_ns")) {
            (Some(least), Some(most)) => {
                let (least, most) = (duration(least), duration(most));
                self.line(&format!("TIME-WAIT after that for {least} to {most}"))?;
            }
            (Some(_), None) => {
                self.line("what was left of it was there to the end of recording")?;
            }
            (None, _) => {}
        }
        match row.integer("destroyed_at") {
            Some(at) => {
                let at = self.time(Some(at));
                self.line(&format!("the kernel freed its socket at {at}"))
            }
            None => Ok(()),
        }
    }

    fn title(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{title}")
    }

    /// A line of a part; whatever it holds, it stays one.
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {}", visible(text))
    }

    fn evidence(&mut self, word: Option<&str>) -> io::Result<()> {
        match word {
            Some(word) => self.line(&format!("  {word}: {}", in_words(word))),
            None => Ok(()),
        }
    }

    fn time(&self, ns: Option<i64>) -> String {
        ns.map_or_else(
            || "an unknown time".to_owned(),
            |ns| time(ns, self.options.zone).to_string(),
        )
    }

    /// Some columns of a part, indented.
    fn table(&mut self, rows: &Rows, names: &[&str]) -> io::Result<()> {
        let places: Vec<_> = names
            .iter()
            .filter_map(|name| rows.columns.iter().position(|column| column.name == *name))
            .collect();
        let columns: Vec<_> = places.iter().map(|&i| rows.columns[i]).collect();
        let width = self.options.width.map(|width| width.saturating_sub(2));
        let options = Options { width, ..*self.options };
        let mut body = Vec::new();
        let mut table = exporter(Format::Table, &options, Box::new(&mut body));
        table.begin(&columns)?;
        for row in rows.iter() {
            let values = row.values();
            let chosen: Vec<_> = places.iter().map(|&i| values[i]).collect();
            table.row(&chosen)?;
        }
        table.finish()?;
        drop(table);
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            self.out.write_all(b"  ")?;
            self.out.write_all(line)?;
        }
        Ok(())
    }
}

fn endpoint(row: Row<'_>, address: &str, port: &str) -> String {
    let port = match row.integer(port) {
        Some(0) => "*".to_owned(),
        Some(port) => port.to_string(),
        None => "-".to_owned(),
    };
    match row.text(address) {
        Some(address) if address.contains(':') => format!("[{address}]:{port}"),
        Some(address) => format!("{address}:{port}"),
        None => format!("-:{port}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// What a word of evidence says.
fn in_words(word: &str) -> &str {
    match word {
        "snapshot" => "a complete dump lacked it before, the next one showed it",
        "recording_start" => "it was there when recording began",
        "extract_start" => "it was there at the start of this extract",
        "event" => "no dump ever showed it, its destroy event told of it",
        "syn_sent" => "it was seen in SYN-SENT",
        "syn_recv" => "it was seen as a connection request",
        "listener" => "a listener was on its local address and port",
        "remote_listener" => "a listener was on its remote address and port, on this host",
        "syn_counted" => "the acknowledged bytes count a SYN of this end",
        "syn_not_counted" => "the acknowledged bytes count no SYN of this end",
        "peer" => "the row of the other end, on this host, tells",
        "destroy_event" => "the kernel told that it freed the socket",
        "look_up" => {
            "a look-up found it over, right after the kernel had told that it freed the socket"
        }
        "peer_destroy_event" => {
            "the kernel told that it freed the socket of the other end, aborted or closed later"
        }
        "peer_dump" => "a dump showed the other end over, or lacked it",
        "time_wait" => "a dump showed it in TIME-WAIT",
        "closed" => "dumps showed its socket closed",
        "absence" => "two complete dumps in a row lacked it",
        "replaced" => "its cookie has other addresses now",
        "host_restart" => "the machine was restarted",
        "netns_gone" => "its network namespace had gone",
        "left_scope" => "it left what was recorded and may live on",
        "recording_end" => "nobody looked any longer",
        "extract_end" => "this extract goes no further",
        "both_fins" => "the FINs of both ends were acknowledged",
        "fin_acked" => "our FIN was acknowledged; what the other end did then is not known",
        "fin_not_acked" => "it ended and no FIN of ours had been acknowledged",
        "disconnected" => "this end aborted it",
        "retransmits" => "what it retransmitted stayed unanswered to the end",
        "probes" => "its probes stayed unanswered to the end",
        "nothing_received" => "nothing came from the other end but perhaps a refusal",
        "request_vanished" => "the request went without becoming a connection",
        "half_closed" => "our FIN was acknowledged, the other end had not closed",
        _ => "a word that this version does not know",
    }
}

/// Writes it as one JSON object, each part as its rows.
///
/// # Errors
/// Of the writer.
pub fn story_json(out: &mut dyn Write, story: &Story, options: &Options) -> io::Result<()> {
    let json = |format: Format, rows: &Rows| -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut exporter: Box<dyn Exporter + '_> = exporter(format, options, Box::new(&mut body));
        exporter.begin(&rows.columns)?;
        for row in rows.iter() {
            exporter.row(&row.values())?;
        }
        exporter.finish()?;
        drop(exporter);
        let body = body.trim_ascii_end();
        Ok(if body.is_empty() { b"null".to_vec() } else { body.to_vec() })
    };
    // A line of its own is what a single object is in JSON lines.
    let parts = [
        ("connection", Format::Jsonl, &story.connection),
        ("owners", Format::Json, &story.owners),
        ("states", Format::Json, &story.state_rows()),
        ("traffic", Format::Json, &Story::traffic_rows(&story.traffic)),
        ("limits", Format::Jsonl, &story.limit_rows()),
        ("gaps", Format::Json, &story.gaps),
        ("markers", Format::Json, &story.markers),
    ];
    out.write_all(b"{\n")?;
    for (name, format, rows) in parts {
        write!(out, "\"{name}\": ")?;
        out.write_all(&json(format, rows)?)?;
        out.write_all(b",\n")?;
    }
    write!(out, "\"not_known\": {}\n}}\n", serde_json::to_string(&story.not_known())?)?;
    out.flush()
}
