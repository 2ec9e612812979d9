//! `sockrec record`

use std::io;
use std::process::{Child, Command};
use std::thread;

use anyhow::Context;
use crossbeam_channel::Sender;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Handle;

use super::Exit;
use super::args::RecordArgs;
use super::follow::{self, Follower};
use super::limits::{Reading, limits};
use super::message::{note, say, usage, warn};
use super::metrics::Metrics;
use super::namespaces;
use super::output::{counted, no_states};
use super::pauses::{Pauses, Recorded as Ended};
use super::service;
use super::session::{Session, filter_of};
use super::signals::{Wish, on_signals};
use super::user::go_on_as;
use super::voice::Voice;
use crate::kernel::{Netns, SystemClock};
use crate::model::{EndReason, Protocol, States};
use crate::record::{Limits, Plan, SignalPace};
use crate::render::Named;
use crate::render::human::{bytes, duration};
use crate::store::has_log;

pub(super) fn run(args: RecordArgs) -> anyhow::Result<Exit> {
    let given = limits(&args, Reading::First)?;
    let mut plan = plan(&args, given.limits)?;
    follow::check(args.follow)?;
    let follows_namespaces = args.netns.iter().any(|netns| *netns != Netns::Own);
    filter_of(&args)?;
    // Before there is a file, which is to be that user's, and before there are other threads.
    args.user.as_deref().map(|name| go_on_as(name, follows_namespaces)).transpose()?;
    let metrics = Metrics::open(&args)?;
    namespaces::make_room(&args.netns, !args.command.is_empty());
    let opened = Session::open(&args, &mut plan)?;
    let (mut pace, stop) = SignalPace::new();
    let signals_handle = take_signals(&args, &pace, &stop)?;
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
    opened.say_what_is_missing(&args, &plan, given.has_size);
    let mut voice = Voice::new(&args, plan.limits.clone(), metrics);
    service::watch(pace.pulse()).context("could not feed the watchdog of the service manager")?;
    let started_ns = SystemClock.now().boottime_ns;
    let recorded = Pauses::new(&args, &mut plan, &mut pace, &mut voice).record(opened, &ended);
    voice.finish();
    drop(ended);
    if let Some(follower) = follower {
        follower.finish()?;
    }
    let elapsed_ns = SystemClock.now().boottime_ns - started_ns;
    match &recorded {
        Ok(recorded) => summarise(&args, &plan, recorded, elapsed_ns),
        // Said before the command is waited for, which may go on for long.
        Err(_) if command.is_some() => warn("recording has ended, the command goes on"),
        Err(_) => {}
    }
    let reason = recorded.as_ref().ok().map(|recorded| recorded.summary.reason);
    if reason == Some(EndReason::Output) {
        warn("recording has ended: nobody reads any longer what `--follow` writes");
    }
    let ended_by_signal = reason == Some(EndReason::Signal);
    let command = command.map(|command| command.wait(ended_by_signal)).transpose()?;
    signals_handle.close();
    let recorded = recorded?;
    let progress = recorded.summary.progress;
    let has_gaps = recorded.pauses > 0
        || voice.has_refused()
        || progress.missed_ticks > 0
        || progress.failed_dumps > 0
        || progress.not_stored > 0
        || progress.event_losses > 0;
    Ok(match command {
        Some(code) if code != 0 => Exit::Command(code),
        _ if has_gaps => Exit::Gaps,
        _ => Exit::Fine,
    })
}

/// From here on a signal ends the recording, and a second one the process: should the disk hang, the file
/// holds every snapshot that was committed.
fn take_signals(
    args: &RecordArgs,
    pace: &SignalPace,
    stop: &Sender<EndReason>,
) -> anyhow::Result<Handle> {
    let (on_signal, on_reload) = (stop.clone(), pace.limits());
    let reloads = args.limits.is_some().then(|| args.clone());
    on_signals(move |signal| {
        if let (SIGHUP, Some(args)) = (signal, &reloads) {
            service::reloading(|| reload(args, &on_reload));
            return Wish::GoOn;
        }
        service::stopping();
        // Full: a stop is under way already.
        let _ = on_signal.try_send(EndReason::Signal);
        Wish::End
    })
}

fn plan(args: &RecordArgs, limits: Limits) -> anyhow::Result<Plan> {
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
        limits,
        finds_owners: !args.no_owners,
    })
}

/// Reads the limits again; where that fails, those before go on to hold.
fn reload(args: &RecordArgs, on_reload: &Sender<Limits>) {
    match limits(args, Reading::Again) {
        Ok(given) => {
            // Nobody is there any longer: recording is over.
            let _ = on_reload.send(given.limits);
            note("the limits were read again");
        }
        Err(e) => warn(&format!("the limits stay as they were: {e:#}")),
    }
}

fn summarise(args: &RecordArgs, plan: &Plan, recorded: &Ended, elapsed_ns: i64) {
    let progress = &recorded.summary.progress;
    if progress.failed_dumps > 0 {
        let failed = counted(progress.failed_dumps, "dump");
        warn(&format!("{failed} failed; `sockrec info` tells when and why"));
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
        let why = match recorded.is_paused {
            true => format!(
                "the disk is full: a part of what was recorded is still in `{file}-wal`; until a \
                 recorder has gone on with it,"
            ),
            false => format!(
                "a reader kept `{file}-wal` from being folded in: until the last reader has ended,"
            ),
        };
        warn(&format!("{why} copy it along with `{file}`"));
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
        let waiter = thread::Builder::new().name("command".to_owned()).spawn(move || {
            let status = child.wait();
            // Full: a stop is under way already.
            let _ = stop.try_send(EndReason::Command);
            status
        });
        let waiter = waiter.inspect_err(|_| {
            // If it has just ended by itself there is nothing to do.
            let _ = kill_process(id, Signal::TERM);
        });
        let waiter = waiter.context("could not wait for the command")?;
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
