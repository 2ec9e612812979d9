//! `query sql` and `query schema`.

use insta::assert_snapshot;

use crate::harness::Dir;
use crate::socket::FakeSocket;
use crate::world::World;

fn world() -> World {
    let a = FakeSocket::established(u64::MAX, 1_001, 80);
    let b = FakeSocket::established(2, 1_002, 80).to_afar();
    let mut world = World::default();
    world.shows(&[&a, &b]);
    world.record();
    world
}

fn told(world: &World, words: &[&str]) -> String {
    let dir = Dir::new();
    let file = world.path();
    let words = ["query"].iter().chain(words).map(|word| (*word).to_owned());
    let words = words.chain(["-f".to_owned(), file.display().to_string()]);
    crate::harness::run(dir.command_of(words)).told()
}

fn asked(sql: &str, format: &str) -> String {
    told(&world(), &["sql", sql, "--format", format])
}

#[test]
fn what_is_typed_is_answered_in_every_format() {
    let sql = "SELECT cookie, local_port AS port, NULL AS unknown, 0.5 AS half,
               in_prefix(remote_address, '198.51.100.0/24') AS afar, state_name(6) AS state
               FROM sockets ORDER BY local_port";
    assert_snapshot!(asked(sql, "csv"), @"
    exit 0
    stdout:
    cookie,port,unknown,half,afar,state
    18446744073709551615,1001,,0.5,0,TIME-WAIT
    2,1002,,0.5,1,TIME-WAIT
    stderr:
    ");
    assert_snapshot!(asked(sql, "json"), @r#"
    exit 0
    stdout:
    [
    {"cookie":"18446744073709551615","port":1001,"unknown":null,"half":0.5,"afar":0,"state":"TIME-WAIT"},
    {"cookie":"2","port":1002,"unknown":null,"half":0.5,"afar":1,"state":"TIME-WAIT"}
    ]
    stderr:
    "#);
    let when = "SELECT utc(min(ended_at_ns)) AS at FROM snapshots";
    assert!(asked(when, "csv").contains("\n2026-11-21T12:00:00.001000000Z\n"));
    assert!(asked("SELECT 1 AS one WHERE 0", "csv").contains("stdout:\none\nstderr"));
}

#[test]
fn what_writes_is_refused_and_changes_nothing() {
    let world = world();
    let before = std::fs::read(world.path()).unwrap();
    let writes = [
        "DELETE FROM sockets",
        "CREATE TABLE t (x)",
        "ATTACH 'other.db' AS o",
        "VACUUM INTO 'copy.db'",
        "PRAGMA user_version = 7",
        "INSERT INTO states VALUES (99, 'x') RETURNING state",
        "",
    ];
    for sql in writes {
        let text = told(&world, &["sql", sql]);
        assert!(text.starts_with("exit 2\nerror: this is no query"), "{sql}: {text}");
    }
    assert!(before == std::fs::read(world.path()).unwrap());
}

#[test]
fn what_is_wrong_is_said() {
    assert_snapshot!(asked("SELECT colour FROM sockets", "csv"), @"
    exit 2
    error: the query is wrong: no such column: colour

    hint: `sockrec query schema` lists the tables, views and columns
    ");
    let wrong = |sql: &str, why: &str| {
        let text = asked(sql, "csv");
        assert!(text.starts_with("exit 2") && text.contains(why), "{sql}: {text}");
    };
    wrong("SELECT 1; SELECT 2", "more than one statement");
    wrong("SELECT :x", "it has parameters");
    wrong("SELECT in_prefix('10.1.2.3', 'ten')", "`ten` is no address");
}

#[test]
fn every_column_of_the_schema_is_explained() {
    let text = told(&world(), &["schema", "--format", "csv"]);
    let unexplained: Vec<_> = text.lines().filter(|line| line.ends_with(',')).collect();
    assert_eq!(unexplained, [""; 0]);
    assert!(text.contains("\nsockets,cookie,INTEGER,"), "{text}");
    let made = told(&world(), &["schema", "--create"]);
    assert!(made.contains("\nCREATE TABLE sockets (") && made.contains("\nCREATE VIEW gaps AS"));
}
