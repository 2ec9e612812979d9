//! Arguments that make no sense, and what would.

use std::fs;

use insta::assert_snapshot;

use crate::harness::{Dir, MadeUp, observation};

fn dir() -> Dir {
    let dir = Dir::new();
    let mut made = MadeUp::begin(&dir.path("sockrec.db"));
    made.snapshot(&[observation(1)]).commit();
    made.end();
    dir
}

/// What the program says to wrong use. Nothing may have been done.
#[track_caller]
fn misused(dir: &Dir, line: &str) -> String {
    let before = dir.contents();
    let ran = dir.sockrec(line);
    assert_eq!(ran.code(), Some(2), "{line}: {}", ran.told());
    assert!(ran.stdout.is_empty(), "{line}: {}", ran.told());
    assert_eq!(dir.contents(), before, "{line}");
    ran.stderr
}

#[test]
fn a_prune_without_a_limit() {
    assert_snapshot!(misused(&dir(), "prune"), @"
    error: the following required arguments were not provided:
      <--max-size <SIZE>|--max-age <TIME>|--thin <TIME>>

    Usage: sockrec prune <--max-size <SIZE>|--max-age <TIME>|--thin <TIME>> [FILE]

    For more information, try '--help'.
    ");
}

#[test]
fn intervals() {
    let dir = Dir::new();
    assert_snapshot!(misused(&dir, "record --interval 0s"), @"
    error: invalid value '0s' for '--interval <TIME>': it must be above 0

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --interval 5"), @"
    error: invalid value '5' for '--interval <TIME>': it has no unit, write `5s`

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --interval 10us"), @"
    error: invalid value '10us' for '--interval <TIME>': the shortest interval is 1ms

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --interval -1s"), @"
    error: invalid value '-1s' for '--interval <TIME>': expected number at 0

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --interval soon"), @"
    error: invalid value 'soon' for '--interval <TIME>': expected number at 0

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --interval 999999y"), @"
    error: invalid value '999999y' for '--interval <TIME>': the longest is 10 years

    For more information, try '--help'.
    ");
}

#[test]
fn ends() {
    let dir = Dir::new();
    assert_snapshot!(misused(&dir, "record --count 0"), @"
    error: invalid value '0' for '--count <N>': 0 is not in 1..18446744073709551615

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --count all"), @"
    error: invalid value 'all' for '--count <N>': invalid digit found in string

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --duration 10"), @"
    error: invalid value '10' for '--duration <TIME>': it has no unit, write `10s`

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --duration 1s --count 1"), @"
    error: `--duration` and `--count` both say when to stop

    hint: give one
    ");
}

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
fn sockets() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "record --state open"), @"
    error: invalid value 'open' for '--state <STATES>': expected established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, closed, close-wait, last-ack, listening, closing, bound-inactive, or all, connected, synchronized, bucket, big

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query connections --state listen,opened"), @"
    error: invalid value 'opened' for '--state <STATES>': expected established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, closed, close-wait, last-ack, listening, closing, bound-inactive, or all, connected, synchronized, bucket, big

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --state established --not-state connected"), @"
    error: no state is left to look for

    hint: `--not-state` takes away all that `--state` gives
    ");
    assert_snapshot!(misused(&dir, "query at now --not-state all"), @"
    error: no state is left to look for

    hint: `--not-state` takes away all that `--state` gives
    ");
    assert_snapshot!(misused(&dir, "record --protocol tcp,sctp"), @"
    error: invalid value 'sctp' for '--protocol <NAMES>': expected tcp, udp, raw, mptcp or all

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --family unix"), @"
    error: invalid value 'unix' for '--family <NAMES>': expected inet or inet6

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query samples --cookie -1"), @"
    error: unexpected argument '-1' found

      tip: to pass '-1' as a value, use '-- -1'

    Usage: sockrec query samples [OPTIONS] [FILTER]...

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query samples --inode 4294967296"), @"
    error: invalid value '4294967296' for '--inode <INODE>': 4294967296 is not in 0..=4294967295

    For more information, try '--help'.
    ");
}

#[test]
fn commands() {
    let dir = dir();
    assert_snapshot!(misused(&dir, "recrod"), @"
    error: unrecognized subcommand 'recrod'

      tip: a similar subcommand exists: 'record'

    Usage: sockrec [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "query conections"), @"
    error: unrecognized subcommand 'conections'

      tip: some similar subcommands exist: 'connection', 'connections'

    Usage: sockrec query [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(misused(&dir, "record --outptu x.db"), @"
    error: unexpected argument '--outptu' found

      tip: a similar argument exists: '--output'
      tip: to pass '--outptu' as a value, use '-- --outptu'

    Usage: sockrec record --output <FILE> [FILTER]... [-- <COMMAND>...]

    For more information, try '--help'.
    ");
}

#[test]
fn a_command_that_cannot_be_run() {
    let dir = Dir::new();
    let ran = dir.sockrec("record -q -o rec.db -- ./no-such-command");
    assert_snapshot!(ran.told(), @"
    exit 1
    error: could not run `./no-such-command`
      caused by: No such file or directory (os error 2)
    ");
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}

#[test]
fn the_exit_code_of_a_recorded_command_is_that_of_the_recorder() {
    let dir = Dir::new();
    let code = |line: &str| dir.sockrec(line).code();
    assert_eq!(code("record -q -i 1h -o rec.db -- sh -c 'exit 7'"), Some(7));
    assert_eq!(code("record -q -i 1h -o rec.db -- sh -c 'kill -9 $$'"), Some(128 + 9));
    let ran = dir.sockrec("record -q -i 1h -o rec.db -- sh -c 'echo out; echo err >&2'");
    assert_eq!(ran.told(), "exit 0\nstdout:\nout\nstderr:\nerr\n");
    let sql = "SELECT count(*) FROM captures WHERE end_reason = 'command'";
    assert_eq!(crate::harness::ask(&dir.path("rec.db"), sql).unwrap(), 3);
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

#[test]
fn the_recording_needs_no_f_where_nothing_else_stands_at_the_end() {
    let dir = dir();
    fs::rename(dir.path("sockrec.db"), dir.path("rec.db")).unwrap();
    let commands = [
        "info",
        "info --live --format json",
        "check",
        "prune --max-age 14d --dry-run",
        "copy -o copy{}.db",
        "salvage -o saved{}.db",
    ];
    for command in commands {
        let told = ["", "-f "].map(|option| {
            let number = option.len();
            let command = command.replace("{}", &number.to_string());
            let ran = dir.sockrec(&format!("{command} {option}rec.db"));
            assert!(matches!(ran.code(), Some(0 | 3)), "{command}: {}", ran.told());
            // Others use the disk, too.
            let told = ran.told().replace(&format!("{number}.db"), ".db");
            let lines = told.lines().filter(|line| !line.contains("free_bytes"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(told[0], told[1], "{command}");
        let ran = dir.sockrec(&format!("{command} rec.db -f rec.db"));
        assert_eq!(ran.code(), Some(2), "{command}: {}", ran.told());
        // Here it is `sockrec.db`, which is not there, if none is given.
        let ran = dir.sockrec(command);
        assert!(ran.stderr.contains("`sockrec.db`"), "{command}: {}", ran.told());
    }
}
