//! A directory of one's own, and the program run in it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use tempfile::TempDir;

/// What takes longer than this hangs. Never the measure of anything.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

/// A directory that goes when the test is over. The program runs in it, so that messages name
/// files without the way to them.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A file in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names of what it holds, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Everything it holds with its bytes, to be compared.
    pub(crate) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.names().into_iter().map(|n| (n.clone(), fs::read(self.path(n)).unwrap())).collect()
    }

    /// The program with these arguments, separated by blanks; `'…'` holds blanks together.
    pub(crate) fn command(&self, line: &str) -> Command {
        let words = line.split('\'').enumerate().flat_map(|(i, part)| {
            let quoted = (i % 2 == 1).then_some(part);
            let plain = (i % 2 == 0).then(|| part.split_whitespace());
            quoted.into_iter().chain(plain.into_iter().flatten())
        });
        self.command_of(words)
    }

    /// The program with these arguments.
    pub(crate) fn command_of(&self, words: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        self.command_at(Path::new(env!("CARGO_BIN_EXE_sockrec")), words)
    }

    /// A copy of the program with these arguments.
    pub(crate) fn command_at(
        &self,
        program: &Path,
        words: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.0.path()).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A shell has its background jobs ignore them, and whoever they start too.
        // SAFETY: signal() may be called between fork and exec, and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn sockrec(&self, line: &str) -> Ran {
        run(self.command(line))
    }

    /// Starts the program.
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::spawn(self.command(line))
    }

    /// A short recording.
    pub(crate) fn record(&self, name: &str) -> PathBuf {
        run(self.command_of(["record", "-q", "-i", "10ms", "-c", "3", "-o", name])).recorded();
        self.path(name)
    }
}

/// Has files of a program not grow beyond so many bytes: a write that would fails.
pub(crate) fn limited(command: Command, bytes: u64) -> Command {
    limited_to(command, Resource::Fsize, bytes)
}

/// Has a program not get more than so much of something.
pub(crate) fn limited_to(mut command: Command, what: Resource, most: u64) -> Command {
    // SAFETY: the call may be made between fork and exec, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            Ok(setrlimit(what, Rlimit { current: Some(most), maximum: Some(most) })?)
        });
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Ran {
    Running::spawn(command).finish()
}

/// What was said, but for that a snapshot took longer than the interval: how long it takes is the
/// machine's affair.
pub(crate) fn without_slowness(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("warning: a snapshot took "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Exit code and standard error as one text, for snapshots; what went to standard output too,
    /// if anything did.
    pub(crate) fn told(&self) -> String {
        let mut text = match self.code() {
            Some(code) => format!("exit {code}\n"),
            None => format!("{}\n", self.status),
        };
        if !self.stdout.is_empty() {
            let _ = write!(text, "stdout:\n{}stderr:\n", self.stdout());
        }
        text + &self.stderr
    }

    /// The same but for what a busy machine adds.
    pub(crate) fn told_calmly(&self) -> String {
        without_slowness(&self.told())
    }

    /// Asserts that it did what it was asked to without a word about trouble.
    #[track_caller]
    pub(crate) fn fine(self) -> Self {
        assert_eq!(self.code(), Some(0), "{}", self.told());
        assert!(!self.stderr.contains("error:"), "{}", self.told());
        self
    }

    /// Asserts that a recorder ended well. On a busy machine it may have missed ticks, and says so.
    #[track_caller]
    pub(crate) fn recorded(self) -> Self {
        let has_gaps = self.stderr.contains("warning: ") && self.code() == Some(3);
        assert!(self.code() == Some(0) || has_gaps, "{}", self.told());
        assert!(!self.stderr.contains("error:"), "{}", self.told());
        self
    }
}

/// The program while it runs; killed when it is let go.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self::spawn_of(command.spawn().unwrap())
    }

    /// A program that was started; what is left of its pipes is read.
    pub(crate) fn spawn_of(mut child: Child) -> Self {
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it at once, as a power cut would (but for what the kernel already has).
    pub(crate) fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits for a condition while it runs. Its end, or none for too long, fails the test.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let found = until(what, || match self.child.try_wait().unwrap() {
            Some(_) => Some(check()),
            None => check().map(Some),
        });
        found.unwrap_or_else(|| panic!("ended before {what}: {}", self.end().told()))
    }

    /// Waits until a recording has so many snapshots.
    #[track_caller]
    pub(crate) fn until_snapshots(&mut self, path: &Path, count: i64) {
        // Whoever opens a recording first makes its log: that is to be the recorder.
        let log = PathBuf::from(format!("{}-wal", path.display()));
        self.until(&format!("{count} snapshots"), || {
            log.exists().then_some(())?;
            let found = super::ask(path, "SELECT count(*) FROM snapshots").ok()?;
            (found >= count).then_some(())
        });
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        self.end()
    }

    #[track_caller]
    fn end(&mut self) -> Ran {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                break None;
            }
            thread::sleep(POLL);
        };
        let text = |reader: &mut Option<JoinHandle<Vec<u8>>>| {
            reader.take().map(|reader| reader.join().unwrap()).unwrap_or_default()
        };
        let stdout = text(&mut self.stdout);
        let stderr = String::from_utf8(text(&mut self.stderr)).unwrap();
        let Some(status) = status else { panic!("it hangs; it said:\n{stderr}") };
        assert!(!stderr.contains("panicked"), "{stderr}");
        Ran { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program writes to standard output, line by line as it comes.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(child: &mut Child) -> Self {
        let pipe = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in pipe.lines() {
                // Also what nobody waits for is read: else the program would notice.
                let _ = sender.send(line.unwrap());
            }
        });
        Self(lines)
    }

    /// Waits for a line from which something can be told. The end of all, or none for too long, fails the
    /// test.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut check: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(found) = check(&line) {
                        return found;
                    }
                }
                Err(e) => panic!("waited in vain for {what}: {e}"),
            }
        }
    }

    /// All that still comes until the program closes its standard output. That it does not fails the test.
    #[track_caller]
    pub(crate) fn rest(self) -> Vec<String> {
        let mut rest = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on writing, or does not end"),
            }
        }
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Waits for a condition; none for too long fails the test.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(POLL);
    }
}
