//! A capture from begin to end: its scopes, what earlier captures left open, its writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded, unbounded};

use super::collector::{Collector, tell_refused};
use super::inputs::{Inputs, Kernel, Plan};
use super::numbering::Numbering;
use super::outbox::Outbox;
use super::outcome::{Event, RecordError, Summary};
use super::owner_finder::OwnerFinder;
use super::tracker::{FullView, Past, Tracker};
use super::writer::{Lines, Written, write_all};
use crate::model::{
    Arrival, Asked, Capture, EndReason, FormerSocket, Nanos, NetnsId, Place, RefusedNamespace,
    Scope, ScopeId, SocketId,
};
use crate::store::{FormerNamespace, KnownNamespaces, Start, StoreError, Writer};

/// What is left of a connection is there for so long: in FIN-WAIT-2 and then in TIME-WAIT.
const REMAINS_NS: Nanos = 120_000_000_000;
/// Parcels on their way to the writer: some 5 MiB of rows, or some twenty idle ticks.
const CHANNEL_PARCELS: usize = 64;

/// Records until the plan is fulfilled or a stop is asked for.
///
/// # Errors
/// When the recording cannot be written, or nothing that was asked for can be dumped. What was
/// stored before stays.
pub fn run(
    plan: &Plan,
    capture: &Capture,
    writer: Writer,
    inputs: Inputs<'_>,
) -> Result<Summary, RecordError> {
    let filter = plan.chosen.as_ref().map_or_else(String::new, |c| c.filter.to_string());
    let scopes = plan.dumps.iter().map(|&(family, protocol)| Asked {
        family,
        protocol,
        states: plan.states,
        filter: filter.clone(),
    });
    let session = Session {
        plan,
        scopes: scopes.collect(),
        ended: inputs.ended.clone(),
        stopper: inputs.pace.stopper(),
    };
    let Inputs { kernel, pace, listener, .. } = inputs;
    let ways = Ways { kernel, listener };
    session.run(capture, writer, ways, |collector, ways| collector.run(ways, pace))
}

/// The ways in and out of a capture.
pub(super) struct Ways<'a> {
    pub(super) kernel: &'a mut dyn Kernel,
    pub(super) listener: &'a mut dyn FnMut(&Event),
}

/// Beside the first: namespaces that are there at the start, and the numbers of those to come.
struct Others {
    numbering: Numbering,
    found: Vec<(Place, Arrival, Vec<TrackedAs>)>,
    refused: Vec<RefusedNamespace>,
}

/// A scope and its last full view in an earlier capture.
type TrackedAs = (ScopeId, Scope, Option<FullView>);

impl Others {
    fn found(
        known: KnownNamespaces,
        asked: Vec<Asked>,
        start: &Start,
        writer: &Writer,
        ways: &mut Ways<'_>,
    ) -> Result<Self, RecordError> {
        let mut numbering = Numbering::new(known, asked);
        let mut found = Vec::new();
        let news = ways.kernel.namespace_news();
        for (place, facts) in news.arrived {
            let arrival = numbering.arrival(facts, start.next_snapshot);
            let mut scopes = Vec::with_capacity(arrival.scopes.len());
            for (id, scope) in &arrival.scopes {
                scopes.push((*id, scope.clone(), last_full_view(writer, scope)?));
            }
            found.push((place, arrival, scopes));
        }
        let refused = tell_refused(news.refused, ways.listener);
        Ok(Self { numbering, found, refused })
    }
}

fn last_full_view(writer: &Writer, scope: &Scope) -> Result<Option<FullView>, StoreError> {
    let view = writer.last_full_view(scope)?;
    Ok(view.map(|(snapshot, ended_ns)| FullView { snapshot, ended_ns }))
}

/// Of the namespaces that a recording knows those that are known to have gone, and the others.
fn gone_and_there(
    known: &KnownNamespaces,
    first: NetnsId,
    kernel: &mut dyn Kernel,
) -> (Vec<NetnsId>, Vec<NetnsId>) {
    let is_gone = |former: &&FormerNamespace| former.id != first && kernel.is_gone(former);
    let (gone, there): (Vec<&FormerNamespace>, Vec<_>) = known.namespaces.iter().partition(is_gone);
    let ids = |of: Vec<&FormerNamespace>| of.iter().map(|former| former.id).collect();
    (ids(gone), ids(there))
}

/// A capture that is about to begin.
pub(super) struct Session<'a> {
    pub(super) plan: &'a Plan,
    pub(super) scopes: Vec<Asked>,
    pub(super) ended: Option<Sender<Vec<SocketId>>>,
    pub(super) stopper: Option<Sender<EndReason>>,
}

impl Session<'_> {
    /// Begins the capture, starts its writer, has the work done and ends both.
    pub(super) fn run(
        self,
        capture: &Capture,
        mut writer: Writer,
        mut ways: Ways<'_>,
        work: impl FnOnce(&mut Collector<'_>, &mut Ways<'_>) -> Result<EndReason, RecordError>,
    ) -> Result<Summary, RecordError> {
        let Self { plan, scopes: asked, ended, stopper } = self;
        writer.set_capacity(plan.limits.capacity.clone());
        let start = writer.begin_capture(capture)?;
        let scopes = add_scopes(&mut writer, &start, asked.clone())?;
        let follows = ways.kernel.follows_namespaces();
        let known = writer.known_namespaces(&start)?;
        let (gone, there) = gone_and_there(&known, start.netns, ways.kernel);
        // Any of them may come again.
        let recorded = if follows { there } else { vec![start.netns] };
        let past = Past {
            formers: writer.former_sockets(&recorded)?,
            undestroyed: writer.undestroyed_sockets(&recorded)?,
            freed: writer.freed_sockets(&recorded, capture.started.boottime_ns - REMAINS_NS)?,
        };
        let others =
            follows.then(|| Others::found(known, asked, &start, &writer, &mut ways)).transpose()?;
        let mut owners = None;
        if plan.finds_owners {
            owners = start_owners(plan, &writer, &start, &past.formers, ways.listener)?;
        }
        let written = Arc::new(Written::default());
        let (parcels, incoming) = bounded(CHANNEL_PARCELS);
        let (returned, empties) = unbounded();
        let lines = Lines { parcels: incoming, empties: returned, ended, stopper };
        let thread = start_writer(writer, start, gone, lines, Arc::clone(&written))?;
        let mut tracker =
            Tracker::new(&start, capture.started, scopes, past, plan.limits.max_new_sockets);
        prepare(&mut tracker, plan, capture, ways.kernel);
        let mut arrivals = Vec::new();
        let numbering = others.map(|others| {
            for (place, arrival, scopes) in others.found {
                tracker.arrive(place, arrival.netns, scopes);
                arrivals.push(arrival);
            }
            (others.numbering, others.refused)
        });
        let outbox =
            Outbox { parcels, beginning: None, empties, owners, batch: Box::default(), sent: 0 };
        let mut collector = Collector::new(plan, tracker, outbox, &written, start.next_snapshot);
        if let Some((numbering, refused)) = numbering {
            collector.number(numbering, arrivals, refused);
        }
        let result = work(&mut collector, &mut ways);
        let mut progress = collector.progress();
        drop(collector); // closes the channel: the writer ends
        // A writer that failed knows the cause; the collector only saw the channel closed.
        thread.join().map_err(|_| RecordError::WriterDied)??;
        let reason = result?;
        progress.snapshots = written.snapshots.load(Ordering::Relaxed);
        progress.samples = written.samples.load(Ordering::Relaxed);
        progress.file_bytes = written.file_bytes.load(Ordering::Relaxed);
        progress.lag = 0;
        Ok(Summary { progress, reason })
    }
}

/// Registers what is asked for of the first namespace.
fn add_scopes(
    writer: &mut Writer,
    start: &Start,
    asked: Vec<Asked>,
) -> Result<Vec<TrackedAs>, StoreError> {
    let mut scopes = Vec::with_capacity(asked.len());
    for Asked { family, protocol, states, filter } in asked {
        let scope = Scope { netns: start.netns, family, protocol, states, filter };
        let last_full_view = last_full_view(writer, &scope)?;
        scopes.push((writer.add_scope(start, &scope)?, scope, last_full_view));
    }
    Ok(scopes)
}

/// Starts the search for owners, also of the sockets that earlier captures left open; without one recording
/// goes on.
fn start_owners(
    plan: &Plan,
    writer: &Writer,
    start: &Start,
    formers: &[FormerSocket],
    listener: &mut dyn FnMut(&Event),
) -> Result<Option<OwnerFinder>, StoreError> {
    let mut owners = match OwnerFinder::start(start, writer.former_owners(start, formers)?) {
        Ok(owners) => owners,
        Err(e) => {
            listener(&Event::NoOwners(e.to_string()));
            return Ok(None);
        }
    };
    owners.keep_to(plan.limits.max_cpu);
    for former in formers.iter().filter(|former| !former.is_remains) {
        if let Some(inode) = former.known.inode {
            owners.want(former.id, inode);
        }
    }
    Ok(Some(owners))
}

fn start_writer(
    writer: Writer,
    start: Start,
    gone: Vec<NetnsId>,
    lines: Lines,
    written: Arc<Written>,
) -> Result<JoinHandle<Result<(), StoreError>>, RecordError> {
    let thread = thread::Builder::new().name("sockrec-writer".to_owned()).spawn(move || {
        let result = write_all(writer, start, &gone, &lines, &written);
        if result.is_err() {
            lines.stop();
        }
        result
    });
    thread.map_err(RecordError::NoWriter)
}

/// Tells it what is chosen, and what this kernel tells.
fn prepare(tracker: &mut Tracker, plan: &Plan, capture: &Capture, kernel: &dyn Kernel) {
    if let Some(chosen) = &plan.chosen {
        tracker.choose(chosen.clone());
    }
    if capture.host.shows_bound_sockets() {
        tracker.rely_on_bound_sockets();
    }
    if plan.records_both_ends() {
        tracker.rely_on_both_ends();
    }
    if kernel.listens_to_events() {
        tracker.listen_to_events();
    }
    if !kernel.tells_every_event() {
        tracker.take_events_as_found();
    }
}
