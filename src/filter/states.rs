//! Names of states and groups of states, as `ss` takes them.

use crate::model::{States, TcpState};

/// What a filter can call a state. The kernel's request sockets are in NEW_SYN_RECV and are told as
/// SYN_RECV: they have one name.
pub const STATE_NAMES: &[(&str, TcpState)] = &[
    ("established", TcpState::ESTABLISHED),
    ("syn-sent", TcpState::SYN_SENT),
    ("syn-recv", TcpState::SYN_RECV),
    ("fin-wait-1", TcpState::FIN_WAIT1),
    ("fin-wait-2", TcpState::FIN_WAIT2),
    ("time-wait", TcpState::TIME_WAIT),
    ("closed", TcpState::CLOSE),
    ("close-wait", TcpState::CLOSE_WAIT),
    ("last-ack", TcpState::LAST_ACK),
    ("listening", TcpState::LISTEN),
    ("closing", TcpState::CLOSING),
    ("bound-inactive", TcpState::BOUND_INACTIVE),
];

const GROUPS: [&str; 5] = ["all", "connected", "synchronized", "bucket", "big"];

/// Other names: of our own output, and what `ss` takes besides.
const ALIASES: &[(&str, TcpState)] = &[
    ("estab", TcpState::ESTABLISHED),
    ("syn-rcv", TcpState::SYN_RECV),
    ("unconnected", TcpState::CLOSE),
    ("unconn", TcpState::CLOSE),
    ("close", TcpState::CLOSE),
    ("listen", TcpState::LISTEN),
];

/// The states that a name stands for, in any case of letters.
pub fn states_named(name: &str) -> Option<States> {
    let name = name.to_ascii_lowercase();
    let bucket = only(TcpState::TIME_WAIT).union(only(TcpState::SYN_RECV));
    let connected = [TcpState::LISTEN, TcpState::CLOSE, TcpState::BOUND_INACTIVE]
        .into_iter()
        .fold(States::ALL, |states, state| states.without(only(state)));
    Some(match name.as_str() {
        "all" => States::ALL,
        "bucket" => bucket,
        "big" => States::ALL.without(bucket),
        "connected" => connected,
        "synchronized" => connected.without(only(TcpState::SYN_SENT)),
        name => {
            only(STATE_NAMES.iter().chain(ALIASES).find(|(known, _)| *known == name).map(|n| n.1)?)
        }
    })
}

/// Every name that is taken.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let states = STATE_NAMES.iter().chain(ALIASES).map(|(name, _)| *name);
    states.chain(GROUPS)
}

/// A state as the kernel is asked for it.
fn only(state: TcpState) -> States {
    let other = match state {
        TcpState::SYN_RECV => States::only(TcpState::NEW_SYN_RECV),
        // What is bound and inactive is told as closed.
        TcpState::CLOSE => States::only(TcpState::BOUND_INACTIVE),
        _ => States::NONE,
    };
    States::only(state).union(other)
}

/// What to write for a set of states.
pub(super) fn text(states: States) -> String {
    if states == States::ALL {
        return "state all".to_owned();
    }
    let named = STATE_NAMES.iter().fold(States::NONE, |all, (_, state)| all.union(only(*state)));
    // States of later kernels are in those sets from which something was taken away.
    let (word, opposite, shown) = if states.without(named) == States::NONE {
        ("state", "exclude", states)
    } else {
        ("exclude", "state", States::ALL.without(states))
    };
    let mut words = Vec::new();
    for (name, state) in STATE_NAMES {
        let is_bound = *state == TcpState::BOUND_INACTIVE;
        let is_closed_too = is_bound && shown.contains(TcpState::CLOSE);
        match (shown.contains(*state), is_closed_too) {
            (true, false) => words.push(format!("{word} {name}")),
            (false, true) => words.push(format!("{opposite} {name}")),
            (true, true) | (false, false) => {}
        }
    }
    words.join(" ")
}
