//! `sockrec check`: what it says of recordings that are whole, that are not, and that are none.

use std::fs;

use insta::assert_snapshot;
use rusqlite::Connection;
use serde_json::Value;
use sockrec::store::INVARIANTS;

use crate::harness::{Dir, MadeUp, observation};

fn made_up(dir: &Dir, name: &str) {
    let mut made = MadeUp::begin(&dir.path(name));
    made.snapshot(&[observation(1), observation(2)]).commit();
    made.snapshot(&[observation(1), observation(2)]).commit();
    made.end();
}

#[test]
fn a_whole_recording() {
    let dir = Dir::new();
    made_up(&dir, "rec.db");
    let before = dir.contents();
    let told = dir.sockrec("check rec.db").fine().stdout();
    assert_eq!(told.lines().count(), INVARIANTS.len() + 1);
    for invariant in INVARIANTS {
        assert!(told.contains(&format!("holds      {}\n", invariant.name)), "{told}");
    }
    let last = format!("rec.db is whole: all {} rules hold", INVARIANTS.len());
    assert_eq!(told.lines().last(), Some(last.as_str()));
    assert_eq!(dir.contents(), before);
}

#[test]
fn one_that_contradicts_itself() {
    let dir = Dir::new();
    made_up(&dir, "rec.db");
    let sql = "UPDATE snapshots SET samples = 7 WHERE snapshot_id = 2;
               UPDATE samples SET previous_snapshot_id = NULL";
    Connection::open(dir.path("rec.db")).unwrap().execute_batch(sql).unwrap();
    let before = dir.contents();
    let ran = dir.sockrec("check rec.db");
    assert_eq!(ran.code(), Some(1));
    let told: Vec<_> =
        ran.stdout().lines().filter(|line| !line.starts_with("holds")).map(str::to_owned).collect();
    assert_snapshot!(told.join("\n"), @"
    violated   sample-chains     2 times
               must be so: a sample names the socket's row before it, back to the first
               not so for: snapshot_id 2, socket_id 1, row_before 1
               not so for: snapshot_id 2, socket_id 2, row_before 1
               it means: the series of a socket is cut short
    violated   counts            1 time
               must be so: a snapshot counts its samples, a capture its missed ticks
               not so for: snapshot_id 2, counted 7, found 2
               it means: samples were lost or added, or gaps are not told in full
    rec.db is not whole: of 27 rules 2 do not hold
    ");
    let ran = dir.sockrec("check rec.db --format json");
    assert_eq!(ran.code(), Some(1));
    let found: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(found["is_whole"], false);
    assert_eq!(found["is_being_recorded"], false);
    let rules = found["rules"].as_array().unwrap();
    assert_eq!(rules.len(), INVARIANTS.len());
    let counts = rules.iter().find(|rule| rule["rule"] == "counts").unwrap();
    assert_eq!(counts["verdict"], "violated");
    assert_eq!(counts["violations"], 1);
    assert_eq!(counts["examples"][0]["snapshot_id"], 2);
    assert_eq!(dir.contents(), before);
}

#[test]
fn one_that_is_damaged() {
    let dir = Dir::new();
    made_up(&dir, "rec.db");
    let whole = fs::read(dir.path("rec.db")).unwrap();
    fs::write(dir.path("cut.db"), &whole[..whole.len() / 2]).unwrap();
    let ran = dir.sockrec("check cut.db");
    assert_eq!(ran.code(), Some(1));
    let told: Vec<_> = ran.stdout().lines().take(5).map(str::to_owned).collect();
    assert_snapshot!(told.join("\n"), @"
    violated   sqlite            1 time
               must be so: SQLite's integrity check finds nothing
               not so for: message database disk image is malformed
               it means: the file itself was damaged: a failing disk, a copy that was cut off or made without its log, another program; answers may fail or lack rows
    not known  schema            database disk image is malformed
    ");
}

/// One page after the other: whatever SQLite makes of it, the file is told to be damaged.
#[test]
fn one_with_a_page_that_was_lost() {
    const PAGE: usize = 4_096;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut made = MadeUp::begin(&path);
    made.group_len = 20;
    for _ in 0..60 {
        made.snapshot(&(0..40).map(observation).collect::<Vec<_>>()).commit();
    }
    made.end();
    let whole = fs::read(&path).unwrap();
    let pages = whole.len() / PAGE;
    let hint = "hint: copy what can still be read with `sockrec salvage rec.db -o saved.db`\n";
    // The roots of the tables come first; without the very first page it is no recording.
    for page in (1..pages.min(24)).chain((24..pages).step_by((pages / 12).max(1))) {
        for fill in [0, 0xa5] {
            let mut damaged = whole.clone();
            damaged[page * PAGE..(page + 1) * PAGE].fill(fill);
            fs::write(&path, &damaged).unwrap();
            let ran = dir.sockrec("check rec.db");
            assert_eq!(ran.code(), Some(1), "page {}: {}", page + 1, ran.told());
            assert!(ran.stdout().starts_with("violated   sqlite  "), "{}", ran.told());
            assert!(ran.stdout().contains("not so for: message "), "{}", ran.told());
            assert_eq!(ran.stderr, hint, "page {}", page + 1);
        }
    }
}

#[test]
fn what_cannot_be_looked_at() {
    let dir = Dir::new();
    fs::write(dir.path("notes.txt"), "minutes of the meeting\n".repeat(400)).unwrap();
    for name in ["missing.db", "notes.txt", "."] {
        let ran = dir.sockrec(&format!("check {name}"));
        assert_eq!(ran.code(), Some(2), "{}", ran.told());
        assert!(ran.stderr.starts_with("error: ") && ran.stdout.is_empty(), "{}", ran.told());
    }
    let ran = dir.sockrec("check rec.db --format csv");
    assert_snapshot!(ran.told(), @"
    exit 2
    error: what `check` finds has no rows for csv

    hint: use `--format json`
    ");
}

/// Of several hosts, of a part, of what others captured, and while it is written.
#[test]
fn whatever_way_it_was_made() {
    let dir = Dir::new();
    let mut recorder = dir.start("record -q -i 20ms -o live.db");
    recorder.until_snapshots(&dir.path("live.db"), 5);
    let ran = dir.sockrec("check live.db").fine();
    assert!(ran.stdout().contains("live.db (being recorded) is whole"), "{}", ran.told());
    recorder.signal(rustix::process::Signal::INT);
    recorder.finish().recorded();
    made_up(&dir, "rec.db");
    dir.sockrec("merge live.db rec.db -o merged.db").fine();
    dir.sockrec("extract -f merged.db --socket 1 -o one.db").fine();
    dir.sockrec("extract -f live.db -t -o tcp.db").fine();
    dir.sockrec("extract -f live.db -u -n 1 -o few.db");
    dir.sockrec("copy -f merged.db -o copy.db").fine();
    for name in ["live.db", "merged.db", "one.db", "tcp.db", "few.db", "copy.db"] {
        if dir.path(name).exists() {
            dir.sockrec(&format!("check {name}")).fine();
        }
    }
}
