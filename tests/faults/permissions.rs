//! Files and directories that one may not read or write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use rusqlite::Connection;
use rustix::process::Resource;

use crate::harness::{
    Dir, MadeUp, Ran, ask, assert_is_one_file, is_root, limited_to, observation, run,
};
use crate::not_run::not_here;

/// Who may do nothing special: `nobody` where the tests run as root, else who runs them.
const NOBODY: u32 = 65_534;

/// A directory in which an ordinary user may run the program, `None` (said aloud) where that user
/// cannot reach it.
pub(crate) fn reachable() -> Option<Dir> {
    let dir = Dir::new();
    mode(&dir.path("."), 0o755);
    let version = ordinary(dir.command("--version")).output();
    if version.is_ok_and(|output| output.status.success()) {
        return Some(dir);
    }
    not_here("permissions", "an ordinary user cannot run the program where it was built");
    None
}

pub(crate) fn ordinary(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn as_ordinary(dir: &Dir, line: &str) -> Ran {
    run(ordinary(dir.command(line)))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn as_owner(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A recording of the ordinary user.
fn made_up(dir: &Dir, name: &str) {
    let path = dir.path(name);
    let mut made = MadeUp::begin(&path);
    made.snapshot(&[observation(1)]).commit();
    made.end();
    as_owner(&path);
}

#[test]
fn a_recording_that_may_not_be_read() {
    let Some(dir) = reachable() else { return };
    made_up(&dir, "rec.db");
    mode(&dir.path("rec.db"), 0);
    let told = as_ordinary(&dir, "query connections -f rec.db").told();
    assert_eq!(as_ordinary(&dir, "record -o rec.db").told(), told);
    assert_eq!(as_ordinary(&dir, "info -f rec.db").told(), told);
    assert_eq!(dir.names(), ["rec.db"]);
    assert_snapshot!(told, @"
    exit 1
    error: could not open `rec.db`
      caused by: Permission denied (os error 13)

    hint: recordings are for their owner only: run as that user; to record, choose a file in a directory that you may write to
    ");
}

#[test]
fn a_recording_that_may_not_be_written() {
    let Some(dir) = reachable() else { return };
    made_up(&dir, "rec.db");
    mode(&dir.path("rec.db"), 0o400);
    as_ordinary(&dir, "query connections -f rec.db").fine();
    assert_snapshot!(as_ordinary(&dir, "record -o rec.db").told(), @"
    exit 1
    error: could not open `rec.db`
      caused by: Permission denied (os error 13)

    hint: recordings are for their owner only: run as that user; to record, choose a file in a directory that you may write to
    ");
    assert_eq!(dir.names(), ["rec.db"]);
}

#[test]
fn a_directory_that_may_not_be_written() {
    let Some(dir) = reachable() else { return };
    fs::create_dir(dir.path("sub")).unwrap();
    made_up(&dir, "sub/rec.db");
    mode(&dir.path("sub"), 0o555);
    assert_snapshot!(as_ordinary(&dir, "record -o sub/new.db").told(), @"
    exit 1
    error: could not open `sub/new.db`
      caused by: Permission denied (os error 13)

    hint: recordings are for their owner only: run as that user; to record, choose a file in a directory that you may write to
    ");
    assert_snapshot!(as_ordinary(&dir, "record -q -c 1 -o sub/rec.db").told(), @"
    exit 1
    error: `sub/rec.db` may not be written to
      caused by: Error code 1544: attempt to write a readonly database

    hint: check the permissions of the file, its directory and its file system
    ");
    as_ordinary(&dir, "query connections -f sub/rec.db").fine();
    assert_eq!(fs::read_dir(dir.path("sub")).unwrap().count(), 1);
    assert_snapshot!(as_ordinary(&dir, "export sockets -f sub/rec.db -o sub/out.csv").told(), @"
    exit 1
    error: could not create `sub/out.csv`
      caused by: Permission denied (os error 13)
    ");
}

#[test]
fn a_directory_that_may_not_be_looked_into_is_not_said_to_be_missing() {
    let Some(dir) = reachable() else { return };
    fs::create_dir_all(dir.path("sub/deeper")).unwrap();
    mode(&dir.path("sub"), 0);
    let told = as_ordinary(&dir, "record -o sub/deeper/rec.db").told();
    mode(&dir.path("sub"), 0o755);
    assert_snapshot!(told, @"
    exit 1
    error: could not open `sub/deeper/rec.db`
      caused by: Permission denied (os error 13)

    hint: recordings are for their owner only: run as that user; to record, choose a file in a directory that you may write to
    ");
}

/// Copied off a machine that died, onto something that may only be read: without a log all is
/// there, with one SQLite has to be able to index it.
#[test]
fn what_a_crash_left_in_a_directory_that_may_not_be_written() {
    let Some(dir) = reachable() else { return };
    fs::create_dir(dir.path("sub")).unwrap();
    let mut made = MadeUp::begin(&dir.path("made.db"));
    made.snapshot(&[observation(1)]).commit();
    let crashed = |ends: &[&str]| {
        mode(&dir.path("sub"), 0o755);
        for file in fs::read_dir(dir.path("sub")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        for end in ends {
            let to = dir.path(format!("sub/rec.db{end}"));
            fs::copy(dir.path(format!("made.db{end}")), &to).unwrap();
            as_owner(&to);
        }
        mode(&dir.path("sub"), 0o555);
    };
    let line = "query connections -f sub/rec.db --format csv --columns local_port";

    crashed(&["", "-wal", "-shm"]);
    assert_eq!(as_ordinary(&dir, line).fine().stdout(), "local_port\n1\n");
    crashed(&["", "-wal"]);
    assert_snapshot!(as_ordinary(&dir, line).told(), @"
    exit 1
    error: could not open `sub/rec.db`
      caused by: Error code 14: unable to open database file

    hint: its log `sub/rec.db-wal` cannot be used here; copy both files to a directory that you may write to
    ");

    // Folded in, but still marked as one with a log.
    let connection = Connection::open(dir.path("made.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert_eq!(ask(&dir.path("made.db"), "SELECT count(*) FROM sockets").unwrap(), 1);
    for ends in [&[""] as &[_], &["", "-wal"], &["", "-wal", "-shm"]] {
        crashed(ends);
        assert_eq!(as_ordinary(&dir, line).fine().stdout(), "local_port\n1\n", "{ends:?}");
    }
    mode(&dir.path("sub"), 0o755);
}

/// SQLite says of each file no more than that it cannot be opened. A start that comes to nothing leaves
/// nothing, whatever it was that a descriptor was missing for.
#[test]
fn a_file_that_there_is_no_descriptor_for_says_so() {
    let made = Dir::new();
    let made = made.record("made.db");
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let hint = "\n\nhint: raise the limit of descriptors: `ulimit -n` of a shell, `LimitNOFILE=` of a unit\n";
    let expected = format!("exit 1\nerror: could not open `rec.db`: too many files are open{hint}");
    let mut count = 0;
    for most in 5..20 {
        for before in [None, Some(&[][..]), Some(&fs::read(&made).unwrap())] {
            // What the last one recorded.
            let _ = fs::remove_file(&path);
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            let command = dir.command("record -q -t -c 1 -o rec.db");
            let ran = run(limited_to(command, Resource::Nofile, most));
            let told = ran.told();
            assert!(!told.contains("cannot be used here"), "{most}: {told}");
            count += usize::from(told == expected);
            match before {
                _ if matches!(ran.code(), Some(0 | 3)) => continue,
                None => assert!(dir.names().is_empty(), "{most}: {:?}", dir.names()),
                Some([]) => {
                    assert_eq!(dir.contents(), [("rec.db".to_owned(), Vec::new())], "{most}")
                }
                Some(_) => {
                    assert_is_one_file(&path);
                    assert_eq!(ask(&path, "SELECT count(*) FROM captures"), Ok(1), "{most}");
                }
            }
            assert!(told.ends_with(hint), "{most}: {told}");
        }
    }
    assert!(count > 1, "only {count} times for the file");
}
