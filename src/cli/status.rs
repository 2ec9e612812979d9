//! `sockrec info --live`: how recording goes.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::Exit;
use super::args::InfoArgs;
use super::message::{usage, warn};
use super::output::{counted, rfc3339, stdout, zone};
use super::pauses::ROOM_BYTES;
use crate::kernel::{SystemClock, free_bytes, host_facts};
use crate::query::{Recording, Status};
use crate::render::Format;
use crate::render::human::{bytes, duration, time, visible};

pub(super) fn run(args: &InfoArgs) -> anyhow::Result<Exit> {
    let recording = Recording::open(&args.file)?;
    let boot = host_facts().ok().map(|host| host.boot_uuid);
    let Some(status) = recording.status(SystemClock.now(), boot.as_deref())? else {
        return Err(usage("nothing was ever recorded here", None));
    };
    let free = free_bytes(&args.file);
    match args.format.unwrap_or(Format::Table) {
        Format::Table => text(args, &status, free)?,
        Format::Json => writeln!(stdout(), "{:#}", in_json(&status, free))?,
        other => {
            let text = format!("`info --live` is no table, which {other} would need");
            return Err(usage(text, Some("use `--format json`")));
        }
    }
    if !status.is_being_recorded {
        let is_full = free.is_some_and(|bytes| bytes < ROOM_BYTES);
        warn(match is_full {
            true => {
                "nobody records into it; the disk is full: a recorder that pauses goes on once \
                     there is room"
            }
            false => "nobody records into it",
        });
        return Ok(Exit::Gaps);
    }
    if status.is_behind() {
        warn(&format!("the next snapshot is overdue by {}", duration(status.lag_ns.unwrap_or(0))));
        return Ok(Exit::Gaps);
    }
    Ok(Exit::Fine)
}

fn in_json(status: &Status, free: Option<u64>) -> serde_json::Value {
    json!({
        "is_being_recorded": status.is_being_recorded,
        "capture_id": status.capture_id,
        "started_at": rfc3339(status.started_at_ns),
        "interval_ns": status.interval_ns,
        "snapshots": status.snapshots,
        "last_snapshot_at": status.last_snapshot_at_ns.map(rfc3339),
        "lag_ns": status.lag_ns,
        "sockets": status.sockets,
        "missed_ticks": status.missed_ticks,
        "left_out_ticks": status.left_out_ticks,
        "failed_dumps": status.failed_dumps,
        "event_losses": status.event_losses,
        "file_bytes": status.sizes.file_bytes,
        "log_bytes": status.sizes.log_bytes,
        "unused_bytes": status.unused_bytes,
        "max_bytes": status.max_bytes,
        "free_bytes": free,
        "growth_bytes_per_day": status.growth_bytes_per_day.map(f64::round),
        "days_that_fit": status.days_that_fit(free).map(|days| (days * 10.0).round() / 10.0),
    })
}

fn text(args: &InfoArgs, status: &Status, free: Option<u64>) -> std::io::Result<()> {
    let zone = zone(args.utc);
    let mut out = stdout();
    let mut line = |name: &str, text: String| writeln!(out, "{name:<15} {text}");
    let state = if status.is_being_recorded { "being recorded" } else { "nobody records" };
    line(&name_of(&args.file), state.to_owned())?;
    let every = status.interval_ns.map_or(String::new(), |ns| format!(", every {}", duration(ns)));
    line("since", format!("{}{every}", time(status.started_at_ns, zone)))?;
    if let Some(at_ns) = status.last_snapshot_at_ns {
        let sockets = counted(status.sockets.unwrap_or(0).unsigned_abs(), "socket");
        line("last snapshot", format!("{}, {sockets}", time(at_ns, zone)))?;
    }
    line("snapshots", status.snapshots.to_string())?;
    let lag = match status.lag_ns {
        Some(0) => "none".to_owned(),
        Some(lag_ns) => format!("{} overdue", duration(lag_ns)),
        None => "-".to_owned(),
    };
    line("lag", lag)?;
    let left_out = match status.left_out_ticks {
        0 => String::new(),
        n => format!(", {n} of them left out to keep within the limit of CPU time"),
    };
    line("missed ticks", format!("{}{left_out}", status.missed_ticks))?;
    line("failed dumps", status.failed_dumps.to_string())?;
    line("events lost", format!("{} times", status.event_losses))?;
    let sizes = status.sizes;
    let (all, log) = (sizes.bytes().cast_signed(), sizes.log_bytes.cast_signed());
    line("size", format!("{}, of it {} log", bytes(all), bytes(log)))?;
    let free_text = free.map_or("-".to_owned(), |free| bytes(free.cast_signed()).to_string());
    line("free", free_text)?;
    if let Some(max) = status.max_bytes {
        line("limit", bytes(max).to_string())?;
    }
    let growth = match (status.growth_bytes_per_day, status.days_that_fit(free)) {
        (Some(growth), Some(days)) => {
            format!(
                "{} a day at the rate of the last hour: {days:.1} days fit",
                bytes(growth as i64)
            )
        }
        (Some(_), None) => "nothing".to_owned(),
        _ => "not known: it is recorded for less than a minute".to_owned(),
    };
    line("growth", growth)
}

fn name_of(path: &Path) -> String {
    visible(&path.display().to_string()).to_string()
}
