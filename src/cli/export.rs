//! `sockrec export`

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::Exit;
use super::anonymize::key;
use super::args::ExportArgs;
use super::lacks::note_lacks;
use super::message::usage;
use super::output::{
    anchor, asks_for_help, default_columns, explain_empty, print_columns, selection, stdout,
};
use super::paths::is_of_recording;
use super::signals::{Wish, on_signals, unless_stopped};
use crate::model::{Column, Value};
use crate::query::{Dense, QueryError, Question, Recording, Selection};
use crate::render::human::Zone;
use crate::render::{Anonymized, Exporter, Format, Options, exporter};
use crate::store::{Access, partial_file, refuse_planted};

/// What stands for stdout where a file can be named.
const STDOUT: &str = "-";

pub(super) fn run(args: ExportArgs) -> anyhow::Result<Exit> {
    let question = match args.what.as_str() {
        "connections" => Question::Connections,
        "samples" => Question::Samples,
        "sockets" => Question::Sockets,
        "owners" => Question::Owners,
        "processes" => Question::Processes,
        "markers" => Question::Markers,
        _ => Question::Snapshots,
    };
    let dense = dense(&args)?;
    let is_interrupted = Arc::default();
    let recording = Recording::open(&args.file)?.stopped_by(&is_interrupted)?;
    let recording = recording.on_threads(args.threads.threads);
    if asks_for_help(&args.columns) {
        print_columns(&columns_of(&recording, question, &Selection::default(), dense)?)?;
        return Ok(Exit::Fine);
    }
    let output = args.output.as_deref().filter(|path| *path != Path::new(STDOUT));
    let format = chosen_format(&args)?;
    let chosen = default_columns(format, &args.columns, &[]);
    let selection = selection(question, &args.select, &args.filter, &chosen, anchor(&recording)?)?;
    let columns = columns_of(&recording, question, &selection, dense)?;
    let key = key(&args.anonymize, &selection.sort)?;
    let options = Options { times: args.time_format, ..Options::default() };
    let lacks = note_lacks(&recording, question, &selection)?;
    let expected = if dense.is_some() { None } else { recording.expected_rows(question)? };
    let progress = progress_bar(expected);

    let count = match output {
        None => write(
            &recording,
            question,
            dense,
            &selection,
            &columns,
            rows_to(format, &options, key.as_deref(), stdout()),
            &progress,
            &is_interrupted,
        )?,
        Some(path) => {
            refuse_planted(path, Access::Write)?;
            if is_of_recording(path, &args.file) {
                let text = format!("`{}` is the recording itself", path.display());
                return Err(usage(text, Some("export to another file")));
            }
            let is_file = is_file_to_be(path);
            if is_file {
                // Before there is a part of a file, which goes with Ctrl-C.
                let is_interrupted = Arc::clone(&is_interrupted);
                on_signals(move |_| {
                    is_interrupted.store(true, Ordering::Relaxed);
                    Wish::End
                })?;
            }
            let output = Output::create(path, is_file)?;
            let writer = Box::new(BufWriter::new(output.file()?));
            let count = write(
                &recording,
                question,
                dense,
                &selection,
                &columns,
                rows_to(format, &options, key.as_deref(), writer),
                &progress,
                &is_interrupted,
            )
            .map_err(|e| match e {
                QueryError::Output(e) => {
                    anyhow::Error::new(e).context(format!("could not write `{}`", path.display()))
                }
                other => other.into(),
            });
            let count = unless_stopped(count, &is_interrupted, path)?;
            output.finish()?;
            count
        }
    };
    progress.finish_and_clear();
    if count == 0 {
        explain_empty(&recording, &selection, Zone::Local)?;
    }
    Ok(lacks)
}

/// Samples at even steps, if they are asked for.
fn dense(args: &ExportArgs) -> anyhow::Result<Option<Dense>> {
    let Some(step_ns) = args.dense else { return Ok(None) };
    if args.what != "samples" {
        return Err(usage(
            format!("`--dense` goes with `samples`, not with `{}`", args.what),
            Some("`sockrec export samples --dense 1s`"),
        ));
    }
    if !args.select.sort.is_empty() {
        return Err(usage(
            "rows of even steps come in the order of time: `--sort` does not go with `--dense`",
            Some("sort what was exported"),
        ));
    }
    Ok(Some(Dense { step_ns, with_rates: args.rates }))
}

fn columns_of(
    recording: &Recording,
    question: Question,
    selection: &Selection,
    dense: Option<Dense>,
) -> Result<Vec<Column>, QueryError> {
    match dense {
        Some(dense) => recording.dense_columns(selection, dense),
        None => recording.columns(question, selection),
    }
}

fn rows_to<'w>(
    format: Format,
    options: &Options,
    key: Option<&[u8]>,
    writer: Box<dyn Write + 'w>,
) -> Box<dyn Exporter + 'w> {
    let rows = exporter(format, options, writer);
    match key {
        Some(key) => Box::new(Anonymized::new(rows, key)),
        None => rows,
    }
}

#[allow(clippy::too_many_arguments, reason = "one call, each argument is another thing")]
fn write(
    recording: &Recording,
    question: Question,
    dense: Option<Dense>,
    selection: &Selection,
    columns: &[Column],
    mut out: Box<dyn Exporter + '_>,
    progress: &ProgressBar,
    is_interrupted: &AtomicBool,
) -> Result<u64, QueryError> {
    out.begin(columns)?;
    let mut written: u64 = 0;
    let each = |row: &[Value<'_>]| {
        out.row(row)?;
        written += 1;
        if is_interrupted.load(Ordering::Relaxed) {
            let stopped = io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal");
            return Err(QueryError::Output(stopped));
        }
        if written.is_multiple_of(4_096) {
            progress.set_position(written);
        }
        Ok(())
    };
    let count = match dense {
        Some(dense) => recording.dense(selection, dense, each)?,
        None => recording.answer(question, selection, each)?,
    };
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

/// A file that gets its name only when it is whole. What is no file (a pipe, a device) is written
/// to as it is: to replace it would be to break it.
struct Output {
    path: PathBuf,
    /// The name until then, `None` once it is over or where there is nothing to replace.
    partial: Option<PathBuf>,
    file: File,
}

/// Whether what is written there becomes a file, and does not go on to someone else as it is written.
fn is_file_to_be(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.is_file())
}

impl Output {
    fn create(path: &Path, is_file: bool) -> anyhow::Result<Self> {
        let context = || format!("could not create `{}`", path.display());
        if path.is_dir() {
            return Err(usage(format!("`{}` is a directory", path.display()), Some("name a file")));
        }
        if !is_file {
            let file = OpenOptions::new().write(true).open(path).with_context(context)?;
            return Ok(Self { path: path.to_owned(), partial: None, file });
        }
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (partial, file) = partial_file(&path).with_context(context)?;
        Ok(Self { path, partial: Some(partial), file })
    }

    fn file(&self) -> anyhow::Result<File> {
        self.file.try_clone().with_context(|| format!("could not write `{}`", self.path.display()))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let context = || format!("could not write `{}`", self.path.display());
        if let Some(partial) = &self.partial {
            self.file.sync_all().with_context(context)?;
            fs::rename(partial, &self.path).with_context(context)?;
            self.partial = None;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Already on the way out with an error; what stays is named as partial.
            let _ = fs::remove_file(partial);
        }
    }
}
