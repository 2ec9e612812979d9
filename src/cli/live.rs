//! Questions to the kernel instead of a recording: one snapshot is recorded into a file that goes at
//! once, and asked like any other.

use anyhow::Context;

use super::args::CommonArgs;
use super::filter::{choose, read_filter};
use super::message::warn;
use super::moment::Anchor;
use crate::filter::Narrowed;
use crate::kernel::{NamespaceSockets, SystemClock, host_facts};
use crate::model::{Capture, Protocol, Source, States};
use crate::query::Recording;
use crate::record::{Event, Inputs, Limits, LiveKernel, Plan, RecordError, SignalPace, run};
use crate::store::Writer;

/// The sockets as they are now.
pub(super) struct Live {
    pub(super) recording: Recording,
    /// What is to be asked of it: but for what the kernel was asked already.
    pub(super) common: CommonArgs,
    /// What could not be asked for, in words.
    not_asked: Vec<String>,
    _directory: tempfile::TempDir,
}

impl Live {
    /// Asks for the chosen sockets in these states; for listeners there is only TCP.
    pub(super) fn ask(common: &CommonArgs, states: States) -> anyhow::Result<Self> {
        let sockets = &common.select.sockets;
        let usual: &[_] =
            if states == States::ALL { &[Protocol::Tcp, Protocol::Udp] } else { &[Protocol::Tcp] };
        let mut plan = Plan {
            chosen: None,
            dumps: sockets.dumps(usual),
            states: states.intersection(sockets.states()),
            interval_ns: 1_000_000_000,
            duration_ns: None,
            count: Some(1),
            limits: Limits::NONE,
            finds_owners: false,
        };
        let mut sockets_here = NamespaceSockets::open(None).map_err(RecordError::Diag)?;
        let now_ns = SystemClock.now().utc_ns;
        let anchor = Anchor { now_ns, recorded_ns: None, after_ns: None, recording: None };
        let mut common = common.clone();
        let mut narrowed = Narrowed::default();
        if let Some(filtered) = read_filter(&common.filter, &[], anchor)? {
            let (of_kernel, rest) = filtered.parted();
            if let Some(of_kernel) = of_kernel {
                narrowed = choose(of_kernel, &mut plan, sockets_here.dumps())?;
            }
            common.filter = rest.map(|rest| rest.filter.to_string()).into_iter().collect();
        }
        let capture = Capture {
            source: Source::Live,
            host: host_facts().context("could not tell which boot of the machine this is")?,
            namespace: sockets_here.namespace(),
            options: r#"{"owners":false}"#.to_owned(),
            interval_ns: Some(plan.interval_ns),
            started: SystemClock.now(),
        };
        let directory = tempfile::tempdir().context("could not make room for a snapshot")?;
        let file = directory.path().join("live.db");
        let (mut pace, _stop) = SignalPace::new();
        let mut not_asked = Vec::new();
        run(
            &plan,
            &capture,
            Writer::open(&file)?,
            Inputs {
                kernel: &mut LiveKernel::new(sockets_here, None, None, narrowed),
                pace: &mut pace,
                ended: None,
                listener: &mut |event| match event {
                    Event::Unsupported(family, protocol) => {
                        not_asked.push(format!("{}/{}", protocol.name(), family.name()));
                    }
                    Event::Tick(_)
                    | Event::Limits(_)
                    | Event::DumpFailed(..)
                    | Event::Refused(_)
                    | Event::NoOwners(_) => {}
                },
            },
        )?;
        Ok(Self { recording: Recording::open(&file)?, common, not_asked, _directory: directory })
    }

    /// Says what could not be asked for.
    pub(super) fn warn(&self) {
        if !self.not_asked.is_empty() {
            warn(&format!("this kernel cannot dump {}", self.not_asked.join(", ")));
        }
    }
}
