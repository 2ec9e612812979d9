//! Options that choose sockets, the same for recording and asking, with `ss`'s letters.

use clap::Args;

use crate::filter::{STATE_NAMES, states_named};
use crate::model::{Family, Protocol, States, TcpState};

/// Families, protocols and states.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sockets")]
pub(super) struct SocketArgs {
    /// Only IPv4 sockets (family inet)
    #[arg(short = '4', long = "ipv4")]
    ipv4: bool,
    /// Only IPv6 sockets (family inet6; IPv4 through dual-stack sockets too)
    #[arg(short = '6', long = "ipv6")]
    ipv6: bool,
    /// TCP sockets
    #[arg(short = 't', long)]
    tcp: bool,
    /// UDP sockets
    #[arg(short = 'u', long)]
    udp: bool,
    /// Raw sockets
    #[arg(short = 'w', long)]
    raw: bool,
    /// MPTCP sockets
    #[arg(short = 'M', long)]
    mptcp: bool,
    /// Protocols by name: tcp, udp, raw, mptcp or all; adds to -t -u -w -M
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = parse_protocols)]
    protocol: Vec<Protocols>,
    /// Families by name: inet, inet6; adds to -4 -6
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = parse_family)]
    family: Vec<Family>,
    /// Listening sockets: TCP in LISTEN, others unconnected
    #[arg(short, long)]
    listening: bool,
    /// Every state: so it is anyway, but for `-l`
    #[arg(short, long)]
    all: bool,
    /// Only these states: names as `ss` takes them, or all, connected, synchronized, bucket, big
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = parse_states)]
    state: Vec<States>,
    /// Not these states; taken away from --state, or from all
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = parse_states)]
    not_state: Vec<States>,
}

/// What one name of `--protocol` stands for.
#[derive(Clone, Copy, Debug)]
enum Protocols {
    One(Protocol),
    All,
}

impl SocketArgs {
    /// The families that were chosen, none if none was.
    pub(super) fn families(&self) -> Vec<Family> {
        let is_chosen = |family| match family {
            Family::Inet => self.ipv4 || self.family.contains(&family),
            Family::Inet6 => self.ipv6 || self.family.contains(&family),
        };
        Family::ALL.into_iter().filter(|&f| is_chosen(f)).collect()
    }

    /// The protocols that were chosen, none if none was.
    pub(super) fn protocols(&self) -> Vec<Protocol> {
        let is_flagged = |protocol| match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
            Protocol::Raw => self.raw,
            Protocol::Mptcp => self.mptcp,
        };
        let is_named = |protocol| {
            self.protocol.iter().any(|named| match named {
                Protocols::One(one) => *one == protocol,
                Protocols::All => true,
            })
        };
        Protocol::ALL.into_iter().filter(|&p| is_flagged(p) || is_named(p)).collect()
    }

    /// Whether only what listens is wanted; `-a` behind it wins, as in `ss`.
    pub(super) fn is_listening(&self) -> bool {
        self.listening && !self.all
    }

    /// The dumps that show what was chosen, of these protocols if none was.
    pub(super) fn dumps(&self, usual: &[Protocol]) -> Vec<(Family, Protocol)> {
        let or_usual = |chosen: Vec<Protocol>| {
            if chosen.is_empty() { usual.to_vec() } else { chosen }
        };
        let families = match self.families() {
            chosen if chosen.is_empty() => Family::ALL.to_vec(),
            chosen => chosen,
        };
        or_usual(self.protocols())
            .into_iter()
            .flat_map(|protocol| families.iter().map(move |&family| (family, protocol)))
            .collect()
    }

    /// The states that were chosen, all if none was.
    pub(super) fn states(&self) -> States {
        let union = |sets: &[States]| sets.iter().fold(States::NONE, |a, b| a.union(*b));
        let wanted = if self.state.is_empty() { States::ALL } else { union(&self.state) };
        let wanted = if self.is_listening() {
            wanted.intersection(States::only(TcpState::LISTEN).union(States::only(TcpState::CLOSE)))
        } else {
            wanted
        };
        wanted.without(union(&self.not_state))
    }
}

fn parse_protocols(text: &str) -> Result<Protocols, String> {
    if text == "all" {
        return Ok(Protocols::All);
    }
    let found = Protocol::ALL.into_iter().find(|p| p.name() == text);
    found.map(Protocols::One).ok_or_else(|| "expected tcp, udp, raw, mptcp or all".to_owned())
}

fn parse_family(text: &str) -> Result<Family, String> {
    let found = Family::ALL.into_iter().find(|f| f.name() == text);
    found.ok_or_else(|| "expected inet or inet6".to_owned())
}

/// Names and groups of states as a filter knows them.
fn parse_states(text: &str) -> Result<States, String> {
    states_named(text).ok_or_else(|| {
        let names: Vec<_> = STATE_NAMES.iter().map(|(name, _)| *name).collect();
        format!("expected {}, or all, connected, synchronized, bucket, big", names.join(", "))
    })
}
