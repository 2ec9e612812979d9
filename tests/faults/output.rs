//! Outputs that go away or fill up, and files that are exported to.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use rustix::process::Signal;
use sockrec::model::Observation;

use crate::harness::{Dir, MadeUp, Ran, Running, limited, observation, run, until};

const FORMATS: [&str; 4] = ["csv", "json", "jsonl", "table"];

/// A recording whose answers fill many pipes.
fn large(dir: &Dir) {
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    for n in 1..=30 {
        let row = |port| {
            let mut row = observation(port);
            row.tcp.bytes_sent = Some(n);
            row
        };
        made.snapshot(&(1..=200).map(row).collect::<Vec<Observation<'_>>>()).commit();
    }
    made.end();
}

/// Everything that writes to stdout, with how it is written.
fn answers() -> Vec<String> {
    let mut lines: Vec<_> =
        ["info", "info --format json", "query samples --columns help"].map(str::to_owned).into();
    for format in FORMATS {
        for question in [
            "connections",
            "connection 1",
            "coverage",
            "samples",
            "snapshots",
            "at 2023-11-14T22:13:22Z",
        ] {
            lines.push(format!("query {question} --format {format}"));
        }
        if format != "table" {
            lines.push(format!("export samples --format {format}"));
        }
    }
    lines
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let dir = Dir::new();
    large(&dir);
    for line in answers() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = dir.command(&line);
        command.stdout(writer);
        let ran = run(command);
        let notes: String = ran.stderr.lines().filter(|l| !l.starts_with("note: ")).collect();
        assert_eq!((ran.code(), notes.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = Dir::new();
    large(&dir);
    for format in FORMATS {
        for threads in [1, 3] {
            let (mut reader, writer) = io::pipe().unwrap();
            let line = format!("query samples --format {format} --threads {threads}");
            let mut command = dir.command(&line);
            command.stdout(writer);
            let running = Running::spawn(command);
            reader.read_exact(&mut [0; 100]).unwrap();
            drop(reader);
            assert_eq!(running.finish().told(), "exit 0\n", "{line}");
        }
    }
}

#[test]
fn a_stdout_that_takes_nothing_is_an_error() {
    let dir = Dir::new();
    large(&dir);
    for line in answers() {
        let mut command = dir.command(&line);
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ran = run(command);
        let told: Vec<_> = ran.stderr.lines().filter(|l| !l.starts_with("note: ")).collect();
        let expected = [
            "error: could not write the answer",
            "  caused by: No space left on device (os error 28)",
        ];
        assert_eq!((ran.code(), told), (Some(1), expected.to_vec()), "{line}");
    }
}

#[test]
fn a_stderr_that_nobody_reads_does_not_stop_a_recorder() {
    let dir = Dir::new();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = dir.command("record -i 1h -c 1 -o rec.db");
    command.stderr(writer);
    assert_eq!(run(command).code(), Some(0));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_export_is_for_its_owner_only() {
    let dir = Dir::new();
    large(&dir);
    let path = dir.path("out.csv");
    dir.sockrec("export sockets -o out.csv").fine();
    assert_eq!(mode(&path), 0o600);
    fs::write(&path, "what was there before").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    dir.sockrec("export sockets -o out.csv").fine();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(dir.names(), ["out.csv", "sockrec.db"]);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 201);
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let dir = Dir::new();
    large(&dir);
    let before = "what was there before";
    let mut told = Vec::new();
    for format in ["csv", "json", "jsonl"] {
        for limit in [0, 10, 100_000] {
            fs::write(dir.path("out"), before).unwrap();
            let line = format!("export samples --format {format} -o out");
            told.push(run(limited(dir.command(&line), limit)).told());
            assert_eq!(fs::read_to_string(dir.path("out")).unwrap(), before);
            assert_eq!(dir.names(), ["out", "sockrec.db"]);
        }
    }
    told.dedup();
    assert_snapshot!(told.join("\n"), @"
    exit 1
    error: could not write `out`
      caused by: File too large (os error 27)
    ");
}

#[test]
fn an_export_of_a_damaged_recording_leaves_what_was_there() {
    let dir = Dir::new();
    large(&dir);
    fs::write(dir.path("out.csv"), "before").unwrap();
    let recording = fs::read(dir.path("sockrec.db")).unwrap();
    let mut damaged = recording.clone();
    damaged[recording.len() / 2..].fill(0xa5);
    fs::write(dir.path("sockrec.db"), damaged).unwrap();
    let ran = dir.sockrec("export samples -o out.csv");
    assert_snapshot!(ran.told(), @"
    exit 1
    error: `sockrec.db` is damaged
      caused by: Error code 11: database disk image is malformed

    hint: copy what can still be read with `sockrec salvage sockrec.db -o saved.db`
    ");
    assert_eq!(fs::read_to_string(dir.path("out.csv")).unwrap(), "before");
    assert_eq!(dir.names(), ["out.csv", "sockrec.db"]);
}

/// Stops an export when a part of it is written, looks, sends it a signal and lets it go on.
fn in_the_middle_of_an_export(dir: &Dir, signal: Signal) -> Ran {
    let partial = || dir.names().into_iter().find(|name| name.ends_with(".partial"));
    let written = || partial().and_then(|name| Some(fs::metadata(dir.path(name)).ok()?.len()));
    dir.sockrec("export samples -o out.csv").fine();
    let whole = fs::metadata(dir.path("out.csv")).unwrap().len();
    // One that is over before it can be stopped says nothing; so many in a row do not happen.
    for _ in 0..50 {
        fs::write(dir.path("out.csv"), "before").unwrap();
        let mut export = dir.start("export samples -o out.csv");
        until("a part is written", || {
            let has_begun = written().is_some_and(|len| len > 0);
            let is_over = export.child.try_wait().unwrap().is_some();
            (has_begun || is_over).then_some(())
        });
        if export.child.try_wait().unwrap().is_some() {
            continue;
        }
        export.signal(Signal::STOP);
        // Soon before its end it may be over before it has heard of the signal.
        let is_caught = written().is_some_and(|len| len < whole / 2);
        let shown = fs::read_to_string(dir.path("out.csv")).unwrap();
        export.signal(signal);
        if signal != Signal::KILL {
            export.signal(Signal::CONT);
        }
        let ran = export.finish();
        if is_caught {
            assert_eq!(shown, "before");
            return ran;
        }
    }
    panic!("no export was caught in the middle");
}

#[test]
fn an_export_that_is_killed_never_stands_under_its_name() {
    let dir = Dir::new();
    large(&dir);
    in_the_middle_of_an_export(&dir, Signal::KILL);
    assert_eq!(fs::read_to_string(dir.path("out.csv")).unwrap(), "before");
    // What it left is in nobody's way.
    dir.sockrec("export samples -o out.csv").fine();
    assert_eq!(fs::read_to_string(dir.path("out.csv")).unwrap().lines().count(), 6_001);
}

#[test]
fn an_export_that_is_stopped_leaves_nothing_behind() {
    let dir = Dir::new();
    large(&dir);
    let told = [Signal::INT, Signal::TERM, Signal::HUP].map(|signal| {
        let ran = in_the_middle_of_an_export(&dir, signal);
        assert_eq!(fs::read_to_string(dir.path("out.csv")).unwrap(), "before");
        assert_eq!(dir.names(), ["out.csv", "sockrec.db"]);
        ran.told()
    });
    assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
    assert_snapshot!(told[0], @"
    exit 1
    error: stopped by a signal: `out.csv` was not made
    ");
}

/// Whoever reads it may have stopped reading: there is nothing to be cleared away.
#[test]
fn an_export_into_a_pipe_that_is_full_can_be_interrupted() {
    let dir = Dir::new();
    large(&dir);
    for line in ["export samples", "query samples --format csv"] {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = dir.command(line);
        command.stdout(writer);
        let running = Running::spawn(command);
        reader.read_exact(&mut [0; 100]).unwrap();
        running.signal(Signal::INT);
        let ran = running.finish();
        assert_eq!(ran.status.signal(), Some(libc::SIGINT), "{line}: {}", ran.told());
    }
}

/// A container starts each program with the same few process ids.
#[test]
fn what_an_export_of_the_same_process_id_left_is_in_nobodys_way() {
    let dir = Dir::new();
    large(&dir);
    let mut command = Command::new("sh");
    let script = "for n in '' -0 -1; do : > out.csv.$$$n.partial; done; exec \"$0\" export sockets -o out.csv";
    command.args(["-c", script, env!("CARGO_BIN_EXE_sockrec")]).current_dir(dir.path("."));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    run(command).fine();
    assert_eq!(fs::read_to_string(dir.path("out.csv")).unwrap().lines().count(), 201);
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() {
    let dir = Dir::new();
    large(&dir);
    let pipe = dir.path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    // Read without waiting: it takes what this export writes, and then the writer is gone.
    let mut reader =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    dir.sockrec("export sockets --columns socket_id --format csv -o pipe").fine();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 201);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());

    symlink("/dev/null", dir.path("null.csv")).unwrap();
    dir.sockrec("export sockets -o null.csv").fine();
    assert_eq!(fs::read_link(dir.path("null.csv")).unwrap(), Path::new("/dev/null"));
    symlink("/dev/full", dir.path("full.csv")).unwrap();
    assert_snapshot!(dir.sockrec("export sockets -o full.csv").told(), @"
    exit 1
    error: could not write `full.csv`
      caused by: No space left on device (os error 28)
    ");

    fs::create_dir(dir.path("sub")).unwrap();
    fs::write(dir.path("sub/real.csv"), "before").unwrap();
    symlink("sub/real.csv", dir.path("link.csv")).unwrap();
    dir.sockrec("export sockets -o link.csv").fine();
    assert_eq!(fs::read_link(dir.path("link.csv")).unwrap(), Path::new("sub/real.csv"));
    assert_eq!(fs::read_to_string(dir.path("sub/real.csv")).unwrap().lines().count(), 201);
    assert_eq!(dir.names(), ["full.csv", "link.csv", "null.csv", "pipe", "sockrec.db", "sub"]);
}

#[test]
fn an_export_has_to_go_to_a_file_in_a_directory_that_is_there() {
    let dir = Dir::new();
    large(&dir);
    fs::create_dir(dir.path("sub.csv")).unwrap();
    assert_snapshot!(dir.sockrec("export sockets -o sub.csv").told(), @"
    exit 2
    error: `sub.csv` is a directory

    hint: name a file
    ");
    assert_snapshot!(dir.sockrec("export sockets -o missing/out.csv").told(), @"
    exit 1
    error: could not create `missing/out.csv`
      caused by: No such file or directory (os error 2)
    ");
}

#[test]
fn a_dash_is_stdout_where_data_can_go_there_and_refused_elsewhere() {
    let dir = Dir::new();
    dir.record("sockrec.db");
    let before = dir.names();
    for what in ["samples", "snapshots --format jsonl"] {
        let plain = dir.sockrec(&format!("export {what}")).fine().stdout();
        assert_eq!(dir.sockrec(&format!("export {what} -o -")).fine().stdout(), plain);
    }
    for line in [
        "record -c 1 -o -",
        "record -c 1 --metrics -",
        "copy -o -",
        "extract -o -",
        "salvage sockrec.db -o -",
        "merge sockrec.db -o -",
        "import sockrec.db -o -",
        "query connections -f -",
        "info -f -",
        "check -",
    ] {
        let ran = dir.sockrec(line);
        assert_eq!(ran.code(), Some(2), "{line}: {}", ran.told());
        assert!(ran.stderr.contains("name a file, or `./-`"), "{line}: {}", ran.told());
    }
    assert_eq!(dir.names(), before);
    // A file that is called so can be named.
    dir.sockrec("copy -o ./-").fine();
    dir.sockrec("info -f ./-").fine();
    dir.sockrec("export samples -o ./-.csv").fine();
}
