//! Colour: where it is, and that nothing is told by it alone.

use crate::harness::{Dir, Ran, run};
use crate::socket::FakeSocket;
use crate::world::World;

/// One connection that was reset, one that lives.
fn world() -> World {
    let a = FakeSocket::established(1, 1_001, 80).opened_at(0);
    let b = FakeSocket::established(2, 1_002, 80);
    let mut world = World::with_events();
    world.shows(&[&a, &b]).shows(&[&b]).tells(&[a.destroyed()]).shows(&[&b]);
    world.record();
    world
}

fn told(world: &World, line: &str, environment: &[(&str, &str)]) -> Ran {
    let dir = Dir::new();
    let mut command = dir.command(&format!("{line} -f '{}'", world.path().display()));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "CI"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    run(command)
}

/// Text without what sets it off.
fn without_color(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest))
}

const QUESTIONS: [&str; 5] = [
    "query connections --utc",
    "query connections --utc --columns all",
    "query diff 2026-11-21T12:00:00.5Z 2026-11-21T12:00:02.5Z --utc",
    "query at 2026-11-21T12:00:00.5Z",
    "assert no-resets",
];

#[test]
fn color_adds_nothing_that_is_not_said_in_words() {
    let world = world();
    for question in QUESTIONS {
        let plain = told(&world, question, &[]);
        assert!(!plain.told().contains('\x1b'), "{question}: {}", plain.told());
        let colored = told(&world, &format!("{question} --color always"), &[]);
        assert!(colored.stdout().contains("\x1b[1m"), "{question}: {}", colored.told());
        assert_eq!(without_color(&colored.told()), plain.told(), "{question}");
    }
}

#[test]
fn what_matters_is_set_off() {
    let world = world();
    let connections = told(&world, "query connections --color always", &[]).stdout();
    assert!(connections.contains("\x1b[31mreset\x1b[0m"), "{connections}");
    assert!(connections.contains(" ESTAB "), "{connections}");
    let verdict = told(&world, "assert no-resets --color always", &[]).stdout();
    assert!(verdict.contains("\x1b[31mbroken\x1b[0m"), "{verdict}");
    let error = told(&world, "query connections --sort x --color always", &[]).stderr;
    assert!(error.starts_with("\x1b[1m\x1b[31merror:\x1b[0m there is no column"), "{error}");
}

#[test]
fn data_is_never_colored_and_the_environment_is_heeded() {
    let world = world();
    for format in ["csv", "json", "jsonl"] {
        let line = format!("query connections --format {format} --color always");
        assert!(!told(&world, &line, &[]).stdout().contains('\x1b'), "{format}");
    }
    let is_colored = |options: &str, environment: &[(&str, &str)]| {
        let ran = told(&world, &format!("query connections {options}"), environment);
        ran.stdout().contains('\x1b')
    };
    assert!(is_colored("", &[("CLICOLOR_FORCE", "1")]));
    assert!(!is_colored("--color never", &[("CLICOLOR_FORCE", "1")]));
    assert!(is_colored("--color always", &[("NO_COLOR", "1")]));
    assert!(!is_colored("--color auto", &[]), "a pipe is no terminal");
}

/// On a terminal of its own, which script(1) makes.
#[test]
fn a_terminal_has_color_unless_it_is_not_wanted() {
    let world = world();
    let on_terminal = |environment: &[(&str, &str)]| {
        let program = env!("CARGO_BIN_EXE_sockrec");
        let line = format!("'{program}' query connections -f '{}'", world.path().display());
        let dir = Dir::new();
        let mut command = dir.command_at("script".as_ref(), ["-qec", &line, "/dev/null"]);
        command
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("CI");
        command.envs(environment.iter().copied());
        run(command).fine().stdout()
    };
    assert!(on_terminal(&[]).contains("\x1b[1m"), "{}", on_terminal(&[]));
    assert!(!on_terminal(&[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!on_terminal(&[("TERM", "dumb")]).contains('\x1b'));
}
