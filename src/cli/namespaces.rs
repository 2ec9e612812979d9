//! `record --netns`

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::message::usage;
use crate::kernel::{
    DiagError, NAMED, NamespaceSockets, NamespaceWatch, Netns, Refusal, raise_descriptor_limit,
};
use crate::model::{Family, NamespaceFacts, Protocol};
use crate::record::RecordError;

/// So many that cannot be recorded are called by name.
const NAMED_REFUSALS: usize = 3;

/// Reads a value of `--netns`.
pub(super) fn parse_netns(text: &str) -> Result<Netns, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("give `all`, `self`, a name of `ip netns`, a path or a pid".to_owned());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let pid = text.parse().map_err(|_| {
            format!("there is no such pid; a namespace called so is `{NAMED}/{text}`")
        })?;
        return Ok(Netns::Pid(pid));
    }
    Ok(match text {
        "all" => Netns::All,
        "self" => Netns::Own,
        _ if text.contains('/') => Netns::Path(PathBuf::from(text)),
        _ => Netns::Name(text.to_owned()),
    })
}

/// As it was written, for the recording.
pub(super) fn written(netns: &Netns) -> String {
    match netns {
        Netns::All => "all".to_owned(),
        Netns::Own => "self".to_owned(),
        Netns::Name(name) => name.clone(),
        Netns::Path(path) => path.display().to_string(),
        Netns::Pid(pid) => pid.to_string(),
    }
}

/// The first of the namespaces, and what finds the others.
pub(super) struct Opened {
    pub(super) first: NamespaceSockets,
    pub(super) facts: NamespaceFacts,
    pub(super) watch: Option<NamespaceWatch>,
    /// Why destroy events are not listened for, although they are wanted.
    pub(super) no_events: Option<DiagError>,
}

impl Opened {
    /// Opens sockets in the namespace of this process alone, or in those that are meant.
    pub(super) fn open(
        meant: &[Netns],
        events: Option<&[(Family, Protocol)]>,
    ) -> anyhow::Result<Self> {
        if meant.iter().all(|netns| *netns == Netns::Own) {
            let (first, no_events) = match NamespaceSockets::open(events) {
                Err(e) if events.is_some() => (NamespaceSockets::open(None), Some(e)),
                first => (first, None),
            };
            let first = first.map_err(RecordError::Diag)?;
            return Ok(Self { facts: first.namespace(), first, watch: None, no_events });
        }
        let watch = NamespaceWatch::start(meant.to_vec(), events.map(<[_]>::to_vec))
            .context("could not look for network namespaces")?;
        let first = watch.take_first().map_err(|refused| none(&refused))?;
        let (first, facts) = (first.sockets, first.facts);
        Ok(Self { first, facts, watch: Some(watch), no_events: None })
    }
}

/// Each namespace takes some descriptors. Whoever is started from here on has the same limit: a command
/// is to have its own.
pub(super) fn make_room(meant: &[Netns], has_command: bool) {
    if !has_command && meant.iter().any(|netns| *netns != Netns::Own) {
        raise_descriptor_limit();
    }
}

fn none(refused: &[Refusal]) -> anyhow::Error {
    let hint = if refused.iter().any(|refusal| refusal.is_forbidden) {
        "run it as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE; `--netns self` needs neither"
            .to_owned()
    } else {
        let names = fs::read_dir(NAMED).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            names.map(|entry| format!("`{}`", entry.file_name().to_string_lossy())).collect();
        names.sort();
        match names.is_empty() {
            true => format!("there are none under {NAMED}; a path or the pid of a process will do"),
            false => format!("those under {NAMED} are {}", names.join(", ")),
        }
    };
    usage(not_recorded(refused), Some(&hint))
}

/// Which namespaces cannot be recorded, and why.
pub(super) fn not_recorded(refused: &[Refusal]) -> String {
    let named = refused.iter().take(NAMED_REFUSALS);
    let told: Vec<_> =
        named.map(|refusal| format!("`{}`: {}", refusal.path, refusal.reason())).collect();
    let others = match refused.len().saturating_sub(NAMED_REFUSALS) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let what = if refused.len() == 1 { "network namespace" } else { "network namespaces" };
    format!("cannot record the {what} {}{others}", told.join(", "))
}
