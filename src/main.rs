//! The `sockrec` command; everything it does is in [`sockrec::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sockrec::cli::main()
}
