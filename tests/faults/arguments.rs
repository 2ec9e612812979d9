//! Arguments that make no sense, and what would.

mod questions;

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
