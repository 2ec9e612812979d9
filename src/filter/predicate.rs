//! The tree asked of one socket.

use std::net::IpAddr;

use super::error::{FilterError, Span};
use super::fields::{Field, Operand};
use super::nearest::nearest;
use super::tree::{Comparison, Condition, Device, Filter, Side};
use crate::model::{Observation, States, TcpState, Tuple, Value};

/// What is known of a socket; `None` for what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its state.
    pub state: Option<TcpState>,
    /// This end's address.
    pub local_address: Option<IpAddr>,
    /// This end's port.
    pub local_port: Option<u16>,
    /// The other end's address.
    pub remote_address: Option<IpAddr>,
    /// The other end's port.
    pub remote_port: Option<u16>,
    /// The device that it is bound to, 0 for none.
    pub interface: Option<u32>,
    /// Its mark.
    pub mark: Option<u32>,
    /// The cgroup that it was made in.
    pub cgroup_id: Option<u64>,
}

impl Told {
    /// What addresses and ports tell.
    pub fn of_tuple(tuple: &Tuple) -> Self {
        let Tuple { local, remote, interface } = *tuple;
        Self {
            local_address: Some(local.address),
            local_port: Some(local.port),
            remote_address: Some(remote.address),
            remote_port: Some(remote.port),
            interface: Some(interface),
            ..Self::default()
        }
    }

    /// The same without what a destroy event that is half wiped does not tell: the remote port, and
    /// the local address where it is unspecified.
    #[must_use]
    pub fn half_wiped(self) -> Self {
        let local_address = self.local_address.filter(|address| !address.is_unspecified());
        Self { local_address, remote_port: None, ..self }
    }

    fn end(&self, side: Side) -> (Option<IpAddr>, Option<u16>) {
        match side {
            Side::Local => (self.local_address, self.local_port),
            Side::Remote => (self.remote_address, self.remote_port),
        }
    }
}

impl From<&Observation<'_>> for Told {
    fn from(o: &Observation<'_>) -> Self {
        Self {
            state: Some(o.state),
            mark: o.mark,
            cgroup_id: o.cgroup_id,
            ..Self::of_tuple(&o.tuple)
        }
    }
}

/// What names stand for on this machine.
pub trait Names {
    /// The number of a network device.
    fn device(&self, name: &str) -> Option<u32>;
    /// The id of a cgroup (v2).
    fn cgroup(&self, path: &str) -> Option<u64>;
    /// The names of all network devices.
    fn devices(&self) -> Vec<String>;
    /// The paths of the cgroups beside this one, whether it is there or not.
    fn cgroups_beside(&self, path: &str) -> Vec<String>;
}

impl Filter {
    /// The filter for recording: devices by their numbers, cgroups with their ids.
    ///
    /// # Errors
    /// When there is no such device or cgroup, or a condition that the kernel's sockets do not tell.
    pub fn with_names(&self, names: &dyn Names) -> Result<Self, FilterError> {
        let each = |filters: &[Self]| -> Result<Vec<Self>, FilterError> {
            filters.iter().map(|f| f.with_names(names)).collect()
        };
        Ok(match self {
            Self::And(filters) => Self::And(each(filters)?),
            Self::Or(filters) => Self::Or(each(filters)?),
            Self::Not(inner) => Self::Not(Box::new(inner.with_names(names)?)),
            Self::Is(condition, span) => Self::Is(named(condition, span, names)?, span.clone()),
        })
    }

    /// Whether it asks for nothing but addresses and ports, which a connection keeps for life: one
    /// that is not shown any longer is over.
    pub fn is_lasting(&self) -> bool {
        self.conditions().iter().all(|(condition, _)| {
            matches!(condition, Condition::Host { .. } | Condition::Port { .. })
        })
    }

    /// Where it asks for a mark, which the kernel tells with CAP_NET_ADMIN alone.
    pub fn mark_at(&self) -> Option<Span> {
        self.first_at(|condition| matches!(condition, Condition::Mark { .. }))
    }

    /// Where it asks for a cgroup, which kernels before 5.8 do not tell.
    pub fn cgroup_at(&self) -> Option<Span> {
        self.first_at(|condition| matches!(condition, Condition::Cgroup { .. }))
    }

    /// Where it names a device, which each network namespace has its own of.
    pub fn device_name_at(&self) -> Option<Span> {
        self.first_at(|condition| matches!(condition, Condition::Device(Device::Name(_))))
    }

    /// Where it asks whether the kernel chose the port, which no socket tells.
    pub fn autobound_at(&self) -> Option<Span> {
        self.first_at(|condition| matches!(condition, Condition::Autobound))
    }

    fn first_at(&self, is_meant: fn(&Condition) -> bool) -> Option<Span> {
        self.conditions().into_iter().find(|(c, _)| is_meant(c)).map(|(_, span)| span.clone())
    }

    /// Whether it holds for a socket; `None` if what is known of it does not tell. `field` gives the
    /// value of a column.
    pub fn holds<'v>(&self, told: &Told, field: &dyn Fn(&str) -> Value<'v>) -> Option<bool> {
        match self {
            Self::And(filters) => all(filters.iter().map(|f| f.holds(told, field))),
            Self::Or(filters) => {
                all(filters.iter().map(|f| f.holds(told, field).map(|b| !b))).map(|b| !b)
            }
            Self::Not(inner) => inner.holds(told, field).map(|b| !b),
            Self::Is(condition, _) => condition.holds(told, field),
        }
    }

    /// The same for what has no columns.
    pub fn holds_for(&self, told: &Told) -> Option<bool> {
        self.holds(told, &|_| Value::Null)
    }
}

fn named(condition: &Condition, span: &Span, names: &dyn Names) -> Result<Condition, FilterError> {
    let error = |message: String| FilterError::new(span.clone(), message);
    Ok(match condition {
        Condition::Device(Device::Name(name)) => {
            let index = names.device(name).ok_or_else(|| {
                let devices = names.devices();
                error(format!("there is no device `{name}` here")).did_you_mean(
                    nearest(name, devices.iter().map(String::as_str)),
                    "`ip link` lists them",
                )
            })?;
            Condition::Device(Device::Index(index))
        }
        Condition::Cgroup { path, .. } => {
            let text = path.text().ok_or_else(|| {
                error("the kernel knows cgroups one by one, not by `*` or `?`".to_owned())
                    .hint("join them: `( cgroup = /a or cgroup = /b )`, or filter the answers")
            })?;
            let id = names.cgroup(&text).ok_or_else(|| {
                let beside = names.cgroups_beside(&text);
                error(format!("there is no cgroup `{text}` here")).did_you_mean(
                    nearest(&text, beside.iter().map(String::as_str)),
                    "give its path below the mount of cgroup v2, as `systemd-cgls` shows it",
                )
            })?;
            Condition::Cgroup { path: path.clone(), id: Some(id) }
        }
        Condition::Field { field, .. } => {
            let message = format!("`record` cannot choose by `{}`", field.name());
            return Err(error(message).hint(
                "it takes the conditions of `ss`; `query` and `export` choose by every column",
            ));
        }
        other => other.clone(),
    })
}

impl Condition {
    fn holds<'v>(&self, told: &Told, field_value: &dyn Fn(&str) -> Value<'v>) -> Option<bool> {
        match self {
            Self::State(States::ALL) => Some(true),
            Self::State(States::NONE) => Some(false),
            Self::State(states) => told.state.map(|state| states.shows(state)),
            Self::Host { side, prefix, port } => {
                let (address, own_port) = told.end(*side);
                all([
                    prefix.map_or(Some(true), |prefix| address.map(|a| prefix.contains(a))),
                    port.map_or(Some(true), |port| own_port.map(|own| own == port)),
                ]
                .into_iter())
            }
            Self::Port { side, comparison, port } => {
                told.end(*side).1.map(|own| comparison.holds(&own, port))
            }
            Self::Device(Device::Index(index)) => told.interface.map(|own| own == *index),
            Self::Mark { mark, mask } => told.mark.map(|own| own & mask == *mark),
            Self::Cgroup { id: Some(id), .. } => told.cgroup_id.map(|own| own == *id),
            Self::Cgroup { path, id: None } => match field_value("cgroup") {
                Value::Text(text) => Some(path.matches(text)),
                _ => None,
            },
            Self::Device(Device::Name(_)) | Self::Autobound => None,
            Self::Field { field: Field::Column { name, .. }, comparison, operand } => {
                compared(&field_value(name), *comparison, operand)
            }
            Self::Field { field: Field::Between { least, most, .. }, comparison, operand } => {
                between(&field_value(least), &field_value(most), *comparison, operand)
            }
        }
    }
}

/// Whether all hold: false as soon as one does not.
fn all(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for truth in truths {
        match truth {
            Some(false) => return truth,
            None => all = None,
            Some(true) => {}
        }
    }
    all
}

fn compared(value: &Value<'_>, comparison: Comparison, operand: &Operand) -> Option<bool> {
    match (value, operand) {
        (Value::Integer(value), Operand::Integer(operand)) => {
            Some(comparison.holds(value, operand))
        }
        (Value::Real(value), Operand::Real(operand)) => Some(comparison.holds(value, operand)),
        (Value::Text(value), Operand::Text(pattern)) => Some(pattern.matches(value)),
        _ => None,
    }
}

/// Whether what lies between two values compares so.
fn between(
    least: &Value<'_>,
    most: &Value<'_>,
    comparison: Comparison,
    operand: &Operand,
) -> Option<bool> {
    let (at_least, at_most) =
        (compared(least, comparison, operand), compared(most, comparison, operand));
    let is_outside = compared(least, Comparison::Greater, operand) == Some(true)
        || compared(most, Comparison::Less, operand) == Some(true);
    let (holds, holds_not) = match comparison {
        Comparison::Equal => (at_least.zip(at_most).map(|(a, b)| a && b), is_outside),
        Comparison::Less | Comparison::LessOrEqual => (at_most, at_least == Some(false)),
        Comparison::Greater | Comparison::GreaterOrEqual => (at_least, at_most == Some(false)),
    };
    match (holds, holds_not) {
        (Some(true), _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}
