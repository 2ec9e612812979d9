//! What every recording fulfils, whatever happened to those who wrote it.

/// A rule of the format.
#[derive(Debug)]
pub struct Invariant {
    /// By what it is called.
    pub name: &'static str,
    /// What must be so.
    pub must: &'static str,
    /// What follows if it is not.
    pub means: &'static str,
    /// How that is found out.
    pub look: Look,
}

/// How an invariant is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// By SQLite's own check of the file.
    Sqlite,
    /// By comparing the schema with that of this version.
    Schema,
    /// By a query for what breaks it.
    Rows(&'static str),
}

macro_rules! invariant {
    ($name:literal, $file:literal, $must:literal, $means:literal) => {
        Invariant { name: $name, must: $must, means: $means, look: Look::Rows(include_str!($file)) }
    };
}

/// All of them, the file first.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "sqlite",
        must: "SQLite's integrity check finds nothing",
        means: "the file itself was damaged: a failing disk, a copy that was cut off or made without its \
                log, another program; answers may fail or lack rows",
        look: Look::Sqlite,
    },
    Invariant {
        name: "schema",
        must: "tables, views and indexes are those of this version, and nothing else is there",
        means: "the file was changed by something else than sockrec, which does not open it",
        look: Look::Schema,
    },
    invariant!(
        "references",
        "references.sql",
        "every reference leads to a row: whole snapshots only",
        "rows were lost or added: answers leave out what points to nothing"
    ),
    invariant!(
        "dropped-spans",
        "dropped_spans.sql",
        "what was dropped lies before what is held, and only times are left of it",
        "what was dropped is not told of, or snapshots were lost otherwise"
    ),
    invariant!(
        "snapshot-numbers",
        "snapshot_numbers.sql",
        "snapshots are numbered without a gap, groups and captures ascend with them",
        "snapshots were lost: gaps in the recording may not be told"
    ),
    invariant!(
        "group-keyframes",
        "group_keyframes.sql",
        "a group begins with its only keyframe",
        "the state at a moment of this group cannot be told"
    ),
    invariant!(
        "group-ends",
        "group_ends.sql",
        "a closed group ends with its last snapshot",
        "sums over a span may count a group twice or leave it out"
    ),
    invariant!(
        "open-captures",
        "open_captures.sql",
        "only the last capture may be open, and only its last group",
        "until when was recorded cannot be told"
    ),
    invariant!(
        "steady-clocks",
        "steady_clocks.sql",
        "the steady clocks go forward within a capture",
        "lengths of time are wrong"
    ),
    invariant!(
        "sample-chains",
        "sample_chains.sql",
        "a sample names the socket's row before it, back to the first",
        "the series of a socket is cut short"
    ),
    invariant!(
        "first-samples",
        "first_samples.sql",
        "a socket's first row is of the snapshot that first showed it",
        "when a socket was opened is wrong, or its first values are lost"
    ),
    invariant!(
        "shared-values",
        "shared_values.sql",
        "a sample's condition and setting stand in its group",
        "values of samples are lost and show as not known"
    ),
    invariant!(
        "group-summaries",
        "group_summaries.sql",
        "the summary of a closed group says what its samples say, or said before they were thinned",
        "sums and worst values over a span are wrong"
    ),
    invariant!(
        "thinned",
        "thinned.sql",
        "only groups that were thinned hold snapshots whose values are not all there, and no keyframe is one",
        "values are taken for those of a moment that are older"
    ),
    invariant!(
        "socket-ends",
        "socket_ends.sql",
        "the end of a socket agrees with its rows as a live one",
        "when a connection ended, or its number of samples, is wrong"
    ),
    invariant!(
        "remains",
        "remains.sql",
        "what is left of a connection comes after its end and agrees with its rows",
        "how long a TIME-WAIT lasted is wrong"
    ),
    invariant!(
        "peers",
        "peers.sql",
        "both ends of a connection name each other",
        "the other end of a connection on this host is wrong"
    ),
    invariant!(
        "only-events",
        "only_events.sql",
        "what only events tell of was never seen, and what was seen is not half known",
        "what was seen and what an event told are mixed up"
    ),
    invariant!(
        "state-changes",
        "state_changes.sql",
        "states change where the samples say so",
        "how many sockets were in a state is wrong"
    ),
    invariant!(
        "held-samples",
        "held_samples.sql",
        "only a keyframe holds a row over, from a snapshot that showed the socket",
        "what was seen and what was only held over are mixed up"
    ),
    invariant!(
        "keyframes",
        "keyframes.sql",
        "a keyframe has a row of every socket that is there",
        "sockets are missing from the state at a moment"
    ),
    invariant!(
        "sockets-seen",
        "sockets_seen.sql",
        "a snapshot saw the sockets that are there but for those that it missed",
        "sockets are missing, or some are taken to be there that are not"
    ),
    invariant!(
        "scopes",
        "scopes.sql",
        "a socket has rows only while its namespace, family and protocol were asked",
        "what was looked at when is wrong: sockets are taken to be absent, or there, that are not"
    ),
    invariant!(
        "counts",
        "counts.sql",
        "a snapshot counts its samples, a capture its missed ticks",
        "samples were lost or added, or gaps are not told in full"
    ),
    invariant!(
        "owners",
        "owners.sql",
        "a process holds a socket from its first snapshot on, once at a time",
        "who held a socket when is wrong"
    ),
    invariant!(
        "processes",
        "processes.sql",
        "a process has one number, and is of the boot of its sockets",
        "sums by process are wrong"
    ),
    invariant!(
        "end-evidence",
        "end_evidence.sql",
        "an end says what it rests on",
        "whether a connection ended, or was only lost sight of, is not known"
    ),
];
