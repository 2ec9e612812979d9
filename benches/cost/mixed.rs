//! What a mixed load costs on disk, table by table, and what it costs with `ss` instead.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use sockrec::model::Value;
use sockrec::store::{Reader, StoreError};

use super::herd::MixedLoad;
use super::measure::{Result, Running, Target};
use super::record_command;
use super::ss::Loop;

pub fn measure(seconds: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let load = MixedLoad::start()?;
    let file = path("mixed.db");
    record_command(&path("begins.db"), 1_000)
        .args(["--count", "2"])
        .stdout(Stdio::null())
        .status()?;
    let begins = bytes_in_use(&path("begins.db"))?;
    let mut recorder = Running(record_command(&file, 1_000).stdout(Stdio::null()).spawn()?);
    let mut plain = Loop::into_file(&path("ss.txt"))?;
    let mut gzipped = Loop::into_gzip(&path("ss.txt.gz"))?;
    // The recorder's first snapshot holds everyone: what follows is what goes on.
    thread::sleep(Duration::from_millis(1_500));
    let before_ms = recorder.cpu_ms()?;
    let began = Instant::now();
    for second in 1..=seconds {
        plain.tick()?;
        gzipped.tick()?;
        let due = began + Duration::from_secs(second.into());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let cpu_ms = recorder.cpu_ms()? - before_ms;
    recorder.stop()?;
    drop(load);
    let cpu = [cpu_ms, plain.finish()?, gzipped.finish()?];
    let size = |name: &str| std::fs::metadata(path(name)).map(|file| file.len() as f64);
    let bytes = [bytes_in_use(&file)? - begins, size("ss.txt")?, size("ss.txt.gz")?];
    report_against_ss(cpu, bytes, seconds.into());
    println!();
    report_bytes(&Reader::open(&file)?, seconds)
}

/// Of the recorder, of `ss`, and of that through `gzip -1`.
fn report_against_ss(cpu_ms: [f64; 3], bytes: [f64; 3], seconds: f64) {
    println!("mixed load for {seconds} s: 300 idle, 200 asking, 10 in bulk, 20 new a second");
    println!(
        "{:<24} {:>13} {:>7} {:>13} {:>7}  target",
        "once a second", "CPU ms a tick", "ratio", "MB an hour", "ratio"
    );
    let names = ["sockrec, with owners", "ss -tinmeaO", "ss -tinmeaO | gzip -1"];
    let targets = [None, Some(Target::AtLeast(20.0)), Some(Target::AtLeast(1.0))];
    for (i, name) in names.iter().enumerate() {
        let ratio = bytes[i] / bytes[0];
        println!(
            "{name:<24} {:>13.2} {:>7.1} {:>13.1} {ratio:>7.1}  {}",
            cpu_ms[i] / seconds,
            cpu_ms[i] / cpu_ms[0],
            bytes[i] / seconds * 3_600.0 / 1e6,
            targets[i].map(|target| target.beside(ratio)).unwrap_or_default()
        );
    }
}

/// Bytes of the pages that are in use.
pub fn bytes_in_use(path: &Path) -> Result<f64> {
    let reader = Reader::open(path)?;
    let sql = "SELECT (c.page_count - f.freelist_count) * s.page_size
               FROM pragma_page_count AS c, pragma_freelist_count AS f, pragma_page_size AS s";
    Ok(reader.integer(sql, &[])?.unwrap_or(0) as f64)
}

fn report_bytes(reader: &Reader, seconds: u32) -> Result<()> {
    let number = |sql: &str| -> std::result::Result<f64, StoreError> {
        Ok(reader.integer(sql, &[])?.unwrap_or(0) as f64)
    };
    let of = |table: &str| {
        number(&format!("SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name = '{table}'"))
    };
    let rows = number("SELECT count(*) FROM samples")?;
    let keyframe_rows = number(
        "SELECT count(*) FROM samples AS s JOIN snapshots AS n USING (snapshot_id)
         JOIN sockets AS k USING (socket_id)
         WHERE n.is_keyframe AND k.first_snapshot_id < s.snapshot_id",
    )?;
    let tcp_changed = number(
        "SELECT count(*) FROM samples AS s JOIN snapshots AS n USING (snapshot_id)
         WHERE s.rto_us IS NOT NULL AND s.previous_snapshot_id IS NOT NULL AND NOT n.is_keyframe",
    )?;
    let changed = rows - keyframe_rows;
    let (samples, conditions, settings) = (of("samples")?, of("conditions")?, of("settings")?);
    let all = samples + conditions + settings;
    println!("{rows} rows in {seconds} s, {changed} first sights and changes");
    println!("({tcp_changed} changes of full TCP sockets), {keyframe_rows} repeats in keyframes");
    let line = |what: &str, figure: f64, target: Option<Target>| {
        let target = target.map(|target| target.beside(figure)).unwrap_or_default();
        println!("{what:<44} {figure:>9.1}  {target}");
    };
    line("bytes a row of samples", samples / rows, None);
    line("bytes of shared values a row", (conditions + settings) / rows, None);
    line("bytes a row, all three tables", all / rows, Some(Target::AtMost(120.0)));
    line("bytes a change, keyframes counted in", all / changed, None);
    let ends = number("SELECT count(*) FROM socket_ends")?;
    let sockets = number("SELECT count(*) FROM sockets")?;
    let a_socket = (of("sockets")? + of("group_sockets")? + of("socket_owners")?) / sockets;
    let an_end =
        of("socket_ends")? + of("remains")? + of("missing_sockets")? + of("state_changes")?;
    let beside = a_socket + an_end / ends;
    line("bytes a connection beside its samples", beside, Some(Target::AtMost(250.0)));
    println!("\n{:<28} {:>10}", "table or index", "bytes");
    reader.run::<StoreError>(
        "SELECT name, sum(pgsize) FROM dbstat WHERE aggregate = 1 GROUP BY name ORDER BY 2 DESC
         LIMIT 12",
        &[],
        |row| {
            if let [Value::Text(name), Value::Integer(size)] = row {
                println!("{name:<28} {size:>10}");
            }
            Ok(())
        },
    )?;
    let others = "SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name NOT IN (
         SELECT name FROM dbstat WHERE aggregate = 1 GROUP BY name ORDER BY sum(pgsize) DESC LIMIT 12)";
    println!("{:<28} {:>10}", "all others", number(others)?);
    let free = "SELECT f.freelist_count * s.page_size
                FROM pragma_freelist_count AS f, pragma_page_size AS s";
    println!("{:<28} {:>10}", "free pages", number(free)?);
    Ok(())
}
