//! How long a snapshot may have to wait for the dropping of old ones.
//!
//! ```text
//! cargo bench --bench retention
//! ```
//!
//! Made-up snapshots are written as the recorder writes them, one after the other, and after each the
//! oldest ones are dropped as if the next one waited already: the longest that takes is the longest that
//! the writer keeps a snapshot waiting. Dumps are made by another thread and do not wait for either.

#[path = "../tests/harness/made_up.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod made_up;

use std::error::Error;
use std::time::{Duration, Instant};

use sockrec::model::{Observation, TcpInfo};
use sockrec::store::{Capacity, LOG_BYTES};

use made_up::{MadeUp, observation};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Load {
    name: &'static str,
    sockets: usize,
    /// Of which so many change a tick.
    rows: usize,
    group_len: i64,
    max_bytes: u64,
    ticks: u64,
}

const LOADS: [Load; 2] = [
    Load {
        name: "usual",
        sockets: 1_000,
        rows: 150,
        group_len: 80,
        max_bytes: LOG_BYTES + 24 * 1024 * 1024,
        ticks: 4_000,
    },
    Load {
        name: "many sockets",
        sockets: 200_000,
        rows: 6_000,
        group_len: 40,
        max_bytes: LOG_BYTES + 256 * 1024 * 1024,
        ticks: 400,
    },
];

fn main() -> Result<()> {
    println!(
        "{:<14} {:>9} {:>11} {:>29} {:>29}",
        "", "", "", "writing a snapshot", "dropping after it"
    );
    println!(
        "{:<14} {:>9} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>13} {:>9}",
        "load",
        "sockets",
        "rows a tick",
        "mean",
        "99 %",
        "longest",
        "mean",
        "99 %",
        "longest",
        "largest/limit",
        "dropped"
    );
    for load in &LOADS {
        measure(load)?;
    }
    Ok(())
}

fn measure(load: &Load) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = load.group_len;
    made.writer.set_capacity(Capacity { max_bytes: Some(load.max_bytes), ..Capacity::NONE });
    let (mut written, mut dropped) = (Vec::new(), Vec::new());
    let mut largest = 0;
    for tick in 0..load.ticks {
        let is_keyframe = tick.cast_signed() % load.group_len == 0;
        let rows = if is_keyframe { load.sockets } else { load.rows };
        let sockets: Vec<_> = (0..rows).map(|n| socket(n, tick)).collect();
        let began = Instant::now();
        made.snapshot(&sockets).commit();
        written.push(began.elapsed());
        let (start, now) = (made.start, made.now());
        let began = Instant::now();
        made.writer.keep_within_limits(&start, now, rows as u64, || true)?;
        dropped.push(began.elapsed());
        largest = largest.max(made.writer.on_disk().bytes);
    }
    made.end();
    let gone = sockrec::store::Reader::open(&path)?
        .integer("SELECT coalesce(sum(snapshots), 0) FROM dropped_spans", &[])?
        .unwrap_or(0);
    println!(
        "{:<14} {:>9} {:>11} {} {} {:>13.3} {gone:>9}",
        load.name,
        load.sockets,
        load.rows,
        row(written),
        row(dropped),
        largest as f64 / load.max_bytes as f64
    );
    Ok(())
}

fn socket(n: usize, tick: u64) -> Observation<'static> {
    let tcp = TcpInfo { bytes_sent: Some(tick * 1_000 + n as u64), ..observation(1).tcp };
    let port = u16::try_from(n % 60_000).unwrap_or(0);
    Observation { cookie: n as u64 + 1, tcp, ..observation(port) }
}

fn row(mut times: Vec<Duration>) -> String {
    times.sort();
    let ms = |time: Duration| format!("{:>6.2} ms", time.as_secs_f64() * 1e3);
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1);
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("{} {} {}", ms(mean), ms(at(99)), ms(at(100)))
}
