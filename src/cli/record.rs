//! `sockrec record`

use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::Context;
use crossbeam_channel::Sender;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use super::args::RecordArgs;
use super::filter::{choose, read_filter};
use super::follow::{self, Follower};
use super::limits::{has_size, limits};
use super::message::{note, say, usage, warn};
use super::moment::Anchor;
use super::namespaces::{self, Opened};
use super::output::{counted, no_states};
use super::retention;
use super::service;
use super::user::go_on_as;
use super::voice::Voice;
use crate::kernel::{
    EventReader, EventSocket, Netns, SystemClock, has_net_admin, host_facts, is_ignored,
    sees_every_process,
};
use crate::model::{Capture, EndReason, Protocol, Source, States};
use crate::record::{Inputs, Limits, LiveKernel, Plan, SignalPace, Summary, run as record_all};
use crate::render::Named;
use crate::render::human::{bytes, duration};
use crate::store::{ThinRule, Writer, has_log};

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

pub(super) fn run(args: RecordArgs) -> anyhow::Result<Exit> {
    let mut plan = plan(&args)?;
    follow::check(args.follow)?;
    let follows_namespaces = args.netns.iter().any(|netns| *netns != Netns::Own);
    let now_ns = SystemClock.now().utc_ns;
    let anchor = Anchor { now_ns, recorded_ns: None, after_ns: None, recording: None };
    let filtered = read_filter(&args.filter, &[], anchor)?;
    if let Some(filtered) = filtered.as_ref().filter(|_| follows_namespaces) {
        filtered.check_devices()?;
    }
    // Before there is a file, which is to be that user's, and before there are other threads.
    args.user.as_deref().map(|name| go_on_as(name, follows_namespaces)).transpose()?;
    namespaces::make_room(&args.netns, !args.command.is_empty());
    let wanted_events = (!args.no_events).then_some(&*plan.dumps);
    let Opened { mut first, facts, watch, no_events } = Opened::open(&args.netns, wanted_events)?;
    let host = host_facts().context("could not tell which boot of the machine this is")?;
    let narrowed = filtered
        .map(|filtered| choose(filtered, &mut plan, first.dumps()))
        .transpose()?
        .unwrap_or_default();
    let events = first.take_events();
    let has_net_admin = has_net_admin();
    let options = Options {
        interval_ns: plan.interval_ns,
        duration_ns: plan.duration_ns,
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
        has_net_admin,
    };
    let mut writer = Writer::open(&args.output)?;
    writer.ask_alive(retention::alive());
    let (mut pace, stop) = SignalPace::new();
    // From here on a signal ends the recording, and a second one the process: should the disk hang,
    // the file holds every snapshot that was committed. One that was to be ignored stays ignored.
    let mut taken = vec![SIGINT, SIGTERM, SIGHUP];
    taken.retain(|&signal| !is_ignored(signal));
    let is_ending = Arc::new(AtomicBool::new(false));
    for &signal in taken.iter().filter(|&&signal| signal != SIGHUP) {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&is_ending))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&is_ending)))
            .context("could not take over signals")?;
    }
    let mut signals = Signals::new(taken).context("could not take over signals")?;
    let signals_handle = signals.handle();
    let (on_signal, on_reload) = (stop.clone(), pace.limits());
    let reloads = args.limits.is_some().then(|| args.clone());
    thread::spawn(move || {
        for signal in signals.forever() {
            if let (SIGHUP, Some(args)) = (signal, &reloads) {
                service::reloading(|| reload(args, &on_reload));
                continue;
            }
            service::stopping();
            // Full: a stop is under way already.
            let _ = on_signal.try_send(EndReason::Signal);
        }
    });
    let (follower, ended) = match args.follow {
        Some(format) => {
            // A command is not ended because nobody reads what is said of it.
            let stop = args.command.is_empty().then(|| stop.clone());
            let named = Named { netns: follows_namespaces, ..Named::NONE };
            let (follower, ended) = Follower::start(&args.output, format, named, stop)?;
            (Some(follower), Some(ended))
        }
        None => (None, None),
    };
    let command = args.command.split_first().map(|_| Recorded::start(&args, stop)).transpose()?;

    let capture = Capture {
        host,
        namespace: facts,
        options: serde_json::to_string(&options).context("could not note the options")?,
        source: Source::Live,
        interval_ns: Some(plan.interval_ns),
        started: SystemClock.now(),
    };
    if let Some(error) = no_events {
        warn(&format!(
            "cannot listen to destroy events ({error}): ends are known to the interval only"
        ));
    }
    if !args.quiet && !has_net_admin {
        note("without CAP_NET_ADMIN the kernel does not tell SO_MARK: `mark` stays empty");
    }
    if !args.quiet && plan.finds_owners && !sees_every_process() {
        note("without CAP_SYS_PTRACE only your own processes are seen as owners of sockets");
    }
    if !args.quiet && args.netns.contains(&Netns::All) && !sees_every_process() {
        note(
            "without CAP_SYS_PTRACE only those network namespaces are found that have a name, or \
             that your own processes live in",
        );
    }
    if !args.quiet {
        retention::explain(&args, &plan.limits.capacity, has_size(&args)?);
    }
    let events = events.map(EventReader::start).transpose();
    let events = events.context("could not start reading destroy events")?;
    let mut voice = Voice::new(&args, plan.limits.clone());
    service::watch(pace.pulse());
    let summary = record_all(
        &plan,
        &capture,
        writer,
        Inputs {
            kernel: &mut LiveKernel::new(first, watch, events, narrowed),
            pace: &mut pace,
            ended,
            listener: &mut |event| voice.hear(event),
        },
    );
    voice.finish();
    if let Some(follower) = follower {
        follower.finish()?;
    }
    let elapsed_ns = SystemClock.now().boottime_ns - capture.started.boottime_ns;
    match &summary {
        Ok(summary) => summarise(&args, &plan, summary, elapsed_ns),
        // Said before the command is waited for, which may go on for long.
        Err(_) if command.is_some() => warn("recording has ended, the command goes on"),
        Err(_) => {}
    }
    if summary.as_ref().is_ok_and(|summary| summary.reason == EndReason::Output) {
        warn("recording has ended: nobody reads any longer what `--follow` writes");
    }
    let ended_by_signal = summary.as_ref().is_ok_and(|summary| summary.reason == EndReason::Signal);
    let command = command.map(|command| command.wait(ended_by_signal)).transpose()?;
    signals_handle.close();
    let progress = summary?.progress;
    let has_gaps = progress.missed_ticks > 0
        || progress.failed_dumps > 0
        || progress.not_stored > 0
        || progress.event_losses > 0;
    Ok(match command {
        Some(code) if code != 0 => Exit::Command(code),
        _ if has_gaps => Exit::Gaps,
        _ => Exit::Fine,
    })
}

fn plan(args: &RecordArgs) -> anyhow::Result<Plan> {
    let states = args.sockets.states();
    if states == States::NONE {
        return Err(no_states());
    }
    if args.duration.is_some() && args.count.is_some() {
        return Err(usage("`--duration` and `--count` both say when to stop", Some("give one")));
    }
    Ok(Plan {
        dumps: args.sockets.dumps(&[Protocol::Tcp, Protocol::Udp]),
        states,
        chosen: None,
        interval_ns: args.interval,
        duration_ns: args.duration,
        count: args.count,
        limits: limits(args)?,
        finds_owners: !args.no_owners,
    })
}

/// Reads the limits again; where that fails, those before go on to hold.
fn reload(args: &RecordArgs, on_reload: &Sender<Limits>) {
    match limits(args) {
        Ok(limits) => {
            // Nobody is there any longer: recording is over.
            let _ = on_reload.send(limits);
            note("the limits were read again");
        }
        Err(e) => warn(&format!("the limits stay as they were: {e:#}")),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<_> = names.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn summarise(args: &RecordArgs, plan: &Plan, summary: &Summary, elapsed_ns: i64) {
    let progress = &summary.progress;
    if progress.failed_dumps > 0 {
        let failed = progress.failed_dumps;
        warn(&format!("{failed} dumps failed; `sockrec info` tells when and why"));
    }
    if progress.not_stored > 0 {
        warn(&format!(
            "more than {} new sockets came at once: {} sightings were counted but not stored \
             (`--max-new-sockets`)",
            plan.limits.max_new_sockets, progress.not_stored
        ));
    }
    if progress.event_losses > 0 {
        warn(
            "destroy events came faster than they could be read: some ends are missing \
             (`sockrec query coverage` tells when)",
        );
    }
    if progress.missed_ticks > progress.left_out_ticks {
        warn(&format!(
            "{} of the ticks every {} were missed: dumping or the disk took too long, or the recorder \
             was stopped or hardly ran",
            progress.missed_ticks - progress.left_out_ticks,
            duration(plan.interval_ns)
        ));
    }
    if progress.left_out_ticks > 0 {
        warn(&format!(
            "{} of the ticks every {} were left out to keep within the limit of CPU time (`--max-cpu`)",
            progress.left_out_ticks,
            duration(plan.interval_ns)
        ));
    }
    if has_log(&args.output) {
        let file = args.output.display();
        warn(&format!(
            "a reader kept `{file}-wal` from being folded in: until the last reader has ended, \
             copy it along with `{file}`"
        ));
    }
    if !args.quiet {
        say(&format!(
            "recorded {} in {} with {}; {} at the end; `{}` has {}",
            counted(progress.snapshots, "snapshot"),
            duration(elapsed_ns),
            counted(progress.samples, "sample"),
            counted(progress.sockets, "socket"),
            args.output.display(),
            bytes(progress.file_bytes.cast_signed()),
        ));
    }
}

/// A command that is recorded while it runs.
struct Recorded {
    id: Pid,
    waiter: thread::JoinHandle<io::Result<std::process::ExitStatus>>,
}

impl Recorded {
    fn start(args: &RecordArgs, stop: Sender<EndReason>) -> anyhow::Result<Self> {
        let mut words = args.command.iter();
        let program = words.next().context("no command was given")?;
        let mut child: Child = Command::new(program)
            .args(words)
            .spawn()
            .with_context(|| format!("could not run `{}`", program.display()))?;
        let id = Pid::from_child(&child);
        let waiter = thread::spawn(move || {
            let status = child.wait();
            // Full: a stop is under way already.
            let _ = stop.try_send(EndReason::Command);
            status
        });
        Ok(Self { id, waiter })
    }

    /// Waits for the command and gives its exit code as a shell does. Who ended the recorder by a
    /// signal means the command too; Ctrl-C has reached it already.
    fn wait(self, ended_by_signal: bool) -> anyhow::Result<u8> {
        use std::os::unix::process::ExitStatusExt;
        if ended_by_signal && !self.waiter.is_finished() {
            // If it has just ended by itself there is nothing to do.
            let _ = kill_process(self.id, Signal::TERM);
        }
        let status = self.waiter.join().map_err(|_| anyhow::anyhow!("lost the command"))?;
        let status = status.context("could not wait for the command")?;
        let code = status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(1);
        Ok(u8::try_from(code).unwrap_or(1))
    }
}
