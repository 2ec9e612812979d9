//! Man pages and completions come of the command line's own definition.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::Dir;
use crate::not_run::not_here;

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn every_shell_gets_its_completions() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = dir.sockrec(&format!("completions {shell}")).fine().stdout();
        for word in ["record", "connections", "--max-cpu", "--interval"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let ran = dir.sockrec("completions tcsh");
    assert_eq!(ran.code(), Some(2), "{}", ran.told());
}

#[test]
fn bash_completes_commands_and_options() {
    if !is_there("bash") {
        not_here("completions", "there is no bash");
        return;
    }
    let dir = Dir::new();
    let script = dir.sockrec("completions bash").fine().stdout();
    fs::write(dir.path("script"), script).unwrap();
    let completed = |words: &str, before: &str, current: &str| {
        let count = words.split(' ').count() - 1;
        let text = format!(
            "source ./script; COMP_WORDS=({words}); COMP_CWORD={count}
             _sockrec sockrec '{current}' '{before}'; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &text]).current_dir(dir.path(".")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("sockrec rec", "sockrec", "rec"), "record");
    assert_eq!(completed("sockrec record --max-c", "record", "--max-c"), "--max-cpu");
    assert_eq!(completed("sockrec query conn", "query", "conn"), "connections connection");
}

#[test]
fn every_command_has_its_man_page() {
    let dir = Dir::new();
    dir.sockrec("man pages/man1").fine();
    let mut names: Vec<_> = fs::read_dir(dir.path("pages/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["sockrec.1", "sockrec-record.1", "sockrec-query.1", "sockrec-query-at.1"] {
        assert!(names.iter().any(|known| known == name), "{names:?} lack {name}");
    }
    let record = fs::read_to_string(dir.path("pages/man1/sockrec-record.1")).unwrap();
    assert!(record.contains(".TH sockrec-record 1 "), "{record}");
    for part in [".SH NAME", ".SH OPTIONS", "Exit codes"] {
        assert!(record.contains(part), "no {part}");
    }
    if !is_there("groff") {
        not_here("man pages", "there is no groff to read them");
        return;
    }
    for name in names {
        let page = fs::read(dir.path(format!("pages/man1/{name}"))).unwrap();
        let mut groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        groff.stdin.take().unwrap().write_all(&page).unwrap();
        let output = groff.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
}

#[test]
fn man_pages_that_cannot_be_written_are_told_of() {
    let dir = Dir::new();
    fs::write(dir.path("file"), "").unwrap();
    let ran = dir.sockrec("man file/man1");
    assert_eq!(ran.code(), Some(1), "{}", ran.told());
    assert!(ran.stderr.contains("could not write man pages into `file/man1`"), "{}", ran.stderr);
}
