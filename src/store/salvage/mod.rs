//! What can still be read of a damaged recording, as a recording that is whole.
//!
//! The file is read page by page without SQLite, into a scratch file. Of each group the snapshots count
//! up to the first that has lost a row: what a keyframe and the changes after it do not tell in full they
//! do not tell. The stretches that are left are extracted and merged like parts of any recording, so that
//! a hole is a gap that answers show. Sockets of which a contradiction is left are left out.

mod cells;
mod pages;
mod tree;
mod work_dir;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params, params_from_iter};

use super::StoreError;
use super::check::{INVARIANTS, Look, show_what_is_held};
use super::extract::{Before, Excerpt, Stretch, extract};
use super::file::check_directory;
use super::merge::Merged;
use super::new_file::{NewRecording, stop_when};
use super::reader::Reader;
use super::shared_dir::{Access, refuse_planted};
use super::writer::open_connection;
use crate::model::Nanos;
use pages::Pages;
pub use tree::TableRead;
use work_dir::WorkDir;

/// How often sockets are left out of a stretch before it is given up.
const ROUNDS: usize = 8;

/// The rule that only holds where all sockets are there.
const SOCKETS_SEEN: &str = "sockets-seen";

/// By what the sockets of a salvaged recording were chosen, where some were left out.
const SELECTION: &str = "what could be read of a damaged file";

/// What was saved and what was lost.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    /// What is wrong with the file as a whole.
    pub faults: Vec<String>,
    /// Of each table what was read of it.
    pub tables: Vec<(String, TableRead)>,
    /// Spans that were lost.
    pub spans: Vec<LostSpan>,
    /// Sockets that were left out because they contradict what is known.
    pub sockets_left_out: u64,
    /// What the new recording holds; `None` if there is nothing to make one of.
    pub saved: Option<Merged>,
}

/// Snapshots in a row that were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSpan {
    /// From here on, UTC; `None` if that is not known.
    pub from_ns: Option<Nanos>,
    /// Up to here.
    pub to_ns: Option<Nanos>,
    /// How many at least.
    pub snapshots: i64,
}

impl Salvaged {
    /// Whether anything is not there.
    pub fn has_losses(&self) -> bool {
        let is_hurt = |(_, read): &(String, TableRead)| read.pages_lost + read.rows_lost > 0;
        !self.faults.is_empty()
            || !self.spans.is_empty()
            || self.sockets_left_out > 0
            || self.tables.iter().any(is_hurt)
    }
}

/// Copies what can be read of a recording into a new one, and changes nothing of the old one.
///
/// # Errors
/// When the file cannot be read at all, the new one cannot be written, or the flag is raised; then there is
/// none.
pub fn salvage(
    path: &Path,
    output: &Path,
    taken_at_ns: Nanos,
    stop: &Arc<AtomicBool>,
) -> Result<Salvaged, StoreError> {
    refuse_planted(path, Access::Read)?;
    check_directory(output)?;
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let pages = Pages::open(path, stop).map_err(open)?;
    let mut work = Work::begin(output, stop)?;
    let new = NewRecording::create_beside(output, &work.directory.path("new"))?.stopped_by(stop)?;
    let mut told = Salvaged { faults: pages.faults.clone(), ..Salvaged::default() };
    told.tables = work.take_rows(&pages)?;
    work.run(|scratch| scratch.execute_batch(include_str!("prepare.sql")))?;
    let lost = work.run(|scratch| {
        let mut sockets = scratch.prepare("SELECT socket_id FROM lost_sockets")?;
        sockets.query_map([], |row| row.get(0))?.collect()
    })?;
    work.leave_out(lost)?;
    let runs = work.runs()?;
    let mut parts = Vec::new();
    let mut kept = Vec::new();
    for run in &runs {
        if let Some(part) = work.part(run, parts.len(), taken_at_ns)? {
            parts.push(part);
            kept.push(*run);
        }
    }
    told.sockets_left_out = work.left_out.len() as u64;
    told.spans = work.lost_spans(&kept)?;
    if parts.is_empty() {
        return Ok(told); // the new one goes with its last handle
    }
    if work.is_partial || !work.left_out.is_empty() {
        for part in &parts {
            select(part).map_err(|e| StoreError::sqlite(output, "write to", e))?;
        }
    }
    let sources = parts.iter().map(|part| Reader::open(part)).collect::<Result<Vec<_>, _>>()?;
    told.saved = Some(new.merge(&sources, taken_at_ns)?);
    Ok(told)
}

/// Snapshots of one capture that follow each other, all whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    capture: i64,
    first: i64,
    last: i64,
    is_cut_before: bool,
    is_cut_after: bool,
}

/// The scratch file, and those that are made out of it.
struct Work {
    directory: WorkDir,
    scratch: Connection,
    path: PathBuf,
    output: PathBuf,
    stop: Arc<AtomicBool>,
    left_out: BTreeSet<i64>,
    /// Sockets are missing that nothing else tells of.
    is_partial: bool,
}

impl Work {
    fn begin(output: &Path, stop: &Arc<AtomicBool>) -> Result<Self, StoreError> {
        let directory = WorkDir::create(output)
            .map_err(|source| StoreError::Open { path: output.to_owned(), source })?;
        let path = NewRecording::create_beside(output, &directory.path("scratch"))?.keep()?;
        let open = || -> rusqlite::Result<Connection> {
            let mut scratch = open_connection(&path, std::time::Duration::ZERO)?;
            stop_when(&mut scratch, stop)?;
            scratch.pragma_update(None, "synchronous", "OFF")?;
            scratch.pragma_update(None, "foreign_keys", false)?;
            Ok(scratch)
        };
        let scratch = open().map_err(|e| StoreError::sqlite(output, "write to", e))?;
        let (output, stop) = (output.to_owned(), Arc::clone(stop));
        let left_out = BTreeSet::new();
        Ok(Self { directory, scratch, path, output, stop, left_out, is_partial: false })
    }

    fn run<T>(
        &self,
        act: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let act = || -> rusqlite::Result<T> {
            let transaction = self.scratch.unchecked_transaction()?;
            let result = act(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result = act().map_err(|e| StoreError::sqlite(&self.output, "write to", e));
        match self.stop.load(Ordering::Relaxed) {
            true => Err(StoreError::Stopped { path: self.output.clone() }),
            false => result,
        }
    }

    /// Every row that can be read, into the table that it is of.
    fn take_rows(&self, pages: &Pages) -> Result<Vec<(String, TableRead)>, StoreError> {
        self.run(|scratch| {
            let mut roots = tree::roots(pages);
            // A schema that is lost is that of a new recording, if the pages fit.
            let usual = tables(scratch)?;
            for (name, root) in &usual {
                roots.entry(name.clone()).or_insert(*root);
            }
            let numbers: Vec<_> = usual.iter().map(|(name, _)| roots[name]).collect();
            let found = tree::pages_of(pages, &numbers);
            let mut told = Vec::new();
            for ((name, _), root) in usual.iter().zip(numbers) {
                let mut read = TableRead::default();
                take_table(scratch, pages, name, found.get(&root), &mut read)?;
                told.push((name.clone(), read));
            }
            Ok(told)
        })
    }

    /// The stretches that are whole.
    fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.run(|scratch| {
            let mut statement = scratch.prepare(include_str!("runs.sql"))?;
            let rows = statement.query_map([], |r| {
                Ok(Run {
                    capture: r.get(0)?,
                    first: r.get(1)?,
                    last: r.get(2)?,
                    is_cut_before: r.get(3)?,
                    is_cut_after: r.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// A recording of one stretch, without the sockets that keep it from being whole; `None` if it cannot be
    /// made whole.
    fn part(
        &mut self,
        run: &Run,
        number: usize,
        taken_at_ns: Nanos,
    ) -> Result<Option<PathBuf>, StoreError> {
        self.run(|scratch| {
            scratch.execute("DELETE FROM snapshots", [])?;
            scratch.execute(
                "INSERT INTO snapshots SELECT * FROM known_snapshots
                 WHERE snapshot_id BETWEEN ?1 AND ?2",
                [run.first, run.last],
            )
        })?;
        for round in 0..ROUNDS {
            let name = self.directory.path(&format!("{number}-{round}"));
            let part = NewRecording::create_beside(&self.output, &name)?.stopped_by(&self.stop)?;
            let source = Reader::open_unchecked(&self.path)?;
            let stretch = Stretch {
                captures: vec![run.capture],
                first_snapshot: run.first,
                last_snapshot: run.last,
            };
            let excerpt = Excerpt {
                stretches: &[stretch],
                sockets: None,
                before: Before::Everyone,
                selection: None,
                taken_at_ns,
                key: None,
            };
            let make = || -> rusqlite::Result<Offenders> {
                part.attach(&source)?;
                extract(&part.connection, &excerpt)?;
                part.connection.execute_batch("DETACH DATABASE src")?;
                part.connection.execute(
                    "UPDATE capture_sources SET is_cut_before = ?1, is_cut_after = ?2",
                    [run.is_cut_before, run.is_cut_after],
                )?;
                offenders(&part.connection)
            };
            match make().map_err(|e| part.file.error_beside(&source, e))? {
                Offenders::None { is_partial } => {
                    self.is_partial |= is_partial;
                    return part.keep().map(Some);
                }
                Offenders::Sockets(sockets) => self.leave_out(sockets)?,
                Offenders::Others => return Ok(None),
            }
        }
        Ok(None)
    }

    fn leave_out(&mut self, sockets: BTreeSet<i64>) -> Result<(), StoreError> {
        self.run(|scratch| {
            scratch.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS out (socket_id INTEGER PRIMARY KEY)",
            )?;
            let mut add = scratch.prepare("INSERT OR IGNORE INTO temp.out VALUES (?1)")?;
            for socket in &sockets {
                add.execute([socket])?;
            }
            drop(add);
            scratch.execute_batch(include_str!("leave_out.sql"))
        })?;
        self.left_out.extend(sockets);
        Ok(())
    }

    /// What lies between the stretches that were kept.
    fn lost_spans(&self, kept: &[Run]) -> Result<Vec<LostSpan>, StoreError> {
        let known = self.run(|scratch| {
            let mut statement = scratch.prepare(
                "SELECT snapshot_id, started_at_ns, ended_at_ns FROM known_snapshots
                 WHERE group_id IS NOT NULL ORDER BY 1",
            )?;
            let rows = statement.query_map([], |r| {
                Ok((r.get::<_, i64>(0)?, (r.get::<_, i64>(1)?, r.get::<_, i64>(2)?)))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let is_kept = |id: i64| kept.iter().any(|run| (run.first..=run.last).contains(&id));
        let mut spans = Vec::new();
        let (mut before, mut next_id): (Option<i64>, Option<i64>) = (None, None);
        let mut open: Option<LostSpan> = None;
        for (id, (started, ended)) in known {
            let missing = next_id.map_or(0, |next| id.saturating_sub(next));
            if missing > 0 {
                let span =
                    open.get_or_insert(LostSpan { from_ns: before, to_ns: None, snapshots: 0 });
                span.snapshots = span.snapshots.saturating_add(missing);
                span.to_ns = Some(started);
            }
            if is_kept(id) {
                spans.extend(open.take().map(|span| LostSpan { to_ns: Some(started), ..span }));
                before = Some(ended);
            } else {
                let from_ns = Some(before.unwrap_or(started));
                let span = open.get_or_insert(LostSpan { from_ns, to_ns: None, snapshots: 0 });
                span.snapshots = span.snapshots.saturating_add(1);
                span.to_ns = Some(ended);
            }
            next_id = Some(id.saturating_add(1));
        }
        spans.extend(open);
        Ok(spans)
    }
}

/// Tables with their root pages, as a new recording has them.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, u32)>> {
    connection
        .prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect()
}

fn take_table(
    scratch: &Connection,
    pages: &Pages,
    name: &str,
    numbers: Option<&Vec<u32>>,
    read: &mut TableRead,
) -> rusqlite::Result<()> {
    let columns: Vec<(bool, i64)> = scratch
        .prepare("SELECT type = 'INTEGER' AND pk > 0, pk FROM pragma_table_info(?1)")?
        .query_map([name], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let keys = columns.iter().filter(|(_, pk)| *pk > 0).count();
    let rowid = columns.iter().position(|(is_integer, _)| *is_integer && keys == 1);
    let marks = vec!["?"; columns.len()].join(", ");
    let mut insert = scratch.prepare(&format!("INSERT OR IGNORE INTO {name} VALUES ({marks})"))?;
    let (mut refused, mut failed) = (0, None);
    let none = Vec::new();
    tree::each_row(pages, numbers.unwrap_or(&none), read, &mut |id, mut row: Vec<Value>| {
        if let Some(column) = rowid.and_then(|at| row.get_mut(at)) {
            *column = Value::Integer(id);
        }
        if row.len() != columns.len() {
            refused += 1;
            return;
        }
        match insert.execute(params_from_iter(row)) {
            Ok(_) => {}
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => refused += 1,
            Err(e) => failed = Some(e),
        }
    });
    read.rows -= refused;
    read.rows_lost += refused;
    failed.map_or(Ok(()), Err)
}

/// What keeps a recording from being whole.
enum Offenders {
    /// Nothing, but that sockets may be missing of which nothing is left.
    None {
        is_partial: bool,
    },
    Sockets(BTreeSet<i64>),
    /// Something that no socket is to blame for.
    Others,
}

fn offenders(connection: &Connection) -> rusqlite::Result<Offenders> {
    let (mut sockets, mut is_partial) = (BTreeSet::new(), false);
    show_what_is_held(connection)?;
    for invariant in INVARIANTS {
        let Look::Rows(sql) = invariant.look else { continue };
        let mut statement = connection.prepare(sql)?;
        let socket = statement.column_names().position(|name| name == "socket_id");
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match socket.map(|at| row.get::<_, Option<i64>>(at)).transpose()?.flatten() {
                Some(id) => sockets.insert(id),
                None if invariant.name == SOCKETS_SEEN => {
                    is_partial = true;
                    break;
                }
                None => return Ok(Offenders::Others),
            };
        }
    }
    Ok(match sockets.is_empty() {
        true => Offenders::None { is_partial },
        false => Offenders::Sockets(sockets),
    })
}

/// Says that not all sockets are there.
fn select(part: &Path) -> rusqlite::Result<()> {
    let sql = "UPDATE capture_sources SET selection = coalesce(selection || '; ', '') || ?1";
    let connection = open_connection(part, std::time::Duration::ZERO)?;
    connection.execute(sql, params![SELECTION]).map(|_| ())
}
