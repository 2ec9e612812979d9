//! The real recorder for long: load that comes and goes, limits that always drop something, restarts,
//! reloads, kills and readers, and what it takes of the machine meanwhile.
//!
//! Two minutes by default; `SOCKREC_SOAK_S=3600 cargo test --test soak` for an hour. Prints a table.

mod common;
#[path = "harness/mod.rs"]
mod harness;
#[path = "soak/load.rs"]
mod load;
#[path = "lifetimes/namespace.rs"]
mod namespace;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use harness::{Dir, Random, Running, ask, assert_recording_is_whole, read_only};
use load::Load;
use namespace::in_own_namespace;

const MAX_BYTES: u64 = 32 << 20;
/// Memory of its own, beside 700 bytes a socket that is there or ended lately. Without the program's text: that of a test is large.
const MAX_MEMORY: u64 = 40_000_000;
const MAX_DESCRIPTORS: u64 = 40;
/// What ended in the last three minutes stays, whatever the limit says: so much a socket, and the log.
const STAYS_BYTES: u64 = 250;
const LOG_BYTES: u64 = 8 << 20;
const INTERVAL_MS: u64 = 30;
const LOOKED_EVERY: Duration = Duration::from_millis(250);
/// So long after a reader went the log is cut for sure.
const CALM_AFTER: Duration = Duration::from_secs(3);
/// Lines of the table.
const LINES: u32 = 12;

fn length() -> Duration {
    let seconds = std::env::var("SOCKREC_SOAK_S").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// What was seen of a recorder at its most, in a while.
#[derive(Clone, Copy, Default)]
struct Taken {
    memory: u64,
    descriptors: u64,
    file: u64,
    /// Held by a reader.
    held_file: u64,
    /// There, or ended lately.
    sockets: u64,
    looks: u64,
}

impl Taken {
    fn add(&mut self, other: Self) {
        self.memory = self.memory.max(other.memory);
        self.descriptors = self.descriptors.max(other.descriptors);
        self.file = self.file.max(other.file);
        self.held_file = self.held_file.max(other.held_file);
        self.sockets = self.sockets.max(other.sockets);
        self.looks += other.looks;
    }
}

/// Those that the last snapshot saw, and those that ended within two minutes before it: the recorder may
/// have to know them again.
const SOCKETS: &str = "
    SELECT n.sockets_seen + (SELECT count(*) FROM socket_ends AS e
        WHERE e.destroyed_boottime_ns > n.ended_boottime_ns - 120000000000)
    FROM snapshots AS n ORDER BY n.snapshot_id DESC LIMIT 1";

/// What was done to it so far.
#[derive(Clone, Copy, Default)]
struct Done {
    runs: u64,
    kills: u64,
    reloads: u64,
    readers: u64,
    checks: u64,
}

struct Soak {
    dir: Dir,
    path: PathBuf,
    random: Random,
    /// For so long a recorder was looked at.
    recorded: Duration,
    taken: Vec<Taken>,
    done: Done,
    /// How far ticks in a row were from the interval apart, in nanoseconds.
    off_by: Vec<i64>,
}

fn file_bytes(path: &Path) -> u64 {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    [path, &log].iter().filter_map(|p| fs::metadata(p).ok()).map(|m| m.len()).sum()
}

fn taken_by(recorder: &Running, path: &Path) -> Option<Taken> {
    let of = format!("/proc/{}", recorder.child.id());
    let status = fs::read_to_string(format!("{of}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix(" kB"))?;
    Some(Taken {
        memory: kib.trim().parse::<u64>().ok()? * 1_024,
        descriptors: fs::read_dir(format!("{of}/fd")).ok()?.count() as u64,
        file: file_bytes(path),
        held_file: 0,
        sockets: ask(path, SOCKETS).ok()?.cast_unsigned(),
        looks: 1,
    })
}

impl Soak {
    fn write_limits(&mut self) {
        // What nobody asks for is not measured: the size stays.
        let others = [
            "",
            "thin = 1s after 4s\n",
            "thin = 500ms after 2s\nthin = 2s after 6s\n",
            "max-age = 15s\n",
            "max-age = 8s\nthin = 1s after 3s\nmax-cpu = 80%\n",
        ];
        let other = others[self.random.below(others.len() as u64) as usize];
        fs::write(self.dir.path("limits"), format!("max-size = 32M\n{other}")).unwrap();
    }

    /// One run of the recorder, with what happens to it.
    fn run_recorder(&mut self, for_s: u64) {
        self.write_limits();
        let line = format!("record -q -i {INTERVAL_MS}ms --limits limits -o rec.db");
        let mut recorder = self.dir.start(&line);
        recorder.until_snapshots(&self.path, 1);
        let until = Instant::now() + Duration::from_secs(for_s);
        let mut reader = None;
        // The recorder before may have been killed while a reader held the log.
        let mut calm_from = Instant::now() + CALM_AFTER;
        while Instant::now() < until {
            let began = Instant::now();
            thread::sleep(LOOKED_EVERY);
            match self.random.below(12) {
                0 => {
                    self.write_limits();
                    recorder.signal(Signal::HUP);
                    self.done.reloads += 1;
                }
                1 if reader.is_none() => {
                    let open = read_only(&self.path).unwrap();
                    open.execute_batch("BEGIN; SELECT count(*) FROM snapshots").unwrap();
                    reader = Some(open);
                    self.done.readers += 1;
                }
                2 | 3 => {
                    reader = None;
                    let lines =
                        ["query at now", "query connections -n 5", "info", "query coverage"];
                    let line = lines[self.random.below(4) as usize];
                    let ran = self.dir.sockrec(&format!("{line} -f rec.db"));
                    assert!(matches!(ran.code(), Some(0 | 3)), "{line}: {}", ran.told());
                    // It read for as long as it ran.
                    calm_from = Instant::now() + CALM_AFTER;
                }
                _ => {}
            }
            if reader.is_some() {
                calm_from = Instant::now() + CALM_AFTER;
            }
            if let Some(mut taken) = taken_by(&recorder, &self.path) {
                // It takes a few snapshots to cut a log that was held.
                if Instant::now() < calm_from {
                    taken.held_file = std::mem::take(&mut taken.file);
                }
                self.note(taken);
            }
            self.recorded += began.elapsed();
        }
        drop(reader);
        self.done.runs += 1;
        if self.random.below(2) == 0 {
            self.done.kills += 1;
            recorder.kill();
        } else {
            recorder.signal(Signal::TERM);
            recorder.finish().recorded();
        }
        self.note_ticks();
    }

    /// In the line of the table that this moment belongs to.
    fn note(&mut self, taken: Taken) {
        let line = self.recorded.as_secs_f64() / length().as_secs_f64() * f64::from(LINES);
        let line = (line as usize).min(LINES as usize - 1);
        self.taken.resize(self.taken.len().max(line + 1), Taken::default());
        self.taken[line].add(taken);
    }

    fn check(&mut self) {
        self.done.checks += 1;
        assert_recording_is_whole(&self.path);
    }

    fn table(&self) -> String {
        let mut text = format!(
            "\n{:>8} {:>8} {:>10} {:>12} {:>8} {:>18}\n",
            "until s", "sockets", "memory kB", "descriptors", "file kB", "held by reader kB"
        );
        for (line, taken) in self.taken.iter().enumerate() {
            let until = length().as_secs_f64() * (line + 1) as f64 / f64::from(LINES);
            let kb = |bytes: u64| bytes / 1_000;
            let _ = writeln!(
                text,
                "{until:>8.0} {:>8} {:>10} {:>12} {:>8} {:>18}",
                taken.sockets,
                kb(taken.memory),
                taken.descriptors,
                kb(taken.file),
                kb(taken.held_file)
            );
        }
        let Done { runs, kills, reloads, readers, checks } = self.done;
        let ask = |sql: &str| ask(&self.path, sql).unwrap();
        let _ = writeln!(
            text,
            "{runs} runs, {kills} killed, {reloads} reloads, {readers} readers, {checks} checks; \
             dropped {} snapshots, held {}, of them thinned {}",
            ask("SELECT coalesce(sum(snapshots), 0) FROM dropped_spans"),
            ask("SELECT count(*) FROM held_snapshots"),
            ask("SELECT count(*) FROM held_snapshots WHERE is_thinned"),
        );
        text + &self.jitter()
    }

    /// Of the last run, where none was missed.
    fn note_ticks(&mut self) {
        let reader = read_only(&self.path).unwrap();
        let mut statement = reader
            .prepare(
                "SELECT abs(n.started_monotonic_ns - p.started_monotonic_ns - c.interval_ns)
                 FROM captures AS c
                 JOIN held_snapshots AS n ON n.capture_id = c.capture_id
                 JOIN held_snapshots AS p ON p.snapshot_id = n.snapshot_id - 1
                     AND p.capture_id = n.capture_id
                 WHERE n.missed_ticks = 0 AND p.missed_ticks = 0
                     AND c.capture_id = (SELECT max(capture_id) FROM captures)",
            )
            .unwrap();
        let off_by = statement.query_map([], |r| r.get::<_, i64>(0)).unwrap();
        self.off_by.extend(off_by.map(Result::unwrap));
    }

    fn jitter(&self) -> String {
        let mut off_by = self.off_by.clone();
        off_by.sort_unstable();
        let at = |thousandth: usize| {
            let place = off_by.len().saturating_sub(1) * thousandth / 1_000;
            off_by.get(place).copied().unwrap_or(0) as f64 / 1e6
        };
        format!(
            "{} ticks of {INTERVAL_MS} ms off by: median {:.2} ms, 99 % {:.2} ms, 99.9 % {:.2} ms\n",
            off_by.len(),
            at(500),
            at(990),
            at(999)
        )
    }
}

#[test]
fn a_recorder_that_runs_for_long_stays_within_its_bounds() {
    in_own_namespace("the soak test", |_| {
        let dir = Dir::new();
        let path = dir.path("rec.db");
        let mut soak = Soak {
            path,
            dir,
            random: Random::new(11),
            recorded: Duration::ZERO,
            taken: Vec::new(),
            done: Done::default(),
            off_by: Vec::new(),
        };
        let load = Load::start();
        while soak.recorded < length() {
            let longest = (length().as_secs() / 8).max(8);
            let for_s = 4 + soak.random.below(longest);
            soak.run_recorder(for_s);
            if soak.done.runs % 4 == 3 {
                soak.check();
            }
        }
        drop(load);
        soak.dir.sockrec("record -q -i 20ms -c 50 --max-size 32M -o rec.db").recorded();
        soak.check();
        let table = soak.table();
        std::io::stderr().write_all(table.as_bytes()).unwrap();
        judge(&soak, &table);
    });
}

fn judge(soak: &Soak, table: &str) {
    let all = soak.taken.iter().fold(Taken::default(), |mut all, taken| {
        all.add(*taken);
        all
    });
    assert!(all.looks > 50, "{table}");
    let most = MAX_MEMORY + 700 * all.sockets;
    assert!(all.memory <= most, "{} of {most} bytes of memory{table}", all.memory);
    assert!(all.descriptors <= MAX_DESCRIPTORS, "{} descriptors{table}", all.descriptors);
    // Those of two minutes were counted.
    let most = MAX_BYTES.max(LOG_BYTES + STAYS_BYTES * all.sockets * 3 / 2);
    assert!(all.file <= most, "{} of {most} bytes of file{table}", all.file);
    // With a reader at it the log has no bound but what is written meanwhile.
    assert!(file_bytes(&soak.path) <= most, "{table}");
    let dropped = "SELECT coalesce(sum(snapshots), 0) FROM dropped_spans";
    assert!(ask(&soak.path, dropped).unwrap() > 100, "nothing was to be dropped{table}");
    // Nothing that is let go of piles up.
    let left = ask(&soak.path, "SELECT count(*) FROM snapshots WHERE group_id IS NULL").unwrap();
    let held = ask(&soak.path, "SELECT count(*) FROM held_snapshots").unwrap();
    assert!(left <= held + 20_000, "{left} times beside {held} snapshots{table}");
}
