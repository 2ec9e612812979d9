//! `sockrec completions` and `sockrec man`: from the definition of the command line itself.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Exit;
use super::args::Cli;
use super::output::stdout;

const NAME: &str = "sockrec";

pub(super) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    // Written in one piece: what reads it may close early, which is no error.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    stdout().write_all(&script)?;
    Ok(Exit::Fine)
}

pub(super) fn man(directory: &Path) -> anyhow::Result<Exit> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("could not write man pages into `{}`", directory.display()))?;
    Ok(Exit::Fine)
}
