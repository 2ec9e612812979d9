//! The command line as it is typed.

mod answer;
mod files;
mod query;
mod record;

use clap::{Parser, Subcommand};

pub(super) use answer::{AnonymizeArgs, CommonArgs, OutputArgs, SelectArgs};
pub(super) use files::{
    CheckArgs, CompletionArgs, CopyArgs, ExportArgs, ExtractArgs, ImportArgs, InfoArgs, ManArgs,
    MarkArgs, MergeArgs, SalvageArgs,
};
pub(super) use query::{
    AssertArgs, ChurnArgs, CompareArgs, ConnectionArgs, DiffArgs, LeakArgs, ListenerArgs,
    ListingArgs, QueryArgs, QuestionArgs, SchemaArgs, SqlArgs, StateArgs,
};
pub(super) use record::{PruneArgs, RecordArgs};

/// A flight recorder for Linux sockets
///
/// Records what the kernel knows of every TCP and UDP socket, at a steady interval, into one SQLite
/// file; answers later who was connected to whom, when and how well.
#[derive(Debug, Parser)]
#[command(name = "sockrec", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Colour: on a terminal (`auto`, unless `NO_COLOR` is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Output",
        display_order = 900
    )]
    pub(super) color: clap::ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Record(RecordArgs),
    Query(QueryArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Info(InfoArgs),
    Extract(ExtractArgs),
    Check(CheckArgs),
    Salvage(SalvageArgs),
    Copy(CopyArgs),
    Merge(MergeArgs),
    Mark(MarkArgs),
    Prune(PruneArgs),
    Assert(AssertArgs),
    Completions(CompletionArgs),
    Man(ManArgs),
}
