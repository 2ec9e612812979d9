//! What is opened to record: sockets in the namespaces, the recording; and how the capture is described.

use anyhow::Context;
use crossbeam_channel::Sender;
use serde::Serialize;

use super::args::RecordArgs;
use super::filter::{Filtered, choose, read_filter};
use super::message::{note, warn};
use super::moment::Anchor;
use super::namespaces::{self, Opened};
use super::retention;
use super::voice::Voice;
use crate::filter::Narrowed;
use crate::kernel::{
    EventReader, EventSocket, Netns, SystemClock, has_net_admin, host_facts, sees_every_process,
};
use crate::model::{Capture, Clocks, HostFacts, SocketId, Source};
use crate::record::{Inputs, LiveKernel, Plan, SignalPace, Summary, in_doubt, run};
use crate::store::{ThinRule, Writer};

/// What a capture was asked to do, as it stands in the recording.
#[derive(Serialize)]
struct Options<'a> {
    interval_ns: i64,
    duration_ns: Option<i64>,
    count: Option<u64>,
    families: Vec<&'a str>,
    protocols: Vec<&'a str>,
    states: u32,
    filter: Option<String>,
    max_new_sockets: u64,
    max_cpu: Option<f64>,
    max_bytes: Option<u64>,
    max_age_ns: Option<i64>,
    thin: Vec<Thin>,
    events: bool,
    event_buffer_bytes: Option<usize>,
    netns: Vec<String>,
    owners: bool,
    sees_every_process: bool,
    has_net_admin: bool,
}

#[derive(Serialize)]
struct Thin {
    every_ns: i64,
    after_ns: i64,
}

impl Thin {
    fn of(rule: &ThinRule) -> Self {
        Self { every_ns: rule.every_ns, after_ns: rule.after_ns }
    }
}

/// The filter that was typed.
pub(super) fn filter_of(args: &RecordArgs) -> anyhow::Result<Option<Filtered>> {
    let now_ns = SystemClock.now().utc_ns;
    let anchor = Anchor { now_ns, recorded_ns: None, after_ns: None, recording: None };
    let filtered = read_filter(&args.filter, &[], anchor)?;
    let follows_namespaces = args.netns.iter().any(|netns| *netns != Netns::Own);
    if let Some(filtered) = filtered.as_ref().filter(|_| follows_namespaces) {
        filtered.check_devices()?;
    }
    Ok(filtered)
}

/// All that a capture takes.
pub(super) struct Session {
    opened: Opened,
    started: Clocks,
    events: Option<EventReader>,
    narrowed: Narrowed,
    host: HostFacts,
    options: String,
    writer: Writer,
}

impl Session {
    /// Opens it; the plan comes to know the filter.
    pub(super) fn open(args: &RecordArgs, plan: &mut Plan) -> anyhow::Result<Self> {
        let wanted_events = (!args.no_events).then_some(&*plan.dumps);
        let started = SystemClock.now();
        let mut opened = Opened::open(&args.netns, wanted_events)?;
        let host = host_facts().context("could not tell which boot of the machine this is")?;
        let narrowed = filter_of(args)?
            .map(|filtered| choose(filtered, plan, opened.first.dumps()))
            .transpose()?
            .unwrap_or_default();
        let events = opened.first.take_events();
        let options = Options {
            interval_ns: plan.interval_ns,
            duration_ns: args.duration,
            count: plan.count,
            families: names(plan.dumps.iter().map(|(family, _)| family.name())),
            protocols: names(plan.dumps.iter().map(|(_, protocol)| protocol.name())),
            states: plan.states.0,
            filter: plan.chosen.as_ref().map(|chosen| chosen.filter.to_string()),
            max_new_sockets: plan.limits.max_new_sockets,
            max_cpu: plan.limits.max_cpu.map(|share| share.0),
            max_bytes: plan.limits.capacity.max_bytes,
            max_age_ns: plan.limits.capacity.max_age_ns,
            thin: plan.limits.capacity.thin.iter().map(Thin::of).collect(),
            events: events.is_some(),
            event_buffer_bytes: events.as_ref().and_then(EventSocket::receive_buffer),
            netns: args.netns.iter().map(namespaces::written).collect(),
            owners: plan.finds_owners,
            sees_every_process: sees_every_process(),
            has_net_admin: has_net_admin(),
        };
        let options = serde_json::to_string(&options).context("could not note the options")?;
        // Read from now on: opening the recording, and looking through it, takes a while.
        let is_in_doubt = in_doubt(plan.records_both_ends());
        let events = events.map(|socket| EventReader::start(socket, is_in_doubt)).transpose();
        let events = events.context("could not start reading destroy events")?;
        let mut writer = Writer::open(&args.output)?;
        writer.ask_alive(retention::alive());
        Ok(Self { opened, started, events, narrowed, host, options, writer })
    }

    /// What will not be known, and what is kept.
    pub(super) fn say_what_is_missing(&self, args: &RecordArgs, plan: &Plan, has_size: bool) {
        if let Some(error) = &self.opened.no_events {
            warn(&format!(
                "cannot listen to destroy events ({error}): ends are known to the interval only"
            ));
        }
        if args.quiet {
            return;
        }
        if !has_net_admin() {
            note("without CAP_NET_ADMIN the kernel does not tell SO_MARK: `mark` stays empty");
        }
        if plan.finds_owners && !sees_every_process() {
            note("without CAP_SYS_PTRACE only your own processes are seen as owners of sockets");
        }
        if args.netns.contains(&Netns::All) && !sees_every_process() {
            note(
                "without CAP_SYS_PTRACE only those network namespaces are found that have a name, \
                 or that your own processes live in",
            );
        }
        retention::explain(args, &plan.limits.capacity, has_size);
    }

    /// Records until the plan is fulfilled, a stop is asked for or something fails.
    pub(super) fn record(
        self,
        plan: &Plan,
        pace: &mut SignalPace,
        voice: &mut Voice,
        ended: Option<Sender<Vec<SocketId>>>,
    ) -> anyhow::Result<Summary> {
        let Opened { first, facts, watch, .. } = self.opened;
        let capture = Capture {
            host: self.host,
            namespace: facts,
            options: self.options,
            source: Source::Live,
            interval_ns: Some(plan.interval_ns),
            started: self.started,
        };
        let inputs = Inputs {
            kernel: &mut LiveKernel::new(first, watch, self.events, self.narrowed),
            pace,
            ended,
            listener: &mut |event| voice.hear(event),
        };
        Ok(run(plan, &capture, self.writer, inputs)?)
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<_> = names.collect();
    all.sort_unstable();
    all.dedup();
    all
}
