//! A recorder that runs beside the generator, and what its recording says of lifetimes.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde::{Deserialize, Deserializer, de};

use crate::common::not_here;
use crate::common::wait;
use crate::harness::{Dir, Running, ask, is_root, run};

/// `nobody` nearly everywhere.
const NOBODY: u32 = 65_534;

const FILE: &str = "rec.db";

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Who runs the test.
    Own,
    /// One without any capability.
    Ordinary,
}

impl User {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Own if is_root() => "root",
            Self::Own | Self::Ordinary => "unprivileged",
        }
    }

    /// Those that differ here.
    pub(crate) fn all() -> &'static [Self] {
        if is_root() {
            &[Self::Own, Self::Ordinary]
        } else {
            not_here("a recorder of root", "the tests are run by an ordinary user");
            &[Self::Ordinary]
        }
    }
}

/// A place to record into, and the program that does.
pub(crate) struct Rig {
    dir: Dir,
    program: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(env!("CARGO_BIN_EXE_sockrec").into())
    }

    /// One for another build of the program.
    pub(crate) fn with(program: PathBuf) -> Self {
        Self { dir: Dir::new(), program }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path(FILE)
    }

    /// Waits until a snapshot was begun and ended.
    pub(crate) fn until_seen(&self) {
        let count = || self.snapshots().expect("it is a recording");
        // One may be half done now.
        let enough = count() + 2;
        wait::until("two more snapshots", || count() >= enough);
    }

    fn snapshots(&self) -> rusqlite::Result<i64> {
        ask(&self.file(), "SELECT count(*) FROM snapshots")
    }

    /// Starts a recorder and waits until it has recorded what is there.
    pub(crate) fn start(&self, user: User, options: &str) -> Recorder<'_> {
        self.start_nice(user, options, 0)
    }

    /// The same, so nice to others.
    pub(crate) fn start_nice(&self, user: User, options: &str, nice: i32) -> Recorder<'_> {
        let line = format!("record -q -o {FILE} {options}");
        let mut command = self.dir.command_at(&self.program, line.split_whitespace());
        if user == User::Ordinary && is_root() {
            // The program may have been built where others may not look.
            let binary = self.dir.path("sockrec");
            // By a program of its own: what any process has open to be written nobody can execute.
            let mut copy = Command::new("cp");
            let copied = copy.arg(&self.program).arg(&binary).status();
            assert!(copied.unwrap().success());
            for path in [&binary, &self.dir.path(".")] {
                fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            }
            command = self.dir.command_at(&binary, line.split_whitespace());
            command.uid(NOBODY).gid(NOBODY);
        }
        let be_nice = move || {
            // SAFETY: a system call.
            unsafe { libc::nice(nice) };
            Ok(())
        };
        // SAFETY: it does nothing else between fork and exec.
        unsafe { command.pre_exec(be_nice) };
        let before = if self.file().exists() { self.snapshots().expect("a recording") } else { 0 };
        let mut running = Running::spawn(command);
        running.until_snapshots(&self.file(), before + 1);
        Recorder { rig: self, running }
    }

    /// What is recorded.
    fn rows(&self) -> Vec<Row> {
        let question = format!("query connections -f {FILE} --format jsonl --time-format unix-ns");
        let line = format!("{question} --columns {}", COLUMNS.join(","));
        let answer = run(self.dir.command_at(&self.program, line.split_whitespace())).recorded();
        let text = answer.stdout();
        let row = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
        text.lines().map(row).collect()
    }
}

/// A recorder that is running.
pub(crate) struct Recorder<'a> {
    rig: &'a Rig,
    running: Running,
}

impl Recorder<'_> {
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Ends it and reads what is recorded.
    pub(crate) fn stop(self) -> Vec<Row> {
        let rig = self.rig;
        self.end();
        rig.rows()
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.signal(Signal::TERM);
        let ran = self.running.finish();
        if !ran.stderr.is_empty() {
            println!("the recorder said:\n{}", ran.stderr);
        }
        ran.recorded();
    }
}

/// One row of the answer.
#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "some of it only stands in messages")]
pub(crate) struct Row {
    pub(crate) socket_id: i64,
    #[serde(deserialize_with = "identifier")]
    pub(crate) cookie: u64,
    pub(crate) protocol: String,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) local_port: Option<u16>,
    pub(crate) remote_address: Option<IpAddr>,
    pub(crate) remote_port: Option<u16>,
    pub(crate) addresses_inferred: Option<bool>,
    pub(crate) state: Option<String>,
    pub(crate) opened_after: Option<i64>,
    pub(crate) opened_before: Option<i64>,
    pub(crate) opened_evidence: Option<String>,
    pub(crate) closed_after: Option<i64>,
    pub(crate) closed_before: Option<i64>,
    pub(crate) closed_evidence: Option<String>,
    pub(crate) destroyed_at: Option<i64>,
    pub(crate) direction: Option<String>,
    pub(crate) direction_evidence: Option<String>,
    pub(crate) ending: Option<String>,
    pub(crate) ending_evidence: Option<String>,
    pub(crate) peer_socket_id: Option<i64>,
    pub(crate) time_wait_min_ns: Option<i64>,
    pub(crate) time_wait_max_ns: Option<i64>,
    pub(crate) duration_min_ns: Option<i64>,
    pub(crate) duration_max_ns: Option<i64>,
    pub(crate) bytes_sent: Option<u64>,
    pub(crate) bytes_retrans: Option<u64>,
    pub(crate) bytes_received: Option<u64>,
    pub(crate) gaps: Option<String>,
}

const COLUMNS: &[&str] = &[
    "socket_id",
    "cookie",
    "protocol",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "addresses_inferred",
    "state",
    "opened_after",
    "opened_before",
    "opened_evidence",
    "closed_after",
    "closed_before",
    "closed_evidence",
    "destroyed_at",
    "direction",
    "direction_evidence",
    "ending",
    "ending_evidence",
    "peer_socket_id",
    "time_wait_min_ns",
    "time_wait_max_ns",
    "duration_min_ns",
    "duration_max_ns",
    "bytes_sent",
    "bytes_retrans",
    "bytes_received",
    "gaps",
];

fn identifier<'de, D: Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    let text = String::deserialize(value)?;
    text.parse().map_err(|_| de::Error::custom(format!("`{text}` is no identifier")))
}
