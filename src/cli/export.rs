//! `sockrec export`

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::Exit;
use super::args::ExportArgs;
use super::message::usage;
use super::output::{anchor, asks_for_help, explain_empty, print_columns, selection, stdout};
use crate::query::{Question, Recording, Selection};
use crate::render::human::Zone;
use crate::render::{Format, Options, exporter};

pub(super) fn run(args: ExportArgs) -> anyhow::Result<Exit> {
    let question = match args.what.as_str() {
        "connections" => Question::Connections,
        "samples" => Question::Samples,
        "sockets" => Question::Sockets,
        _ => Question::Snapshots,
    };
    let recording = Recording::open(&args.file)?;
    if asks_for_help(&args.columns) {
        print_columns(&recording.columns(question, &Selection::default())?)?;
        return Ok(Exit::Fine);
    }
    let format = chosen_format(&args)?;
    let selection = selection(&args.select, &args.columns, anchor(&recording)?)?;
    let columns = recording.columns(question, &selection)?;
    let options = Options { times: args.time_format, ..Options::default() };
    let progress = progress_bar(recording.expected_rows(question)?);

    let count = match &args.output {
        None => write(
            &recording,
            question,
            &selection,
            &columns,
            format,
            &options,
            stdout(),
            &progress,
        )?,
        Some(path) => {
            let partial = PartialFile::create(path)?;
            let writer = Box::new(BufWriter::new(partial.file()?));
            let count = write(
                &recording, question, &selection, &columns, format, &options, writer, &progress,
            )
            .with_context(|| format!("could not write `{}`", path.display()))?;
            partial.finish()?;
            count
        }
    };
    progress.finish_and_clear();
    if count == 0 {
        explain_empty(&recording, &selection, Zone::Local)?;
    }
    Ok(Exit::Fine)
}

#[allow(clippy::too_many_arguments, reason = "one call, each argument is another thing")]
fn write(
    recording: &Recording,
    question: Question,
    selection: &Selection,
    columns: &[crate::model::Column],
    format: Format,
    options: &Options,
    writer: Box<dyn Write + '_>,
    progress: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut out = exporter(format, options, writer);
    out.begin(columns)?;
    let mut written: u64 = 0;
    let count = recording.answer(question, selection, |row| {
        out.row(row)?;
        written += 1;
        if written.is_multiple_of(4_096) {
            progress.set_position(written);
        }
        Ok(())
    })?;
    out.finish()?;
    Ok(count)
}

fn chosen_format(args: &ExportArgs) -> anyhow::Result<Format> {
    if args.format == Some(Format::Table) {
        return Err(usage(
            "a table is no data set",
            Some("export as csv, json or jsonl; `sockrec query` shows tables"),
        ));
    }
    if let Some(format) = args.format {
        return Ok(format);
    }
    let ending = args.output.as_deref().and_then(Path::extension).and_then(|e| e.to_str());
    match ending {
        Some("json") => Ok(Format::Json),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        Some("csv") | None => Ok(Format::Csv),
        Some(other) => Err(usage(
            format!("the ending `.{other}` tells no format"),
            Some("add `--format csv`, `--format json` or `--format jsonl`"),
        )),
    }
}

/// Shown on a terminal when the data goes elsewhere.
fn progress_bar(expected: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match expected {
        Some(rows) => {
            (ProgressBar::new(rows), "{bar:30} {human_pos} of about {human_len} rows, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} rows"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A file that gets its name only when it is whole.
struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    is_finished: bool,
}

impl PartialFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("could not create `{}`", path.display());
        if path.is_dir() {
            return Err(usage(format!("`{}` is a directory", path.display()), Some("name a file")));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        // It shows who talked to whom: for its owner only.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(context)?;
        Ok(Self { path: path.to_owned(), partial, file, is_finished: false })
    }

    fn file(&self) -> anyhow::Result<File> {
        self.file.try_clone().with_context(|| format!("could not write `{}`", self.path.display()))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let context = || format!("could not write `{}`", self.path.display());
        self.file.sync_all().with_context(context)?;
        fs::rename(&self.partial, &self.path).with_context(context)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // Already on the way out with an error; what stays is named as partial.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
