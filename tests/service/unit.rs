//! The unit for systemd, and that nothing of what it forbids is needed.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::harness::{Dir, skip};

const UNIT: &str = include_str!("../../packaging/sockrec.service");

/// What systemd rates as exposed, times ten. What is left: it sees the machine's network and processes,
/// with the three capabilities that this takes.
const EXPOSURE: &str = "20";

/// The unit with the program that is tested.
fn unit(dir: &Dir) -> String {
    let path = dir.path("sockrec.service");
    let unit = UNIT.replace("/usr/bin/sockrec", env!("CARGO_BIN_EXE_sockrec"));
    assert_ne!(unit, UNIT);
    fs::write(&path, unit).unwrap();
    path.to_str().unwrap().to_owned()
}

fn systemd_analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(_) => {
            skip("the unit: there is no systemd-analyze");
            None
        }
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = Dir::new();
    let Some(output) = systemd_analyze(&["verify", "--man=no", &unit(&dir)]) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_unit_exposes_no_more_than_it_takes_to_record() {
    let dir = Dir::new();
    let threshold = format!("--threshold={EXPOSURE}");
    let arguments = ["security", "--offline=yes", &threshold, &unit(&dir)];
    let Some(output) = systemd_analyze(&arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The command line of the unit is one that the program takes.
#[test]
fn the_unit_runs_what_the_program_understands() {
    let dir = Dir::new();
    let line =
        UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/sockrec ")).unwrap();
    fs::write(dir.path("limits"), include_str!("../../packaging/limits.conf")).unwrap();
    let line = line
        .replace("/var/lib/sockrec/sockrec.db", "rec.db")
        .replace("/etc/sockrec/limits.conf", "limits")
        .replace("$SOCKREC_OPTIONS", "-q -c 2 -i 10ms");
    dir.sockrec(&line).recorded();
    // What the files of settings show as examples is taken too.
    let limits = include_str!("../../packaging/limits.conf").replace("# max-", "max-");
    assert!(limits.contains("\nmax-cpu = 50%"), "{limits}");
    fs::write(dir.path("limits"), limits).unwrap();
    dir.sockrec(&line).recorded();
}
