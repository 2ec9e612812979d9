//! What really happened, written down by those who made it happen.

use std::net::SocketAddr;

use sockrec::kernel::SystemClock;
use sockrec::model::{Clocks, Protocol};

/// What happened at some moment between two readings of the clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Clocks,
    pub(crate) to: Clocks,
}

impl Span {
    /// Does it and says when that was.
    pub(crate) fn of<T>(act: impl FnOnce() -> T) -> (T, Self) {
        let from = SystemClock.now();
        let done = act();
        (done, Self { from, to: SystemClock.now() })
    }

    /// From the begin of this to the end of a later one.
    pub(crate) fn until(self, later: Self) -> Self {
        Self { from: self.from, to: later.to }
    }

    /// From the earlier begin to the later end.
    pub(crate) fn with(self, other: Self) -> Self {
        let from = if self.from.boottime_ns <= other.from.boottime_ns { self } else { other };
        let to = if self.to.boottime_ns >= other.to.boottime_ns { self } else { other };
        from.until(to)
    }
}

/// Who opened a connection, as this end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Outbound,
    Inbound,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Orderly,
    Reset,
    TimedOut,
    /// Refused.
    NotEstablished,
    /// Nobody answered: both that it timed out and that there was none is true.
    NeverAnswered,
}

impl Ending {
    /// The words that may be said of it.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Orderly => &["orderly"],
            Self::Reset => &["reset"],
            Self::TimedOut => &["timed_out"],
            Self::NotEstablished => &["not_established"],
            Self::NeverAnswered => &["not_established", "timed_out"],
        }
    }
}

/// What the kernel's last word on a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWord {
    /// A destroy event with both addresses and, of TCP, the final counters.
    Full,
    /// A destroy event without remote port and counters, and mostly without the local address.
    Wiped,
    /// None: the socket lives on with another connection, or it still has this one.
    None,
}

/// One end of a connection, or a socket without any.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// For people: what was done.
    pub(crate) kind: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) local: SocketAddr,
    /// Unspecified, port 0 when there is no other end.
    pub(crate) remote: SocketAddr,
    /// `SO_COOKIE`, where it was asked for; asking makes it, and that is not always wanted.
    pub(crate) cookie: Option<u64>,
    /// `None` without a connection.
    pub(crate) direction: Option<Direction>,
    pub(crate) opened: Span,
    /// `None`: it was still open when the recording ended.
    pub(crate) closed: Option<Span>,
    /// Whether the end of `closed` is when it was seen to be over; else the kernel may get there a little later.
    pub(crate) is_seen_over: bool,
    /// When its descriptor was closed: the connection may have ended long before.
    pub(crate) let_go: Option<Span>,
    /// Bytes of payload that were written here.
    pub(crate) sent: u64,
    /// Bytes of payload that arrived, read or not.
    pub(crate) received: u64,
    /// Whether the other end's FIN came before the last word; `None`: depends on the moment.
    pub(crate) has_peer_fin: Option<bool>,
    pub(crate) ending: Option<Ending>,
    pub(crate) last_word: LastWord,
    /// Whether a recorder can only know of it by a snapshot taken at the right moment.
    pub(crate) is_elusive: bool,
    /// Where the other end stands in the log.
    pub(crate) peer: Option<usize>,
}

impl End {
    /// One that was just opened.
    pub(crate) fn opened(
        kind: &'static str,
        protocol: Protocol,
        [local, remote]: [SocketAddr; 2],
        direction: Option<Direction>,
        opened: Span,
    ) -> Self {
        Self {
            kind,
            protocol,
            local,
            remote,
            cookie: None,
            direction,
            opened,
            closed: None,
            is_seen_over: false,
            let_go: None,
            sent: 0,
            received: 0,
            has_peer_fin: Some(false),
            ending: None,
            last_word: LastWord::None,
            is_elusive: false,
            peer: None,
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == Protocol::Tcp
    }

    /// Whether the kernel may have counted so many received bytes: it counts a FIN as one.
    pub(crate) fn may_have_received(&self, bytes: u64) -> bool {
        let fins = match self.has_peer_fin {
            Some(has_peer_fin) => u64::from(has_peer_fin)..=u64::from(has_peer_fin),
            None => 0..=1,
        };
        bytes.checked_sub(self.received).is_some_and(|more| fins.contains(&more))
    }

    /// Whether there was a connection with two ends at any time.
    pub(crate) fn was_established(&self) -> bool {
        self.is_tcp() && self.peer.is_some()
    }
}

/// Everything that happened.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) ends: Vec<End>,
}

impl Log {
    /// Adds ends that know each other by their places among themselves.
    pub(crate) fn add(&mut self, ends: Vec<End>) {
        let before = self.ends.len();
        self.ends.extend(
            ends.into_iter().map(|end| End { peer: end.peer.map(|place| before + place), ..end }),
        );
    }

    /// Keeps some ends, each without its other end.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(&End) -> bool) {
        self.ends.retain(is_kept);
        for end in &mut self.ends {
            end.peer = None;
        }
    }
}
