//! The tree as the kernel's filter: a mask of states and `INET_DIAG_REQ_BYTECODE`
//! (`include/uapi/linux/inet_diag.h`), and what is left for [`Filter::holds`].
//!
//! The kernel's audit (`inet_diag_bc_audit`) walks the operations by their `yes`, so that is each
//! one's own length; `no` jumps forward to another operation, to the end, which is a match, or four
//! bytes beyond it, which is none.

use std::net::IpAddr;

use super::tree::{Comparison, Condition, Device, Filter, Side};
use crate::model::{Endpoint, Family, States, Tuple};

const JMP: u8 = 1;
const S_GE: u8 = 2;
const S_LE: u8 = 3;
const D_GE: u8 = 4;
const D_LE: u8 = 5;
const AUTO: u8 = 6;
const S_COND: u8 = 7;
const D_COND: u8 = 8;
const DEV_COND: u8 = 9;
const MARK_COND: u8 = 10;
const CGROUP_COND: u8 = 13;

/// An attribute holds 65,531 bytes, but the audit takes time with the square of the operations, at
/// each dump.
const LONGEST: usize = 16 * 1024;

/// What dumps are narrowed to beside their states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// The operations; none where everything is wanted.
    pub bytecode: Vec<u8>,
    /// The one connection that can be meant, where nothing else is asked: of TCP it can be looked up.
    pub exact: Option<Tuple>,
}

/// What the kernel is asked for, and what it cannot be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelFilter {
    /// The states to ask for.
    pub states: States,
    /// What else the kernel is asked.
    pub narrowed: Narrowed,
    /// What is to be asked of the sockets that come: both together are the filter.
    pub residue: Option<Filter>,
}

impl Filter {
    /// Parts the filter. Names in it must have been looked up ([`Filter::with_names`]).
    pub fn for_kernel(&self) -> KernelFilter {
        let filter = self.with_inner_negations();
        let states = states_of(&filter);
        let mut parts = Vec::new();
        flatten(filter, &mut parts);
        let exact = exact(&parts);
        let (mut program, mut residue) = (Program::default(), Vec::new());
        for part in parts {
            if matches!(part, Filter::Is(Condition::State(_), _)) {
                continue;
            }
            let asked = superset(&part);
            let fits = asked.as_ref().is_none_or(|asked| program.add(asked));
            if !fits || asked.as_ref() != Some(&part) {
                residue.push(part);
            }
        }
        let residue = (!residue.is_empty()).then(|| Filter::all(residue));
        KernelFilter { states, narrowed: Narrowed { bytecode: program.bytes(), exact }, residue }
    }

    /// The states outside of which it never holds.
    pub fn states(&self) -> States {
        states_of(&self.with_inner_negations())
    }

    /// Whether it may hold for sockets of this family: to an IPv6 prefix none of IPv4 belongs.
    pub fn may_hold_in(&self, family: Family) -> bool {
        family == Family::Inet6 || may_hold_for_v4(&self.with_inner_negations())
    }

    /// The filter for a kernel that takes no operations: all but the states is left.
    pub fn without_kernel(&self) -> KernelFilter {
        let residue = Some(self.clone());
        KernelFilter { states: self.states(), narrowed: Narrowed::default(), residue }
    }
}

/// The states outside of which it never holds.
fn states_of(filter: &Filter) -> States {
    match filter {
        Filter::And(filters) => {
            filters.iter().fold(States::ALL, |all, f| all.intersection(states_of(f)))
        }
        Filter::Or(filters) => filters.iter().fold(States::NONE, |all, f| all.union(states_of(f))),
        Filter::Is(Condition::State(states), _) => *states,
        Filter::Not(_) | Filter::Is(..) => States::ALL,
    }
}

fn may_hold_for_v4(filter: &Filter) -> bool {
    match filter {
        Filter::And(filters) => filters.iter().all(may_hold_for_v4),
        Filter::Or(filters) => filters.iter().any(may_hold_for_v4),
        Filter::Is(Condition::Host { prefix: Some(prefix), .. }, _) => prefix.address().is_ipv4(),
        Filter::Not(_) | Filter::Is(..) => true,
    }
}

fn flatten(filter: Filter, parts: &mut Vec<Filter>) {
    match filter {
        Filter::And(filters) => filters.into_iter().for_each(|f| flatten(f, parts)),
        other => parts.push(other),
    }
}

/// The connection that conditions which must all hold leave, if both its ends are given and nothing
/// is asked beside them but its state.
fn exact(conditions: &[Filter]) -> Option<Tuple> {
    let (mut ends, mut interface) = ([(None, None); 2], 0);
    for condition in conditions {
        let Filter::Is(condition, _) = condition else { return None };
        match condition {
            Condition::Host { side, prefix, port } => {
                let (address, own_port) = &mut ends[usize::from(*side == Side::Remote)];
                if let Some(prefix) = prefix {
                    *address = Some(prefix.whole_address()?);
                }
                *own_port = port.or(*own_port);
            }
            Condition::Port { side, comparison: Comparison::Equal, port } => {
                ends[usize::from(*side == Side::Remote)].1 = Some(*port);
            }
            Condition::Device(Device::Index(index)) => interface = *index,
            Condition::State(_) => {}
            _ => return None,
        }
    }
    let [local, remote] =
        ends.map(|(address, port)| Some(Endpoint { address: address?, port: port? }));
    let (local, remote) = (local?, remote?);
    let is_connection = local.port != 0 && remote.port != 0;
    let is_one_family = local.address.is_ipv4() == remote.address.is_ipv4();
    (is_connection && is_one_family).then_some(Tuple { local, remote, interface })
}

/// What the kernel can be asked that holds wherever the filter does; `None` if that is everything.
fn superset(filter: &Filter) -> Option<Filter> {
    match filter {
        Filter::And(filters) => {
            let parts: Vec<_> = filters.iter().filter_map(superset).collect();
            (!parts.is_empty()).then(|| Filter::all(parts))
        }
        Filter::Or(filters) => {
            filters.iter().map(superset).collect::<Option<Vec<_>>>().map(Filter::Or)
        }
        Filter::Not(inner) => superset(inner).map(|inner| Filter::Not(Box::new(inner))),
        Filter::Is(condition, _) => operation(condition).map(|_| filter.clone()),
    }
}

/// An operation without its jumps, and whether its opposite is meant.
fn operation(condition: &Condition) -> Option<(u8, Vec<u8>, bool)> {
    let of_side = |side: &Side, local, remote| if *side == Side::Local { local } else { remote };
    Some(match condition {
        Condition::Host { side, prefix, port } => {
            let address = prefix.map(|prefix| (prefix.address(), prefix.length()));
            (of_side(side, S_COND, D_COND), host_condition(address, *port), false)
        }
        Condition::Port { side, comparison: Comparison::Equal, port } => {
            (of_side(side, S_COND, D_COND), host_condition(None, Some(*port)), false)
        }
        Condition::Port { side, comparison, port } => {
            let (code, is_opposite) = match comparison {
                Comparison::GreaterOrEqual => (of_side(side, S_GE, D_GE), false),
                Comparison::Less => (of_side(side, S_GE, D_GE), true),
                Comparison::Greater => (of_side(side, S_LE, D_LE), true),
                Comparison::LessOrEqual | Comparison::Equal => (of_side(side, S_LE, D_LE), false),
            };
            // An operation of its own, whose `no` is the port.
            let [a, b] = port.to_ne_bytes();
            (code, vec![0, 0, a, b], is_opposite)
        }
        Condition::Device(Device::Index(index)) => (DEV_COND, index.to_ne_bytes().to_vec(), false),
        Condition::Mark { mark, mask } => {
            (MARK_COND, [mark.to_ne_bytes(), mask.to_ne_bytes()].concat(), false)
        }
        Condition::Cgroup { id: Some(id), .. } => (CGROUP_COND, id.to_ne_bytes().to_vec(), false),
        Condition::Autobound => (AUTO, Vec::new(), false),
        Condition::State(_)
        | Condition::Device(Device::Name(_))
        | Condition::Cgroup { id: None, .. }
        | Condition::Field { .. } => return None,
    })
}

/// `struct inet_diag_hostcond`
fn host_condition(address: Option<(IpAddr, u8)>, port: Option<u16>) -> Vec<u8> {
    let (family, length, address) = match address {
        None => (0, 0, Vec::new()),
        Some((IpAddr::V4(v4), length)) => (Family::Inet.number(), length, v4.octets().to_vec()),
        Some((IpAddr::V6(v6), length)) => (Family::Inet6.number(), length, v6.octets().to_vec()),
    };
    let mut bytes = vec![family, length, 0, 0];
    bytes.extend(port.map_or(-1, i32::from).to_ne_bytes());
    bytes.extend(address);
    bytes
}

/// A place that is jumped to.
#[derive(Clone, Copy)]
struct Label(usize);

/// Operations whose jumps are filled in at the end.
#[derive(Clone)]
struct Program {
    bytes: Vec<u8>,
    /// Where a `no` stands, of the operation that begins two bytes before.
    jumps: Vec<(usize, Label)>,
    /// Where each label came to stand.
    places: Vec<Option<usize>>,
}

/// What no operation matches: beyond the end.
const FAILED: Label = Label(0);

impl Default for Program {
    fn default() -> Self {
        Self { bytes: Vec::new(), jumps: Vec::new(), places: vec![None] }
    }
}

impl Program {
    /// Adds what must hold too; false if that would be too long, and nothing is added.
    fn add(&mut self, filter: &Filter) -> bool {
        let before = (self.bytes.len(), self.jumps.len(), self.places.len());
        self.test(filter, FAILED);
        if self.bytes.len() <= LONGEST {
            return true;
        }
        self.bytes.truncate(before.0);
        self.jumps.truncate(before.1);
        self.places.truncate(before.2);
        false
    }

    fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.bytes.len());
    }

    fn push(&mut self, code: u8, payload: &[u8], no: Label) {
        let length = 4 + payload.len();
        self.jumps.push((self.bytes.len() + 2, no));
        // None is longer than 28 bytes.
        self.bytes.extend([code, u8::try_from(length).unwrap_or_default(), 0, 0]);
        self.bytes.extend(payload);
    }

    /// Goes on where the filter holds, and to the label where it does not.
    fn test(&mut self, filter: &Filter, otherwise: Label) {
        match filter {
            Filter::And(filters) => filters.iter().for_each(|f| self.test(f, otherwise)),
            Filter::Or(filters) => {
                let Some((last, others)) = filters.split_last() else { return };
                let done = self.label();
                for filter in others {
                    let next = self.label();
                    self.test(filter, next);
                    self.push(JMP, &[], done);
                    self.place(next);
                }
                self.test(last, otherwise);
                self.place(done);
            }
            Filter::Not(inner) => self.test_opposite(inner, otherwise),
            Filter::Is(condition, _) => {
                let Some((code, payload, is_opposite)) = operation(condition) else { return };
                if is_opposite {
                    self.push_opposite(code, &payload, otherwise);
                } else {
                    self.push(code, &payload, otherwise);
                }
            }
        }
    }

    fn test_opposite(&mut self, filter: &Filter, otherwise: Label) {
        let Filter::Is(condition, _) = filter else {
            let holds_not = self.label();
            self.test(filter, holds_not);
            self.push(JMP, &[], otherwise);
            self.place(holds_not);
            return;
        };
        match operation(condition) {
            Some((code, payload, true)) => self.push(code, &payload, otherwise),
            Some((code, payload, false)) => self.push_opposite(code, &payload, otherwise),
            None => {}
        }
    }

    fn push_opposite(&mut self, code: u8, payload: &[u8], otherwise: Label) {
        let holds_not = self.label();
        self.push(code, payload, holds_not);
        self.push(JMP, &[], otherwise);
        self.place(holds_not);
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        let failed = bytes.len() + 4;
        for (at, label) in self.jumps {
            let distance = self.places[label.0].unwrap_or(failed) - (at - 2);
            let distance = u16::try_from(distance).unwrap_or(u16::MAX); // LONGEST is less
            bytes[at..at + 2].copy_from_slice(&distance.to_ne_bytes());
        }
        bytes
    }
}
