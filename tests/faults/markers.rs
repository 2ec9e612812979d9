//! `sockrec mark` beside a recorder, and with names and files that do not do.

use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::harness::{
    Dir, MadeUp, ask, assert_is_one_file, assert_recording_is_whole, observation, run,
};
use crate::not_run::not_here;
use crate::permissions::{as_owner, ordinary, reachable};

fn made_up(path: &Path) {
    let mut made = MadeUp::begin(path);
    made.snapshot(&[observation(1)]).commit();
    made.end();
}

#[test]
fn markers_are_written_while_a_recorder_runs_and_stay_in_the_one_file() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 20ms -o rec.db");
    recorder.until_snapshots(&path, 2);
    let marks: Vec<_> =
        (0..10).map(|n| dir.start(&format!("mark -f rec.db 'moment {n}'"))).collect();
    dir.sockrec("mark -f rec.db --start phase").fine();
    for mark in marks {
        assert_eq!(mark.finish().told(), "exit 0\n");
    }
    // Those that are stored next may have been taken before, while the marks held the file.
    recorder.until("three snapshots in the phase", || {
        let within = "SELECT count(*) FROM snapshots WHERE started_at_ns >=
            (SELECT started_at_ns FROM markers WHERE name = 'phase')";
        ask(&path, within).is_ok_and(|n| n >= 3).then_some(())
    });
    assert_eq!(dir.sockrec("mark -f rec.db --end phase").told(), "exit 0\n");
    let between = dir.sockrec("query snapshots -f rec.db --from phase --to phase:end --format csv");
    assert!(between.fine().stdout().lines().count() > 3);
    recorder.signal(Signal::INT);
    recorder.finish().recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    assert_eq!(ask(&path, "SELECT count(DISTINCT name) FROM markers").unwrap(), 11);
    // The clock of this boot is known to the recording.
    let in_boot = "SELECT count(*) FROM markers AS m JOIN captures AS c USING (boot_id)
        WHERE m.started_boottime_ns BETWEEN c.started_boottime_ns AND c.ended_boottime_ns
            AND (m.ended_boottime_ns > m.started_boottime_ns OR NOT m.is_span)";
    assert_eq!(ask(&path, in_boot).unwrap(), 11);
}

/// What a crash left is gone on with by the next recorder, markers and all.
#[test]
fn a_marker_beside_the_log_of_a_killed_recorder_is_kept() {
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -i 10ms -o rec.db");
    recorder.until_snapshots(&path, 2);
    recorder.kill();
    let ran = dir.sockrec("mark -f rec.db 'after the crash'").fine();
    assert!(
        ran.stderr.starts_with("note: nothing is being recorded: the recording ends at "),
        "{}",
        ran.told()
    );
    dir.sockrec("record -q -c 1 -o rec.db").recorded();
    assert_is_one_file(&path);
    assert_recording_is_whole(&path);
    assert_eq!(ask(&path, "SELECT count(*) FROM markers").unwrap(), 1);
}

/// The clock of a machine that recorded nothing there says nothing of the recording's.
#[test]
fn of_another_boot_only_utc_is_kept() {
    let dir = Dir::new();
    made_up(&dir.path("sockrec.db"));
    dir.sockrec("mark --start here").fine();
    dir.sockrec("mark --end here").fine();
    let unknown = "SELECT count(*) FROM markers WHERE boot_id IS NULL AND ended_at_ns IS NOT NULL
        AND started_boottime_ns IS NULL AND ended_boottime_ns IS NULL";
    assert_eq!(ask(&dir.path("sockrec.db"), unknown).unwrap(), 1);
    assert_is_one_file(&dir.path("sockrec.db"));
}

#[test]
fn names_that_cannot_be_told_from_times_are_refused() {
    let dir = Dir::new();
    made_up(&dir.path("sockrec.db"));
    let before = dir.contents();
    let misused = |line: &str| {
        let ran = dir.sockrec(line);
        assert_eq!(ran.code(), Some(2), "{line}: {}", ran.told());
        assert_eq!(dir.contents(), before, "{line}");
        ran.stderr
    };
    for time in ["now", "14:03", "10m ago", "@1700000000", "2026-11-21", "2999-01-01"] {
        let told = misused(&format!("mark '{time}'"));
        assert!(told.contains("it would be read as a time"), "{told}");
    }
    assert_snapshot!(misused("mark 14:03"), @"
    error: `14:03` cannot name a marker: it would be read as a time

    hint: names stand where times do; `--at TIME` says when it was
    ");
    assert_snapshot!(misused("mark deploy:end"), @"
    error: `deploy:end` cannot name a marker: `NAME:end` is the end of the span NAME

    hint: `--end NAME` marks it
    ");
    assert_snapshot!(misused("mark ' '"), @"
    error: `` cannot name a marker: it is empty

    hint: as in `sockrec mark 'failover begins'`
    ");
    let told = misused("mark 'two\nlines'");
    assert_snapshot!(told, @r"error: `two\nlines` cannot name a marker: it holds control characters");
    assert!(misused(&format!("mark {}", "x".repeat(201))).contains("longer than 200 characters"));
    assert_snapshot!(misused("mark --end deploy"), @"
    error: no span `deploy` waits for its end in `sockrec.db`

    hint: `sockrec mark --start NAME` begins one; `sockrec query markers` lists them
    ");
    assert_snapshot!(misused("mark later --at 2200-01-01"), @"
    error: the time `2200-01-01` is in the future

    hint: nothing can have been recorded then; check the date and the offset
    ");
    assert_snapshot!(misused("mark later --at teatime"), @"
    error: `teatime` is no time

    hint: write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an offset is given
    ");
    assert_snapshot!(misused("mark both --start --end"), @"
    error: the argument '--start' cannot be used with '--end'

    Usage: sockrec mark --start <NAME>

    For more information, try '--help'.
    ");
    assert_snapshot!(misused("query markers -t"), @"
    error: a marker is of no socket: options that choose sockets do not go with it

    hint: `sockrec query connection ID` tells the markers in the life of one
    ");
    dir.sockrec("mark Chicago").fine();
}

#[test]
fn a_span_does_not_end_before_it_starts() {
    let dir = Dir::new();
    made_up(&dir.path("sockrec.db"));
    dir.sockrec("mark --start deploy --at 2023-11-14T22:13:21Z").fine();
    assert_snapshot!(dir.sockrec("mark --end deploy --at 2023-11-14T22:13:20Z").told(), @"
    exit 2
    error: the span `deploy` began only at 2023-11-14T22:13:21Z

    hint: it cannot end before that
    ");
}

#[test]
fn files_that_cannot_be_marked() {
    let dir = Dir::new();
    assert_snapshot!(dir.sockrec("mark here").told(), @"
    exit 1
    error: there is no recording `sockrec.db`

    hint: record one with `sockrec record -o sockrec.db`, or name another with `-f FILE`
    ");
    std::fs::write(dir.path("text.db"), "no recording").unwrap();
    assert_snapshot!(dir.sockrec("mark here -f text.db").told(), @"
    exit 1
    error: `text.db` is not a sockrec recording: it is too short for an SQLite file

    hint: it was left untouched; choose another file name
    ");
    assert_eq!(dir.names(), ["text.db"], "nothing was made");
    assert_eq!(std::fs::read(dir.path("text.db")).unwrap(), b"no recording");
}

#[test]
fn a_recording_of_somebody_else_or_one_that_may_only_be_read() {
    let Some(dir) = reachable() else { return };
    made_up(&dir.path("rec.db"));
    let ours = run(ordinary(dir.command("mark here -f rec.db")));
    if crate::harness::is_root() {
        assert_snapshot!(ours.told(), @"
        exit 1
        error: could not open `rec.db`
          caused by: Permission denied (os error 13)

        hint: recordings are for their owner only: run as that user; to record, choose a file in a directory that you may write to
        ");
    } else {
        not_here("a mark in the recording of somebody else", "only root can make one");
    }
    as_owner(&dir.path("rec.db"));
    std::fs::set_permissions(
        dir.path("rec.db"),
        std::os::unix::fs::PermissionsExt::from_mode(0o400),
    )
    .unwrap();
    let ran = run(ordinary(dir.command("mark here -f rec.db --at 2023-11-14T22:13:21Z")));
    assert_snapshot!(ran.told(), @"
    exit 1
    error: `rec.db` may not be written to
      caused by: Error code 8: attempt to write a readonly database

    hint: check the permissions of the file, its directory and its file system
    ");
}
