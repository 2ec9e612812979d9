//! How recording goes, told to whoever connects to a socket.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::Signal;

use crate::harness::{Dir, Running, ask, assert_recording_is_whole, is_root, until};
use crate::not_run::not_here;

const LINE: &str = "record -q -i 20ms -o rec.db --metrics unix:metrics";

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// What a client gets that says this and then only listens.
fn told(path: &Path, request: &str) -> String {
    let mut stream = connect(path);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[track_caller]
fn assert_is_whole(text: &str) {
    assert!(text.starts_with("# TYPE sockrec_recording gauge\n"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

fn started(dir: &Dir) -> Running {
    let mut recorder = dir.start(LINE);
    until_listening(&mut recorder, &dir.path("metrics"));
    recorder
}

fn until_listening(recorder: &mut Running, path: &Path) {
    recorder.until("a socket", || UnixStream::connect(path).is_ok().then_some(()));
}

/// The service has an umask that keeps others from its recordings.
#[test]
fn whoever_connects_gets_the_numbers_of_that_moment() {
    let dir = Dir::new();
    let path = dir.path("metrics");
    let mut command = dir.command(LINE);
    // SAFETY: umask() may be called between fork and exec, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        });
    }
    let mut recorder = Running::spawn(command);
    until_listening(&mut recorder, &path);
    let first = told(&path, "");
    assert_is_whole(&first);
    assert_eq!(number(&first, "sockrec_recording"), 1.0);
    let before = number(&first, "sockrec_snapshots_total");
    recorder.until_snapshots(&dir.path("rec.db"), before as i64 + 5);
    // It may be stored before it is told of.
    recorder.until("new numbers", || {
        (number(&told(&path, "\n"), "sockrec_snapshots_total") >= before + 5.0).then_some(())
    });
    let there = fs::symlink_metadata(&path).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o777, 0o666);
    let recording = fs::metadata(dir.path("rec.db")).unwrap();
    assert_eq!(recording.permissions().mode() & 0o777, 0o600);
    // Who has said that nothing more comes need not wait.
    let stream = connect(&path);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_is_whole(&std::io::read_to_string(stream).unwrap());
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
    assert!(!path.exists(), "the socket outlived the recorder");
}

#[test]
fn a_request_of_http_gets_an_answer_of_http() {
    let dir = Dir::new();
    let path = dir.path("metrics");
    let recorder = started(&dir);
    let http = "HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let answer = told(&path, &format!("GET /metrics {http}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
    let of_type = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    let length = format!("Content-Length: {}", body.len());
    for line in [of_type, &*length, "Connection: close"] {
        assert!(head.split("\r\n").any(|known| known == line), "no `{line}` in {head}");
    }
    assert_is_whole(body);
    let head = told(&path, &format!("HEAD /metrics {http}"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let other = told(&path, &format!("DELETE /metrics {http}"));
    assert!(other.starts_with("HTTP/1.1 405 Method Not Allowed\r\nContent-Type"), "{other}");
    // What nobody can mean is an answer too.
    let long = told(&path, &format!("GET /{} {http}", "x".repeat(6_000)));
    assert!(long.starts_with("HTTP/1.1 200 OK\r\n"), "{long}");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--unix-socket"]).arg(&path);
    match curl.arg("http://localhost/metrics").stdin(Stdio::null()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            assert_is_whole(str::from_utf8(&output.stdout).unwrap());
        }
        Err(_) => not_here("the metrics with a client of others", "there is no curl"),
    }
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
}

#[test]
fn clients_that_stall_hold_neither_the_recorder_nor_others() {
    let dir = Dir::new();
    let (path, recording) = (dir.path("metrics"), dir.path("rec.db"));
    let mut recorder = started(&dir);
    let of_recorder = format!("/proc/{}/fd", recorder.child.id());
    let descriptors = || fs::read_dir(&of_recorder).unwrap().count();
    assert_is_whole(&told(&path, ""));
    let before = descriptors();
    // More than are heard at a time; some say half of what they want, none ever reads.
    let mut stalled: Vec<_> = (0..40).map(|_| connect(&path)).collect();
    for stream in stalled.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    }
    let mut most = 0;
    let so_far = ask(&recording, "SELECT count(*) FROM snapshots").unwrap();
    recorder.until("snapshots", || {
        most = most.max(descriptors());
        (ask(&recording, "SELECT count(*) FROM snapshots").ok()? >= so_far + 20).then_some(())
    });
    assert_is_whole(&told(&path, ""));
    // Eight clients, and what is open for a moment to look for owners or for its own numbers.
    assert!(most <= before + 16, "{most} descriptors, {before} without clients");
    // Each was let go of: there is an end to what it can read.
    for mut stream in stalled {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
    }
    // One that talks without end, and one that has gone.
    let mut talks = connect(&path);
    let ended = loop {
        match talks.write_all(&[b'x'; 4_096]) {
            Ok(()) => {}
            Err(e) => break e.kind(),
        }
    };
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended:?}");
    drop(connect(&path));
    assert_is_whole(&told(&path, ""));
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
    assert_recording_is_whole(&recording);
}

#[test]
fn the_socket_of_a_dead_recorder_is_replaced_and_that_of_a_living_one_is_not() {
    let dir = Dir::new();
    let path = dir.path("metrics");
    started(&dir).kill();
    assert!(path.exists(), "a killed recorder removes nothing");
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let living = started(&dir);
    let ran = dir.sockrec("record -q -c 1 -o other.db --metrics unix:metrics");
    assert_eq!(
        ran.told(),
        "exit 2\nerror: somebody listens to `metrics` already\n\n\
         hint: name another socket with `--metrics unix:`\n"
    );
    assert!(!dir.path("other.db").exists());
    assert_is_whole(&told(&path, ""));
    // What bears the name later is another's, and stays.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    living.signal(Signal::TERM);
    living.finish().recorded();
    assert!(UnixStream::connect(&path).is_ok());
}

/// They look whether it is in use, remove it and make their own: only one may be at it.
#[test]
fn of_many_that_find_the_socket_of_a_dead_recorder_at_once_one_takes_its_place() {
    const AT_ONCE: usize = 10;
    let dir = Dir::new();
    let path = dir.path("metrics");
    started(&dir).kill();
    for round in 0..10 {
        let line = |n| format!("record -q -o {round}-{n}.db --metrics unix:metrics");
        let commands: Vec<_> = (0..AT_ONCE).map(|n| dir.command(&line(n))).collect();
        let start = Barrier::new(AT_ONCE);
        let spawn = |command| {
            start.wait();
            Running::spawn(command)
        };
        let mut running: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                commands.into_iter().map(|command| scope.spawn(|| spawn(command))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut refused = Vec::new();
        until("all but one have ended", || {
            let ended = |one: &mut Running| one.child.try_wait().unwrap().is_some();
            refused.extend(running.extract_if(.., ended).map(Running::finish));
            (running.len() <= 1).then_some(())
        });
        for ran in refused {
            let told = ran.told();
            assert!(told.contains("error: somebody listens to `metrics` already"), "{told}");
        }
        let mut taken = running.pop().expect("none took it");
        until_listening(&mut taken, &path);
        assert_is_whole(&told(&path, ""));
        // It leaves its socket to the next.
        taken.kill();
    }
}

#[test]
fn a_socket_takes_the_place_of_nothing_else() {
    let dir = Dir::new();
    fs::write(dir.path("file"), "kept").unwrap();
    fs::write(dir.path("limits"), "max-cpu = none\n").unwrap();
    symlink("nowhere", dir.path("link")).unwrap();
    fs::create_dir(dir.path("sub")).unwrap();
    let before = dir.names();
    let refuse = |name: &str, why: &str| {
        let line = format!("record -q -c 1 -o rec.db --limits limits --metrics unix:{name}");
        let ran = dir.sockrec(&line);
        assert_eq!(ran.code(), Some(2), "{name}: {}", ran.told());
        assert!(ran.stderr.contains(why), "{name}: {}", ran.told());
        assert_eq!(
            (dir.names(), &*fs::read_to_string(dir.path("file")).unwrap()),
            (before.clone(), "kept")
        );
    };
    for name in ["file", "link", "sub"] {
        refuse(name, "is no socket, and metrics are put in the place of nothing else");
    }
    refuse("rec.db", "the metrics would take the place of the recording");
    refuse("limits", "the metrics would take the place of the file of limits");
    refuse("", "it names no socket: write `unix:PATH`");
    let no_directory =
        "there is no such directory\n\nhint: make the directory, or name another socket";
    refuse("none/metrics", no_directory);
    refuse("file/metrics", no_directory);
    let long = "x".repeat(108);
    refuse(&long, "the path of a socket cannot be as long as `xxx");
    refuse(&long, "hint: name one of at most 107 bytes");
}

#[test]
fn sockets_of_others_stay() {
    let dir = Dir::new();
    let bound = |name: &str, kind| {
        let socket = rustix::net::socket(AddressFamily::UNIX, kind, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(dir.path(name)).unwrap()).unwrap();
        fs::set_permissions(dir.path(name), Permissions::from_mode(0o666)).unwrap();
        socket
    };
    let _there = [
        bound("datagrams", SocketType::DGRAM),
        bound("stream", SocketType::STREAM),
        bound("packets", SocketType::SEQPACKET),
    ];
    // Nobody has these open any longer.
    drop(UnixDatagram::bind(dir.path("executable")).unwrap());
    fs::set_permissions(dir.path("executable"), Permissions::from_mode(0o755)).unwrap();
    drop(bound("foreign", SocketType::STREAM));
    if is_root() {
        chown(dir.path("foreign"), Some(65_534), None).unwrap();
        // Where everyone may make files, as in /tmp.
        fs::set_permissions(dir.path("."), Permissions::from_mode(0o1777)).unwrap();
        symlink("stream", dir.path("link")).unwrap();
        lchown(dir.path("link"), Some(65_534), None).unwrap();
    } else {
        fs::remove_file(dir.path("foreign")).unwrap();
        not_here("sockets of another user", "only root can make one");
    }
    let before = dir.names();
    for name in &before {
        let ran = dir.sockrec(&format!("record -q -c 1 -o rec.db --metrics unix:{name}"));
        let why = match &**name {
            "executable" | "foreign" => {
                format!("the socket `{name}` was not made by a recorder of this user, and stays")
            }
            "link" => {
                format!("`{name}` is no socket, and metrics are put in the place of nothing else")
            }
            _ => format!("somebody listens to `{name}` already"),
        };
        let told = format!("exit 2\nerror: {why}\n\nhint: name a");
        assert!(ran.told().starts_with(&told), "{}", ran.told());
        assert_eq!(dir.names(), before);
    }
}
