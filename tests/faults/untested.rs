//! What cannot be tested here has not passed.

use std::process::Command;

use crate::not_run::not_run;

#[test]
#[ignore = "it is started by the next one"]
fn one_that_cannot_run_here() {
    not_run("nothing", "it is never there");
}

#[test]
fn a_test_that_cannot_run_says_so_and_fails_where_ci_is_set() {
    for is_ci in [false, true] {
        let mut tests = Command::new(std::env::current_exe().unwrap());
        tests.args(["--exact", "untested::one_that_cannot_run_here", "--ignored"]).env_remove("CI");
        tests.envs(is_ci.then_some(("CI", "true")));
        let output = tests.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("NOT RUN: nothing\n!!! because it is never there"), "{said}");
        assert_eq!(output.status.success(), !is_ci);
    }
}
