//! The command line: arguments, commands, messages, exit codes. The only place that prints.
//!
//! Data goes to stdout, everything else to stderr. Arguments come in raw (`args`) and are made
//! valid before anything is opened.

mod anonymize;
mod args;
mod assert;
mod check;
mod compare;
mod copy;
mod export;
mod extract;
mod filter;
mod follow;
mod generate;
mod import;
mod info;
mod lacks;
mod limits;
mod live;
mod mark;
mod merge;
mod message;
mod metrics;
mod metrics_socket;
mod moment;
mod namespaces;
mod output;
mod paths;
mod pauses;
mod prune;
mod query;
mod questions;
mod record;
mod retention;
mod salvage;
mod service;
mod session;
mod signals;
mod sockets;
mod sql;
mod status;
mod user;
mod voice;

use std::process::ExitCode;

use clap::{ColorChoice, Parser};

use args::{Cli, Command};
use message::report;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// All is well.
    Fine,
    /// It could not be done.
    Failed,
    /// It was asked for in a way that makes no sense.
    Usage,
    /// It was done, but something was not seen or is missing.
    Gaps,
    /// It could not be looked at.
    NotLooked,
    /// A recorded command ended with this code.
    Command(u8),
}

impl Exit {
    /// The first of two that is not [`Exit::Fine`].
    fn or(self, other: Self) -> Self {
        if self == Self::Fine { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage | Exit::NotLooked => 2,
            Exit::Gaps => 3,
            Exit::Command(code) => code,
        })
    }
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    signals::outlive_file_size_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout and are no error. Nothing to be done if that fails.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Fine }.into();
        }
    };
    match cli.color {
        ColorChoice::Auto => {}
        ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
    }
    let result = match cli.command {
        Command::Record(args) => record::run(args),
        Command::Query(args) => query::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Extract(args) => extract::run(&args),
        Command::Salvage(args) => salvage::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Mark(args) => mark::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Assert(args) => assert::run(&args),
        Command::Completions(args) => generate::completions(args.shell),
        Command::Man(args) => generate::man(&args.directory),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}
