//! What other users put into a directory in which anyone may make files, for whoever records there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use insta::assert_snapshot;

use crate::harness::{Dir, MadeUp, is_root, observation};
use crate::not_run::not_here;

const OTHER: u32 = 65_534;

/// A directory like `/tmp`, `None` (said aloud) where the tests cannot act for two users.
fn shared() -> Option<Dir> {
    if !is_root() {
        not_here("planted", "only root can make files of another user");
        return None;
    }
    let dir = Dir::new();
    fs::set_permissions(dir.path("."), Permissions::from_mode(0o1777)).unwrap();
    Some(dir)
}

fn plant(dir: &Dir, name: &str) {
    lchown(dir.path(name), Some(OTHER), Some(OTHER)).unwrap();
}

fn made_up(dir: &Dir, name: &str) {
    let mut made = MadeUp::begin(&dir.path(name));
    made.snapshot(&[observation(1)]).commit();
    made.end();
}

#[test]
fn a_link_of_another_user_is_not_followed() {
    let Some(dir) = shared() else { return };
    made_up(&dir, "mine.db");
    symlink("mine.db", dir.path("link.db")).unwrap();
    dir.sockrec("query connections -f link.db").fine();
    plant(&dir, "link.db");
    fs::write(dir.path("precious"), "").unwrap();
    symlink("precious", dir.path("new.db")).unwrap();
    plant(&dir, "new.db");
    // Through the links themselves the kernel may let nobody read.
    let files = || [dir.names().join(" "), fs::read_to_string(dir.path("precious")).unwrap()];
    let before = files();
    let told = dir.sockrec("query connections -f link.db").told();
    for line in [
        "mark -f link.db here",
        "record -qc1 -o link.db",
        "export sockets -f mine.db --format csv -o link.db",
    ] {
        assert_eq!(dir.sockrec(line).told(), told, "{line}");
    }
    let of_new = dir.sockrec("record -qc1 -o new.db").told();
    assert_eq!(of_new, told.replace("link.db", "new.db"));
    assert_eq!(dir.sockrec("export sockets -f mine.db --format csv -o new.db").told(), of_new);
    let ran = dir.sockrec("copy -f mine.db -o new.db");
    assert!(ran.stderr.contains("`new.db` is there already"), "{}", ran.told());
    assert_eq!(files(), before);
    assert_snapshot!(told, @"
    exit 1
    error: `link.db` is a link that another user (uid 65534) put into a directory where anyone may

    hint: choose a directory of your own, or name the file itself where it is a link
    ");
}

#[test]
fn a_file_of_another_user_is_not_written_to() {
    let Some(dir) = shared() else { return };
    for name in ["early.db", "out.csv"] {
        fs::write(dir.path(name), "").unwrap();
        fs::set_permissions(dir.path(name), Permissions::from_mode(0o666)).unwrap();
        plant(&dir, name);
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path("pipe.csv"), mode).unwrap();
    plant(&dir, "pipe.csv");
    made_up(&dir, "mine.db");
    for line in [
        "record -qc1 -o early.db",
        "export sockets -f mine.db -o out.csv",
        "export sockets -f mine.db -o pipe.csv",
    ] {
        let ran = dir.sockrec(line);
        assert_eq!(ran.code(), Some(1), "{line}: {}", ran.told());
        assert!(ran.stderr.contains("is a file that another user (uid 65534)"), "{}", ran.told());
    }
    assert_eq!(fs::read(dir.path("early.db")).unwrap(), b"");
}

/// SQLite would write what is recorded into it, or take what is in it for a part of the recording.
#[test]
fn what_another_user_put_beside_a_recording_is_not_taken_for_a_part_of_it() {
    let Some(dir) = shared() else { return };
    for ending in ["wal", "shm", "journal"] {
        let name = format!("rec.db-{ending}");
        fs::write(dir.path(&name), "").unwrap();
        plant(&dir, &name);
        let ran = dir.sockrec("record -qc1 -o rec.db");
        assert_eq!(ran.code(), Some(1), "{}", ran.told());
        assert!(
            ran.stderr.contains(&format!("`rec.db-{ending}` is a file that another")),
            "{ran:?}"
        );
        assert!(!dir.path("rec.db").exists());
        made_up(&dir, "mine.db");
        fs::rename(dir.path("mine.db"), dir.path("rec.db")).unwrap();
        assert_eq!(dir.sockrec("info -f rec.db").stderr, ran.stderr);
        for name in ["rec.db", &name] {
            fs::remove_file(dir.path(name)).unwrap();
        }
    }
}

/// A colleague's recording may be read where he put it, with what belongs to it.
#[test]
fn the_recording_of_another_user_is_read_by_its_own_name() {
    let Some(dir) = shared() else { return };
    let mut made = MadeUp::begin(&dir.path("his.db"));
    made.snapshot(&[observation(1)]).commit();
    for ending in ["", "-wal", "-shm"] {
        plant(&dir, &format!("his.db{ending}"));
    }
    dir.sockrec("query connections -f his.db").fine();
}

#[test]
fn in_a_directory_of_ones_own_links_are_followed_and_what_is_made_is_private() {
    let dir = Dir::new();
    made_up(&dir, "mine.db");
    symlink("mine.db", dir.path("link.db")).unwrap();
    dir.sockrec("record -qc1 -o link.db").recorded();
    dir.sockrec("query connections -f link.db").fine();
    fs::write(dir.path("out.csv"), "").unwrap();
    fs::set_permissions(dir.path("out.csv"), Permissions::from_mode(0o644)).unwrap();
    for (line, name) in [
        ("export sockets -f mine.db -o out.csv", "out.csv"),
        ("export samples -f mine.db -o new.json", "new.json"),
        ("extract -f mine.db -o part.db", "part.db"),
        ("merge mine.db part.db -o all.db", "all.db"),
        ("copy -f mine.db -o copy.db", "copy.db"),
    ] {
        dir.sockrec(line).fine();
        let mode = fs::metadata(dir.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{line}");
    }
}
