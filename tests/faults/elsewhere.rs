//! Whoever asks for one moment reads what tells of it, and not the whole recording: the rest may be lost.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sockrec::model::Observation;

use crate::harness::{Dir, MadeUp, observation};

const PAGE: usize = 4_096;
const GROUPS: usize = 24;
/// Snapshots of a group.
const SNAPSHOTS: usize = 100;
const SOCKETS: u16 = 30;

/// The tables and indexes that grow with the time that was recorded.
const GROWING: [&str; 3] = ["samples", "snapshots", "snapshots_by_end"];

/// A recording in which every socket changes all the time; tells its middle, in UTC nanoseconds.
fn long(path: &Path) -> i64 {
    let mut made_up = MadeUp::begin(path);
    made_up.group_len = i64::try_from(SNAPSHOTS).unwrap();
    let mut middle = 0;
    for snapshot in 0..GROUPS * SNAPSHOTS {
        let changed = |port| {
            let mut changed: Observation<'_> = observation(port);
            changed.tcp.rtt_us = u32::try_from(snapshot).ok();
            changed
        };
        let observations: Vec<_> = (1..=SOCKETS).map(changed).collect();
        made_up.snapshot(&observations).commit();
        if snapshot == GROUPS * SNAPSHOTS / 2 + SNAPSHOTS / 2 {
            middle = made_up.now().utc_ns;
        }
    }
    made_up.end();
    middle
}

/// The pages that hold its rows, in their order.
fn leaves(path: &Path, name: &str) -> Vec<usize> {
    let file = Connection::open(path).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path";
    let mut statement = file.prepare(sql).unwrap();
    let pages = statement.query_map([name], |row| row.get::<_, u32>(0)).unwrap();
    pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
}

/// Loses all but the ends, where the recording begins and ends, and two groups around the middle.
fn lose(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    for name in GROWING {
        let leaves = leaves(path, name);
        let count = leaves.len();
        let around = |group: usize| count * group / GROUPS;
        let lost = [2..around(GROUPS / 2 - 1), around(GROUPS / 2 + 2) + 1..count - 2];
        let lost: Vec<_> = lost.into_iter().flatten().map(|i| leaves[i]).collect();
        assert!(lost.len() * 3 >= count, "{} of {count} pages of {name}", lost.len());
        for page in lost {
            bytes[(page - 1) * PAGE..page * PAGE].fill(0);
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_moment_is_answered_though_what_was_long_before_and_after_it_is_lost() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let middle_ns = long(&path);
    let middle = format!("@{}", middle_ns / 1_000_000_000);
    let questions = [
        format!("query at {middle} --format csv -f rec.db"),
        format!("query at {middle} --format csv -f rec.db state established"),
    ];
    let answers = questions.each_ref().map(|question| dir.sockrec(question).fine().stdout());
    assert_eq!(answers[0].lines().count(), 1 + usize::from(SOCKETS));
    lose(&path);
    for (question, answer) in questions.iter().zip(answers) {
        assert_eq!(dir.sockrec(question).fine().stdout(), answer, "{question}");
    }
    // Whoever reads all of it meets what is lost.
    for all in ["query samples", "query snapshots", "query peers"] {
        let ran = dir.sockrec(&format!("{all} --format csv -f rec.db"));
        assert_eq!(ran.code(), Some(1), "{all}: {}", ran.told());
    }
}

/// Of a listing that ends with an error what came before is the beginning of the whole one.
#[test]
fn several_threads_tell_nothing_of_what_comes_after_damage() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    long(&path);
    let question = "export samples --format csv --columns snapshot_id,socket_id,rtt_us -f rec.db";
    let whole = dir.sockrec(question).fine().stdout();
    let leaves = leaves(&path, "samples");
    let lost = leaves[leaves.len() / 2];
    let mut bytes = fs::read(&path).unwrap();
    bytes[(lost - 1) * PAGE..lost * PAGE].fill(0);
    fs::write(&path, bytes).unwrap();
    for threads in [1, 2, 3] {
        let ran = dir.sockrec(&format!("{question} --threads {threads}"));
        assert_eq!(ran.code(), Some(1), "{threads}: {}", ran.told());
        let told = ran.stdout();
        assert!(whole.starts_with(&told), "{threads}");
        assert!(told.len() > whole.len() / 3, "{threads}: {} of {}", told.len(), whole.len());
    }
}
