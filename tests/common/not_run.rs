//! What a test says that could not run here, or not all of it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Write;

/// Says that a test, or a part of it, could not run here. Goes past the test harness's capture,
/// so that a test that did not run never looks like one that passed. Where `CI` is set it is one that
/// failed.
pub fn not_run(what: &str, why: &str) {
    not_here(what, why);
    assert!(std::env::var_os("CI").is_none(), "everything must run where CI is set: {what}");
}

/// The same of what this host does not have, or does not let a test do where it was built.
pub fn not_here(what: &str, why: &str) {
    let text = format!("\n!!! NOT RUN: {what}\n!!! because {why}\n");
    std::io::stderr().lock().write_all(text.as_bytes()).expect("stderr can be written");
}

/// Says something of the host that a reader of the test's outcome should know.
pub fn note(text: &str) {
    let text = format!("\n--- note: {text}\n");
    std::io::stderr().lock().write_all(text.as_bytes()).expect("stderr can be written");
}
