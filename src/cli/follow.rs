//! `sockrec record --follow`: each connection on stdout as it ends.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::message::{has_color, usage};
use super::output::{stdout, zone};
use crate::model::{EndReason, SocketId};
use crate::query::{QueryError, Question, Recording, Selection};
use crate::render::{ConnectionTable, Exporter, Format, Named, Options, ShownMoment, exporter};

/// The thread that writes ended connections out of the recording as they are stored there.
pub(super) struct Follower {
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Refuses a format that cannot be written as things go on.
pub(super) fn check(format: Option<Format>) -> anyhow::Result<()> {
    if format == Some(Format::Json) {
        return Err(usage("`--follow` writes no json, which has an end", Some("try `jsonl`")));
    }
    Ok(())
}

impl Follower {
    /// Starts it; what is sent to the other part is written. When nobody reads its output any longer
    /// it stops the recorder, if it is given what does so.
    pub(super) fn start(
        path: &Path,
        format: Format,
        named: Named,
        stop: Option<Sender<EndReason>>,
    ) -> anyhow::Result<(Self, Sender<Vec<SocketId>>)> {
        let (sender, ended) = unbounded();
        // What the capture before left half-closed may end in this one, and it may have been killed before
        // it told of all. A file that cannot be read is the recorder's to complain of.
        let untold = Recording::open(path).and_then(|recording| recording.untold_ends());
        let untold = untold.unwrap_or_default();
        let path = path.to_owned();
        let thread = thread::Builder::new()
            .name("sockrec-follow".to_owned())
            .spawn(move || {
                let result = follow(&path, format, named, untold, &ended);
                if let (Err(_), Some(stop)) = (&result, stop) {
                    // Full: a stop is under way already.
                    let _ = stop.try_send(EndReason::Output);
                }
                result
            })
            .context("could not start the thread that follows")?;
        Ok((Self { thread }, sender))
    }

    /// Waits until all is written. That nobody read it to the end is no error.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let result = self.thread.join().map_err(|_| anyhow::anyhow!("the follower died"))?;
        match result {
            Err(e) if is_closed_pipe(&e) => Ok(()),
            result => result,
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == ErrorKind::BrokenPipe)
}

/// `untold`: who has ended, or may have, and was not told of yet.
fn follow(
    path: &Path,
    format: Format,
    named: Named,
    mut untold: HashSet<i64>,
    ended: &Receiver<Vec<SocketId>>,
) -> anyhow::Result<()> {
    let is_table = format == Format::Table;
    // The other formats tell everything.
    let shown = if is_table { ConnectionTable::COLUMNS } else { &[] };
    let mut selection = Selection {
        columns: shown.iter().map(|&column| column.to_owned()).collect(),
        ..Selection::default()
    };
    let (zone, color) = (zone(false), has_color(&io::stdout()));
    let options = Options { zone, color, streams: true, ..Options::default() };
    let mut out: Box<dyn Exporter> = if is_table {
        Box::new(ConnectionTable::new(stdout(), &options, ShownMoment::Closed).naming(named))
    } else {
        exporter(format, &options, stdout())
    };
    let mut recording = None;
    let ticks = ended.iter().map(|sockets| (sockets, false));
    for (sockets, is_last) in ticks.chain([(Vec::new(), true)]) {
        // There is a recording once something was stored.
        let recording = match &mut recording {
            Some(recording) => recording,
            None if is_last => break,
            none => {
                let opened = Recording::open(path)?;
                out.begin(&opened.columns(Question::Connections, &selection)?)?;
                none.insert(opened)
            }
        };
        let mut over: Vec<i64> = sockets.iter().map(|socket| socket.0).chain(untold).collect();
        untold = recording.half_closed(&over, is_last)?;
        over.retain(|socket| !untold.contains(socket));
        if !over.is_empty() {
            selection.ended = Some(over);
            recording.answer(Question::Connections, &selection, |row| {
                out.row(row).map_err(QueryError::Output)
            })?;
        }
        out.finish()?;
    }
    Ok(())
}
