//! Those of questions: columns, times, formats, rules.

use insta::assert_snapshot;

use super::{dir, misused};

#[test]
fn columns() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "query connections --columns rtt_us,byte_sent"), @"
    error: there is no column `byte_sent` in this answer

    hint: did you mean `bytes_sent`?
    ");
    assert_snapshot!(misused(&dir, "query samples --columns state,colour"), @"
    error: there is no column `colour` in this answer

    hint: `--columns help` lists them
    ");
    assert_snapshot!(misused(&dir, "query at now --columns laddr"), @"
    error: there is no column `laddr` in this answer

    hint: `--columns help` lists them
    ");
    assert_snapshot!(misused(&dir, "export sockets --columns Cookie"), @"
    error: there is no column `Cookie` in this answer

    hint: did you mean `cookie`?
    ");
    assert_snapshot!(misused(&dir, "export sockets --columns cookie,"), @"
    error: there is no column `` in this answer

    hint: `--columns help` lists them
    ");
    assert_snapshot!(misused(&dir, "query connections --sort total_retran:desc"), @"
    error: there is no column `total_retran` in this answer

    hint: did you mean `total_retrans`?
    ");
    assert_snapshot!(misused(&dir, "query connections --sort rtt_us:down"), @"
    error: invalid value 'rtt_us:down' for '--sort <COLUMN[:desc]>': behind the colon expected asc or desc

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query connection 1 --format csv --columns state"), @"
    error: a story has its own columns

    hint: `sockrec query connections --socket ID` and `query samples --socket ID` choose
    ");
    // Text of a query must not get through.
    assert_snapshot!(misused(&dir, "query connections --columns 'state\" FROM sockets --'"), @r#"
    error: there is no column `state" FROM sockets --` in this answer

    hint: `--columns help` lists them
    "#);
}

#[test]
fn columns_are_listed_on_request() {
    let dir = dir();
    for question in
        ["query connections", "query at now", "query samples", "query snapshots", "query coverage"]
    {
        let listed = dir.sockrec(&format!("{question} --columns help")).fine();
        assert_eq!(listed.stderr, "");
        let names = dir.sockrec(&format!("{question} --columns all --format csv")).stdout();
        let names: Vec<_> = names.lines().next().unwrap().split(',').map(str::to_owned).collect();
        let shown = listed.stdout();
        let shown: Vec<_> = shown.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(shown, names, "{question}");
        assert!(listed.stdout().lines().all(|line| line.split("  ").count() > 1), "{question}");
    }
    let listed = dir.sockrec("export snapshots --columns help").fine().stdout();
    assert_snapshot!(listed.lines().next().unwrap(), @"snapshot_id          Snapshot's number in this recording");
}

#[test]
fn times() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "query at teatime"), @"
    error: `teatime` is no time

    hint: write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an offset is given
    ");
    assert_snapshot!(misused(&dir, "query at 2200-01-01"), @"
    error: the time `2200-01-01` is in the future

    hint: nothing can have been recorded then; check the date and the offset
    ");
    assert_snapshot!(misused(&dir, "query at 2999-01-01"), @"
    error: the time `2999-01-01` is out of range

    hint: write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an offset is given
    ");
    assert_snapshot!(misused(&dir, "query at now --from 1h --to now"), @"
    error: `at` takes one moment, not `--from` and `--to`

    hint: `sockrec query samples --from … --to …` gives what changed in a span
    ");
    assert_snapshot!(misused(&dir, "query samples --from 25:61"), @"
    error: `25:61` is no time

    hint: write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an offset is given
    ");
    assert_snapshot!(misused(&dir, "export samples --to '2200-01-01 00:00'"), @"
    error: the time `2200-01-01 00:00` is in the future

    hint: nothing can have been recorded then; check the date and the offset
    ");
    let reversed = "query connections --from 2023-11-15T00:00:00Z --to 2023-11-14T00:00:00+01:00";
    assert_snapshot!(misused(&dir, reversed), @"
    error: the span ends before it starts: 2023-11-15T00:00:00Z is after 2023-11-13T23:00:00Z

    hint: swap `--from` and `--to`
    ");
}

#[test]
fn times_outside_of_the_recording_are_no_wrong_use() {
    let dir = dir();
    let told = |line: &str| dir.sockrec(line).told();
    assert_snapshot!(told("query at 2023-11-14 --format csv --columns state --utc"), @"
    exit 3
    stdout:
    state
    stderr:
    warning: nothing had been recorded by 2023-11-14 00:00:00.000 Z: the first snapshot was at 2023-11-14 22:13:21.000 Z
    ");
    assert_snapshot!(told("query connections --to 2023-11-14 --format jsonl --utc"), @"
    exit 0
    note: nothing was recorded then: the recording goes from 2023-11-14 22:13:21.000 Z to 2023-11-14 22:13:21.000 Z
    ");
    assert_snapshot!(told("query samples --from 2023-11-15 --format jsonl --utc"), @"
    exit 0
    note: nothing was recorded then: the recording goes from 2023-11-14 22:13:21.000 Z to 2023-11-14 22:13:21.000 Z
    ");
    let late = "query at 2023-11-14T22:30:00Z --format csv --columns state --utc";
    assert_snapshot!(told(late), @"
    exit 3
    stdout:
    state
    ESTAB
    stderr:
    note: snapshot 1, ended at 2023-11-14 22:13:21.000 Z
    warning: nothing was recorded from then to 2023-11-14 22:30:00.000 Z: the answer is 16m39s old
    ");
}

#[test]
fn formats() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "query connections --format xml"), @"
    error: invalid value 'xml' for '--format <FORMAT>': unknown format `xml`, expected one of `table`, `csv`, `json`, `jsonl`

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query connections --time-format iso"), @"
    error: invalid value 'iso' for '--time-format <FORM>': unknown time format `iso`, expected one of `rfc3339`, `unix-ns`

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "export connections --format table"), @"
    error: a table is no data set

    hint: export as csv, json or jsonl; `sockrec query` shows tables
    ");
    assert_snapshot!(misused(&dir, "export connections -o out.xlsx"), @"
    error: the ending `.xlsx` tells no format

    hint: add `--format csv`, `--format json` or `--format jsonl`
    ");
    assert_snapshot!(misused(&dir, "info --format csv"), @"
    error: `info` has several tables, which csv cannot hold

    hint: use `--format json`
    ");
    assert_snapshot!(misused(&dir, "query connection 99"), @"
    error: there is no connection 99 in `sockrec.db`

    hint: `sockrec query connections` lists them, each with its number first
    ");
    assert_snapshot!(misused(&dir, "query connection first"), @"
    error: `first` is no number of a connection

    hint: `sockrec query connections` lists them, each with its number first
    ");
    assert_snapshot!(misused(&dir, "query connection -f sockrec.db"), @"
    error: which connection?

    hint: `sockrec query connections` lists them, each with its number first
    ");
    assert_snapshot!(misused(&dir, "query connection -1"), @"
    error: there is no connection -1 in `sockrec.db`

    hint: `sockrec query connections` lists them, each with its number first
    ");
    assert_snapshot!(misused(&dir, "query connections --limit -1"), @"
    error: invalid value '-1' for '--limit <N>': expected a number of rows; without it there is no limit

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query connections -n few"), @"
    error: invalid value 'few' for '--limit <N>': expected a number of rows; without it there is no limit

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "export processes --socket 1"), @"
    error: a process is no socket: options that choose sockets do not go with it

    hint: `owners` tells which process held which socket, and chooses sockets
    ");
    assert_snapshot!(misused(&dir, "query coverage -t"), @"
    error: coverage is of whole dumps: options that choose sockets do not go with it

    hint: each row names the protocol and family of its dump
    ");
    assert_snapshot!(misused(&dir, "export everything"), @"
    error: invalid value 'everything' for '<WHAT>'
      [possible values: connections, samples, sockets, owners, processes, snapshots, markers]

    For more information, try '--help'.
    ");
}

#[test]
fn rules() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "assert"), @"
    error: the following required arguments were not provided:
      <RULE[=LIMIT]>...

    Usage: sockrec assert <RULE[=LIMIT]>... [-- <FILTER>...]

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "assert no-gap"), @"
    error: there is no rule `no-gap`

    hint: did you mean `no-gaps`? `sockrec assert --list` lists them
    ");
    assert_snapshot!(misused(&dir, "assert 'retransmits < 1%'"), @"
    error: there is no rule `retransmits < 1%`

    hint: `sockrec assert --list` lists them
    ");
    assert_snapshot!(misused(&dir, "assert no-gaps=1"), @"
    error: the rule `no-gaps` takes no limit

    hint: write it as `no-gaps`
    ");
    assert_snapshot!(misused(&dir, "assert connections-below"), @"
    error: the rule `connections-below` takes a limit

    hint: write it as `connections-below=500`
    ");
    assert_snapshot!(misused(&dir, "assert connections-below=few"), @"
    error: the rule `connections-below` does not take this limit: invalid digit found in string

    hint: write it as `connections-below=500`
    ");
    assert_snapshot!(misused(&dir, "assert retransmit-ratio-below=0.01"), @"
    error: the rule `retransmit-ratio-below` does not take this limit: a share ends in %

    hint: write it as `retransmit-ratio-below=1%`
    ");
    assert_snapshot!(misused(&dir, "assert no-close-wait-longer-than=60"), @"
    error: the rule `no-close-wait-longer-than` does not take this limit: it has no unit, write `60s`

    hint: write it as `no-close-wait-longer-than=60s`
    ");
    assert_snapshot!(misused(&dir, "assert no-gaps --state listening"), @"
    error: a rule knows in which states it looks at sockets: `--state` does not go with it

    hint: options that choose families, protocols or a socket do
    ");
    assert_snapshot!(misused(&dir, "assert no-gaps --columns verdicts"), @"
    error: there is no column `verdicts` in this answer

    hint: did you mean `verdict`?
    ");
    assert_snapshot!(misused(&dir, "assert no-gaps --from deploy"), @"
    error: `deploy` is no time

    hint: write it as `2026-11-21T14:03:00+01:00`, `2026-11-21 14:03`, `14:03`, `10m ago`, `@1700000000`, `now` or the name of a marker; local time unless an offset is given
    ");
    assert_snapshot!(dir.sockrec("assert no-gaps -f none.db").told(), @"
    exit 1
    error: there is no recording `none.db`

    hint: record one with `sockrec record -o none.db`, or name another with `-f FILE`
    ");
}

/// Titles of tables are short; what they stand for is told.
#[test]
fn names_of_columns() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "query connections --sort -x"), @"
    error: there is no column `x` in this answer

    hint: `--columns help` lists them
    ");
    assert_snapshot!(misused(&dir, "query connections --sort received:desc"), @"
    error: there is no column `received` in this answer

    hint: did you mean `bytes_received`?
    ");
    assert_snapshot!(misused(&dir, "query peers --sort CONNS"), @"
    error: there is no column `CONNS` in this answer

    hint: did you mean `connections`?
    ");
    assert_snapshot!(misused(&dir, "query peers conns > 3"), @"
    error: there is no condition `conns`
      conns > 3
      ^^^^^

    hint: did you mean `connections`?
    ");
    assert_snapshot!(misused(&dir, "query connections rt > 100ms"), @"
    error: there is no condition `rt`
      rt > 100ms
      ^^

    hint: did you mean `rtt`?
    ");
    assert_snapshot!(misused(&dir, "query churn endngs > 3"), @"
    error: there is no condition `endngs`
      endngs > 3
      ^^^^^^

    hint: did you mean `endings`?
    ");
    assert_snapshot!(misused(&dir, "query states state established"), @"
    error: `states` counts the sockets of every state

    hint: `--columns from,time_wait_sockets` shows one of them
    ");
}
