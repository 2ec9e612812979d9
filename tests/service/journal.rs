//! Lines for systemd's journal carry their level, others do not.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::harness::{Dir, run};

/// What goes to stderr, where that is a journal or not.
fn said(dir: &Dir, line: &str, is_journal: bool) -> String {
    let path = dir.path("stderr");
    let file = File::create(&path).unwrap();
    let it = file.metadata().unwrap();
    let mut command = dir.command(line);
    let inode = if is_journal { it.ino() } else { it.ino() + 1 };
    command.env("JOURNAL_STREAM", format!("{}:{inode}", it.dev()));
    command.stderr(Stdio::from(file));
    run(command);
    fs::read_to_string(path).unwrap()
}

#[test]
fn lines_to_the_journal_begin_with_their_level() {
    let dir = Dir::new();
    insta::assert_snapshot!(said(&dir, "query connections -f no.db", true), @"
    <3>error: there is no recording `no.db`
    <3>hint: record one with `sockrec record -o no.db`, or name another with `-f FILE`
    ");
    let summary = said(&dir, "record -i 10ms -c 2 -o rec.db --no-owners", true);
    assert!(summary.contains("<6>recorded 2 snapshots in "), "{summary}");
    assert!(summary.lines().all(|line| line.starts_with('<')), "{summary}");
    let warning = said(&dir, "info --live -f rec.db", true);
    assert_eq!(warning, "<4>warning: nobody records into it\n");
}

#[test]
fn lines_to_anything_else_are_plain() {
    let dir = Dir::new();
    let text = said(&dir, "query connections -f no.db", false);
    assert!(text.starts_with("error: "), "{text}");
    assert!(!text.contains('<'), "{text}");
}
